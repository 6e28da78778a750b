"""What the store does around the engine: the order of closing, the side file, the clock's floor, races of sweeping.

Method: recorders in place of single calls show that, and in which order, the guarding steps happen.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from prefixdb.errors import Reason, error
from prefixdb.keycodec import RowKey, Span
from prefixdb.limits import MIB
from prefixdb.store import lsm, opening
from prefixdb.store.base import Commit, CommitResult, Delete, Put
from tests.support.clocks import HeldClock
from tests.support.crash_image import OpenStore, open_store, row_key, write_rows


def test_closing_cancels_background_work_before_it_closes_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_store: OpenStore
) -> None:
    store = open_store(tmp_path / "data")
    events: list[str] = []
    with store._slot.use() as engine:
        for name in ("flush", "cancel_background", "close"):
            original = getattr(engine, name)
            monkeypatch.setattr(engine, name, lambda name=name, original=original: (events.append(name), original()))
    store.close()
    assert events == ["flush", "cancel_background", "close"]


def test_compactions_run_at_low_priority(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    for _ in range(2):
        write_rows(store, 0, 1_000)
        store.flush()
    store.compact()
    nice = [
        int((task / "stat").read_text().rpartition(")")[2].split()[16])
        for task in Path("/proc/self/task").iterdir()
        if (task / "comm").read_text().strip() == "rocksdb:low"
    ]
    assert nice
    assert min(nice) > os.nice(0)
    store.close()


def test_an_abandoned_engine_is_never_destroyed(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    with store._slot.use() as engine:
        database = engine._db  # type: ignore[attr-defined]
        before = sys.getrefcount(database)
        engine.abandon()
        assert sys.getrefcount(database) == before + 1
    store.close()


def test_the_engine_is_tested_before_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_opener: object) -> None:
        raise error(Reason.INTERNAL, "self-test")

    monkeypatch.setattr(lsm, "check_engine", refuse)
    with pytest.raises(Exception, match="self-test"):
        open_store(tmp_path / "data")
    assert not (tmp_path / "data" / "db").exists()


def test_time_never_starts_below_what_the_directory_has_seen(tmp_path: Path, open_store: OpenStore) -> None:
    late, early = HeldClock(5_000_000), HeldClock(1_000_000)
    store = open_store(tmp_path / "data", clock=late)
    store.commit(Commit((Put(row_key(1), b"", 4_000_000),)))
    assert store.get(row_key(1)) is None
    store.close()
    store = open_store(tmp_path / "data", clock=early)
    assert early.now_ms() == 5_000_000
    assert store.get(row_key(1)) is None
    store.close()


def test_what_the_side_file_says_is_on_disk_before_it_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_store: OpenStore
) -> None:
    store = open_store(tmp_path / "data", durability="os")
    version = write_rows(store, 0, 10)
    synced: list[str] = []
    fsync = os.fsync

    def record(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)
    with store._commit_lock, store._slot.use() as engine:
        store._directory.save(engine, store._known_sequence(engine), 1)
    kinds = [name.split("-")[0] if "MANIFEST" in name else Path(name).suffix or name for name in synced]
    assert kinds == ["MANIFEST", ".log", "db", ".new", "data"]
    state = json.loads((tmp_path / "data" / "store-state.json").read_text())
    assert state["sequence"] == version
    store.close()


def test_an_idle_store_leaves_the_side_file_alone(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    directory = store._directory
    write_rows(store, 0, 1)
    directory.save_if_due(store._observe, 1)
    before = (tmp_path / "data" / "store-state.json").stat().st_ino
    directory.save_if_due(store._observe, 2)
    assert (tmp_path / "data" / "store-state.json").stat().st_ino == before
    write_rows(store, 1, 1)
    directory.save_if_due(store._observe, 3)
    assert (tmp_path / "data" / "store-state.json").stat().st_ino != before
    store.close()


def test_a_row_that_is_written_again_during_a_sweep_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HeldClock()
    store = open_store(tmp_path / "data", clock=clock)
    store.commit(Commit((Put(row_key(1), b"old", clock.now_ms()), Put(row_key(2), b"old", clock.now_ms()))))
    commit_many = store.commit_many

    def rewrite_first(commits: Sequence[Commit]) -> list[CommitResult]:
        commit_many([Commit((Put(row_key(1), b"new"),))])
        return commit_many(commits)

    monkeypatch.setattr(store, "commit_many", rewrite_first)
    assert store.sweep_expired(RowKey(b""), 100) == b""
    row = store.get(row_key(1))
    assert row is not None and row.payload == b"new"
    cursor = store.open_cursor(Span(RowKey(b""), opening.END_OF_KEYS), raw=True)
    assert row_key(2) not in [row.key for row in cursor.fetch(100, MIB)]
    store.close()


def test_an_unknown_durability_is_refused_before_anything_is_created(tmp_path: Path, open_store: OpenStore) -> None:
    with pytest.raises(ValueError, match="durability"):
        open_store(tmp_path / "data", durability="maybe")
    assert not (tmp_path / "data").exists()


def test_a_delete_of_a_row_that_never_was_keeps_its_number_over_restarts(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    version = store.commit(Commit((Delete(row_key(1)),))).version
    for _ in range(3):
        store.compact()
        store.close()
        store = open_store(tmp_path / "data")
        assert store.status().last_version == version
    store.close()
