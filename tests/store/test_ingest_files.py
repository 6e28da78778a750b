"""Files that are brought in come all together or not at all, whatever stands in the way, and nothing is left of them.

Method: files are made small, so that an ingest has many; one of them is damaged, rows come and go under it, a guard
changes hands while it finishes. What is looked at are the rows, the folder of the files and the engine's directory.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import Span, data_key, family_span, namespace_span
from prefixdb.store import ingest as ingesting
from prefixdb.store.base import Commit, Delete, DeleteSpan, Ingest, Put, Store, VersionIs
from tests.store.test_reclaim import reclaim
from tests.support.crash_image import OpenStore

NS, OTHER = 500, 700
SPAN = family_span(NS, 1)
ROWS = 2_000


@pytest.fixture
def store(tmp_path: Path, request: pytest.FixtureRequest, open_store: OpenStore) -> Store:
    opened = open_store(tmp_path / "data")
    request.addfinalizer(opened.close)
    return opened


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingesting, "FILE_BYTES", 20_000)


def row(number: int, payload: bytes = b"v" * 80) -> Put:
    return Put(data_key(NS, 0, b"%06d" % number), payload)


def begin(store: Store, rows: int = ROWS) -> Ingest:
    ingest = store.open_ingest(SPAN)
    assert ingest is not None
    for first in range(0, rows, 100):
        ingest.add([row(number) for number in range(first, first + 100)])
    return ingest


def count(store: Store, span: Span = SPAN) -> int:
    cursor = store.open_cursor(span)
    try:
        return cursor.count(1 << 30)
    finally:
        cursor.close()


def files(data_dir: Path, store: Any) -> tuple[int, set[str]]:
    """Return how many files wait to be brought in, and the engine's that are not current."""
    with store._slot.use() as engine:
        live = {file.name for file in engine.live_files()}
    waiting = sum(path.is_file() for path in (data_dir / "ingest").rglob("*"))
    return waiting, {path.name for path in (data_dir / "db").glob("*.sst")} - live


def test_many_files_become_visible_together_and_leave_nothing_behind(store: Store, tmp_path: Path) -> None:
    ingest = begin(store)
    assert files(tmp_path / "data", store)[0] >= 5
    result = ingest.finish()
    assert result is not None and result.applied
    assert count(store) == ROWS
    assert files(tmp_path / "data", store) == (0, set())


@pytest.mark.parametrize("where", ["footer", "missing"])
def test_one_damaged_file_keeps_all_of_them_out_and_the_store_goes_on(
    store: Store, tmp_path: Path, open_store: OpenStore, where: str
) -> None:
    ingest = begin(store)
    tables = sorted((tmp_path / "data" / "ingest").rglob("*.sst"))
    if where == "footer":
        tables[2].write_bytes(tables[2].read_bytes()[:-40])
    else:
        tables[2].unlink()
    with pytest.raises(PrefixdbError):
        ingest.finish()
    assert count(store) == 0
    assert files(tmp_path / "data", store) == (0, set())
    assert store.commit(Commit((Put(data_key(OTHER, 0, b"x"), b""),))).applied
    again = begin(store).finish()
    assert again is not None and again.applied
    store.close()
    store = open_store(tmp_path / "data")
    assert count(store) == ROWS
    store.close()


@pytest.mark.parametrize("how", ["rows", "a range", "both flushed"])
def test_what_was_deleted_under_the_files_neither_hides_their_rows_nor_comes_back(
    store: Store, tmp_path: Path, open_store: OpenStore, how: str
) -> None:
    ingest = begin(store)
    store.commit(Commit(tuple(row(number, b"old") for number in range(0, ROWS + 50, 7))))
    if how == "both flushed":
        store.flush()
    deletes = tuple(Delete(row(number).key) for number in range(0, ROWS + 50, 7))
    store.commit(Commit((DeleteSpan(SPAN),) if how == "a range" else deletes))
    if how == "both flushed":
        store.flush()
    result = ingest.finish()
    assert result is not None and result.applied
    for opened in (store, None):
        if opened is None:
            store.close()
            opened = open_store(tmp_path / "data")
        assert count(opened) == ROWS
        opened.compact()
        assert count(opened) == ROWS
        found = opened.get(row(7).key)
        assert found is not None and found.version == result.version
        assert opened.commit(Commit((row(7, b"new"),))).version > result.version
        found = opened.get(row(7).key)
        assert found is not None and found.payload == b"new"
        assert opened.commit(Commit((Put(row(7).key, b"v" * 80, 0, result.version),))).applied
    opened.close()


