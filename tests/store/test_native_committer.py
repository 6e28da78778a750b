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

from prefixdb.errors import PrefixdbError, Reason, UnavailableError, error
from prefixdb.keycodec import data_key
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

    def submit(self, commits: Sequence[Commit], now_ms: int) -> int:
        self.tickets += 1
        self.waiting.append(self.tickets)
        return self.tickets

    def answer(self, count: int = 1_000, failure: Exception | None = None) -> None:
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        self.done += [(ticket, failure or [CommitResult(True, ticket)]) for ticket in taken]
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

    def refuses_writes(self) -> bool:
        return self.broken

    def admit(self) -> None:
        self.admissions += 1
        assert self.admitted.wait(30)
        if self.refusal is not None:
            raise self.refusal

    def submit(self, commits: Sequence[Commit]) -> tuple[Any, int, Callable[[Exception], BaseException]]:
        return self.queue, self.queue.submit(commits, 1), lambda failure: error(Reason.DISK_FULL, str(failure))

    def committer(self) -> NativeCommitter:
        def count() -> None:
            self.closed += 1

        return NativeCommitter(self, count)


async def waiting(committer: NativeCommitter, count: int) -> list[asyncio.Task[CommitResult]]:
    tasks = [asyncio.create_task(committer.commit(COMMIT)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def test_answers_reach_those_who_asked() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        tasks = await waiting(committer, 5)
        shop.queue.answer(3)
        assert [(await task).version for task in tasks[:3]] == [1, 2, 3]
        assert not tasks[3].done()
        shop.queue.answer()
        assert [(await task).version for task in tasks[3:]] == [4, 5]
        await committer.close()

    asyncio.run(run())


def test_a_failure_is_the_request_s_own_and_translated() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        tasks = await waiting(committer, 2)
        shop.queue.answer(1, Exception("engine text"))
        shop.queue.answer()
        with pytest.raises(PrefixdbError, match="engine text"):
            await tasks[0]
        assert (await tasks[1]).applied
        await committer.close()

    asyncio.run(run())


def test_requests_of_a_replaced_engine_are_answered_by_it_and_then_it_is_let_go() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        old = shop.queue
        before = await waiting(committer, 2)
        shop.queue = Queue()
        after = await waiting(committer, 2)
        shop.queue.answer()
        assert [(await task).version for task in after] == [1, 2]
        old.answer(failure=Exception("closed"))
        for task in before:
            with pytest.raises(PrefixdbError):
                await task
        assert list(committer._watched) == [shop.queue]
        again = await waiting(committer, 1)
        shop.queue.answer()
        assert (await again[0]).version == 3
        await committer.close()
        assert committer._watched == {}

    asyncio.run(run())


def test_a_cancelled_waiter_keeps_its_place_until_it_is_answered() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        tasks = await waiting(committer, 3)
        tasks[1].cancel()
        closing = asyncio.create_task(committer.close())
        await asyncio.sleep(0)
        assert not closing.done()
        shop.queue.answer()
        assert [(await tasks[0]).version, (await tasks[2]).version] == [1, 3]
        await closing
        assert shop.closed == 1

    asyncio.run(run())


def test_close_waits_for_what_was_accepted_and_refuses_the_rest() -> None:
    async def run() -> None:
        shop = Shop()
        committer = shop.committer()
        tasks = await waiting(committer, 1)
        closing = asyncio.create_task(committer.close())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await committer.commit(COMMIT)
        assert not closing.done()
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
        tasks = await waiting(committer, 4)
        assert shop.queue.tickets == 0
        shop.admitted.set()
        while shop.queue.tickets < 4:
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
            tasks = await waiting(committer, 3)
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
        tasks = await waiting(committer, 1)
        await committer.close()
        shop.admitted.set()
        with pytest.raises(RuntimeError):
            await tasks[0]
        assert shop.queue.tickets == 0

    asyncio.run(run())
