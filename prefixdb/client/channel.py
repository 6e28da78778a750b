"""How a channel is set up, for both clients: target, channel options, TLS credentials."""

from __future__ import annotations

from pathlib import Path

import grpc

import prefixdb
from prefixdb.client.methods import service_config
from prefixdb.client.options import ClientOptions, TlsOptions, is_local
from prefixdb.errors import Reason, error
from prefixdb.limits import REQUEST_BYTES_MAX

ChannelOption = tuple[str, str | int]

CONNECT_MS_MIN = 3_000
"""How long the server may take to answer a new connection, with TLS, before another one is tried; less than a call's
usual deadline, so that a call to an address that swallows everything is told of that, and not of its own deadline."""


def channel_options(options: ClientOptions) -> list[ChannelOption]:
    """Return gRPC's channel arguments."""
    arguments: list[ChannelOption] = [
        ("grpc.primary_user_agent", f"prefixdb-python/{prefixdb.__version__}"),
        ("grpc.max_send_message_length", REQUEST_BYTES_MAX),
        ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", service_config(options.read_attempts)),
        # A server that restarts is back in about a second; gRPC's own first wait is longer than that.
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Not a wait: how long a connection may take at least. A far or busy server needs more than one of those waits.
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS_MIN),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # Clients of one process must not share a connection's back-off, nor the limit of streams on it.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if is_local(options.endpoint):
        # Or gRPC takes http_proxy for this machine's own address.
        arguments.append(("grpc.enable_http_proxy", 0))
    if options.tls is not None:
        # A unix socket has no host name that could stand in a certificate, and gRPC would look for its path there.
        name = options.tls.server_name or ("localhost" if options.endpoint.startswith("unix") else None)
        if name is not None:
            arguments.append(("grpc.ssl_target_name_override", name))
    return arguments


def channel_credentials(tls: TlsOptions) -> grpc.ChannelCredentials:
    """Return TLS credentials from the PEM files.

    Raises:
        InvalidArgumentError: BAD_FIELD when a file cannot be read, or key and certificate do not belong together.
    """
    _check_pair(tls)
    return grpc.ssl_channel_credentials(
        root_certificates=_pem(tls.ca, "CA certificate"),
        private_key=_pem(tls.key, "key"),
        certificate_chain=_pem(tls.cert, "certificate"),
    )


def _check_pair(tls: TlsOptions) -> None:
    """Refuse a certificate with a key that is not its own; gRPC would only say that no handshake is possible."""
    if tls.cert is None or tls.key is None:
        return
    cert, key = tls.cert.expanduser(), tls.key.expanduser()
    _pem(cert, "certificate")
    _pem(key, "key")
    import ssl  # Not at the top: only mutual TLS needs it, and every start of the command line would pay.

    try:
        # The callback keeps OpenSSL from asking the terminal for a passphrase; gRPC takes none.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as cause:
        message = f"{tls.key} is not the key of the certificate {tls.cert}, or is not a key without a passphrase."
        raise error(Reason.BAD_FIELD, message) from cause


def _pem(path: Path | None, what: str) -> bytes | None:
    if path is None:
        return None
    try:
        content = path.expanduser().read_bytes()
    except OSError as cause:
        message = f"The TLS {what} {path} cannot be read: {cause.strerror or cause}."
        raise error(Reason.BAD_FIELD, message) from cause
    if b"-----BEGIN " not in content:
        raise error(Reason.BAD_FIELD, f"The TLS {what} {path} is no PEM file.")
    return content
