"""The native committer without an engine: every request is answered, whatever becomes of the engine meanwhile.

Method: queues that answer when the test says so, with a real descriptor for the event loop, and a store that has them.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from prefixdb.errors import DataLossError, PrefixdbError, Reason, UnavailableError, error
from prefixdb.keycodec import data_key
from prefixdb.store import commit as commit_module
from prefixdb.store.base import Commit, CommitResult, Put
from prefixdb.store.native_committer import NativeCommitter

COMMIT = Commit((Put(data_key(1, 0, b"k"), b""),))


class Queue:
    """Keeps requests until ``answer``."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.waiting: list[int] = []
        self.done: list[tuple[int, list[CommitResult] | Exception]] = []
        self.tickets = 0
        self.commits: dict[int, int] = {}

    def submit(self, commits: Sequence[Commit], now_ms: int) -> int:
        self.tickets += 1
        self.commits[self.tickets] = len(commits)
        self.waiting.append(self.tickets)
        return self.tickets

    def answer(self, count: int = 1_000, failure: Exception | None = None) -> None:
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        self.done += [(ticket, failure or [CommitResult(True, ticket)] * self.commits[ticket]) for ticket in taken]
        os.eventfd_write(self.fd, 1)

    def completions_fd(self) -> int:
        return self.fd

    def completions(self) -> list[tuple[int, list[CommitResult] | Exception]]:
        os.eventfd_read(self.fd)
        done, self.done = self.done, []
        return done


class Shop:
    """The store's part: hands out the current queue, and refuses while it is broken."""

    def __init__(self) -> None:
        self.queue = Queue()
        self.broken = False
        self.refusal: PrefixdbError | None = None
        self.admissions = 0
        self.admitted = threading.Event()
        self.closed = 0
        self.reason = Reason.READ_ONLY_STORE

    def refuses_writes(self) -> bool:
        return self.broken

    def admit(self) -> None:
        self.admissions += 1
        assert self.admitted.wait(30)
        if self.refusal is not None:
            raise self.refusal

    def submit(self, commits: Sequence[Commit]) -> tuple[Any, int, Callable[[Exception], BaseException]]:
        if any(type(mutation) is not Put for commit in commits for mutation in commit.mutations):
            raise TypeError("not a mutation")
        return self.queue, self.queue.submit(commits, 1), lambda failure: error(self.reason, str(failure))

    def committer(self) -> NativeCommitter:
        def count() -> None:
            self.closed += 1

        return NativeCommitter(self, count)


async def begun(committer: NativeCommitter, count: int) -> list[asyncio.Task[CommitResult]]:
    """Return tasks that have asked for a commit."""
    tasks = [asyncio.create_task(committer.commit(COMMIT)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def handed(committer: NativeCommitter, queue: Queue, count: int) -> list[asyncio.Task[CommitResult]]:
    """Return tasks whose commits have reached the queue, under one ticket."""
    tickets = queue.tickets
    tasks = await begun(committer, count)
    while queue.tickets == tickets:
        await asyncio.sleep(0)
    assert queue.tickets == tickets + 1
    assert queue.commits[queue.tickets] == count
    return tasks


def test_answers_reach_those_who_asked() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        first = await handed(committer, shop.queue, 3)
        second = await handed(committer, shop.queue, 2)
        shop.queue.answer(1)
        assert [(await task).version for task in first] == [1, 1, 1]
        assert not second[0].done()
        shop.queue.answer()
        assert [(await task).version for task in second] == [2, 2]
        await committer.close()

    asyncio.run(run())


def test_writers_that_come_turn_by_turn_to_an_idle_engine_share_a_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "GATHER_SECONDS_MAX", 60.0)

    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        tasks = []
        for _ in range(20):
            tasks += await begun(committer, 1)
        while not shop.queue.waiting:
            await asyncio.sleep(0)
        shop.queue.answer()
        await asyncio.gather(*tasks)
        assert shop.queue.commits == {1: 20}
        await committer.close()

    asyncio.run(run())


def test_a_request_s_own_failure_is_nobody_else_s() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        shop.reason = Reason.CORRUPTION
        tasks = await handed(committer, shop.queue, 3)
        shop.queue.answer(failure=Exception("damaged"))
        while len(shop.queue.waiting) < 3:  # Each for itself now.
            await asyncio.sleep(0)
        shop.queue.answer(1)
        shop.queue.answer(1, Exception("damaged"))
        shop.queue.answer(1)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [CommitResult, DataLossError, CommitResult]
        await committer.close()

    asyncio.run(run())


def test_an_engine_s_failure_is_everybody_s_and_is_not_tried_again() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        tasks = await handed(committer, shop.queue, 3)
        shop.queue.answer(failure=Exception("engine text"))
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, PrefixdbError) and outcome.reason is Reason.READ_ONLY_STORE
        assert shop.queue.tickets == 1
        await committer.close()

    asyncio.run(run())


