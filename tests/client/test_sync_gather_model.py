# Generated from tests/client/test_aio_gather_model.py by tools/async_to_sync.py; do not edit.
"""Goal: whatever is called, and by however many at once, gathered calls do what calls made one by one would have done.

Method: against a real server, many workers with keys of their own compare every answer with a dict; two clients, one
that gathers and one that does not, get the same random calls; and a server dies and comes back under load.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from prefixdb import connect
from prefixdb.client.sync.database import Database
from prefixdb.errors import ConflictError, KeyNotFoundError, PrefixdbError, UnavailableError
from prefixdb.limits import KEY_BYTES_MAX, KIB
from prefixdb.testing import Namespace, ServerProcess
from tests.client.harness import sync_gather, sync_test

pytestmark = pytest.mark.usefixtures("gathered")

DRAIN_S = 8
"""What a server gives running calls when it is told to end."""

WORKERS = 24
STEPS = 60


def value_of(dice: random.Random) -> bytes:
    """Return a value, now and then a large one, which goes alone."""
    return dice.randbytes(dice.choice((0, 1, 20, 20, 20, 1000, 300 * KIB if dice.random() < 0.05 else 50)))


def step(db: Database, dice: random.Random, keys: list[str], rows: dict[str, tuple[int, bytes]]) -> None:
    """Make one random call and hold its answer against ``rows``: key to version and value."""
    key = dice.choice(keys)
    version, value = rows.get(key, (0, b""))
    choice = dice.randrange(9)
    if choice == 0:
        assert db.get(key) == (value if version else None)
    elif choice == 1:
        row = db.get_row(key)
        assert (row is None) == (version == 0)
        assert row is None or (row.key, row.version, row.value) == (key.encode(), version, value)
    elif choice == 2:
        assert db.exists(key) == bool(version)
    elif choice == 3:
        try:
            assert db[key] == value
            assert version
        except KeyNotFoundError:
            assert not version
    elif choice in {4, 5, 6}:
        condition: dict[str, Any] = dice.choice(
            ({}, {"if_absent": True}, {"if_exists": True}, {"if_value": value}, {"if_version": version or 1})
        )
        holds = {"if_absent": not version, "if_exists": bool(version), "if_value": bool(version)}
        expected = all(holds.get(name, bool(version)) for name in condition)
        fresh = value_of(dice)
        try:
            rows[key] = (db.put(key, fresh, ttl=dice.choice((None, 3600)), **condition), fresh)
            assert expected
        except ConflictError as failure:
            assert not expected
            assert failure.metadata["current_version"] == str(version)
    else:
        condition = dice.choice(({}, {"if_exists": True}, {"if_version": version or 1}))
        try:
            db.delete(key, **condition)
            assert version or not condition
            rows.pop(key, None)
        except ConflictError:
            assert condition and not version


@pytest.mark.parametrize("seed", [1, 2])
@sync_test
def test_workers_with_keys_of_their_own_see_what_they_did(place: Namespace, seed: int) -> None:
    with place.connect() as db:

        def work(number: int) -> None:
            dice = random.Random(f"{seed}/{number}")
            view = db.database(number % 3).with_deadline(30)
            rows: dict[str, tuple[int, bytes]] = {}
            for _ in range(STEPS):
                step(view, dice, [f"{number}/{name}" for name in "abc"], rows)

        sync_gather(work, WORKERS)


def call_of(dice: random.Random) -> Callable[[Database], Any]:
    """Return a random call, one that the server or the client refuses among them."""
    key: Any = dice.choice(("a", "b", b"c", b"", b"k" * (KEY_BYTES_MAX + 1), "\ud800", 7))
    value: Any = dice.choice((b"", b"1", bytes(1000), "text", bytes((1 << 20) + 1)))
    condition = dice.choice(({}, {}, {"if_absent": True}, {"if_exists": True}, {"if_value": b"1"}, {"if_version": 0}))
    shared: dict[str, Any] = {name: test for name, test in condition.items() if name != "if_absent"}
    ttl: Any = dice.choice((None, None, 1000, 0, "1h"))
    return dice.choice(
        (
            lambda db: db.get(key),
            lambda db: db.exists(key),
            lambda db: db[key],
            lambda db: db.put(key, value, ttl=ttl, **condition),
            lambda db: db.delete(key, **shared),
        )
    )


@sync_test
def test_both_ways_give_the_same_answers_and_errors(place: Namespace) -> None:
    alone = connect(place.server.endpoint, token_file=place.token_file, gather=False)
    with place.connect() as one, alone as other:
        dice = random.Random(11)
        applied = 0
        for _ in range(400):
            call = call_of(dice)
            outcomes = []
            for db in (one.database(1), other.database(2)):
                try:
                    answer = call(db)
                    outcomes.append(answer if not isinstance(answer, int) or isinstance(answer, bool) else "version")
                except (PrefixdbError, TypeError) as failure:
                    reason = getattr(failure, "reason", None)
                    text = str(failure) if not isinstance(failure, ConflictError) else "conflict"
                    names = sorted(getattr(failure, "metadata", {}))
                    outcomes.append((type(failure), reason, text, names, getattr(failure, "retry_after_ms", None)))
            assert outcomes[0] == outcomes[1]
            applied += outcomes[0] == "version"
        left = {key: value for key, value in one.database(1).scan()}
        assert left == {key: value for key, value in other.database(2).scan()}
        assert applied > 20


def reach(db: Database) -> None:
    """Return when the server answers again: gRPC waits for a while before it tries to connect once more."""
    while True:
        try:
            db.exists("k")
        except UnavailableError:
            continue
        return


@sync_test
def test_a_server_that_dies_under_load_loses_nothing_it_acknowledged(own_server: ServerProcess) -> None:
    with own_server.create_namespace().connect(deadline_s=30) as db:
        restarts: list[str] = []
        acknowledged, tried = [-1] * 12, [-1] * 12

        def check(number: int) -> None:
            assert acknowledged[number] <= int(db.get(f"{number}") or b"-1") <= tried[number]

        def work(number: int) -> None:
            for value in range(200):
                if number == 0 and value in {60, 120}:
                    own_server.kill()
                    own_server.start()
                    restarts.append("died")
                try:
                    tried[number] = value
                    db.put(f"{number}", b"%d" % value)
                    acknowledged[number] = value
                    if value % 7 == 0:
                        check(number)
                except UnavailableError:
                    # While the server is away nothing gets through; OutcomeUnknownError is one of these.
                    continue

        sync_gather(work, 12)
        reach(db)
        sync_gather(check, 12)
        assert restarts == ["died", "died"]


@sync_test
def test_an_open_stream_keeps_no_server_from_ending_and_calls_go_on_with_the_next(
    own_server: ServerProcess,
) -> None:
    with own_server.create_namespace().connect(deadline_s=30) as db:
        sync_gather(lambda number: db.put(str(number), b"v"), 8)
        begun_at_s = time.monotonic()
        assert own_server.stop() == 0
        assert time.monotonic() - begun_at_s < DRAIN_S, "it does not wait for a stream on which nothing is under way"
        own_server.start()
        reach(db)
        assert sync_gather(lambda number: db.get(str(number)), 8) == [b"v"] * 8
