"""The stores every conformance test runs against. A new store joins by one line in ``STORES``.

The native store is among them where it was built. With PREFIXDB_NATIVE=require in the environment its absence is an
error, so that a run meant for both can not quietly test one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prefixdb.limits import MIB
from prefixdb.store import native_is_built
from prefixdb.store.base import Store
from prefixdb.store.rocksdict import RocksdictStore
from tests.support.clocks import HeldClock
from tests.support.memory_store import MemoryStore


def _open_rocksdict(directory: Path, clock: HeldClock) -> Store:
    return RocksdictStore.open(directory, clock=clock, cache_bytes=4 * MIB, write_buffer_bytes=1 * MIB)


def _open_native(directory: Path, clock: HeldClock) -> Store:
    from prefixdb.store.native import NativeStore

    return NativeStore.open(directory, clock=clock, cache_bytes=4 * MIB, write_buffer_bytes=1 * MIB)


def _open_memory(directory: Path, clock: HeldClock) -> Store:
    return MemoryStore.restore(directory, clock) if directory.exists() else MemoryStore(clock)


STORES: dict[str, Callable[[Path, HeldClock], Store]] = {
    "rocksdict": _open_rocksdict,
    "memory": _open_memory,
}
"""Name → opener of a data directory, which is created when it does not exist."""

if native_is_built() or os.environ.get("PREFIXDB_NATIVE") == "require":
    STORES["native"] = _open_native

DURABLE = tuple(sorted(set(STORES) - {"memory"}))
"""The stores with a directory of RocksDB's."""

VOLATILE = {"memory"}
"""Stores that keep nothing at ``close``; their tests of restarts go through a checkpoint."""


@dataclass
class Harness:
    """One store under test with its clock; ``reopen`` is a clean restart."""

    name: str
    directory: Path
    clock: HeldClock
    store: Store
    restarts: int = 0

    @classmethod
    def start(cls, name: str, directory: Path) -> Harness:
        clock = HeldClock()
        return cls(name, directory / "data", clock, STORES[name](directory / "data", clock))

    def reopen(self) -> Store:
        if self.name in VOLATILE:
            self.restarts += 1
            self.directory = self.directory.with_name(f"data-{self.restarts}")
            self.store.checkpoint(self.directory)
        self.store.close()
        self.store = STORES[self.name](self.directory, self.clock)
        return self.store

    def open_copy(self, directory: Path) -> Store:
        return STORES[self.name](directory, self.clock)
