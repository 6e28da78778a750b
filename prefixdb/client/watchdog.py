"""Deadlines for reads that block: one thread watches those of all calls of the process.

A blocking read of gRPC takes no timeout, so somebody else has to cancel the call. A timer for each read would start a
thread for each message, which costs more than the message. Deadlines are seconds away, so this one thread sleeps nearly
always: it wakes when the first deadline that it knew of has passed, and seldom finds one that is still there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


class Watchdog:
    """Calls back when something takes too long. Thread-safe; usable after a fork."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: dict[int, tuple[float, Callable[[], None]]] = {}
        self._number = 0
        self._wakes_at_s = 0.0
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watching(self, timeout_s: float, expire: Callable[[], None]) -> Iterator[None]:
        """Call ``expire`` once, in another thread, when the ``with`` block has not ended in time. It must not block."""
        due_s = time.monotonic() + timeout_s
        with self._changed:
            self._number += 1
            number = self._number
            self._watched[number] = (due_s, expire)
            if self._thread is None or not self._thread.is_alive():  # A forked child has none.
                self._thread = threading.Thread(target=self._watch, name="prefixdb-deadlines", daemon=True)
                self._wakes_at_s = 0.0
                self._thread.start()
            elif due_s < self._wakes_at_s:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._watched.pop(number, None)

    def _watch(self) -> None:
        while True:
            with self._changed:
                now_s = time.monotonic()
                late = [number for number, (due_s, _) in self._watched.items() if due_s <= now_s]
                expired = [self._watched.pop(number)[1] for number in late]
                if not expired:
                    self._wakes_at_s = min((due_s for due_s, _ in self._watched.values()), default=float("inf"))
                    forever = self._wakes_at_s == float("inf")
                    self._changed.wait(None if forever else self._wakes_at_s - now_s)
            for expire in expired:
                expire()


READS = Watchdog()
"""Watches the reads of every call of this process."""
