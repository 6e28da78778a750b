"""What ends an export or an import from outside: a ban, a revocation, the end of a token; and what an export shows.

Method: real sockets and a client that stops in the middle; the time from the act to the end of the call is measured,
and what is left in the data directory is looked at.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from prefixdb.catalog.entities import Guardian, NamespaceState, Rule
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.v1 import key_value_pb2
from tests.service.test_export import exported, exporting, fill
from tests.support.clocks import HeldClock
from tests.support.importing import Importing, archive_of, rows_in, simple
from tests.support.server import Caller, eventually, reference, running, translated

BIG = {(0, b"%06d" % number): b"x" * 50_000 for number in range(2_000)}
"""More than the buffers between a server and a client that does not read."""


async def stopped_in_the_middle(caller: Caller, **fields: Any) -> Any:
    """Start an export and read two frames of it."""
    call = exporting(caller, codec="none", **fields)
    with translated():
        await call.read()
        await call.read()
    return call


async def end_of(call: Any) -> Reason:
    """Read on and return why it ended."""
    with pytest.raises(PrefixdbError) as ended, translated():
        while hasattr(await call.read(), "frame"):
            pass
    return ended.value.reason


@pytest.mark.parametrize("foreign", [False, True])
def test_a_ban_ends_an_export_within_a_second_and_waits_for_its_cursor(tmp_path: Path, foreign: bool) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            fill(server, home.id, BIG)
            caller = server.guardian if foreign else server.caller(home, groups=("readers",))
            fields = {"namespace": reference(home)} if foreign else {}
            call = await stopped_in_the_middle(caller, **fields)
            assert server.app.streams.views(home.id) == 1
            await asyncio.to_thread(server.app.registry.ban, home.id, by="test")
            begin = time.monotonic()
            await eventually(lambda: server.app.streams.views(home.id) == 0, "the cursor is closed", 1.0)
            assert await end_of(call) is Reason.NAMESPACE_BANNED
            assert time.monotonic() - begin < 1.0
            await eventually(
                lambda: server.app.registry.get(home.id).state is NamespaceState.RECLAIMED, "reclaimed", 30.0
            )

    asyncio.run(scenario())


def test_a_revocation_and_the_end_of_a_token_end_an_export(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HeldClock(now_ms=1_700_000_000_000)
        async with running(tmp_path / "data", clock=clock) as server:
            home = server.create("home")
            fill(server, home.id, BIG)
            call = await stopped_in_the_middle(server.caller(home, groups=("readers",), subject="one"))
            await asyncio.to_thread(server.app.authority.revoke_subject, home.id, "one")
            assert await end_of(call) is Reason.TOKEN_REVOKED
            call = await stopped_in_the_middle(server.caller(home, groups=("readers",), ttl_s=60))
            clock.advance(95_000)
            assert await end_of(call) is Reason.TOKEN_EXPIRED

    asyncio.run(scenario())


def test_an_export_is_of_one_instant_while_others_write(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            fill(server, home.id, {(0, b"m%06d" % number): b"x" * 200 for number in range(30_000)})
            writer = server.caller(home, groups=("writers",))
            stop = False
            sums = []

            def move(number: int) -> Any:
                # Four counters at both ends of two databases are always equal.
                puts = [
                    key_value_pb2.Mutation(
                        put=key_value_pb2.Mutation.Put(database=database, key=key, value=b"%d" % number)
                    )
                    for database, key in ((0, b"a"), (0, b"z"), (9, b"a"), (65535, b"z"))
                ]
                return writer.call(writer.key_value.Write, key_value_pb2.WriteRequest(mutations=puts))

            await move(0)

            async def write() -> None:
                number = 0
                while not stop:
                    number += 1
                    await move(number)

            writing = asyncio.create_task(write())
            for _ in range(6):
                archive = await exported(server.caller(home, groups=("readers",)))
                counters = {row[2] for row in archive.rows if len(row[1]) == 1}
                assert len(counters) == 1 and len(archive.rows) == 30_004
                sums.append(int(counters.pop()))
            stop = True
            await writing
            assert sums == sorted(set(sums))

    asyncio.run(scenario())


def test_who_may_export_what_and_what_is_written_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home, other = server.create("home"), server.create("other")
            fill(server, home.id, {(0, b"a/1"): b"", (0, b"b"): b"", (1, b"c"): b""})
            server.member(home, "alice", groups=("writers",))
            server.add_group(home.id, "part", Rule(0, b"a/", read=True, write=False))
            part = server.caller(home, groups=("part",))
            assert [row[1] for row in (await exported(part, database=0, prefix=b"a/")).rows] == [b"a/1"]
            guardian = server.caller(home, guardian=Guardian.NAMESPACE)
            refusals = [
                (part, {"database": 0}),
                (part, {}),
                (server.caller(home, groups=("readers",)), {"members": True}),
                (guardian, {"namespace": reference(other)}),
                (guardian, {"namespace": reference("nowhere")}),
            ]
            for caller, fields in refusals:
                with pytest.raises(PrefixdbError) as refused:
                    await exported(caller, **fields)
                assert refused.value.reason is Reason.NOT_PERMITTED
            archive = await exported(guardian, members=True)
            assert [member.name for member in archive.members] == ["alice"]
            assert [group.name for group in archive.groups] == ["part"]
            assert len(archive.rows) == 3
            assert len((await exported(server.guardian, namespace=reference(home), members=True)).members) == 1
            lines = [json.loads(line) for line in (tmp_path / "data" / "audit.jsonl").read_text().splitlines()]
            done = [line for line in lines if line["method"].endswith("/Export") and line["result"] == "ok"]
            assert len(done) == 2 and all("home, with members" in line["target"] for line in done)

    asyncio.run(scenario())


@pytest.mark.parametrize("attached", [False, True])
def test_a_ban_removes_an_upload_before_the_namespace_is_proven_empty(tmp_path: Path, attached: bool) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            folder = tmp_path / "data" / "imports"
            one = Importing(server.caller(home, groups=("writers",)))
            await one.ready()
            await one.send(archive_of(simple(5_000), frame_rows=1_000)[:4])
            if not attached:
                one.call.cancel()
                await eventually(lambda: not server.app.streams._slots, "the call is over")
            assert server.app.streams.views(home.id) and len(list(folder.iterdir())) == 1
            seen: list[int] = []
            publish = server.app.store.publish_bans

            def published(ids: Any) -> None:
                seen.append(len(list(folder.iterdir())))
                publish(ids)

            server.app.store.publish_bans = published  # type: ignore[method-assign]
            await asyncio.to_thread(server.app.registry.ban, home.id, by="test")
            if attached:
                with pytest.raises(PrefixdbError) as ended:
                    await one.last()
                assert ended.value.reason is Reason.NAMESPACE_BANNED
            await eventually(lambda: list(folder.iterdir()) == [], "the spool is gone", 1.5)
            await eventually(
                lambda: server.app.registry.get(home.id).state is NamespaceState.RECLAIMED, "reclaimed", 30.0
            )
            assert seen and not any(seen)

    asyncio.run(scenario())


def test_a_restart_removes_what_is_nobodys_and_goes_on_with_what_has_begun(tmp_path: Path) -> None:
    async def scenario() -> None:
        rows = simple(25_000)
        frames = archive_of(rows, frame_rows=500)
        folder = tmp_path / "data" / "imports"
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            # A row in the way, so that the store that could take files has to write batches.
            fill(server, home.id, {(0, b"key/0000000x"): b""})
            token = server.token(home.id, groups=("writers",))
            one = Importing(Caller(server.channel, token), on_conflict=2)
            await one.ready()
            half = Importing(Caller(server.channel, token))
            await half.ready()
            await half.send(frames[:9])
            await one.send(frames)
            await one.call.done_writing()
            await eventually(
                lambda: any(u.importer.progress.rows_done > 2_000 for u in server.app.imports._uploads.values()), "rows"
            )
            assert 0 < len(rows_in(server.app.store, home.id)) < 25_001
        assert len(list(folder.iterdir())) == 1
        (folder / "stray").write_bytes(b"")
        async with running(tmp_path / "data") as server:
            await eventually(lambda: not len(server.app.imports), "finished", 30.0)
            assert list(folder.iterdir()) == []
            assert len(rows_in(server.app.store, home.id)) == 25_001
            again = Importing(Caller(server.channel, token), one.upload, on_conflict=2)
            assert (await again.ready()).frames_kept == len(frames)
            done = await again.last()
            assert (done.rows_inserted, done.rows_skipped) == (25_000, 0)

    asyncio.run(scenario())


def test_an_import_into_a_namespace_that_takes_no_rows_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            caller = server.caller(home, groups=("writers",))
            for state, reason in (
                (NamespaceState.READ_ONLY, Reason.READ_ONLY),
                (NamespaceState.SUSPENDED, Reason.NAMESPACE_SUSPENDED),
            ):
                server.app.registry.suspend(home.id, state)
                with pytest.raises(PrefixdbError) as refused:
                    await Importing(caller).ready()
                assert refused.value.reason is reason

    asyncio.run(scenario())
