"""Goal: the store learns of a ban when nothing brings the namespace back, and forgets it before its number is issued.

Method: the store of ``tests.support.reclaim_bench`` looks at its own rows whenever something is published or
committed, so every test of it is one of the order too; here it is attacked on purpose: streams, graces, kills, failures
and threads between any two steps.
"""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import replace

from prefixdb.catalog.entities import NamespaceState, ReclaimPhase
from prefixdb.errors import DataLossError, OutcomeUnknownError, Reason, error
from prefixdb.reclaim import batches, board, publisher
from prefixdb.reclaim.published import Published
from prefixdb.store.base import Dropped, SpanSize
from tests.support.reclaim_bench import Bench, Crash, reason_of

P = ReclaimPhase


@pytest.fixture
def bench() -> Bench:
    return Bench()


def later(bench: Bench) -> bool:
    """Let every wait pass, and go on."""
    bench.clock.advance(board.BACKOFF_MS_MAX)
    return bench.reclaimer.run_once()


def issued_again(bench: Bench, namespace_id: int, name: str) -> None:
    """Issue the number again, fill it, compact, and see that every row is there."""
    bench.registry.create(name, namespace_id=namespace_id)
    bench.fill(namespace_id, 20)
    before = bench.rows(namespace_id)
    bench.store.compact()
    assert bench.rows(namespace_id) == before and len(before) == 23


def test_nothing_is_published_while_the_grace_runs_and_an_unban_gives_everything_back(bench):
    doomed = bench.tenant("doomed")
    rows = bench.rows(doomed)
    bench.registry.ban(doomed, by="x", grace_ms=1000)
    bench.clock.advance(999)
    bench.reclaimer.run_once()
    bench.store.compact()
    assert bench.registry.unban(doomed).state is NamespaceState.ACTIVE
    bench.clock.advance(1000)
    bench.reclaimer.run_once()
    bench.restart()
    bench.store.compact()
    assert bench.store.calls("publish") == []
    assert bench.rows(doomed, raw=False) == [row for row in rows if not row.expires_at_ms]


def test_nothing_is_published_while_a_stream_is_open_and_an_unban_is_refused_by_then(bench):
    doomed = bench.tenant("doomed")
    bench.streams[doomed] = 1
    bench.registry.ban(doomed, by="x")
    bench.reclaimer.run_once()
    bench.store.compact()
    assert bench.store.published == set() and bench.rows(doomed)
    assert reason_of(bench.registry.unban, doomed) is Reason.RECLAIM_STARTED
    bench.streams[doomed] = 0
    assert bench.reclaimer.run_once() is False  # It looks again in a second, or when it is woken.
    assert later(bench) is True
    assert bench.store.calls("publish")[0] == (doomed,)


def test_at_start_what_had_begun_is_published_before_anything_else_and_nothing_more(bench):
    begun, due, graceful, done = (bench.tenant(name) for name in ("begun", "due", "graceful", "done"))
    bench.registry.ban(done, by="x")
    bench.reclaimer.run_once()
    bench.registry.ban(begun, by="x")
    bench.registry.mark_reclaims_started({begun: SpanSize(7, 7)})
    bench.registry.ban(due, by="x")
    bench.registry.ban(graceful, by="x", grace_ms=10**6)
    bench.restart()
    assert bench.store.published == {begun}
    bench.store.compact()
    assert bench.rows(begun) == [] and bench.rows(due) and bench.rows(graceful)
    assert bench.reclaimer.run_once() is True
    assert bench.phases([begun, due, graceful, done]) == [P.DONE, P.DONE, P.GRACE, P.DONE]
    assert bench.reclaimer.report(begun).rows_dropped == 7


