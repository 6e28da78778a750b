"""The threads' side of everything that differs between the two clients; ``prefixdb/client/aio/wire.py`` is asyncio's.

Written by hand, unlike its neighbours.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeAlias, TypeVar

import grpc

from prefixdb.client.channel import channel_credentials, channel_options
from prefixdb.client.methods import Method, RequestT, ResponseT
from prefixdb.client.options import ClientOptions, target_of
from prefixdb.client.watchdog import READS

T = TypeVar("T")
Channel: TypeAlias = grpc.Channel
Metadata = tuple[tuple[str, str], ...]
Stream: TypeAlias = Generator[T, None, None]
"""What methods that yield many things return; iterate over it, ``close()`` to stop early."""

sleep = time.sleep
Lock = threading.Lock


def open_channel(options: ClientOptions) -> Channel:
    """Return a new channel; nothing is sent before the first call."""
    target, arguments = target_of(options.endpoint), channel_options(options)
    if options.tls is None:
        return grpc.insecure_channel(target, options=arguments)
    return grpc.secure_channel(target, channel_credentials(options.tls), options=arguments)


def unary(channel: Channel, method: Method[RequestT, ResponseT]) -> Any:
    """Return the callable of a unary method."""
    return channel.unary_unary(
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )


def call_bytes(channel: Channel, path: str, timeout_s: float) -> bytes:
    """Call a unary method with an empty message and return the answer's bytes."""
    connected: Any = channel  # The stubs insist on serializers, which raw bytes do without.
    call = connected.unary_unary(path)
    answer: bytes = call(b"", timeout=timeout_s)
    return answer


def finish(result: T) -> T:
    """Return ``result``: a thread's work is not cancelled from outside."""
    return result


