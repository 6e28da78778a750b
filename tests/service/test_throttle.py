"""Goal: passwords are tried as slowly as the page on security says, whoever tries them, and nobody else waits.

Method: the throttle alone under a clock that is held; what the delays must be is written down by hand.
"""

from __future__ import annotations

import contextlib

import pytest

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.service import throttle as module
from prefixdb.service.throttle import Throttle, address_of

HERE = "ipv4:10.0.0.1:4000"


class Bench:
    """A throttle and its time."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.throttle = Throttle(lambda: self.now)

    def fail(self, home: str = "#0", user: str = "alice", peer: str = HERE) -> None:
        with self.throttle.attempt(home, user, peer) as attempt:
            attempt.wrong()

    def succeed(self, home: str = "#0", user: str = "alice", peer: str = HERE) -> None:
        with self.throttle.attempt(home, user, peer) as attempt:
            attempt.right()

    def wait_ms(self, home: str = "#0", user: str = "alice", peer: str = HERE) -> int:
        """Return how long a try is told to wait, 0 when it is let in (and then counts for nothing)."""
        try:
            with self.throttle.attempt(home, user, peer):
                return 0
        except PrefixdbError as refusal:
            assert refusal.reason is Reason.RATE_LIMITED and refusal.retry_after_ms
            return refusal.retry_after_ms


def test_five_failures_of_a_member_are_free_and_then_the_delay_doubles_up_to_a_minute() -> None:
    bench = Bench()
    for number in range(5):
        assert bench.wait_ms() == 0, number
        bench.fail()
    delays = []
    for number in range(9):
        assert bench.wait_ms() == 0
        bench.fail(peer=f"ipv4:10.1.0.{number}:1")
        delays.append(bench.wait_ms(peer="ipv4:10.2.0.1:1"))
        bench.now += delays[-1] / 1000
    assert delays == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]


def test_twenty_failures_of_an_address_are_free_whatever_the_names_and_then_it_waits_half_a_minute_at_most() -> None:
    bench = Bench()
    for number in range(20):
        assert bench.wait_ms(user="next") == 0, number
        bench.fail(user=f"user-{number}")
    delays = []
    for number in range(8):
        bench.fail(user=f"more-{number}")
        delays.append(bench.wait_ms(user="next"))
        assert bench.wait_ms(user="next", peer="ipv4:10.0.0.2:4000") == 0, "another address waits"
        bench.now += delays[-1] / 1000
    assert delays == [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]


def test_whoever_fails_elsewhere_does_not_lock_a_member_out_where_it_has_logged_in() -> None:
    bench, usual = Bench(), "ipv4:10.9.0.1:1"
    bench.succeed(peer=usual)
    for number in range(12):
        bench.now += bench.wait_ms(peer="ipv4:10.2.0.1:1") / 1000
        bench.fail(peer=f"ipv4:10.1.0.{number}:1")
    assert bench.wait_ms(peer="ipv4:10.2.0.1:1") == 60_000
    assert bench.wait_ms(peer="ipv4:10.9.0.1:77") == 0, "another port is the same address"
    assert bench.wait_ms(peer=usual, user="bob") == 0
    bench.succeed(peer=usual)
    assert bench.wait_ms(peer="ipv4:10.2.0.1:1") == 60_000, "a login there gave the others elsewhere new tries"


def test_where_a_member_has_logged_in_passwords_are_tried_no_faster() -> None:
    bench = Bench()
    bench.succeed()
    for number in range(5):
        assert bench.wait_ms() == 0, number
        bench.fail()
    bench.fail()
    assert bench.wait_ms() == 1_000
    assert bench.wait_ms(user="bob") == 0 and bench.wait_ms(home="acme") == 0


def test_the_places_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES_MAX", 3)
    bench = Bench()
    for number in range(5):
        bench.succeed(user=f"user-{number}")
    assert len(bench.throttle._usual) == 3
    bench.fail(user="user-0", peer="ipv4:10.1.0.1:1")
    assert len(bench.throttle._usual) == 3


def test_the_delay_runs_out_and_a_try_during_it_does_not_prolong_it() -> None:
    bench = Bench()
    for _ in range(6):
        bench.fail()
    bench.now += 0.6
    assert bench.wait_ms() == 400
    with pytest.raises(PrefixdbError):
        bench.succeed()
    bench.now += 0.4
    assert bench.wait_ms() == 0


def test_a_success_forgets_the_members_failures_and_never_the_addresss() -> None:
    bench = Bench()
    for _ in range(5):
        bench.fail()
    bench.succeed()
    for _ in range(5):
        bench.fail()
        assert bench.wait_ms() == 0
    for number in range(10):
        bench.fail(user=f"user-{number}")
    bench.succeed(user="mallory")
    bench.fail(user="one-more")
    assert bench.wait_ms(user="anybody") == 1_000


def test_members_of_the_same_name_in_two_homes_and_names_that_run_together_are_counted_apart() -> None:
    bench = Bench()
    for number in range(6):
        bench.fail(home="acme", user="alice", peer=f"ipv4:10.1.0.{number}:1")
    assert bench.wait_ms(home="acme", user="alice") == 1_000
    for home, user in (("other", "alice"), ("acme", "bob"), ("acmea", "lice"), ("", "acmealice"), ("#0", "alice")):
        assert bench.wait_ms(home=home, user=user) == 0, (home, user)


def test_tries_that_are_under_way_count_so_that_a_crowd_gets_no_more_free_tries_than_a_single_one() -> None:
    bench = Bench()
    with contextlib.ExitStack() as stack:
        attempts = [stack.enter_context(bench.throttle.attempt("#0", "alice", HERE)) for _ in range(5)]
        assert bench.wait_ms() == 1_000
        for attempt in attempts:
            attempt.wrong()
    assert bench.wait_ms() == 0, "five failures are free"
    with bench.throttle.attempt("#0", "alice", HERE):
        assert bench.wait_ms() == 1_000, "from here on one at a time"
    with contextlib.ExitStack() as stack:
        for number in range(20):
            stack.enter_context(bench.throttle.attempt("#0", f"user-{number}", "ipv4:10.0.0.9:1"))
        assert bench.wait_ms(user="other", peer="ipv4:10.0.0.9:2") == 1_000
        assert bench.wait_ms(user="other") == 0


def test_a_try_whose_outcome_nobody_found_out_counts_for_nothing() -> None:
    bench = Bench()
    for _ in range(50):
        with pytest.raises(RuntimeError), bench.throttle.attempt("#0", "alice", HERE):
            raise RuntimeError
    assert bench.wait_ms() == 0
    assert len(bench.throttle._members) == len(bench.throttle._addresses) == 0, "entries stay behind"


def test_a_quiet_quarter_of_an_hour_forgets_and_no_less() -> None:
    bench = Bench()
    for _ in range(6):
        bench.fail()
    bench.now += module.FORGOTTEN_S - 0.1
    bench.fail()
    assert bench.wait_ms() == 2_000
    bench.now += module.FORGOTTEN_S
    for _ in range(5):
        bench.fail()
        assert bench.wait_ms() == 0


def test_the_tables_are_bounded_and_keep_what_was_touched_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES_MAX", 10)
    bench = Bench()
    for _ in range(5):
        bench.fail(user="kept")
    for number in range(30):
        assert bench.wait_ms(user="kept") == 0
        bench.fail(user=f"user-{number}", peer=f"ipv4:10.0.{number}.1:1")
    assert len(bench.throttle._members) == len(bench.throttle._addresses) == 10
    bench.fail(user="kept")
    assert bench.wait_ms(user="kept") == 1_000, "what was touched all the time was forgotten"


def test_how_long_a_name_is_plays_no_part_in_what_is_kept() -> None:
    bench = Bench()
    bench.fail(home="h" * 30_000, user="u" * 30_000)
    (entry,) = bench.throttle._members._entries
    assert len(entry) == 32
    bench.fail(user="\ud800")


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:4000", "10.0.0.1"),
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("ipv6:%5B2001:db8::1%5D:4000", "2001:db8::/64"),
        ("ipv6:[2001:db8::ffff:1]:1", "2001:db8::/64"),
        ("ipv6:[2001:db8:0:1::1]:1", "2001:db8:0:1::/64"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:7", "10.0.0.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:7", "fe80::/64"),
        ("unix:", "local"),
        ("unix:/run/prefixdb.sock", "local"),
        ("unix-abstract:x", "local"),
        ("", "unknown"),
        ("ipv4:nonsense", "unknown"),
        ("vsock:3:4", "unknown"),
    ],
)
def test_an_address_is_a_host_and_an_ipv6_site_is_one(peer: str, address: str) -> None:
    assert address_of(peer) == address
