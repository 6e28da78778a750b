"""Passwords are hashed here: in threads of their own, a few at once, and only so many waiting.

One verification takes 19 MiB and some tens of milliseconds of a processor, by design. Two hundred at once would take
gigabytes and every processor, so they queue, and beyond a short queue they are told to come again.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from prefixdb.catalog.passwords import hash_password, verify_password
from prefixdb.errors import Reason, error

WORKERS_MAX = 4
"""Passwords hashed at once: 76 MiB, and a processor is always left for serving."""

WAITING_MAX = 64
"""Passwords that may wait for a worker: a few seconds' work."""

RESERVED = 16
"""Further places for those who hold a token, so that a flood of logins keeps no guardian from setting a password."""

RETRY_MS = 1_000
"""When to come again when the queue is full."""

_Result = TypeVar("_Result")


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

    @property
    def pending(self) -> int:
        """Passwords that are being hashed or wait for it."""
        return self._pending

    async def verify(self, password_hash: str, password: str, *, has_token: bool = False) -> bool:
        """Return whether the password is the one that was hashed.

        Raises:
            ResourceExhaustedError: RATE_LIMITED, too many wait already.
        """
        return await self._run(has_token, verify_password, password_hash, password)

    async def hash(self, password: str) -> str:
        """Return the hash of a new password of somebody who holds a token.

        Raises:
            ResourceExhaustedError: RATE_LIMITED, too many wait already.
        """
        return await self._run(True, hash_password, password)

    def close(self) -> None:
        """Take no more work; what waits is dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self, has_token: bool, function: Callable[..., _Result], *arguments: Any) -> _Result:
        if self._pending >= self.workers + WAITING_MAX + (RESERVED if has_token else 0):
            raise error(Reason.RATE_LIMITED, "Too many logins at once; try again.", retry_after_ms=RETRY_MS)
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
