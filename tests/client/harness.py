"""What lets one test text serve both clients: ``async_test``, ``async_gather``, ``async_until`` have twins.

``tools/async_to_sync.py`` turns ``async_…`` into ``sync_…`` when it generates the tests of the sync client.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tests.support.waiting import wait_for

T = TypeVar("T")


def async_test(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Let pytest run an async test in a new event loop."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


def sync_test(test: Callable[..., None]) -> Callable[..., None]:
    """Do nothing; fail when the generator left a coroutine behind, which would pass unseen."""
    assert not inspect.iscoroutinefunction(test)
    return test


async def async_gather(work: Callable[[int], Awaitable[T]], count: int) -> list[T]:
    """Run ``work(0)`` to ``work(count - 1)`` at the same time and return their results."""
    return list(await asyncio.gather(*(work(number) for number in range(count))))


def sync_gather(work: Callable[[int], T], count: int) -> list[T]:
    """Run ``work(0)`` to ``work(count - 1)`` in threads at the same time and return their results."""
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(work, range(count)))


async def async_until(condition: Callable[[], bool]) -> None:
    """Return when ``condition()`` is true."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def sync_until(condition: Callable[[], bool]) -> None:
    """As ``async_until``."""
    wait_for(condition)
