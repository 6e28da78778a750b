"""The table of methods the server answers, built from compiled descriptors and the policy's capability table.

Default deny: a method of a registered service that has no row in ``policy.METHODS``, or no implementation, keeps the
server from starting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor

from prefixdb.catalog.policy import METHODS, Capability

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
    GenericHandler = grpc.GenericRpcHandler[Any, Any]
else:  # Generic only for type checkers.
    Handler = grpc.RpcMethodHandler
    GenericHandler = grpc.GenericRpcHandler

ADMINISTRATIVE = frozenset(
    {
        Capability.AUDIT,
        Capability.BACKUP,
        Capability.EXCHANGE,
        Capability.EXPORT,
        Capability.GRANTS,
        Capability.MEMBERS,
        Capability.NAMESPACE_VIEW,
        Capability.NAMESPACES_EDIT,
        Capability.OWN_PASSWORD,
        Capability.TOKENS,
        Capability.TOKENS_EVERYONE,
        Capability.MAINTENANCE,
    }
)
"""Capabilities whose refusals are written into the audit. Those of CREDENTIALS are written where a password or a
refresh token is refused, with what is known there."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method: its full path, what it needs, its shape, and who answers it."""

    path: str
    capability: Capability
    request_type: type[Any]
    client_streaming: bool
    server_streaming: bool
    implementation: Callable[..., Any]

    @property
    def administrative(self) -> bool:
        """True when a refusal of this method belongs into the audit."""
        return self.capability in ADMINISTRATIVE


def methods_of(
    service: ServiceDescriptor, implementation: object, table: Mapping[str, Capability] = METHODS
) -> list[Method]:
    """Return the methods of one service.

    Args:
        service: the compiled descriptor.
        implementation: an object with a function of each method's name.
        table: capability of each full method name.

    Raises:
        RuntimeError: a method has no row in ``table`` or no implementation; the server must not start.
    """
    found = []
    for descriptor in service.methods:
        path = f"/{service.full_name}/{descriptor.name}"
        if path not in table:
            raise RuntimeError(f"{path} has no row in the capability table; the server does not start without one")
        function = getattr(implementation, descriptor.name, None)
        if not callable(function):
            raise RuntimeError(  # noqa: TRY004 - a missing method, not a wrong argument
                f"{path} has no implementation; the server does not start without one"
            )
        found.append(
            Method(
                path,
                table[path],
                message_factory.GetMessageClass(descriptor.input_type),
                descriptor.client_streaming,
                descriptor.server_streaming,
                function,
            )
        )
    return found
