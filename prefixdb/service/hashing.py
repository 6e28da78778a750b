"""Passwords are hashed here: in threads of their own, a few at once, and only so many waiting.

One verification takes 19 MiB and some tens of milliseconds of a processor, by design. Two hundred at once would take
gigabytes and every processor, so they queue, and beyond a short queue they are told to come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from prefixdb.catalog.passwords import hash_password, verify_password
from prefixdb.errors import PrefixdbError, Reason, error

WORKERS_MAX = 4
"""Passwords hashed at once: 76 MiB, and a processor is always left for serving."""

WAITING_MAX = 64
"""Passwords that may wait for a worker: a few seconds' work."""

RESERVED = 16
"""Further places for those who hold a token, so that a flood of logins keeps no guardian from setting a password."""

LOGINS_SHARE = WAITING_MAX // 2
"""Places for logins at one namespace: whatever happens there, half of them is left to the others."""

TOKENS_SHARE = RESERVED // 4
"""Places for the token holders of one namespace; what they ask for beyond it waits without one."""

RETRY_MS = 1_000
"""When to come again when the queue is full."""

_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Turn:
    """The places of a namespace's token holders, and how many have one or wait for one."""

    free: asyncio.Semaphore
    wanted: int = 0


class Hashing:
    """The threads and their queue. Belongs to the event loop's thread.

    Args:
        workers: threads; by default one less than processors, at least 1 and at most ``WORKERS_MAX``.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or max(1, min(WORKERS_MAX, len(os.sched_getaffinity(0)) - 1))
        self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix="hashing")
        self._counting = threading.Lock()
        self._pending = 0
        self._logins: Counter[Hashable] = Counter()
        self._turns: dict[int, _Turn] = {}

    @property
    def pending(self) -> int:
        """Passwords that are being hashed or wait for it."""
        return self._pending

    async def verify(self, password_hash: str, password: str, *, home: Hashable) -> bool:
        """Return whether the password of a login is the one that was hashed.

        Args:
            password_hash: of ``hash_password``.
            password: what was typed.
            home: the namespace as the caller named it.

        Raises:
            ResourceExhaustedError: RATE_LIMITED, too many wait already.
        """
        if self._logins[home] >= LOGINS_SHARE + self.workers:
            raise _busy()
        self._logins[home] += 1
        try:
            return await self._run(0, verify_password, password_hash, password)
        finally:
            self._logins[home] -= 1
            if not self._logins[home]:
                del self._logins[home]

    async def verify_own(self, password_hash: str, password: str, *, namespace_id: int) -> bool:
        """As ``verify``, of somebody who holds a token for the namespace."""
        async with self._turn_of(namespace_id):
            return await self._run(RESERVED, verify_password, password_hash, password)

    async def hash(self, password: str, *, namespace_id: int) -> str:
        """Return the hash of a new password, for somebody who holds a token for the namespace.

        Raises:
            ResourceExhaustedError: RATE_LIMITED, too many wait already.
        """
        async with self._turn_of(namespace_id):
            return await self._run(RESERVED, hash_password, password)

    def close(self) -> None:
        """Take no more work; what waits is dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    @contextlib.asynccontextmanager
    async def _turn_of(self, namespace_id: int) -> AsyncIterator[None]:
        """Have one of the namespace's places. Without it a tenant that sets passwords would keep all others out."""
        turn = self._turns.setdefault(namespace_id, _Turn(asyncio.Semaphore(TOKENS_SHARE)))
        turn.wanted += 1
        try:
            async with turn.free:
                yield
        finally:
            turn.wanted -= 1
            if not turn.wanted:
                del self._turns[namespace_id]

    async def _run(self, reserved: int, function: Callable[..., _Result], *arguments: Any) -> _Result:
        if self._pending >= self.workers + WAITING_MAX + reserved:
            raise _busy()
        with self._counting:
            self._pending += 1
        try:
            future = self._executor.submit(function, *arguments)
        except RuntimeError:
            self._done(None)
            raise error(Reason.DRAINING) from None
        future.add_done_callback(self._done)
        return await asyncio.wrap_future(future)

    def _done(self, _: Future[Any] | None) -> None:
        """Called from a worker's thread, or from the loop's when a waiting one was cancelled."""
        with self._counting:
            self._pending -= 1


def _busy() -> PrefixdbError:
    return error(Reason.RATE_LIMITED, "Too many logins at once; try again.", retry_after_ms=RETRY_MS)
