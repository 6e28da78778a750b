"""A bare gRPC client: one call is one request on the wire. No retries, no caches, nothing of prefixdb but its messages.

An oracle needs to know of every call whether it was acknowledged, refused or neither. A refusal of prefixdb carries a
``google.rpc.ErrorInfo`` with domain "prefixdb"; a status without one was made by gRPC itself (the connection broke, the
deadline passed) and leaves open whether the server had acted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from prefixdb.v1 import auth_pb2, key_value_pb2, maintenance_pb2, namespaces_pb2

DEADLINE_S = 20.0
MESSAGE_BYTES_MAX = 16 * 1024 * 1024

UNKNOWN_OUTCOMES = frozenset({"", "OUTCOME_UNKNOWN", "DEADLINE", "CANCELLED", "INTERNAL"})
"""Reasons after which a write may have been applied or not; "" is a status without one of ours."""

_METHODS: dict[str, MethodDescriptor] = {
    f"{service.name}/{method.name}": method
    for file in (key_value_pb2, namespaces_pb2, auth_pb2, maintenance_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


class RpcError(Exception):
    """A call that did not succeed.

    code: the gRPC status code's name. reason: prefixdb's reason, "" when the status carries none.
    outcome_unknown: a write may have been applied all the same.
    """

    def __init__(self, method: str, code: str, reason: str, message: str) -> None:
        super().__init__(f"{method}: {code} {reason} {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.outcome_unknown = reason in UNKNOWN_OUTCOMES


class Rpc:
    """Calls to one server by "Service/Method". Thread-safe, as its channel is.

    Args:
        address: ``host:port``.
        channels_apart: use a connection of its own instead of sharing one with other objects of this process.
    """

    def __init__(self, address: str, *, channels_apart: bool = False) -> None:
        options: list[tuple[str, Any]] = [
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ]
        if channels_apart:
            options.append(("grpc.use_local_subchannel_pool", 1))
        self._channel = grpc.insecure_channel(address, options=options)
        self._stubs: dict[str, Any] = {}

    def close(self) -> None:
        """Close the channel; calls in flight end."""
        self._channel.close()

    def call(self, name: str, request: Message, token: str = "", *, deadline_s: float = DEADLINE_S) -> Any:
        """Make a unary call and return its response.

        Raises:
            RpcError: the call did not succeed.
        """
        try:
            return self._stub(name)(request, metadata=_metadata(token), timeout=deadline_s)
        except grpc.RpcError as failure:
            raise _error(name, failure) from None

    def stream(self, name: str, request: Message, token: str = "", *, deadline_s: float = DEADLINE_S) -> Iterator[Any]:
        """Make a server-streaming call and yield its messages; raises RpcError where the stream broke."""
        call = self._stub(name)(request, metadata=_metadata(token), timeout=deadline_s)
        try:
            yield from call
        except grpc.RpcError as failure:
            raise _error(name, failure) from None
        finally:
            call.cancel()

    def exchange(self, name: str, requests: list[Any], token: str = "", *, deadline_s: float = DEADLINE_S) -> list[Any]:
        """Make a bidirectional call: send all requests, and return all responses.

        Raises:
            RpcError: the call did not succeed.
        """
        try:
            return list(self._stub(name)(iter(requests), metadata=_metadata(token), timeout=deadline_s))
        except grpc.RpcError as failure:
            raise _error(name, failure) from None

    def _stub(self, name: str) -> Any:
        if name not in self._stubs:
            method = _METHODS[name]
            response_type = message_factory.GetMessageClass(method.output_type)
            make: Any = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
            if method.client_streaming:
                make = self._channel.stream_stream
            self._stubs[name] = make(
                f"/prefixdb.v1.{name}", lambda message: message.SerializeToString(), response_type.FromString
            )
        return self._stubs[name]


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()


def _error(name: str, failure: Any) -> RpcError:
    details = dict(failure.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    return RpcError(name, failure.code().name, _reason(details), failure.details() or "")


def _reason(details: bytes) -> str:
    """Return prefixdb's reason in the status details, or "" when there is none."""
    status = Status()
    try:
        status.ParseFromString(details)
        for detail in status.details:
            info = ErrorInfo()
            if detail.Is(ErrorInfo.DESCRIPTOR) and detail.Unpack(info) and info.domain == "prefixdb":
                return str(info.reason)
    except DecodeError:
        return ""
    return ""
