"""Reading the PEM files of TLS, and everything about them that can be wrong, said in words."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.server.config import TlsSection

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"

CURVES = (ec.SECP256R1, ec.SECP384R1)
"""Curves that gRPC's clients and servers take. With P-521, secp256k1 or Ed25519 every handshake failed (1.85.1)."""

RSA_BITS_MIN = 2048
"""Shorter keys are broken within reach."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What gRPC is given, PEM, each written anew from what was read.

    expires_first, expires_at_ms, starts_at_ms: of the certificate in use that ends first: its setting, end and start of
        the common time.
    fingerprint: SHA-256 of the server's own certificate.
    """

    key: bytes = field(repr=False)
    chain: bytes
    client_ca: bytes
    expires_first: str
    expires_at_ms: int
    starts_at_ms: int
    fingerprint: str

    @property
    def expires_at(self) -> str:
        """The end as people write it."""
        return _iso(self.expires_at_ms)

    def describe(self) -> dict[str, str]:
        """Return what a log may say about it."""
        return {"sha256": self.fingerprint, "expires_at": self.expires_at}

    def check_valid_at(self, now_ms: int) -> None:
        """Return when the certificates are good now.

        Raises:
            InvalidArgumentError: BAD_FIELD, one has expired or begins in the future.
        """
        if now_ms >= self.expires_at_ms:
            raise _bad(self.expires_first, f"the certificate has expired, at {self.expires_at}.")
        if now_ms < self.starts_at_ms:
            raise _bad("tls.cert", f"the certificate is not valid before {_iso(self.starts_at_ms)}.")


def read_tls_files(tls: TlsSection) -> TlsFiles:
    """Return what the configured files hold.

    Raises:
        InvalidArgumentError: BAD_FIELD that names the setting and says what is wrong with its file.
    """
    chain = _certificates("tls.cert", tls.cert)
    key = _private_key("tls.key", tls.key)
    authorities = _certificates("tls.client_ca", tls.client_ca) if tls.client_ca else []
    with _understood("tls.cert", tls.cert):
        belongs = _public_bytes(key.public_key()) == _public_bytes(chain[0].public_key())
    if not belongs:
        raise _bad(
            "tls.key",
            f"{tls.key} is not the key of the certificate in {tls.cert}. The server's own certificate must come first "
            "in its file.",
        )
    ends = [(_ms(certificate.not_valid_after_utc), "tls.cert") for certificate in chain]
    if authorities:
        # Such a file keeps old authorities while clients move to a new one: only the last one's end is trouble.
        ends.append((max(_ms(certificate.not_valid_after_utc) for certificate in authorities), "tls.client_ca"))
    expires_at_ms, expires_first = min(ends)
    return TlsFiles(
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        chain=_pem(chain),
        client_ca=_pem(authorities),
        expires_first=expires_first,
        expires_at_ms=expires_at_ms,
        starts_at_ms=max(_ms(certificate.not_valid_before_utc) for certificate in chain),
        fingerprint=chain[0].fingerprint(hashes.SHA256()).hex(),
    )


def _certificates(setting: str, path: str) -> list[x509.Certificate]:
    content = _read(setting, path)
    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError as failure:
        raise _bad(setting, f"{path} holds no readable certificate (PEM).") from failure
    # The library passes over a certificate whose end is missing: a chain that is still being written would be taken.
    if not content.count(_BEGIN) == content.count(_END) == len(found):
        raise _bad(setting, f"{path} is cut short: {content.count(_BEGIN)} certificates begin, {len(found)} are whole.")
    return found


@contextlib.contextmanager
def _understood(setting: str, path: str) -> Iterator[None]:
    """Turn what the library cannot make sense of, which it may notice late, into a refusal."""
    try:
        yield
    except (ValueError, TypeError, UnsupportedAlgorithm) as failure:
        raise _bad(setting, f"{path} holds something that cannot be understood: {type(failure).__name__}.") from failure


def _private_key(setting: str, path: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    content = _read(setting, path)
    try:
        key = serialization.load_pem_private_key(content, None)
    except TypeError as failure:
        raise _bad(setting, f"{path} is locked with a passphrase; the server needs one without.") from failure
    except (ValueError, UnsupportedAlgorithm) as failure:
        raise _bad(setting, f"{path} holds no readable private key (PEM).") from failure
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= RSA_BITS_MIN:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, CURVES):
        return key
    raise _bad(setting, f"{path} holds a key that gRPC does not take: use ECDSA P-256 or P-384, or RSA of 2048 bits.")


def _public_bytes(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]  # every kind of public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _ms(when: datetime.datetime) -> int:
    return int(when.timestamp() * 1000)


def _iso(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).isoformat(timespec="seconds")[:19] + "Z"


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as failure:
        raise _bad(setting, f"{path} cannot be read: {failure.strerror}.") from failure


def _bad(setting: str, message: str) -> PrefixdbError:
    return error(Reason.BAD_FIELD, f"{setting}: {message}", metadata={"field": setting})
