"""The gRPC port: where it may listen, and the limits of a connection."""

from __future__ import annotations

import ipaddress
import os
import resource
import socket
from urllib.parse import quote

import grpc

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import METADATA_BYTES_MAX, REQUEST_BYTES_MAX, STREAMS_PER_CONNECTION_MAX
from prefixdb.server.config import ServerConfig
from prefixdb.server.http import CONNECTIONS_MAX as HTTP_CONNECTIONS_MAX
from prefixdb.server.tls import Certificates
from prefixdb.server.unix_socket import PREFIX, place_for, socket_path

LISTEN = "server.listen"

HANDSHAKE_MS_MAX = 10_000
"""A connection that has not finished TLS and the HTTP/2 preface by then is closed."""

IDLE_MS_MAX = 10 * 60_000
"""A connection without calls for so long is closed; clients open a new one without noticing."""

AGE_MS_MAX = 60 * 60_000
"""A connection is asked to end after so long, which spreads clients again over servers; calls on it go on for
``AGE_GRACE_MS``."""

AGE_GRACE_MS = 10 * 60_000

KEEPALIVE_MS = 30_000
"""A silent connection is asked whether it is still there; without an answer in ``KEEPALIVE_ANSWER_MS`` it is closed."""

KEEPALIVE_ANSWER_MS = 10_000

CLIENT_PING_MS_MIN = 5_000
"""A client that pings more often than this is disconnected after a few strikes."""

CONNECTIONS_MAX = 4_096
"""Open connections, where the process may open that many files; see ``connections_max``."""

_OTHER_FILES = 64
"""Open files that are neither connections nor tables: logs, the audit, the HTTP port, the event loop."""

BACKLOG = 4_096
"""Connections that may wait to be taken; the kernel may allow fewer."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # Otherwise a second server binds the same port without an error.
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", 2 * METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
    # The library's overload protection counts calls it has not yet freed, not those that are open on the wire: a client
    # that keeps to the limit had a fifth of its calls refused (RST_STREAM, REFUSED_STREAM). Measured without it: 1.7
    # million resets in 5 s leave others' p50 at 2 ms and memory where it was, the same as with it.
    ("grpc.http.overload_protection", 0),
    # The library would let each call that nobody reads yet send ahead as much as the line can carry: megabytes, also
    # where no token has been seen. Without it that is 64 KiB; a message that is being read may still come as a whole.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS_MAX),
    ("grpc.max_connection_idle_ms", IDLE_MS_MAX),
    ("grpc.max_connection_age_ms", AGE_MS_MAX),
    ("grpc.max_connection_age_grace_ms", AGE_GRACE_MS),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_ANSWER_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", CLIENT_PING_MS_MIN),
    ("grpc.http2.max_ping_strikes", 3),
)


def connections_max() -> int:
    """Return how many connections may be open at once.

    The store takes up to half of the files the process may open. Connections beyond the other half would make it fail:
    whoever opens sockets, without a token, could stop everybody's writes.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(8, min(CONNECTIONS_MAX, soft // 2 - _OTHER_FILES - HTTP_CONNECTIONS_MAX))