def test_many_bans_share_a_flush_and_a_few_batches(bench, monkeypatch):
    monkeypatch.setattr(publisher, "CHUNK", 10)
    monkeypatch.setattr(batches, "BATCH_NAMESPACES", 10)
    ids = bench.banned(*(f"t{n}" for n in range(21)), rows=1)
    kept = bench.tenant("kept")
    rows = bench.rows(kept, raw=False)
    commits = len(bench.store.calls("commit"))
    assert bench.reclaimer.run_once() is True
    assert len(bench.store.calls("flush")) == 1
    assert len(bench.store.calls("commit")) - commits == 3 + 3  # Begun and done, ten at a time.
    assert [len(batch) for batch in bench.store.calls("reclaim")] == [10, 10, 1]
    assert bench.phases(ids) == [P.DONE] * len(ids)
    assert bench.rows(kept, raw=False) == rows and bench.store.published == set()


def test_a_ban_is_published_while_a_long_reclaim_is_under_way(bench):
    first, second = bench.tenant("first"), bench.tenant("second")
    running, go_on, done = threading.Event(), threading.Event(), threading.Event()
    told = threading.Event()

    def long(ids: tuple[int, ...]) -> None:
        if ids == (first,):
            running.set()
            assert go_on.wait(20)

    bench.store.before["reclaim"] = long
    bench.store.before["publish"] = lambda ids: told.set() if second in ids else None
    bench.reclaimer.add_listener(lambda n: done.set() if n == second and bench.phase(n) is P.DONE else None)
    bench.registry.ban(first, by="x")
    bench.reclaimer.start()
    try:
        assert running.wait(20)
        bench.registry.ban(second, by="x")
        assert told.wait(20)
        assert reason_of(bench.registry.unban, second) is Reason.RECLAIM_STARTED
        assert bench.phases([first, second]) == [P.RECLAIMING, P.PENDING]
        go_on.set()
        assert done.wait(20)
    finally:
        go_on.set()
        bench.reclaimer.stop(20)
    assert bench.phases([first, second]) == [P.DONE, P.DONE]


# --- withdrawn, marked, issued again ---------------------------------------------------------------------------------


def test_a_number_is_withdrawn_before_it_can_be_issued_again(bench):
    (doomed,) = bench.banned("doomed")
    refusals = []
    bench.store.before["withdraw"] = lambda ids: refusals.append(reason_of(create_again))

    def create_again() -> None:
        bench.registry.create("again", namespace_id=doomed)

    bench.reclaimer.run_once()
    what = [called for called, ids in bench.store.journal if called in ("prove", "withdraw", "committed")]
    assert what[-3:] == ["prove", "withdraw", "committed"]
    assert refusals == [Reason.NAMESPACE_NOT_EMPTY]
    issued_again(bench, doomed, "again")


@pytest.mark.parametrize("failure", [error(Reason.DISK_FULL), RuntimeError("bug")])
@pytest.mark.parametrize("where", ["withdraw", "withdrawn", "commit"])
def test_a_failure_between_any_two_of_the_last_steps_is_made_good_by_publishing_again(bench, where, failure):
    (doomed,) = bench.banned("doomed")

    def fail(_ids: tuple[int, ...]) -> None:
        if bench.store.calls("prove"):
            raise failure

    bench.store.before[where] = fail
    bench.reclaimer.run_once()
    assert bench.registry.get(doomed).state is NamespaceState.BANNED
    assert bench.phase(doomed) is P.PENDING
    published = len(bench.store.calls("publish"))
    bench.store.before.clear()
    assert later(bench) is True
    assert bench.store.calls("publish")[published:] == [(doomed,)]
    assert len(bench.store.calls("reclaim")) == 2, "the store had forgotten it, so rows may have gone unseen"
    issued_again(bench, doomed, "again")


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
def test_an_unknown_outcome_of_the_last_commit_leaves_nothing_published_that_can_be_issued_again(
    bench, monkeypatch, applied, at_once
):
    (doomed,) = bench.banned("doomed")
    honest = bench.store.commit_many

    def unknown(commits):
        if bench.store.calls("prove"):
            if applied:
                honest(commits)
            raise OutcomeUnknownError(Reason.OUTCOME_UNKNOWN)
        return honest(commits)

    monkeypatch.setattr(bench.store, "commit_many", unknown)
    bench.reclaimer.run_once()
    assert bench.store.published == set()
    monkeypatch.setattr(bench.store, "commit_many", honest)
    if applied and at_once:
        issued_again(bench, doomed, "again")
    later(bench)
    assert doomed not in bench.store.published
    assert bench.phase(doomed) is P.DONE
    assert len(bench.store.calls("reclaim")) == (1 if applied else 2)
    assert bench.reclaimer._board.queued() == []
    if not (applied and at_once):
        issued_again(bench, doomed, "again")
    assert later(bench) is False and bench.rows(doomed)


