"""Goal: a write counts exactly when it was acknowledged, whatever happens to its namespace and its rivals meanwhile.

Method: the committer is held at the door, so that a write is admitted and then overtaken by a ban, a suspension or a
rename; the native front, whose committer is its own, is not told of the change until the write has met it. Rivals
increment counters by compare-and-set over many connections, and the sum tells whether one was lost.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from prefixdb import limits
from prefixdb.catalog.entities import NamespaceRecord, NamespaceState
from prefixdb.errors import Code, PrefixdbError, Reason
from prefixdb.keycodec import data_key
from prefixdb.service import answers
from prefixdb.store.base import Commit, Put
from prefixdb.v1 import key_value_pb2 as pb
from tests.service.test_streams import idle_pipeline
from tests.service.test_transport_limits import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    RawClient,
    frame,
    header_block,
)
from tests.support.server import Caller, RunningServer, error_of, eventually, running


class Door:
    """Holds the committer's requests until it is opened."""

    def __init__(self, server: RunningServer) -> None:
        self.waiting = 0
        self._open = asyncio.Event()
        committer: Any = server.app.committer
        self._commit_all = committer.commit_all
        committer.commit_all = self._pass

    async def _pass(self, commits: Any) -> Any:
        self.waiting += 1
        await self._open.wait()
        return await self._commit_all(commits)

    def open(self) -> None:
        """Let everything through from now on."""
        self._open.set()


class Hush:
    """Keeps from the native front what has changed until it is told: so long it admits writes as before the change.

    A change that nobody was told of yet is one whose author has not been answered, so the front may do that; the
    namespace's row, which the commit looks at, has changed all the same.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._kept: list[int | None] | None = None
        self._changed: Callable[[int | None], None] = lambda _: None
        honest = answers.watch

        def watch(port: Any, registry: Any, authority: Any) -> None:
            self._changed = port.changed
            honest(cast(answers.FrontPort, SimpleNamespace(changed=self._note)), registry, authority)

        monkeypatch.setattr("prefixdb.server.front.watch", watch)

    def _note(self, namespace_id: int | None) -> None:
        if self._kept is None:
            self._changed(namespace_id)
        else:
            self._kept.append(namespace_id)

    def begin(self) -> None:
        """Say nothing from now on."""
        self._kept = []

    def tell_when(self, condition: Callable[[], bool]) -> None:
        """Say what was not said, once the condition holds. Blocks."""
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "nothing was handed over"
            time.sleep(0.001)
        kept, self._kept = self._kept, None
        assert kept, "nothing has changed"
        for namespace_id in kept:
            self._changed(namespace_id)


OVERTAKERS: dict[str, tuple[Callable[[RunningServer, NamespaceRecord], Any], Reason | None]] = {
    "ban": (
        lambda server, acme: server.app.registry.ban(acme.id, by="test", grace_ms=60_000),
        Reason.NAMESPACE_BANNED,
    ),
    "suspend": (
        lambda server, acme: server.app.registry.suspend(acme.id, NamespaceState.SUSPENDED),
        Reason.NAMESPACE_SUSPENDED,
    ),
    "read only": (
        lambda server, acme: server.app.registry.suspend(acme.id, NamespaceState.READ_ONLY),
        Reason.READ_ONLY,
    ),
    "rename": (lambda server, acme: server.app.registry.update(acme.id, name="acme-2"), None),
    "ban and unban": (
        lambda server, acme: (
            server.app.registry.ban(acme.id, by="test", grace_ms=60_000),
            server.app.registry.unban(acme.id),
        ),
        None,
    ),
}


async def begin(caller: Caller, stream: Any) -> tuple[asyncio.Task[Any], asyncio.Task[Any]]:
    """Send three puts and a delete in a Pipeline, then a Put; return the answers to come, the Put's first."""
    operations = [pb.Operation(put=pb.PutRequest(key=b"p%d" % n)) for n in range(3)]
    operations.append(pb.Operation(delete=pb.DeleteRequest(key=b"p9")))
    await stream.write(pb.PipelineRequest(operations=operations))
    single = asyncio.create_task(caller.call(caller.key_value.Put, pb.PutRequest(key=b"k", value=b"v")))
    return single, asyncio.create_task(stream.read())


async def overtake(
    server: RunningServer, hush: Hush | None, caller: Caller, act: Callable[[], Any]
) -> tuple[asyncio.Task[Any], asyncio.Task[Any]]:
    """Return what ``begin`` does, of writes that are admitted as if ``act`` had not been and committed after it."""
    stream = await idle_pipeline(caller)
    if hush is None:
        door = Door(server)
        begun = await begin(caller, stream)
        await eventually(lambda: door.waiting == 2, "both writes are admitted")
        await asyncio.to_thread(act)
        door.open()
        return begun
    front: Any = server.app.front
    punted = front.facts()["punted"]
    hush.begin()
    await asyncio.to_thread(act)
    # The Put, which came after the Pipeline's, is refused by its commit and handed over.
    telling = asyncio.create_task(asyncio.to_thread(hush.tell_when, lambda: front.facts()["punted"] > punted))
    begun = await begin(caller, stream)
    await telling
    assert front.facts()["punted"] == punted + 1
    return begun


