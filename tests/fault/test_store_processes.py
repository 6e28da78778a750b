"""One process owns a data directory: a second one, and a forked child, are refused without touching a file.

Method: a real second interpreter and a real fork, with the directory compared before and after.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefixdb.errors import DataLossError, FailedPreconditionError, Reason
from prefixdb.keycodec import namespace_span
from prefixdb.store.base import Commit, Put
from tests.support.crash_image import NS, OpenStore, content, row_key, write_rows

SECOND = """
import sys, time
from pathlib import Path
from prefixdb.clock import SystemClock
from prefixdb.errors import FailedPreconditionError
from prefixdb.store import open_store
start = time.monotonic()
try:
    open_store(sys.argv[2], Path(sys.argv[1]), clock=SystemClock())
except FailedPreconditionError as refused:
    print(refused.reason.name, time.monotonic() - start)
"""


def test_a_second_process_is_refused_within_a_second_and_changes_nothing(
    tmp_path: Path, open_store: OpenStore, kind: str
) -> None:
    store = open_store(tmp_path / "data")
    write_rows(store, 0, 5)
    store.flush()
    store._closing.set()
    store._wake.set()
    store._housekeeper.join()  # So that every change to the directory would be the second process's.
    store._closing.clear()
    before = content(tmp_path / "data")
    second = subprocess.run(
        [sys.executable, "-c", SECOND, str(tmp_path / "data"), kind],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    reason, seconds = second.stdout.split()
    assert reason == "DIRECTORY_LOCKED"
    assert float(seconds) < 1.0
    assert content(tmp_path / "data") == before
    write_rows(store, 5, 5)
    store.close()
    open_store(tmp_path / "data").close()


def test_a_second_store_in_the_same_process_is_refused(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    with pytest.raises(FailedPreconditionError) as refused:
        open_store(tmp_path / "data")
    assert refused.value.reason is Reason.DIRECTORY_LOCKED
    assert str(tmp_path / "data") in refused.value.message
    write_rows(store, 0, 1)
    store.close()


def test_a_directory_replaced_under_a_store_is_left_alone_and_the_store_stops(
    tmp_path: Path, open_store: OpenStore
) -> None:
    old = open_store(tmp_path / "data")
    write_rows(old, 0, 50)
    (tmp_path / "data").rename(tmp_path / "moved")
    successor = tmp_path / "data"
    successor.mkdir()
    (successor / "LOCK").touch()
    old._wake.set()
    old._housekeeper.join(30)
    with pytest.raises(DataLossError, match="removed or replaced"):
        old.get(row_key(0))
    old.close()
    assert [path.name for path in successor.iterdir()] == ["LOCK"]
    reopened = open_store(tmp_path / "moved")
    assert all(reopened.get(row_key(number)) for number in range(50))
    reopened.close()


def test_a_failed_opening_gives_the_directory_free_again(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    store.close()
    current = tmp_path / "data" / "db" / "CURRENT"
    text = current.read_text()
    current.unlink()
    with pytest.raises(Exception, match="CURRENT"):
        open_store(tmp_path / "data")
    current.write_text(text)
    open_store(tmp_path / "data").close()


def test_a_forked_child_is_refused_everything_and_harms_nothing(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    write_rows(store, 0, 300)
    store.flush()
    cursor = store.open_cursor(namespace_span(NS))
    assert len(cursor.fetch(10, 1 << 20)) == 10
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        outcomes = []
        for call in (
            lambda: store.get(row_key(0)),
            lambda: store.get_many([row_key(0)]),
            lambda: store.commit(Commit((Put(row_key(0), b"child"),))),
            lambda: store.open_cursor(namespace_span(NS)),
            lambda: cursor.fetch(1, 1),
            store.flush,
            store.status,
        ):
            try:
                call()
                outcomes.append("worked")
            except RuntimeError:
                outcomes.append("refused")
        cursor.close()
        store.close()
        del cursor, store
        os.write(writing, ",".join(outcomes).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b",".join([b"refused"] * 7)
    assert os.waitpid(child, 0)[1] == 0
    assert cursor.count(1_000) == 290
    write_rows(store, 300, 1)
    with pytest.raises(FailedPreconditionError):
        open_store(tmp_path / "data")
    store.close()
    store = open_store(tmp_path / "data")
    assert store.get(row_key(300)) is not None
    store.close()


FORK_AND_EXIT = """
import os, sys
from pathlib import Path
from prefixdb.clock import SystemClock
from prefixdb.keycodec import namespace_span
from prefixdb.store import open_store
store = open_store(sys.argv[2], Path(sys.argv[1]), clock=SystemClock())
cursor = store.open_cursor(namespace_span(0))
child = os.fork()
if child == 0:
    sys.exit(7)  # An orderly end of the interpreter, which destroys every object.
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_that_ends_in_order_does_not_hang_in_a_destructor(
    tmp_path: Path, open_store: OpenStore, kind: str
) -> None:
    start = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", FORK_AND_EXIT, str(tmp_path / "data"), kind], timeout=60, check=False)
    assert ended.returncode == 7
    assert time.monotonic() - start < 30
    open_store(tmp_path / "data").close()


def test_a_child_does_not_keep_the_lock_of_a_parent_that_has_gone(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    store.close()
    try:
        open_store(tmp_path / "data").close()
    finally:
        os.write(writing, b"x")
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)