def test_only_a_begun_ban_of_the_present_incarnation_is_ever_published(bench):
    published = Published(bench.store, bench.registry)
    doomed = bench.tenant("doomed")
    bench.registry.ban(doomed, by="x")
    due = bench.registry.ban_of(doomed)
    assert published.publish([due]) == [] and bench.store.published == set()
    bench.reclaimer.run_once()
    assert published.publish([due]) == []
    bench.registry.create("again", namespace_id=doomed)
    assert published.publish([due]) == [] and bench.store.published == set()
    bench.registry.ban(doomed, by="x")
    bench.registry.mark_reclaims_started({doomed: SpanSize(0, 0)})
    assert published.publish([due]) == [] and bench.store.published == set()
    assert published.publish([bench.registry.ban_of(doomed)]) == [bench.registry.ban_of(doomed)]


def test_a_ban_that_is_taken_back_because_the_clock_was_set_back_leaves_nothing_behind(bench):
    doomed = bench.tenant("doomed")
    bench.registry.ban(doomed, by="x", grace_ms=1_000)
    bench.streams[doomed] = 1
    bench.clock.advance(1_000)
    bench.reclaimer.run_once()
    assert "1 open" in bench.reclaimer.report(doomed).detail
    bench.clock._now_ms -= 500
    bench.registry.unban(doomed)
    bench.registry.ban(doomed, by="y", grace_ms=1_000)
    assert bench.phase(doomed) is P.GRACE and bench.reclaimer.report(doomed).banned_by == "y"


def test_nobody_publishes_between_the_withdrawal_and_the_mark(bench):
    (doomed,) = bench.banned("doomed")
    ban = bench.registry.ban_of(doomed)
    published: list[object] = []
    others: list[threading.Thread] = []

    def publish_meanwhile(_ids: tuple[int, ...]) -> None:
        other = threading.Thread(target=lambda: published.append(bench.reclaimer._publisher._published.publish([ban])))
        others.append(other)
        other.start()
        other.join(0.2)
        assert bench.store.published == set() and other.is_alive()

    bench.store.before["withdrawn"] = publish_meanwhile
    assert bench.reclaimer.run_once() is True
    others[0].join(20)
    assert published == [[]] and bench.store.published == set()


@pytest.mark.parametrize("where", ["publish", "reclaim", "reclaimed", "prove", "withdraw", "withdrawn", "committed"])
def test_a_number_issued_again_after_a_kill_keeps_every_row(bench, where):
    (doomed,) = bench.banned("doomed")

    def kill(_ids: tuple[int, ...]) -> None:
        raise Crash

    bench.store.before[where] = kill
    with pytest.raises(Crash):
        bench.reclaimer.run_once()
    bench.restart()
    bench.store.compact()
    bench.reclaimer.run_once()
    issued_again(bench, doomed, "again")
    bench.restart()
    bench.store.compact()
    assert len(bench.rows(doomed)) == 23


def test_one_whose_mark_is_refused_does_not_keep_the_others(bench):
    ids = bench.banned("a", "b", "c")
    odd = bench.registry.get(ids[1])

    def meddle(_ids: tuple[int, ...]) -> None:
        """Make the registry's picture of one of them wrong."""
        del bench.store.before["withdrawn"]
        bench.registry._directory._records[odd.id] = replace(odd, row_version=1)

    bench.store.before["withdrawn"] = meddle
    assert bench.reclaimer.run_once() is True
    assert bench.phases(ids) == [P.DONE, P.PENDING, P.DONE]
    assert bench.store.published == set()


# --- measuring -------------------------------------------------------------------------------------------------------


