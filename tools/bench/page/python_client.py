"""The load of one Python program: N tasks on one asyncio client, each with one request in flight at a time.

    python -m tools.bench.page.python_client --kind prefixdb --port 7311 --operation get --in-flight 256

Every client is used as its own documentation says, and none is helped: prefixdb by its SDK, redis by redis-py with its
pool and the hiredis parser, etcd by stubs on grpc.aio, which is what its Python clients are made of, without what they
add on top. Prints a JSON object of ``samples.Counted``.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tools.bench.page import keys
from tools.bench.page.samples import Counted, quantile

Request = Callable[[int], Awaitable[bool]]
"""Does one request about a numbered row; False when the answer is not as it should be."""


@asynccontextmanager
async def prefixdb(chosen: argparse.Namespace) -> AsyncIterator[Request]:
    """prefixdb's asyncio client."""
    from prefixdb import connect_async

    async with connect_async(f"127.0.0.1:{chosen.port}", token_file=chosen.token_file) as db:

        async def get(number: int) -> bool:
            return await db.get(keys.key(number)) is not None

        async def put(number: int) -> bool:
            await db.put(keys.key(number), VALUES[number])
            return True

        yield get if chosen.operation == "get" else put


@asynccontextmanager
async def etcd(chosen: argparse.Namespace) -> AsyncIterator[Request]:
    """Stubs of etcd's KV service on grpc.aio."""
    import grpc

    from tools.bench.page.etcd_proto import PutRequest, PutResponse, RangeRequest, RangeResponse

    async with grpc.aio.insecure_channel(f"127.0.0.1:{chosen.port}") as channel:
        find = channel.unary_unary(
            "/etcdserverpb.KV/Range", lambda request: request.SerializeToString(), RangeResponse.FromString
        )
        store = channel.unary_unary(
            "/etcdserverpb.KV/Put", lambda request: request.SerializeToString(), PutResponse.FromString
        )

        async def get(number: int) -> bool:
            return len((await find(RangeRequest(key=keys.key(number), serializable=True))).kvs) == 1

        async def put(number: int) -> bool:
            return bool((await store(PutRequest(key=keys.key(number), value=VALUES[number]))).header.revision)

        yield get if chosen.operation == "get" else put


@asynccontextmanager
async def redis(chosen: argparse.Namespace) -> AsyncIterator[Request]:
    """redis-py's asyncio client; its pool needs a connection for each request in flight."""
    from redis.asyncio import Redis

    async with Redis(port=chosen.port, max_connections=chosen.in_flight) as client:

        async def get(number: int) -> bool:
            return await client.get(keys.key(number)) is not None

        async def put(number: int) -> bool:
            return bool(await client.set(keys.key(number), VALUES[number]))

        yield get if chosen.operation == "get" else put


CLIENTS = {"prefixdb": prefixdb, "etcd": etcd, "redis": redis}
VALUES = list(keys.rows().values())


async def load(request: Request, in_flight: int, seconds: float, warm_up_s: float) -> Counted:
    """Keep ``in_flight`` requests going and count those that end while the clock runs.

    Raises:
        RuntimeError: an answer is not as it should be.
    """
    numbers = keys.uniform()
    next_number = iter(range(sys.maxsize))
    taken: list[float] = []
    done_all = 0
    begin = time.perf_counter() + warm_up_s
    end = begin + seconds

    async def caller() -> None:
        nonlocal done_all
        now = time.perf_counter()
        while now < end:
            if not await request(numbers[next(next_number) % len(numbers)]):
                raise RuntimeError("a request was not answered as it should be")
            then = time.perf_counter()
            done_all += 1
            if begin <= then < end:
                taken.append(then - now)
            now = then

    cpu_before_s = time.process_time()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    taken.sort()
    return Counted(
        seconds=seconds,
        calls=len(taken),
        rows=len(taken),
        rows_all=done_all,
        p50_ms=quantile(taken, 0.50) * 1e3 if taken else None,
        p99_ms=quantile(taken, 0.99) * 1e3 if taken else None,
        p999_ms=quantile(taken, 0.999) * 1e3 if taken else None,
        generator_cpu_s=time.process_time() - cpu_before_s,
    )


async def main() -> None:
    """Read the arguments, make the load and print what was counted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", choices=tuple(CLIENTS), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--operation", choices=("get", "put"), default="get")
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warm-up", type=float, default=1.0)
    parser.add_argument("--token-file", type=Path, help="prefixdb's bearer token")
    chosen = parser.parse_args()
    async with CLIENTS[chosen.kind](chosen) as request:
        counted = await load(request, chosen.in_flight, chosen.seconds, chosen.warm_up)
    print(json.dumps(dataclasses.asdict(counted)))


if __name__ == "__main__":
    asyncio.run(main())
