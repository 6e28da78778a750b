"""Goal: tasks that are cancelled, loops that are torn down, and what asyncio keeps: gathering leaves nothing behind.

Method: asyncio only; a server that plays a script, and a real one under a storm of cancellations.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import random
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from prefixdb import connect_async
from prefixdb.client import gathering, methods
from prefixdb.client.aio.database import AsyncDatabase
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.testing import Namespace
from prefixdb.v1.key_value_pb2 import GetRequest, GetResponse, PutRequest, PutResponse
from tests.client.harness import async_test, async_until
from tests.support.scripted_server import Answer, Hold, Refuse, ScriptedServer, Serve

FOUND = Answer(GetResponse(found=True, value=b"v", version=7))
APPLIED = Answer(PutResponse(applied=True, version=8))


def held(db: AsyncDatabase) -> gathering.Gathering:
    """Return what a client has gathered."""
    gatherer: Any = db._connection._gatherer
    held: gathering.Gathering = gatherer._gathering
    return held


@async_test
async def test_calls_of_one_turn_of_the_loop_are_one_message(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, FOUND)
    async with connect_async(scripted.endpoint, token="t") as db:
        for _ in range(2):
            await asyncio.gather(*(db.get(str(number)) for number in range(100)))
    assert scripted.messages == [0, 100, 100]
    keys = [GetRequest.FromString(call.requests[0]).key for call in scripted.calls]
    assert keys == [b"%d" % number for number in range(100)] * 2, "in the order in which they were handed in"


@async_test
async def test_what_goes_again_with_another_token_goes_first_and_in_its_order(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gathering, "OPERATIONS_MAX", 5)
    file = tmp_path / "token"
    file.write_text("old")
    scripted.script(methods.PIPELINE, Refuse(Reason.TOKEN_EXPIRED), Serve(1_000))
    scripted.script(methods.PUT, APPLIED)
    async with connect_async(scripted.endpoint, token_file=file) as db:
        await db._connection._token(5.0)
        stamp = file.stat().st_mtime_ns
        file.write_text("new")
        os.utime(file, ns=(stamp, stamp))
        await asyncio.gather(*(db.put(str(number), b"v") for number in range(40)))
    sent = [PutRequest.FromString(call.requests[0]).key for call in scripted.calls_of(methods.PUT)]
    assert sent == [b"%d" % number for number in range(40)]


@async_test
async def test_the_refusal_of_an_idle_stream_is_nobodys_error(scripted: ScriptedServer) -> None:
    scripted.script(methods.PIPELINE, Serve(1, Refuse(Reason.TOKEN_EXPIRED)), Serve(1_000))
    scripted.script(methods.PUT, APPLIED)
    async with connect_async(scripted.endpoint, token="t") as db:
        gatherer: Any = db._connection._gatherer
        assert await db.put("k", b"v") == 8
        await async_until(lambda: gatherer._stream is None)
        assert await db.put("k", b"v") == 8


@async_test
async def test_a_cancelled_call_that_was_not_sent_is_taken_out(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefixdb.client.aio.gatherer.IN_FLIGHT_MAX", 1)
    go_on = threading.Event()
    scripted.script(methods.GET, Hold(go_on, FOUND), FOUND)
    scripted.script(methods.PUT, APPLIED)
    async with connect_async(scripted.endpoint, token="t") as db:
        first = asyncio.create_task(db.get("k"))
        await async_until(lambda: bool(scripted.calls))
        puts = [asyncio.create_task(db.put(str(number), b"v")) for number in range(10)]
        await async_until(lambda: len(held(db).waiting) == 10)
        for task in puts[::2]:
            task.cancel()
        go_on.set()
        outcomes = await asyncio.gather(first, *puts, return_exceptions=True)
    assert outcomes[0] == b"v"
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[1:]] == [True, False] * 5
    sent = [PutRequest.FromString(call.requests[0]).key for call in scripted.calls_of(methods.PUT)]
    assert sent == [b"1", b"3", b"5", b"7", b"9"]


@async_test
async def test_a_call_that_is_cancelled_under_way_does_not_disturb_the_others(scripted: ScriptedServer) -> None:
    go_on = threading.Event()
    scripted.script(methods.GET, Hold(go_on, FOUND), FOUND)
    async with connect_async(scripted.endpoint, token="t") as db:
        tasks = [asyncio.create_task(db.get(str(number))) for number in range(6)]
        await async_until(lambda: bool(scripted.calls))
        for task in tasks[:5]:
            task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        assert await tasks[5] == b"v"
        assert all(task.cancelled() for task in tasks[:5])
        assert await db.get("k") == b"v"
    assert scripted.streams == 1


@async_test
async def test_what_was_given_up_unsent_is_forgotten(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefixdb.client.aio.gatherer.IN_FLIGHT_MAX", 1)
    never = threading.Event()
    scripted.script(methods.GET, Hold(never, FOUND))
    async with connect_async(scripted.endpoint, token="t", deadline_s=30) as db:
        stuck = asyncio.create_task(db.get("k"))
        await async_until(lambda: bool(scripted.calls))
        for _ in range(20):
            tasks = [asyncio.create_task(db.get("k")) for _ in range(500)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert len(held(db).waiting) <= 2 * gathering._PURGE_AT
        stuck.cancel()


@async_test
async def test_a_storm_of_cancellations_leaves_every_answer_right(place: Namespace) -> None:
    dice = random.Random(5)
    async with place.connect_async(deadline_s=30) as db:
        rows = {f"{number}": b"%d" % number for number in range(50)}
        await db.put_many(rows.items())

        async def work(key: str) -> None:
            for _ in range(20):
                assert await db.get(key) == rows[key]

        for _ in range(15):
            tasks = [asyncio.create_task(work(key)) for key in rows]
            for task in tasks:
                if dice.random() < 0.7:
                    asyncio.get_running_loop().call_later(dice.random() * 0.02, task.cancel)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        await asyncio.gather(*(work(key) for key in rows))
        assert held(db).idle


@async_test
async def test_the_client_lives_on_when_every_task_of_the_loop_was_cancelled(scripted: ScriptedServer) -> None:
    never = threading.Event()
    scripted.script(methods.GET, Hold(never, FOUND), FOUND)
    async with connect_async(scripted.endpoint, token="t", deadline_s=30) as db:
        stuck = asyncio.gather(db.get("k"), db.get("k"), return_exceptions=True)
        await async_until(lambda: bool(scripted.calls))
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in await stuck)
        assert await db.get("k") == b"v"


@async_test
async def test_who_waits_hears_of_it_when_only_the_clients_tasks_are_cancelled(scripted: ScriptedServer) -> None:
    never = threading.Event()
    scripted.script(methods.GET, Hold(never, FOUND), FOUND)
    async with connect_async(scripted.endpoint, token="t", deadline_s=30) as db:
        stuck = asyncio.create_task(db.get("k"))
        await async_until(lambda: bool(scripted.calls))
        gatherer: Any = db._connection._gatherer
        for task in list(gatherer._tasks):
            task.cancel()
        with pytest.raises(PrefixdbError, match="cancelled"):
            await stuck
        assert await db.get("k") == b"v"


def test_a_loop_may_end_without_a_word_to_the_client(scripted: ScriptedServer) -> None:
    """Warnings are errors here: no task may be left, nor an exception that nobody has seen."""
    scripted.script(methods.GET, FOUND)

    async def scenario() -> None:
        db = connect_async(scripted.endpoint, token="t")
        assert await db.get("k") == b"v"

    asyncio.run(scenario())
    gc.collect()


@async_test
async def test_nothing_of_a_callers_context_is_kept(scripted: ScriptedServer) -> None:
    class Large:
        pass

    variable: contextvars.ContextVar[Large] = contextvars.ContextVar("variable")
    scripted.script(methods.GET, FOUND)
    async with connect_async(scripted.endpoint, token="t") as db:

        async def call() -> weakref.ref[Large]:
            large = Large()
            variable.set(large)
            await db.get("k")
            return weakref.ref(large)

        seen = await asyncio.create_task(call())
        await asyncio.sleep(0)  # Until then the loop has the ended task in its hands.
        gc.collect()
        assert seen() is None
