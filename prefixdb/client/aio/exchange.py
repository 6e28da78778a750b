"""Streams with our errors: the messages of one answer, and calls that go both ways."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import grpc

from prefixdb.client.aio import wire
from prefixdb.client.failures import deadline_exceeded, translate
from prefixdb.client.methods import Method, RequestT, ResponseT
from prefixdb.errors import PrefixdbError

CallT = TypeVar("CallT", bound=wire.ResponseStream[Any] | wire.Duplex[Any, Any])


class _Answers(Generic[CallT, ResponseT]):
    """A call whose answers are taken one by one, with our errors."""

    def __init__(self, call: CallT, method: Method[Any, ResponseT], endpoint: str, token: str | None) -> None:
        self.token = token
        self._call = call
        self._method = method
        self._endpoint = endpoint

    async def receive(self, deadline_s: float | None) -> ResponseT | None:
        """Return the next message, None after the last.

        Raises:
            DeadlineExceededError: none came within ``deadline_s``.
            PrefixdbError: the stream failed.
        """
        try:
            message: ResponseT | None = await self._call.receive(deadline_s)
        except grpc.RpcError as cause:
            raise self._translate(cause, deadline_s or 0) from cause
        except TimeoutError as cause:
            raise deadline_exceeded(writes=self._method.writes, deadline_s=deadline_s or 0) from cause
        return message

    def cancel(self) -> None:
        """End the call; harmless when it has ended."""
        self._call.cancel()

    def _translate(self, cause: grpc.RpcError, deadline_s: float) -> PrefixdbError:
        return translate(cause, writes=self._method.writes, deadline_s=deadline_s, endpoint=self._endpoint)


class AsyncMessages(_Answers[wire.ResponseStream[ResponseT], ResponseT]):
    """The messages of one streaming answer, with our errors."""

    def prefetch(self) -> None:
        """Begin to receive the next message, for the next ``receive``."""
        self._call.prefetch()


class AsyncExchange(_Answers[wire.Duplex[RequestT, ResponseT], ResponseT], Generic[RequestT, ResponseT]):
    """One bidirectional call, with our errors."""

    async def send(self, message: RequestT, deadline_s: float) -> None:
        """Send a message; raises as ``receive``."""
        try:
            await self._call.send(message, deadline_s)
        except grpc.RpcError as cause:
            raise self._translate(cause, deadline_s) from cause
        except TimeoutError as cause:
            raise deadline_exceeded(writes=self._method.writes, deadline_s=deadline_s) from cause

    async def offer(self, message: RequestT) -> None:
        """Send a message, however long that takes; when the call has ended, whoever receives learns of it."""
        await self._call.offer(message)

    @property
    def is_open(self) -> bool:
        """True while the call has not ended."""
        return self._call.is_open

    async def finish_sending(self) -> None:
        """Say that no message follows."""
        await self._call.finish_sending()
