"""Goal: a ban ends in proven emptiness whatever stops, fails or waits in between, and never without the proof.

Method: the reclaimer is driven step by step with a held clock. A store that notes every call and can be told to fail,
to pin files or to lie stands in; a kill between two steps is a new reclaimer and registry over the same store.
"""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from prefixdb.catalog.entities import NamespaceState, ReclaimPhase
from prefixdb.catalog.namespaces import Registry
from prefixdb.errors import Reason, error
from prefixdb.keycodec import namespace_span
from prefixdb.reclaim import board, publisher, sweeper
from prefixdb.store.base import Emptiness, ReclaimProgress
from tests.support.reclaim_bench import Bench, Crash, reason_of

P = ReclaimPhase


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_ban_without_grace_ends_in_a_report_of_proven_emptiness(bench):
    doomed, other = bench.tenant("doomed"), bench.tenant("other")
    kept = bench.rows(other, raw=False)
    size = bench.store.span_size(namespace_span(doomed))
    bench.registry.ban(doomed, by="root@0", reason="unpaid")
    bench.clock.advance(5)
    assert bench.reclaimer.run_once() is True
    report = bench.reclaimer.report(doomed)
    now_ms = bench.clock.now_ms()
    assert (report.phase, report.started_at_ms, report.finished_at_ms) == (P.DONE, now_ms, now_ms)
    assert (report.bytes_freed, report.rows_dropped) == (size.bytes, size.rows)
    assert (report.proof_rows_found, report.proof_bytes_found) == (0, 0)
    assert (report.banned_by, report.reason, report.bytes_done) == ("root@0", "unpaid", report.bytes_total)
    assert bench.rows(doomed) == [] and bench.rows(other, raw=False) == kept
    assert bench.registry.get(doomed).state is NamespaceState.RECLAIMED
    assert bench.told == [(doomed, phase) for phase in (P.PENDING, P.RECLAIMING, P.PROVING, P.DONE)]


def test_nothing_is_touched_before_the_last_millisecond_of_the_grace(bench):
    doomed = bench.tenant("doomed")
    rows = bench.rows(doomed, raw=False)
    bench.registry.ban(doomed, by="x", grace_ms=1000)
    bench.clock.advance(999)
    assert bench.reclaimer.run_once() is False
    assert bench.phase(doomed) is P.GRACE and bench.rows(doomed, raw=False) == rows
    assert [what for what, ids in bench.store.journal if doomed in ids] == []
    assert bench.registry.unban(doomed).state is NamespaceState.ACTIVE
    assert reason_of(bench.reclaimer.report, doomed) is Reason.REPORT_NOT_FOUND
    bench.registry.ban(doomed, by="x", grace_ms=1000)
    bench.clock.advance(1000)
    assert bench.phase(doomed) is P.PENDING
    assert bench.reclaimer.run_once() is True


def test_a_ban_waits_for_its_open_streams_and_says_so_while_others_go_on(bench):
    busy, idle = bench.tenant("busy"), bench.tenant("idle")
    bench.streams[busy] = 2
    bench.registry.ban(busy, by="x")
    bench.registry.ban(idle, by="x")
    bench.reclaimer.run_once()
    assert (bench.phase(busy), bench.phase(idle)) == (P.PENDING, P.DONE)
    assert "2 open" in bench.reclaimer.report(busy).detail
    assert bench.rows(busy) and not bench.registry.ban_of(busy).reclaim_started_at_ms
    bench.streams[busy] = 0
    bench.clock.advance(publisher.STREAMS_RECHECK_MS)
    assert bench.reclaimer.run_once() is True


def test_begun_is_durable_before_the_ban_is_published(bench):
    doomed = bench.tenant("doomed")
    bench.registry.ban(doomed, by="x")
    seen = []
    bench.store.before["publish"] = lambda _ids: seen.append(
        Registry(bench.store, bench.clock).ban_of(doomed).reclaim_started_at_ms
    )
    bench.reclaimer.run_once()
    assert set(seen) == {bench.clock.now_ms()}


