"""One test for each known trap of rocksdict 0.3.29: what the store does about it works, and would be missed.
Those that a store on any binding may fall into run for every store.

Method: each test provokes its trap the way it was found; where that cannot be done at will, an engine that fails on
demand does it. R9, the rates, are no trap and have no test here.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import rocksdict

from prefixdb.errors import DataLossError, InternalError, PrefixdbError, Reason
from prefixdb.keycodec import RowKey, Span, data_key, namespace_span
from prefixdb.limits import KIB, RANGE_TOMBSTONES_MAX
from prefixdb.store import rocksdict as binding
from prefixdb.store.base import Commit, DeleteSpan, Put, Store
from prefixdb.store.commit import BatchPlanner
from prefixdb.store.engine import EngineOptions
from tests.support.crash_image import NS, OpenStore, content, flip, open_store, row_key, write_rows
from tests.support.faulty_engine import Faults
from tests.support.waiting import wait_for


def tombstones(store: Store) -> int:
    return int(store.status().extra["range_tombstones"])


def inverted() -> Span:
    """Return a span that Span itself would refuse, as a mistake of ours might one day build it."""
    span = object.__new__(Span)
    object.__setattr__(span, "begin", row_key(5))
    object.__setattr__(span, "end", row_key(1))
    return span


def test_r1_bounds_outlive_their_scans_in_a_churned_heap(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    for namespace_id in (NS - 1, NS, NS + 1):
        store.commit(Commit(tuple(Put(data_key(namespace_id, 0, b"%03d" % n), b"x") for n in range(50))))
    for _ in range(300):
        cursor = store.open_cursor(Span(*(RowKey(bytes(bytearray(bound))) for bound in _bounds())))
        churn = [os.urandom(8) for _ in range(200)]
        gc.collect(0)
        assert cursor.count(1_000) == 50
        cursor.close()
        del churn
    store.close()


def _bounds() -> tuple[bytes, bytes]:
    span = namespace_span(NS)
    return span.begin, span.end


@pytest.mark.parametrize("reverse", [False, True])
def test_r1_a_foreign_key_from_the_engine_stops_the_whole_store(tmp_path: Path, reverse: bool) -> None:
    faults = Faults()
    store = faults.open_store(tmp_path / "data")
    store.commit(Commit((Put(data_key(NS, 0, b"ours"), b""), Put(data_key(NS + 1, 0, b"theirs"), b"secret"))))
    faults.bound = lambda _end: namespace_span(NS + 1).end
    cursor = store.open_cursor(namespace_span(NS), reverse=reverse)
    if reverse:
        # The engine starts at the last key below its bound, so give it one beyond what was asked.
        cursor._span = Span(namespace_span(NS).begin, row_key(0))
        cursor._handle.iterator.seek_to_last()  # type: ignore[union-attr]
        cursor._started = True
    with pytest.raises(InternalError):
        cursor.fetch(10, 1 << 20)
    for call in (
        lambda: store.get(row_key(0)),
        lambda: store.get_many([row_key(0)]),
        lambda: store.open_cursor(namespace_span(NS)),
        lambda: write_rows(store, 0, 1),
        lambda: cursor.fetch(1, 1),
        store.status,
    ):
        with pytest.raises(InternalError):
            call()
    store.close()


def test_r2_a_reverse_scan_needs_no_lower_bound(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    for namespace_id in (NS - 1, NS, NS + 1):
        store.commit(Commit(tuple(Put(data_key(namespace_id, 0, b"%d" % n), b"") for n in range(5))))
    cursor = store.open_cursor(namespace_span(NS), reverse=True)
    assert [row.key for row in cursor.fetch(100, 1 << 20)] == [data_key(NS, 0, b"%d" % n) for n in (4, 3, 2, 1, 0)]
    assert cursor.fetch(100, 1 << 20) == []
    cursor.close()
    store.close()
    assert "set_iterate_lower_bound(" not in Path(binding.__file__).read_text()


def test_r3_a_cursor_shows_the_moment_it_was_opened_at(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    write_rows(store, 0, 100)
    cursor = store.open_cursor(namespace_span(NS))
    write_rows(store, 100, 100)
    store.commit(Commit((DeleteSpan(Span(row_key(10), row_key(90))),)))
    store.flush()
    store.compact()
    assert cursor.count(1_000) == 100
    cursor.close()
    store.close()
    assert ".snapshot()" not in Path(binding.__file__).read_text()


@pytest.mark.parametrize("where", ["alone", "in a batch"])
def test_r4_an_inverted_range_never_reaches_the_engine(tmp_path: Path, where: str, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    write_rows(store, 0, 10)
    wrong = inverted()
    calls: dict[str, Callable[[], object]] = {
        "alone": lambda: store.commit(Commit((DeleteSpan(wrong),))),
        "in a batch": lambda: store.commit_many(
            [Commit((Put(row_key(20), b""),)), Commit((Put(row_key(21), b""), DeleteSpan(wrong)))]
        ),
    }
    with pytest.raises(ValueError):
        calls[where]()
    assert store.get_many([row_key(20), row_key(21)]) == [None, None]
    write_rows(store, 30, 1)
    assert store.get(row_key(30)) is not None
    store.close()


def test_r5_damage_is_never_the_end_of_a_walk(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    write_rows(store, 0, 500)
    store.flush()
    store.close()
    (table,) = (tmp_path / "data" / "db").glob("*.sst")
    flip(table, table.stat().st_size // 2)
    store = open_store(tmp_path / "data")
    cursor = store.open_cursor(namespace_span(NS))
    with pytest.raises(DataLossError):
        cursor.count(1_000)
    store.close()


def test_r6_lost_commits_are_noticed_before_anything_is_written(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    write_rows(store, 0, 10)
    store.close()
    state = json.loads((tmp_path / "data" / "store-state.json").read_text())
    state["sequence"] += 1
    (tmp_path / "data" / "store-state.json").write_text(json.dumps(state))
    before = content(tmp_path / "data")
    with pytest.raises(DataLossError, match=rf"{state['sequence'] - 1}.*{state['sequence']}"):
        open_store(tmp_path / "data")
    assert content(tmp_path / "data") == before


def test_r6_recovery_forgives_only_a_torn_tail(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    write_rows(store, 0, 10)
    options = (tmp_path / "data" / "db").glob("OPTIONS-*")
    text = max(options, key=lambda path: path.name).read_text()
    assert "wal_recovery_mode=kTolerateCorruptedTailRecords" in text
    assert "paranoid_checks=true" in text
    assert "format_version=5" in text
    store.close()


def test_r7_long_calls_let_other_threads_run(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    for first in range(0, 60_000, 2_000):
        write_rows(store, first, 2_000)
    beats = 0

    def beat() -> None:
        nonlocal beats
        while not done.is_set():
            beats += 1
            time.sleep(0.0005)

    done = threading.Event()
    thread = threading.Thread(target=beat)
    thread.start()
    start = time.monotonic()
    try:
        beats = 0
        store.flush()
        store.compact()
        seconds = time.monotonic() - start
    finally:
        done.set()
        thread.join()
    assert beats > seconds * 200
    store.close()


def test_r8_writes_are_refused_instead_of_stalling(tmp_path: Path) -> None:
    for durability in ("fsync", "os"):
        store = open_store(tmp_path / durability, durability=durability)
        with store._slot.use() as engine:
            assert engine._writes.no_slowdown  # type: ignore[attr-defined]
            assert engine._writes.sync is (durability == "fsync")  # type: ignore[attr-defined]
        store.close()


def test_r8_a_real_stall_is_answered_at_once_and_passes(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data", write_buffer_bytes=64 * KIB, durability="os")
    payload = os.urandom(500 * KIB)
    stalls, slowest = 0, 0.0
    for number in range(5_000):
        start = time.monotonic()
        try:
            store.commit(Commit((Put(row_key(number), payload),)))
        except PrefixdbError as refused:
            assert refused.reason is Reason.WRITE_STALL
            assert store.get(row_key(number)) is None
            stalls += 1
        slowest = max(slowest, time.monotonic() - start)
        if stalls > 20:
            break
    assert stalls > 20
    assert slowest < 0.25

    def passes() -> bool:
        try:
            return write_rows(store, 9_000, 1) > 0
        except PrefixdbError as refused:
            assert refused.reason is Reason.WRITE_STALL
            return False

    wait_for(passes)
    store.close()


WRITE_FOREVER = """
import sys
from pathlib import Path
from tests.support.crash_image import open_store, write_rows
store = open_store(Path(sys.argv[1]), sys.argv[3], durability=sys.argv[2])
number = 0
while True:
    write_rows(store, number, 10)
    number += 10
    print(number, flush=True)
