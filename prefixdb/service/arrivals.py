"""What a client may hold on to: requests that do not arrive, and answers that are not taken.

A unary call is answered by us in microseconds, but its message comes and its answer goes at the client's pace. A client
that announces calls and sends nothing, or asks for megabytes and reads nothing, must cost bounded memory and time:
a request that does not arrive in ``REQUEST_ARRIVAL_MS_MAX`` ends the call, and a namespace whose large answers wait in
our buffers gets no further large ones. (An answer that is handed to the transport cannot be taken back; it goes with
its connection.)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from prefixdb.errors import Reason, error
from prefixdb.limits import REQUEST_ARRIVAL_MS_MAX, UNREAD_BYTES_MAX, UNREAD_BYTES_PER_NAMESPACE_MAX

SMALL_REPLY_BYTES = 64 * 1024
"""Answers up to this size are not counted: flow control lets the first 64 KiB go to any client at once."""

PUBLIC_ARRIVAL_MS_MAX = 2_000
"""Longest wait for the message of a call that needs no token. Such a message is small and comes with its headers;
whoever announces sixteen megabytes holds them in our memory meanwhile."""

CREDENTIALS_BYTES_MAX = 64 * 1024
"""Largest message of a call whose message is the proof. A name and a password of the longest kind are a fiftieth."""

ADMINISTRATIVE_BYTES_MAX = 256 * 1024
"""Largest message of an administrative call; the labels of a namespace, the most there can be, are half of it. Such a
call goes on when its client has gone, so its message must not be worth keeping busy."""

PUBLIC_ARRIVALS_MAX = 16
"""Calls without a token whose message is waited for; one more ends the one that waits longest. Each may have most of
sixteen megabytes in our memory by then. An honest message comes with its headers and waits for a moment only."""

_LATE = "The request did not arrive in time."


class Arrivals:
    """Receives the one message of a unary or server-streaming call. Belongs to the event loop's thread.

    Args:
        loop: the serving loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._awaited: dict[asyncio.Task[Any], float] = {}
        self._public: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._awaited) + len(self._public)

    async def receive(self, context: Any, *, public: bool = False) -> bytes:
        """Return the call's message; ``public`` for calls that need no token.

        Raises:
            DeadlineExceededError: DEADLINE, it did not come in time.
            InvalidArgumentError: BAD_FIELD, the client ended its side without one.
        """
        raw = await self.receive_next(context, public=public)
        if raw is None:
            raise error(Reason.BAD_FIELD, "The call carries no message.")
        return raw

    async def receive_next(self, context: Any, *, public: bool = False) -> bytes | None:
        """Return the next message, or None when the client has sent its last; else as ``receive``."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("not inside a task")
        if public and len(self._public) >= PUBLIC_ARRIVALS_MAX:
            self._end(next(iter(self._public)))
        awaited = self._public if public else self._awaited
        awaited[task] = self._loop.time()
        try:
            raw = await context.read()
        except asyncio.CancelledError:
            if task not in self._late:
                raise  # The client has gone.
            task.uncancel()
            raise error(Reason.DEADLINE, _LATE) from None
        finally:
            awaited.pop(task, None)
            self._late.discard(task)
        return raw if isinstance(raw, bytes) else None  # At the end grpc gives a marker instead of bytes.

    def look(self) -> None:
        """End the calls whose message is late; called by the sweep."""
        now = self._loop.time()
        for awaited, patience_ms in (
            (self._awaited, REQUEST_ARRIVAL_MS_MAX),
            (self._public, PUBLIC_ARRIVAL_MS_MAX),
        ):
            for task, since in list(awaited.items()):
                if since < now - patience_ms / 1000:
                    self._end(task)

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._public.pop(task, None)
        if task not in self._late:
            self._late.add(task)
            task.cancel()


class Replies:
    """Counts the bytes of large answers that clients have not taken yet. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._unread: Counter[int] = Counter()
        self._total = 0

    @property
    def unread_bytes(self) -> int:
        """Bytes of large answers that wait for their clients."""
        return self._total

    def hold(self, namespace_id: int, size: int, context: Any) -> None:
        """Count an answer until its call is over.

        Raises:
            ResourceExhaustedError: RATE_LIMITED, too much waits for clients already.
        """
        held = self._unread[namespace_id] + size
        if held > UNREAD_BYTES_PER_NAMESPACE_MAX or self._total + size > UNREAD_BYTES_MAX:
            raise error(Reason.RATE_LIMITED, "Too many large answers wait to be read; read them before asking again.")
        self._unread[namespace_id] = held
        self._total += size
        context.add_done_callback(lambda _: self._release(namespace_id, size))

    def _release(self, namespace_id: int, size: int) -> None:
        self._total -= size
        self._unread[namespace_id] -= size
        if not self._unread[namespace_id]:
            del self._unread[namespace_id]
