"""A clock that tests and tools hold in their hand: time moves only when they say so."""

from __future__ import annotations

from collections.abc import Callable


class HeldClock:
    """A clock that stands still until :meth:`advance`. It satisfies ``prefixdb.clock.Clock`` and ``HeldTime``."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._followers: list[Callable[[int], None]] = []

    def now_ms(self) -> int:
        """Return the time the test has set, in milliseconds since the epoch."""
        return self._now_ms

    def advance(self, ms: int) -> None:
        """Move time forward by ``ms`` milliseconds."""
        if ms < 0:
            raise ValueError("time does not run backwards")
        self._set(self._now_ms + ms)

    def raise_floor(self, floor_ms: int) -> None:
        """Never answer less than ``floor_ms`` from now on, as the system's clock does after a restart."""
        self._set(max(self._now_ms, floor_ms))

    def follow(self, follower: Callable[[int], None]) -> None:
        """Have ``follower`` called with the time, now and after every step; see ``prefixdb.clock.HeldTime``."""
        self._followers.append(follower)
        follower(self._now_ms)

    def _set(self, now_ms: int) -> None:
        self._now_ms = now_ms
        for follower in self._followers:
            follower(now_ms)
