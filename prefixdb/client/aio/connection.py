"""One channel to one server: headers, deadlines, repeats, and gRPC's errors made ours.

Every call of the client goes through here. When the server does not take the token another one is looked for, and the
call is made once more: it was refused before anything was done, so that is safe for writes too.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc

from prefixdb.client import methods
from prefixdb.client.aio import wire
from prefixdb.client.aio.access import AsyncAccess
from prefixdb.client.aio.exchange import AsyncExchange, AsyncMessages
from prefixdb.client.aio.gatherer import AsyncGatherer
from prefixdb.client.aio.upload import AsyncUpload
from prefixdb.client.encoding import encode_password
from prefixdb.client.failures import closed, in_doubt, translate
from prefixdb.client.gathering import ALONE_BYTES
from prefixdb.client.methods import Method, RequestT, ResponseT, backoff_s
from prefixdb.client.models import LoginInfo
from prefixdb.client.operations import AgainError, AloneError
from prefixdb.client.options import ClientOptions
from prefixdb.client.pending import repeat_in_doubt
from prefixdb.clock import Clock, SystemClock
from prefixdb.errors import PrefixdbError, UnauthenticatedError, UnavailableError


class AsyncConnection:
    """A channel and the tokens that go with it. Shared by every view of a database."""

    def __init__(self, options: ClientOptions, clock: Clock | None = None) -> None:
        self.options = options
        self._access = AsyncAccess(options, self._send, clock or SystemClock())
        self._channel: wire.Channel | None = None
        self._calls: dict[str, Any] = {}
        self._closed = False
        self._opening = threading.Lock()
        self._gatherer = AsyncGatherer(self) if options.gather else None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"AsyncConnection({self.options.endpoint}, {state})"

    async def close(self) -> None:
        """Close the channel; open calls are cancelled. Calling it again is harmless.

        A login that was made with a password and is kept nowhere else ends: it could not be used again.
        """
        if not self._closed:
            self._closed = True
            if self._gatherer is not None:
                await self._gatherer.close()
            await self._access.close()
        channel, self._channel = self._channel, None
        self._calls.clear()
        if channel is not None:
            await wire.close_channel(channel)

    async def call(
        self, method: Method[RequestT, ResponseT], request: RequestT, *, deadline_s: float | None = None
    ) -> ResponseT:
        """Make one unary call and return its answer.

        Raises:
            PrefixdbError: of the class that the server's reason fixes.
        """
        timeout_s = self.options.deadline_s if deadline_s is None else deadline_s
        token = await self._token(timeout_s)
        try:
            return await self._send(method, request, timeout_s, token)
        except UnauthenticatedError:
            if not await self._access.renew(token, timeout_s):
                raise
        return await self._send(method, request, timeout_s, await self._token(timeout_s))

    async def call_single(
        self, method: Method[RequestT, ResponseT], request: RequestT, *, deadline_s: float | None = None
    ) -> ResponseT:
        """Make a call that may travel in one message with others that are made at the same time.

        Raises:
            PrefixdbError: as ``call``. A failure of this call alone has no gRPC error as its cause.
        """
        gatherer = self._gatherer
        size = request.ByteSize()
        if gatherer is None or not method.operation or size > ALONE_BYTES:
            return await self.call(method, request, deadline_s=deadline_s)
        left_s = self.options.deadline_s if deadline_s is None else deadline_s
        failure: PrefixdbError | None = None
        try:
            answer: ResponseT = await gatherer.call(method, request, size, left_s)
            return answer
        except AloneError as alone:
            left_s = alone.left_s
        except AgainError as again:
            failure, left_s = again.failure, again.left_s
        if failure is not None:
            return await self._read_again(method, request, left_s, failure)
        return await self.call(method, request, deadline_s=left_s)

    async def call_repeatable(
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
                left_s = max(0.001, ends_at - time.monotonic())
                return await self.call_single(method, request, deadline_s=left_s), doubtful
            except PrefixdbError as failure:
                wait_s = backoff_s(attempt, failure)
                last = attempt == self.options.write_attempts or time.monotonic() + wait_s >= ends_at
                if last or not isinstance(failure, UnavailableError):
                    if doubtful and not in_doubt(failure):
                        # This try did nothing, but an earlier one may have.
                        raise repeat_in_doubt() from failure
                    raise
                doubtful = doubtful or in_doubt(failure)
            await wire.sleep(wait_s)
        raise AssertionError("write_attempts is at least 1")

    async def open_stream(self, method: Method[Any, ResponseT], request: Any) -> AsyncMessages[ResponseT]:
        """Start a server-streaming call."""
        token = await self._token(self.options.deadline_s)
        call = wire.ResponseStream(self._open(), method, request, _metadata(token))
        return AsyncMessages(call, method, self.options.endpoint, token)

    async def open_duplex(self, method: Method[RequestT, ResponseT]) -> AsyncExchange[RequestT, ResponseT]:
        """Start a bidirectional call."""
        token = await self._token(self.options.deadline_s)
        call = wire.Duplex(self._open(), method, _metadata(token))
        return AsyncExchange(call, method, self.options.endpoint, token)

    async def open_upload(
        self, method: Method[RequestT, ResponseT], first: RequestT
    ) -> AsyncUpload[RequestT, ResponseT]:
        """Start a bidirectional call whose requests, after the first, come from an iterator."""
        if method.secret:
            self.options.check_private("what the archive holds")
        token = await self._token(self.options.deadline_s)
        call = wire.Upload(self._open(), method, first, _metadata(token))
        return AsyncUpload(call, self.options.endpoint, token)

    async def health(self, *, deadline_s: float | None = None) -> str:
        """Return the server's health, for example ``SERVING``; needs no token."""
        timeout_s = self.options.deadline_s if deadline_s is None else deadline_s
        try:
            answer = await wire.call_bytes(self._open(), methods.HEALTH_CHECK_PATH, timeout_s)
        except grpc.RpcError as cause:
            raise translate(cause, writes=False, deadline_s=timeout_s, endpoint=self.options.endpoint) from cause
        return methods.health_status(answer)

    async def token_is_current(self, token: str | None) -> bool:
        """True while new calls carry ``token``; renews it first when it is time to."""
        return await self._token(self.options.deadline_s) == token

    async def renew(self, refused: str | None) -> bool:
        """Look for another token than one that the server does not take; True when there is one."""
        return await self._access.renew(refused, self.options.deadline_s)

    async def login(self) -> LoginInfo:
        """Log in now."""
        self._check_open()
        return await self._access.login(self.options.deadline_s)

    async def logout(self, *, everywhere: bool) -> None:
        """End the login."""
        self._check_open()
        await self._access.logout(everywhere, self.options.deadline_s)

    async def change_password(self, old: str, new: str) -> None:
        """Change the caller's own password."""
        self._check_open()
        await self._access.change_password(encode_password(old), encode_password(new), self.options.deadline_s)

    async def _read_again(
        self, method: Method[RequestT, ResponseT], request: RequestT, deadline_s: float, failure: PrefixdbError
    ) -> ResponseT:
        """Go on with a gathered read whose first try failed with ``failure``, as gRPC does with one that went alone."""
        if self._gatherer is None:
            raise failure
        ends_at = time.monotonic() + deadline_s
        for attempt in range(1, self.options.read_attempts):
            wait_s = backoff_s(attempt, failure)
            if time.monotonic() + wait_s >= ends_at:
                break
            await wire.sleep(wait_s)
            try:
                answer: ResponseT = await self._gatherer.call(
                    method, request, request.ByteSize(), max(0.001, ends_at - time.monotonic())
                )
                return answer
            except AgainError as again:
                failure = again.failure
            except AloneError:
                return await self.call(method, request, deadline_s=max(0.001, ends_at - time.monotonic()))
        raise failure

    async def _token(self, timeout_s: float) -> str | None:
        self._check_open()
        return await self._access.token(timeout_s)

    async def _send(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout_s: float, token: str | None
    ) -> ResponseT:
        if method.secret:
            self.options.check_private("the password or token")
        invoke = self._calls.get(method.path)
        if invoke is None:
            invoke = self._calls[method.path] = wire.unary(self._open(), method)
        try:
            answer: ResponseT = await invoke(request, timeout=timeout_s, metadata=_metadata(token))
        except grpc.RpcError as cause:
            raise self._translate(cause, method, timeout_s) from cause
        return answer

    def _check_open(self) -> None:
        if self._closed:
            raise closed()

    def _translate(self, cause: grpc.RpcError, method: Method[Any, Any], timeout_s: float) -> PrefixdbError:
        if self._closed:
            return closed()
        return translate(cause, writes=method.writes, deadline_s=timeout_s, endpoint=self.options.endpoint)

    def _open(self) -> wire.Channel:
        """Return the channel, opened on first use: asyncio's needs the running loop."""
        with self._opening:
            if self._channel is None:
                self._check_open()
                self._channel = wire.open_channel(self.options)
            return self._channel


def _metadata(token: str | None) -> wire.Metadata:
    return () if token is None else (("authorization", f"Bearer {token}"),)