"""


@pytest.mark.parametrize("durability", ["fsync", "os"])
def test_r10_kill_9_loses_no_acknowledged_commit(
    tmp_path: Path, durability: str, open_store: OpenStore, kind: str
) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOREVER, str(tmp_path / "data"), durability, kind],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    acknowledged = 0
    for line in writer.stdout:
        acknowledged = int(line)
        if acknowledged >= 20_000:
            break
    writer.kill()
    acknowledged = max([acknowledged, *(int(line) for line in writer.stdout.read().split("\n")[:-1])])
    writer.wait()
    store = open_store(tmp_path / "data")
    assert None not in store.get_many([row_key(number) for number in range(acknowledged)])
    cursor = store.open_cursor(namespace_span(NS))
    assert cursor.count(1 << 30) % 10 == 0
    store.close()


def test_r11_after_a_write_error_reads_go_on_and_writes_return(tmp_path: Path) -> None:
    faults = Faults()
    store = faults.open_store(tmp_path / "data")
    write_rows(store, 0, 10)
    faults.write_text = "IO error: While appending to file: x: Input/output error"
    for _ in range(2):
        with pytest.raises(PrefixdbError) as refused:
            write_rows(store, 10, 1)
        assert refused.value.reason is Reason.READ_ONLY_STORE
    assert store.get(row_key(9)) is not None
    faults.write_text = None
    wait_for(lambda: store.status().writable)
    assert len(faults.engines) > 1
    write_rows(store, 10, 1)
    store.close()


def test_r12_a_refused_second_opening_does_not_break_the_owners_next(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    config = tmp_path / "data" / "db" / "rocksdict-config.json"
    before = (config.stat().st_mtime_ns, config.read_bytes())
    with pytest.raises(PrefixdbError):
        open_store(tmp_path / "data")
    assert (config.stat().st_mtime_ns, config.read_bytes()) == before
    assert json.loads(before[1])["raw_mode"] is True
    write_rows(store, 0, 1)
    store.close()
    store = open_store(tmp_path / "data")
    assert store.get(row_key(0)) is not None
    store.close()


def test_r13_a_forked_child_is_refused(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    child = os.fork()
    if child == 0:
        try:
            store.get(row_key(0))
        except RuntimeError:
            os._exit(3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    store.close()


def test_r14_close_ends_cursors_and_compactions_and_frees_the_directory(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    for first in range(0, 40_000, 4_000):
        write_rows(store, first, 4_000)
    cursor = store.open_cursor(namespace_span(NS))
    cursor.fetch(1, 1)
    compacting = threading.Event()

    def compact() -> None:
        while True:
            compacting.set()
            try:
                store.compact()
            except RuntimeError:
                return

    thread = threading.Thread(target=compact)
    thread.start()
    compacting.wait()
    store.close()
    thread.join()
    store = open_store(tmp_path / "data")  # Would find the lock taken if anything were still alive.
    assert store.get(row_key(39_999)) is not None
    store.close()


def test_r14_an_exception_somebody_keeps_does_not_keep_the_directory(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    write_rows(store, 0, 500)
    store.flush()
    store.close()
    (table,) = (tmp_path / "data" / "db").glob("*.sst")
    flip(table, 100)
    store = open_store(tmp_path / "data")
    kept: list[BaseException] = []
    try:
        store.open_cursor(namespace_span(NS)).count(1_000)
    except DataLossError as damage:
        kept.append(damage)
    store.close()
    open_store(tmp_path / "data").close()
    assert kept


def test_r15_range_tombstones_are_flushed_before_they_cost_reads(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    many = [Commit((DeleteSpan(Span(row_key(n), row_key(n + 1))),)) for n in range(RANGE_TOMBSTONES_MAX)]
    store.commit_many(many[:-1])
    assert tombstones(store) == RANGE_TOMBSTONES_MAX - 1
    store.commit_many(many[:1])
    wait_for(lambda: tombstones(store) == 0)
    assert list((tmp_path / "data" / "db").glob("*.sst"))
    store.close()


def test_r15_range_deletes_that_outrun_the_flush_are_refused_and_other_writes_are_not(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    store._closing.set()
    store._wake.set()
    store._housekeeper.join()  # Nobody flushes now.
    store._closing.clear()
    delete = Commit((DeleteSpan(Span(row_key(1), row_key(2))),))
    store.commit_many([delete] * 2 * RANGE_TOMBSTONES_MAX)
    with pytest.raises(PrefixdbError) as refused:
        store.commit(delete)
    assert refused.value.reason is Reason.WRITE_STALL
    write_rows(store, 0, 1)
    store.flush()
    assert store.commit(delete).applied
    store.close()


def test_r16_a_checkpoint_is_complete_by_itself(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    write_rows(store, 0, 100)
    store.checkpoint(tmp_path / "copy")
    write_rows(store, 0, 100)
    store.compact()
    store.close()
    links = [path.stat().st_nlink for path in (tmp_path / "copy" / "db").glob("*.sst")]
    assert links and set(links) == {1}  # The original was compacted away; the copy's link is the last one.
    copy = open_store(tmp_path / "copy")
    assert copy.status().last_version == 101
    copy.close()


def test_r17_a_range_delete_in_a_batch_hits_the_rows(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    write_rows(store, 0, 10)
    store.commit(Commit((Put(row_key(50), b""), DeleteSpan(Span(row_key(0), row_key(10))))))
    cursor = store.open_cursor(namespace_span(NS))
    assert [row.key for row in cursor.fetch(100, 1 << 20)] == [row_key(50)]
    store.close()
    options = rocksdict.Options(raw_mode=True)
    assert rocksdict.Rdict.list_cf(str(tmp_path / "data" / "db"), options) == ["default"]


def test_r18_a_new_directory_leaves_sequence_zero_for_good(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    assert store.status().last_version >= 1
    for _ in range(2):
        store.compact()
        store.close()
        store = open_store(tmp_path / "data")
        assert store.status().last_version >= 1
    store.close()
    assert ".set_options(" not in Path(binding.__file__).read_text()


def test_a_miscounted_batch_stops_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path / "data")
    monkeypatch.setattr(BatchPlanner, "add", _lying_add(BatchPlanner.add))
    with pytest.raises(InternalError):
        write_rows(store, 0, 1)
    monkeypatch.undo()
    with pytest.raises(InternalError):
        store.get(row_key(0))
    store.close()


def _lying_add(add: Callable[..., object]) -> Callable[..., object]:
    def lie(planner: BatchPlanner, commit: Commit) -> object:
        result = add(planner, commit)
        planner.sequence += 1
        return result

    return lie


def test_the_engine_opens_read_only_without_writing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    write_rows(store, 0, 3)
    store.close()
    engine = binding.RocksdictEngine(tmp_path / "data" / "db", EngineOptions(read_only=True))
    with pytest.raises(Exception, match="Not supported"):
        engine.write(engine.new_batch())
    engine.close()
