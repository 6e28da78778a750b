"""A data directory with a past, as a kill leaves it: live, banned, reclaimed and reissued namespaces, deleted rows, and
files that are no longer in use but hold what was deleted."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from prefixdb.catalog.keyring import Keyring
from prefixdb.catalog.namespaces import Registry
from prefixdb.keycodec import data_key
from prefixdb.reclaim.reclaimer import Reclaimer
from prefixdb.store.base import Commit, Delete, Put, Store
from tests.support.clocks import HeldClock
from tests.support.crash_image import await_saved, open_store

LIVE, OTHER, BANNED, GRACE, RECLAIMED, AGAIN = 7, 70, 8, 9, 10, 11
FLUSHED, LOGGED = 400, 100
"""Rows of LIVE in table files and in the log. OTHER has as many in one table file."""

DAY_MS = 24 * 3600 * 1000

Rows = dict[tuple[int, bytes], bytes]


@dataclass(frozen=True)
class Past:
    """The image, and what a reader of it must find.

    rows: values by namespace and key. deleted: keys that must stay away. incarnations: by namespace.
    obsolete: table files that were put back.
    """

    image: Path
    rows: Rows
    deleted: set[tuple[int, bytes]]
    incarnations: dict[int, int]
    obsolete: tuple[str, ...]
    now_ms: int


def key_of(number: int) -> bytes:
    """Return the key of a numbered row."""
    return b"row %06d" % number


class _Maker:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows: Rows = {}
        self.deleted: set[tuple[int, bytes]] = set()

    def write(self, namespace_id: int, first: int, count: int) -> int:
        version = 0
        for start in range(first, first + count, 10):
            puts = []
            for number in range(start, min(start + 10, first + count)):
                value = os.urandom(120)
                self.rows[namespace_id, key_of(number)] = value
                puts.append(Put(data_key(namespace_id, 0, key_of(number)), value))
            version = self.store.commit(Commit(tuple(puts))).version
        return version

    def delete(self, namespace_id: int, numbers: range) -> None:
        for number in numbers:
            self.store.commit(Commit((Delete(data_key(namespace_id, 0, key_of(number))),)))
            del self.rows[namespace_id, key_of(number)]
            self.deleted.add((namespace_id, key_of(number)))

    def forget(self, namespace_id: int) -> None:
        for found in [key for key in self.rows if key[0] == namespace_id]:
            del self.rows[found]
            self.deleted.add(found)


def make_past(home: Path, kind: str) -> Past:
    """Return a directory of a store that was killed."""
    live, image, kept = home / "live", home / "image", home / "kept"
    clock = HeldClock()
    store = open_store(live, kind, clock=clock)
    registry = Registry(store, clock)
    Keyring(store, clock, live)
    maker = _Maker(store)
    names = {LIVE: "live", OTHER: "other", BANNED: "banned", GRACE: "grace", RECLAIMED: "reclaimed", AGAIN: "again"}
    for namespace_id, name in names.items():
        registry.create(name, namespace_id=namespace_id)
    for namespace_id in (RECLAIMED, AGAIN):
        maker.write(namespace_id, 0, 50)
    maker.write(LIVE, 10_000, 50)
    store.flush()
    kept.mkdir()
    for table in (live / "db").glob("*.sst"):
        shutil.copy(table, kept)
    for namespace_id in (RECLAIMED, AGAIN):
        registry.ban(namespace_id, by="root@0", grace_ms=0)
        maker.forget(namespace_id)
    maker.delete(LIVE, range(10_000, 10_050))
    Reclaimer(store, registry, clock, lambda _: 0).run_once()
    assert registry.counts()[registry.get(RECLAIMED).state] == 2  # type: ignore[union-attr]
    store.flush()
    store.compact()
    registry.create("again", namespace_id=AGAIN)
    for namespace_id in (AGAIN, BANNED, GRACE):
        maker.write(namespace_id, 100, 50)
    maker.write(LIVE, 0, FLUSHED)
    store.flush()
    maker.write(OTHER, 0, FLUSHED)
    store.flush()
    registry.ban(BANNED, by="root@0", grace_ms=0)
    registry.ban(GRACE, by="root@0", grace_ms=7 * DAY_MS)
    maker.forget(BANNED)
    store.flush()
    version = maker.write(LIVE, FLUSHED, LOGGED)
    await_saved(live, version)
    shutil.copytree(live, image)
    incarnations = {number: record.incarnation for number in names if (record := registry.get(number))}
    store.close()
    obsolete = tuple(sorted(path.name for path in kept.iterdir() if not (image / "db" / path.name).exists()))
    assert obsolete
    for name in obsolete:
        shutil.copy(kept / name, image / "db" / name)
    return Past(image, maker.rows, maker.deleted, incarnations, obsolete, clock.now_ms())
