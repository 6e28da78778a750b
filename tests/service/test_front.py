"""Goal: the native front and the Python server behind it are one server: one port, one clock, one store, one count, one
end; and which of them answers is what the operator has asked for.

Method: a real server over the native store. What only Python can see or do (time, space, an exchange of the engine, a
halt) is done there, and looked for in the answers of calls that Python does not answer.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import prefixdb.store
from prefixdb.clock import Moment
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import data_key
from prefixdb.server.config import load_config
from prefixdb.server.fronts import choose_front
from prefixdb.store import reserve
from prefixdb.store.base import Commit, Put
from prefixdb.v1 import key_value_pb2 as pb
from prefixdb.v1 import maintenance_pb2
from tests.service.test_streams import end_of, idle_pipeline
from tests.support import server as support
from tests.support.clocks import HeldClock
from tests.support.server import Caller, RunningServer, eventually, running

GET = "/prefixdb.v1.KeyValue/Get"


@pytest.fixture(autouse=True)
def native(server_store: str) -> None:
    """These are tests of the native front; the other store has none."""
    if server_store != "native":
        pytest.skip("the native front serves the native store")


@asynccontextmanager
async def serving(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[RunningServer, Caller]]:
    """Run a server with a namespace and somebody who may do everything in it."""
    async with running(tmp_path / "data", **options) as server:
        assert server.app.front_name == "native"
        yield server, server.caller(server.create("acme"))


async def put(caller: Caller, key: bytes, value: bytes = b"v", **fields: Any) -> Any:
    return await caller.call(caller.key_value.Put, pb.PutRequest(key=key, value=value, **fields))


async def get(caller: Caller, key: bytes) -> Any:
    return await caller.get(pb.GetRequest(key=key))


async def reason_of(work: Any) -> Reason:
    with pytest.raises(PrefixdbError) as caught:
        await work
    return caught.value.reason


def facts(server: RunningServer) -> dict[str, int]:
    return dict(server.app.front_facts())


def sample(server: RunningServer, name: str) -> float:
    """Return one number of the metrics page."""
    [found] = re.findall(rf"^{re.escape(name)} (\S+)$", server.app.metrics.render().decode(), re.MULTILINE)
    return float(found)


# --- the choice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "front", "name"),
    [
        ("native", "auto", "native"),
        ("native", "native", "native"),
        ("native", "python", "python"),
        ("rocksdict", "auto", "python"),
        ("rocksdict", "python", "python"),
    ],
)
def test_the_front_is_the_one_that_was_asked_for_and_says_so(tmp_path: Path, store: str, front: str, name: str) -> None:
    async def main() -> None:
        async with running(tmp_path / "data", settings={"store.kind": store, "server.front": front}) as server:
            boss = server.guardian
            status = await boss.call(boss.maintenance.Status, maintenance_pb2.StatusRequest())
            assert (status.store, status.front) == (store, name)
            assert server.app.made_of == f"store: {store}, front: {name}"
            assert ("prefixdb_front_connections" in server.app.metrics.render().decode()) is (name == "native")
            assert not (await get(boss, b"k")).found

    asyncio.run(main())


def test_a_native_front_that_cannot_be_is_refused_and_nothing_else_is_taken(tmp_path: Path) -> None:
    async def main() -> None:
        settings = {"store.kind": "rocksdict", "server.front": "native"}
        with pytest.raises(PrefixdbError, match=r"server\.front .*store\.kind is rocksdict.*--store native") as caught:
            async with running(tmp_path / "data", settings=settings):
                pass
        assert caught.value.reason is Reason.BAD_FIELD

    asyncio.run(main())
    assert not list(tmp_path.glob("data/*"))
    forced = load_config(None, {}, {"server.front": "native"})  # Over rocksdict where native was not built.
    with pytest.raises(PrefixdbError, match=r"server\.front: .*rocksdict is in use.*--store native"):
        choose_front(forced, "rocksdict")
    assert choose_front(load_config(None, {}, {}), "rocksdict") == "python"


def test_where_nothing_native_was_built_the_front_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefixdb.store, "native_is_built", lambda: False)

    async def main() -> None:
        with pytest.raises(PrefixdbError, match=r"not built.*libnghttp2-dev.*PREFIXDB_NATIVE=require.*--front auto"):
            async with running(tmp_path / "data", settings={"store.kind": "auto", "server.front": "native"}):
                pass

    asyncio.run(main())
    assert not list(tmp_path.glob("data/*")), "or a rocksdict store had been begun"


def test_a_clock_that_the_front_cannot_follow_keeps_the_server_from_starting(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="cannot follow a Moment"):
            async with running(tmp_path / "data", clock=Moment(1_700_000_000_000)):
                pass
        async with running(tmp_path / "data") as server:  # Nothing of the first one is left in the way.
            assert not (await get(server.guardian, b"k")).found

    asyncio.run(main())


# --- the port --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
def test_a_free_port_is_picked_and_a_second_server_does_not_get_it(tmp_path: Path, listen: str) -> None:
    if "::1" in listen and not _has_version_6():
        pytest.skip("this machine has no addresses of version 6")

    async def main() -> None:
        async with running(tmp_path / "data", settings={"server.listen": listen}) as server:
            host, _, port = server.app.address.rpartition(":")
            assert host == listen.rpartition(":")[0] and int(port) > 0
            assert not (await get(server.guardian, b"k")).found
            again = running(tmp_path / "other", settings={"server.listen": server.app.address})
            with pytest.raises(PrefixdbError, match=r"server\.listen: .* cannot be bound: Address already in use\."):
                async with again:
                    pass

    asyncio.run(main())


def _has_version_6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


# --- one count -------------------------------------------------------------------------------------------------------


def test_each_call_is_counted_once_whoever_has_answered_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (server, caller):
            for _ in range(3):
                await get(caller, b"k")
            assert await reason_of(get(caller, b"")) is Reason.KEY_EMPTY
            raw = server.channel.unary_unary(GET)
            assert await reason_of(caller.call(raw, b"\xff\xff\xff")) is Reason.BAD_FIELD  # Handed over to Python.
            assert await reason_of(get(server.nobody(), b"k")) is Reason.TOKEN_MISSING
            count = 'prefixdb_calls_total{code="%s",method="/prefixdb.v1.KeyValue/Get"}'
            assert sample(server, count % "OK") == 3
            assert sample(server, count % "INVALID_ARGUMENT") == 2
            assert sample(server, count % "UNAUTHENTICATED") == 1
            assert sample(server, 'prefixdb_call_seconds_count{method="/prefixdb.v1.KeyValue/Get"}') == 6
            assert 0 < sample(server, 'prefixdb_call_seconds_sum{method="/prefixdb.v1.KeyValue/Get"}') < 10
            assert facts(server)["punted"] == sample(server, "prefixdb_front_punted") == 1
            assert facts(server)["forwarded"] == 0
            assert facts(server)["connections"] == sample(server, "prefixdb_front_connections") == 1
            health = await health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.SERVING
            assert sample(server, "prefixdb_front_forwarded") == 1

    asyncio.run(main())


def test_streams_and_sessions_of_both_are_counted_together(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (server, caller):
            stream = await idle_pipeline(caller)
            watch = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest())
            await watch.read()
            boss = server.guardian
            status = await boss.call(boss.maintenance.Status, maintenance_pb2.StatusRequest())
            assert status.streams_open == sample(server, "prefixdb_streams_open") == 2
            assert status.sessions_cached >= 2
            stream.cancel()
            watch.cancel()
            await eventually(lambda: not len(server.app.streams), "the streams are gone")

    asyncio.run(main())


# --- one clock -------------------------------------------------------------------------------------------------------


def test_time_is_what_the_servers_clock_says_at_once(tmp_path: Path) -> None:
    clock = HeldClock(1_700_000_000_000)

    async def main() -> None:
        async with serving(tmp_path, clock=clock) as (server, caller):
            await put(caller, b"k", ttl_ms=1_000)
            assert (await get(caller, b"k")).ttl_ms == 1_000
            clock.advance(999)
            assert (await get(caller, b"k")).ttl_ms == 1
            clock.advance(1)
            assert not (await get(caller, b"k")).found
            assert facts(server)["punted"] == 0
            clock.advance((3_600 + 30) * 1_000)
            assert await reason_of(get(caller, b"k")) is Reason.TOKEN_EXPIRED

    asyncio.run(main())


# --- one store -------------------------------------------------------------------------------------------------------


def test_while_space_is_low_python_judges_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [1 << 40]
    monkeypatch.setattr(reserve, "free_bytes", lambda _: free[0])

    async def main() -> None:
        async with serving(tmp_path) as (server, caller):
            store: Any = server.app.store
            await put(caller, b"k")
            stream = await idle_pipeline(caller)
            assert facts(server)["punted"] == 0
            free[0] = 1
            store._wake.set()
            await eventually(lambda: not store.status().writable, "the store has looked")
            assert await reason_of(put(caller, b"k2")) is Reason.DISK_FULL
            assert facts(server)["punted"] == 1
            deletes = [pb.Operation(delete=pb.DeleteRequest(key=b"none"))]
            await stream.write(pb.PipelineRequest(id=2, operations=deletes))
            assert (await stream.read()).id == 2, "deletes are the way out, also in a stream"
            assert (await caller.call(caller.key_value.Delete, pb.DeleteRequest(key=b"k"))).applied
            free[0] = 1 << 40
            store._wake.set()
            await eventually(lambda: store.status().writable, "the store has looked again")
            before = facts(server)["punted"]
            assert (await put(caller, b"k2")).applied
            assert facts(server)["punted"] == before
            stream.cancel()

    asyncio.run(main())


def test_calls_go_on_while_the_engine_is_exchanged_and_native_ones_after_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (server, caller):
            store: Any = server.app.store
            await put(caller, b"k", b"before")
            answered = 0
            going_on = True

            async def read() -> None:
                nonlocal answered
                while going_on:
                    assert (await get(caller, b"k")).value == b"before"
                    answered += 1

            def exchange() -> None:
                with store._commit_lock:
                    store._reopen()

            readers = [asyncio.create_task(read()) for _ in range(8)]
            await eventually(lambda: answered > 100, "reads are answered")
            for _ in range(3):
                await asyncio.to_thread(exchange)
                seen = answered
                await eventually(lambda seen=seen: answered > seen + 100, "reads are answered again")
            going_on = False
            await asyncio.gather(*readers)
            before = facts(server)["punted"]
            assert (await put(caller, b"k", b"after")).applied
            assert (await get(caller, b"k")).value == b"after"
            assert facts(server)["punted"] == before

    asyncio.run(main())


def test_a_poisoned_store_answers_nothing_more_natively(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (server, caller):
            await put(caller, b"k")
            store: Any = server.app.store
            store._on_violation()
            for call in (get(caller, b"k"), put(caller, b"k")):
                assert await reason_of(call) is Reason.INTERNAL

    asyncio.run(main())


# --- one end ---------------------------------------------------------------------------------------------------------


def test_a_halted_gate_halts_the_front(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (server, caller):
            await put(caller, b"k")
            stream = await idle_pipeline(caller)
            server.app.gate.halt(GET)
            with pytest.raises(PrefixdbError, match="Serving was stopped") as caught:
                await get(caller, b"k")
            assert caught.value.reason is Reason.INTERNAL
            assert (await end_of(stream)).reason is Reason.INTERNAL
            health = await health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert not server.app.serving

    asyncio.run(main())
    assert any(line.levelname == "CRITICAL" and "isolation" in line.message for line in caplog.records)


def test_a_foreign_row_that_the_front_finds_halts_the_gate(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (server, caller):
            front: Any = server.app.front
            front._answers._parts.gate.halt(GET)  # What the front's question leads to; see test_front_answers.
            assert server.app.gate.halted
            assert await reason_of(get(caller, b"k")) is Reason.INTERNAL

    asyncio.run(main())


def test_a_write_under_way_is_answered_before_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            caller = server.caller(acme)
            await put(caller, b"first")
            writes = [asyncio.create_task(put(caller, b"%04d" % number)) for number in range(200)]
            await eventually(lambda: any(each.done() for each in writes), "some are written")
            await server.app.stop(5.0)
            ended = await asyncio.gather(*writes, return_exceptions=True)
            refused = [each for each in ended if isinstance(each, BaseException)]
            assert all(isinstance(each, PrefixdbError) for each in refused), refused
            told = {each.reason for each in refused if isinstance(each, PrefixdbError)}
            assert told <= {Reason.DRAINING, Reason.UNREACHABLE}, told
            acknowledged = [
                b"%04d" % number for number, each in enumerate(ended) if not isinstance(each, BaseException)
            ]
        async with running(tmp_path / "data") as server:
            for key in acknowledged:
                assert server.app.store.get(data_key(acme.id, 0, key)) is not None

    asyncio.run(main())


def test_the_end_takes_no_longer_than_what_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            caller = server.caller(server.create("acme"))
            await put(caller, b"k")
            stream = await idle_pipeline(caller)
            began = time.monotonic()
            await server.app.stop(8.0)
            assert time.monotonic() - began < 3.0
            assert (await end_of(stream)).reason is Reason.DRAINING
            assert not (tmp_path / "data" / "front.sock").exists()

    asyncio.run(main())


def test_rows_that_python_writes_are_read_natively_and_the_other_way_round(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (server, caller):
            acme = server.app.registry.find("acme")
            assert acme is not None
            assert server.app.store.commit(Commit((Put(data_key(acme.id, 0, b"theirs"), b"1"),))).applied
            assert (await get(caller, b"theirs")).value == b"1"
            version = (await put(caller, b"ours", b"2")).version
            row = server.app.store.get(data_key(acme.id, 0, b"ours"))
            assert row is not None and (row.payload, row.version) == (b"2", version)

    asyncio.run(main())


def test_a_forked_child_has_no_front_and_ends_by_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (server, caller):
            await get(caller, b"k")
            front: Any = server.app.front
            child = os.fork()
            if child == 0:
                try:
                    front._front.stop()  # Nothing: its threads are the parent's.
                    front._front.facts()
                except RuntimeError as refused:
                    os._exit(0 if "parent process" in str(refused) else 2)
                os._exit(1)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status == 0
            assert not (await get(caller, b"k")).found, "the parent's goes on"

    asyncio.run(main())


def test_what_the_harness_starts_over_the_native_store_has_the_native_front() -> None:
    assert (support.store_kind, support.front_kind) == ("native", "auto")
