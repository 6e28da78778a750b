"""Goal: who reaches the ports, the health service or the directory, without any token, can stop nobody's work.

Method: the attacks themselves, against a real server: a watcher of the health service that never reads, a watcher that
leaves, more connections than the process has files, a directory that others could read, an audit file that is removed
or cannot be cut back after a failed write.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import stat
import struct
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.server import audit, front, fronts, process, transport
from prefixdb.v1 import key_value_pb2 as pb
from prefixdb.v1 import namespaces_pb2
from tests.service.test_transport_limits import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    frame,
    header_block,
)
from tests.support.server import RunningServer, eventually, running

WATCH = "/grpc.health.v1.Health/Watch"
INITIAL_WINDOW_SIZE = 4
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def deaf_watcher(address: str) -> socket.socket:
    """Return a connection with a health watch that grants the server no byte of flow control."""
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=10)
    message = frame(DATA, END_STREAM, 1, b"\0" + struct.pack(">I", 0))
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 0)))
    connection.sendall(frame(SETTINGS, 1, 0) + frame(HEADERS, END_HEADERS, 1, header_block(WATCH, None)) + message)
    return connection


def watch(server: RunningServer) -> Any:
    """Start a watch that does read."""
    method = server.channel.unary_stream(WATCH, None, health_pb2.HealthCheckResponse.FromString)
    return method(b"")


def test_a_health_watcher_that_never_reads_keeps_nobody_from_hearing_and_the_server_from_ending(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            deaf = await asyncio.to_thread(deaf_watcher, server.app.address)
            await eventually(lambda: len(server.app.streams) == 1, "the deaf watch is open")
            good = watch(server)
            assert (await asyncio.wait_for(good.read(), 5)).status == SERVING
            ending = asyncio.create_task(server.app.stop(1.5))
            assert (await asyncio.wait_for(good.read(), 5)).status == NOT_SERVING
            await asyncio.wait_for(ending, 8)
            deaf.close()

    asyncio.run(main())


def test_a_health_watcher_that_leaves_takes_no_news_from_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            stays, leaves = watch(server), watch(server)
            assert (await stays.read()).status == (await leaves.read()).status == SERVING
            leaves.cancel()
            await eventually(lambda: len(server.app.streams) == 1, "one watch has left")
            server.app.health.set_serving(False)
            assert (await asyncio.wait_for(stays.read(), 5)).status == NOT_SERVING
            server.app.health.set_serving(True)
            assert (await asyncio.wait_for(stays.read(), 5)).status == SERVING
            stays.cancel()

    asyncio.run(main())


def test_unknown_services_are_not_found_and_cost_no_memory(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            check = server.channel.unary_unary("/grpc.health.v1.Health/Check")
            for name in ("prefixdb.v1.Nothing", "acme", "prefixdb.v1.KeyValue/Get"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await check(health_pb2.HealthCheckRequest(service=name).SerializeToString())
                assert caught.value.code() is grpc.StatusCode.NOT_FOUND
                assert name not in (caught.value.details() or "")
            assert not server.app.health._changed

    asyncio.run(main())


def test_connections_beyond_the_limit_are_closed_and_writes_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fronts, "connections_max", lambda: 10)
    monkeypatch.setattr(front, "connections_max", lambda: 10)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            caller = server.caller(server.create("acme"))
            assert (await caller.call(caller.key_value.Put, pb.PutRequest(key=b"a", value=b"1"))).applied
            host, port = server.app.address.rsplit(":", 1)
            silent = []
            for _ in range(40):
                _, writer = connection = await asyncio.open_connection(host, int(port))
                silent.append(connection)
            over = [asyncio.create_task(_is_closed(reader)) for reader, _ in silent]
            done, pending = await asyncio.wait(over, timeout=5)
            assert len(done) >= 30, "the server keeps ten connections at most"
            assert (await caller.call(caller.key_value.Put, pb.PutRequest(key=b"b", value=b"1"))).applied
            for task in pending:
                task.cancel()
            for _, writer in silent:
                writer.close()

    asyncio.run(main())


async def _is_closed(reader: asyncio.StreamReader) -> bool:
    """Return when the server has closed the connection."""
    try:
        while await reader.read(4096):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize(("files", "connections"), [(300, 22), (1_024, 384), (65_536, 4_096), (20, 8)])
def test_connections_leave_half_of_the_open_files_to_the_store(
    monkeypatch: pytest.MonkeyPatch, files: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert transport.connections_max() == connections
    assert files < 100 or connections <= files // 2


def test_the_process_asks_for_more_open_files_and_never_for_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: asked.append(pair))
    for soft, hard in ((1_024, 4_096), (1_024, 1 << 20), (1 << 20, 1 << 20), (4_096, 4_096)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, pair=(soft, hard): pair)
        process.raise_open_files()
    assert asked == [(4_096, 4_096), (65_536, 1 << 20)]


def test_rows_and_secrets_are_closed_to_others_also_in_a_directory_that_is_not(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "db").mkdir()
    data_dir.chmod(0o755)
    (data_dir / "db").chmod(0o755)

    async def main() -> None:
        async with running(data_dir):
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir()}
            assert modes["db"] == modes["keys"] == 0o700
            assert modes["guardian.token"] == modes["audit.jsonl"] == modes["LOCK"] == 0o600
            assert all(not path.stat().st_mode & 0o077 for path in (data_dir / "keys").iterdir())

    asyncio.run(main())
    (data_dir / "db").chmod(0o755)
    asyncio.run(main())


async def suspend(server: RunningServer, name: str) -> Any:
    """Do an administrative act."""
    request = namespaces_pb2.SuspendNamespaceRequest(
        namespace=namespaces_pb2.NamespaceRef(name=name), state=namespaces_pb2.NAMESPACE_STATE_READ_ONLY
    )
    return await server.guardian.call(server.guardian.namespaces.SuspendNamespace, request)


def test_an_audit_file_that_was_removed_refuses_acts(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            (tmp_path / "data" / "audit.jsonl").unlink()
            with pytest.raises(PrefixdbError) as caught:
                await suspend(server, "acme")
            assert caught.value.reason is Reason.AUDIT_UNAVAILABLE
            assert server.app.registry.get(acme.id) == acme

    asyncio.run(main())


def test_half_a_line_that_could_not_be_cut_off_at_once_is_cut_off_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write, real_truncate = os.write, os.ftruncate

    def half(descriptor: int, data: Any) -> int:
        real_write(descriptor, bytes(data)[:20])
        raise OSError(28, "full")

    def broken(descriptor: int, size: int) -> None:
        raise OSError(5, "broken")

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            server.create("acme")
            monkeypatch.setattr(audit.os, "write", half)
            monkeypatch.setattr(audit.os, "ftruncate", broken)
            with pytest.raises(PrefixdbError) as caught:
                await suspend(server, "acme")
            assert caught.value.reason is Reason.AUDIT_UNAVAILABLE
            monkeypatch.setattr(audit.os, "write", real_write)
            monkeypatch.setattr(audit.os, "ftruncate", real_truncate)
            await suspend(server, "acme")
        finding = audit.verify(tmp_path / "data" / "audit.jsonl")
        assert finding.broken_line == 0 and finding.lines >= 2

    asyncio.run(main())