def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Call a function that blocks."""
    return work(*arguments)


def close_channel(channel: Channel) -> None:
    """Close a channel and cancel what is open on it."""
    channel.close()


class ResponseStream(Generic[ResponseT]):
    """The answers of one server-streaming call."""

    def __init__(self, channel: Channel, method: Method[Any, ResponseT], request: Any, metadata: Metadata) -> None:
        serializer, parser = method.request.SerializeToString, method.response.FromString
        start: Any = channel.unary_stream(method.path, request_serializer=serializer, response_deserializer=parser)
        self._call = start(request, metadata=metadata)
        self._ahead: Promise | None = None

    def receive(self, timeout_s: float | None) -> ResponseT | None:
        """Return the next message, None after the last.

        Raises:
            TimeoutError: none came in time; the call is cancelled.
            grpc.RpcError: the call failed.
        """
        ahead, self._ahead = self._ahead, None
        message: ResponseT | None
        if ahead is None:
            message = _next(self._call, timeout_s)
        elif ahead.wait(threading.TIMEOUT_MAX if timeout_s is None else timeout_s):
            message = ahead.result()
        else:
            self._call.cancel()
            raise TimeoutError
        return message

    def prefetch(self) -> None:
        """Begin to receive the next message, for the next ``receive``. Nobody waits for it yet, so it has time."""
        self._ahead = Promise()
        threading.Thread(target=_bring, args=(self._call, self._ahead), name="prefixdb-prefetch", daemon=True).start()

    def cancel(self) -> None:
        """End the call; harmless when it has ended."""
        self._call.cancel()


class Duplex(Generic[RequestT, ResponseT]):
    """One bidirectional call. gRPC pulls the requests out of a queue in a thread of its own."""

    def __init__(self, channel: Channel, method: Method[RequestT, ResponseT], metadata: Metadata) -> None:
        serializer, parser = method.request.SerializeToString, method.response.FromString
        start: Any = channel.stream_stream(method.path, request_serializer=serializer, response_deserializer=parser)
        self._requests: queue.SimpleQueue[RequestT | None] = queue.SimpleQueue()
        self._call = start(self._drain(), metadata=metadata)

    def send(self, message: RequestT, timeout_s: float) -> None:
        """Hand a message to gRPC. The pipeline bounds how many are under way, so the queue stays short."""
        self._requests.put(message)

    def offer(self, message: RequestT) -> None:
        """As ``send``; when the call has ended, whoever receives learns of it."""
        self._requests.put(message)

    @property
    def is_open(self) -> bool:
        """True while the call has not ended."""
        return bool(self._call.is_active())

    def finish_sending(self) -> None:
        """Say that no message follows."""
        self._requests.put(None)

    def receive(self, timeout_s: float | None) -> ResponseT | None:
        """As ``ResponseStream.receive``."""
        message: ResponseT | None = _next(self._call, timeout_s)
        return message

    def cancel(self) -> None:
        """End the call; harmless when it has ended."""
        self._call.cancel()
        self._requests.put(None)

    def _drain(self) -> Iterator[RequestT]:
        while (message := self._requests.get()) is not None:
            yield message


class Upload(Generic[RequestT, ResponseT]):
    """One bidirectional call whose requests are drawn from an iterator, no faster than the other side takes them.

    gRPC draws them in a thread of its own.
    """

    def __init__(
        self, channel: Channel, method: Method[RequestT, ResponseT], first: RequestT, metadata: Metadata
    ) -> None:
        serializer, parser = method.request.SerializeToString, method.response.FromString
        start: Any = channel.stream_stream(method.path, request_serializer=serializer, response_deserializer=parser)
        self._handed: queue.SimpleQueue[Iterator[RequestT] | None] = queue.SimpleQueue()
        self.failure: Exception | None = None
        """What the iterator raised; the call is cancelled then."""
        self.drained = False
        """True when every request was handed to gRPC."""
        self._call = start(self._requests(first), metadata=metadata)
        # Or the thread would wait for ever for the rest of a call that has ended.
        self._call.add_done_callback(lambda _: self._handed.put(None))

    def send_all(self, rest: Iterator[RequestT]) -> None:
        """Send what comes after the first request. The iterator may block."""
        self._handed.put(rest)

    def receive(self, timeout_s: float | None) -> ResponseT | None:
        """As ``ResponseStream.receive``; raises what the iterator of the requests raised."""
        try:
            message: ResponseT | None = _next(self._call, timeout_s)
        except grpc.RpcError:
            if self.failure is not None:
                raise self.failure from None
            raise
        return message

    def cancel(self) -> None:
        """End the call; harmless when it has ended."""
        self._call.cancel()

    def _requests(self, first: RequestT) -> Iterator[RequestT]:
        yield first
        rest = self._handed.get()
        if rest is None:
            return
        try:
            yield from rest
            self.drained = True
        except Exception as failure:  # noqa: BLE001 - ``receive`` raises it
            self.failure = failure
            self._call.cancel()


def _next(call: Any, timeout_s: float | None) -> Any:
    """Return the next message of a call, None at its end."""
    if timeout_s is None:
        return next(call, None)
    timed_out = threading.Event()

    def expire() -> None:
        timed_out.set()
        call.cancel()

    with READS.watching(timeout_s, expire):
        try:
            return next(call, None)
        except grpc.RpcError as cause:
            if timed_out.is_set():
                raise TimeoutError from cause
            raise


def _bring(call: Any, promise: Promise) -> None:
    """Receive the next message of a call for somebody else."""
    try:
        promise.set_result(next(call, None))
    except BaseException as failure:  # noqa: BLE001 - whoever waits raises it
        promise.set_exception(failure)


class Promise:
    """Where one thread waits for what another brings. Whoever brings something asks ``done`` first, under a lock."""

    __slots__ = ("_arrived", "_failure", "_over", "_result")

    def __init__(self) -> None:
        self._arrived = threading.Lock()
        self._arrived.acquire()
        self._result: Any = None
        self._failure: BaseException | None = None
        self._over = False

    def done(self) -> bool:
        """True when it was answered or given up."""
        return self._over

    def cancel(self) -> None:
        """Give it up."""
        self._over = True

    def set_result(self, result: Any) -> None:
        """Answer it."""
        self._result = result
        self._over = True
        self._arrived.release()

    def set_exception(self, failure: BaseException) -> None:
        """Fail it."""
        self._failure = failure
        self._over = True
        self._arrived.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it was answered or failed; False when that took longer."""
        return self._arrived.acquire(timeout=max(0.0, min(timeout_s, threading.TIMEOUT_MAX)))

    def result(self) -> Any:
        """Return what it was answered with, or raise what it failed with."""
        if self._failure is not None:
            raise self._failure
        return self._result


class Membership:
    """``key in db`` asks the server; iteration over all keys is ``db.scan()`` and has to be said."""

    __slots__ = ()
    __iter__ = None

    def __contains__(self, key: str | bytes) -> bool:
        return self.exists(key)

    def exists(self, key: str | bytes) -> bool:
        """True when there is such a row."""
        raise NotImplementedError