def test_a_request_the_store_does_not_take_is_refused_alone() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        wrong = asyncio.create_task(committer.commit(Commit(("no mutation",))))  # type: ignore[arg-type]
        right = (await begun(committer, 1))[0]
        while not shop.queue.waiting:
            await asyncio.sleep(0)
        shop.queue.answer()
        assert (await right).applied
        with pytest.raises(TypeError):
            await wrong
        await committer.close()

    asyncio.run(run())


def test_requests_of_a_replaced_engine_are_answered_by_it_and_then_it_is_let_go() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        old = shop.queue
        before = await handed(committer, old, 2)
        shop.queue = Queue()
        after = await handed(committer, shop.queue, 2)
        shop.queue.answer()
        assert [(await task).version for task in after] == [1, 1]
        old.answer(failure=Exception("closed"))
        for task in before:
            with pytest.raises(PrefixdbError):
                await task
        assert list(committer._watched) == [shop.queue]
        again = await handed(committer, shop.queue, 1)
        shop.queue.answer()
        assert (await again[0]).version == 2
        await committer.close()
        assert committer._watched == {}

    asyncio.run(run())


def test_a_cancelled_waiter_keeps_its_place_until_it_is_answered() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        tasks = await handed(committer, shop.queue, 3)
        for task in tasks:
            task.cancel()
        closing = asyncio.create_task(committer.close())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not closing.done()
        shop.queue.answer()
        await closing
        assert shop.closed == 1

    asyncio.run(run())


def test_close_waits_for_what_was_accepted_and_refuses_the_rest() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        tasks = await begun(committer, 1)  # Not even handed over yet.
        closing = asyncio.create_task(committer.close())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await committer.commit(COMMIT)
        while not shop.queue.waiting:
            assert not closing.done()
            await asyncio.sleep(0)
        shop.queue.answer()
        await closing
        assert tasks[0].result().applied
        await committer.close()

    asyncio.run(run())


def test_tasks_wait_together_for_one_recovery_and_go_on_after_it() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        shop.broken = True
        tasks = await begun(committer, 4)
        assert shop.queue.tickets == 0
        shop.admitted.set()
        while not shop.queue.waiting:
            await asyncio.sleep(0)
        assert shop.admissions == 1
        shop.queue.answer()
        assert all([(await task).applied for task in tasks])
        await committer.close()

    asyncio.run(run())


def test_tasks_are_refused_together_when_the_store_does_not_recover() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        shop.broken, shop.refusal = True, error(Reason.READ_ONLY_STORE)
        shop.admitted.set()
        for _ in range(2):
            tasks = await begun(committer, 3)
            tasks[0].cancel()
            for outcome in (await asyncio.gather(*tasks, return_exceptions=True))[1:]:
                assert isinstance(outcome, UnavailableError)
        assert shop.admissions == 2
        assert shop.queue.tickets == 0
        await committer.close()

    asyncio.run(run())


def test_a_close_during_a_recovery_accepts_nothing_more() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        shop.broken = True
        tasks = await begun(committer, 1)
        await committer.close()
        shop.admitted.set()
        with pytest.raises(RuntimeError):
            await tasks[0]
        assert shop.queue.tickets == 0

    asyncio.run(run())
