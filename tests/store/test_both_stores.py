"""One directory, two stores: what either has written the other opens, in turns, whatever the last one left behind.

Method: a directory goes from store to store; each writes rows of every kind, deletes ranges, lets rows expire, reclaims
and leaves its log unflushed or is killed (a copy of the running directory). A dict knows what must be there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from prefixdb.keycodec import Span, data_key, namespace_span
from prefixdb.store.base import Commit, Delete, DeleteSpan, Put, Store
from tests.store.stores import DURABLE
from tests.support.clocks import HeldClock
from tests.support.crash_image import await_saved, open_store

pytestmark = pytest.mark.skipif("native" not in DURABLE, reason="the native store is not built")

NS, DOOMED, GONE = 42, 43, 44


class Turns:
    """The directory, the clock and what is known to be in it: key → (payload, expires_at_ms)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = HeldClock()
        self.rows: dict[bytes, tuple[bytes, int]] = {}
        self.turn = 0
        self.last_version = 0

    def play(self, store: Store) -> None:
        """Check everything, then change something of every kind."""
        self.check(store)
        self.turn += 1
        keys = [
            data_key(namespace_id, 0, b"%03d %04d" % (self.turn, n))
            for namespace_id in (NS, DOOMED)
            for n in range(200)
        ]
        puts = [
            Put(key, os.urandom(100), self.clock.now_ms() + 10 * n if n % 5 == 0 else 0) for n, key in enumerate(keys)
        ]
        store.commit(Commit(tuple(puts)))
        self.rows |= {each.key: (each.payload, each.expires_at_ms) for each in puts}
        gone = Span(keys[20], keys[40])
        self.last_version = store.commit(Commit((DeleteSpan(gone), Delete(keys[3])))).version
        for key in [key for key in self.rows if key in gone or key == keys[3]]:
            del self.rows[key]
        self.clock.advance(15)
        if self.turn % 2:
            store.flush()
            store.compact(namespace_span(NS))
        if self.turn % 3 == 0:
            store.publish_bans([DOOMED])
            store.reclaim([DOOMED], on_progress=lambda *_: None, stop=lambda: False)
            assert store.prove_empty(namespace_span(DOOMED)).empty
            store.withdraw_bans([DOOMED])
            self.rows = {key: row for key, row in self.rows.items() if key not in namespace_span(DOOMED)}
        version = store.commit(Commit((Put(keys[0], b"last of its turn"),))).version  # Only in the log.
        assert version > self.last_version
        self.last_version = version
        self.rows[keys[0]] = (b"last of its turn", 0)

    def check(self, store: Store) -> None:
        now_ms = self.clock.now_ms()
        live = {key: row for key, row in self.rows.items() if not 0 < row[1] <= now_ms}
        found = {}
        for namespace_id in (NS, DOOMED):
            cursor = store.open_cursor(namespace_span(namespace_id))
            while page := cursor.fetch(1_000, 1 << 20):
                found |= {row.key: (row.payload, row.expires_at_ms) for row in page}
            cursor.close()
        assert found == live
        assert store.status().last_version >= self.last_version


@pytest.mark.parametrize("order", [("rocksdict", "native"), ("native", "rocksdict")], ids=" then ".join)
def test_stores_take_turns_on_one_directory(tmp_path: Path, order: tuple[str, str]) -> None:
    turns = Turns(tmp_path / "data")
    for turn in range(8):
        store = open_store(turns.directory, order[turn % 2], clock=turns.clock)
        try:
            turns.play(store)
        finally:
            store.close()


@pytest.mark.parametrize("order", [("rocksdict", "native"), ("native", "rocksdict")], ids=" then ".join)
def test_a_killed_store_leaves_its_log_to_the_other(tmp_path: Path, order: tuple[str, str]) -> None:
    turns = Turns(tmp_path / "data-0")
    for turn in range(6):
        store = open_store(turns.directory, order[turn % 2], clock=turns.clock)
        try:
            turns.play(store)
            store._wake.set()
            await_saved(turns.directory, turns.last_version)
            image = tmp_path / f"data-{turn + 1}"
            shutil.copytree(turns.directory, image)
        finally:
            store.close()
        turns.directory = image
    store = open_store(turns.directory, order[0], clock=turns.clock)
    turns.check(store)
    store.close()


@pytest.mark.parametrize("order", [("rocksdict", "native"), ("native", "rocksdict")], ids=" then ".join)
def test_a_reclaim_that_one_store_began_the_other_finishes(tmp_path: Path, order: tuple[str, str]) -> None:
    clock = HeldClock()
    first, second = order
    store = open_store(tmp_path / "data", first, clock=clock)
    for namespace_id in (NS, DOOMED, GONE):
        store.commit_many([Commit((Put(data_key(namespace_id, 0, b"%d" % n), os.urandom(100)),)) for n in range(100)])
    store.publish_bans([DOOMED, GONE])
    told: list[str] = []
    store.reclaim(
        [DOOMED, GONE],
        on_progress=lambda _namespace_id, progress: told.append(progress.phase),
        stop=lambda: told.count("deleting") > 2,
    )
    assert "done" not in told
    store.close()
    store = open_store(tmp_path / "data", second, clock=clock)
    store.publish_bans([DOOMED, GONE])
    store.reclaim([DOOMED, GONE], on_progress=lambda *_: None, stop=lambda: False)
    assert all(store.prove_empty(namespace_span(each)).empty for each in (DOOMED, GONE))
    assert store.span_size(namespace_span(NS)).rows == 100
    store.close()
    # What is proven stays proven for the one that began, as far as it can tell at all: nothing of it can be read.
    store = open_store(tmp_path / "data", first, clock=clock)
    assert store.prove_empty(namespace_span(DOOMED)).rows_found == 0
    store.close()


def test_settings_that_bind_the_format_are_the_same(tmp_path: Path) -> None:
    """Each store opens with the options it names; the file of the last opening says what the files are like."""
    wanted = ("format_version=5", "compression=kLZ4Compression", "bottommost_compression=kZSTD", "num_levels=7")
    for kind in ("rocksdict", "native"):
        open_store(tmp_path / "data", kind).close()
        newest = max((tmp_path / "data" / "db").glob("OPTIONS-*"), key=lambda path: path.name).read_text()
        assert all(option in newest for option in wanted), kind
