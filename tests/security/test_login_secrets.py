"""Goal: who tries passwords learns nothing but whether name and password are right together: not who exists, not where.

Method: one refused login of every kind is compared with every other, byte for byte, and by what it costs: the calls of
the hash are counted, and their parameters read out of the hash itself. Times are compared too, as the best of several
and by a factor that a missing hash would break many times over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from argon2 import extract_parameters

from prefixdb import limits
from prefixdb.catalog.entities import GrantEffect, NamespaceState
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.rpcstatus import DETAILS_KEY
from prefixdb.service import hashing as hashing_module
from prefixdb.v1 import auth_pb2 as pb
from tests.support.server import PASSWORD, RunningServer, reference, running

WRONG = "a wrong password"
ALIKE = 1.8
"""Factor between the times of two kinds. A login that skips its hash is answered twenty times as fast."""

Scenario = Callable[[RunningServer, dict[str, pb.LoginRequest]], Awaitable[None]]


async def refusals(server: RunningServer) -> dict[str, pb.LoginRequest]:
    """Return one login of every kind that must be refused alike."""
    registry, identities = server.app.registry, server.app.authority.identities
    acme, suspended, banned = server.create("acme"), server.create("suspended"), server.create("banned")
    for namespace in (acme, suspended, banned, 0):
        server.member(namespace, "alice")
        server.member(namespace, "empty", "")
        server.member(namespace, "disabled")
        home_id = namespace if isinstance(namespace, int) else namespace.id
        await asyncio.to_thread(lambda home_id=home_id: identities.members.update(home_id, "disabled", disabled=True))
    identities.grants.set("alice", acme, GrantEffect.ALLOW, ("readers",))
    await asyncio.to_thread(registry.suspend, suspended.id, NamespaceState.SUSPENDED, "")
    await asyncio.to_thread(registry.ban, banned.id, by="test", grace_ms=3_600_000)
    found = {
        "unknown name": pb.LoginRequest(namespace=reference("nowhere"), user="alice", password=PASSWORD),
        "unknown id": pb.LoginRequest(namespace=reference(12345), user="alice", password=PASSWORD),
        "impossible id": pb.LoginRequest(namespace=reference(2**64 - 1), user="alice", password=PASSWORD),
        "right password, unknown home, into": pb.LoginRequest(
            namespace=reference("nowhere"), user="alice", password=PASSWORD, into=reference(acme)
        ),
        "longest password": pb.LoginRequest(user="alice", password="x" * limits.PASSWORD_BYTES_MAX),
        "no password": pb.LoginRequest(user="alice"),
        "no user": pb.LoginRequest(password=PASSWORD),
        "odd user": pb.LoginRequest(user="alice\0", password=PASSWORD),
        "another case": pb.LoginRequest(user="Alice", password=PASSWORD),
        "long user": pb.LoginRequest(user="u" * 50_000, password=PASSWORD),
    }
    for name, home in (("0", None), ("acme", acme), ("suspended", suspended), ("banned", banned)):
        place = {} if home is None else {"namespace": reference(home)}
        found |= {
            f"unknown member of {name}": pb.LoginRequest(user="nobody", password=PASSWORD, **place),
            f"wrong password in {name}": pb.LoginRequest(user="alice", password=WRONG, **place),
            f"without a password in {name}": pb.LoginRequest(user="empty", password=PASSWORD, **place),
            f"empty password in {name}": pb.LoginRequest(user="empty", **place),
            f"disabled in {name}": pb.LoginRequest(user="disabled", password=PASSWORD, **place),
            f"wrong password, into, in {name}": pb.LoginRequest(
                user="alice", password=WRONG, into=reference("nowhere"), **place
            ),
        }
    return found


def play(tmp_path: Path, scenario: Scenario) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            await scenario(server, await refusals(server))

    asyncio.run(main())


async def answer(server: RunningServer, request: pb.LoginRequest) -> tuple[Any, ...]:
    """Return everything a client is told of a refused login."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.nobody().auth.Login(request, timeout=10)
    failure = caught.value
    trailing = tuple(failure.trailing_metadata() or ())
    assert {name for name, _ in trailing} <= {DETAILS_KEY, "grpc-status-details-bin"}
    return failure.code(), failure.details(), tuple(failure.initial_metadata() or ()), trailing


