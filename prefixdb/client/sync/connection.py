# Generated from prefixdb/client/aio/connection.py by tools/async_to_sync.py; do not edit.
"""One channel to one server: headers, deadlines, repeats, and gRPC's errors made ours.

Every call of the client goes through here. A token that the server calls expired is read from its file again and the
call is made once more: the server refused it before doing anything, so that is safe for writes too.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any, Generic

import grpc

from prefixdb.client import methods
from prefixdb.client.credentials import TokenSource
from prefixdb.client.failures import closed, deadline_exceeded, in_doubt, translate
from prefixdb.client.methods import Method, RequestT, ResponseT
from prefixdb.client.options import ClientOptions
from prefixdb.client.pending import repeat_in_doubt
from prefixdb.client.sync import wire
from prefixdb.errors import PrefixdbError, Reason, UnauthenticatedError, UnavailableError, error
from prefixdb.v1 import auth_pb2

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0


class Connection:
    """A channel and the token that goes with it. Shared by every view of a database."""

    def __init__(self, options: ClientOptions) -> None:
        self.options = options
        self._tokens = TokenSource(options.token, options.token_file)
        self._channel: wire.Channel | None = None
        self._calls: dict[str, Any] = {}
        self._closed = False
        self._admitted = options.namespace is None
        self._opening = threading.Lock()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"Connection({self.options.endpoint}, {state})"

    def close(self) -> None:
        """Close the channel; open calls are cancelled. Calling it again is harmless."""
        self._closed = True
        channel, self._channel = self._channel, None
        self._calls.clear()
        if channel is not None:
            wire.close_channel(channel)

    def call(
        self, method: Method[RequestT, ResponseT], request: RequestT, *, deadline_s: float | None = None
    ) -> ResponseT:
        """Make one unary call and return its answer.

        Raises:
            PrefixdbError: of the class that the server's reason fixes.
        """
        timeout_s = self.options.deadline_s if deadline_s is None else deadline_s
        if not self._admitted:
            self._check_namespace(timeout_s)
        try:
            return self._invoke(method, request, timeout_s)
        except UnauthenticatedError:
            if not self._tokens.reload():
                raise
        return self._invoke(method, request, timeout_s)

    def call_repeatable(
        self, method: Method[RequestT, ResponseT], request: RequestT, *, deadline_s: float | None = None
    ) -> tuple[ResponseT, bool]:
        """Make a call whose repeat cannot do harm, again and again while the server is not available.

        Returns:
            The answer, and whether an earlier try may have been applied: then a condition that does not hold may be
            the doing of that try.
        """
        timeout_s = self.options.deadline_s if deadline_s is None else deadline_s
        ends_at = time.monotonic() + timeout_s
        doubtful = False
        for attempt in range(1, self.options.write_attempts + 1):
            try:
                return self.call(method, request, deadline_s=max(0.001, ends_at - time.monotonic())), doubtful
            except PrefixdbError as failure:
                wait_s = backoff_s(attempt, failure)
                last = attempt == self.options.write_attempts or time.monotonic() + wait_s >= ends_at
                if last or not isinstance(failure, UnavailableError):
                    if doubtful and not in_doubt(failure):
                        # This try did nothing, but an earlier one may have.
                        raise repeat_in_doubt() from failure
                    raise
                doubtful = doubtful or in_doubt(failure)
            wire.sleep(wait_s)
        raise AssertionError("write_attempts is at least 1")

    def open_stream(self, method: Method[Any, ResponseT], request: Any) -> Messages[ResponseT]:
        """Start a server-streaming call."""
        if not self._admitted:
            self._check_namespace(self.options.deadline_s)
        call = wire.ResponseStream(self._open(), method, request, self._metadata())
        return Messages(call, method, self.options.endpoint)

    def open_duplex(self, method: Method[RequestT, ResponseT]) -> Exchange[RequestT, ResponseT]:
        """Start a bidirectional call."""
        if not self._admitted:
            self._check_namespace(self.options.deadline_s)
        call = wire.Duplex(self._open(), method, self._metadata())
        return Exchange(call, method, self.options.endpoint)

    def health(self, *, deadline_s: float | None = None) -> str:
        """Return the server's health, for example ``SERVING``; needs no token."""
        timeout_s = self.options.deadline_s if deadline_s is None else deadline_s
        try:
            answer = wire.call_bytes(self._open(), methods.HEALTH_CHECK_PATH, timeout_s)
        except grpc.RpcError as cause:
            raise translate(cause, writes=False, deadline_s=timeout_s, endpoint=self.options.endpoint) from cause
        return methods.health_status(answer)

    def reload_token(self) -> bool:
        """Read the token file again; True when there is another token now."""
        return self._tokens.reload()

    def _invoke(self, method: Method[RequestT, ResponseT], request: RequestT, timeout_s: float) -> ResponseT:
        invoke = self._calls.get(method.path)
        if invoke is None:
            invoke = self._calls[method.path] = wire.unary(self._open(), method)
        try:
            answer: ResponseT = invoke(request, timeout=timeout_s, metadata=self._metadata())
        except grpc.RpcError as cause:
            raise self._translate(cause, method, timeout_s) from cause
        return answer

    def _translate(self, cause: grpc.RpcError, method: Method[Any, Any], timeout_s: float) -> PrefixdbError:
        if self._closed:
            return closed()
        return translate(cause, writes=method.writes, deadline_s=timeout_s, endpoint=self.options.endpoint)

    def _open(self) -> wire.Channel:
        """Return the channel, opened on first use: asyncio's needs the running loop."""
        if self._closed:
            raise closed()
        with self._opening:
            if self._channel is None:
                self._channel = wire.open_channel(self.options)
            return self._channel

    def _metadata(self) -> wire.Metadata:
        if self._closed:
            raise closed()
        token = self._tokens.token()
        return () if token is None else (("authorization", f"Bearer {token}"),)

    def _check_namespace(self, timeout_s: float) -> None:
        """Refuse to go on when the token is for another namespace than the caller said."""
        expected = self.options.namespace
        identity = self._invoke(methods.WHO_AM_I, auth_pb2.WhoAmIRequest(), timeout_s)
        found = identity.namespace_id if isinstance(expected, int) else identity.namespace_name
        if expected != found:
            message = f"The token is for namespace {found!r}, not for {expected!r}; use a token of that namespace."
            raise error(Reason.NOT_PERMITTED, message)
        self._admitted = True


