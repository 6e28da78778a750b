"""A client certificate tied to the token that comes over its connection (``tls.subject = "token"``).

A stolen token is then worth nothing without the key of the certificate that was made for its subject. A certificate
names a subject by its common name, or by an alternative name of the kinds DNS, URI and e-mail; it says nothing about
namespaces.

The names are read from the certificate itself. gRPC's own reading of a common name ends at a zero byte (measured with
1.85.1): "guardian\\0.example.org" would be "guardian".
"""

from __future__ import annotations

import functools

from cryptography import x509
from cryptography.x509.oid import NameOID

from prefixdb.errors import Reason, error

_CERTIFICATES_CACHED_MAX = 4_096
"""As many as connections; names of a certificate are read once."""

NOT_ITS_SUBJECT = "The client's certificate is not in the name of the token's subject, or of who logs in."
"""Told only to who has shown a good token or password, and without either name: nothing is learned from it."""

_KINDS: tuple[type[x509.DNSName | x509.UniformResourceIdentifier | x509.RFC822Name], ...] = (
    x509.DNSName,
    x509.UniformResourceIdentifier,
    x509.RFC822Name,
)


def check_certificate(certificate: bytes, subject: str) -> None:
    """Return when the client's certificate names ``subject``.

    Args:
        certificate: as PEM; empty when the client has none.
        subject: the session's, or the member who proves itself by a password or a refresh token.

    Raises:
        PermissionDeniedError: NOT_PERMITTED, also when there is no certificate or it cannot be read.
    """
    if not certificate or not subject or subject not in names_of(certificate):
        raise error(Reason.NOT_PERMITTED, NOT_ITS_SUBJECT, metadata={"certificate": "subject"})


@functools.lru_cache(maxsize=_CERTIFICATES_CACHED_MAX)
def names_of(pem: bytes) -> frozenset[str]:
    """Return the names a certificate gives its holder; none when it cannot be read.

    Several common names are ambiguous and count as none.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        common = [str(item.value) for item in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        names = set(common) if len(common) == 1 else set()
        try:
            alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return frozenset(names)
        for kind in _KINDS:
            names.update(alternatives.get_values_for_type(kind))
        return frozenset(names)
    except Exception:  # noqa: BLE001 - whatever X.509 does not allow: such a certificate names nobody
        return frozenset()