def test_every_refused_login_is_the_same_answer_at_the_same_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent: list[Any] = []
    verify = hashing_module.verify_password

    def counted(password_hash: str, password: str) -> bool:
        spent.append(extract_parameters(password_hash))
        return verify(password_hash, password)

    monkeypatch.setattr(hashing_module, "verify_password", counted)

    async def scenario(server: RunningServer, kinds: dict[str, pb.LoginRequest]) -> None:
        answers = {}
        costs = {}
        for kind, request in kinds.items():
            server.forgive()
            spent.clear()
            answers[kind] = await answer(server, request)
            costs[kind] = list(spent)
        expected = answers["wrong password in acme"]
        assert expected[0] is grpc.StatusCode.UNAUTHENTICATED
        assert expected[1] == Reason.BAD_CREDENTIALS.value.summary
        assert {kind: told for kind, told in answers.items() if told != expected} == {}
        assert all(len(cost) == 1 and cost == costs["wrong password in acme"] for cost in costs.values()), costs

    play(tmp_path, scenario)


def test_every_refused_login_takes_the_same_time(tmp_path: Path) -> None:
    kinds_timed = ("wrong password in acme", "unknown member of acme", "unknown name", "without a password in acme",
                   "disabled in acme", "wrong password in banned")  # fmt: skip

    async def scenario(server: RunningServer, kinds: dict[str, pb.LoginRequest]) -> None:
        best = dict.fromkeys(kinds_timed, 10.0)
        for _ in range(12):
            for kind in kinds_timed:
                server.forgive()
                started = time.perf_counter()
                await answer(server, kinds[kind])
                best[kind] = min(best[kind], time.perf_counter() - started)
        assert max(best.values()) < ALIKE * min(best.values()), best
        assert min(best.values()) > 0.005, "no password was hashed"

    play(tmp_path, scenario)


def test_how_often_one_may_try_tells_nothing_either(tmp_path: Path) -> None:
    async def scenario(server: RunningServer, kinds: dict[str, pb.LoginRequest]) -> None:
        counted = {}
        for kind in (
            "wrong password in acme",
            "unknown member of acme",
            "unknown name",
            "disabled in acme",
            "odd user",
        ):
            server.forgive()
            tries = 0
            while (told := await answer(server, kinds[kind]))[0] is grpc.StatusCode.UNAUTHENTICATED:
                tries += 1
            counted[kind] = (tries, told[0], told[1])
        assert set(counted.values()) == {(6, grpc.StatusCode.RESOURCE_EXHAUSTED, counted["odd user"][2])}

    play(tmp_path, scenario)


def test_two_names_of_one_namespace_are_not_told_to_be_one_by_the_delay(tmp_path: Path) -> None:
    async def scenario(server: RunningServer, kinds: dict[str, pb.LoginRequest]) -> None:
        acme = server.app.registry.find("acme")
        assert acme is not None
        for _ in range(6):
            await answer(server, pb.LoginRequest(namespace=reference("acme"), user="alice", password=WRONG))
        by_id = await answer(server, pb.LoginRequest(namespace=reference(acme), user="alice", password=WRONG))
        assert by_id[0] is grpc.StatusCode.UNAUTHENTICATED
        by_name = await answer(server, pb.LoginRequest(namespace=reference("acme"), user="alice", password=PASSWORD))
        assert by_name[0] is grpc.StatusCode.RESOURCE_EXHAUSTED

    play(tmp_path, scenario)


def test_the_state_of_a_namespace_is_told_after_the_right_password_only(tmp_path: Path) -> None:
    async def scenario(server: RunningServer, kinds: dict[str, pb.LoginRequest]) -> None:
        for home, reason in (("suspended", Reason.NAMESPACE_SUSPENDED), ("banned", Reason.NAMESPACE_BANNED)):
            with pytest.raises(PrefixdbError) as caught:
                await server.login("alice", home=home)
            assert caught.value.reason is reason
            with pytest.raises(PrefixdbError) as caught:
                await server.login("alice", WRONG, home=home)
            assert caught.value.reason is Reason.BAD_CREDENTIALS

    play(tmp_path, scenario)


def test_a_namespace_that_is_not_granted_and_one_that_is_not_are_one_answer_to_a_member(tmp_path: Path) -> None:
    async def scenario(server: RunningServer, kinds: dict[str, pb.LoginRequest]) -> None:
        server.create("hidden", 4711)
        places = [reference(place) for place in ("hidden", 4711, "nowhere", 4712, "banned", 2**64 - 1)]
        logins = [await answer(server, pb.LoginRequest(user="alice", password=PASSWORD, into=into)) for into in places]
        assert len(set(logins)) == 1 and logins[0][0] is grpc.StatusCode.PERMISSION_DENIED
        alice = await server.login("alice")
        exchanges = []
        for place in places:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await alice.auth.Exchange(pb.ExchangeRequest(namespace=place), metadata=alice.metadata, timeout=10)
            exchanges.append((caught.value.code(), caught.value.details(), caught.value.trailing_metadata()))
        assert len(set(map(str, exchanges))) == 1 and exchanges[0][0] is grpc.StatusCode.PERMISSION_DENIED

    play(tmp_path, scenario)
