"""Goal: an open stream outlives neither its token nor its namespace nor its client's patience, by a second at most.

Method: a real server; streams are opened and held in every way they can be held (idle, between pages, blocked in a
write to a client that does not read), then the ground is taken from under them. The measured time runs from the moment
the act returns to the end of the call as the client sees it, or as the server's own registry of streams does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from prefixdb import limits
from prefixdb.catalog.entities import DEFAULT_NAMESPACE_ID, NamespaceRecord, NamespaceState
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import data_key
from prefixdb.service import calls, key_value, streams
from prefixdb.store.base import Commit, Put
from prefixdb.v1 import key_value_pb2 as pb
from tests.support.clocks import HeldClock
from tests.support.server import Caller, RunningServer, change, error_of, eventually, running

CUT_S_MAX = 1.0
"""The promise."""

UNREAD_MIB = 40
"""More than goes to a client that reads nothing: its window grows to 16 MiB, and kernels take some more."""

Act = Callable[[RunningServer, NamespaceRecord], Awaitable[Any]]


async def ban(server: RunningServer, namespace: NamespaceRecord) -> None:
    await asyncio.to_thread(server.app.registry.ban, namespace.id, by="test", grace_ms=60_000)


async def suspend(server: RunningServer, namespace: NamespaceRecord) -> None:
    await asyncio.to_thread(server.app.registry.suspend, namespace.id, NamespaceState.SUSPENDED, "")


async def revoke_subject(server: RunningServer, namespace: NamespaceRecord) -> None:
    await asyncio.to_thread(server.app.authority.revoke_subject, namespace.id, "somebody")


async def revoke_namespace(server: RunningServer, namespace: NamespaceRecord) -> None:
    await asyncio.to_thread(server.app.authority.revoke_namespace, namespace.id)


async def revoke_everyone(server: RunningServer, namespace: NamespaceRecord) -> None:
    await asyncio.to_thread(server.app.authority.revoke_everyone)


async def revoke_jti(server: RunningServer, namespace: NamespaceRecord) -> None:
    for record in server.app.authority.list(namespace.id):
        await asyncio.to_thread(server.app.authority.revoke_jti, namespace.id, record.jti)


async def expire(server: RunningServer, namespace: NamespaceRecord) -> None:
    clock: Any = server.app.clock
    clock.advance((3600 + limits.TOKEN_LEEWAY_S) * 1000)


ACTS = {
    ban: Reason.NAMESPACE_BANNED,
    suspend: Reason.NAMESPACE_SUSPENDED,
    revoke_subject: Reason.TOKEN_REVOKED,
    revoke_namespace: Reason.TOKEN_REVOKED,
    revoke_everyone: Reason.TOKEN_REVOKED,
    revoke_jti: Reason.TOKEN_REVOKED,
    expire: Reason.TOKEN_EXPIRED,
}


def fill(server: RunningServer, namespace: NamespaceRecord, mebibytes: int) -> None:
    """Store so much that no client's window takes it all at once."""
    for number in range(mebibytes):
        row = Put(data_key(namespace.id, 0, b"%04d" % number), b"v" * (limits.MIB - 100))
        if number % 8 == 7:
            server.app.store.flush()  # A slow disk would have the store refuse writes until it has caught up.
        assert server.app.store.commit(Commit((row,))).applied


