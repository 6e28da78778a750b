"""Goal: what callers send costs memory only while it is looked at: a message that was refused is not kept, and whoever
has no token cannot fill the memory with large ones.

Method: messages of nearly the largest size, refused by different calls, while the garbage collector, which would find
them some time later, is off; and a process under a flood of them, whose memory is looked at from outside.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from prefixdb import limits
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.limits import MIB
from prefixdb.service import arrivals
from prefixdb.v1 import auth_pb2, key_value_pb2, members_pb2
from tests.support.server import running, subprocess_server

LARGE = limits.REQUEST_BYTES_MAX - 1000
TIMES = 6

GROWTH_MIB_MAX = 900
"""Measured: 470 at the end, 3,100 at the beginning."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


REFUSED = {
    "Auth/Login": auth_pb2.LoginRequest(user="x" * LARGE),
    "Auth/Refresh": auth_pb2.RefreshRequest(refresh_token="x" * LARGE),
    "Members/CreateMember": members_pb2.CreateMemberRequest(name="max", password="x" * LARGE),
    "KeyValue/Put": key_value_pb2.PutRequest(value=b"x" * LARGE),
    "KeyValue/BatchGet": key_value_pb2.BatchGetRequest(keys=[b"x" * LARGE]),
    "KeyValue/Scan": key_value_pb2.ScanRequest(range=key_value_pb2.KeyRange(prefix=b"x" * LARGE)),
}


@pytest.mark.parametrize("path", REFUSED)
def test_a_message_that_was_refused_is_not_kept(tmp_path: Path, uncollected: None, path: str) -> None:
    body = REFUSED[path].SerializeToString()

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            metadata = server.guardian.metadata
            options = (("grpc.max_send_message_length", -1),)
            async with grpc.aio.insecure_channel(server.app.address, options=options) as channel:
                method = channel.unary_stream if path.endswith("Scan") else channel.unary_unary

                async def once() -> None:
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        answer = method(f"/prefixdb.v1.{path}")(body, metadata=metadata, timeout=30)
                        if path.endswith("Scan"):
                            await answer.read()
                        await answer
                    assert caught.value.code() in {
                        grpc.StatusCode.RESOURCE_EXHAUSTED,
                        grpc.StatusCode.INVALID_ARGUMENT,
                        grpc.StatusCode.UNAUTHENTICATED,
                    }

                await once()
                tracemalloc.start()
                try:
                    for _ in range(TIMES):
                        await once()
                    held, _ = tracemalloc.get_traced_memory()
                finally:
                    tracemalloc.stop()
                assert held < 2 * LARGE, f"{held / MIB:.0f} MiB are held"

    asyncio.run(main())


def test_an_administrative_message_has_a_limit_of_its_own(tmp_path: Path) -> None:
    """The call goes on when its client has gone: sixteen megabytes would be kept for as long as it waits."""

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            boss = server.guardian
            for size, reason in ((arrivals.ADMINISTRATIVE_BYTES_MAX, Reason.REQUEST_TOO_LARGE), (10, None)):
                request = members_pb2.CreateGroupRequest(name="team")
                request.MergeFromString(b"\xfa\x07" + _varint(size) + b"x" * size)  # A field that nobody knows.
                try:
                    await boss.call(boss.members.CreateGroup, request)
                    assert reason is None
                except PrefixdbError as refusal:
                    assert refusal.reason is reason

    asyncio.run(main())


def _varint(number: int) -> bytes:
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


def test_large_messages_of_nobody_cost_bounded_memory(tmp_path: Path) -> None:
    body = REFUSED["Auth/Login"].SerializeToString()

    async def main(address: str) -> None:
        options = (("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
        channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(20)]

        async def flood(channel: grpc.aio.Channel) -> None:
            for _ in range(2):
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary("/prefixdb.v1.Auth/Login")(body, timeout=30)

        await asyncio.gather(*[flood(channel) for channel in channels for _ in range(6)])
        for channel in channels:
            await channel.close()

    with subprocess_server(tmp_path / "data") as server:
        before = _memory_mib(server.process.pid, "VmRSS")
        asyncio.run(main(server.address))
        assert _memory_mib(server.process.pid, "VmHWM") - before < GROWTH_MIB_MAX


def _memory_mib(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) // 1024
    raise AssertionError(name)
