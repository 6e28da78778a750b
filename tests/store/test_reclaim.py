"""Reclaiming gives the bytes of a namespace back and proves it; while anything is left the proof says what.

Method: payloads that do not compress are looked for, byte for byte, in every file of the directory. Old readers,
restarts, interruptions and neighbours in the same files are the cases in which a careless proof would lie.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import Span, data_key, database_span, namespace_span
from prefixdb.store import reclaiming
from prefixdb.store.base import Commit, Delete, DeleteSpan, Put, ReclaimProgress, Store
from tests.support.crash_image import OpenStore

NS, LEFT, RIGHT = 500, 499, 501
MARK = os.urandom(16)


@pytest.fixture
def store(tmp_path: Path, request: pytest.FixtureRequest, open_store: OpenStore) -> Store:
    opened = open_store(tmp_path / "data")
    request.addfinalizer(opened.close)
    return opened


def fill(store: Store, namespace_id: int, count: int = 300) -> None:
    mark = MARK if namespace_id == NS else b"neighbour's"
    commits = [
        Commit((Put(data_key(namespace_id, 0, b"row %05d" % number), mark + os.urandom(200)),))
        for number in range(count)
    ]
    store.commit_many(commits)


def marked_files(data_dir: Path) -> list[str]:
    """Return the engine's files in which a payload of the namespace can still be found."""
    return sorted(path.name for path in (data_dir / "db").iterdir() if MARK in path.read_bytes())


def reclaim(store: Store, namespace_id: int = NS) -> str:
    phases: list[str] = []

    def note(_namespace_id: int, progress: ReclaimProgress) -> None:
        phases.append(progress.phase)

    store.publish_bans([namespace_id])
    store.reclaim([namespace_id], on_progress=note, stop=lambda: False)
    return phases[-1]


@pytest.mark.parametrize("flushed", [False, True])
def test_no_byte_of_the_namespace_is_left_in_any_file(store: Store, tmp_path: Path, flushed: bool) -> None:
    for namespace_id in (LEFT, NS, RIGHT):
        fill(store, namespace_id)
    if flushed:
        store.flush()
        fill(store, NS, 50)
    assert marked_files(tmp_path / "data")
    assert reclaim(store) == "done"
    assert store.prove_empty(namespace_span(NS)).empty
    assert marked_files(tmp_path / "data") == []
    for namespace_id in (LEFT, RIGHT):
        cursor = store.open_cursor(namespace_span(namespace_id))
        assert cursor.count(1_000) == 300
        cursor.close()


@pytest.mark.parametrize("how", ["range delete", "row deletes"])
def test_rows_that_are_deleted_but_still_on_disk_are_not_called_empty(store: Store, tmp_path: Path, how: str) -> None:
    fill(store, LEFT)
    fill(store, NS)
    fill(store, RIGHT)
    store.flush()
    if how == "range delete":
        store.commit(Commit((DeleteSpan(namespace_span(NS)),)))
    else:
        store.commit(Commit(tuple(Delete(data_key(NS, 0, b"row %05d" % number)) for number in range(300))))
    for flush in (False, True):
        if flush:
            store.flush()
        assert marked_files(tmp_path / "data")
        found = store.prove_empty(namespace_span(NS))
        assert found.rows_found == 0
        assert not found.empty
    assert reclaim(store) == "done"
    assert store.prove_empty(namespace_span(NS)).empty
    assert marked_files(tmp_path / "data") == []


def test_a_finished_reclaim_does_not_vouch_for_rows_written_and_deleted_later(store: Store, tmp_path: Path) -> None:
    fill(store, NS)
    assert reclaim(store) == "done"
    store.withdraw_bans([NS])
    fill(store, NS, 5)
    store.commit(Commit((DeleteSpan(namespace_span(NS)),)))
    assert marked_files(tmp_path / "data")
    assert not store.prove_empty(namespace_span(NS)).empty


def test_a_neighbours_open_cursor_pins_the_old_files_until_it_is_closed(store: Store, tmp_path: Path) -> None:
    fill(store, LEFT)
    fill(store, NS)
    store.flush()
    cursor = store.open_cursor(namespace_span(LEFT))
    assert len(cursor.fetch(10, 1 << 20)) == 10
    assert reclaim(store) == "waiting"
    found = store.prove_empty(namespace_span(NS))
    assert (found.rows_found, found.bytes_found) == (0, 0)
    assert found.files_pinned and not found.empty
    assert set(marked_files(tmp_path / "data")) <= set(found.files_pinned)
    assert marked_files(tmp_path / "data")
    assert cursor.count(1_000) == 290
    cursor.close()
    for _ in range(1_000):
        if store.prove_empty(namespace_span(NS)).empty:
            break
    assert store.prove_empty(namespace_span(NS)).empty
    assert marked_files(tmp_path / "data") == []


def test_after_a_restart_a_second_reclaim_settles_the_proof(
    store: Store, tmp_path: Path, open_store: OpenStore
) -> None:
    fill(store, LEFT)
    fill(store, NS)
    store.flush()
    cursor = store.open_cursor(namespace_span(LEFT))
    cursor.fetch(1, 1)
    assert reclaim(store) == "waiting"
    store.close()
    again = open_store(tmp_path / "data")
    try:
        assert reclaim(again) == "done"
        assert again.prove_empty(namespace_span(NS)).empty
        assert marked_files(tmp_path / "data") == []
    finally:
        again.close()