def split_address(address: str, setting: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` or ``[V6]:PORT``.

    Raises:
        InvalidArgumentError: BAD_FIELD that names ``setting``.
    """
    host, separator, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        separator = ""
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        message = f"{setting}: {address!r} is not HOST:PORT, for example 127.0.0.1:7311."
        raise error(Reason.BAD_FIELD, message, metadata={"field": setting})
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """Return ``HOST:PORT``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """True when only this machine can reach ``host``; a name other than localhost may resolve to anything."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(config: ServerConfig) -> None:
    """Refuse to show tokens and rows to the network in the clear.

    Raises:
        InvalidArgumentError: BAD_FIELD, an address other machines can reach, without TLS and without ``insecure``.
    """
    for setting, address, protected in (
        ("server.listen", config.server.listen, bool(config.tls.cert)),
        ("server.http", config.server.http, False),
    ):
        if not address or _is_socket_to_listen_on(address, setting) or protected or config.server.insecure:
            continue
        host, _ = split_address(address, setting)
        if not is_loopback(host):
            raise error(
                Reason.BAD_FIELD,
                f"{setting}: {host} can be reached by other machines and would be served without TLS. Set tls.cert and "
                "tls.key, listen on 127.0.0.1, or say --insecure if the network itself is private.",
                metadata={"field": setting},
            )


def is_local(config: ServerConfig) -> bool:
    """True when only this machine can reach the gRPC port."""
    address = config.server.listen
    return _is_socket_to_listen_on(address, LISTEN) or is_loopback(split_address(address, LISTEN)[0])


def bind(server: grpc.aio.Server, config: ServerConfig, certificates: Certificates | None) -> str:
    """Open the port and return the address, with the port that was picked when 0 was asked for.

    Args:
        server: whose port it is.
        config: says where.
        certificates: None for plaintext; see ``check_exposure``.

    Raises:
        InvalidArgumentError: BAD_FIELD, the address is taken or not ours.
    """
    credentials = None if certificates is None else certificates.credentials()
    path = socket_path(config.server.listen, LISTEN)
    if path is not None:
        with place_for(path, LISTEN):
            if not _open_port(
                server, PREFIX + quote(os.fsencode(path)), credentials
            ):  # A URI, where %41 would be an A.
                raise _cannot_bind(f"{PREFIX}{path}", None)
        return f"{PREFIX}{path}"
    host, port = split_address(config.server.listen, LISTEN)
    bound = _open_port(server, join_address(host, port), credentials)
    if not bound:
        raise _cannot_bind(join_address(host, port), _why_not(host, port))
    return join_address(host, bound)


def bind_socket(config: ServerConfig) -> tuple[socket.socket, str]:
    """Open the port for somebody who does not listen through gRPC; returns the socket, which listens, and the address.

    A name is looked up and one of its addresses taken, one of version 4 if it has any. All addresses of version 6
    include those of version 4, as with gRPC.

    Raises:
        InvalidArgumentError: as ``bind``.
    """
    path = socket_path(config.server.listen, LISTEN)
    if path is not None:
        with place_for(path, LISTEN):
            return _listening(socket.AF_UNIX, os.fspath(path)), f"{PREFIX}{path}"
    host, port = split_address(config.server.listen, LISTEN)
    try:
        listening = _listening_at(host, port)
    except OSError as failure:
        raise _cannot_bind(join_address(host, port), failure) from failure
    return listening, join_address(host, listening.getsockname()[1])


def _listening_at(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, where = min(found, key=lambda each: each[0] != socket.AF_INET)
    return _listening(family, where)


def _why_not(host: str, port: int) -> OSError | None:
    """Return what keeps an address from being bound; gRPC does not say."""
    try:
        _listening_at(host, port).close()
    except OSError as failure:
        return failure
    return None


def _listening(family: int, where: object) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # Connections that ended lately do not matter.
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(where)  # type: ignore[arg-type]  # what getaddrinfo has given
        made.listen(BACKLOG)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def _open_port(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """Return the port, 1 for a socket; 0 when the address cannot be bound."""
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError:
        return 0


def _cannot_bind(address: str, failure: OSError | None) -> PrefixdbError:
    why = "another process may use it" if failure is None or failure.strerror is None else failure.strerror
    message = f"{LISTEN}: {address} cannot be bound: {why}. Choose another address with --listen, or port 0 for any."
    return error(Reason.BAD_FIELD, message, metadata={"field": LISTEN})


def _is_socket_to_listen_on(address: str, setting: str) -> bool:
    """True for a unix socket where one may be given; the port for machines that watch is a TCP port."""
    return setting == LISTEN and socket_path(address, setting) is not None
