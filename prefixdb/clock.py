"""The only source of time. Everything that needs the wall clock takes a :class:`Clock`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable


class Clock(Protocol):
    """Wall-clock time in milliseconds since the Unix epoch, never running backwards."""

    def now_ms(self) -> int:
        """Return the current time in milliseconds; never less than an earlier answer."""


@runtime_checkable
class HeldTime(Protocol):
    """What a clock has beside that stands still until somebody sets it: others can follow its every step."""

    def follow(self, follower: Callable[[int], None]) -> None:
        """Call ``follower`` with the time, now and whenever it is set, before whoever sets it goes on."""


class Moment:
    """A clock that has stopped, for what is to be judged at one moment."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Return the moment."""
        return self._now_ms


class SystemClock:
    """The machine's clock, held still while it is set back.

    An expired row must never come back, so time does not run backwards: after the machine's clock is set back the
    last answer is repeated until the clock has caught up. ``floor_ms`` carries that promise across a restart.

    Thread-safe: a race between two readers can at worst repeat a slightly older answer to one of them.
    """

    def __init__(self, floor_ms: int = 0) -> None:
        self._last_ms = floor_ms

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        now_ms = time.time_ns() // 1_000_000
        if now_ms < self._last_ms:
            return self._last_ms
        self._last_ms = now_ms
        return now_ms

    def raise_floor(self, floor_ms: int) -> None:
        """Never answer less than ``floor_ms`` from now on."""
        self._last_ms = max(self._last_ms, floor_ms)
