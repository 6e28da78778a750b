"""Blocking work of calls, in threads, so that no namespace keeps the threads from the others.

A tenant may ask for much at once: to delete a hundred groups, for each of which a hundred thousand members have to be
looked at. Work that waits for a lock or a disk holds a thread all the while. So each namespace has a small share of the
threads, and what is beyond it waits where waiting costs nothing. What the server does on its own account (the audit,
the files it watches) has other threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from prefixdb.errors import Reason, error

THREADS_MAX = 32
"""Threads of one pool; they are made when they are needed."""

ADMINISTRATION_SHARE = 2
"""Threads of one namespace for members, groups, tokens and logins. Its changes happen one at a time anyway."""

WAITING_MAX = 1_024
"""Administrative calls of one namespace that may wait for its threads. They are finished when their clients have gone,
so without a bound whoever calls and leaves could pile them up."""

RETRY_MS = 1_000
"""When to come again beyond it."""

READING_SHARE = 4
"""Threads of one namespace for large BatchGets, which wait for the disk."""

TRANSFER_SHARE = 2
"""Threads of one namespace for exports and imports: work of seconds to hours, in pieces of milliseconds."""

IMPORT_SHARE = 1
"""Threads of one namespace for applying imports, each kept until its import is done: one after the other."""

_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Share:
    """The threads of a namespace, and how many have one or wait for one."""

    free: asyncio.Semaphore
    wanted: int = 0


class Workers:
    """One pool of threads. Belongs to the event loop's thread.

    Args:
        share: threads of one namespace.
        name: of the threads.
        waiting_max: calls of one namespace that may wait; None for calls that end with their clients.
    """

    def __init__(self, share: int, name: str, waiting_max: int | None = None) -> None:
        self._share = share
        self._waiting_max = waiting_max
        self._executor = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix=name)
        self._shares: dict[int, _Share] = {}

    async def run(self, namespace_id: int, function: Callable[[], _Result]) -> _Result:
        """Return what ``function`` returns, called in a thread when the namespace has one free.

        Whoever stops waiting does not stop the function, and the thread stays the namespace's until it returns:
        otherwise calls that are cancelled at once would take all of them.

        Raises:
            ResourceExhaustedError: RATE_LIMITED, too many of the namespace's calls wait.
        """
        waits = self._shares.get(namespace_id)
        if self._waiting_max is not None and waits and waits.wanted >= self._share + self._waiting_max:
            raise error(Reason.RATE_LIMITED, "Too many calls of the namespace wait.", retry_after_ms=RETRY_MS)
        share = self._shares.setdefault(namespace_id, _Share(asyncio.Semaphore(self._share)))
        share.wanted += 1
        try:
            await share.free.acquire()
        except BaseException:
            self._leave(namespace_id, share)
            raise
        try:
            work = asyncio.get_running_loop().run_in_executor(self._executor, function)
        except BaseException:
            self._give_back(namespace_id, share)
            raise
        work.add_done_callback(lambda _: self._give_back(namespace_id, share))
        return await asyncio.shield(work)

    def close(self) -> None:
        """Take no more work; what has not begun is dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _give_back(self, namespace_id: int, share: _Share) -> None:
        share.free.release()
        self._leave(namespace_id, share)

    def _leave(self, namespace_id: int, share: _Share) -> None:
        share.wanted -= 1
        if not share.wanted:
            del self._shares[namespace_id]
