"""The extension alone, where callers are careless: nothing they do ends the process, or holds up somebody else.

Method: the engine as ``native.py`` gets it, from many threads, with damaged files, odd arguments, and in processes that
end while it works.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from prefixdb.keycodec import Span, data_key, namespace_span
from prefixdb.limits import MIB
from prefixdb.store.base import Commit, DeleteSpan, Put
from tests.store.stores import DURABLE
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif("native" not in DURABLE, reason="the native store is not built")

NS = 7
RANGE_DELETES_MAX = 2_000
OPTIONS: dict[str, Any] = {
    "create": True,
    "read_only": False,
    "sync": False,
    "cache_bytes": MIB,
    "write_buffer_bytes": 64 * MIB,
    "max_open_files": 128,
    "compaction_bytes_per_second": 0,
    "range_deletes_max": RANGE_DELETES_MAX,
}


def open_engine(directory: Path, **options: Any) -> Any:
    from prefixdb.store import native

    return native.module.Engine(str(directory), **(OPTIONS | options))


def put(number: int, size: int = 100) -> Commit:
    return Commit((Put(data_key(NS, 0, b"%06d" % number), os.urandom(size)),))


def commit_when_flushed(engine: Any, commits: list[Commit]) -> None:
    """Commit, as often as the engine says that its small memtables are all being flushed."""

    def committed() -> bool:
        try:
            engine.commit(commits, 1)
        except Exception as failure:
            if "Write stall" not in str(failure):
                raise
            return False
        return True

    wait_for(committed)


def test_cursors_dropped_by_other_threads_while_the_engine_closes(tmp_path: Path) -> None:
    for turn in range(8):
        engine = open_engine(tmp_path / str(turn))
        engine.commit([put(number) for number in range(200)], 1)
        go, ready = threading.Event(), threading.Semaphore(0)

        def drop(engine: Any = engine, go: threading.Event = go, ready: threading.Semaphore = ready) -> None:
            cursors = [
                engine.open_cursor(b"\0", b"\xff", reverse=False, keys_only=False, bound=b"\xff") for _ in range(300)
            ]
            for cursor in cursors:
                cursor.fetch(10, MIB, 0)
            del cursor
            ready.release()
            go.wait()
            while cursors:
                cursors.pop()

        threads = [threading.Thread(target=drop) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in threads:
            ready.acquire()
        go.set()
        engine.close()
        for thread in threads:
            thread.join()


def test_range_deletes_of_one_batch_do_not_add_up_beyond_the_limit(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "db")
    engine.submit([put(0, 32 * MIB)], 1)  # Keeps the committer busy while the others gather.
    for request in range(100):
        keys = [data_key(NS, 0, b"r%03d%03d" % (request, number)) for number in range(100)]
        engine.submit([Commit(tuple(DeleteSpan(Span(key, type(key)(key + b"z"))) for key in keys))], 1)
    done: list[Any] = []
    wait_for(lambda: len(done) == 101 or bool(done.extend(engine.completions())))
    applied = sum(isinstance(outcome, list) for _, outcome in done) - 1
    assert applied == RANGE_DELETES_MAX // 100
    assert engine.unflushed_range_deletes() == RANGE_DELETES_MAX
    engine.close()


def test_files_of_a_namespace_go_although_one_of_them_is_damaged(tmp_path: Path) -> None:
    span = namespace_span(NS)
    engine = open_engine(tmp_path / "db")
    engine.commit([Commit((Put(data_key(NS + 1, 0, b"x"), b"v"),))], 1)
    paths = []
    for file in range(30):
        paths.append(str(tmp_path / f"{file:03d}.sst"))
        writer = engine.table_writer(paths[-1])
        writer.add([(data_key(NS, 0, b"%03d%03d" % (file, row)), b"v" * 100, 0, 0) for row in range(10)], 1)
        writer.finish()
    assert engine.ingest(paths, span.begin, span.end, [], 1).applied
    engine.flush()
    engine.close()
    # Sixteen files are opened with the database and must be whole; the youngest of the others is not.
    for table in sorted((tmp_path / "db").glob("*.sst"), reverse=True):
        whole = table.read_bytes()
        table.write_bytes(whole[:-60] + bytes(60))
        try:
            engine = open_engine(tmp_path / "db", create=False)
        except Exception:
            table.write_bytes(whole)
        else:
            break
    else:
        pytest.fail("no file can be damaged without being noticed at the opening")
    engine.publish_bans([NS])
    assert engine.delete_files([(span.begin, span.end)]) > 0
    assert [file[0] for file in engine.live_files() if span.begin <= file[3] < span.end] == []
    engine.close()


def test_a_stop_that_answers_nonsense_is_an_error_of_the_caller(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "db", write_buffer_bytes=MIB)
    for first in range(0, 60_000, 1_000):
        commit_when_flushed(engine, [put(first + number) for number in range(1_000)])
    answers = iter([False])
    with pytest.raises(TypeError):
        while True:  # A compaction that ends within the 50 ms before the first question is tried again.
            engine.compact(None, None, lambda: next(answers, []))
    engine.close()


def test_sizes_of_an_empty_or_inverted_span_are_zero(tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "db")
    engine.commit([put(1)], 1)
    assert engine.approximate_bytes(b"b", b"a") == 0
    assert engine.approximate_bytes(b"a", b"a") == 0
    engine.close()


@pytest.mark.parametrize("work", ["commit", "compact", "fetch"])
def test_a_process_may_end_while_a_daemon_thread_is_inside(work: str, tmp_path: Path) -> None:
    program = """
import sys, threading
from pathlib import Path
from tests.store.test_native_engine import open_engine, put

engine = open_engine(Path(sys.argv[1]))
engine.commit([put(number, 1_000) for number in range(5_000)], 1)
inside = threading.Event()

def commit():
    engine.commit([put(1)], 1)

def compact():
    engine.compact(None, None, lambda: False)

def fetch():
    cursor = engine.open_cursor(b"\\0", b"\\xff", reverse=False, keys_only=False, bound=b"\\xff")
    while cursor.fetch(1_000, 1 << 20, 0):
        pass

def forever():
    while True:
        globals()[sys.argv[2]]()
        inside.set()

threading.Thread(target=forever, daemon=True).start()
inside.wait()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "db"), work],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (ended.returncode, ended.stderr) == (0, "")