@pytest.mark.parametrize("where", ["publish", "reclaim", "reclaimed", "prove", "withdraw", "withdrawn", "sweep"])
@pytest.mark.parametrize("kills", [1, 2])
def test_a_kill_at_any_step_is_made_good_by_the_next_start(bench, where, kills):
    doomed = bench.tenant("doomed")
    size = bench.store.span_size(namespace_span(doomed))
    bench.registry.ban(doomed, by="x")

    def kill(_ids: tuple[int, ...]) -> None:
        raise Crash

    for _ in range(kills):
        bench.store.before[where] = kill
        with pytest.raises(Crash):
            bench.reclaimer.run_once()
        bench.restart()
        bench.clock.advance(1)
        assert reason_of(bench.registry.unban, doomed) is Reason.RECLAIM_STARTED
    bench.reclaimer.run_once()
    report = bench.reclaimer.report(doomed)
    assert report.phase is P.DONE and bench.rows(doomed) == []
    assert (report.bytes_freed, report.rows_dropped) == (size.bytes, size.rows)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("number", [1, 2])
def test_a_kill_at_either_commit_is_made_good_by_the_next_start(bench, number, durable):
    doomed = bench.tenant("doomed")
    bench.registry.ban(doomed, by="x")
    what = "committed" if durable else "commit"

    def kill(_ids: tuple[int, ...]) -> None:
        if len(bench.store.calls(what)) == before + number:
            raise Crash

    before = len(bench.store.calls(what))
    bench.store.before[what] = kill
    with pytest.raises(Crash):
        bench.reclaimer.run_once()
    bench.restart()
    finished = number == 2 and durable
    assert bench.phase(doomed) is (P.DONE if finished else P.PENDING)
    assert bench.reclaimer.run_once() is not finished
    assert bench.phase(doomed) is P.DONE


@pytest.mark.parametrize("found", [Emptiness(1, 0), Emptiness(0, 1), Emptiness(0, 0, ("000007.sst",))])
def test_no_final_report_while_the_proof_finds_anything(bench, monkeypatch, found):
    doomed = bench.tenant("doomed")
    bench.registry.ban(doomed, by="x")
    honest = bench.store.prove_empty
    monkeypatch.setattr(bench.store, "prove_empty", lambda span: found)
    for _ in range(5):
        assert bench.reclaimer.run_once() is False
        report = bench.reclaimer.report(doomed)
        assert report.phase is P.PROVING and report.finished_at_ms == 0
        assert (report.proof_rows_found, report.proof_bytes_found) == (found.rows_found, found.bytes_found)
        assert bench.registry.get(doomed).state is NamespaceState.BANNED
        bench.clock.advance(board.BACKOFF_MS_MAX)
    monkeypatch.setattr(bench.store, "prove_empty", honest)
    assert bench.reclaimer.run_once() is True
    assert bench.reclaimer.report(doomed).proof_rows_found == 0


def test_pinned_files_are_waited_for_and_named_by_number(bench):
    doomed = bench.tenant("doomed")
    bench.store.pinned = ("000007.sst", "000009.sst")
    bench.registry.ban(doomed, by="x")
    bench.reclaimer.run_once()
    assert "2 old files" in bench.reclaimer.report(doomed).detail
    assert bench.reclaimer._batches.idle_ms() == board.BACKOFF_MS_FIRST
    bench.store.pinned = ()
    assert bench.reclaimer.run_once() is False  # Its time has not come.
    bench.clock.advance(board.BACKOFF_MS_FIRST)
    assert bench.reclaimer.run_once() is True


@pytest.mark.parametrize("failure", [error(Reason.DISK_FULL), error(Reason.READ_ONLY_STORE), RuntimeError("bug")])
def test_an_error_of_one_ban_is_logged_retried_ever_later_and_keeps_nobody_else(bench, caplog, failure):
    first, second = bench.tenant("first"), bench.tenant("second")
    bench.registry.ban(first, by="x")
    bench.clock.advance(1)
    bench.registry.ban(second, by="x")

    def fail(ids: tuple[int, ...]) -> None:
        if first in ids:
            raise failure

    bench.store.before["reclaim"] = fail
    assert bench.reclaimer.run_once() is True
    assert (bench.phase(first), bench.phase(second)) == (P.PENDING, P.DONE)
    assert bench.reclaimer.report(first).detail and str(first) in caplog.text
    tries = []
    for _ in range(200):
        before = len(bench.store.journal)
        bench.reclaimer.run_once()
        if ("reclaim", (first,)) in bench.store.journal[before:]:
            tries.append(bench.clock.now_ms())
        bench.clock.advance(1000)
    gaps = [after - before for before, after in itertools.pairwise(tries)]
    assert gaps[:5] == sorted(gaps[:5]) and gaps[0] < gaps[4] and max(gaps) == board.BACKOFF_MS_MAX
    bench.store.before.clear()
    bench.clock.advance(board.BACKOFF_MS_MAX)
    assert bench.reclaimer.run_once() is True


