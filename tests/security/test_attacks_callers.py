"""Goal: what callers of every rank may send costs little, tells nothing, and gives them no more than they have.

Method: bombs, bytes that are no message, headers that are no text, calls that never arrive, silent connections to the
monitoring port, and a guardian of namespace 0 who is not a cluster guardian, all against a real server.
"""

from __future__ import annotations

import asyncio
import io
import logging
import random
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import hpack
import pytest

from prefixdb.catalog.entities import Guardian
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.limits import MIB
from prefixdb.server import http, logs
from prefixdb.server.app import SERVICES
from prefixdb.service import arrivals
from prefixdb.v1 import auth_pb2
from prefixdb.v1 import key_value_pb2 as pb
from tests.service.test_transport_limits import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    RawClient,
    code_of,
    frame,
    header_block,
)
from tests.support.server import RunningServer, eventually, running

GET = "/prefixdb.v1.KeyValue/Get"
WHO_AM_I = "/prefixdb.v1.Auth/WhoAmI"
CHECK = "/grpc.health.v1.Health/Check"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


def literal(name: bytes, value: bytes) -> bytes:
    """Return one short header as a literal without indexing."""
    assert len(name) < 127 and len(value) < 127
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def compressed_zeros(mebibytes: int) -> bytes:
    """Return gzip bytes that inflate a thousandfold."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([deflate.compress(bytes(MIB)) for _ in range(mebibytes)]) + deflate.flush()


@pytest.mark.parametrize("path", [GET, CHECK])
def test_a_message_that_inflates_beyond_the_limit_is_refused(tmp_path: Path, path: str) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            token = server.token(server.create("acme").id)
            bomb = compressed_zeros(40)
            client = await asyncio.to_thread(RawClient, server.app.address)
            headers = header_block(path, token if path == GET else None) + literal(b"grpc-encoding", b"gzip")
            body = b"\1" + struct.pack(">I", len(bomb)) + bomb
            chunks = [body[at : at + 16_000] for at in range(0, len(body), 16_000)]
            client.socket.sendall(frame(HEADERS, END_HEADERS, 1, headers))
            for number, chunk in enumerate(chunks, 1):
                client.socket.sendall(frame(DATA, END_STREAM if number == len(chunks) else 0, 1, chunk))
            answer = await asyncio.to_thread(headers_of, client.socket)
            assert answer["grpc-status"] == "8", "RESOURCE_EXHAUSTED"
            client.close()
            assert not (await server.nobody(token).get(pb.GetRequest(key=b"k"))).found

    asyncio.run(main())


def headers_of(connection: socket.socket) -> dict[str, str]:
    """Return the headers and trailers of the one call on a connection, when it has ended."""
    logging.getLogger("hpack").setLevel(logging.INFO)  # What the test decodes is no log of the server's.
    decoder, received, found = hpack.Decoder(), b"", {}
    while True:
        while len(received) < 9 or len(received) < 9 + int.from_bytes(received[:3], "big"):
            more = connection.recv(65_536)
            assert more, "the connection was closed"
            received += more
        size, kind, flags = int.from_bytes(received[:3], "big"), received[3], received[4]
        payload, received = received[9 : 9 + size], received[9 + size :]
        if kind == HEADERS:
            assert flags & END_HEADERS
            found |= {str(name): str(value) for name, value in decoder.decode(payload)}
            if flags & END_STREAM:
                return found


def answered(connection: socket.socket) -> None:
    """Read until the one call on a connection is answered or reset."""
    received = b""
    while more := connection.recv(65_536):
        received += more
        while len(received) >= 9 and len(received) >= 9 + (size := int.from_bytes(received[:3], "big")):
            if received[3] in (HEADERS, RST_STREAM):
                return
            received = received[9 + size :]
    raise AssertionError("the connection was closed")


def odd_messages(seed: int) -> Iterator[bytes]:
    """Yield bytes that are no message, or one that nobody meant."""
    nested = b""
    for _ in range(300):
        nested = b"\x0a" + varint(len(nested)) + nested
    yield from (nested, b"\xfb\x06" * 300, b"\x0a\xff\xff\xff\xff\x0f", b"\x08" + b"\xff" * 9 + b"\x7f")
    yield from (b"\x0a\x02\xff\xfe", b"\x12\x02\xff\xfe", b"\x1a\x02\xc3\x28", b"\xf8\x07\x01" * 500, b"\xff" * 50)
    yield from (b"\x08\x05\x10\x05\x18\x05\x20\x05", b"\x0d1234", b"\x191234567", b"\x0a\x00\x12\x00\x1a\x00\x22\x00")
    chance = random.Random(seed)
    for _ in range(25):
        common = (0x0A, 0x12, 0x1A, 0x22, 8, 0x10, 0, 1, 2, 5, 0xFF)
        yield bytes(chance.choice((chance.randrange(256), *common)) for _ in range(chance.randrange(1, 30)))


def varint(number: int) -> bytes:
    """Return a protobuf varint."""
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


ODD = [
    method
    for service in SERVICES
    for method in service.methods
    if not method.server_streaming and method.name not in {"RevokeTokens", "BanNamespace"}
]


def test_odd_bytes_are_answered_and_never_a_mistake_of_ours(tmp_path: Path) -> None:
    answered = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    answered |= {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ALREADY_EXISTS}
    # Their messages are proofs, and odd bytes prove nothing; nobody granted the namespace that they may happen to name.
    proofs = {"Login", "Refresh", "Logout", "ChangePassword"}
    refused = dict.fromkeys(proofs, grpc.StatusCode.UNAUTHENTICATED) | {"Exchange": grpc.StatusCode.PERMISSION_DENIED}

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            server.member(0, "root", groups=("guardians",))
            root = await server.login("root")
            for number, method in enumerate(ODD):
                call = server.channel.unary_unary(f"/{method.containing_service.full_name}/{method.name}")
                for message in odd_messages(number):
                    server.forgive()
                    pending = call(message, metadata=root.metadata, timeout=10)
                    assert await pending.code() in {*answered, refused.get(method.name)}, (method.full_name, message)

    asyncio.run(main())


def test_bytes_of_a_header_that_is_no_text_are_not_logged(tmp_path: Path) -> None:
    stream, root = io.StringIO(), logging.getLogger()
    before = root.handlers[:], root.level
    logs.configure("debug", stream)
    try:

        async def main() -> None:
            async with running(tmp_path / "data") as server:
                token = server.token(server.create("acme").id)
                for value in (f"Bearer {token}".encode()[:90] + b"\xff", b"\xed\xa0\x80" + token.encode()[:90]):
                    client = await asyncio.to_thread(RawClient, server.app.address)
                    headers = header_block(GET, None) + literal(b"authorization", value)
                    client.socket.sendall(frame(HEADERS, END_HEADERS, 1, headers))
                    assert (await asyncio.to_thread(headers_of, client.socket))["grpc-status"] == "16"
                    client.close()
                assert token[:40] not in stream.getvalue() and "Bearer" not in stream.getvalue()
                assert "Invalid encoding" not in stream.getvalue(), "nobody without a token can fill the log"

        asyncio.run(main())
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])


@pytest.mark.parametrize("settings", [{}, {"server.front": "python"}], ids=["any front", "python"])
def test_a_path_that_is_no_text_hurts_nobody_else(tmp_path: Path, settings: dict[str, object]) -> None:
    path = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/\xff\xfe"), (b":authority", b"x")]
    block = b"".join(literal(*field) for field in [*path, (b"te", b"trailers"), (b"content-type", b"application/grpc")])

    async def main() -> None:
        async with running(tmp_path / "data", settings=settings) as server:
            token = server.token(server.create("acme").id)
            client = await asyncio.to_thread(RawClient, server.app.address)
            client.socket.sendall(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
            await asyncio.to_thread(answered, client.socket)
            caller = server.nobody(token)
            assert await caller.call(caller.auth.WhoAmI, auth_pb2.WhoAmIRequest())
            assert await caller.get(pb.GetRequest(key=b"k")) is not None
            client.close()

    asyncio.run(main())


def test_of_a_librarys_message_only_what_its_programmer_wrote_is_logged() -> None:
    for name, template in (("grpc._cython.cygrpc", "Unexpected %s"), ("asyncio", "Never retrieved\nfuture: secret")):
        record = logging.makeLogRecord({"name": name, "msg": template, "args": ("secret",) if "%" in template else ()})
        line = logs.JsonFormatter().format(record)
        assert "secret" not in line and template.split("\n")[0] in line


def test_public_calls_whose_message_does_not_come_push_each_other_out_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "PUBLIC_ARRIVALS_MAX", 8)
    monkeypatch.setattr(arrivals, "PUBLIC_ARRIVAL_MS_MAX", 60_000)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            token = server.token(server.create("acme").id)
            clients = [await asyncio.to_thread(RawClient, server.app.address) for _ in range(3)]
            clients[0].half_open(WHO_AM_I, token, 5)
            await eventually(lambda: len(server.app.arrivals) == 5, "a tenant's calls wait")
            clients[1].half_open(CHECK, None, 30)
            clients[2].half_open(REFLECT, None, 30)
            await eventually(lambda: len(server.app.arrivals) == 5 + 8, "of the public calls eight are waited for")
            check = server.channel.unary_unary(CHECK)
            assert await check(b"", timeout=5), "an honest check is answered meanwhile"
            assert 5 + 7 <= len(server.app.arrivals) <= 5 + 8
            for client in clients:
                client.close()

    asyncio.run(main())


def test_a_reflection_stream_that_says_nothing_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "PUBLIC_ARRIVAL_MS_MAX", 300)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            client = await asyncio.to_thread(RawClient, server.app.address)
            client.half_open(REFLECT, None, 10)
            await eventually(lambda: len(server.app.streams) == 10, "the streams are open")
            await eventually(lambda: len(server.app.streams) == 0, "the streams are ended", 0.3 + 1.0)
            client.close()

    asyncio.run(main())


def test_silent_connections_do_not_hide_the_server_from_its_probes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 8)
    monkeypatch.setattr(http, "REQUEST_S_MAX", 60.0)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            host, port = server.app.http_address.rsplit(":", 1)
            silent = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
            assert await asyncio.wait_for(silent[0][0].read(), 5) == b"", "the oldest has gone"
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /livez HTTP/1.1\r\n\r\n")
            assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200")
            for _, each in (*silent, (reader, writer)):
                each.close()

    asyncio.run(main())


async def refused(call: Any, reason: Reason) -> None:
    """Fail unless the call is refused with the reason."""
    with pytest.raises(PrefixdbError) as caught:
        await call
    assert caught.value.reason is reason


def revoke(server: RunningServer, caller: Any, **scope: Any) -> Any:
    return caller.call(caller.auth.RevokeTokens, auth_pb2.RevokeTokensRequest(**scope))


def test_a_lesser_guardian_of_namespace_0_cannot_lock_out_the_cluster_guardians(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            lesser = server.caller(0, subject="lesser", guardian=Guardian.NAMESPACE)
            own = (await lesser.call(lesser.auth.WhoAmI, auth_pb2.WhoAmIRequest())).jti
            cluster = (await server.guardian.call(server.guardian.auth.WhoAmI, auth_pb2.WhoAmIRequest())).jti
            for scope in ({"all": True}, {"subject": "somebody"}, {"jti": cluster}, {"jti": own}, {"jti": "0" * 32}):
                await refused(revoke(server, lesser, **scope), Reason.NOT_PERMITTED)
            await refused(revoke(server, lesser, everyone=True), Reason.NOT_PERMITTED)
            assert await server.guardian.call(server.guardian.auth.WhoAmI, auth_pb2.WhoAmIRequest())
            await revoke(server, server.guardian, jti=own)
            code = await code_of(lesser.auth.WhoAmI(auth_pb2.WhoAmIRequest(), metadata=lesser.metadata))
            assert code is grpc.StatusCode.UNAUTHENTICATED
            tenant = server.caller(server.create("acme"), guardian=Guardian.NAMESPACE)
            await revoke(server, tenant, all=True)

    asyncio.run(main())