def test_a_guard_that_changes_while_files_come_in_decides_for_all_or_none(store: Store) -> None:
    guard = data_key(OTHER, 0, b"guard")
    for attempt in range(15):
        version = store.commit(Commit((Put(guard, b""),))).version
        ingest = begin(store, 300)
        moved: list[int] = []
        start = threading.Event()

        def move(start: threading.Event = start, moved: list[int] = moved) -> None:
            start.wait()
            moved.append(store.commit(Commit((Put(guard, b"moved"),))).version)
            moved.append(count(store))

        mover = threading.Thread(target=move)
        mover.start()
        start.set()
        result = ingest.finish((VersionIs(guard, version),))
        mover.join()
        assert result is not None
        # What the mover saw right after its own commit is what the ingest was answered.
        assert moved[1] == (300 if result.applied else 0) == count(store), attempt
        store.commit(Commit((DeleteSpan(SPAN),)))


def test_a_writer_in_the_span_and_an_ingest_do_not_both_win(store: Store) -> None:
    for _ in range(15):
        ingest = begin(store, 300)
        start = threading.Event()

        def write(start: threading.Event = start) -> None:
            start.wait()
            store.commit(Commit((Put(data_key(NS, 0, b"written"), b""),)))

        writer = threading.Thread(target=write)
        writer.start()
        start.set()
        result = ingest.finish()
        writer.join()
        assert count(store) == (1 if result is None else 301)
        store.commit(Commit((DeleteSpan(SPAN),)))


def test_a_finished_reclaim_vouches_for_neither_the_rows_nor_the_marker(store: Store) -> None:
    store.commit(Commit(tuple(Put(data_key(each, 0, b"x"), b"") for each in (NS - 1, NS + 1, OTHER - 1, OTHER + 1))))
    for namespace_id in (NS, OTHER):
        assert reclaim(store, namespace_id) == "done"
        store.withdraw_bans([namespace_id])
    result = begin(store).finish(marker=Put(data_key(OTHER, 0, b"marker"), b""))
    assert result is not None and result.applied
    store.compact()  # Into files that are shared with neighbours, as far as the store shares them.
    store.commit(Commit((DeleteSpan(SPAN), Delete(data_key(OTHER, 0, b"marker")))))
    for namespace_id in (NS, OTHER):
        assert not store.prove_empty(namespace_span(namespace_id)).empty


def test_commits_go_on_while_files_are_written(store: Store) -> None:
    ingest = begin(store, 1_000)
    version = store.commit(Commit((Put(data_key(OTHER, 0, b"x"), b""),))).version
    ingest.add([row(number) for number in range(1_000, 1_100)])
    result = ingest.finish()
    assert result is not None and result.version < version
    assert store.commit(Commit((Put(data_key(OTHER, 0, b"y"), b""),))).version > version


def test_a_stall_leaves_the_files_for_another_try(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = begin(store)
    bring_in, tried = store.ingest, []  # type: ignore[attr-defined]

    def stalled(*args: Any) -> Any:
        tried.append(args[0])
        if len(tried) < 3:
            raise error(Reason.WRITE_STALL)
        return bring_in(*args)

    monkeypatch.setattr(store, "ingest", stalled)
    marker = Put(data_key(OTHER, 0, b"marker"), b"m")
    for _ in range(2):
        with pytest.raises(PrefixdbError, match="catching up"):
            ingest.finish(marker=marker)
        with pytest.raises(RuntimeError):
            ingest.add([row(ROWS)])
    waiting = files(tmp_path / "data", store)[0]
    result = ingest.finish(marker=marker)
    assert result is not None and result.applied
    assert tried[0] == tried[2] and len(tried[0]) == waiting
    assert count(store) == ROWS
    found = store.get(marker.key)
    assert found is not None and found.payload == b"m"
    assert files(tmp_path / "data", store) == (0, set())
    with pytest.raises(RuntimeError):
        ingest.finish(marker=marker)


def test_an_ingest_that_is_given_up_in_a_stall_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = begin(store)

    def stalled(*args: Any) -> Any:
        raise error(Reason.WRITE_STALL)

    monkeypatch.setattr(store, "ingest", stalled)
    with pytest.raises(PrefixdbError):
        ingest.finish()
    assert files(tmp_path / "data", store)[0]
    ingest.abort()
    assert files(tmp_path / "data", store) == (0, set())
    assert count(store) == 0
