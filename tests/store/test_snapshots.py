"""A snapshot keeps bytes on the disk, so nothing about it may be forgotten: half made, not removable, after a fork.

Method: payloads that do not compress are looked for in every file of the whole directory while snapshots come and go.
Failures are put where the file system would have them. The oracle of a copy's files is the list of the directory.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import Span, namespace_span
from prefixdb.store import snapshots
from prefixdb.store.base import Commit, Put, Store
from prefixdb.store.directory import read_state
from prefixdb.store.engine import LiveFile
from prefixdb.store.snapshots import SnapshotKeeper
from tests.store.test_reclaim import LEFT, MARK, NS, RIGHT, fill, reclaim
from tests.support.crash_image import OpenStore, row_key, write_rows

SPAN = namespace_span(NS)


@pytest.fixture
def store(tmp_path: Path, request: pytest.FixtureRequest, open_store: OpenStore) -> Store:
    opened = open_store(tmp_path / "data")
    request.addfinalizer(opened.close)
    return opened


def marked(data_dir: Path) -> list[str]:
    """Return every file of the directory in which a payload of the namespace can be found."""
    files = (path for path in data_dir.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(data_dir)) for path in files if MARK in path.read_bytes())


def test_what_is_pinned_is_what_has_the_bytes(store: Store, tmp_path: Path) -> None:
    for namespace_id in (LEFT, NS, RIGHT):
        fill(store, namespace_id)
    snapshot = store.open_snapshot()
    assert reclaim(store) == "waiting"
    found = store.prove_empty(SPAN)
    assert marked(tmp_path / "data") == list(found.files_pinned) != []
    snapshot.close()
    assert reclaim(store) == "done"
    assert store.prove_empty(SPAN).empty
    assert marked(tmp_path / "data") == []


def test_the_proof_of_a_second_ban_of_a_number_does_not_wait_for_snapshots_of_its_time_only(
    store: Store, tmp_path: Path
) -> None:
    fill(store, NS)
    reclaim(store)
    store.withdraw_bans([NS])
    snapshot = store.open_snapshot()
    fill(store, NS)
    reclaim(store)
    assert store.prove_empty(SPAN).empty
    assert marked(tmp_path / "data") == []
    snapshot.close()


def test_a_snapshot_holds_what_a_restore_expects_and_nothing_else(store: Store) -> None:
    write_rows(store, 0, 300)
    stop = threading.Event()

    def write() -> None:
        number = 1_000
        while not stop.is_set():
            write_rows(store, number := number + 1, 1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        snapshot = store.open_snapshot()
    finally:
        stop.set()
        writer.join()
    assert sorted(path.name for path in snapshot.path.iterdir()) == ["db", "store-state.json"]
    names = {path.name for path in (snapshot.path / "db").iterdir()}
    assert all(re.fullmatch(r"CURRENT|MANIFEST-\d+|OPTIONS-\d+|\d+\.sst", name) for name in names)
    assert stat.S_IMODE(snapshot.path.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(snapshot.path.parent.stat().st_mode) & 0o077 == 0
    state = read_state(snapshot.path)
    assert state is not None and state.complete and state.logs == {}
    assert state.tables == {name: (snapshot.path / "db" / name).stat().st_size for name in names if ".sst" in name}
    assert state.sequence == snapshot.last_version
    assert store.status().extra["open_snapshots"] == "1"
    snapshot.close()
    assert store.status().extra["open_snapshots"] == "0"


def test_a_snapshot_that_can_not_be_made_leaves_nothing_and_pins_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, NS)

    def fail(target: Path, *_arguments: object) -> None:
        (target / "db").mkdir(parents=True)
        (target / "db" / "000001.sst").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_copy_to", fail)
        with pytest.raises(PrefixdbError, match="No space"):
            store.open_snapshot()
    assert list((tmp_path / "data" / "snapshots").iterdir()) == []
    assert reclaim(store) == "done"
    assert store.prove_empty(SPAN).empty


def test_a_full_disk_under_a_snapshot_is_told_as_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise Exception("IO error: No space left on device: While appending to file: /data/x: No space left on device")

    monkeypatch.setattr(store._directory, "checkpoint", fail)  # type: ignore[attr-defined]
    with pytest.raises(PrefixdbError) as refused:
        store.open_snapshot()
    assert refused.value.reason is Reason.DISK_FULL


def test_a_snapshot_that_can_not_be_removed_stays_pinned_until_it_can(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, NS)
    snapshot = store.open_snapshot()
    reclaim(store)

    def refuse(_directory: Path) -> None:
        raise PermissionError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(snapshots, "_remove", refuse)
        with pytest.raises(PrefixdbError) as refused:
            snapshot.close()
        assert refused.value.reason is Reason.READ_ONLY_STORE
    assert store.prove_empty(SPAN).files_pinned
    snapshot.close()
    assert store.prove_empty(SPAN).empty


def test_a_store_does_not_open_beside_a_snapshot_it_can_not_remove(
    tmp_path: Path, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(tmp_path / "data").close()
    (tmp_path / "data" / "snapshots" / "000001" / "db").mkdir(parents=True)

    def refuse(_directory: Path) -> None:
        raise PermissionError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(snapshots, "_remove", refuse)
        with pytest.raises(PrefixdbError) as refused:
            open_store(tmp_path / "data")
        assert refused.value.reason is Reason.READ_ONLY_STORE
    open_store(tmp_path / "data").close()
    assert not (tmp_path / "data" / "snapshots").exists()


def test_a_forked_child_can_neither_make_nor_remove_snapshots(store: Store) -> None:
    write_rows(store, 0, 5)
    snapshot = store.open_snapshot()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            refused = 0
            for act in (snapshot.close, store.open_snapshot):
                try:
                    act()
                except RuntimeError:
                    refused += 1
            status = 0 if refused == 2 and snapshot.path.exists() else 1
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert list(snapshot.path.glob("db/*.sst"))
    snapshot.close()


def test_the_copy_survives_whatever_the_store_does_meanwhile(
    store: Store, open_store: OpenStore, tmp_path: Path
) -> None:
    write_rows(store, 0, 200)
    snapshot = store.open_snapshot()
    for _ in range(3):
        write_rows(store, 0, 200)
        store.compact()
    links = [path.stat().st_nlink for path in (snapshot.path / "db").glob("*.sst")]
    assert links and set(links) == {1}
    shutil.copytree(snapshot.path, tmp_path / "copy")
    copy = open_store(tmp_path / "copy")
    row = copy.get(row_key(199))
    assert row is not None and row.version <= snapshot.last_version
    assert copy.commit(Commit((Put(row_key(0), b""),))).version > snapshot.last_version
    copy.close()
    snapshot.close()


# --- the keeper by itself ------------------------------------------------------------------------------------------


def copying(names: list[str], during: Callable[[], Any] = lambda: None) -> Callable[[Path], int]:
    def copy(target: Path) -> int:
        during()
        (target / "db").mkdir(parents=True)
        for name in ("CURRENT", *names):
            (target / "db" / name).write_text("")
        return 7

    return copy


def live(name: str, namespace_id: int) -> LiveFile:
    span = namespace_span(namespace_id)
    return LiveFile(name, 1, 0, span.begin + b"\1\0\0a", span.begin + b"\1\0\0z", 1, 0)


def test_while_a_snapshot_is_being_made_nothing_is_proven(tmp_path: Path) -> None:
    keeper = SnapshotKeeper(tmp_path)
    seen: list[list[str]] = []
    snapshot = keeper.take(copying([], lambda: seen.append(keeper.pinning(SPAN, []))), list)
    assert len(seen[0]) == 1
    assert keeper.pinning(SPAN, []) == []
    snapshot.close()
    assert keeper.pinning(SPAN, []) == []


def test_files_are_known_by_what_they_hold_and_those_that_are_current_were_looked_at(tmp_path: Path) -> None:
    keeper = SnapshotKeeper(tmp_path)
    files = iter([[live("1.sst", NS), live("2.sst", RIGHT)], [live("3.sst", NS), live("4.sst", NS)]])
    snapshot = keeper.take(copying(["1.sst", "2.sst", "3.sst"]), lambda: next(files))
    here = f"snapshots/{snapshot.path.name}/db"
    assert snapshot.last_version == 7
    assert keeper.pinning(SPAN, []) == [f"{here}/1.sst", f"{here}/3.sst"]
    assert keeper.pinning(SPAN, ["3.sst"]) == [f"{here}/1.sst"]
    assert keeper.pinning(namespace_span(RIGHT), []) == [f"{here}/2.sst"]
    assert keeper.pinning(namespace_span(LEFT), []) == []
    assert keeper.pinning(Span(SPAN.begin, SPAN.begin), []) == []


def test_a_file_that_came_and_went_while_nobody_looked_may_hold_anything(tmp_path: Path) -> None:
    keeper = SnapshotKeeper(tmp_path)
    snapshot = keeper.take(copying(["9.sst"]), list)
    for namespace_id in (0, NS, 2**64 - 2):
        assert keeper.pinning(namespace_span(namespace_id), []) == [f"snapshots/{snapshot.path.name}/db/9.sst"]
