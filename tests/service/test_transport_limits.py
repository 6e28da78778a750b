"""Goal: what a connection may hold on to is bounded, and a client that keeps to the limits never notices them.

Method: clients that announce calls and send nothing, ask and read nothing, send too much, reset what they began, or
simply run many calls at once; the frames that no gRPC library would send are written to the socket by hand.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path
from typing import Any

import grpc
import pytest

from prefixdb import limits
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.service import arrivals
from prefixdb.v1 import key_value_pb2 as pb
from tests.support.server import Caller, RunningServer, change, error_of, eventually, running

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4
CANCEL = struct.pack(">I", 8)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header_block(path: str, token: str | None) -> bytes:
    """Return the headers of a call, as literals without indexing."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers")]
    fields.append(("content-type", "application/grpc"))
    if token is not None:
        fields.append(("authorization", f"Bearer {token}"))
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def _text(text: str) -> bytes:
    raw, size = text.encode(), len(text)
    if size < 127:
        return bytes([size]) + raw
    rest, prefix = size - 127, [127]
    while rest >= 128:
        prefix.append(rest % 128 + 128)
        rest //= 128
    return bytes([*prefix, rest]) + raw


class RawClient:
    """A connection that sends exactly what it is told, and reads only when asked to."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0))

    def half_open(self, path: str, token: str | None, streams: int) -> None:
        """Announce calls and send no message."""
        block = header_block(path, token)
        for number in range(streams):
            self.socket.sendall(frame(HEADERS, END_HEADERS, 2 * number + 1, block))

    def close(self) -> None:
        self.socket.close()


METHODS = ["Get", "Put", "Scan", "Count"]


@pytest.mark.parametrize("method", METHODS)
def test_a_call_whose_message_does_not_come_is_ended(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch, arrivals, "REQUEST_ARRIVAL_MS_MAX", 300)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            token = server.token(server.create("acme").id)
            client = await asyncio.to_thread(RawClient, server.app.address)
            client.half_open(f"/prefixdb.v1.KeyValue/{method}", token, 20)
            await eventually(lambda: server.waiting_for_messages() == 20, "the calls wait for their messages")
            await eventually(lambda: server.waiting_for_messages() == 0, "the calls are ended", 0.3 + 1.0)
            assert (await server.nobody(token).get(pb.GetRequest(key=b"k"))) is not None
            client.close()

    asyncio.run(main())


def test_without_a_token_a_half_open_call_is_answered_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            client = await asyncio.to_thread(RawClient, server.app.address)
            client.half_open("/prefixdb.v1.KeyValue/Get", None, 1)
            assert await asyncio.to_thread(_has_ended, client.socket, 1)
            assert server.waiting_for_messages() == 0
            client.close()

    asyncio.run(main())


def _has_ended(connection: socket.socket, stream: int) -> bool:
    """Read frames until the server ends a stream; False when it closes the connection first."""
    received = b""
    while more := connection.recv(65536):
        received += more
        while len(received) >= 9 and len(received) >= 9 + (size := int.from_bytes(received[:3], "big")):
            kind, flags, number = received[3], received[4], int.from_bytes(received[5:9], "big")
            if number == stream and kind == HEADERS and flags & END_STREAM:
                return True
            received = received[9 + size :]
    return False


def test_a_public_call_whose_message_does_not_come_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "PUBLIC_ARRIVAL_MS_MAX", 300)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            client = await asyncio.to_thread(RawClient, server.app.address)
            client.half_open("/grpc.health.v1.Health/Check", None, 10)
            await eventually(lambda: server.waiting_for_messages() == 10, "the calls wait for their messages")
            await eventually(lambda: server.waiting_for_messages() == 0, "the calls are ended", 0.3 + 1.0)
            client.close()

    asyncio.run(main())


@pytest.mark.parametrize("at_once", [limits.STREAMS_PER_CONNECTION_MAX, 5 * limits.STREAMS_PER_CONNECTION_MAX])
def test_a_client_with_more_calls_than_streams_loses_none(tmp_path: Path, at_once: int) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            caller = server.caller(server.create("acme"))

            async def worker(number: int) -> None:
                for step in range(1500 // at_once + 1):
                    put = pb.PutRequest(key=b"%d-%d" % (number, step))
                    assert (await caller.call(caller.key_value.Put, put)).applied
                    assert (await caller.get(pb.GetRequest(key=put.key))).found

            await asyncio.gather(*(worker(number) for number in range(at_once)))

    asyncio.run(main())


def test_a_flood_of_resets_leaves_others_served_and_no_call_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            token = server.token(acme.id)
            caller = server.caller(acme)
            client = await asyncio.to_thread(RawClient, server.app.address)
            block = header_block("/prefixdb.v1.KeyValue/Get", token)
            loop = asyncio.get_running_loop()
            slowest = 0.0
            for burst in range(100):
                ids = range(burst * 200 + 1, burst * 200 + 201, 2)
                resets = b"".join(
                    frame(HEADERS, END_HEADERS, number, block) + frame(RST_STREAM, 0, number, CANCEL) for number in ids
                )
                await loop.run_in_executor(None, client.socket.sendall, resets)
                started = loop.time()
                await caller.get(pb.GetRequest(key=b"k"))
                slowest = max(slowest, loop.time() - started)
            assert slowest < 2.0
            await eventually(lambda: server.waiting_for_messages() == 0, "no call is left behind")
            client.close()

    asyncio.run(main())


def test_answers_that_nobody_reads_are_bounded_for_each_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch, arrivals, "UNREAD_BYTES_PER_NAMESPACE_MAX", 3 * limits.MIB)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme, other = server.create("acme"), server.create("other")
            greedy, modest = server.caller(acme), server.caller(other)
            for caller in (greedy, modest):
                await caller.call(caller.key_value.Put, pb.PutRequest(key=b"k", value=b"v" * (limits.MIB - 1000)))
            client = await asyncio.to_thread(RawClient, server.app.address)
            message = pb.GetRequest(key=b"k").SerializeToString()
            body = b""
            block = header_block("/prefixdb.v1.KeyValue/Get", greedy.token)
            for number in range(1, 11, 2):
                body += frame(HEADERS, END_HEADERS, number, block)
                body += frame(DATA, END_STREAM, number, b"\0" + struct.pack(">I", len(message)) + message)
            client.socket.sendall(body)
            await eventually(lambda: server.unread_bytes() > 2 * limits.MIB, "answers wait to be read")
            assert server.unread_bytes() <= 3 * limits.MIB
            with pytest.raises(PrefixdbError) as caught:
                await asyncio.gather(*(greedy.get(pb.GetRequest(key=b"k")) for _ in range(8)))
            assert caught.value.reason is Reason.RATE_LIMITED
            assert (await modest.get(pb.GetRequest(key=b"k"))).found, "another namespace is not touched"
            client.close()
            await eventually(lambda: server.unread_bytes() == 0, "what waited went with the connection")
            assert (await greedy.get(pb.GetRequest(key=b"k"))).found

    asyncio.run(main())


def test_messages_and_metadata_beyond_their_limits_are_refused_and_the_server_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            caller = server.caller(server.create("acme"))
            for request in (
                pb.PutRequest(key=b"k", value=b"v" * limits.REQUEST_BYTES_MAX),
                pb.WriteRequest(mutations=[pb.Mutation(put=pb.Mutation.Put(value=b"v" * limits.MIB))] * 17),
            ):
                method = caller.key_value.Put if isinstance(request, pb.PutRequest) else caller.key_value.Write
                assert await code_of(method(request, metadata=caller.metadata)) is grpc.StatusCode.RESOURCE_EXHAUSTED
            large = (*caller.metadata, ("x-large", "x" * 3 * limits.METADATA_BYTES_MAX))
            call = caller.key_value.Get(pb.GetRequest(key=b"k"), metadata=large)
            assert await code_of(call) in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL}
            assert not (await caller.get(pb.GetRequest(key=b"k"))).found

    asyncio.run(main())


def test_garbage_on_the_port_costs_a_closed_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1000, PREFACE + b"\xff" * 1000, b"\x16\x03\x01" * 100):
                assert await asyncio.to_thread(_is_closed_after, server.app.address, garbage)
            assert not (await server.caller(server.create("acme")).get(pb.GetRequest(key=b"k"))).found

    asyncio.run(main())


def _is_closed_after(address: str, garbage: bytes) -> bool:
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(garbage)
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True


async def code_of(call: Any) -> grpc.StatusCode:
    """Return the status a unary call fails with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert error_of(caught.value)
    code: grpc.StatusCode = caught.value.code()
    return code


def test_a_second_server_on_the_same_port_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            with pytest.raises(PrefixdbError, match=r"cannot be bound: Address already in use\."):
                async with running(tmp_path / "second", settings={"server.listen": server.app.address}):
                    pass
            http = {"server.http": server.app.http_address}
            with pytest.raises(PrefixdbError, match=r"server\.http"):
                async with running(tmp_path / "third", settings=http):
                    pass
            assert isinstance(server, RunningServer) and isinstance(server.guardian, Caller)
            async with running(tmp_path / "third") as again:
                assert again.app.serving, "what a failed start had opened is free again"

    asyncio.run(main())
