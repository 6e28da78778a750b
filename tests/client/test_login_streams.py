"""Goal: a scan or a pipeline that outlives its token goes on with the next one, and loses and reorders nothing.

Method: a real server in the test's own loop and one held clock for both sides, which passes the token's end while the
stream is open. The server cuts what the token no longer covers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from prefixdb.client import methods
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.aio.database import AsyncDatabase
from prefixdb.client.options import ClientOptions
from prefixdb.errors import OutcomeUnknownError, Reason, UnauthenticatedError
from prefixdb.limits import ACCESS_TOKEN_S, TOKEN_LEEWAY_S
from tests.support.clocks import HeldClock
from tests.support.server import PASSWORD, RunningServer, running

PAST_END_MS = (ACCESS_TOKEN_S + TOKEN_LEEWAY_S + 1) * 1000
NEAR_END_MS = (ACCESS_TOKEN_S - 30) * 1000


class Recorder:
    """Counts the calls of a client."""

    def __init__(self, db: AsyncDatabase) -> None:
        self.sent: list[str] = []
        self.opened: list[Any] = []
        inner: Any = db._connection
        send, open_duplex, open_stream = inner._access._login._send, inner.open_duplex, inner.open_stream

        async def recorded(method: Any, *arguments: Any) -> Any:
            self.sent.append(method.path.rsplit("/", 1)[1])
            return await send(method, *arguments)

        async def opening(method: Any, *arguments: Any) -> Any:
            self.opened.append(await (open_duplex if method is methods.PIPELINE else open_stream)(method, *arguments))
            return self.opened[-1]

        inner._access._login._send = recorded
        inner.open_duplex = inner.open_stream = opening


@asynccontextmanager
async def member(directory: Path, clock: HeldClock) -> AsyncIterator[tuple[RunningServer, AsyncDatabase, Recorder]]:
    """Yield a server, a member of a namespace of it, and what the member's client does."""
    async with running(directory, clock=clock) as server:
        acme = server.create("acme")
        server.member(acme, "alice")
        options = ClientOptions(server.app.address, user="alice", password=PASSWORD, home=acme.id)
        db = AsyncDatabase(AsyncConnection(options, clock), 0, 10.0)
        try:
            yield server, db, Recorder(db)
        finally:
            await db.close()


def test_calls_go_on_for_days(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HeldClock()
        async with member(tmp_path, clock) as (_, db, done):
            for _ in range(5):
                await db.put("k", b"v")
                clock.advance(NEAR_END_MS)
            clock.advance(PAST_END_MS)
            assert await db.get("k") == b"v"
            assert done.sent == ["Login"] + ["Refresh"] * 5
            clock.advance(8 * 24 * 3600 * 1000)
            assert await db.get("k") == b"v"
            assert done.sent[-2:] == ["Refresh", "Login"], "a week unused ends the login, and there is a password"

    asyncio.run(scenario())


def test_a_client_whose_clock_is_wrong_renews_as_often_as_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HeldClock()
        async with member(tmp_path, clock) as (server, other, _):
            options = other.options
            for off_ms in (3 * 3600 * 1000, 400 * 24 * 3600 * 1000):
                theirs = HeldClock(clock.now_ms() + off_ms)
                db = AsyncDatabase(AsyncConnection(options, theirs), 0, 10.0)
                done = Recorder(db)
                for _ in range(3):
                    await db.get("k")
                assert done.sent == ["Login"]
                theirs.advance(NEAR_END_MS)
                await db.get("k")
                await db.get("k")
                assert done.sent == ["Login", "Refresh"]
                await db.close()
            assert server.app.clock.now_ms() == clock.now_ms()

    asyncio.run(scenario())


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_longer_than_its_token_goes_on_behind_the_last_row(tmp_path: Path, reverse: bool) -> None:
    async def scenario() -> None:
        clock = HeldClock()
        async with member(tmp_path, clock) as (_, db, done):
            # Enough of them that the server cannot have sent everything ahead.
            rows = [(b"%05d" % number, bytes(2000)) for number in range(12_000)]
            await db.put_many(rows)
            done.opened.clear()
            seen = []
            async for key, _ in db.scan(reverse=reverse):
                seen.append(key)
                if len(seen) == 500:
                    clock.advance(PAST_END_MS)
            wanted = [key for key, _ in rows]
            assert seen == (wanted[::-1] if reverse else wanted)
            assert [stream.token == done.opened[0].token for stream in done.opened] == [True, False]
            assert done.sent == ["Login", "Refresh"]

    asyncio.run(scenario())


def test_a_pipeline_follows_its_token_and_keeps_the_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HeldClock()
        async with member(tmp_path, clock) as (_, db, done):
            results = []
            async with db.pipeline(batch=10, in_flight=4) as pipeline:
                for number in range(300):
                    results.append(await pipeline.put("k", b"%d" % number))
                    if number == 100:
                        clock.advance(NEAR_END_MS)
                    if number == 205:  # Nothing was sent for so long that the server has cut the stream.
                        await pipeline.flush()
                        clock.advance(PAST_END_MS)
                        await until_ended(done.opened[-1])
            versions = [pending.result() for pending in results]
            assert versions == sorted(versions)
            assert len({stream.token for stream in done.opened}) == len(done.opened) == 3
            assert await db.get("k") == b"299"
            assert done.sent == ["Login", "Refresh", "Refresh"]

    asyncio.run(scenario())


def test_a_pipeline_that_is_cut_leaves_what_was_sent_in_doubt_and_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HeldClock()
        async with member(tmp_path, clock) as (server, db, done):
            pipeline = db.pipeline()
            await pipeline.put("a", b"v")
            await pipeline.flush()
            server.app.authority.identities.logins.end_all(server.app.registry.find("acme").id, "alice")
            await until_ended(done.opened[-1])
            doubtful = await pipeline.put("b", b"v")
            with pytest.raises(UnauthenticatedError):
                await pipeline.flush()
            with pytest.raises(OutcomeUnknownError) as caught:
                doubtful.result()
            assert isinstance(caught.value.__cause__, UnauthenticatedError)
            good = await pipeline.put("c", b"v")
            await pipeline.close()
            assert good.result() > 0
            assert done.sent == ["Login", "Refresh", "Login"]

    asyncio.run(scenario())


def test_a_pipeline_that_was_never_let_in_is_refused_without_doubt(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            acme = server.create("acme")
            options = ClientOptions(server.app.address, token=server.forged_token(acme))
            db = AsyncDatabase(AsyncConnection(options), 0, 10.0)
            pipeline = db.pipeline()
            refused = await pipeline.put("a", b"v")
            with pytest.raises(UnauthenticatedError):
                await pipeline.flush()
            with pytest.raises(UnauthenticatedError) as caught:
                refused.result()
            assert caught.value.reason is Reason.TOKEN_INVALID
            await db.close()

    asyncio.run(scenario())


async def until_ended(stream: Any) -> None:
    """Wait until the server has ended a stream."""
    async with asyncio.timeout(10):
        await stream._call._call.code()
