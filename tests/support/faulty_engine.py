"""Real engines that fail on demand, for what no file system can be asked to do at will.

The texts are those RocksDB produces, so that the translator is tested with what it meets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefixdb.limits import MIB
from prefixdb.store.base import Commit, CommitResult
from prefixdb.store.commit import Batch
from prefixdb.store.core import StoreCore
from prefixdb.store.engine import EngineOptions, IteratorHandle
from prefixdb.store.lsm import LsmStore
from prefixdb.store.rocksdict import RocksdictEngine
from tests.support.clocks import HeldClock

STALL = "Result incomplete: Write stall"
SYNC_FAILED = "IO error: While fdatasync: /data/db/000008.log: Input/output error"
APPEND_FAILED = "IO error: While appending to file: /data/db/000008.log: Input/output error"
NO_SPACE = "IO error: No space left on device: While appending to file: /data/db/000008.log: No space left on device"


class Faults:
    """What goes wrong next. ``opener`` makes engines that obey it.

    write_text: what every write fails with; ``write_applies`` says whether its rows are there all the same.
    open_text, open_read_only_text: what every opening but the first fails with.
    bound: what becomes of the upper bound of an iterator.
    """

    def __init__(self, kind: str = "rocksdict") -> None:
        self.kind = kind
        self.write_text: str | None = None
        self.write_applies = False
        self.open_text: str | None = None
        self.open_read_only_text: str | None = None
        self.bound: Callable[[bytes], bytes] = lambda end: end
        self.engines: list[Any] = []

    def opener(self, path: Path, options: EngineOptions) -> Any:
        text = self.open_read_only_text if options.read_only else self.open_text
        if text is not None and self.engines:
            raise Exception(text)
        engine = _native_engine(path, options, self) if self.kind == "native" else FaultyEngine(path, options, self)
        self.engines.append(engine)
        return engine

    def open_store(self, data_dir: Path) -> StoreCore[Any]:
        """Open a store on faulty engines."""
        options = EngineOptions(cache_bytes=MIB, write_buffer_bytes=MIB)
        if self.kind != "native":
            return LsmStore.open_with(self.opener, data_dir, clock=HeldClock(), options=options)
        from prefixdb.store.native import NativeStore

        return NativeStore.open_with(self.opener, data_dir, clock=HeldClock(), options=options)


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


def _native_engine(path: Path, options: EngineOptions, faults: Faults) -> Any:
    """Return a native engine whose ``commit``, ``failure`` and ``open_cursor`` obey ``faults``."""
    from prefixdb._native.module import EngineError
    from prefixdb.store.native import NativeEngine

    engine = NativeEngine(path, options)
    commit, open_cursor = engine.commit, engine.open_cursor
    failed: list[str] = []

    def faulty_commit(commits: Sequence[Commit], now_ms: int) -> list[CommitResult]:
        if failed:
            refused = EngineError(failed[0])
            refused.attempted = False
            raise refused
        text = faults.write_text
        results = commit(commits, now_ms) if text is None or faults.write_applies else []
        if text is None:
            return results
        if "Write stall" not in text:
            failed.append(text)
        raise EngineError(text)

    def faulty_cursor(begin: bytes, end: bytes, **options: Any) -> Any:
        return open_cursor(begin, end, **(options | {"bound": faults.bound(options["bound"])}))

    engine.commit, engine.open_cursor = faulty_commit, faulty_cursor
    engine.failure = lambda: failed[0] if failed else None
    return engine
