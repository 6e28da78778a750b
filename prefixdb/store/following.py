"""Who uses the native store's engine beside the store: the front, which reads and commits on its own threads.

The store tells its follower which engine is in use, and whether writes have to be looked at here first, at the moments
when that changes. What the follower meets in an engine comes back here to be judged; the engine may have been exchanged
by then, so the one before is remembered for as long as something can still be on its way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

FORMER_S = 10.0
"""How long an engine that was exchanged can still be meant: its answers were given before it was closed."""


class Follower(Protocol):
    """A front. Its calls wait for nothing, and come from any thread."""

    def set_store(self, engine: Any) -> None:
        """Use this engine of the extension from now on; None: none at all, the store has stopped serving."""

    def punt_writes(self, punt: bool) -> None:
        """While true have every write looked at by the store first, which refuses some."""


class FollowedEngine(Protocol):
    """What is needed of an engine."""

    handle: Any

    def failure(self) -> str | None:
        """Return the first error since which it writes no more."""


class Following:
    """Keeps one follower up to date. Thread-safe.

    Args:
        refuses_some: whether the store may refuse a write that the engine would take.
    """

    def __init__(self, refuses_some: Callable[[], bool]) -> None:
        self._refuses_some = refuses_some
        self._telling = threading.Lock()
        self._follower: Follower | None = None
        self._engine: FollowedEngine | None = None
        self._former: FollowedEngine | None = None
        self._exchanged_at = 0.0

    def follow(self, follower: Follower) -> None:
        """Tell ``follower`` how things are, and from now on of every change."""
        self._follower = follower
        self._tell(engine=True)

    def adopt(self, engine: FollowedEngine | None) -> None:
        """Tell of the engine that is used from now on; None for none."""
        with self._telling:
            if self._engine is not None and engine is not None:
                self._former, self._exchanged_at = self._engine, time.monotonic()
            self._engine = engine
        self._tell(engine=True)

    def look(self) -> None:
        """Tell whether writes are looked at here first; called whenever that may have changed."""
        self._tell(engine=False)

    def forget(self) -> None:
        """Tell nobody anything more: in a forked child the follower is the parent's."""
        self._telling = threading.Lock()
        self._follower = None

    def failed_former(self) -> bool:
        """Return whether a write that failed just now may have been one of an engine that is not in use any more."""
        with self._telling:
            if self._former is None or time.monotonic() - self._exchanged_at > FORMER_S:
                self._former = None
                return False
            return self._former.failure() is not None

    def _tell(self, *, engine: bool) -> None:
        # The answer is looked up under the lock: of two that tell, the later one tells the later state.
        with self._telling:
            if self._follower is None:
                return
            if engine:
                self._follower.set_store(None if self._engine is None else self._engine.handle)
            self._follower.punt_writes(self._refuses_some())
