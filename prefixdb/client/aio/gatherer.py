"""Calls of single rows that are made at the same time travel in one message: asyncio's side.

``prefixdb/client/sync/gatherer.py`` is the same for threads, and like ``wire.py`` both are written by hand. What they
move, and what is told to whom when something fails, is in ``prefixdb/client/gathering.py``.

One task sends, one receives. A call that finds nothing under way goes out in the same turn of the loop; what is handed
in while messages are under way waits for the next one, which goes out as soon as fewer than ``IN_FLIGHT_MAX`` are.
Nothing is done for each call that can be done for a message, or once: there is one timer for all deadlines.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from prefixdb.client import gathering, methods
from prefixdb.client.failures import closed
from prefixdb.client.gathering import Gathering, ended
from prefixdb.client.methods import Method
from prefixdb.client.operations import AloneError, Operation
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.v1 import key_value_pb2

if TYPE_CHECKING:
    from prefixdb.client.aio.connection import AsyncConnection
    from prefixdb.client.aio.exchange import AsyncExchange

IN_FLIGHT_MAX = 4
"""Messages under way at once, the empty one that opens a stream included."""

Stream: TypeAlias = "AsyncExchange[key_value_pb2.PipelineRequest, key_value_pb2.PipelineResponse]"


class AsyncGatherer:
    """Gathers the calls of one connection. Belongs to the event loop that its first call is made in."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._gathering = Gathering(connection.options.endpoint)
        self._stream: Stream | None = None
        self._opened_at_s = 0.0
        self._worked_at_s = 0.0
        self._bell: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at_s = float("inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self._sender: asyncio.Task[None] | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        held = self._gathering
        return f"AsyncGatherer({len(held.waiting)} calls waiting, {len(held.under_way)} messages under way)"

    def call(self, method: Method[Any, Any], request: Any, size: int, deadline_s: float) -> asyncio.Future[Any]:
        """Hand a call in and return the future of its answer.

        Args:
            method: one with an ``operation``.
            request: its message.
            size: of the message, in bytes.
            deadline_s: how long the caller waits.

        Raises:
            AloneError: at once or by the future; make the call by itself.
            AgainError: by the future; a read may be tried again.
            PrefixdbError: by the future; the call failed.
        """
        now_s = time.monotonic()
        if self._closed:
            raise closed()
        if now_s < self._gathering.bypass_until_s:
            raise AloneError(deadline_s)
        promise = asyncio.get_running_loop().create_future()
        due_s = now_s + deadline_s
        self._gathering.hand_in(Operation(promise, method, request, size, deadline_s, due_s))
        if due_s < self._wakes_at_s:
            self._wake_at(due_s)
        if self._sender is None or self._sender.done():
            self._sender = self._start(self._send())
        else:
            self._ring()
        return promise

    async def close(self) -> None:
        """Fail what is waiting or under way, and end everything, a stream that rests in order. May be called again."""
        self._closed = True
        rests = self._gathering.idle
        self._gathering.fail_all(closed())
        if self._timer is not None:
            self._timer.cancel()
        try:
            if rests and self._stream is not None and self._receiver is not None:
                await self._end_in_order(self._stream, self._receiver)
        finally:
            self._drop_stream()
            tasks = set(self._tasks)
            for task in tasks:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _end_in_order(self, stream: Stream, receiver: asyncio.Task[None]) -> None:
        """End a stream on which nothing is under way; the server learns that it is complete, not given up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(gathering.GOODBYE_S):
                await stream.finish_sending()
                await asyncio.wait({receiver})

    # --- sending ---------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        """Send messages until there was nothing to do for a while."""
        held = self._gathering
        while True:
            if self._is_over():
                self._leave_stream()
                self._sender = None
                return
            if not held.waiting or len(held.under_way) >= IN_FLIGHT_MAX:
                await self._wait()
                continue
            stream = await self._ready_stream()
            if stream is None:
                continue
            message = held.take()
            if message is not None:
                self._worked_at_s = time.monotonic()
                if self._worked_at_s + gathering.IDLE_S < self._wakes_at_s:
                    self._wake_at(self._worked_at_s + gathering.IDLE_S)
                await stream.offer(message)

    async def _ready_stream(self) -> Stream | None:
        """Return a stream that is good for the next message; None when there is something else to do first."""
        stream, held = self._stream, self._gathering
        try:
            if stream is not None and not await self._is_good(stream):
                if self._stream is stream and held.under_way:
                    await self._wait()  # The answers that are still to come, so that the order holds.
                elif self._stream is stream:
                    self._leave_stream()
                return None
            if stream is None:
                if held.refusal is not None:
                    held.renew(await self._connection.renew(held.refusal[0]))
                    return None
                stream = await self._connection.open_duplex(methods.PIPELINE)
                self._stream, self._opened_at_s = stream, time.monotonic()
                self._receiver = self._start(self._receive(stream))
                await stream.offer(held.first())
        except PrefixdbError as failure:
            held.fail(failure)
            return None
        return stream if self._stream is stream else None

    async def _is_good(self, stream: Stream) -> bool:
        """True when the next message may go over the stream."""
        young = time.monotonic() - self._opened_at_s < gathering.STREAM_S_MAX
        return young and stream.is_open and await self._connection.token_is_current(stream.token)

    def _leave_stream(self) -> None:
        """End the stream, on which nothing is under way."""
        stream, self._stream, self._receiver = self._stream, None, None
        if stream is not None:
            self._start(self._say_goodbye(stream))

    async def _say_goodbye(self, stream: Stream) -> None:
        """End a stream without leaving the server in doubt about it; its receiver takes the end."""
        asyncio.get_running_loop().call_later(gathering.GOODBYE_S, stream.cancel)
        await stream.finish_sending()

    # --- receiving -------------------------------------------------------------------------------------------------

    async def _receive(self, stream: Stream) -> None:
        """Take the answers of a stream until it ends."""
        held = self._gathering
        failure = ended()
        try:
            while (answer := await stream.receive(None)) is not None:
                if not held.settle(answer):
                    stream.cancel()
                    break
                self._ring()
        except PrefixdbError as told:
            failure = told
        if self._stream is stream:
            self._stream = self._receiver = None
            held.broken(stream.token, failure)
            self._ring()

    # --- time ------------------------------------------------------------------------------------------------------

    def _wake_at(self, when_s: float) -> None:
        """Have ``_tick`` called at ``when_s``, of which is known that it is before the present time for it."""
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at_s = when_s
        delay_s = max(0.0, when_s - time.monotonic())
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay_s, self._tick, context=contextvars.Context())

    def _tick(self) -> None:
        """Fail the calls whose time is over, and give up a stream whose messages nobody waits for any more."""
        self._timer, self._wakes_at_s = None, float("inf")
        held = self._gathering
        next_s = held.expire(time.monotonic())
        if held.abandoned():
            self._drop_stream()
            held.broken(None, ended())
            if held.waiting:
                self._sender = self._start(self._send())
        if held.idle and self._stream is not None:
            next_s = self._worked_at_s + gathering.IDLE_S
        if next_s != float("inf"):
            self._wake_at(next_s)
        self._ring()

    def _is_over(self) -> bool:
        """True when there has been nothing to do for so long that the stream is ended."""
        if not self._gathering.idle:
            return False
        return self._stream is None or time.monotonic() >= self._worked_at_s + gathering.IDLE_S

    # --- tasks -----------------------------------------------------------------------------------------------------

    def _ring(self) -> None:
        """Have the sender look again what there is to do."""
        bell = self._bell
        if bell is not None:
            self._bell = None
            if not bell.done():
                bell.set_result(None)

    async def _wait(self) -> None:
        """Wait for ``_ring``."""
        self._bell = asyncio.get_running_loop().create_future()
        await self._bell

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task. It does not run in its caller's context, which may hold much, and end long before it."""
        nothing = contextvars.Context()
        task = asyncio.get_running_loop().create_task(work, context=nothing)
        self._tasks.add(task)
        task.add_done_callback(self._ended, context=nothing)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        was_cancelled = error(Reason.CANCELLED, "The client's work was cancelled.")
        failure = was_cancelled if task.cancelled() else task.exception()
        if self._closed or failure is None:
            return
        if task is self._sender or task is self._receiver:
            # Somebody cancelled all tasks of the loop, or there is a mistake here. Nobody must wait in vain; the next
            # call starts anew.
            self._drop_stream()
            self._gathering.fail_all(failure)

    def _drop_stream(self) -> None:
        """End the stream at once, and with it the tasks that may be waiting for it."""
        stream, self._stream = self._stream, None
        tasks, self._sender, self._receiver = (self._sender, self._receiver), None, None
        if stream is not None:
            stream.cancel()
        for task in tasks:
            if task is not None:
                task.cancel()
