"""Certificates for tests: an authority, and what it issues, as PEM files."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOCAL_NAMES: tuple[x509.GeneralName, ...] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ip_address("127.0.0.1")),
)
"""What a server of the tests is called."""


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key, without a passphrase."""
        return bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    @property
    def der(self) -> bytes:
        """The certificate as a peer shows it."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def write(self, directory: Path, name: str) -> None:
        """Write NAME.pem and NAME.key."""
        (directory / f"{name}.pem").write_bytes(self.pem)
        (directory / f"{name}.key").write_bytes(self.key_pem)


def issue(
    name: str,
    signer: Issued | None = None,
    *,
    key: Any = None,
    names: tuple[x509.GeneralName, ...] = LOCAL_NAMES,
    common_names: tuple[str, ...] | None = None,
    hours: tuple[float, float] = (-1.0, 24.0 * 90),
) -> Issued:
    """Return a certificate signed by ``signer``, or an authority that signs itself.

    Args:
        name: its common name.
        signer: the authority; None makes one.
        key: its key; None draws one on P-256.
        names: alternative names.
        common_names: instead of ``name``.
        hours: begin and end, from now.
    """
    key = key if key is not None else ec.generate_private_key(ec.SECP256R1())
    given = (name,) if common_names is None else common_names
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text) for text in given])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
    builder = builder.issuer_name(signer.certificate.subject if signer else subject)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now + timedelta(hours=hours[0])).not_valid_after(now + timedelta(hours=hours[1]))
    builder = builder.add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Issued(builder.sign(signer.key if signer else key, hashes.SHA256()), key)


def secure_channel(
    address: str, authority: Issued, client: Issued | None = None, *, name: str | None = None
) -> grpc.aio.Channel:
    """Return a channel with a connection of its own; ``name`` is the server's when it is not in the address."""
    credentials = grpc.ssl_channel_credentials(
        authority.pem, client.key_pem if client else None, client.pem if client else None
    )
    options: list[tuple[str, int | str]] = [("grpc.use_local_subchannel_pool", 1)]
    if name is not None:
        options.append(("grpc.ssl_target_name_override", name))
    return grpc.aio.secure_channel(address, credentials, options=options)


def shown_certificate(address: str) -> bytes:
    """Return the certificate that a server shows to a new connection, DER."""
    host, port = address.rsplit(":", 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""
