"""Goal: exports and clones give nobody more than what was said about them, and hold up nobody else for ever.

Method: a real server; members of namespace 0 with every pair of grants, a reader of a namespace with labels, and a
client that takes just enough.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from prefixdb.catalog.entities import GrantEffect, Guardian, Privilege, Rule
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.service import backups, exports
from prefixdb.v1 import transfer_pb2 as pb
from tests.service.staging import clone, held, is_reclaimed, live
from tests.service.staging import fill as fill_rows
from tests.service.test_export import exported, exporting, fill
from tests.support.backups import Taking
from tests.support.server import eventually, running, translated

ALLOW, DENY = GrantEffect.ALLOW, GrantEffect.DENY

SAID: dict[str, tuple[list[str] | None, list[str] | None, bool]] = {
    # name: groups everywhere, groups in the source (None: nothing said, []: denied), may be cloned
    "nothing": (None, None, True),
    "readers-everywhere": (["readers"], None, True),
    "less-here": (["readers"], ["public"], False),
    "other-here": (["writers"], ["readers"], False),
    "more-here": (["readers"], ["readers", "writers"], True),
    "only-here": (None, ["public"], True),
    "denied-here": (["readers"], [], False),
    "denied-everywhere": ([], ["readers"], False),
}


@pytest.mark.parametrize("name", SAID)
def test_a_clone_does_not_widen_what_was_said_about_its_source(tmp_path: Path, name: str) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            source, grants = server.create("source"), server.app.authority.identities.grants
            server.add_group(source.id, "public", Rule(0, b"public/", read=True, write=False))
            everywhere, here, may = SAID[name]
            server.member(0, name, privileges=(Privilege.NAMESPACES_EDIT, Privilege.NAMESPACES_USE))
            for target, groups in ((None, everywhere), (source, here)):
                if groups is not None:
                    grants.set(name, target, ALLOW if groups else DENY, groups)
            caller = await server.login(name)
            for members in (False, True):
                if may:
                    done = await clone(caller, source, f"copy-{members}", members=members)
                    assert done[-1].phase == pb.TRANSFER_PHASE_DONE
                else:
                    with pytest.raises(PrefixdbError) as refused:
                        await clone(caller, source, "copy", members=members)
                    assert refused.value.reason is Reason.NOT_PERMITTED

    asyncio.run(scenario())


def test_what_is_said_while_a_clone_is_made_counts(tmp_path: Path, monkeypatch: Any) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            source, grants = server.create("source"), server.app.authority.identities.grants
            fill_rows(server.app.store, source.id, 500)
            server.member(0, "eve", privileges=(Privilege.NAMESPACES_EDIT, Privilege.NAMESPACES_USE))
            grants.set("eve", None, ALLOW, ["readers"])
            eve = await server.login("eve")
            with held(monkeypatch) as gate:
                work = asyncio.create_task(clone(eve, source, "copy", id=77))
                await asyncio.to_thread(gate.reached.wait, 10)
                await asyncio.to_thread(grants.set, "eve", source, DENY)
                with pytest.raises(PrefixdbError) as refused:
                    await asyncio.wait_for(work, 2)
                assert refused.value.reason is Reason.NOT_PERMITTED
                gate.go.set()
            await eventually(lambda: is_reclaimed(server, 77), "reclaimed")
            assert live(server, "copy") is None

    asyncio.run(scenario())


def test_labels_are_in_an_archive_only_for_those_who_see_them_in_a_list(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            home = server.create("home")
            server.app.registry.update(home.id, labels={"plan": "unpaid"})
            fill(server, home.id, {(0, b"k"): b"v"})
            reader = server.caller(home, groups=("readers",))
            for wish in ({}, {"database": 0}):
                assert dict((await exported(reader, **wish)).reader.header.labels) == {}
            guardian = server.caller(home, guardian=Guardian.NAMESPACE)
            assert dict((await exported(guardian)).reader.header.labels) == {"plan": "unpaid"}

    asyncio.run(scenario())


def test_an_export_that_is_read_steadily_and_slowly_ends_all_the_same(tmp_path: Path, monkeypatch: Any) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            home = server.create("home")
            fill(server, home.id, {(0, b"%04d" % number): b"v" * 1_000_000 for number in range(60)})
            monkeypatch.setattr(exports, "TRANSFER_MS_MAX", 300)
            call = exporting(server.caller(home, groups=("readers",)), codec="none")
            await anext(aiter(call))
            stream = next(iter(server.app.streams._streams))
            loop = asyncio.get_running_loop()
            over = loop.time() + 0.3
            await eventually(lambda: loop.time() > over, "too long")
            assert stream.viewing
            with pytest.raises(PrefixdbError) as cut, translated():
                async for _ in call:
                    pass
            assert cut.value.reason is Reason.DEADLINE
            await eventually(lambda: not server.app.streams.views(home.id), "let go")

    asyncio.run(scenario())


def test_a_backup_that_is_read_steadily_and_slowly_ends_all_the_same(tmp_path: Path, monkeypatch: Any) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            monkeypatch.setattr(backups, "TRANSFER_MS_MAX", 3_000)
            taking = await Taking(server.guardian).begin()
            loop = asyncio.get_running_loop()
            over = loop.time() + 3
            await eventually(lambda: loop.time() > over, "too long")
            with pytest.raises(PrefixdbError) as cut:
                await taking.want([0])
                await taking.chunks()
            assert cut.value.reason is Reason.DEADLINE
            await eventually(lambda: not list((tmp_path / "snapshots").glob("*")), "the snapshot is gone")

    asyncio.run(scenario())


def test_a_list_of_wanted_files_longer_than_there_are_is_refused_unread(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            taking = await Taking(server.guardian).begin()
            with pytest.raises(PrefixdbError) as refused:
                await taking.want(range(len(taking.files) + 1))
                await taking.chunks()
            assert refused.value.reason is Reason.BAD_FIELD
            assert "each position once" in refused.value.message and "below" in refused.value.message

    asyncio.run(scenario())