def test_progress_only_grows_and_listeners_are_not_flooded(bench):
    doomed = bench.tenant("doomed")
    bench.store.steps = [ReclaimProgress(1000, done % 700, "compacting") for done in range(0, 1400, 7)]
    bench.registry.ban(doomed, by="x")
    seen = []
    bench.reclaimer.add_listener(lambda n: seen.append(bench.reclaimer.report(n)))
    bench.reclaimer.run_once()
    assert len(seen) == 4  # The clock stood still, so only the phases were told.
    done = [report.bytes_done for report in seen]
    assert done == sorted(done) and all(report.bytes_done <= report.bytes_total for report in seen)


def test_progress_is_told_again_after_the_interval_and_never_runs_backwards(bench):
    doomed = bench.tenant("doomed")
    size = bench.store.span_size(namespace_span(doomed))
    bench.store.steps = [ReclaimProgress(1000, done) for done in (0, 300, 200, 700, 100)]
    bench.registry.ban(doomed, by="x")
    seen = []
    bench.reclaimer.add_listener(lambda n: seen.append(bench.reclaimer.report(n)))
    bench.reclaimer.add_listener(lambda n: bench.clock.advance(board.PROGRESS_INTERVAL_MS))
    bench.reclaimer.run_once()
    assert [report.phase for report in seen].count(P.RECLAIMING) == 1 + 5 + 2  # Phase, steps, the store's own.
    done = [report.bytes_done for report in seen]
    assert done == sorted(done) and 700 in done
    final = bench.reclaimer.report(doomed)
    assert (final.bytes_total, final.bytes_done, final.bytes_freed) == (1000, 1000, size.bytes)


def test_a_broken_listener_stops_nothing(bench, caplog):
    def broken(_namespace_id: int) -> None:
        raise RuntimeError("deaf")

    bench.reclaimer.add_listener(broken)
    doomed = bench.tenant("doomed")
    bench.registry.ban(doomed, by="x")
    assert bench.reclaimer.run_once() is True
    assert "deaf" in caplog.text


def test_a_report_of_what_was_never_banned_or_never_was_is_not_found(bench):
    live = bench.tenant("live")
    assert reason_of(bench.reclaimer.report, live) is Reason.REPORT_NOT_FOUND
    assert reason_of(bench.reclaimer.report, 12345) is Reason.NAMESPACE_NOT_FOUND


def test_a_number_issued_again_shows_the_last_report_until_its_own_ban(bench):
    number = bench.tenant("first")
    bench.registry.ban(number, by="one")
    bench.reclaimer.run_once()
    first = bench.reclaimer.report(number)
    bench.registry.create("second", namespace_id=number)
    assert bench.reclaimer.report(number) == first
    bench.registry.ban(number, by="two", grace_ms=1000)
    assert bench.phase(number) is P.GRACE
    bench.clock.advance(1000)
    bench.reclaimer.run_once()
    assert bench.reclaimer.report(number).banned_by == "two"
    assert bench.registry.ban_of(number).incarnation > first.incarnation


def test_many_bans_are_worked_off_in_the_order_their_grace_ends(bench):
    tenants = [bench.tenant(f"t{n}", rows=1) for n in range(60)]
    for index, namespace_id in enumerate(tenants):
        bench.registry.ban(namespace_id, by="x", grace_ms=60 - index)
    bench.clock.advance(60)
    bench.reclaimer.run_once()
    assert bench.store.calls("publish")[0] == bench.store.calls("reclaim")[0] == tuple(tenants[::-1])
    assert bench.registry.counts()[NamespaceState.RECLAIMED] == 60 and bench.registry.undone_bans() == []