async def end_of(call: Any) -> PrefixdbError:
    """Read a call to its end and return the error it ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(3 * CUT_S_MAX):
            while await call.read() is not grpc.aio.EOF:
                pass
        raise AssertionError(f"the stream ended with {await call.code()}")
    return error_of(caught.value)


async def idle_pipeline(caller: Caller) -> Any:
    """Return a Pipeline stream that has answered once and waits for more."""
    call = caller.key_value.Pipeline(metadata=caller.metadata)
    await call.write(pb.PipelineRequest(id=1, operations=[pb.Operation(get=pb.GetRequest(key=b"k"))]))
    assert (await call.read()).id == 1
    return call


async def unread_scan(server: RunningServer, caller: Caller) -> Any:
    """Return a Scan whose server side is blocked in a write, because nobody reads."""
    call = caller.key_value.Scan(pb.ScanRequest(), metadata=caller.metadata)
    await call.read()
    await eventually(lambda: server.waiting_for_clients() > 0, "the scan waits for its client")
    return call


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_an_idle_pipeline_ends_within_a_second(tmp_path: Path, act: Act) -> None:
    async def main() -> None:
        async with running(tmp_path / "data", clock=HeldClock()) as server:
            acme, bystander = server.create("acme"), server.create("bystander")
            kept = await idle_pipeline(server.caller(bystander, subject="other"))
            call = await idle_pipeline(server.caller(acme))
            await act(server, acme)
            started = time.monotonic()
            assert (await end_of(call)).reason is ACTS[act]
            assert time.monotonic() - started < CUT_S_MAX
            if act not in {revoke_everyone, expire}:
                await kept.write(pb.PipelineRequest(id=2))
                assert (await kept.read()).id == 2, "a stream of another namespace was cut"
            kept.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_a_scan_blocked_in_a_write_gives_its_cursor_back_within_a_second(tmp_path: Path, act: Act) -> None:
    async def main() -> None:
        async with running(tmp_path / "data", clock=HeldClock()) as server:
            acme = server.create("acme")
            fill(server, acme, UNREAD_MIB)
            call = await unread_scan(server, server.caller(acme))
            assert server.app.streams.views(acme.id) == 1
            await act(server, acme)
            await eventually(lambda: server.app.streams.views(acme.id) == 0, "the view is closed", CUT_S_MAX)
            failure = await end_of(call)
            assert failure.reason is ACTS[act]
            await eventually(lambda: len(server.app.streams) == 0, "the slot is given back")

    asyncio.run(main())


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_a_scan_whose_first_page_is_under_way_is_told_why_it_ends(tmp_path: Path, act: Act) -> None:
    """grpc must not be left in doubt whether the headers went: it could not end the call then."""

    async def main() -> None:
        async with running(tmp_path / "data", clock=HeldClock()) as server:
            acme = server.create("acme")
            fill(server, acme, UNREAD_MIB)
            caller = server.caller(acme)
            call = caller.key_value.Scan(pb.ScanRequest(), metadata=caller.metadata)
            open_streams = server.app.streams
            await eventually(lambda: server.waiting_for_clients() > 0, "the scan waits")
            await act(server, acme)
            assert (await end_of(call)).reason is ACTS[act]
            await eventually(lambda: len(open_streams) == 0, "the slot is given back")

    asyncio.run(main())


@pytest.mark.parametrize("act", [ban, suspend, revoke_subject, revoke_everyone], ids=lambda act: act.__name__)
def test_an_act_cuts_streams_at_once_and_does_not_wait_for_the_sweep(
    tmp_path: Path, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SWEEP_S", 3600)

    async def main() -> None:
        async with running(tmp_path / "data", clock=HeldClock()) as server:
            acme = server.create("acme")
            call = await idle_pipeline(server.caller(acme))
            await act(server, acme)
            assert (await end_of(call)).reason is ACTS[act]

    asyncio.run(main())


@pytest.mark.usefixtures("python_front")
@pytest.mark.parametrize("method", ["Scan", "Count", "Pipeline"])
def test_a_stream_that_nobody_cuts_looks_for_itself_before_it_goes_on(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut takes a turn of the event loop to arrive; what the handler does until then must be right as well.

    Of the native front front_scan_test.cc, front_methods_test.cc and front_pipeline_test.cc show it.
    """
    monkeypatch.setattr(streams.Stream, "recheck", lambda _: None)
    monkeypatch.setattr(key_value, "COUNT_STEP_ROWS", 1)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            caller = server.caller(acme)
            fill(server, acme, UNREAD_MIB)
            if method == "Pipeline":
                call = await idle_pipeline(caller)
                await ban(server, acme)
                await call.write(pb.PipelineRequest(operations=[pb.Operation(get=pb.GetRequest(key=b"0000"))]))
                assert (await end_of(call)).reason is Reason.NAMESPACE_BANNED
            elif method == "Scan":
                call = await unread_scan(server, caller)
                await ban(server, acme)
                assert (await end_of(call)).reason is Reason.NAMESPACE_BANNED
            else:
                rows = tuple(Put(data_key(acme.id, 1, b"%06d" % n), b"") for n in range(10_000))
                assert server.app.store.commit(Commit(rows)).applied
                counting = asyncio.create_task(caller.call(caller.key_value.Count, pb.CountRequest(database=1)))
                await eventually(lambda: server.app.streams.views(acme.id) == 1, "the count runs")
                await ban(server, acme)
                with pytest.raises(PrefixdbError) as caught:
                    await counting
                assert caught.value.reason is Reason.NAMESPACE_BANNED

    asyncio.run(main())


def test_no_row_is_sent_after_a_ban_although_the_scan_had_begun(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            fill(server, acme, UNREAD_MIB)
            call = await unread_scan(server, server.caller(acme))
            await ban(server, acme)
            await eventually(lambda: server.app.streams.views(acme.id) == 0, "the view is closed", CUT_S_MAX)
            pages = 0
            with pytest.raises(grpc.aio.AioRpcError):
                while await call.read() is not grpc.aio.EOF:
                    pages += 1
                await call
            assert pages < UNREAD_MIB - 8, "what was in flight may arrive, the rest of the namespace must not"

    asyncio.run(main())


def test_a_client_that_takes_no_message_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, calls, "SLOW_READER_MS_MAX", 300)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            fill(server, acme, UNREAD_MIB)
            call = await unread_scan(server, server.caller(acme))
            await eventually(lambda: server.app.streams.views(acme.id) == 0, "the view is closed", 0.3 + CUT_S_MAX)
            assert (await end_of(call)).reason is Reason.DEADLINE

    asyncio.run(main())


def test_a_client_that_reads_slowly_but_does_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, calls, "SLOW_READER_MS_MAX", 600)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            fill(server, acme, 8)
            caller = server.caller(acme)
            call = caller.key_value.Scan(pb.ScanRequest(), metadata=caller.metadata)
            rows = 0
            while (page := await call.read()) is not grpc.aio.EOF:
                rows += len(page.rows)
                await asyncio.sleep(0.2)
            assert rows == 8

    asyncio.run(main())


