"""Goal: namespaces reclaimed together cost less and still fail, wait and finish each by itself.

Method: the reclaimer is driven step by step over the model store, which is told to fail for some namespaces, and to
show the steps of a long reclaim.
"""

from __future__ import annotations

import pytest

from prefixdb.catalog.entities import NamespaceState, ReclaimPhase
from prefixdb.errors import Reason, error
from prefixdb.reclaim import batches, board
from prefixdb.store.base import ReclaimProgress
from tests.support.reclaim_bench import Bench

P = ReclaimPhase
FAILURES = [error(Reason.CORRUPTION), error(Reason.DISK_FULL), RuntimeError("bug")]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def refuse(bench: Bench, bad: set[int], failure: Exception) -> None:
    """Have every reclaim fail that has one of ``bad`` in it."""

    def fail(ids: tuple[int, ...]) -> None:
        if bad & set(ids):
            raise failure

    bench.store.before["reclaim"] = fail


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("bad", [[0], [63], [17, 40]])
def test_bad_namespaces_are_found_by_halving_and_the_others_are_done_at_once(bench, bad, failure):
    ids = bench.banned(*(f"t{n}" for n in range(64)), rows=1)
    refuse(bench, {ids[index] for index in bad}, failure)
    assert bench.reclaimer.run_once() is True
    expected = [P.PENDING if index in bad else P.DONE for index in range(64)]
    assert bench.phases(ids) == expected
    assert len(bench.store.calls("reclaim")) <= 1 + 2 * 6 * len(bad)
    bench.store.before.clear()
    bench.clock.advance(board.BACKOFF_MS_FIRST)
    before = len(bench.store.calls("reclaim"))
    assert bench.reclaimer.run_once() is True
    assert bench.phases(ids) == [P.DONE] * 64
    assert [len(batch) for batch in bench.store.calls("reclaim")[before:]] == [1] * len(bad)


@pytest.mark.parametrize("failure", FAILURES)
def test_a_store_that_fails_for_everybody_is_not_asked_once_for_each(bench, failure, caplog):
    ids = bench.banned(*(f"t{n}" for n in range(64)), rows=1)
    refuse(bench, set(ids), failure)
    assert bench.reclaimer.run_once() is False
    assert len(bench.store.calls("reclaim")) <= batches.FAILURES_IN_A_ROW_MAX + 7
    assert bench.phases(ids) == [P.PENDING] * 64
    assert len(caplog.records) < 60
    bench.store.before.clear()
    bench.clock.advance(board.BACKOFF_MS_FIRST)
    assert bench.reclaimer.run_once() is True
    assert bench.phases(ids) == [P.DONE] * 64


def test_a_proof_that_fails_or_finds_something_concerns_one_namespace_only(bench, monkeypatch):
    ids = bench.banned("a", "b", "c", "d")
    honest = bench.store.prove_empty

    def prove(span):
        found = honest(span)
        if bench.store.journal[-1] == ("prove", (ids[1],)):
            raise error(Reason.CORRUPTION)
        return type(found)(1, 1) if bench.store.journal[-1] == ("prove", (ids[2],)) else found

    monkeypatch.setattr(bench.store, "prove_empty", prove)
    assert bench.reclaimer.run_once() is True
    assert bench.phases(ids) == [P.DONE, P.PENDING, P.PROVING, P.DONE]
    assert [len(batch) for batch in bench.store.calls("withdraw")] == [2]
    monkeypatch.setattr(bench.store, "prove_empty", honest)
    bench.clock.advance(board.BACKOFF_MS_FIRST)
    assert bench.reclaimer.run_once() is True
    assert bench.store.calls("reclaim")[-1] == (ids[1], ids[2])
    assert bench.phases(ids) == [P.DONE] * 4


def test_while_only_readers_of_old_files_are_waited_for_little_is_rewritten_again(bench):
    ids = bench.banned("a", "b")
    bench.store.pinned = ("000007.sst",)
    reclaims, flushes = [], []
    for _ in range(2 * batches.PROOFS_IN_A_ROW):
        assert bench.reclaimer.run_once() is False
        bench.clock.advance(board.BACKOFF_MS_MAX)
        reclaims.append(len(bench.store.calls("reclaim")))
        flushes.append(len(bench.store.calls("flush")))
    assert reclaims == [1, 1, 1, 1, 2, 2, 2, 2]
    assert flushes == [1, 2, 3, 4, 4, 5, 6, 7], "a flush lets the engine find old files that nobody reads any more"
    bench.store.pinned = ()
    assert bench.reclaimer.run_once() is True
    assert bench.phases(ids) == [P.DONE] * 2


