"""Calls that are gathered, one by one: what is known of each, and what sends its caller on another way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

from prefixdb.client.methods import Method
from prefixdb.errors import PrefixdbError


class Promise(Protocol):
    """Where one caller waits: an ``asyncio.Future``, or a thread's ``wire.Promise``."""

    def done(self) -> bool:
        """True when it was answered or given up."""

    def set_result(self, result: Any, /) -> None:
        """Answer it; it must not be done."""

    def set_exception(self, failure: BaseException, /) -> None:
        """Fail it; it must not be done."""


class AloneError(Exception):
    """Tells the connection to make the call by itself: nothing was carried out, or it is a read.

    Attributes:
        left_s: how much time the call has left.
    """

    def __init__(self, left_s: float) -> None:
        super().__init__()
        self.left_s = left_s


class AgainError(Exception):
    """Tells the connection that a read may be tried again.

    Attributes:
        failure: what to raise when it is not.
        left_s: how much time the call has left.
    """

    def __init__(self, failure: PrefixdbError, left_s: float) -> None:
        super().__init__()
        self.failure = failure
        self.left_s = left_s


@dataclass(slots=True, eq=False)
class Operation:
    """One call on its way.

    Attributes:
        promise: where its caller waits.
        method: what it would be called by itself.
        request: its message.
        size: of the message, in bytes.
        deadline_s: how long its caller waits.
        due_s: until when, in the time of ``time.monotonic``.
    """

    promise: Promise
    method: Method[Any, Any]
    request: Any
    size: int
    deadline_s: float
    due_s: float

    def alone(self) -> AloneError:
        """Return what makes it a call by itself, in the time that is left."""
        return AloneError(self._left_s())

    def again(self, failure: PrefixdbError) -> AgainError:
        """Return what makes it tried again, in the time that is left."""
        return AgainError(failure, self._left_s())

    def _left_s(self) -> float:
        return max(0.001, self.due_s - time.monotonic())