def test_a_damaged_namespace_is_begun_without_its_size(bench, caplog):
    damaged, sound = bench.banned("damaged", "sound")

    def fail(ids: tuple[int, ...]) -> None:
        if ids == (damaged,) and not bench.store.calls("reclaim"):
            raise DataLossError(Reason.CORRUPTION)

    bench.store.before["measure"] = fail
    bench.reclaimer.run_once()
    assert bench.phases([damaged, sound]) == [P.DONE, P.DONE]
    assert (bench.reclaimer.report(damaged).rows_dropped, bench.reclaimer.report(sound).rows_dropped) == (0, 13)
    assert str(damaged) in caplog.text


@pytest.mark.parametrize("failure", [error(Reason.READ_ONLY_STORE), RuntimeError("bug")])
def test_one_that_cannot_be_measured_is_put_off_and_the_others_go_on(bench, monkeypatch, failure):
    first, second = bench.banned("first", "second")
    honest = bench.store.span_size

    def measure(span, *, exact_rows_max=1_000, stop=lambda: False):
        size = honest(span, exact_rows_max=exact_rows_max, stop=stop)
        if bench.store.journal[-1] == ("measure", (first,)):
            raise failure
        return size

    monkeypatch.setattr(bench.store, "span_size", measure)
    assert bench.reclaimer.run_once() is True
    assert bench.phases([first, second]) == [P.PENDING, P.DONE]
    assert not bench.registry.ban_of(first).reclaim_started_at_ms
    monkeypatch.setattr(bench.store, "span_size", honest)
    assert later(bench) is True


def test_exact_counting_is_rationed_so_that_many_large_namespaces_are_published_soon(bench, monkeypatch):
    monkeypatch.setattr(publisher, "EXACT_ROWS_MAX", 20)
    monkeypatch.setattr(publisher, "EXACT_ROWS_LEAST", 5)
    asked = []
    honest = bench.store.span_size

    def measure(span, *, exact_rows_max=1_000, stop=lambda: False):
        asked.append(exact_rows_max)
        return honest(span, exact_rows_max=exact_rows_max, stop=stop)

    bench.banned("a", "b", "c", rows=10)
    monkeypatch.setattr(bench.store, "span_size", measure)
    bench.reclaimer._publisher.publish_due()
    assert asked == [20, 20 - 13, 5]


@pytest.mark.parametrize("what", ["flush", "commit"])
def test_a_store_that_refuses_puts_all_bans_off_with_one_line(bench, caplog, what):
    ids = bench.banned("a", "b", "c")

    def fail(_ids: tuple[int, ...]) -> None:
        raise error(Reason.READ_ONLY_STORE)

    bench.store.before[what] = fail
    assert bench.reclaimer.run_once() is False
    assert bench.store.published == set() and bench.phases(ids) == [P.PENDING] * 3
    assert caplog.text.count("READ_ONLY_STORE") == 1 + caplog.text.count("removing expired rows")
    assert bench.reclaimer._publisher.idle_ms() == board.BACKOFF_MS_FIRST
    bench.store.before.clear()
    bench.clock.advance(board.BACKOFF_MS_FIRST)
    assert bench.reclaimer.run_once() is True


def test_a_stop_while_measuring_begins_nothing_with_half_a_size(bench):
    first, second, third = bench.banned("first", "second", "third")
    bench.store.before["measure"] = lambda ids: bench.reclaimer.stop() if ids == (second,) else None
    assert bench.reclaimer.run_once() is False
    assert [bool(bench.registry.ban_of(n).reclaim_started_at_ms) for n in (first, second, third)] == [
        True,
        False,
        False,
    ]


def test_a_report_shows_what_compactions_have_dropped_so_far_but_never_more_than_there_was(bench, monkeypatch):
    (doomed,) = bench.banned("doomed")
    bench.reclaimer._publisher.publish_due()
    assert bench.reclaimer.report(doomed).rows_dropped == 0
    for counted, shown in ((5, 5), (13, 13), (99, 13)):
        monkeypatch.setattr(bench.store, "dropped", lambda _id, counted=counted: Dropped(counted, 10 * counted))
        assert bench.reclaimer.report(doomed).rows_dropped == shown