class Messages(Generic[ResponseT]):
    """The messages of one streaming answer, with our errors."""

    def __init__(self, call: wire.ResponseStream[ResponseT], method: Method[Any, ResponseT], endpoint: str) -> None:
        self._call = call
        self._method = method
        self._endpoint = endpoint

    def receive(self, deadline_s: float | None) -> ResponseT | None:
        """Return the next message, None after the last.

        Raises:
            DeadlineExceededError: none came within ``deadline_s``.
            PrefixdbError: the stream failed.
        """
        try:
            return self._call.receive(deadline_s)
        except grpc.RpcError as cause:
            raise translate(
                cause, writes=self._method.writes, deadline_s=deadline_s or 0, endpoint=self._endpoint
            ) from cause
        except TimeoutError as cause:
            raise deadline_exceeded(writes=self._method.writes, deadline_s=deadline_s or 0) from cause

    def cancel(self) -> None:
        """End the call; harmless when it has ended."""
        self._call.cancel()


class Exchange(Generic[RequestT, ResponseT]):
    """One bidirectional call, with our errors."""

    def __init__(
        self, call: wire.Duplex[RequestT, ResponseT], method: Method[RequestT, ResponseT], endpoint: str
    ) -> None:
        self._call = call
        self._method = method
        self._endpoint = endpoint

    def send(self, message: RequestT, deadline_s: float) -> None:
        """Send a message; raises as ``receive``."""
        try:
            self._call.send(message, deadline_s)
        except grpc.RpcError as cause:
            raise translate(cause, writes=True, deadline_s=deadline_s, endpoint=self._endpoint) from cause
        except TimeoutError as cause:
            raise deadline_exceeded(writes=True, deadline_s=deadline_s) from cause

    def receive(self, deadline_s: float) -> ResponseT | None:
        """Return the next message, None after the last; raises as ``Messages.receive``."""
        try:
            return self._call.receive(deadline_s)
        except grpc.RpcError as cause:
            raise translate(cause, writes=True, deadline_s=deadline_s, endpoint=self._endpoint) from cause
        except TimeoutError as cause:
            raise deadline_exceeded(writes=True, deadline_s=deadline_s) from cause

    def finish_sending(self) -> None:
        """Say that no message follows."""
        self._call.finish_sending()

    def cancel(self) -> None:
        """End the call; harmless when it has ended."""
        self._call.cancel()


def backoff_s(attempt: int, failure: PrefixdbError | None = None) -> float:
    """Return how long to wait after the ``attempt``-th try: doubling, with jitter, at least what the server asked."""
    wait_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (attempt - 1))
    asked_ms = failure.retry_after_ms if failure is not None else None
    return float(random.uniform(wait_s / 2, wait_s) + (asked_ms or 0) / 1000)
