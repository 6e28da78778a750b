"""Goal: whoever lists namespaces sees what it may use and no more, and pays for what it may use, not for what there is.

Method: a real server with callers of every kind; what the registry is asked for is counted.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from prefixdb.catalog.entities import GrantEffect, Guardian, NamespaceRecord, NamespaceState, Privilege
from prefixdb.v1 import namespaces_pb2 as pb
from tests.service.logins import play
from tests.support.server import Caller, RunningServer


async def listed(caller: Caller, page_size: int = 0, *, include_dropped: bool = False) -> list[pb.Namespace]:
    """Return all that a caller is shown, read in pages."""
    found: list[pb.Namespace] = []
    token = ""
    while True:
        request = pb.ListNamespacesRequest(page_size=page_size, page_token=token, include_dropped=include_dropped)
        answer = await caller.call(caller.namespaces.ListNamespaces, request)
        assert len(answer.namespaces) <= (page_size or 100)
        found += answer.namespaces
        token = answer.next_page_token
        if not token:
            return found


async def names(caller: Caller, page_size: int = 0, **options: Any) -> list[str]:
    return [namespace.name for namespace in await listed(caller, page_size, **options)]


def grant(server: RunningServer, member: str, namespace: NamespaceRecord | None, effect: GrantEffect) -> None:
    groups = ("readers",) if effect is GrantEffect.ALLOW else ()
    server.app.authority.identities.grants.set(member, namespace, effect, groups)


USE = (Privilege.NAMESPACES_USE,)
ALLOW, DENY = GrantEffect.ALLOW, GrantEffect.DENY


def test_everybody_sees_what_it_may_use_with_name_and_state_only(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        spaces = [server.app.registry.create(name, namespace_id=number + 1, labels={"tier": "gold"})
                  for number, name in enumerate(("a", "b", "c", "d"))]  # fmt: skip
        a, b, c, d = spaces
        await asyncio.to_thread(server.app.registry.suspend, c.id, NamespaceState.SUSPENDED, "overdue")
        server.member(a, "alice", groups=("guardians",))
        for name, privileges in (("user", USE), ("stay", ()), ("editor", (Privilege.NAMESPACES_EDIT,)), ("both", USE)):
            server.member(0, name, groups=(), privileges=privileges)
        server.member(0, "root", groups=("guardians",))
        for name in ("user", "stay", "both"):
            grant(server, name, b, ALLOW)
            grant(server, name, c, ALLOW)
        grant(server, "both", None, ALLOW)
        grant(server, "both", b, DENY)
        everything = ["default", "a", "b", "c", "d"]
        for caller, expected in (
            (server.caller(a), ["a"]),
            (server.caller(a, groups=()), ["a"]),
            (server.caller(a, guardian=Guardian.NAMESPACE), ["a"]),
            (await server.login("alice", home=a), ["a"]),
            (server.caller(0, subject="user"), ["default"]),
            (await server.login("stay"), ["default"]),
            (await server.login("stay", into=b), ["default", "b"]),
            (await server.login("user"), ["default", "b", "c"]),
            (await server.login("user", into=b), ["default", "b", "c"]),
            (await server.login("both"), ["default", "a", "c", "d"]),
            (await server.login("both", into=d), ["default", "a", "c", "d"]),
            (await server.login("editor"), everything),
            (await server.login("root"), everything),
            (server.guardian, everything),
        ):
            for page_size in (1, 2, 5, 0):
                assert await names(caller, page_size) == expected, (expected, page_size)
        brief = {namespace.name: namespace for namespace in await listed(await server.login("user"))}
        assert brief["b"] == pb.Namespace(id=b.id, name="b", state=pb.NAMESPACE_STATE_ACTIVE)
        assert brief["c"] == pb.Namespace(id=c.id, name="c", state=pb.NAMESPACE_STATE_SUSPENDED)
        whole = {namespace.name: namespace for namespace in await listed(await server.login("editor"))}
        assert whole["c"].state_reason == "overdue" and dict(whole["b"].labels) == {"tier": "gold"}

    play(tmp_path, scenario)


def test_what_was_dropped_or_granted_in_an_earlier_issue_is_not_shown(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> None:
        registry = server.app.registry
        gone, kept = server.create("gone", 5), server.create("kept", 6)
        server.member(0, "user", groups=(), privileges=USE)
        server.member(0, "all", groups=(), privileges=USE)
        for namespace in (gone, kept):
            grant(server, "user", namespace, ALLOW)
        grant(server, "all", None, ALLOW)
        user, everyone = await server.login("user"), await server.login("all")
        await asyncio.to_thread(registry.ban, gone.id, by="test", grace_ms=0)
        for caller in (user, everyone):
            assert await names(caller, include_dropped=True) == ["default", "kept"]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 20
        while registry.get(5).state is not NamespaceState.RECLAIMED:  # type: ignore[union-attr]
            assert loop.time() < deadline
            await asyncio.sleep(0.01)
        server.create("gone", 5)
        assert await names(user) == ["default", "kept"]
        assert await names(everyone) == ["default", "gone", "kept"]

    play(tmp_path, scenario)


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_page_costs_what_the_member_may_use_and_not_what_there_is(tmp_path: Path, everywhere: bool) -> None:
    async def scenario(server: RunningServer) -> None:
        registry = server.app.registry
        spaces = [server.create(f"n{number:03}", number + 1) for number in range(120)]
        server.member(0, "user", groups=(), privileges=USE)
        for namespace in spaces[10:13]:
            grant(server, "user", namespace, DENY if everywhere else ALLOW)
        if everywhere:
            grant(server, "user", None, ALLOW)
        caller = await server.login("user")
        asked: list[int] = []
        page, get = registry.page, registry.get
        registry.page = lambda *a, **k: (found := page(*a, **k), asked.append(len(found)))[0]  # type: ignore[method-assign]
        request = pb.ListNamespacesRequest(page_size=8)
        answer = await caller.call(caller.namespaces.ListNamespaces, request)
        if everywhere:
            assert len(answer.namespaces) == 8 and answer.next_page_token
            assert sum(asked) <= 3 * (8 + 1), "the registry was walked further than the page needs"
            second = pb.ListNamespacesRequest(page_size=8, page_token=answer.next_page_token)
            names = [n.name for n in (await caller.call(caller.namespaces.ListNamespaces, second)).namespaces]
            assert names == ["n007", "n008", "n009", "n013", "n014", "n015", "n016", "n017"]
        else:
            assert [namespace.name for namespace in answer.namespaces] == ["default", "n010", "n011", "n012"]
            assert not asked, "the namespaces were walked for a member of three grants"
        assert registry.get == get

    play(tmp_path, scenario)
