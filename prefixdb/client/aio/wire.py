"""asyncio's side of everything that differs between the two clients.

``prefixdb/client/sync/wire.py`` is the same for threads. These two are the only twins written by hand: every other
module of ``sync`` is generated from the one of the same name here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

import grpc
import grpc.aio

from prefixdb.client.channel import channel_credentials, channel_options
from prefixdb.client.methods import Method, RequestT, ResponseT
from prefixdb.client.options import ClientOptions, target_of

T = TypeVar("T")
Channel: TypeAlias = grpc.aio.Channel
Metadata = tuple[tuple[str, str], ...]
Stream: TypeAlias = AsyncGenerator[T, None]
"""What methods that yield many things return; ``async for`` over it, ``aclose()`` to stop early."""

sleep = asyncio.sleep
Lock = asyncio.Lock
_unfinished: set[asyncio.Task[Any]] = set()
"""asyncio itself keeps only weak references to tasks."""
_aio: Any = grpc.aio  # EOF and InternalError are missing in its stubs.


def open_channel(options: ClientOptions) -> Channel:
    """Return a new channel; nothing is sent before the first call."""
    target, arguments = target_of(options.endpoint), channel_options(options)
    if options.tls is None:
        return grpc.aio.insecure_channel(target, options=arguments)
    return grpc.aio.secure_channel(target, channel_credentials(options.tls), options=arguments)


def unary(channel: Channel, method: Method[RequestT, ResponseT]) -> Any:
    """Return the callable of a unary method."""
    return channel.unary_unary(
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )


async def call_bytes(channel: Channel, path: str, timeout_s: float) -> bytes:
    """Call a unary method with an empty message and return the answer's bytes."""
    connected: Any = channel  # The stubs insist on serializers, which raw bytes do without.
    call = connected.unary_unary(path)
    answer: bytes = await call(b"", timeout=timeout_s)
    return answer


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Wait for ``work``, which goes on to its end also when the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    _unfinished.add(task)
    task.add_done_callback(_finished)
    return await asyncio.shield(task)


def _finished(task: asyncio.Task[Any]) -> None:
    _unfinished.discard(task)
    _seen(task)


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # Or asyncio logs the failure of a task whose caller has gone.


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Call a function that blocks."""
    return await asyncio.to_thread(work, *arguments)


async def close_channel(channel: Channel) -> None:
    """Close a channel and cancel what is open on it."""
    await channel.close(None)


class ResponseStream(Generic[ResponseT]):
    """The answers of one server-streaming call."""

    def __init__(self, channel: Channel, method: Method[Any, ResponseT], request: Any, metadata: Metadata) -> None:
        serializer, parser = method.request.SerializeToString, method.response.FromString
        start: Any = channel.unary_stream(method.path, request_serializer=serializer, response_deserializer=parser)
        self._call = start(request, metadata=metadata)
        self._ahead: asyncio.Task[ResponseT | None] | None = None

    async def receive(self, timeout_s: float | None) -> ResponseT | None:
        """Return the next message, None after the last.

        Raises:
            TimeoutError: none came in time; the call is cancelled.
            grpc.RpcError: the call failed.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            return ahead.result() if ahead.done() else await asyncio.wait_for(ahead, timeout_s)
        message: ResponseT | None = await _read(self._call, timeout_s)
        return message

    def prefetch(self) -> None:
        """Begin to receive the next message, for the next ``receive``. Nobody waits for it yet, so it has time."""
        self._ahead = asyncio.ensure_future(_read(self._call, None))
        self._ahead.add_done_callback(_seen)

    def cancel(self) -> None:
        """End the call; harmless when it has ended."""
        if self._ahead is not None:
            self._ahead.cancel()
        self._call.cancel()