def test_a_pipeline_that_sends_nothing_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, calls, "PIPELINE_IDLE_MS_MAX", 200)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            call = await idle_pipeline(server.caller(server.create("acme")))
            assert (await end_of(call)).reason is Reason.DEADLINE

    asyncio.run(main())


def test_a_scan_stops_working_when_its_client_goes_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            fill(server, acme, UNREAD_MIB)
            call = await unread_scan(server, server.caller(acme))
            call.cancel()
            await eventually(lambda: len(server.app.streams) == 0, "the stream is gone", CUT_S_MAX)
            assert server.app.streams.views(acme.id) == 0

    asyncio.run(main())


def test_a_scan_ends_at_its_deadline(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            fill(server, acme, UNREAD_MIB)
            caller = server.caller(acme)
            call = caller.key_value.Scan(pb.ScanRequest(), metadata=caller.metadata, timeout=0.5)
            await call.read()
            await eventually(lambda: len(server.app.streams) == 1, "the scan runs")
            await eventually(lambda: len(server.app.streams) == 0, "the scan ended", 0.5 + CUT_S_MAX)
            assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    asyncio.run(main())


def test_streams_are_limited_for_each_namespace_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, streams, "STREAMS_PER_NAMESPACE_MAX", 3)
    change(monkeypatch, streams, "STREAMS_MAX", 5)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.caller(server.create("acme"))
            other = server.caller(server.create("other"))
            held = [await idle_pipeline(acme) for _ in range(3)]
            assert (await end_of(acme.key_value.Pipeline(metadata=acme.metadata))).reason is Reason.TOO_MANY_STREAMS
            count = acme.call(acme.key_value.Count, pb.CountRequest())
            with pytest.raises(PrefixdbError) as caught:
                await count
            assert caught.value.reason is Reason.TOO_MANY_STREAMS
            assert (await acme.get(pb.GetRequest(key=b"k"))) is not None, "calls that are no streams go on"
            held += [await idle_pipeline(other) for _ in range(2)]
            assert (await end_of(other.key_value.Pipeline(metadata=other.metadata))).reason is Reason.TOO_MANY_STREAMS
            held.pop(0).cancel()
            await eventually(lambda: len(server.app.streams) == 4, "a slot is free")
            held.append(await idle_pipeline(acme))
            for call in held:
                call.cancel()
            await eventually(lambda: len(server.app.streams) == 0, "all slots are free")

    asyncio.run(main())


def test_a_count_is_cut_by_a_ban_and_counted_as_a_reader(
    tmp_path: Path, server_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_value, "COUNT_STEP_ROWS", 1)
    if server_store == "native":
        monkeypatch.setattr("prefixdb.server.front.COUNT_STEP_ROWS", 1)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            for first in range(0, 100_000, 10_000):  # More steps than the time of a ban has room for.
                rows = tuple(Put(data_key(acme.id, 0, b"%06d" % n), b"") for n in range(first, first + 10_000))
                assert server.app.store.commit(Commit(rows)).applied
            caller = server.caller(acme)
            counting = asyncio.create_task(caller.call(caller.key_value.Count, pb.CountRequest()))
            await eventually(lambda: server.app.streams.views(acme.id) == 1, "the count runs")
            await ban(server, acme)
            with pytest.raises(PrefixdbError) as caught:
                await counting
            assert caught.value.reason is Reason.NAMESPACE_BANNED
            assert server.app.streams.views(acme.id) == 0

    asyncio.run(main())


def test_a_reclaim_waits_for_the_last_reader_and_then_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            stream = server.app.streams.open(acme.id, lambda: None)  # A reader that no check ever cuts.
            await asyncio.to_thread(server.app.registry.ban, acme.id, by="test")
            for _ in range(20):
                server.app.reclaimer.wake()
                await asyncio.sleep(0.01)
                assert server.app.registry.get(acme.id).state is NamespaceState.BANNED  # type: ignore[union-attr]
            stream.ended()
            server.app.reclaimer.wake()
            await eventually(
                lambda: server.app.registry.get(acme.id).state is NamespaceState.RECLAIMED,  # type: ignore[union-attr]
                "the reclaim ends",
            )

    asyncio.run(main())


async def watch(server: RunningServer) -> AsyncIterator[bytes]:
    """Read health states."""
    call = server.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
    async for state in call:
        yield state


def test_health_watches_are_limited_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, streams, "STREAMS_PER_NAMESPACE_MAX", 2)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            held = [watch(server) for _ in range(2)]
            assert [await anext(states) for states in held] == [b"\x08\x01"] * 2
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await anext(watch(server))
            assert error_of(caught.value).reason is Reason.TOO_MANY_STREAMS
            guardian = await idle_pipeline(server.caller(DEFAULT_NAMESPACE_ID))
            guardian.cancel()
            for states in held:
                await states.aclose()

    asyncio.run(main())