def test_a_batch_is_bounded_in_bytes_and_in_namespaces(bench, monkeypatch):
    monkeypatch.setattr(batches, "BATCH_NAMESPACES", 4)
    monkeypatch.setattr(batches, "BATCH_BYTES", 1_000)
    sizes = {f"t{n}": rows for n, rows in enumerate((1, 1, 1, 1, 1, 20, 20, 1, 100, 1))}
    ids = {name: bench.tenant(name, rows) for name, rows in sizes.items()}
    for name, namespace_id in ids.items():
        bench.registry.ban(namespace_id, by=name)
        bench.clock.advance(1)
    bench.reclaimer.run_once()
    names = {namespace_id: int(name[1:]) for name, namespace_id in ids.items()}
    shape = [[names[namespace_id] for namespace_id in batch] for batch in bench.store.calls("reclaim")]
    # The large one is alone; what does not fit is passed over for what does, and is the head of the next.
    assert shape == [[0, 1, 2, 3], [4, 5, 7, 9], [6], [8]]
    assert bench.registry.counts()[NamespaceState.RECLAIMED] == len(ids)


def large_and_small(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[int]]:
    """Ban a large namespace, whose reclaim takes three steps, and two small ones after it."""
    monkeypatch.setattr(batches, "BATCH_BYTES", 1_000)
    large = bench.tenant("large", 200)
    bench.registry.ban(large, by="x")
    bench.clock.advance(1)
    return large, bench.banned("a", "b", rows=1)


def test_a_large_one_lets_small_ones_go_first_after_a_whole_step_and_goes_on_later(bench, monkeypatch):
    large, small = large_and_small(bench, monkeypatch)
    bench.store.steps = [ReclaimProgress(9_000, done, "compacting") for done in (0, 3_000, 3_000, 6_000, 9_000)]

    def shorten(ids: tuple[int, ...]) -> None:
        """What was dealt with before is no part of the next turn."""
        if large in ids and len(bench.store.calls("reclaim")) > 1:
            bench.store.steps = [ReclaimProgress(6_000, done, "compacting") for done in (0, 3_000)]

    bench.store.before["reclaim"] = shorten
    seen = []
    bench.reclaimer.add_listener(lambda n: seen.append(bench.reclaimer.report(n)) if n == large else None)
    bench.reclaimer.add_listener(lambda n: bench.clock.advance(board.PROGRESS_INTERVAL_MS))
    assert bench.reclaimer.run_once() is True
    assert bench.store.calls("reclaim") == [(large,), tuple(small), (large,)]
    assert bench.store.calls("prove") == [(small[0],), (small[1],), (large,)]
    done = [report.bytes_done for report in seen]
    assert done == sorted(done) and {3_000, 6_000} <= set(done) and done[-1] == seen[-1].bytes_total
    assert 9_000 <= seen[-1].bytes_total < 12_000
    assert bench.phase(large) is P.DONE


def test_a_large_one_is_not_interrupted_before_its_first_step_nor_without_company(bench, monkeypatch):
    large, small = large_and_small(bench, monkeypatch)
    bench.store.steps = [ReclaimProgress(9_000, 0, phase) for phase in ("deleting", "flushing", "compacting")]
    assert bench.reclaimer.run_once() is True
    # No step was ended while the small ones waited but the store's own last one, after which there is nothing to stop.
    assert bench.store.calls("reclaim") == [(large,), tuple(small)]
    alone = bench.tenant("alone", 200)
    bench.registry.ban(alone, by="x")
    bench.store.steps = [ReclaimProgress(9_000, done, "compacting") for done in (3_000, 6_000, 9_000)]
    assert bench.reclaimer.run_once() is True
    assert bench.store.calls("reclaim")[2:] == [(alone,)]


def test_however_many_small_ones_come_a_large_one_makes_a_step_each_turn(bench, monkeypatch):
    large, _ = large_and_small(bench, monkeypatch)
    bench.store.steps = [ReclaimProgress(9_000, done, "compacting") for done in (3_000, 6_000, 9_000)]
    turns = []

    def another(ids: tuple[int, ...]) -> None:
        turns.append(large in ids)
        if len(turns) < 20:
            bench.banned(f"more{len(turns)}", rows=1)
            bench.reclaimer._publisher.publish_due()

    bench.store.before["reclaim"] = another
    bench.reclaimer.run_once()
    assert turns[:10] == [True, False] * 5


def test_a_namespace_that_failed_alone_is_tried_alone_until_it_is_well(bench):
    first, second = bench.banned("first", "second")
    refuse(bench, {first}, error(Reason.CORRUPTION))
    bench.reclaimer.run_once()
    assert bench.phases([first, second]) == [P.PENDING, P.DONE]
    bench.clock.advance(board.BACKOFF_MS_FIRST)
    third = bench.banned("third")[0]
    before = len(bench.store.calls("reclaim"))
    bench.reclaimer.run_once()
    assert bench.store.calls("reclaim")[before:] == [(first,), (third,)]
    assert bench.phase(third) is P.DONE


def test_each_of_a_batch_has_its_own_progress_and_report(bench):
    small, big = bench.tenant("small", 2), bench.tenant("big", 50)
    for namespace_id in (small, big):
        bench.registry.ban(namespace_id, by="x")
    bench.reclaimer.run_once()
    reports = [bench.reclaimer.report(namespace_id) for namespace_id in (small, big)]
    assert [report.rows_dropped for report in reports] == [5, 53]
    assert reports[0].bytes_freed < reports[1].bytes_freed
    assert all(report.bytes_done == report.bytes_total for report in reports)
