# Generated from prefixdb/client/aio/upload.py by tools/async_to_sync.py; do not edit.
"""One call that sends a lot and says how far the other side is, with our errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic

import grpc

from prefixdb.client.failures import deadline_exceeded, translate
from prefixdb.client.methods import RequestT, ResponseT
from prefixdb.client.sync import wire


class Upload(Generic[RequestT, ResponseT]):
    """A bidirectional call whose requests are drawn from an iterator as the server takes them."""

    def __init__(self, call: wire.Upload[RequestT, ResponseT], endpoint: str, token: str | None) -> None:
        self.token = token
        self._call = call
        self._endpoint = endpoint

    @property
    def drained(self) -> bool:
        """True when every request has left the iterator: the server may have all of them."""
        return self._call.drained

    def send_all(self, rest: Iterator[RequestT]) -> None:
        """Send what comes after the first request; nothing follows it."""
        self._call.send_all(rest)

    def receive(self, deadline_s: float | None) -> ResponseT | None:
        """Return the next message, None after the last.

        Raises:
            DeadlineExceededError: none came within ``deadline_s``.
            PrefixdbError: the call failed.
            Exception: what the iterator of the requests raised.
        """
        try:
            return self._call.receive(deadline_s)
        except grpc.RpcError as cause:
            raise translate(cause, writes=True, deadline_s=deadline_s or 0, endpoint=self._endpoint) from cause
        except TimeoutError as cause:
            raise deadline_exceeded(writes=True, deadline_s=deadline_s or 0) from cause

    def cancel(self) -> None:
        """End the call; harmless when it has ended."""
        self._call.cancel()
