"""Goal: calls that are made at the same time travel together, and nobody can tell but by the time it takes.

Method: a server that plays a script takes their messages apart and counts them. It holds an answer back for as long as
the test wants, so what gathers meanwhile is no matter of luck. Failures of streams are in ``test_aio_gather_failures``.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from prefixdb import connect_async
from prefixdb.client import methods
from prefixdb.client.aio.database import AsyncDatabase
from prefixdb.client.options import ClientOptions
from prefixdb.errors import CancelledError, DeadlineExceededError, PermissionDeniedError, PrefixdbError, Reason
from prefixdb.limits import KIB
from prefixdb.v1.key_value_pb2 import DeleteResponse, GetRequest, GetResponse, PutResponse
from tests.client.harness import async_gather, async_test, async_until
from tests.support.scripted_server import Answer, Hold, Refuse, ScriptedServer

pytestmark = pytest.mark.usefixtures("gathered")

FOUND = Answer(GetResponse(found=True, value=b"v", version=7))
APPLIED = Answer(PutResponse(applied=True, version=8))
DELETED = Answer(DeleteResponse(applied=True, version=9))


def waiting(db: AsyncDatabase) -> int:
    """Return how many calls wait for the next message."""
    gatherer: Any = db._connection._gatherer
    return len(gatherer._gathering.waiting)


def sent(db: AsyncDatabase) -> int:
    """Return how many operations are under way behind the oldest message."""
    gatherer: Any = db._connection._gatherer
    return sum(len(message) for message in list(gatherer._gathering.under_way)[1:])


@async_test
async def test_a_lone_call_goes_out_at_once(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, FOUND)
    async with connect_async(scripted.endpoint, token="t") as db:
        assert await db.get("k") == b"v"
        assert await db["k"] == b"v"
    assert scripted.messages == [0, 1, 1], "a stream begins with a message without operations"
    assert {call.token for call in scripted.calls} == {"Bearer t"}
    assert scripted.streams == 1


@async_test
async def test_what_is_handed_in_while_an_answer_is_awaited_travels_together(scripted: ScriptedServer) -> None:
    go_on = threading.Event()
    scripted.script(methods.GET, Hold(go_on, FOUND), FOUND)
    scripted.script(methods.PUT, APPLIED)
    scripted.script(methods.DELETE, DELETED)
    async with connect_async(scripted.endpoint, token="t") as db:
        other = db.database(3).with_deadline(20)

        async def work(number: int) -> object:
            if number == 0:
                return await db.get("first")
            await async_until(lambda: bool(scripted.calls))
            if number == 41:
                await async_until(lambda: waiting(db) + sent(db) == 40)
                go_on.set()
                return None
            kinds = [db.get, other.get_row, db.exists, other.__getitem__, db.delete]
            return await (db.put("k", b"v") if number % 6 == 5 else kinds[number % 6]("k"))

        answers = await async_gather(work, 42)
    assert answers[0] == b"v"
    assert answers[5] == 8 and answers[4] == 9 and answers[8] is True
    assert sum(scripted.messages) == 41
    assert len(scripted.messages) < 12, scripted.messages
    assert scripted.streams == 1, "views share the stream"
    requests = [GetRequest.FromString(call.requests[0]) for call in scripted.calls_of(methods.GET)]
    assert {request.database for request in requests} == {0, 3}


@async_test
async def test_a_message_is_bounded_in_operations_and_in_bytes(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefixdb.client.gathering.OPERATIONS_MAX", 7)
    scripted.script(methods.GET, FOUND)
    scripted.script(methods.PUT, APPLIED)
    async with connect_async(options=ClientOptions(scripted.endpoint)) as db:
        await async_gather(lambda number: db.get(str(number)), 50)
        assert max(scripted.messages) <= 7
        monkeypatch.undo()
    async with connect_async(options=ClientOptions(scripted.endpoint)) as db:
        begun = len(scripted.messages)
        await async_gather(lambda number: db.put(str(number), bytes(200 * KIB)), 24)
        assert 1 <= max(scripted.messages[begun:]) <= 5, "five of them are a mebibyte"


@async_test
async def test_large_answers_make_messages_smaller(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, Answer(GetResponse(found=True, value=bytes(100 * KIB), version=7)))
    async with connect_async(scripted.endpoint, token="t") as db:
        await db.get("k")
        await async_gather(lambda number: db.get(str(number)), 60)
    assert max(scripted.messages) <= 10


@async_test
async def test_a_large_value_goes_alone(scripted: ScriptedServer) -> None:
    scripted.script(methods.PUT, APPLIED)
    async with connect_async(scripted.endpoint, token="t") as db:
        assert await db.put("k", bytes(256 * KIB)) == 8
        assert scripted.streams == 0
        assert await db.put("k", bytes(256 * KIB - 100)) == 8
        assert scripted.streams == 1


@async_test
async def test_gathering_can_be_switched_off(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, FOUND)
    async with connect_async(scripted.endpoint, token="t", gather=False) as db:
        await async_gather(lambda number: db.get(str(number)), 8)
    assert scripted.streams == 0
    assert len(scripted.calls_of(methods.GET)) == 8


@async_test
async def test_one_operation_fails_alone(scripted: ScriptedServer) -> None:
    refused = Refuse(Reason.NOT_PERMITTED)
    go_on = threading.Event()
    scripted.script(methods.GET, Hold(go_on, FOUND), FOUND, refused, FOUND)
    async with connect_async(scripted.endpoint, token="t") as db:

        async def work(number: int) -> object:
            if number == 20:
                await async_until(lambda: bool(scripted.calls))
                go_on.set()
                return None
            try:
                return await db.get(str(number))
            except PermissionDeniedError as failure:
                return failure

        answers = await async_gather(work, 21)
    assert sum(isinstance(answer, PermissionDeniedError) for answer in answers) == 1
    assert answers.count(b"v") == 19


@async_test
async def test_a_read_that_finds_the_answer_full_is_made_alone(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, Refuse(Reason.BATCH_TOO_LARGE), FOUND)
    async with connect_async(scripted.endpoint, token="t") as db:
        assert await db.get("k") == b"v"
    assert scripted.messages == [0, 1]
    assert len(scripted.calls_of(methods.GET)) == 2


@async_test
async def test_each_call_has_its_own_deadline_and_a_late_answer_is_nobodys(scripted: ScriptedServer) -> None:
    go_on = threading.Event()
    scripted.script(methods.GET, Hold(go_on, Answer(GetResponse(found=True, value=b"late"))), FOUND)
    scripted.script(methods.PUT, APPLIED)
    late: list[int] = []
    async with connect_async(scripted.endpoint, token="t", deadline_s=30) as db:

        async def work(number: int) -> object:
            if number == 0:
                return await db.get("slow")
            await async_until(lambda: bool(scripted.calls))
            hasty = db.with_deadline(0.05)
            try:
                return await (hasty.get("k") if number == 1 else hasty.put("k", b"v"))
            except DeadlineExceededError as failure:
                late.append(number)
                if len(late) == 2:
                    go_on.set()
                return failure

        slow, late_read, late_write = await async_gather(work, 3)
        assert slow == b"late"
        assert isinstance(late_read, DeadlineExceededError) and "0.05 s" in late_read.message
        assert "may" not in late_read.message
        assert isinstance(late_write, DeadlineExceededError) and "may or may not" in late_write.message
        assert await db.get("k") == b"v"
        assert scripted.streams == 1, "the stream of the one who goes on waiting is kept"


@async_test
async def test_a_stream_nobody_waits_for_is_given_up(scripted: ScriptedServer) -> None:
    never = threading.Event()
    scripted.script(methods.GET, Hold(never, FOUND), FOUND)
    async with connect_async(scripted.endpoint, token="t") as db:

        async def work(number: int) -> PrefixdbError:
            with pytest.raises(DeadlineExceededError) as caught:
                await db.with_deadline(1).get(str(number))
            return caught.value

        await async_gather(work, 5)
        assert await db.get("k") == b"v", "or it would wait behind the others"
        assert scripted.streams == 2


@async_test
async def test_what_was_not_sent_in_time_is_not_sent_at_all(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefixdb.client.aio.gatherer.IN_FLIGHT_MAX", 1)
    go_on = threading.Event()
    scripted.script(methods.GET, Hold(go_on, FOUND), FOUND)
    scripted.script(methods.PUT, APPLIED)
    async with connect_async(scripted.endpoint, token="t", deadline_s=30) as db:

        async def work(number: int) -> None:
            if number == 0:
                await db.get("k")
                return
            await async_until(lambda: bool(scripted.calls))
            with pytest.raises(DeadlineExceededError):
                await db.with_deadline(0.05).put("k", b"v")
            go_on.set()

        await async_gather(work, 2)
        assert await db.get("k") == b"v"
    assert not scripted.calls_of(methods.PUT)


@async_test
async def test_who_waits_behind_a_stream_that_is_given_up_goes_with_the_next(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefixdb.client.aio.gatherer.IN_FLIGHT_MAX", 1)
    never = threading.Event()
    scripted.script(methods.GET, Hold(never, FOUND), FOUND)
    async with connect_async(scripted.endpoint, token="t", deadline_s=20) as db:

        async def work(number: int) -> bytes | None:
            if number == 0:
                with pytest.raises(DeadlineExceededError):
                    await db.with_deadline(0.3).get("k")
                return None
            await async_until(lambda: bool(scripted.calls))
            return await db.get("k")

        assert await async_gather(work, 2) == [None, b"v"]
    assert scripted.streams == 2


@async_test
async def test_closing_the_client_fails_what_is_under_way(scripted: ScriptedServer) -> None:
    never = threading.Event()
    scripted.script(methods.GET, Hold(never, FOUND))
    db = connect_async(scripted.endpoint, token="t", deadline_s=30)

    async def work(number: int) -> None:
        if number == 12:
            await async_until(lambda: bool(scripted.calls))
            await db.close()
            return
        with pytest.raises(CancelledError, match="closed") as caught:
            await db.get(str(number))
        failures.append(caught.value)

    failures: list[CancelledError] = []
    await async_gather(work, 13)
    assert len(set(map(id, failures))) == 12, "each has an error of its own"
    with pytest.raises(CancelledError, match="closed"):
        await db.get("k")
    await db.close()