def test_expired_rows_are_swept_in_small_steps_between_bans(bench, monkeypatch):
    monkeypatch.setattr(sweeper, "SWEEP_ROWS", 7)
    live = bench.tenant("live", rows=50)
    assert len(bench.rows(live)) == 53  # With its three groups; ten have expired.
    for _ in range(30):
        bench.reclaimer.run_once()
        bench.clock.advance(sweeper.SWEEP_STEP_MS)
    assert len(bench.rows(live)) == 43
    steps = len(bench.store.calls("sweep"))
    assert 8 <= steps <= 12  # One pass, then a long pause.
    bench.clock.advance(sweeper.SWEEP_PASS_MS)
    bench.reclaimer.run_once()
    assert len(bench.store.calls("sweep")) == steps + 1


def test_a_failing_sweep_is_logged_and_put_off(bench, caplog):
    def fail(_ids: tuple[int, ...]) -> None:
        raise error(Reason.READ_ONLY_STORE)

    bench.store.before["sweep"] = fail
    for _ in range(10):
        bench.reclaimer.run_once()
    assert len(bench.store.calls("sweep")) == 1 and "READ_ONLY_STORE" in caplog.text
    bench.clock.advance(board.BACKOFF_MS_FIRST)
    bench.reclaimer.run_once()
    assert len(bench.store.calls("sweep")) == 2


# --- the thread ------------------------------------------------------------------------------------------------------


def until(event: threading.Event) -> None:
    assert event.wait(20), "nothing happened"


def test_the_thread_takes_up_undone_bans_new_ones_and_ended_graces(bench):
    old, new, later = bench.tenant("old"), bench.tenant("new"), bench.tenant("later")
    done = {n: threading.Event() for n in (old, new, later)}
    bench.registry.ban(old, by="x")
    bench.restart()
    bench.reclaimer.add_listener(lambda n: done[n].set() if bench.phase(n) is P.DONE else None)
    bench.reclaimer.start()
    try:
        until(done[old])
        bench.registry.ban(new, by="x")
        until(done[new])
        bench.registry.ban(later, by="x", grace_ms=10**9)
        assert not done[later].is_set()
        bench.clock.advance(10**9)
        bench.reclaimer.wake()
        until(done[later])
    finally:
        bench.reclaimer.stop(20)


def test_stop_interrupts_a_long_reclaim_and_a_restart_ends_it(bench, monkeypatch):
    doomed = bench.tenant("doomed")
    begun = threading.Event()
    honest = bench.store.reclaim

    def endless(ids, *, on_progress, stop):
        begun.set()
        while not stop():
            on_progress(ids[0], ReclaimProgress(100, 1, "compacting"))
            time.sleep(0.001)

    monkeypatch.setattr(bench.store, "reclaim", endless)
    bench.registry.ban(doomed, by="x")
    bench.reclaimer.start()
    until(begun)
    started = time.monotonic()
    bench.reclaimer.stop(20)
    assert time.monotonic() - started < 2
    assert bench.registry.get(doomed).state is NamespaceState.BANNED
    assert bench.store.calls("prove") == []
    monkeypatch.setattr(bench.store, "reclaim", honest)
    bench.restart()
    assert bench.reclaimer.run_once() is True


def test_stop_is_prompt_when_idle_harmless_twice_and_before_start(bench):
    bench.reclaimer.stop()
    bench.restart()
    bench.reclaimer.start()
    with pytest.raises(RuntimeError):
        bench.reclaimer.start()
    started = time.monotonic()
    bench.reclaimer.stop(20)
    bench.reclaimer.stop(20)
    assert time.monotonic() - started < 2


def test_an_idle_thread_does_not_spin(bench):
    bench.tenant("live")
    bench.registry.ban(bench.tenant("graceful"), by="x", grace_ms=10**9)
    bench.reclaimer.run_once()
    assert bench.reclaimer._sweeper.idle_ms() == sweeper.SWEEP_PASS_MS
    assert bench.reclaimer._publisher.idle_ms() == bench.reclaimer._batches.idle_ms() == board.BACKOFF_MS_MAX
    bench.clock.advance(10**9 - 50)
    bench.reclaimer.run_once()
    assert bench.reclaimer._publisher.idle_ms() == 50
