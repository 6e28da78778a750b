"""Goal: 200 logins at once cost at most 100 MiB, and somebody else's Get stays under 100 ms at the 99th percentile.

Method: a real server process. The logins come from twenty addresses of the loopback network, through relays that only
pass bytes on, under two hundred names of twenty namespaces, so that nothing takes them away before they reach the
hashing queue. Memory is what the kernel says the process ever had resident; the Gets are timed meanwhile, on a
connection of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from prefixdb import limits
from prefixdb.errors import Reason
from prefixdb.service.hashing import WAITING_MAX
from prefixdb.v1 import auth_pb2, auth_pb2_grpc, key_value_pb2, key_value_pb2_grpc, namespaces_pb2
from tests.support.server import error_of, subprocess_server

ADDRESSES = 20
LOGINS_EACH = 10
MEMORY_MIB_MAX = 100
GET_MS_P99_MAX = 100


@contextlib.asynccontextmanager
async def relay(address: str, source: str) -> AsyncIterator[str]:
    """Pass bytes on to ``address`` as if they came from the host ``source``; yields where to connect to."""
    host, _, port = address.rpartition(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    passing: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
        passing.update(asyncio.create_task(pump(*pair)) for pair in ((reader, back), (there, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)


def memory_kib(pid: int, what: str) -> int:
    """Return a line of the kernel's account of a process: VmRSS now, VmHWM the most there ever was."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1])
    raise AssertionError(what)


async def log_in(channel: grpc.aio.Channel, home: int, number: int) -> str:
    """Try to log in as somebody who is not there; return what became of it."""
    request = auth_pb2.LoginRequest(
        namespace=namespaces_pb2.NamespaceRef(name=f"home-{home}"),
        user=f"user-{number}",
        password="x" * limits.PASSWORD_BYTES_MAX,
    )
    try:
        await auth_pb2_grpc.AuthStub(channel).Login(request, timeout=30)
    except grpc.aio.AioRpcError as failure:
        refusal = error_of(failure)
        assert refusal.reason is not Reason.RATE_LIMITED or refusal.retry_after_ms
        return refusal.reason.name
    return "OK"


async def timed_gets(channel: grpc.aio.Channel, token: str, until: asyncio.Event) -> list[float]:
    """Get again and again; return the milliseconds of each."""
    stub, times = key_value_pb2_grpc.KeyValueStub(channel), []
    metadata = (("authorization", f"Bearer {token}"),)
    while not until.is_set():
        started = time.perf_counter()
        await stub.Get(key_value_pb2.GetRequest(key=b"k"), metadata=metadata, timeout=10)
        times.append((time.perf_counter() - started) * 1000)
    return times


def test_two_hundred_logins_at_once_cost_bounded_memory_and_nobody_elses_time(tmp_path: Path) -> None:
    async def main() -> None:
        with subprocess_server(tmp_path / "data") as server:
            pid = server.process.pid
            async with contextlib.AsyncExitStack() as stack:
                # Own pools of connections: otherwise gRPC lets channels to one address share a connection.
                pooled = [("grpc.use_local_subchannel_pool", 1)]
                own = await stack.enter_async_context(grpc.aio.insecure_channel(server.address, options=pooled))
                channels = []
                for number in range(ADDRESSES):
                    entrance = await stack.enter_async_context(relay(server.address, f"127.0.1.{number + 1}"))
                    channel = grpc.aio.insecure_channel(entrance, options=pooled)
                    channels.append(await stack.enter_async_context(channel))
                await asyncio.gather(*(channel.channel_ready() for channel in (own, *channels)))
                stop = asyncio.Event()
                warm = asyncio.create_task(timed_gets(own, server.guardian_token, stop))
                await asyncio.sleep(0)
                stop.set()
                await warm
                before_kib = memory_kib(pid, "VmRSS")
                stop.clear()
                gets = asyncio.create_task(timed_gets(own, server.guardian_token, stop))
                outcomes = Counter(
                    await asyncio.gather(
                        *(
                            log_in(channel, index, number)
                            for index, channel in enumerate(channels)
                            for number in range(LOGINS_EACH)
                        )
                    )
                )
                stop.set()
                times = sorted(await gets)
                grown_mib = (memory_kib(pid, "VmHWM") - before_kib) / 1024
                assert outcomes.keys() == {"BAD_CREDENTIALS", "RATE_LIMITED"}, outcomes
                assert outcomes["BAD_CREDENTIALS"] > WAITING_MAX, "the queue was never full"
                assert grown_mib <= MEMORY_MIB_MAX, f"{grown_mib:.0f} MiB more"
                assert len(times) >= 50
                assert times[int(len(times) * 0.99)] <= GET_MS_P99_MAX, f"{times[-5:]} of {len(times)}"
                assert server.process.poll() is None, "the server has ended"

    asyncio.run(main())
