"""Goal: a namespace that asks for much blocking work at once keeps no other one waiting.

Method: the pool by itself with work that waits for the test, and a real server in which one tenant's changes hang.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefixdb.catalog.entities import Guardian
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.service.workers import ADMINISTRATION_SHARE, THREADS_MAX, Workers
from prefixdb.v1 import auth_pb2, key_value_pb2, members_pb2, namespaces_pb2
from tests.support.server import RunningServer, eventually, running


class Work:
    """Work that waits until it is let go, and counts how many are inside."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.inside = self.done = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.inside += 1
        assert self.go.wait(30)
        with self._lock:
            self.inside -= 1
            self.done += 1


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.go.set()


def test_a_namespace_has_its_share_of_the_threads_and_others_theirs(work: Work) -> None:
    async def main() -> None:
        workers = Workers(2, "test")
        tasks = [asyncio.create_task(workers.run(1, work)) for _ in range(3 * THREADS_MAX)]
        await eventually(lambda: work.inside == 2, "its share works")
        assert await asyncio.wait_for(workers.run(2, lambda: "done"), 10) == "done"
        assert work.inside == 2
        work.go.set()
        await asyncio.gather(*tasks)
        assert work.done == len(tasks) and not workers._shares
        workers.close()

    asyncio.run(main())


def test_whoever_goes_away_does_not_make_room_for_more(work: Work) -> None:
    async def main() -> None:
        workers = Workers(2, "test")
        for _ in range(5):
            tasks = [asyncio.create_task(workers.run(1, work)) for _ in range(4)]
            await eventually(lambda: work.inside == 2, "its share works")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert work.inside == 2, "a cancelled call gave a thread back that was still at work"
        work.go.set()
        await eventually(lambda: not workers._shares, "all is given back")
        assert work.done == 2
        workers.close()

    asyncio.run(main())


def test_only_so_many_of_a_namespace_wait_and_others_are_let_in(work: Work) -> None:
    async def main() -> None:
        workers = Workers(2, "test", 3)
        tasks = [asyncio.create_task(workers.run(1, work)) for _ in range(5)]
        await eventually(lambda: work.inside == 2, "its share works")
        with pytest.raises(PrefixdbError) as caught:
            await workers.run(1, work)
        assert caught.value.reason is Reason.RATE_LIMITED and caught.value.retry_after_ms
        assert await workers.run(2, lambda: "done") == "done"
        work.go.set()
        await asyncio.gather(*tasks)
        await workers.run(1, work)
        workers.close()

    asyncio.run(main())


def test_what_fails_is_told_and_gives_its_place_back() -> None:
    async def main() -> None:
        workers = Workers(1, "test")
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await workers.run(1, lambda: 1 // 0)
        assert not workers._shares
        workers.close()

    asyncio.run(main())


def test_a_tenant_whose_changes_hang_keeps_nobody_else_waiting(tmp_path: Path, work: Work) -> None:
    """Logins, large reads and administration of other namespaces go on while one asks for a hundred things at once."""

    async def scenario(server: RunningServer) -> None:
        noisy, quiet = server.create("noisy"), server.create("quiet")
        server.member(quiet, "max")
        boss = server.caller(noisy, guardian=Guardian.NAMESPACE)
        other = server.caller(quiet, guardian=Guardian.NAMESPACE)
        delete = server.app.authority.identities.groups.delete
        server.app.authority.identities.groups.delete = lambda *_: work()  # type: ignore[method-assign]
        request = members_pb2.DeleteGroupRequest(name="team")
        flood = [asyncio.create_task(boss.call(boss.members.DeleteGroup, request, timeout=60)) for _ in range(50)]
        await eventually(lambda: work.inside == ADMINISTRATION_SHARE, "they hang")
        await server.login("max", home=quiet)
        await (await server.login("max", home=quiet)).refreshed()
        keys = [b"%d" % number for number in range(500)]
        await other.call(other.key_value.BatchGet, key_value_pb2.BatchGetRequest(keys=keys))
        await boss.call(boss.key_value.BatchGet, key_value_pb2.BatchGetRequest(keys=keys))
        await other.call(other.members.ListMembers, members_pb2.ListMembersRequest())
        await other.call(other.members.CreateMember, members_pb2.CreateMemberRequest(name="eva"))
        await other.call(other.auth.IssueToken, auth_pb2.IssueTokenRequest(subject="app"))
        await other.call(other.namespaces.GetNamespace, namespaces_pb2.GetNamespaceRequest())
        assert work.inside == ADMINISTRATION_SHARE
        work.go.set()
        await asyncio.gather(*flood)
        server.app.authority.identities.groups.delete = delete  # type: ignore[method-assign]

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            try:
                await scenario(server)
            finally:
                work.go.set()

    asyncio.run(main())