@pytest.mark.parametrize("kind", ["rocksdict"], indirect=True)  # The native store drops these files unread.
def test_a_reclaim_in_many_steps_can_be_stopped_between_them(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reclaiming, "STEP_BYTES", 1)
    for first in range(3):
        store.commit_many(
            [
                Commit((Put(data_key(NS, first, b"row %05d" % number), MARK + os.urandom(2_000)),))
                for number in range(300)
            ]
        )
        store.flush()
        store.compact(database_span(NS, first))  # One file for each database, all at the bottom.
    seen: list[ReclaimProgress] = []

    def note(_namespace_id: int, progress: ReclaimProgress) -> None:
        seen.append(ReclaimProgress(progress.bytes_total, progress.bytes_done, progress.phase))

    store.publish_bans([NS])
    store.reclaim(
        [NS],
        on_progress=note,
        stop=lambda: sum(progress.phase == "compacting" for progress in seen) > 1,  # After the first step.
    )
    assert seen[-1].phase == "compacting"
    assert 0 < seen[-1].bytes_done < seen[-1].bytes_total
    assert not store.prove_empty(namespace_span(NS)).empty
    assert reclaim(store) == "done"
    assert store.prove_empty(namespace_span(NS)).empty
    assert marked_files(tmp_path / "data") == []


def test_a_compaction_that_did_nothing_is_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, NS)
    store.flush()
    with store._slot.use() as engine:
        monkeypatch.setattr(engine, "compact", lambda begin, end, stop: True)
    with pytest.raises(PrefixdbError) as failed:
        reclaim(store)
    assert failed.value.reason is Reason.READ_ONLY_STORE
    assert not store.prove_empty(namespace_span(NS)).empty
    monkeypatch.undo()
    assert reclaim(store) == "done"
    assert store.prove_empty(namespace_span(NS)).empty


def test_a_compaction_that_finds_its_work_done_is_no_failure(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine leaves a file alone whose range covers the span but in which it finds nothing of it."""
    for namespace_id in (LEFT, NS, RIGHT):
        fill(store, namespace_id)
    drop = store._space._drop

    def drop_and_compact(pieces: Sequence[Span], stop: Callable[[], bool]) -> bool:
        done: bool = drop(pieces, stop)
        store.compact()
        return done

    monkeypatch.setattr(store._space, "_drop", drop_and_compact)
    assert reclaim(store) == "done"
    assert store.prove_empty(namespace_span(NS)).empty
    assert store.span_size(namespace_span(LEFT)).rows == 300


def test_a_reclaim_that_was_cut_off_does_not_hinder_the_next_namespaces(store: Any, tmp_path: Path) -> None:
    """A tombstone up to the end of one namespace names the begin of the next, in which it holds nothing."""
    for namespace_id in (LEFT, NS, RIGHT):
        fill(store, namespace_id)
    store.compact()
    store.commit(Commit((DeleteSpan(namespace_span(LEFT)), Put(data_key(LEFT - 1, 0, b"x"), b""))))
    store.flush()
    assert reclaim(store) == "done"
    assert store.prove_empty(namespace_span(NS)).empty
    assert not store.prove_empty(namespace_span(LEFT)).empty


@pytest.mark.parametrize("kind", ["rocksdict"], indirect=True)  # The native store looks at real versions.
def test_a_file_the_engine_has_not_looked_into_may_hide_rows(store: Any, tmp_path: Path, open_store: OpenStore) -> None:
    for number in range(1, 30):  # After an opening the engine knows about the content of twenty files.
        fill(store, 10 * number, 5)
        fill(store, 10 * number + 2, 5)
        store.flush()
        store.compact(Span(namespace_span(10 * number).begin, namespace_span(10 * number + 2).end))
    store.close()
    again = open_store(tmp_path / "data")
    try:
        with again._slot.use() as engine:
            unknown = [file for file in engine.live_files() if not file.entries]
        assert unknown
        between = int.from_bytes(unknown[-1].first_key[:8], "big") + 1
        assert again.prove_empty(namespace_span(between)).bytes_found
        assert reclaim(again, between) == "done"
        assert again.prove_empty(namespace_span(between)).empty
    finally:
        again.close()


def test_closing_the_store_stops_a_reclaim_without_an_error(store: Store) -> None:
    fill(store, NS)
    store.flush()
    phases: list[str] = []

    def close_in_the_middle(_namespace_id: int, progress: ReclaimProgress) -> None:
        phases.append(progress.phase)
        if progress.phase == "flushing":
            store.close()

    store.publish_bans([NS])
    store.reclaim([NS], on_progress=close_in_the_middle, stop=lambda: False)
    assert phases[-1] != "done"


@pytest.mark.parametrize("kind", ["rocksdict"], indirect=True)  # The native store writes nothing to reclaim.
def test_a_reclaim_waits_out_a_write_stall(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, NS)
    refusals = iter([True, True])
    commit = store.commit

    def stalling(wanted: Commit) -> object:
        if next(refusals, False):
            raise PrefixdbError(Reason.WRITE_STALL)
        return commit(wanted)

    monkeypatch.setattr(store._space, "_commit", stalling)
    assert reclaim(store) == "done"


def test_an_empty_span_is_empty(store: Store) -> None:
    empty = Span(data_key(NS, 0, b"a"), data_key(NS, 0, b"a"))
    assert store.span_size(empty) == (0, 0)
    assert store.prove_empty(empty).empty


def test_a_thousand_tiny_namespaces_share_files_and_are_reclaimed_one_by_one(store: Store, tmp_path: Path) -> None:
    commits = [Commit((Put(data_key(number, 0, b"only"), os.urandom(100)),)) for number in range(1, 1_001)]
    store.commit_many(commits)
    store.flush()
    for number in (3, 500, 999):
        assert reclaim(store, number) == "done"
        assert store.prove_empty(namespace_span(number)).empty
    assert store.span_size(namespace_span(4)).rows == 1
    assert sum(store.get(data_key(number, 0, b"only")) is not None for number in range(1, 1_001)) == 997
