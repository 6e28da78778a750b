"""Goal: once a change has been answered, no call that begins afterwards is let in under what was before, on connections
and streams that are hot with calls; and nobody else notices.

Method: a real server. Callers read and write as fast as they can, one call after the other, each noting when it began.
In a thread something they stand on is changed, and the moment is noted at which the change returns to its maker. A call
that began after it and succeeds is the failure. A neighbour calls all the while and must never be refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from prefixdb.catalog.entities import GrantEffect, NamespaceRecord, NamespaceState, Privilege, Rule
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.rpcstatus import from_message
from prefixdb.v1 import key_value_pb2 as pb
from tests.support.server import WAIT_S, Caller, RunningServer, eventually, running, translated

KEY = b"0001"
ALL = (Rule(None, b"", read=True, write=True),)
OTHERS = (Rule(None, b"9", read=True, write=True),)

DROPPED = frozenset({Reason.NAMESPACE_BANNED})
SUSPENDED = frozenset({Reason.NAMESPACE_SUSPENDED})
DENIED = frozenset({Reason.NOT_PERMITTED})
DEAD = frozenset({Reason.TOKEN_REVOKED})


@dataclass
class Hot:
    """Somebody who calls without a pause.

    begun: when each call that succeeded began. refused: why the last one was. broken: what nobody expected.
    """

    call: Callable[[], Awaitable[Any]]
    begun: list[int] = field(default_factory=list)
    refused: Reason | None = None
    broken: Exception | None = None

    async def run(self) -> None:
        while self.refused is None:
            began = time.perf_counter_ns()
            try:
                await self.call()
            except PrefixdbError as refusal:
                self.refused = refusal.reason
            except Exception as failure:
                self.broken = failure
                raise
            else:
                self.begun.append(began)


def reading(caller: Caller) -> list[Callable[[], Awaitable[Any]]]:
    """Return the ways to read a key that is there, each raising when it is not found."""

    async def get() -> None:
        assert (await caller.call(caller.key_value.Get, pb.GetRequest(key=KEY))).found

    async def batch() -> None:
        assert (await caller.call(caller.key_value.BatchGet, pb.BatchGetRequest(keys=[KEY]))).results[0].found

    async def scan() -> None:
        assert await caller.pages(caller.key_value.Scan, pb.ScanRequest(range=pb.KeyRange(prefix=b"0"), limit=1))

    return [get, batch, scan, piped(caller, pb.Operation(get=pb.GetRequest(key=KEY)))]


def writing(caller: Caller) -> list[Callable[[], Awaitable[Any]]]:
    """Return the ways to write."""

    async def put() -> None:
        assert (await caller.call(caller.key_value.Put, pb.PutRequest(key=KEY, value=b"v"))).applied

    return [put, piped(caller, pb.Operation(put=pb.PutRequest(key=KEY, value=b"v")))]


def piped(caller: Caller, operation: pb.Operation) -> Callable[[], Awaitable[Any]]:
    """Return a call that sends one operation over a Pipeline that stays open."""
    streams: list[Any] = []

    async def send() -> None:
        if not streams:
            streams.append(caller.key_value.Pipeline(metadata=caller.metadata))
        with translated():
            try:
                await streams[0].write(pb.PipelineRequest(operations=[operation]))
                answer = await streams[0].read()
            except asyncio.InvalidStateError:  # It has ended before this was sent.
                answer = None
            if not isinstance(answer, pb.PipelineResponse):
                answer = await streams[0].read()  # Raises why.
        result = answer.results[0]
        if result.HasField("error"):
            raise from_message(result.error)

    async def send_or_ask_why() -> None:
        """grpcio's client puts a status of its own in the place of the server's when the end of a stream meets a write;
        what the server has to say is heard on a stream that nothing is written to."""
        try:
            await send()
        except PrefixdbError as refusal:
            if refusal.message != "Internal error from Core":
                raise
            with translated():
                await asyncio.wait_for(caller.key_value.Pipeline(metadata=caller.metadata).read(), WAIT_S)

    return send_or_ask_why


@dataclass(frozen=True)
class Case:
    """What is changed, in a thread, and how the callers are then refused. who: which of ``callers``."""

    act: Callable[[RunningServer, NamespaceRecord], object]
    refused: frozenset[Reason]
    who: str = "member"
    only_writes: bool = False


def people(server: RunningServer) -> Any:
    return server.app.authority.identities


def jti(server: RunningServer, acme: NamespaceRecord) -> str:
    return next(record.jti for record in server.app.authority.list(acme.id) if record.subject == "robot")


CASES = {
    "a ban": Case(lambda s, acme: s.app.registry.ban(acme.id, by="root"), DROPPED),
    "a suspension": Case(lambda s, acme: s.app.registry.suspend(acme.id, NamespaceState.SUSPENDED), SUSPENDED),
    "read only": Case(
        lambda s, acme: s.app.registry.suspend(acme.id, NamespaceState.READ_ONLY),
        frozenset({Reason.READ_ONLY}),
        only_writes=True,
    ),
    "a member is disabled": Case(lambda s, acme: people(s).members.update(acme.id, "ann", disabled=True), DEAD),
    "a member goes": Case(lambda s, acme: people(s).members.delete(acme.id, "ann"), DEAD),
    "a member leaves a group": Case(lambda s, acme: people(s).members.update(acme.id, "ann", groups=()), DENIED),
    "a login ends": Case(lambda s, acme: people(s).logins.end_all(acme.id, "ann"), DEAD),
    "a group is narrowed": Case(lambda s, acme: people(s).groups.update(acme.id, "own", OTHERS), DENIED),
    "a grant is taken back": Case(lambda s, acme: people(s).grants.delete("gus", acme.id), DENIED, "guest"),
    "a guest is denied": Case(lambda s, acme: people(s).grants.set("gus", None, GrantEffect.DENY), DENIED, "guest"),
    "a guest is disabled": Case(lambda s, acme: people(s).members.update(0, "gus", disabled=True), DEAD, "guest"),
    "a token is revoked": Case(lambda s, acme: s.app.authority.revoke_jti(acme.id, jti(s, acme)), DEAD, "robot"),
    "a namespace's tokens are revoked": Case(lambda s, acme: s.app.authority.revoke_namespace(acme.id), DEAD, "robot"),
}


async def callers(server: RunningServer, acme: NamespaceRecord) -> dict[str, Caller]:
    people(server).groups.create(acme.id, "own", ALL)
    server.member(acme, "ann", groups=("own",))
    server.member(0, "gus", groups=())
    people(server).grants.set("gus", acme, GrantEffect.ALLOW, ("own",))
    people(server).members.update(0, "gus", privileges=(Privilege.NAMESPACES_USE,))
    return {
        "member": await server.login("ann", home=acme),
        "guest": await server.login("gus", into=acme),
        "robot": server.caller(acme, subject="robot", groups=("own",)),
    }


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_no_call_that_begins_after_a_change_was_answered_is_let_in_as_before(tmp_path: Path, case: Case):
    async def act() -> None:
        async with running(tmp_path / "data") as server:
            acme, beta = server.create("acme"), server.create("beta")
            caller = (await callers(server, acme))[case.who]
            neighbour = server.caller(beta, groups=("writers",))
            for somebody in (caller, neighbour):
                await somebody.call(somebody.key_value.Put, pb.PutRequest(key=KEY, value=b"v"))
            ways = writing(caller) if case.only_writes else [*reading(caller), *writing(caller)]
            hot = [Hot(way) for way in ways]
            others = [Hot(way) for way in [*reading(neighbour)[:1], *writing(neighbour)]]
            tasks = [asyncio.create_task(each.run()) for each in (*hot, *others)]
            everybody = (*hot, *others)
            await eventually(lambda: all(each.broken or len(each.begun) > 20 for each in everybody), "everybody calls")
            assert [each.broken for each in everybody] == [None for _ in everybody]

            def change() -> int:
                case.act(server, acme)
                return time.perf_counter_ns()

            answered = await asyncio.to_thread(change)
            await eventually(lambda: all(each.refused or each.broken for each in hot), "everybody is refused")
            seen = [len(each.begun) for each in others]
            await eventually(
                lambda: all(len(o.begun) > s + 5 for o, s in zip(others, seen, strict=True)), "others call"
            )
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert [each.broken for each in everybody] == [None for _ in everybody]
            late = [[began - answered for began in each.begun if began > answered] for each in hot]
            assert late == [[] for _ in hot]
            assert {each.refused for each in hot} <= case.refused
            assert [each.refused for each in others] == [None for _ in others]

    asyncio.run(act())


def test_a_name_and_labels_change_under_writers_who_notice_nothing(tmp_path: Path):
    """The guard of the namespace's row changes with each: writers are admitted again, and none is refused."""

    async def act() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            caller = server.caller(acme, groups=("writers",))
            hot = [Hot(way) for way in writing(caller)]
            tasks = [asyncio.create_task(each.run()) for each in hot]
            for step in range(20):
                await asyncio.to_thread(
                    lambda step=step: server.app.registry.update(
                        acme.id, name=f"acme{step}", labels={"step": str(step)}
                    )
                )
                seen = [len(each.begun) for each in hot]
                await eventually(
                    lambda seen=seen: all(e.refused or len(e.begun) > s for e, s in zip(hot, seen, strict=True)),
                    "writes",
                )
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert [each.refused for each in hot] == [None, None]

    asyncio.run(act())
