"""Who is at the other end of a call: where it comes from, and the certificate it came with. Chosen once, at start.

    DirectPeers       clients connect to our own port: gRPC knows their address and what they proved
    ForwardedPeers    the native front has the port and passes calls on, over a unix socket that only it knows; for gRPC
                      every call comes from there, so the front says in the metadata of each call who is behind it

A server without a front never looks at that metadata: whoever sends it is not believed. The front drops what a client
sends under these names before it adds its own, so behind a front there is exactly one address, always. A call without
it came past the front: somebody else has opened the socket, and gets nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Protocol

from prefixdb.errors import Reason, error

_LOG = logging.getLogger("prefixdb.peers")

ADDRESS_KEY = "prefixdb-peer"
"""The client's address, as gRPC writes addresses: "ipv4:127.0.0.1:4711"."""

CERTIFICATE_KEY = "prefixdb-peer-cert-bin"
"""PEM of the certificate the client has proved to hold; absent when there is none, or nobody ties tokens to it."""

Metadata = Iterable[tuple[str, str | bytes]]


class Peers(Protocol):
    """Tells of the peers of calls. ``context`` is gRPC's, of a call that is alive: asked about one that is over, gRPC
    ends the process."""

    def check(self, metadata: Metadata) -> None:
        """Raise InternalError when the call did not come the way calls come."""

    def address(self, context: Any) -> str:
        """Return where the client is, as gRPC says it."""

    def certificate(self, context: Any) -> bytes:
        """Return the client's certificate as PEM, nothing when it has none."""


class DirectPeers:
    """Clients connect to this server's own port."""

    def check(self, metadata: Metadata) -> None:
        """Let everything in."""

    def address(self, context: Any) -> str:
        """Return the connection's other end."""
        return str(context.peer())

    def certificate(self, context: Any) -> bytes:
        """Return what the connection's other end has proved."""
        pem = context.auth_context().get("x509_pem_cert")
        return bytes(pem[0]) if pem else b""


class ForwardedPeers:
    """Clients connect to the front, which tells of them."""

    def check(self, metadata: Metadata) -> None:
        """Refuse what the front has not passed on, and say so in the log: only this server's own user could do that."""
        if len(_values(metadata, ADDRESS_KEY)) != 1 or len(_values(metadata, CERTIFICATE_KEY)) > 1:
            _LOG.error("a call came past the front; who else opens the server's socket?")
            raise error(Reason.INTERNAL, "The call did not come through the front.")

    def address(self, context: Any) -> str:
        """Return the one address the front has given; nothing for a call that ``check`` refuses."""
        found = _values(context.invocation_metadata() or (), ADDRESS_KEY)
        return str(found[0]) if len(found) == 1 else ""

    def certificate(self, context: Any) -> bytes:
        """Return the certificate the front has given."""
        found = _values(context.invocation_metadata() or (), CERTIFICATE_KEY)
        return found[0] if len(found) == 1 and isinstance(found[0], bytes) else b""


def _values(metadata: Metadata, key: str) -> list[str | bytes]:
    return [value for name, value in metadata if name == key]