class Duplex(Generic[RequestT, ResponseT]):
    """One bidirectional call."""

    def __init__(self, channel: Channel, method: Method[RequestT, ResponseT], metadata: Metadata) -> None:
        serializer, parser = method.request.SerializeToString, method.response.FromString
        start: Any = channel.stream_stream(method.path, request_serializer=serializer, response_deserializer=parser)
        self._call = start(metadata=metadata)

    async def send(self, message: RequestT, timeout_s: float) -> None:
        """Send a message, waiting while the other side's window is full.

        Raises:
            TimeoutError: it was not taken in time.
            grpc.RpcError: the call failed.
        """
        try:
            await asyncio.wait_for(_write(self._call, message), timeout_s)
        except asyncio.InvalidStateError:
            # The call has ended; its status says why, an ended call's write does not.
            await _read(self._call, timeout_s)

    async def offer(self, message: RequestT) -> None:
        """As ``send``, for as long as it takes; when the call has ended, whoever receives learns of it."""
        try:
            await _write(self._call, message)
        except (grpc.RpcError, asyncio.InvalidStateError):
            return

    @property
    def is_open(self) -> bool:
        """True while the call has not ended."""
        return not self._call.done()

    async def finish_sending(self) -> None:
        """Say that no message follows."""
        await self._call.done_writing()

    async def receive(self, timeout_s: float | None) -> ResponseT | None:
        """As ``ResponseStream.receive``."""
        message: ResponseT | None = await _read(self._call, timeout_s)
        return message

    def cancel(self) -> None:
        """End the call; harmless when it has ended."""
        self._call.cancel()


class Upload(Generic[RequestT, ResponseT]):
    """One bidirectional call whose requests are drawn from an iterator, no faster than the other side takes them."""

    def __init__(
        self, channel: Channel, method: Method[RequestT, ResponseT], first: RequestT, metadata: Metadata
    ) -> None:
        serializer, parser = method.request.SerializeToString, method.response.FromString
        start: Any = channel.stream_stream(method.path, request_serializer=serializer, response_deserializer=parser)
        self._call = start(metadata=metadata)
        self._rest: asyncio.Future[Iterator[RequestT]] = asyncio.get_running_loop().create_future()
        self._sender = asyncio.create_task(self._send(first))
        self.failure: Exception | None = None
        """What the iterator raised; the call is cancelled then."""
        self.drained = False
        """True when every request was handed to gRPC."""

    def send_all(self, rest: Iterator[RequestT]) -> None:
        """Send what comes after the first request. A thread draws from the iterator, which may block."""
        if not self._rest.done():
            self._rest.set_result(rest)

    async def receive(self, timeout_s: float | None) -> ResponseT | None:
        """As ``ResponseStream.receive``; raises what the iterator of the requests raised."""
        try:
            message: ResponseT | None = await _read(self._call, timeout_s)
        except (grpc.RpcError, asyncio.CancelledError):
            if self.failure is not None:
                raise self.failure from None
            raise
        return message

    def cancel(self) -> None:
        """End the call; harmless when it has ended."""
        self._sender.cancel()
        self._call.cancel()

    async def _send(self, first: RequestT) -> None:
        try:
            await _write(self._call, first)
            rest = await self._rest
            while (message := await asyncio.to_thread(next, rest, None)) is not None:
                await _write(self._call, message)
            self.drained = True
            await self._call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError):
            # The call has ended; whoever receives learns why.
            return
        except Exception as failure:  # noqa: BLE001 - ``receive`` raises it
            self.failure = failure
            self._call.cancel()


async def _write(call: Any, message: Any) -> None:
    """Send a message of a call.

    A server that refuses ends the call while the client writes. gRPC's own ``write`` gives such a call a status of its
    own, "Internal error from Core", before the server's has been read, and the server's word is lost. So this is what
    ``write`` does, without that; ``_read`` waits for the status.

    Raises:
        asyncio.InvalidStateError: the call has ended.
        grpc.RpcError: it failed before anything was sent.
    """
    await call.wait_for_connection()
    if call.done():
        raise asyncio.InvalidStateError
    try:
        await call._cython_call.send_serialized_message(message.SerializeToString())
    except _aio.InternalError:
        raise asyncio.InvalidStateError from None
    except asyncio.CancelledError:
        call.cancel()
        raise


async def _read(call: Any, timeout_s: float | None) -> Any:
    """Return the next message of a call, None at its end; gRPC raises when the end is not an OK one."""
    message = await asyncio.wait_for(call.read(), timeout_s)
    return None if message is _aio.EOF else message


class Membership:
    """Refuses ``key in db``, which cannot wait, and iteration, which Python would make of ``db[0], db[1], …``."""

    __slots__ = ()
    __iter__ = None

    def __contains__(self, key: object) -> NoReturn:
        raise TypeError("'key in db' cannot wait for a server; write 'await db.exists(key)'.")
