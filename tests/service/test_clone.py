"""Goal: a clone has what its source had at one instant, and nobody sees anything of it before.

Method: a real server in both stores. What may come between is made to: the copying is held after its first rows, and
then writes, bans, creations and departures happen. What was not finished has to end as RECLAIMED, proven empty.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from prefixdb.catalog.entities import GrantEffect, Guardian, NamespaceIssue, NamespaceState, Privilege, Rule
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import data_key
from prefixdb.limits import NAMESPACE_ID_MAX
from prefixdb.service import staging
from prefixdb.store.base import Commit, Put
from prefixdb.v1 import auth_pb2, key_value_pb2, namespaces_pb2
from prefixdb.v1 import transfer_pb2 as pb
from tests.service.staging import clone, fill, held, in_the_making, is_reclaimed, live, rows_of, transfer
from tests.support.server import error_of, eventually, reference, running


async def refusal_of(work: Any) -> Reason:
    with pytest.raises(PrefixdbError) as caught:
        await work
    return caught.value.reason


def test_a_clone_has_the_rows_with_their_versions_and_lifetimes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            store, source = server.app.store, server.create("source")
            far = server.app.clock.now_ms() + 3_600_000
            fill(store, source.id, 2_500)
            fill(store, source.id, 30, database=65535, value=b"\0\xff")
            store.commit(Commit((Put(data_key(source.id, 3, b"\xff" * 4096), b"", far),)))
            store.commit(Commit((Put(data_key(source.id, 3, b"gone"), b"x", 1),)))
            answers = await clone(server.guardian, source, "copy")
            assert answers[-1].phase == pb.TRANSFER_PHASE_DONE
            assert answers[-1].rows_done == 2_531
            assert answers[-1].namespace.name == "copy"
            copy = live(server, "copy")
            assert copy is not None
            assert copy.id == answers[-1].namespace.id != source.id
            assert copy.labels == source.labels
            assert rows_of(store, copy.id) == rows_of(store, source.id)
            assert len(rows_of(store, copy.id)) == 2_531
            writer = server.caller(copy)
            got = await writer.get(key_value_pb2.GetRequest(key=b"k000007"))
            assert got.value == b"v7"
            again = await writer.call(writer.key_value.Put, key_value_pb2.PutRequest(key=b"k000007", value=b"n"))
            assert again.version > got.version

    asyncio.run(scenario())


def test_an_empty_namespace_is_cloned_too_and_under_a_chosen_number(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            server.create("source")
            answers = await clone(server.guardian, "source", "copy", id=77)
            assert answers[-1].namespace.id == 77
            assert rows_of(server.app.store, 77) == []
            assert live(server, "copy").id == 77

    asyncio.run(scenario())


def test_members_and_groups_come_along_only_when_asked_for_and_tokens_never(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            source = server.create("source")
            fill(server.app.store, source.id, 10)
            identities = server.app.authority.identities
            identities.groups.create(source.id, "night", [Rule(2, b"n/", read=True, write=False)])
            server.member(source, "ann", groups=("guardians",))
            server.member(source, "bob", groups=("night", "readers"))
            await server.login("bob", home=source)
            token = server.caller(source, guardian=Guardian.NAMESPACE)

            answers = await clone(server.guardian, source, "bare")
            bare = live(server, "bare")
            assert (answers[-1].members, answers[-1].groups) == (0, 0)
            assert identities.members.page(bare.id) == []
            assert [group.name for group in identities.groups.page(bare.id)] == ["guardians", "readers", "writers"]

            answers = await clone(server.guardian, source, "whole", members=True)
            whole = live(server, "whole")
            assert (answers[-1].members, answers[-1].groups, answers[-1].rows_done) == (2, 1, 10)
            ours, theirs = (
                [(m.name, m.groups, m.password_hash) for m in identities.members.page(number)]
                for number in (whole.id, source.id)
            )
            assert ours == theirs
            assert identities.groups.page(whole.id) == identities.groups.page(source.id)
            assert server.app.authority.list(whole.id) == []
            bob = await server.login("bob", home=whole)
            assert (await bob.get(key_value_pb2.GetRequest(key=b"k000001"))).value == b"v1"
            # The token of a guardian of the source is one of the source and stays one.
            assert (await token.call(token.auth.WhoAmI, auth_pb2.WhoAmIRequest())).namespace_id == source.id

    asyncio.run(scenario())


def test_cluster_guardians_become_ordinary_members_of_a_clone_of_namespace_0(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            main = server.create("main")
            fill(server.app.store, 0, 5)
            server.member(
                0,
                "eve",
                groups=("readers",),
                privileges=(Privilege.NAMESPACES_EDIT, Privilege.BACKUP),
                main_namespace=NamespaceIssue(main.id, main.incarnation),
            )
            await clone(server.guardian, 0, "copy", members=True)
            copy = live(server, "copy")
            members = server.app.authority.identities.members.page(copy.id)
            assert "eve" in {member.name for member in members}
            assert all(member.privileges == () and member.main_namespace is None for member in members)
            assert len(rows_of(server.app.store, copy.id)) == 5

    asyncio.run(scenario())


def test_a_clone_shows_one_instant_whatever_is_written_meanwhile(tmp_path: Path, monkeypatch: Any) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            store, source = server.app.store, server.create("source")
            fill(store, source.id, 3_000)
            before = rows_of(store, source.id)
            with held(monkeypatch) as gate:
                work = asyncio.create_task(clone(server.guardian, source, "copy"))
                await asyncio.to_thread(gate.reached.wait, 10)
                fill(store, source.id, 4_000, value=b"later")
                gate.go.set()
                await work
            assert rows_of(store, live(server, "copy").id) == before

    asyncio.run(scenario())


def test_nothing_is_seen_of_a_clone_that_is_being_made(tmp_path: Path, monkeypatch: Any) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            guardian, source = server.guardian, server.create("source")
            namespaces = guardian.namespaces
            fill(server.app.store, source.id, 500)
            with held(monkeypatch) as gate:
                work = asyncio.create_task(clone(guardian, source, "copy", members=True))
                await asyncio.to_thread(gate.reached.wait, 10)
                staged = in_the_making(server)
                seen = await guardian.call(namespaces.ListNamespaces, namespaces_pb2.ListNamespacesRequest())
                assert [item.name for item in seen.namespaces] == ["default", "source"]
                for ref in ("copy", staged):
                    named = reference(ref)
                    for method, request in (
                        (namespaces.UpdateNamespace, _rename(named)),
                        (namespaces.SuspendNamespace, namespaces_pb2.SuspendNamespaceRequest(namespace=named, state=3)),
                        (namespaces.ResumeNamespace, namespaces_pb2.ResumeNamespaceRequest(namespace=named)),
                        (namespaces.UnbanNamespace, namespaces_pb2.UnbanNamespaceRequest(namespace=named)),
                    ):
                        reason = await refusal_of(guardian.call(method, request))
                        wanted = Reason.NAMESPACE_NOT_FOUND if ref == "copy" else Reason.NAMESPACE_STATE
                        assert reason is wanted, (ref, request)
                report = namespaces_pb2.ReclaimReportRequest(namespace=reference(staged))
                assert await refusal_of(guardian.call(namespaces.ReclaimReport, report)) is Reason.REPORT_NOT_FOUND
                assert await refusal_of(clone(guardian, staged, "other")) is Reason.NAMESPACE_STATE
                create = namespaces_pb2.CreateNamespaceRequest
                for request in (create(name="copy"), create(name="x", id=staged.id)):
                    call = guardian.call(namespaces.CreateNamespace, request)
                    assert await refusal_of(call) is Reason.NAMESPACE_EXISTS
                for attempt in (clone(guardian, source, "copy"), clone(guardian, source, "x", id=staged.id)):
                    assert await refusal_of(attempt) is Reason.NAMESPACE_EXISTS
                with pytest.raises(PrefixdbError) as caught:
                    server.token(staged.id)
                assert caught.value.reason is Reason.NAMESPACE_STATE
                server.member(0, "gus")
                with pytest.raises(PrefixdbError) as caught:
                    server.app.authority.identities.grants.set("gus", staged, GrantEffect.ALLOW, ["readers"])
                assert caught.value.reason is Reason.NAMESPACE_STATE
                listed = namespaces_pb2.ListNamespacesRequest(include_dropped=True)
                everything = (await guardian.call(namespaces.ListNamespaces, listed)).namespaces
                (shown,) = [item for item in everything if item.id == staged.id]
                assert shown.state == namespaces_pb2.NAMESPACE_STATE_BANNED
                assert shown.state_reason == f"being cloned from namespace {source.id}"
                assert not is_reclaimed(server, staged.id)
                gate.go.set()
                await work
            assert live(server, "copy").id == staged.id
            assert live(server, "copy").state_reason == ""
            assert server.app.registry.ban_of(staged.id) is None

    asyncio.run(scenario())


def _rename(named: Any) -> namespaces_pb2.UpdateNamespaceRequest:
    return namespaces_pb2.UpdateNamespaceRequest(namespace=named, name="other", update_mask={"paths": ["name"]})


@pytest.mark.parametrize("banned", ["source", "copy"])
def test_a_ban_in_the_middle_ends_the_clone_within_a_second_and_both_are_reclaimed(
    tmp_path: Path, monkeypatch: Any, banned: str
) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            registry, source = server.app.registry, server.create("source")
            fill(server.app.store, source.id, 2_000)
            with held(monkeypatch) as gate:
                work = asyncio.create_task(clone(server.guardian, source, "copy"))
                await asyncio.to_thread(gate.reached.wait, 10)
                staged = in_the_making(server)
                target = source if banned == "source" else staged
                request = namespaces_pb2.BanNamespaceRequest(namespace=reference(target), reason="enough")
                await server.guardian.call(server.guardian.namespaces.BanNamespace, request)
                if banned == "source":
                    # The thread stands still with a cursor over the source: nothing of it may be published.
                    assert await refusal_of(asyncio.wait_for(work, 1)) is Reason.NAMESPACE_STATE
                    await asyncio.sleep(0)
                    assert server.app.streams.views(source.id) == 1
                    assert not registry.ban_of(source.id).reclaim_started_at_ms
                gate.go.set()
                if banned == "copy":
                    assert await refusal_of(asyncio.wait_for(work, 1)) is Reason.NAMESPACE_STATE
            await eventually(lambda: is_reclaimed(server, target.id), "the banned one is reclaimed")
            await eventually(lambda: is_reclaimed(server, staged.id), "the unfinished one is reclaimed")
            assert server.app.streams.views(source.id) == 0
            assert live(server, "copy") is None
            assert (registry.get(source.id).state is NamespaceState.ACTIVE) == (banned == "copy")
            report = server.app.reclaimer.report(target.id)
            assert report.reason == "enough"
            answers = await clone(server.guardian, 0, "copy", id=staged.id)
            assert answers[-1].namespace.id == staged.id
            assert answers[-1].namespace.incarnation > staged.incarnation

    asyncio.run(scenario())


@pytest.mark.parametrize("leaving", ["cancelled", "revoked"])
def test_a_client_that_goes_leaves_nothing_behind(tmp_path: Path, monkeypatch: Any, leaving: str) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            source = server.create("source")
            fill(server.app.store, source.id, 2_000)
            guardian = server.caller(0, subject="leaver", guardian=Guardian.CLUSTER)
            with held(monkeypatch) as gate:
                request = pb.CloneNamespaceRequest(source=reference(source), name="copy")
                call = transfer(guardian).CloneNamespace(request, metadata=guardian.metadata)
                reading = asyncio.create_task(call.read())
                await asyncio.to_thread(gate.reached.wait, 10)
                staged = in_the_making(server)
                if leaving == "cancelled":
                    call.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await reading
                else:
                    await asyncio.to_thread(server.app.authority.revoke_subject, 0, "leaver")
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        while True:
                            assert await reading is not grpc.aio.EOF
                            reading = asyncio.ensure_future(call.read())
                    assert error_of(caught.value).reason is Reason.TOKEN_REVOKED
                gate.go.set()
                await eventually(lambda: is_reclaimed(server, staged.id), "the unfinished one is reclaimed")
            assert live(server, "copy") is None
            wanted = "CANCELLED" if leaving == "cancelled" else "TOKEN_REVOKED"
            assert server.app.reclaimer.report(staged.id).reason == f"not finished: {wanted}"
            lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
            mine = [line["result"] for line in lines if line["method"].endswith("/CloneNamespace")]
            assert mine == ["started", wanted]
            await clone(server.guardian, source, "copy")

    asyncio.run(scenario())


def test_an_unban_may_take_the_name_and_the_clone_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            registry, source, old = server.app.registry, server.create("source"), server.create("copy")
            fill(server.app.store, source.id, 100)
            registry.ban(old.id, by="test", grace_ms=60_000)
            with held(monkeypatch) as gate:
                work = asyncio.create_task(clone(server.guardian, source, "copy"))
                await asyncio.to_thread(gate.reached.wait, 10)
                staged = in_the_making(server)
                # By its name it is the one that lived, not the one that is being made.
                request = namespaces_pb2.UnbanNamespaceRequest(namespace=reference("copy"))
                back = await server.guardian.call(server.guardian.namespaces.UnbanNamespace, request)
                assert back.namespace.id == old.id
                gate.go.set()
                assert await refusal_of(work) is Reason.NAMESPACE_EXISTS
            await eventually(lambda: is_reclaimed(server, staged.id), "the unfinished one is reclaimed")
            assert live(server, "copy").id == old.id

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("request_of", "reason"),
    [
        (lambda: pb.CloneNamespaceRequest(name="x"), Reason.BAD_FIELD),
        (lambda: pb.CloneNamespaceRequest(source=reference("source"), name="a b"), Reason.BAD_NAME),
        (lambda: pb.CloneNamespaceRequest(source=reference("source"), name=""), Reason.BAD_NAME),
        (lambda: pb.CloneNamespaceRequest(source=reference("source"), name="x", id=0), Reason.BAD_FIELD),
        (
            lambda: pb.CloneNamespaceRequest(source=reference("source"), name="x", id=NAMESPACE_ID_MAX + 1),
            Reason.BAD_FIELD,
        ),
        (lambda: pb.CloneNamespaceRequest(source=reference("nobody"), name="x"), Reason.NAMESPACE_NOT_FOUND),
        (lambda: pb.CloneNamespaceRequest(source=reference("source"), name="source"), Reason.NAMESPACE_EXISTS),
        (lambda: pb.CloneNamespaceRequest(source=reference("dropped"), name="x"), Reason.NAMESPACE_STATE),
        (lambda: pb.CloneNamespaceRequest(source=reference("source"), name="x", id=55), Reason.NAMESPACE_NOT_EMPTY),
    ],
    ids=lambda value: value.name if isinstance(value, Reason) else "",
)
def test_what_cannot_be_cloned_is_refused_at_once(tmp_path: Path, request_of: Any, reason: Reason) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            server.create("source")
            server.app.registry.ban(server.create("dropped", 55).id, by="test", grace_ms=60_000)
            before = server.app.registry.page(None, 100, include_dropped=True)
            call = transfer(server.guardian).CloneNamespace(request_of(), metadata=server.guardian.metadata)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert error_of(caught.value).reason is reason
            assert server.app.registry.page(None, 100, include_dropped=True) == before

    asyncio.run(scenario())


def test_who_is_kept_out_of_a_namespace_does_not_get_in_by_a_clone_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            source, grants = server.create("source"), server.app.authority.identities.grants
            privileges = (Privilege.NAMESPACES_EDIT, Privilege.NAMESPACES_USE)
            server.member(0, "eve", privileges=privileges)
            server.member(0, "ann", privileges=privileges)
            for name in ("eve", "ann"):
                grants.set(name, None, GrantEffect.ALLOW, ["readers"])
            grants.set("eve", source, GrantEffect.DENY)
            eve, ann = await server.login("eve"), await server.login("ann")
            assert await refusal_of(clone(eve, source, "copy")) is Reason.NOT_PERMITTED
            assert (await clone(ann, source, "copy"))[-1].phase == pb.TRANSFER_PHASE_DONE
            for member in (eve, ann):
                assert await refusal_of(clone(member, 0, "zero")) is Reason.NOT_PERMITTED
            tenant = server.caller(source, guardian=Guardian.NAMESPACE)
            assert await refusal_of(clone(tenant, source, "mine")) is Reason.NOT_PERMITTED

    asyncio.run(scenario())


def test_only_so_many_are_made_at_a_time(tmp_path: Path, monkeypatch: Any) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            source = server.create("source")
            fill(server.app.store, source.id, 100)
            with held(monkeypatch) as gate:
                count = staging.BUILDING_MAX
                works = [asyncio.create_task(clone(server.guardian, source, f"copy{n}")) for n in range(count)]
                await eventually(lambda: len(server.app.registry.bans()) == count, "all are being made")
                assert await refusal_of(clone(server.guardian, source, "more")) is Reason.RATE_LIMITED
                gate.go.set()
                await asyncio.gather(*works)
            await clone(server.guardian, source, "more")

    asyncio.run(scenario())


def test_a_server_that_ends_gives_up_what_it_makes_and_the_next_start_reclaims_it(
    tmp_path: Path, monkeypatch: Any
) -> None:
    async def scenario() -> int:
        async with running(tmp_path) as server:
            source = server.create("source")
            fill(server.app.store, source.id, 2_000)
            with held(monkeypatch) as gate:
                work = asyncio.create_task(clone(server.guardian, source, "copy"))
                await asyncio.to_thread(gate.reached.wait, 10)
                staged = in_the_making(server)
                ending = asyncio.create_task(server.app.stop(0.0))
                assert await refusal_of(work) in (Reason.DRAINING, Reason.UNREACHABLE, Reason.CANCELLED)
                gate.go.set()
                await ending
            return staged.id

    async def after(namespace_id: int) -> None:
        async with running(tmp_path) as server:
            assert live(server, "copy") is None
            await eventually(lambda: is_reclaimed(server, namespace_id), "the unfinished one is reclaimed")
            await clone(server.guardian, "source", "copy", id=namespace_id)

    asyncio.run(after(asyncio.run(scenario())))
