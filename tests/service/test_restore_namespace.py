"""Goal: a restored namespace is what its archive says, and of an archive that is not right nothing is ever there.

Method: a real server in both stores. Archives are made by the archive's own writer, by ``tests.support.archives`` and
by hand; those that are not right are refused before a number is taken. Members and groups are tried against every rule
that the catalog has for them. What comes between the upload and the end is made to, as for clones.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from prefixdb import limits
from prefixdb.archive import Group, Member
from prefixdb.archive.contents import GroupRule
from prefixdb.catalog.entities import Guardian
from prefixdb.catalog.passwords import hash_password
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import data_key
from prefixdb.store.base import Commit, Put
from prefixdb.v1 import auth_pb2, key_value_pb2
from prefixdb.v1 import transfer_pb2 as pb
from tests.service.staging import (
    clone,
    fill,
    frames,
    held,
    in_the_making,
    is_reclaimed,
    live,
    restore,
    rows_of,
    transfer,
)
from tests.support.server import PASSWORD, RunningServer, error_of, eventually, running

HASH = hash_password(PASSWORD)
RULES = (GroupRule(2, b"n/", True, False),)
ANN = Member("ann", ("guardians",), HASH, False, 10, 20, 10)


def rows(count: int, *, first_version: int = 1) -> list[tuple[int, bytes, bytes, int, int]]:
    """Return rows of two databases, their versions not in the order of their keys."""
    made = []
    for database in (0, 9):
        for number in range(count):
            version = first_version + (number * 7919 + database) % (2 * count)
            made.append((database, b"k%05d" % number, b"v%d" % number, version, 0))
    return made


async def refused(server: RunningServer, archive: Any, **begin: Any) -> PrefixdbError:
    """Have an archive refused and nothing be left of it."""
    registry, spools = server.app.registry, server.app.config.data_dir / "imports"
    before = registry.page(None, 1_000, include_dropped=True)
    with pytest.raises(PrefixdbError) as caught:
        await restore(server, archive, **begin)
    await eventually(lambda: not list(spools.glob("restore-*")), "the spool is gone")
    assert registry.page(None, 1_000, include_dropped=True) == before
    assert not registry._directory._reserved
    return caught.value


def test_rows_keep_their_versions_when_the_store_has_given_out_all_of_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            fill(server.app.store, 0, 3_000)
            now_ms = server.app.clock.now_ms()
            wanted = rows(700)
            wanted[3] = (*wanted[3][:4], now_ms + 3_600_000)
            wanted[5] = (*wanted[5][:4], now_ms - 1)
            answers = await restore(server, frames(wanted), name="back")
            assert answers[0].phase == pb.TRANSFER_PHASE_READY
            done = answers[-1]
            assert done.phase == pb.TRANSFER_PHASE_DONE
            assert (done.rows_received, done.rows_done, done.rows_expired) == (1_400, 1_400, 1)
            assert (done.members, done.groups) == (0, 0)
            back = live(server, "back")
            assert done.namespace.id == back.id
            assert rows_of(server.app.store, back.id) == [row for row in wanted if row != wanted[5]]
            assert not list((tmp_path / "imports").glob("*"))

    asyncio.run(scenario())


def test_rows_of_a_store_that_was_ahead_keep_the_order_of_their_versions(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            ahead = 10**15
            wanted = rows(700, first_version=ahead)
            await restore(server, frames(wanted), name="back")
            found = rows_of(server.app.store, live(server, "back").id)
            assert [row[:3] for row in found] == [row[:3] for row in wanted]
            ranks = {version: rank for rank, version in enumerate(sorted({row[3] for row in wanted}))}
            new = {version: rank for rank, version in enumerate(sorted({row[3] for row in found}))}
            assert [new[row[3]] for row in found] == [ranks[row[3]] for row in wanted]
            last = server.app.store.status().last_version
            assert all(row[3] < last for row in found)
            put = key_value_pb2.PutRequest(key=b"k00000", value=b"n")
            writer = server.caller(live(server, "back"))
            assert (await writer.call(writer.key_value.Put, put)).version > last

    asyncio.run(scenario())


def test_members_log_in_with_their_old_passwords_and_their_groups_mean_what_they_meant(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            far = server.app.clock.now_ms() + 10**12
            people = [
                ANN,
                replace(ANN, name="bob", groups=("night",), created_at_ms=far, updated_at_ms=far),
                replace(ANN, name="cid", groups=("night",), disabled=True),
                replace(ANN, name="dot", groups=(), password_hash="", password_changed_at_ms=0),
            ]
            content = [(2, b"n/1", b"x", 1, 0), (2, b"other", b"y", 1, 0)]
            archive = frames(content, groups=[Group("night", RULES)], members=people)
            answers = await restore(server, archive, name="bare")
            assert (answers[-1].members, answers[-1].groups) == (0, 0)
            assert server.app.authority.identities.members.page(live(server, "bare").id) == []

            answers = await restore(server, archive, members=True)
            back = live(server, "origin")
            assert (answers[-1].members, answers[-1].groups) == (4, 1)
            identities = server.app.authority.identities
            names = [group.name for group in identities.groups.page(back.id)]
            assert names == ["guardians", "night", "readers", "writers"]
            found = identities.members.get(back.id, "bob")
            assert found.created_at_ms <= server.app.clock.now_ms()
            assert found.privileges == ()
            bob = await server.login("bob", home=back)
            assert (await bob.get(key_value_pb2.GetRequest(key=b"n/1", database=2))).value == b"x"
            for request in (key_value_pb2.GetRequest(key=b"other", database=2), key_value_pb2.GetRequest(key=b"n/1")):
                with pytest.raises(PrefixdbError) as caught:
                    await bob.get(request)
                assert caught.value.reason is Reason.NOT_PERMITTED
            for name in ("cid", "dot"):
                with pytest.raises(PrefixdbError) as caught:
                    await server.login(name, home=back)
                assert caught.value.reason is Reason.BAD_CREDENTIALS
            ann = await server.login("ann", home=back)
            assert (await ann.call(ann.auth.WhoAmI, auth_pb2.WhoAmIRequest())).guardian == int(Guardian.NAMESPACE)

    asyncio.run(scenario())


MANY_RULES = tuple(GroupRule(n, b"", True, True) for n in range(limits.GROUP_RULES_MAX + 1))
HOSTILE = {
    "a name with a space": ([], [replace(ANN, name="a b")]),
    "a name of another script": ([], [replace(ANN, name="аnn")]),
    "a group nobody made": ([], [replace(ANN, groups=("night",))]),
    "the same group twice": ([], [replace(ANN, groups=("readers", "readers"))]),
    "a hash that costs the memory": ([], [replace(ANN, password_hash=HASH.replace("m=19456", "m=99999999"))]),
    "a hash that costs the time": ([], [replace(ANN, password_hash=HASH.replace("t=2", "t=9999"))]),
    "a hash of another kind": ([], [replace(ANN, password_hash=HASH.replace("v=19", "v=16"))]),
    "a group with a bad name": ([Group("../up", RULES)], []),
    "a group without a right": ([Group("night", (GroupRule(None, b"", False, False),))], []),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_members_and_groups_that_could_not_be_made_here_are_refused_and_nothing_is_written(
    tmp_path: Path, case: str
) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            groups, members = HOSTILE[case]
            archive = frames(rows(5), groups=groups, members=members)
            failure = await refused(server, archive, name="back", members=True)
            assert failure.reason is Reason.ARCHIVE_INVALID
            assert failure.metadata["place"].startswith("frame 2 at byte ")
            # Whoever leaves them out may have the rows.
            await restore(server, archive, name="back")

    asyncio.run(scenario())


def test_an_archive_that_is_cut_short_altered_or_not_of_a_namespace_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            whole = frames(rows(300))
            for count in range(len(whole)):
                assert (await refused(server, whole[:count], name="back")).reason is Reason.ARCHIVE_INVALID
            for position in range(len(whole)):
                frame = bytearray(whole[position])
                frame[len(frame) // 2] ^= 1
                archive = [*whole[:position], bytes(frame), *whole[position + 1 :]]
                assert (await refused(server, archive, name="back")).reason is Reason.ARCHIVE_INVALID
            swapped = [whole[0], whole[2], whole[1], *whole[3:]]
            assert (await refused(server, swapped, name="back")).reason is Reason.ARCHIVE_INVALID
            for behind in (whole[-1], whole[1], whole[0], b"\n", b""):
                assert (await refused(server, [*whole, behind], name="back")).reason is Reason.ARCHIVE_INVALID
            text = frames([], kind="rows", last_version=0, namespace_id=0, incarnation=0)
            assert (await refused(server, text, name="back")).reason is Reason.ARCHIVE_INVALID
            await restore(server, whole, name="back")

    asyncio.run(scenario())


def test_names_and_numbers_that_are_taken_are_refused_before_the_rows_are_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            server.create("taken", 55)
            server.app.registry.ban(server.create("dropped", 66).id, by="test", grace_ms=60_000)
            archive = frames(rows(300))
            sent: list[bytes] = []

            def slowly() -> Any:
                for frame in archive:
                    sent.append(frame)
                    yield frame

            assert (await refused(server, archive, name="taken")).reason is Reason.NAMESPACE_EXISTS
            assert (await refused(server, archive, name="back", id=55)).reason is Reason.NAMESPACE_EXISTS
            assert (await refused(server, archive, name="back", id=66)).reason is Reason.NAMESPACE_NOT_EMPTY
            assert (await refused(server, archive, name="back", id=0)).reason is Reason.BAD_FIELD
            assert (await refused(server, archive, name="a b")).reason is Reason.BAD_NAME
            nameless = frames(rows(3), namespace="")
            assert (await refused(server, nameless)).reason is Reason.BAD_NAME
            odd = frames(rows(3), labels={"a": "\x00"})
            assert (await refused(server, odd, name="back")).reason is Reason.ARCHIVE_INVALID
            await restore(server, slowly(), id=77)
            assert live(server, "origin").id == 77

    asyncio.run(scenario())


def test_messages_out_of_their_order_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            begin = pb.RestoreNamespaceRequest(begin=pb.RestoreNamespaceBegin(name="back"))
            frame = pb.RestoreNamespaceRequest(frame=frames(rows(3))[0])
            for messages in ([], [frame], [pb.RestoreNamespaceRequest()], [begin, begin], [begin, frame, begin]):
                call = transfer(server.guardian).RestoreNamespace(
                    iter(messages), metadata=server.guardian.metadata, timeout=10
                )
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    while await call.read() is not grpc.aio.EOF:
                        pass
                assert error_of(caught.value).reason is Reason.BAD_FIELD
            await restore(server, frames(rows(3)), name="back")

    asyncio.run(scenario())


def test_a_client_that_goes_in_the_middle_of_its_upload_leaves_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            call = transfer(server.guardian).RestoreNamespace(metadata=server.guardian.metadata)
            await call.write(pb.RestoreNamespaceRequest(begin=pb.RestoreNamespaceBegin(name="back")))
            for frame in frames(rows(300))[:3]:
                await call.write(pb.RestoreNamespaceRequest(frame=frame))
            registry = server.app.registry
            await eventually(lambda: registry._directory._reserved, "the name is promised")
            with pytest.raises(PrefixdbError) as caught:
                await clone(server.guardian, 0, "back")
            assert caught.value.reason is Reason.NAMESPACE_EXISTS
            call.cancel()
            await eventually(lambda: not registry._directory._reserved, "the name is free")
            await eventually(lambda: not list((tmp_path / "imports").glob("*")), "the spool is gone")
            assert registry.bans() == []
            await clone(server.guardian, 0, "back")

    asyncio.run(scenario())


def test_what_a_killed_server_left_of_an_upload_is_gone_at_the_next_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path):
            pass
        folder = tmp_path / "imports"
        folder.mkdir(exist_ok=True)
        left = folder / ("restore-" + "0" * 32 + ".spool")
        left.write_bytes(b"rows")
        async with running(tmp_path):
            assert not left.exists()

    asyncio.run(scenario())


def test_nothing_is_seen_of_a_restore_and_its_spool_is_gone_before_it_is_given_up(
    tmp_path: Path, monkeypatch: Any
) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            with held(monkeypatch) as gate:
                work = asyncio.create_task(restore(server, frames(rows(500)), name="back", members=True))
                await asyncio.to_thread(gate.reached.wait, 10)
                staged = in_the_making(server)
                assert live(server, "back") is None
                assert staged.state_reason == "being restored from an archive"
                assert list((tmp_path / "imports").glob("restore-*"))
                await asyncio.to_thread(server.app.registry.ban, staged.id, by="me", reason="no")
                server.app.reclaimer.wake()
                assert not is_reclaimed(server, staged.id)
                gate.go.set()
                with pytest.raises(PrefixdbError) as caught:
                    await work
                assert caught.value.reason is Reason.NAMESPACE_STATE
            await eventually(lambda: is_reclaimed(server, staged.id), "the unfinished one is reclaimed")
            assert not list((tmp_path / "imports").glob("*"))
            lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
            mine = [line for line in lines if line["method"].endswith("/RestoreNamespace")]
            assert [line["result"] for line in mine] == ["started", "NAMESPACE_STATE"]
            assert " of 1000 rows" in mine[0]["target"]

    asyncio.run(scenario())


def test_what_was_exported_comes_back_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            source = server.create("source")
            fill(server.app.store, source.id, 20_000)
            server.app.store.commit(Commit((Put(data_key(source.id, 65535, b"\xff" * 4096), b"v" * 1_000_000),)))
            server.member(source, "ann", groups=("guardians",))
            request = pb.ExportRequest(members=True)
            request.namespace.id = source.id
            pages = await server.guardian.pages(transfer(server.guardian).Export, request)
            archive = [page.frame for page in pages]
            answers = await restore(server, archive, name="back", members=True)
            assert answers[-1].members == 1
            back = live(server, "back")
            assert rows_of(server.app.store, back.id) == rows_of(server.app.store, source.id)
            assert await server.login("ann", home=back)

    asyncio.run(scenario())
