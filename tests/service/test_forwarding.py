"""Goal: a call that the front hands on is cancelled, timed, slowed down and cut as if the client had come to Python.

Method: a real server and methods that Python answers. With the native store the calls go through the front, with the
other one they come directly, and the same must be true of both. Clients read nothing, send nothing, leave, or reset
what they began; what they cost is looked at inside, and that nobody else notices, from outside.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from prefixdb.errors import Reason
from prefixdb.keycodec import data_key
from prefixdb.service import arrivals, exports
from prefixdb.store.base import Commit, Put
from prefixdb.v1 import auth_pb2, transfer_pb2, transfer_pb2_grpc
from tests.service.test_transport_limits import CANCEL, END_HEADERS, HEADERS, RST_STREAM, RawClient, frame, header_block
from tests.support.server import WAIT_S, Caller, RunningServer, error_of, eventually, running

WHO_AM_I = "/prefixdb.v1.Auth/WhoAmI"


async def who(caller: Caller) -> None:
    """Make a call that Python answers."""
    await caller.call(caller.auth.WhoAmI, auth_pb2.WhoAmIRequest())


def fill(server: RunningServer, namespace_id: int, mebibytes: int) -> None:
    """Write rows of 64 KiB that no codec makes smaller."""
    for number in range(mebibytes * 16):
        put = Put(data_key(namespace_id, 0, b"%06d" % number), os.urandom(65_536))
        assert server.app.store.commit(Commit((put,))).applied


async def watching(server: RunningServer, **options: float) -> grpc.aio.UnaryStreamCall:
    """Return a stream that says nothing for as long as the server is well, after its first word."""
    call = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest(), **options)
    assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
    assert len(server.app.streams) == 1
    return call


def test_a_client_that_leaves_ends_its_stream(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as server:
            (await watching(server)).cancel()
            await eventually(lambda: not len(server.app.streams), "the stream has ended")

    asyncio.run(main())


def test_a_client_whose_connection_breaks_ends_its_stream(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as server:
            client = RawClient(server.app.address)
            client.half_open("/grpc.health.v1.Health/Watch", None, 1)
            client.socket.sendall(frame(0, 1, 1, bytes(5)))
            await eventually(lambda: len(server.app.streams) == 1, "it watches")
            client.close()
            await eventually(lambda: not len(server.app.streams), "the stream has ended")

    asyncio.run(main())


def test_a_deadline_ends_the_call_here_and_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as server:
            call = await watching(server, timeout=1.0)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await eventually(lambda: not len(server.app.streams), "the stream has ended")

    asyncio.run(main())


def test_who_takes_nothing_is_cut_and_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "TRANSFER_PATIENCE_MS_MAX", 1_000)

    async def main() -> None:
        async with running(tmp_path) as server:
            acme = server.create("acme")
            fill(server, acme.id, 8)
            caller, other = server.caller(acme), server.caller(acme)
            request = transfer_pb2.ExportRequest()
            calls = [
                transfer_pb2_grpc.TransferStub(server.channel).Export(request, metadata=caller.metadata)
                for _ in range(3)
            ]
            await eventually(lambda: server.app.streams.views(acme.id) == 3, "they run")
            async with asyncio.timeout(WAIT_S):
                while server.app.streams.views(acme.id):
                    await who(other)
            for call in calls:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    async for _ in call:
                        pass
                assert error_of(caught.value).reason is Reason.DEADLINE
            await eventually(lambda: not len(server.app.streams), "their places are free again")

    asyncio.run(main())


@pytest.mark.parametrize(("path", "known"), [(WHO_AM_I, True), ("/prefixdb.v1.Auth/Login", False)])
def test_a_message_that_does_not_come_ends_the_call(
    tmp_path: Path, path: str, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "REQUEST_ARRIVAL_MS_MAX", 300)
    monkeypatch.setattr(arrivals, "PUBLIC_ARRIVAL_MS_MAX", 300)

    async def main() -> None:
        async with running(tmp_path) as server:
            client = RawClient(server.app.address)
            client.half_open(path, server.token(0) if known else None, 1)
            await eventually(lambda: len(server.app.arrivals) == 1, "it is waited for")
            await eventually(lambda: not len(server.app.arrivals), "it is not waited for any more")
            client.close()

    asyncio.run(main())


def test_calls_that_are_reset_cost_nobody_his_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as server:
            caller = server.caller(server.create("acme"))
            client = RawClient(server.app.address)
            block = header_block(WHO_AM_I, caller.token)
            watch = await watching(server)
            for first in range(0, 3_000, 100):
                frames = b""
                for number in range(first, first + 100):
                    stream = 2 * number + 1
                    frames += frame(HEADERS, END_HEADERS, stream, block) + frame(RST_STREAM, 0, stream, CANCEL)
                await asyncio.to_thread(client.socket.sendall, frames)
                await who(caller)
            await eventually(lambda: not server.app.gate.running and not len(server.app.arrivals), "all is quiet")
            assert not watch.done(), "a stream that was there before"
            client.close()

    asyncio.run(main())


def test_a_message_of_the_largest_size_comes_and_a_larger_one_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as server:
            caller = server.caller(server.create("acme"))
            whole = caller.channel.unary_unary(WHO_AM_I)
            for size, reason in ((16 << 20, Reason.BAD_FIELD), ((16 << 20) + 1, Reason.REQUEST_TOO_LARGE)):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await whole(b"\x0a" + bytes(size - 1), metadata=caller.metadata, timeout=WAIT_S)
                failure = error_of(caught.value)
                assert failure.reason is reason or caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, failure
            await who(caller)

    asyncio.run(main())