@pytest.mark.parametrize("overtaker", OVERTAKERS)
def test_a_write_admitted_before_a_change_is_judged_again_at_its_commit(
    tmp_path: Path, overtaker: str, server_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    act, refused = OVERTAKERS[overtaker]
    hush = Hush(monkeypatch) if server_store == "native" else None

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            assert server.has_native_front is (hush is not None)
            acme = server.create("acme")
            caller = server.caller(acme)
            single, answer = await overtake(server, hush, caller, lambda: act(server, acme))
            stored = [server.app.store.get(data_key(acme.id, 0, key)) for key in (b"k", b"p0", b"p2")]
            if refused is None:
                assert (await single).applied
                if overtaker == "ban and unban" and hush is None:
                    answer.cancel()
                    return  # The ban may have cut the stream before it was taken back.
                assert [result.put.applied for result in (await answer).results[:3]] == [True] * 3
                return
            with pytest.raises(PrefixdbError) as caught:
                await single
            assert caught.value.reason is refused
            if refused is Reason.READ_ONLY:
                results = (await answer).results
                assert [result.error.reason for result in results[:3]] == [refused.value.number] * 3
                assert results[3].delete.applied, "deletes are what READ_ONLY allows"
            else:
                with pytest.raises(grpc.aio.AioRpcError) as cut:
                    await answer
                assert error_of(cut.value).reason is refused
            assert stored == [None, None, None]
            await server.app.committer.commit(Commit())  # Whatever was waiting comes before this one.
            assert [server.app.store.get(data_key(acme.id, 0, key)) for key in (b"k", b"p0", b"p2")] == [None] * 3

    asyncio.run(main())


def test_counters_incremented_by_many_rivals_lose_no_increment(tmp_path: Path) -> None:
    rivals, increments, counters = 12, 25, 2

    async def bump(caller: Caller, key: bytes, lost: list[int]) -> None:
        while True:
            row = await caller.get(pb.GetRequest(key=key))
            test = pb.Test(version=row.version) if row.found else pb.Test(absent=True)
            value = b"%d" % (int(row.value or b"0") + 1)
            put = pb.PutRequest(key=key, value=value, condition=test)
            answer = await caller.call(caller.key_value.Put, put)
            if answer.applied:
                return
            assert answer.current_version > row.version, "a condition failed although nothing had changed"
            lost.append(1)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            lost: list[int] = []

            async def rival(number: int) -> None:
                options = (("grpc.use_local_subchannel_pool", 1),)
                async with grpc.aio.insecure_channel(server.app.address, options=options) as channel:
                    caller = Caller(channel, server.token(acme.id, subject=f"rival-{number}"))
                    for step in range(increments):
                        await bump(caller, b"counter-%d" % (step % counters), lost)

            await asyncio.gather(*(rival(number) for number in range(rivals)))
            caller = server.caller(acme)
            found = [int((await caller.get(pb.GetRequest(key=b"counter-%d" % n))).value) for n in range(counters)]
            assert sum(found) == rivals * increments
            assert lost, "the rivals never met; the test proved nothing"

    asyncio.run(main())


async def end_of(stream: Any) -> PrefixdbError:
    """Return the error a stream ends with instead of an answer."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    return error_of(caught.value)


async def exchange(caller: Caller, *operations: pb.Operation) -> list[pb.OperationResult]:
    """Send one Pipeline message and return its results."""
    stream = caller.key_value.Pipeline(metadata=caller.metadata)
    await stream.write(pb.PipelineRequest(id=7, operations=operations))
    response = await stream.read()
    assert response.id == 7
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK
    return list(response.results)


def op(**operation: Any) -> pb.Operation:
    return pb.Operation(**operation)


def test_a_pipeline_answers_in_order_and_sees_its_own_writes(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            caller = server.caller(server.create("acme"))
            results = await exchange(
                caller,
                op(get=pb.GetRequest(key=b"a")),
                op(put=pb.PutRequest(key=b"a", value=b"1")),
                op(put=pb.PutRequest(key=b"a", value=b"2", condition=pb.Test(value=b"1"))),
                op(put=pb.PutRequest(key=b"a", value=b"3", condition=pb.Test(absent=True))),
                op(get=pb.GetRequest(key=b"a")),
                op(delete=pb.DeleteRequest(key=b"a")),
                op(batch_get=pb.BatchGetRequest(keys=[b"a", b"b"])),
                op(write=pb.WriteRequest(mutations=[pb.Mutation(put=pb.Mutation.Put(key=b"b", value=b"w"))])),
                op(batch_get=pb.BatchGetRequest(keys=[b"a", b"b"])),
            )
            kinds = [result.WhichOneof("result") for result in results]
            assert kinds == ["get", "put", "put", "put", "get", "delete", "batch_get", "write", "batch_get"]
            assert not results[0].get.found
            assert [result.put.applied for result in results[1:4]] == [True, True, False]
            assert results[3].put.current_version == results[2].put.version
            assert results[4].get.value == b"2"
            assert [row.found for row in results[6].batch_get.results] == [False, False]
            assert [row.value for row in results[8].batch_get.results] == [b"", b"w"]

    asyncio.run(main())


def test_one_bad_operation_fails_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            caller = server.caller(server.create("acme"), groups=("writers",))
            results = await exchange(
                caller,
                op(put=pb.PutRequest(key=b"a", value=b"1")),
                op(put=pb.PutRequest(key=b"", value=b"1")),
                op(),
                op(get=pb.GetRequest(key=b"k" * (limits.KEY_BYTES_MAX + 1))),
                op(put=pb.PutRequest(key=b"b", value=b"v" * (limits.VALUE_BYTES_MAX + 1))),
                op(put=pb.PutRequest(key=b"c", value=b"1")),
            )
            reasons = [result.error.reason for result in results]
            expected = [None, Reason.KEY_EMPTY, Reason.BAD_FIELD, Reason.KEY_TOO_LARGE, Reason.VALUE_TOO_LARGE, None]
            assert reasons == [reason.value.number if reason else 0 for reason in expected]
            assert results[1].error.code == Code.INVALID_ARGUMENT
            assert results[0].put.applied and results[5].put.applied
            reader = server.caller(server.app.registry.find("acme").id, groups=("readers",))  # type: ignore[union-attr]
            mixed = await exchange(reader, op(put=pb.PutRequest(key=b"a", value=b"9")), op(get=pb.GetRequest(key=b"a")))
            assert mixed[0].error.reason == Reason.NOT_PERMITTED.value.number
            assert mixed[1].get.value == b"1"

    asyncio.run(main())


def test_pipeline_limits_hold_on_both_sides(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            caller = server.caller(server.create("acme"))
            most = [op(get=pb.GetRequest(key=b"k"))] * limits.PIPELINE_OPERATIONS_MAX
            assert len(await exchange(caller, *most)) == limits.PIPELINE_OPERATIONS_MAX
            stream = caller.key_value.Pipeline(metadata=caller.metadata)
            await stream.write(pb.PipelineRequest(operations=[*most, most[0]]))
            assert (await end_of(stream)).reason is Reason.BATCH_TOO_LARGE
            await caller.call(caller.key_value.Put, pb.PutRequest(key=b"large", value=b"v" * limits.VALUE_BYTES_MAX))
            large = [op(get=pb.GetRequest(key=b"large")), op(batch_get=pb.BatchGetRequest(keys=[b"large"] * 3))]
            results = await exchange(caller, *large * 10)
            failed = [result.error.reason for result in results if result.WhichOneof("result") == "error"]
            assert failed and set(failed) == {Reason.BATCH_TOO_LARGE.value.number}
            assert sum(result.ByteSize() for result in results) < limits.REQUEST_BYTES_MAX

    asyncio.run(main())


def test_garbage_in_a_pipeline_ends_the_stream_with_the_field_at_fault(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            caller = server.caller(server.create("acme"))
            stream = server.channel.stream_stream("/prefixdb.v1.KeyValue/Pipeline")(metadata=caller.metadata)
            await stream.write(b"\xff\xff\xff")
            assert (await end_of(stream)).reason is Reason.BAD_FIELD

    asyncio.run(main())


def leave_at_once(client: RawClient, token: str | None, key: bytes) -> None:
    """Send a Put and, in the same breath, that nobody wants to hear of it."""
    message = pb.PutRequest(key=key).SerializeToString()
    client.socket.sendall(
        frame(HEADERS, END_HEADERS, 1, header_block("/prefixdb.v1.KeyValue/Put", token))
        + frame(DATA, END_STREAM, 1, b"\0" + struct.pack(">I", len(message)) + message)
        + frame(RST_STREAM, 0, 1, CANCEL)
    )


def test_a_write_goes_on_when_its_client_leaves(tmp_path: Path) -> None:
    """What comes in one breath the front reads in one pass, so the call is gone before its commit can be done."""

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            caller = server.caller(acme)
            if server.has_native_front:
                await caller.get(pb.GetRequest(key=b"k"))  # The front knows the token.
                client = await asyncio.to_thread(RawClient, server.app.address)
                leave_at_once(client, caller.token, b"k")
                row = data_key(acme.id, 0, b"k")
                await eventually(lambda: server.app.store.get(row) is not None, "the write went on")
                client.close()
            else:
                door = Door(server)
                call = caller.key_value.Put(pb.PutRequest(key=b"k"), metadata=caller.metadata)
                await eventually(lambda: door.waiting == 1, "the write is admitted")
                call.cancel()
                door.open()
            other = Put(data_key(acme.id, 0, b"other"), b"")
            assert server.app.store.commit(Commit((other,))).applied
            assert (await caller.call(caller.key_value.Put, pb.PutRequest(key=b"next"))).applied

    asyncio.run(main())
