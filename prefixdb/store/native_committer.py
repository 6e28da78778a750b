"""The native store's committer for an event loop: commits go to the engine's own thread and come back by a descriptor.

There is no thread of Python's in between: a task hands its commits over and waits for a future; the engine gathers what
is waiting into one batch and one sync, and makes a descriptor readable when some are done. The event loop watches it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from prefixdb.store.base import Commit, CommitResult


class CommitQueue(Protocol):
    """What the committer needs of an engine; see ``prefixdb/_native/module.pyi``."""

    def submit(self, commits: Sequence[Commit], now_ms: int) -> int: ...
    def completions_fd(self) -> int: ...
    def completions(self) -> list[tuple[int, list[CommitResult] | Exception]]: ...


class QueueStore(Protocol):
    """What the committer needs of its store. All of it is quick but ``admit``, which may wait for a recovery."""

    def refuses_writes(self) -> bool:
        """Return whether a write error has not been recovered from yet."""

    def admit(self) -> None:
        """Raise unless writes are possible; tries to recover when it is time to."""

    def submit(self, commits: Sequence[Commit]) -> tuple[CommitQueue, int, Callable[[Exception], BaseException]]:
        """Queue commits; returns the queue, the ticket, and what makes the caller's error of the queue's."""


class NativeCommitter:
    """``prefixdb.store.base.Committer`` over an engine with a committer thread. Not thread-safe: one loop uses it.

    An engine that is replaced while requests wait answers them all; its descriptor is watched until it has.

    Args:
        store: where commits go.
        on_close: called when the committer was closed.
    """

    def __init__(self, store: QueueStore, on_close: Callable[[], None]) -> None:
        self._store = store
        self._on_close = on_close
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: dict[CommitQueue, dict[int, _Waiter]] = {}
        self._current: CommitQueue | None = None
        self._recovering: asyncio.Future[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def commit(self, commit: Commit) -> CommitResult:
        return (await self.commit_all((commit,)))[0]

    async def commit_all(self, commits: Sequence[Commit]) -> list[CommitResult]:
        if self._closed:
            raise RuntimeError("the committer is closed")
        if not commits:
            return []
        if self._store.refuses_writes():
            await self._admitted()
            if self._closed:
                raise RuntimeError("the committer is closed")
        queue, ticket, translate = self._store.submit(commits)
        reply: asyncio.Future[list[CommitResult]] = asyncio.get_running_loop().create_future()
        self._waiters_of(queue)[ticket] = _Waiter(reply, translate)
        self._idle.clear()
        return await reply

    async def close(self) -> None:
        self._closed = True
        await self._idle.wait()
        for queue in list(self._watched):
            self._forget(queue)
        self._on_close()

    async def _admitted(self) -> None:
        """Wait in a thread, one for all tasks, for a store that may have to be recovered first."""
        if self._recovering is None:
            self._recovering = asyncio.ensure_future(asyncio.to_thread(self._store.admit))
            self._recovering.add_done_callback(self._recovered)
        await asyncio.shield(self._recovering)

    def _recovered(self, recovering: asyncio.Future[None]) -> None:
        self._recovering = None
        if not recovering.cancelled():
            recovering.exception()  # Looked at here, in case every task that waited for it was cancelled.

    def _waiters_of(self, queue: CommitQueue) -> dict[int, _Waiter]:
        waiters = self._watched.get(queue)
        if waiters is None:
            waiters = self._watched[queue] = {}
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(queue.completions_fd(), self._take, queue)
            self._current = queue
            self._drop_idle_queues()
        return waiters

    def _take(self, queue: CommitQueue) -> None:
        """Answer whoever is done; called by the loop."""
        waiters = self._watched[queue]
        for ticket, outcome in queue.completions():
            waiter = waiters.pop(ticket)
            if waiter.reply.done():
                continue  # Cancelled; its commit was not taken back.
            if isinstance(outcome, Exception):
                waiter.reply.set_exception(waiter.translate(outcome))
            else:
                waiter.reply.set_result(outcome)
        self._drop_idle_queues()
        if not any(self._watched.values()):
            self._idle.set()

    def _drop_idle_queues(self) -> None:
        """Stop watching engines that were replaced and owe nobody an answer."""
        for queue in [queue for queue, waiters in self._watched.items() if not waiters and queue is not self._current]:
            self._forget(queue)

    def _forget(self, queue: CommitQueue) -> None:
        del self._watched[queue]
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(queue.completions_fd())


class _Waiter:
    __slots__ = ("reply", "translate")

    def __init__(
        self, reply: asyncio.Future[list[CommitResult]], translate: Callable[[Exception], BaseException]
    ) -> None:
        self.reply = reply
        self.translate = translate
