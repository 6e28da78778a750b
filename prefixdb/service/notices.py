"""Notices from worker threads to waiting tasks: something about this namespace has changed, look again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Notices:
    """Wakes the tasks that watch a namespace. Belongs to the event loop's thread, but for ``notify``.

    Args:
        loop: the serving loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[int, set[asyncio.Event]] = {}

    @contextlib.contextmanager
    def subscribe(self, namespace_id: int) -> Iterator[asyncio.Event]:
        """Return an event that is set at every notice about the namespace; the subscriber clears it."""
        event = asyncio.Event()
        self._waiting.setdefault(namespace_id, set()).add(event)
        try:
            yield event
        finally:
            waiting = self._waiting[namespace_id]
            waiting.discard(event)
            if not waiting:
                del self._waiting[namespace_id]

    def notify(self, namespace_id: int) -> None:
        """Wake whoever watches the namespace. Thread-safe; does nothing once the loop has ended."""
        with contextlib.suppress(RuntimeError):  # Raised when the loop is closed: then nobody watches.
            self._loop.call_soon_threadsafe(self._wake, namespace_id)

    def _wake(self, namespace_id: int) -> None:
        for event in self._waiting.get(namespace_id, ()):
            event.set()
