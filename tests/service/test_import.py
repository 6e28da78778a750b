"""Import over a real socket: what comes in, what happens to keys that exist, and what is refused.

Method: archives made by the writer are sent frame by frame; afterwards the namespace's rows are read from the store and
compared with a dict. Each test says what neighbours must not have noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from pathlib import Path
from typing import Any

import pytest

from prefixdb.archive import frames_of
from prefixdb.catalog.entities import Rule
from prefixdb.catalog.schema import Tag, rows_of
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import namespace_span, system_span
from prefixdb.limits import IMPORT_KEPT_MS, IMPORTS_PER_NAMESPACE_MAX
from prefixdb.v1 import transfer_pb2 as pb
from tests.service.test_export import fill
from tests.support.archives import archive, flips
from tests.support.archives_hostile import HOSTILE
from tests.support.clocks import HeldClock
from tests.support.importing import (
    FAIL,
    OVERWRITE,
    SKIP,
    Importing,
    archive_of,
    imported,
    refusal_of,
    rows_in,
    simple,
    versions_in,
)
from tests.support.server import Caller, RunningServer, eventually, running

LARGE = 25_000
"""Rows of an import that is no single commit."""


def as_dict(rows: list[tuple[int, bytes, bytes, int, int]]) -> dict[tuple[int, bytes], bytes]:
    """Return rows of an archive as the store must have them."""
    return {(database, key): value for database, key, value, _, _ in rows}


@pytest.mark.parametrize("count", [0, 1, 9_999, LARGE])
@pytest.mark.parametrize("on_conflict", [FAIL, SKIP, OVERWRITE])
def test_an_import_into_an_empty_namespace_brings_every_row(tmp_path: Path, count: int, on_conflict: int) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home, other = server.create("home"), server.create("other")
            rows = simple(count) + simple(count // 10, database=3)
            done = await imported(server.caller(home, groups=("writers",)), archive_of(rows), on_conflict=on_conflict)
            assert done.phase == pb.TRANSFER_PHASE_DONE
            assert (done.rows_received, done.rows_inserted) == (len(rows), len(rows))
            assert (done.rows_replaced, done.rows_skipped, done.rows_expired) == (0, 0, 0)
            assert rows_in(server.app.store, home.id) == as_dict(rows)
            assert rows_in(server.app.store, other.id) == {}
            await gone(server, home.id)

    asyncio.run(scenario())


async def gone(server: RunningServer, namespace_id: int) -> None:
    """Wait until nothing of an upload is left in the server."""
    folder = server.app.config.data_dir / "imports"
    await eventually(lambda: not len(server.app.imports), "no upload is left")
    assert list(folder.iterdir()) == []
    await eventually(lambda: server.app.streams.views(namespace_id) == 0, "nothing holds the namespace")


@pytest.mark.parametrize("count", [100, LARGE])
def test_keys_that_exist_are_kept_replaced_or_end_the_import_as_asked(tmp_path: Path, count: int) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            rows = simple(count)
            there = {key: b"old" for position, key in enumerate(as_dict(rows)) if position % 3 == 0}
            there[0, b"key/0000000x"] = b"beside"
            taken = len(there) - 1
            for on_conflict in (FAIL, SKIP, OVERWRITE):
                home = server.create(f"home{on_conflict}")
                fill(server, home.id, there)
                caller = server.caller(home, groups=("writers",))
                dry = await outcome(caller, rows, on_conflict=on_conflict, dry_run=True)
                assert rows_in(server.app.store, home.id) == there
                done = await outcome(caller, rows, on_conflict=on_conflict)
                assert dry == done
                if on_conflict == FAIL:
                    assert done == (Reason.IMPORT_CONFLICT, str(taken))
                    assert rows_in(server.app.store, home.id) == there
                elif on_conflict == SKIP:
                    assert done == (count - taken, 0, taken, 0)
                    assert rows_in(server.app.store, home.id) == as_dict(rows) | there
                else:
                    assert done == (count - taken, taken, 0, 0)
                    assert rows_in(server.app.store, home.id) == there | as_dict(rows)
                await gone(server, home.id)

    asyncio.run(scenario())


async def outcome(caller: Caller, rows: list[tuple[int, bytes, bytes, int, int]], **settings: Any) -> Any:
    """Import and return the counts, or why it was refused."""
    try:
        done = await imported(caller, archive_of(rows, kind=settings.pop("kind", "export")), **settings)
    except PrefixdbError as failure:
        return failure.reason, failure.metadata.get("rows")
    return done.rows_inserted, done.rows_replaced, done.rows_skipped, done.rows_expired


@pytest.mark.parametrize("count", [100, LARGE])
@pytest.mark.parametrize("occupied", [False, True])
def test_rows_keep_the_order_of_their_versions_when_asked(tmp_path: Path, count: int, occupied: bool) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            if occupied:
                fill(server, home.id, {(0, b"key/0000000x"): b""})
            # Versions go down while keys go up, and every two neighbours share one.
            rows = [(0, b"key/%07d" % number, b"", 2**50 - number // 2 * 1000, 0) for number in range(count)]
            before = server.app.store.status().last_version
            done = await imported(
                server.caller(home, groups=("writers",)), archive_of(rows), on_conflict=SKIP, keep_version_order=True
            )
            assert done.rows_inserted == count
            found = versions_in(server.app.store, home.id)
            found.pop(b"key/0000000x", None)
            new = [found[key] for _, key, *_ in rows]
            assert all(one > other for one, other in zip(new[::2], new[2::2], strict=False))
            assert new[0::2] == new[1::2]
            assert before < min(new) and max(new) < server.app.store.status().last_version

    asyncio.run(scenario())


def test_rows_whose_lifetime_is_over_stay_away_and_others_keep_theirs(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HeldClock(now_ms=1_700_000_000_000)
        async with running(tmp_path / "data", clock=clock) as server:
            home = server.create("home")
            for count in (10, LARGE):
                rows = [
                    (0, b"%d/%07d" % (count, number), b"", 1, (0, clock.now_ms(), clock.now_ms() + 1)[number % 3])
                    for number in range(count)
                ]
                done = await imported(server.caller(home, groups=("writers",)), archive_of(rows))
                assert done.rows_expired == len(range(1, count, 3)) and done.rows_inserted == count - done.rows_expired
            assert len(rows_in(server.app.store, home.id)) == sum(
                len(range(0, c, 3)) + len(range(2, c, 3)) for c in (10, LARGE)
            )
            clock.advance(1)
            assert len(rows_in(server.app.store, home.id)) == sum(len(range(0, c, 3)) for c in (10, LARGE))
            late = [(0, b"late", b"", 1, clock.now_ms() + 101 * 365 * 24 * 3600 * 1000)]
            assert await outcome(server.caller(home, groups=("writers",)), late) == (Reason.ARCHIVE_INVALID, None)

    asyncio.run(scenario())


def test_plain_rows_come_in_any_order_and_more_than_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            for on_conflict, wins in ((SKIP, b"0"), (OVERWRITE, b"2"), (FAIL, b"0")):
                home = server.create(f"home{on_conflict}")
                rows = [
                    (0, b"%d" % (number * 7919 % 6_000), b"%d" % time, 0, 0)
                    for time in range(3)
                    for number in range(6_000)
                ]
                done = await outcome(
                    server.caller(home, groups=("writers",)), rows, kind="rows", on_conflict=on_conflict
                )
                assert sum(done) == 18_000 and done[0] == 6_000
                assert done[1 if on_conflict == OVERWRITE else 2] == 12_000
                assert set(rows_in(server.app.store, home.id).values()) == {wins}

    asyncio.run(scenario())


def test_sorted_rows_come_in_as_files_where_the_store_can(tmp_path: Path, server_store: str) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            fill(server, home.id, {(0, b"key"): b"below", (0, b"kez"): b"above", (1, b"key/0000007"): b"beside"})
            can = server.app.store.open_ingest(namespace_span(home.id))
            done = await imported(server.caller(home, groups=("writers",)), archive_of(simple(LARGE)))
            assert done.way == ("batches" if can is None else "files")
            assert len(rows_in(server.app.store, home.id)) == LARGE + 3
            system = system_span(home.id, Tag.IMPORT)
            assert len(list(rows_of(server.app.store, system))) == 1  # The result; no marker.

    asyncio.run(scenario())


def test_an_interrupted_upload_goes_on_with_its_id_and_never_counts_a_frame_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            caller = server.caller(home, groups=("writers",))
            rows = simple(3_000)
            frames = archive_of(rows, frame_rows=100)
            first = Importing(caller)
            assert (await first.ready()).frames_kept == 0
            await first.send(frames[:12])
            first.call.cancel()
            second = Importing(caller, first.upload)
            kept = await second.ready()
            assert 0 < kept.frames_kept <= 12 and kept.rows_received == (kept.frames_kept - 1) * 100
            assert kept.digest == frames[kept.frames_kept - 1][-32:]
            assert rows_in(server.app.store, home.id) == {}
            await second.send(frames[kept.frames_kept : 20])
            # The same client, over a new connection while the server still believes in the old one.
            third = Importing(caller, first.upload)
            again = await third.ready()
            assert kept.frames_kept <= again.frames_kept <= 20
            with pytest.raises(PrefixdbError) as cut:
                await second.last()
            assert cut.value.reason is Reason.CANCELLED
            await third.send(frames[again.frames_kept :])
            assert (await third.done()).rows_inserted == 3_000
            assert rows_in(server.app.store, home.id) == as_dict(rows)
            wrong = Importing(caller, first.upload, on_conflict=OVERWRITE)
            assert (await wrong.ready()).frames_kept == len(frames)  # It is over, and its result is asked for.
            await gone(server, home.id)

    asyncio.run(scenario())


def test_asking_again_gives_the_result_and_imports_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HeldClock(now_ms=1_700_000_000_000)
        async with running(tmp_path / "data", clock=clock) as server:
            home = server.create("home")
            caller = server.caller(home, groups=("writers",), ttl_s=86_400)
            frames = archive_of(simple(50))
            upload = "ab" * 16
            done = await imported(caller, frames, upload, on_conflict=OVERWRITE)
            fill(server, home.id, {(0, b"key/0000001"): b"later"})
            again = await imported(caller, frames, upload, on_conflict=OVERWRITE)
            assert again == done
            assert rows_in(server.app.store, home.id)[0, b"key/0000001"] == b"later"
            clock.advance(IMPORT_KEPT_MS)
            assert (await imported(caller, frames, upload, on_conflict=OVERWRITE)).rows_replaced == 50

    asyncio.run(scenario())


def test_an_upload_is_its_subjects_alone_whoever_knows_its_id(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home, other = server.create("home"), server.create("other")
            frames = archive_of(simple(500), frame_rows=100)
            mine = Importing(server.caller(home, groups=("writers",)))
            await mine.ready()
            await mine.send(frames[:3])
            mine.call.cancel()
            for caller in (
                server.caller(other, groups=("writers",)),
                server.caller(home, groups=("writers",), subject="else"),
            ):
                ready = await Importing(caller, mine.upload).ready()
                assert (ready.frames_kept, ready.digest, ready.rows_received) == (0, b"", 0)
            done = await imported(server.caller(home, groups=("writers",)), frames, mine.upload)
            assert done.rows_inserted == 500
            theirs = await Importing(server.caller(other, groups=("writers",)), mine.upload).ready()
            assert theirs.frames_kept == 0
            assert rows_in(server.app.store, other.id) == {}

    asyncio.run(scenario())


def test_every_row_is_held_against_the_callers_rules(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            server.add_group(home.id, "mine", Rule(0, b"mine/", read=True, write=True))
            server.add_group(home.id, "blind", Rule(0, b"", read=False, write=True))
            mine = [(0, b"mine/%d" % number, b"", 1, 0) for number in range(9)]
            caller = server.caller(home, groups=("mine",))
            assert (await imported(caller, archive_of(mine))).rows_inserted == 9
            before = rows_in(server.app.store, home.id)
            for bad in ([*mine, (0, b"other", b"", 1, 0)], [*mine, (1, b"mine/1", b"", 1, 0)]):
                assert await outcome(caller, bad, on_conflict=OVERWRITE) == (Reason.NOT_PERMITTED, None)
            assert await outcome(server.caller(home, groups=("readers",)), mine) == (Reason.NOT_PERMITTED, None)
            assert rows_in(server.app.store, home.id) == before
            blind = server.caller(home, groups=("blind",))
            for settings in ({"on_conflict": SKIP}, {"on_conflict": OVERWRITE, "dry_run": True}, {"on_conflict": FAIL}):
                assert await outcome(blind, mine, **settings) == (Reason.NOT_PERMITTED, None)
            # Who may not read is not told which keys there were.
            assert await outcome(blind, mine, on_conflict=OVERWRITE) == (9, 0, 0, 0)
            await gone(server, home.id)

    asyncio.run(scenario())


def test_a_forbidden_row_does_not_get_in_by_leaving_before_it_is_looked_at(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            server.add_group(home.id, "mine", Rule(0, b"mine/", read=True, write=True))
            caller = server.caller(home, groups=("mine",))
            frames = archive_of(
                [(0, b"mine/%d" % number, b"", 1, 0) for number in range(4)] + [(0, b"other", b"", 1, 0)]
            )
            one = Importing(caller)
            await one.ready()
            await one.send(frames[:2])
            one.call.cancel()
            await eventually(lambda: all(not upload.owner for upload in server.app.imports._uploads.values()), "left")
            with pytest.raises(PrefixdbError) as refused:
                await imported(caller, frames, one.upload)
            assert refused.value.reason is Reason.NOT_PERMITTED
            assert rows_in(server.app.store, home.id) == {}

    asyncio.run(scenario())


def test_rights_that_were_lost_during_the_upload_count_for_every_row(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            members = server.app.authority.identities.members
            groups = server.app.authority.identities.groups
            groups.create(home.id, "wide", (Rule(None, b"", read=True, write=True),))
            server.member(home, "alice", groups=("wide",))
            assert members
            caller = await server.login("alice", home=home)
            frames = archive_of(simple(300), frame_rows=100)
            one = Importing(caller)
            await one.ready()
            await one.send(frames[:3])
            await eventually(lambda: any(upload.rows == 200 for upload in server.app.imports._uploads.values()), "kept")
            groups.update(home.id, "wide", (Rule(0, b"key/00002", read=True, write=True),))
            with pytest.raises(PrefixdbError) as refused:
                await one.send(frames[3:])
                await one.done()
            assert refused.value.reason is Reason.NOT_PERMITTED
            assert rows_in(server.app.store, home.id) == {}
            await gone(server, home.id)

    asyncio.run(scenario())


def test_a_namespace_has_room_for_a_few_imports_and_kept_ones_give_way_to_their_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home, other = server.create("home"), server.create("other")
            frames = archive_of(simple(10))
            callers = [server.caller(home, groups=("writers",), subject=f"s{number}") for number in range(6)]
            running_now = [Importing(caller) for caller in callers[:IMPORTS_PER_NAMESPACE_MAX]]
            for one in running_now:
                await one.ready()
            with pytest.raises(PrefixdbError) as refused:
                await imported(callers[4], frames)
            assert refused.value.reason is Reason.TOO_MANY_STREAMS
            assert (await imported(server.caller(other, groups=("writers",)), frames)).rows_inserted == 10
            running_now[0].call.cancel()
            await eventually(lambda: any(upload.is_idle for upload in server.app.imports._uploads.values()), "kept")
            with pytest.raises(PrefixdbError):
                await imported(callers[4], frames)  # Somebody else's kept upload does not give way.
            assert (await imported(callers[0], frames)).rows_inserted == 10

    asyncio.run(scenario())


def test_a_kept_upload_is_forgotten_after_an_hour(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HeldClock(now_ms=1_700_000_000_000)
        async with running(tmp_path / "data", clock=clock) as server:
            home = server.create("home")
            caller = server.caller(home, groups=("writers",), ttl_s=86_400)
            one = Importing(caller)
            await one.ready()
            await one.send(archive_of(simple(10))[:2])
            one.call.cancel()
            await eventually(lambda: any(upload.is_idle for upload in server.app.imports._uploads.values()), "kept")
            clock.advance(IMPORT_KEPT_MS - 1)
            server.app.imports.look()
            assert len(server.app.imports) == 1 and server.app.streams.views(home.id)
            clock.advance(1)
            await gone(server, home.id)
            assert (await Importing(caller, one.upload).ready()).frames_kept == 0

    asyncio.run(scenario())


def test_hostile_archives_are_refused_with_the_place_and_leave_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            caller = server.caller(home, groups=("writers",))
            refusals = 0
            bad = [(f"flip {at}", data) for at, data in flips(archive(rows=40), 25)]
            bad += [(name, make().data) for name, make in HOSTILE.items()]
            for name, data in bad:
                refused = await refusal_of(server.app.address, caller, cut(data))
                assert refused is not None, name
                if refused.reason not in (Reason.REQUEST_TOO_LARGE, Reason.FORMAT_TOO_NEW):
                    assert refused.reason is Reason.ARCHIVE_INVALID and "place" in refused.metadata, name
                refusals += 1
                # Its place is given back when its file is gone, a moment after the answer.
                await eventually(lambda: not any(each.failure for each in server.app.imports._uploads.values()), "gone")
            assert refusals > 40
            assert rows_in(server.app.store, home.id) == {}

            # What was only cut short is kept, for its client may come again; nothing else is.
            def only_kept() -> bool:
                return all(each.is_idle and each.failure is None for each in server.app.imports._uploads.values())

            await eventually(only_kept, "what is wrong is gone")
            await eventually(lambda: len(server.app.imports) <= IMPORTS_PER_NAMESPACE_MAX, "what was wrong is gone")

    asyncio.run(scenario())


def test_nothing_is_applied_before_the_client_says_that_no_more_comes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            caller = server.caller(home, groups=("writers",))
            frames = archive_of(simple(50), frame_rows=10)
            for behind in (frames[-1], frames[1], frames[0], b"\n", b""):
                one = Importing(caller)
                await one.ready()
                await one.send(frames)
                await eventually(
                    lambda: any(each.spool.ended for each in server.app.imports._uploads.values()), "ended"
                )
                assert all(each.job is None for each in server.app.imports._uploads.values())
                with pytest.raises(PrefixdbError) as refused:
                    await one.send([behind])
                    await one.done()
                assert refused.value.reason is Reason.ARCHIVE_INVALID
                assert refused.value.metadata["place"].startswith(f"frame {len(frames) + 1} at byte ")
                await gone(server, home.id)
                assert rows_in(server.app.store, home.id) == {}
            # Who was interrupted between the footer and that word goes on with nothing left to send.
            one = Importing(caller)
            await one.ready()
            await one.send(frames)
            await eventually(lambda: has_ended(server), "ended")
            again = Importing(caller, one.upload)
            assert (await again.ready()).frames_kept == len(frames)
            assert (await again.done()).rows_inserted == 50

    asyncio.run(scenario())


def has_ended(server: RunningServer) -> bool:
    """Return whether the server has an upload's footer."""
    return any(each.spool is not None and each.spool.ended for each in server.app.imports._uploads.values())


def cut(data: bytes) -> list[bytes]:
    """Return a file's frames, and as the last one whatever is left where none begins."""
    frames: list[bytes] = []
    with contextlib.suppress(PrefixdbError):
        for frame in frames_of(io.BytesIO(data)):
            frames.append(frame)
    rest = data[sum(map(len, frames)) :]
    return [*frames, rest] if rest else frames
