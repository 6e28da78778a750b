"""What answers the gRPC port: the native front, or gRPC in Python by itself. Which one is chosen here, once.

Both have the same face; ``front`` has the native one, which is imported only where it is used: it needs the extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import grpc

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.server.config import ServerConfig
from prefixdb.server.tls import Certificates
from prefixdb.server.transport import CHANNEL_OPTIONS, bind, connections_max
from prefixdb.service.gate import Gate

FrontName = Literal["native", "python"]


class Front(Protocol):
    """The port and what answers it. Belongs to the event loop's thread, but for ``views``.

    name: "native" or "python".
    address: of the port, once it is open.
    """

    name: str
    address: str

    async def start(self) -> None:
        """Open the port; from here on calls are answered. Raises PrefixdbError BAD_FIELD when it cannot be opened."""

    def views(self, namespace_id: int) -> int:
        """Return how many calls that are not Python's may hold a cursor over the namespace. Thread-safe."""

    def facts(self) -> Mapping[str, int]:
        """Return the front's own numbers: ``connections``, ``sessions``, ``streams``, ``forwarded``, ``punted``."""

    def waiting(self) -> Mapping[str, int]:
        """Return what waits for clients of calls that are not Python's: ``for_taking``, ``for_messages``,
        ``unread_bytes``."""

    def calls(self) -> Mapping[str, Any]:
        """Return the calls that Python did not answer; ``metrics.FrontCalls``."""

    @property
    def running(self) -> int:
        """Calls that are open and not Python's."""

    def halt(self) -> None:
        """Let no row leave any more."""

    def drain(self, reason: PrefixdbError) -> None:
        """Refuse new calls with ``reason``; Python's are refused by the gate."""

    def cut(self, reason: PrefixdbError) -> None:
        """End calls that are not Python's."""

    async def stop(self, grace_s: float | None) -> None:
        """Give calls that Python answers ``grace_s``, and close the port. Idempotent."""


class PythonFront:
    """gRPC's own server on the port, and nothing in front of it."""

    name = "python"

    def __init__(self, config: ServerConfig, gate: Gate, certificates: Certificates | None) -> None:
        self._config = config
        self._certificates = certificates
        self._server = grpc.aio.server(
            options=(*CHANNEL_OPTIONS, ("grpc.max_allowed_incoming_connections", connections_max()))
        )
        self._server.add_generic_rpc_handlers((gate,))
        self.address = ""

    async def start(self) -> None:
        """Open the port."""
        address = bind(self._server, self._config, self._certificates)
        await self._server.start()
        self.address = address

    def views(self, namespace_id: int) -> int:
        """Return 0: every call is Python's."""
        return 0

    def facts(self) -> Mapping[str, int]:
        """Return nothing."""
        return {}

    def waiting(self) -> Mapping[str, int]:
        """Return nothing."""
        return {}

    def calls(self) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    @property
    def running(self) -> int:
        """None."""
        return 0

    def halt(self) -> None:
        """Leave it to the gate."""

    def drain(self, reason: PrefixdbError) -> None:
        """Leave it to the gate."""

    def cut(self, reason: PrefixdbError) -> None:
        """Leave it to the streams."""

    async def stop(self, grace_s: float | None) -> None:
        """Give running calls ``grace_s``, and close the port."""
        await self._server.stop(grace_s)


def choose_front(config: ServerConfig, store_name: str) -> FrontName:
    """Return which front serves the store in use.

    Raises:
        InvalidArgumentError: BAD_FIELD, the native front was asked for and cannot serve this store.
    """
    wanted = config.server.front
    if wanted == "python":
        return "python"
    why = _why_not_native(store_name)
    if not why:
        return "native"
    if wanted == "native":
        raise error(Reason.BAD_FIELD, f"server.front: {why}", metadata={"field": "server.front"})
    return "python"


def _why_not_native(store_name: str) -> str:
    """Return what is in the way of the native front and what to do about it; nothing when nothing is."""
    if store_name != "native":
        return f"native serves the native store, and {store_name} is in use. Say --store native, or --front auto."
    from prefixdb.server.front import is_built

    if not is_built():
        return "the native part of this installation is older and has no front. Build it again, or say --front auto."
    return ""
