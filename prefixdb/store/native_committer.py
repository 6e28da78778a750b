"""The native store's committer for an event loop: commits go to the engine's own thread and come back by a descriptor.

There is no thread of Python's in between: commits are handed over, the engine gathers what is waiting into one batch
and one sync, and makes a descriptor readable when some are done. The event loop watches it. What comes in while the
engine is idle is gathered for a few turns of the loop and handed over together: otherwise the first of many writers
would get a sync for itself, and all the others would wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

from prefixdb.errors import PrefixdbError
from prefixdb.store.base import Commit, CommitResult, DeleteSpan
from prefixdb.store.commit import ENGINE_WIDE, Request, commit_size, gather, take_batch


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
        self._waiting: list[Request] = []
        self._sending: asyncio.Task[None] | None = None
        self._watched: dict[CommitQueue, dict[int, _Handed]] = {}
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
        reply: asyncio.Future[list[CommitResult]] = asyncio.get_running_loop().create_future()
        self._waiting.append(Request(tuple(commits), sum(map(commit_size, commits)), reply))
        self._idle.clear()
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send(), name="prefixdb-commit")
        return await reply

    async def close(self) -> None:
        self._closed = True
        await self._idle.wait()
        for queue in list(self._watched):
            self._forget(queue)
        self._on_close()

    async def _send(self) -> None:
        """Hand over what is waiting."""
        try:
            while self._waiting:
                # While the engine is busy whatever is queued shares its next batch anyway.
                await (asyncio.sleep(0) if any(self._watched.values()) else gather(self._waiting))
                for ranged, together in groupby(take_batch(self._waiting), key=_deletes_ranges):
                    # The engine may refuse range deletes for a while; that is no reason to refuse their neighbours.
                    for requests in [[each] for each in together] if ranged else [list(together)]:
                        self._hand_over(requests)
        finally:
            self._sending = None
            for request in self._waiting:  # Only when the loop itself cancels this task.
                request.reply.cancel()
            self._waiting.clear()
            self._look_idle()

    def _hand_over(self, requests: list[Request]) -> None:
        try:
            queue, ticket, translate = self._store.submit(
                [commit for request in requests for commit in request.commits]
            )
        except Exception as refusal:  # noqa: BLE001 - handed to the waiting tasks, which raise it
            self._refuse(requests, refusal)
        else:
            self._handed_to(queue)[ticket] = _Handed(requests, translate)

    def _refuse(self, requests: list[Request], refusal: BaseException) -> None:
        """Answer requests of which nothing was applied, or, by an engine's failure, nobody knows."""
        if len(requests) == 1 or (isinstance(refusal, PrefixdbError) and refusal.reason in ENGINE_WIDE):
            for request in requests:
                if not request.reply.done():
                    request.reply.set_exception(refusal)
            return
        # One request's damaged row or wrong argument is no reason to refuse its neighbours.
        for request in requests:
            self._hand_over([request])

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

    def _handed_to(self, queue: CommitQueue) -> dict[int, _Handed]:
        handed = self._watched.get(queue)
        if handed is None:
            handed = self._watched[queue] = {}
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(queue.completions_fd(), self._take, queue)
            self._current = queue
            self._drop_idle_queues()
        return handed

    def _take(self, queue: CommitQueue) -> None:
        """Answer whoever is done; called by the loop."""
        handed = self._watched[queue]
        for ticket, outcome in queue.completions():
            requests, translate = handed.pop(ticket)
            if isinstance(outcome, Exception):
                self._refuse(requests, translate(outcome))
                continue
            results = iter(outcome)
            for request in requests:
                answer = [next(results) for _ in request.commits]
                if not request.reply.done():  # Else cancelled; its commits were not taken back.
                    request.reply.set_result(answer)
        self._drop_idle_queues()
        self._look_idle()

    def _look_idle(self) -> None:
        if not self._waiting and self._sending is None and not any(self._watched.values()):
            self._idle.set()

    def _drop_idle_queues(self) -> None:
        """Stop watching engines that were replaced and owe nobody an answer."""
        for queue in [queue for queue, handed in self._watched.items() if not handed and queue is not self._current]:
            self._forget(queue)

    def _forget(self, queue: CommitQueue) -> None:
        del self._watched[queue]
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(queue.completions_fd())


def _deletes_ranges(request: Request) -> bool:
    return any(type(mutation) is DeleteSpan for commit in request.commits for mutation in commit.mutations)


class _Handed(NamedTuple):
    requests: list[Request]
    translate: Callable[[Exception], BaseException]
