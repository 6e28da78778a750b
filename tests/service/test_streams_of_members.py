"""Goal: a stream ends within a second when its member's rights end, and nobody else's stream is touched.

Method: a real server; a member and a guest, with an idle Pipeline and a Scan that is blocked in a write to a client who
does not read. Then one thing they stand on is taken away. Beside them run streams of those who stand on other things;
afterwards each must still answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from prefixdb.catalog.entities import GrantEffect, NamespaceRecord, Rule
from prefixdb.catalog.passwords import hash_password
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.service import key_value
from prefixdb.service.batch_read import STEP_KEYS_MAX
from prefixdb.v1 import auth_pb2
from prefixdb.v1 import key_value_pb2 as pb
from tests.service.test_streams import CUT_S_MAX, UNREAD_MIB, end_of, fill, idle_pipeline, unread_scan
from tests.support.server import Caller, RunningServer, eventually, running

Act = Callable[[RunningServer, NamespaceRecord, Caller], Awaitable[Any]]

EVERYTHING = (Rule(None, b"", read=True, write=False),)
NARROWER = (Rule(None, b"0001", read=True, write=False),)


def identities(server: RunningServer) -> Any:
    return server.app.authority.identities


async def narrow_the_group(server: RunningServer, acme: NamespaceRecord, caller: Caller) -> None:
    await asyncio.to_thread(identities(server).groups.update, acme.id, "own", NARROWER)


async def delete_the_group(server: RunningServer, acme: NamespaceRecord, caller: Caller) -> None:
    await asyncio.to_thread(identities(server).groups.delete, acme.id, "own")


async def leave_the_group(server: RunningServer, acme: NamespaceRecord, caller: Caller) -> None:
    await asyncio.to_thread(lambda: identities(server).members.update(acme.id, "alice", groups=()))


async def disable(server: RunningServer, acme: NamespaceRecord, caller: Caller) -> None:
    await asyncio.to_thread(lambda: identities(server).members.update(acme.id, "alice", disabled=True))


async def remove(server: RunningServer, acme: NamespaceRecord, caller: Caller) -> None:
    await asyncio.to_thread(identities(server).members.delete, acme.id, "alice")


async def set_password(server: RunningServer, acme: NamespaceRecord, caller: Caller) -> None:
    hashed = hash_password("another password")
    await asyncio.to_thread(identities(server).members.set_password, acme.id, "alice", hashed)


async def log_out(server: RunningServer, acme: NamespaceRecord, caller: Caller) -> None:
    request = auth_pb2.LogoutRequest(refresh_token=caller.tokens.refresh_token)
    await caller.call(caller.auth.Logout, request)


async def use_a_refresh_token_twice(server: RunningServer, acme: NamespaceRecord, caller: Caller) -> None:
    await caller.refreshed()
    with pytest.raises(PrefixdbError):
        await caller.refreshed()


async def take_the_grant_back(server: RunningServer, acme: NamespaceRecord, caller: Caller) -> None:
    await asyncio.to_thread(identities(server).grants.delete, "alice", acme.id)


async def deny(server: RunningServer, acme: NamespaceRecord, caller: Caller) -> None:
    await asyncio.to_thread(identities(server).grants.set, "alice", acme, GrantEffect.DENY, ())


async def deny_everywhere(server: RunningServer, acme: NamespaceRecord, caller: Caller) -> None:
    await asyncio.to_thread(identities(server).grants.set, "alice", None, GrantEffect.DENY, ())


async def grant_other_groups(server: RunningServer, acme: NamespaceRecord, caller: Caller) -> None:
    await asyncio.to_thread(identities(server).grants.set, "alice", acme, GrantEffect.ALLOW, ("nobody",))


async def disable_at_home(server: RunningServer, acme: NamespaceRecord, caller: Caller) -> None:
    await asyncio.to_thread(lambda: identities(server).members.update(0, "alice", disabled=True))


MEMBER_ACTS: dict[Act, Reason] = {
    delete_the_group: Reason.NOT_PERMITTED,
    leave_the_group: Reason.NOT_PERMITTED,
    disable: Reason.TOKEN_REVOKED,
    remove: Reason.TOKEN_REVOKED,
    set_password: Reason.TOKEN_REVOKED,
    log_out: Reason.TOKEN_REVOKED,
    use_a_refresh_token_twice: Reason.TOKEN_REVOKED,
}
GUEST_ACTS: dict[Act, Reason] = {
    delete_the_group: Reason.NOT_PERMITTED,
    take_the_grant_back: Reason.NOT_PERMITTED,
    deny: Reason.NOT_PERMITTED,
    deny_everywhere: Reason.NOT_PERMITTED,
    grant_other_groups: Reason.NOT_PERMITTED,
    disable_at_home: Reason.TOKEN_REVOKED,
    log_out: Reason.TOKEN_REVOKED,
}
CASES = [("member", act, reason) for act, reason in MEMBER_ACTS.items()]
CASES += [("guest", act, reason) for act, reason in GUEST_ACTS.items()]
SCAN_CASES = [*CASES, *((kind, narrow_the_group, Reason.NOT_PERMITTED) for kind in ("member", "guest"))]


async def victim(server: RunningServer, acme: NamespaceRecord, kind: str) -> Caller:
    """Return alice, a member of the namespace or a guest in it, who reads through the group ``own``."""
    identities(server).groups.create(acme.id, "own", EVERYTHING)
    if kind == "member":
        server.member(acme, "alice", groups=("own",))
        return await server.login("alice", home=acme)
    server.member(0, "alice", groups=("readers",))
    identities(server).grants.set("alice", acme, GrantEffect.ALLOW, ("own",))
    return await server.login("alice", into=acme)


async def bystanders(server: RunningServer, acme: NamespaceRecord) -> list[Any]:
    """Return idle Pipelines of those who stand on other things, some of them alike by name."""
    other = server.create("other")
    server.member(acme, "bob", groups=("readers",))
    server.member(other, "alice", groups=("readers",))
    server.member(0, "bob", groups=("readers",))
    identities(server).grants.set("bob", acme, GrantEffect.ALLOW, ("readers",))
    callers = [
        await server.login("bob", home=acme),
        await server.login("alice", home=other),
        await server.login("bob", into=acme),
        await server.login("bob"),
        server.caller(acme, groups=("readers",), subject="service"),
        server.guardian,
    ]
    return [await idle_pipeline(caller) for caller in callers]


async def check_untouched(streams: list[Any]) -> None:
    for number, stream in enumerate(streams):
        await stream.write(pb.PipelineRequest(id=2, operations=[pb.Operation(get=pb.GetRequest(key=b"k"))]))
        answer = await stream.read()
        assert answer.id == 2 and not answer.results[0].HasField("error"), f"bystander {number} was cut"
        stream.cancel()


@pytest.mark.parametrize(("kind", "act", "reason"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_a_pipeline_ends_with_the_rights_of_its_member(tmp_path: Path, kind: str, act: Act, reason: Reason) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            caller = await victim(server, acme, kind)
            others = await bystanders(server, acme)
            call = await idle_pipeline(caller)
            await act(server, acme, caller)
            started = time.monotonic()
            assert (await end_of(call)).reason is reason
            assert time.monotonic() - started < CUT_S_MAX
            await check_untouched(others)

    asyncio.run(main())


@pytest.mark.parametrize(("kind", "act", "reason"), SCAN_CASES, ids=lambda value: getattr(value, "__name__", None))
def test_a_scan_that_nobody_reads_ends_with_the_rights_of_its_member(
    tmp_path: Path, kind: str, act: Act, reason: Reason
) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            fill(server, acme, UNREAD_MIB)
            caller = await victim(server, acme, kind)
            call = await unread_scan(server, caller)
            await act(server, acme, caller)
            await eventually(lambda: server.app.streams.views(acme.id) == 0, "the view is closed", CUT_S_MAX)
            assert (await end_of(call)).reason is reason

    asyncio.run(main())


def test_a_pipeline_whose_group_was_narrowed_goes_on_within_the_new_rules(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            caller = await victim(server, acme, "member")
            call = await idle_pipeline(caller)
            await narrow_the_group(server, acme, caller)
            gets = [pb.Operation(get=pb.GetRequest(key=key)) for key in (b"0001", b"0002")]
            await call.write(pb.PipelineRequest(id=2, operations=gets))
            permitted, refused = (await call.read()).results
            assert permitted.HasField("get") and refused.error.reason == Reason.NOT_PERMITTED.value.number
            call.cancel()

    asyncio.run(main())


@pytest.mark.usefixtures("python_front")
@pytest.mark.parametrize("method", ["Scan", "Count", "BatchGet"])
def test_a_read_looks_at_the_rules_again_before_it_answers(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when no sweep and no listener comes to cut it.

    Of the native front front_methods_test.cc ("what a worker has read ...") and front_scan_test.cc show it.
    """
    monkeypatch.setattr("prefixdb.service.streams.Stream.recheck", lambda _: None)
    monkeypatch.setattr(key_value, "COUNT_STEP_ROWS", 1)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            fill(server, acme, UNREAD_MIB if method == "Scan" else 4)
            caller = await victim(server, acme, "member")
            await caller.get(pb.GetRequest(key=b"k"))
            if method == "Scan":
                call = await unread_scan(server, caller)
                await narrow_the_group(server, acme, caller)
                assert (await end_of(call)).reason is Reason.NOT_PERMITTED
                return
            store = server.app.store
            name = "get_many" if method == "BatchGet" else "open_cursor"
            read = getattr(store, name)
            loop = asyncio.get_running_loop()

            def slow(*arguments: Any, **options: Any) -> Any:
                """Read, and then let the group be narrowed before the answer goes."""
                found = read(*arguments, **options)
                setattr(store, name, read)
                if method == "BatchGet":
                    asyncio.run_coroutine_threadsafe(narrow_the_group(server, acme, caller), loop).result(10)
                else:
                    identities(server).groups.update(acme.id, "own", NARROWER)
                return found

            if method == "BatchGet":
                keys = [b"%04d" % number for number in range(2 * STEP_KEYS_MAX)]
                request: Any = pb.BatchGetRequest(keys=keys)
            else:
                request = pb.CountRequest()
            setattr(store, name, slow)
            with pytest.raises(PrefixdbError) as caught:
                await caller.call(getattr(caller.key_value, method), request)
            assert caught.value.reason is Reason.NOT_PERMITTED

    asyncio.run(main())
