"""The server behind the front: gRPC in Python on a unix socket that nobody but this process is meant to open.

    clients ──► front (C++, the public port) ──► DATA/front.sock, mode 0600 ──► this server

The directory is the server's own (0700), the socket its own, too, and a call that did not come through the front all
the same is refused: see ``service.peers``. What a dead server has left there is removed; what is left at the end, too.

On this port there is one peer, it is trusted, and it has every client's calls on a connection for each of its threads.
So what keeps a client within bounds is the front's, or is counted by namespace:

    connections, handshakes, silence, age, pings, metadata of 8 KiB, 64 open calls   the front, for each connection
    a message's size, how long it may take to come, how long an answer may wait      here, as ever: the client's pace
                                                                                     comes through
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import grpc

from prefixdb.errors import Reason, error
from prefixdb.limits import REQUEST_BYTES_MAX
from prefixdb.server.unix_socket import PATH_BYTES_MAX, PREFIX, place_for

SOCKET_FILE = "front.sock"
"""Name of the socket in the data directory."""

_SETTING = "server.data_dir"

STREAMS_MAX = 8_192
"""Open calls on one connection of the front, of all its clients; what is more waits in the front."""

PENDING_MAX = 1_000_000
"""More than the front ever has on its connections."""

METADATA_BYTES_MAX = 64 * 1024
"""Largest metadata of a call: a client's 8 KiB, its address and certificate. The front sends no more than 60 KiB."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),  # Both alike: between them the library refuses at random.
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    # Calls that wait to be looked at. The library's own bound, a thousand, ends any of them (CANCELLED) when they are
    # more: everybody's, because of one client. Here the front bounds them, by client (``upstream_limits.h``).
    ("grpc.server.max_pending_requests", PENDING_MAX),
    ("grpc.server.max_pending_requests_hard_limit", PENDING_MAX),
    ("grpc.http.overload_protection", 0),  # As on the public port, see ``transport``; and the next.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.max_ping_strikes", 0),
)
"""No idle time, no age, no keepalive: a connection that ends would take many clients' calls with it."""


class ServerBehind:
    """Listens for the front. Belongs to the event loop's thread.

    Args:
        gate: answers the calls; it must ask ``ForwardedPeers`` who is calling.
        data_dir: where the socket is.
    """

    def __init__(self, gate: grpc.GenericRpcHandler[bytes, bytes], data_dir: Path) -> None:
        self._gate = gate
        self._path = data_dir / SOCKET_FILE
        self._server: grpc.aio.Server | None = None
        self._directory = -1
        self._bound = False

    async def start(self) -> str:
        """Listen, and return the path by which the socket is reached from within this process.

        Raises:
            InvalidArgumentError: BAD_FIELD, there cannot be a socket in the data directory.
        """
        place = self._path.absolute()
        if len(os.fsencode(place)) > PATH_BYTES_MAX:  # By way of the directory there is always room in an address.
            self._directory = os.open(place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            place = Path(f"/proc/self/fd/{self._directory}") / SOCKET_FILE
        server = self._server = grpc.aio.server(options=CHANNEL_OPTIONS)
        server.add_generic_rpc_handlers((self._gate,))
        with place_for(place, _SETTING):
            try:
                bound = server.add_insecure_port(PREFIX + quote(os.fsencode(place)))  # A URI, where %41 would be an A.
            except RuntimeError:
                bound = 0
            if not bound:
                message = f"{_SETTING}: {self._path} cannot be made, a unix socket. Choose another one."
                raise error(Reason.BAD_FIELD, message, metadata={"field": _SETTING})
            self._bound = True
            await server.start()
        return os.fspath(place)

    async def stop(self, grace_s: float | None) -> None:
        """Give calls that run ``grace_s``, then end them. Idempotent."""
        if self._server is not None:
            await self._server.stop(grace_s)

    def close(self) -> None:
        """Remove what is left of the socket, after ``stop``. Idempotent."""
        if self._bound:
            self._path.unlink(missing_ok=True)
            self._bound = False
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
