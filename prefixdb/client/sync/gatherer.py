"""Calls of single rows that threads make at the same time travel in one message; ``prefixdb/client/aio/gatherer.py`` is
asyncio's side.

Written by hand, unlike its neighbours. A call that finds no other one going on is made as an ordinary call, in its own
thread: that is the fastest way for one call. The others are handed to a thread of the gatherer's, which sends what has
gathered and takes the answer, and is there only while there is something to do. Callers just wait, so none of them is
ever in charge of the others: whoever is interrupted, or runs out of time, leaves.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

from prefixdb.client import gathering, methods
from prefixdb.client.failures import closed
from prefixdb.client.gathering import Gathering, ended
from prefixdb.client.methods import Method
from prefixdb.client.operations import AloneError, Operation
from prefixdb.client.sync import wire
from prefixdb.errors import PrefixdbError
from prefixdb.v1 import key_value_pb2

if TYPE_CHECKING:
    from prefixdb.client.sync.connection import Connection
    from prefixdb.client.sync.exchange import Exchange

IN_FLIGHT_MAX = 4
"""Messages under way at once, the empty one that opens a stream included."""

GATHERS_FROM = 2
"""So many calls must be going on for one of them to be gathered."""

Stream: TypeAlias = "Exchange[key_value_pb2.PipelineRequest, key_value_pb2.PipelineResponse]"


class Gatherer:
    """Gathers the calls of one connection. Thread-safe; usable after a fork.

    ``_lock`` guards everything but the sending and receiving, which only the driver does.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._closed = False
        self._forget()
        _GATHERERS.add(self)

    def _forget(self) -> None:
        """Begin with nothing, at first and in a forked child: what was under way is the parent's."""
        self._lock = threading.Lock()  # Taken by itself: a Condition's "with" is Python code, and can be interrupted.
        self._changed = threading.Condition(self._lock)
        self._gathering = Gathering(self._connection.options.endpoint)
        self._callers = 0
        self._driver: threading.Thread | None = None
        self._resting = False
        self._stream: Stream | None = None
        self._opened_at_s = 0.0

    def __repr__(self) -> str:
        held = self._gathering
        return f"Gatherer({len(held.waiting)} calls waiting, {len(held.under_way)} messages under way)"

    def call(self, method: Method[Any, Any], request: Any, size: int, deadline_s: float) -> Any:
        """Make a call and return its answer; arguments and errors as for asyncio's, but the errors are raised here."""
        with self._lock:
            if self._closed:
                raise closed()
            if time.monotonic() < self._gathering.bypass_until_s:
                raise AloneError(deadline_s)
            self._callers += 1
            alone = self._callers < GATHERS_FROM
        try:
            if alone:
                return self._connection.call(method, request, deadline_s=deadline_s)
            return self._gather(method, request, size, deadline_s)
        finally:
            with self._lock:
                self._callers -= 1

    def close(self) -> None:
        """Fail what is waiting or under way, and end everything, a stream that rests in order. May be called again."""
        with self._lock:
            self._closed = True
            stream = None
            if not self._gathering.idle:  # Else the driver ends it.
                stream, self._stream = self._stream, None
            self._gathering.fail_all(closed())
            self._changed.notify()
            driver = self._driver
        if stream is not None:
            stream.cancel()
        elif driver is not None:
            driver.join(2 * gathering.GOODBYE_S)

    def _gather(self, method: Method[Any, Any], request: Any, size: int, deadline_s: float) -> Any:
        """Hand a call in and wait for its answer."""
        promise = wire.Promise()
        due_s = time.monotonic() + deadline_s
        try:
            with self._lock:
                if self._closed:
                    raise closed()
                self._gathering.hand_in(Operation(promise, method, request, size, deadline_s, due_s))
                if self._driver is None:
                    self._driver = threading.Thread(target=self._drive, name="prefixdb-gatherer", daemon=True)
                    self._driver.start()
                elif self._resting:
                    self._changed.notify()
            while not promise.wait(due_s - time.monotonic()):
                self._expire()
        except BaseException:
            promise.cancel()  # Interrupted, for example by Ctrl-C.
            raise
        return promise.result()

    def _expire(self) -> None:
        """Fail the calls whose time is over, and give up a stream whose messages nobody waits for any more."""
        with self._lock:
            held = self._gathering
            held.expire(time.monotonic())
            if not held.abandoned() or self._stream is None:
                return
            stream, self._stream = self._stream, None
            held.broken(None, ended())
        stream.cancel()

    # --- the driver ------------------------------------------------------------------------------------------------

    def _drive(self) -> None:
        """Send and receive until there was nothing to do for a while."""
        try:
            while self._has_work():
                stream = self._send()
                if stream is not None:
                    self._receive(stream)
        except BaseException as mistake:
            # Nobody must wait in vain; the next call starts anew.
            with self._lock:
                self._driver = None
                self._gathering.fail_all(mistake)
                stream, self._stream = self._stream, None
            if stream is not None:
                stream.cancel()
            raise

    def _has_work(self) -> bool:
        """Wait for something to do; False when the driver's time is over, which the next call knows then."""
        with self._lock:
            if self._gathering.idle and not self._closed:
                self._resting = True
                self._changed.wait_for(lambda: self._closed or not self._gathering.idle, gathering.IDLE_S)
                self._resting = False
            if not self._gathering.idle and not self._closed:
                return True
            self._driver = None
            stream, self._stream = self._stream, None
        if stream is not None:
            _say_goodbye(stream)
        return False

    def _send(self) -> Stream | None:
        """Send what has gathered, and return the stream when there is an answer to come."""
        held = self._gathering
        while True:
            with self._lock:
                stream = self._stream
                if not held.waiting or len(held.under_way) >= IN_FLIGHT_MAX:
                    return stream if held.under_way else None
            try:
                if stream is not None and not self._is_good(stream):
                    if self._leave(stream):
                        continue
                    return stream  # For the answers that are still to come, so that the order holds.
                if stream is None:
                    stream = self._open()
            except PrefixdbError as failure:
                with self._lock:
                    held.fail(failure)
                continue
            with self._lock:
                message = held.take() if stream is not None and self._stream is stream else None
            if stream is not None and message is not None:
                stream.offer(message)

    def _is_good(self, stream: Stream) -> bool:
        """True when the next message may go over the stream."""
        young = time.monotonic() - self._opened_at_s < gathering.STREAM_S_MAX
        return young and stream.is_open and self._connection.token_is_current(stream.token)

    def _leave(self, stream: Stream) -> bool:
        """End a stream, unless something is under way on it."""
        with self._lock:
            if self._stream is stream and self._gathering.under_way:
                return False
            self._stream = None
        _say_goodbye(stream)
        return True

    def _open(self) -> Stream | None:
        """Open a stream, after looking for another token than a refused one; without one all who wait are refused."""
        held = self._gathering
        if held.refusal is not None:
            found = self._connection.renew(held.refusal[0])
            with self._lock:
                held.renew(found)
            return None
        stream = self._connection.open_duplex(methods.PIPELINE)
        with self._lock:
            if self._closed:
                stream.cancel()
                return None
            self._stream, self._opened_at_s = stream, time.monotonic()
            first = held.first()
        stream.offer(first)
        return stream

    def _receive(self, stream: Stream) -> None:
        """Take the oldest message's answer."""
        failure = ended()
        try:
            answer = stream.receive(None)
        except PrefixdbError as told:
            answer, failure = None, told
        with self._lock:
            if self._stream is not stream:
                return
            if answer is not None and self._gathering.settle(answer):
                return
            self._stream = None
            self._gathering.broken(stream.token, failure)
        stream.cancel()


def _say_goodbye(stream: Stream) -> None:
    """End a stream without leaving the server in doubt about it."""
    stream.finish_sending()
    try:
        stream.receive(gathering.GOODBYE_S)
    except PrefixdbError:
        return  # It has ended all the same, and nothing was under way.
    finally:
        stream.cancel()


_GATHERERS: weakref.WeakSet[Gatherer] = weakref.WeakSet()
"""Whose state a forked child begins anew. A lock that was held while the parent forked would stay locked for ever."""


def _after_fork() -> None:
    for gatherer in list(_GATHERERS):
        gatherer._forget()


os.register_at_fork(after_in_child=_after_fork)
