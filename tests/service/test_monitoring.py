"""Goal: who watches the server learns how it is and nothing about its tenants; logs and metrics hold no secret.

Method: the HTTP port is asked over a plain socket; everything a busy server tells is searched for words that only its
tenants know.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
from pathlib import Path

import grpc
import pytest

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.server import logs
from prefixdb.store.base import SpanSize
from prefixdb.v1 import auth_pb2
from prefixdb.v1 import key_value_pb2 as pb
from tests.support.server import RunningServer, running

SECRETS = ("tenant-secret-name", "secret-key", "secret-value", "secret-subject")


async def ask(server: RunningServer, request: bytes) -> bytes:
    """Send bytes to the HTTP port and return the whole answer."""
    host, port = server.app.http_address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def get(server: RunningServer, path: str) -> tuple[int, str]:
    """Return (status, body) of a GET."""
    head, _, body = (await ask(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body.decode()


async def busy(server: RunningServer) -> list[str]:
    """Let a tenant with memorable words work, fail and be refused; return its tokens."""
    acme = server.create("tenant-secret-name")
    caller = server.caller(acme, subject="secret-subject")
    await caller.call(caller.key_value.Put, pb.PutRequest(key=b"secret-key", value=b"secret-value"))
    await caller.get(pb.GetRequest(key=b"secret-key"))
    await caller.pages(caller.key_value.Scan, pb.ScanRequest())
    for refused in (
        caller.get(pb.GetRequest(key=b"")),
        caller.call(caller.auth.ListKeys, auth_pb2.ListKeysRequest()),
        server.nobody("secret-key").get(pb.GetRequest(key=b"k")),
    ):
        with pytest.raises(PrefixdbError):
            await refused
    with pytest.raises(grpc.aio.AioRpcError):
        await server.channel.unary_unary("/secret-value/secret-key")(b"")
    assert caller.token is not None
    return [caller.token]


def test_metrics_count_calls_without_naming_tenants(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            tokens = await busy(server)
            status, text = await get(server, "/metrics")
            assert status == 200
            assert 'prefixdb_calls_total{code="OK",method="/prefixdb.v1.KeyValue/Put"} 1.0' in text
            assert 'prefixdb_calls_total{code="OK",method="/prefixdb.v1.KeyValue/Scan"} 1.0' in text
            assert 'prefixdb_calls_total{code="INVALID_ARGUMENT",method="/prefixdb.v1.KeyValue/Get"} 1.0' in text
            assert 'prefixdb_calls_total{code="UNAUTHENTICATED",method="/prefixdb.v1.KeyValue/Get"} 1.0' in text
            assert 'prefixdb_calls_total{code="UNIMPLEMENTED",method="unknown"} 1.0' in text
            for name in ("call_seconds_bucket", "namespaces", "streams_open", "store_disk_bytes", "store_writable"):
                assert f"prefixdb_{name}" in text
            for secret in (*SECRETS, *tokens, str(server.app.registry.find(SECRETS[0]).id)):  # type: ignore[union-attr]
                assert secret not in text

    asyncio.run(main())


def test_metrics_tell_what_the_store_does_with_bans(tmp_path: Path, server_store: str) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            stream = server.app.streams.open(acme.id, lambda: None)  # Keeps the ban from being published.
            server.app.registry.ban(acme.id, by="test")
            for expected in ("0.0", "1.0", "0.0"):
                if expected == "1.0":
                    server.app.reclaimer.stop()
                    server.app.registry.mark_reclaims_started({acme.id: SpanSize(0, 0)})
                    server.app.store.publish_bans([acme.id])
                elif expected == "0.0":
                    server.app.store.withdraw_bans([acme.id])
                _, body = await get(server, "/metrics")
                assert f"prefixdb_store_published_bans {expected}\n" in body
                for name in ("malformed_kept", "expired_dropped", "namespaces_skipped"):
                    assert (f"prefixdb_store_{name} 0.0\n" in body) is (server_store == "native")
            stream.ended()

    asyncio.run(main())


def test_liveness_and_readiness_say_what_is_true(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            assert await get(server, "/livez") == (200, "ok\n")
            assert await get(server, "/readyz") == (200, "ok\n")
            assert (await get(server, "/readyz?verbose=1"))[0] == 200
            server.app.gate.halted = True
            assert (await get(server, "/livez"))[0] == 200
            assert (await get(server, "/readyz"))[0] == 503
            server.app.gate.halted = False

    asyncio.run(main())


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"GET /../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 404),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /livez HTTP/2.0\r\n\r\n", 400),
        (b"HEAD /livez HTTP/1.1\r\n\r\n", 200),
    ],
)
def test_odd_requests_get_a_status_and_a_closed_connection(tmp_path: Path, request_bytes: bytes, status: int) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            head, _, body = (await ask(server, request_bytes)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert (body == b"") is request_bytes.startswith(b"HEAD")
            endless = b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000
            assert await ask(server, endless) == b"", "a head without end is not answered"
            assert (await get(server, "/livez"))[0] == 200

    asyncio.run(main())


def test_logs_of_a_busy_server_hold_nothing_of_its_tenants(tmp_path: Path) -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    logs.configure("debug", stream)
    try:

        async def main() -> None:
            async with running(tmp_path / "data") as server:
                tokens = await busy(server)
                caller = server.caller(server.app.registry.find(SECRETS[0]))  # type: ignore[arg-type]

                def broken(key: bytes) -> None:
                    raise KeyError(f"{key!r} secret-value {tokens[0]}")

                server.app.store.get = broken  # type: ignore[method-assign,assignment]
                with server.handing_over(), pytest.raises(PrefixdbError) as caught:
                    await caller.get(pb.GetRequest(key=b"secret-key"))
                assert caught.value.reason is Reason.INTERNAL
                del server.app.store.get
                for secret in (*SECRETS, *tokens):
                    assert secret not in stream.getvalue()

        asyncio.run(main())
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    [failure] = [line for line in lines if line["message"] == "call failed"]
    assert failure["exception"] == "KeyError" and any("key_value.py" in frame for frame in failure["stack"])


def test_a_log_record_is_one_line_and_unknown_things_show_their_type_alone() -> None:
    record = logging.makeLogRecord({"msg": "two\nlines %s", "args": ("x",), "levelname": "INFO", "thing": object()})
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "two\nlines x" and json.loads(line)["thing"] == "<object>"
