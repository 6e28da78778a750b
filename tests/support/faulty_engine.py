"""A real engine that fails on demand, for what no file system can be asked to do at will.

The texts are those RocksDB produces, so that the translator is tested with what it meets.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefixdb.limits import MIB
from prefixdb.store.commit import Batch
from prefixdb.store.engine import EngineOptions, IteratorHandle
from prefixdb.store.lsm import LsmStore
from prefixdb.store.rocksdict import RocksdictEngine
from tests.support.clocks import HeldClock

STALL = "Result incomplete: Write stall"
SYNC_FAILED = "IO error: While fdatasync: /data/db/000008.log: Input/output error"
APPEND_FAILED = "IO error: While appending to file: /data/db/000008.log: Input/output error"
NO_SPACE = "IO error: No space left on device: While appending to file: /data/db/000008.log: No space left on device"


class Faults:
    """What goes wrong next. ``opener`` makes engines that obey it."""

    def __init__(self) -> None:
        self.write_text: str | None = None
        self.write_applies = False
        self.open_text: str | None = None
        self.open_read_only_text: str | None = None
        self.bound: Callable[[bytes], bytes] = lambda end: end
        self.engines: list[FaultyEngine] = []

    def opener(self, path: Path, options: EngineOptions) -> RocksdictEngine:
        text = self.open_read_only_text if options.read_only else self.open_text
        if text is not None and self.engines:
            raise Exception(text)
        engine = FaultyEngine(path, options, self)
        self.engines.append(engine)
        return engine

    def open_store(self, data_dir: Path) -> LsmStore:
        """Open a store on faulty engines."""
        options = EngineOptions(cache_bytes=MIB, write_buffer_bytes=MIB)
        return LsmStore.open_with(self.opener, data_dir, clock=HeldClock(), options=options)


class FaultyEngine(RocksdictEngine):
    def __init__(self, path: Path, options: EngineOptions, faults: Faults) -> None:
        super().__init__(path, options)
        self._faults = faults

    def write(self, batch: Batch) -> None:
        text = self._faults.write_text
        if text is None or self._faults.write_applies:
            super().write(batch)
        if text is not None:
            raise Exception(text)

    def iterate(self, end: bytes) -> IteratorHandle:
        return super().iterate(self._faults.bound(end))
