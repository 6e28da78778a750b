"""JSON Web Key Sets (RFC 7517) of other issuers: from a file's bytes to keys that verify one algorithm each.

    kty, crv         algorithm   accepted when
    OKP, Ed25519     EdDSA       32 bytes
    EC, P-256        ES256       a point on the curve
    RSA              RS256       modulus of 2048 to 8192 bits, odd exponent of 65537 or 3
    oct              HS256       32 to 512 bytes, and the operator has allowed HS256 to the issuer

The algorithm follows from the kind of key and never from a token. A set may hold keys that are not for us (for
encryption, of other kinds, for other algorithms); they are passed over, as RFC 7517 asks. What is malformed or
dangerous makes the whole set worthless: a private key in a published file, two keys of one id, a key that is too short.
A set is taken or refused as one, for half a set is neither what the issuer meant nor what it meant before.

No message here holds anything of the file but the position of a key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from jwt.algorithms import HMACAlgorithm

from prefixdb.catalog.compact import RefusedError, canonical_bytes, strict_object

JWKS_BYTES_MAX = 256 * 1024
"""Largest file that is read: a hundred RSA keys of 8192 bits with certificates fit."""

KEYS_MAX = 100
"""Keys of one set."""

_KID_CHARS_MAX = 128
_COORDINATE_BYTES = 32
_RSA_BITS_MIN = 2048
_RSA_BITS_MAX = 8192
_RSA_EXPONENTS = (3, 65537)
_SECRET_BYTES_MIN = 32
_SECRET_BYTES_MAX = 512
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
"""Members of private keys (RFC 7518, 6.2.2 and 6.3.2; RFC 8037). None belongs into a published set."""

_HMAC = HMACAlgorithm(HMACAlgorithm.SHA256)


class KeySetError(Exception):
    """The set cannot be used; the text is a sentence for the operator without anything secret."""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A key of another issuer.

    print: of algorithm and key: two keys of one id differ in it.
    """

    kid: str
    algorithm: str
    key: Any = field(repr=False, compare=False)
    print: bytes = field(repr=False)


def read_key_set(content: bytes, algorithms: Collection[str]) -> Mapping[str, ForeignKey]:
    """Return the keys of a set by id.

    Args:
        content: of the file.
        algorithms: that the issuer may use; keys for others are passed over.

    Raises:
        KeySetError: the set cannot be used; nothing of it may be.
    """
    if len(content) > JWKS_BYTES_MAX:
        raise KeySetError(f"it has more than {JWKS_BYTES_MAX} bytes")
    try:
        entries = strict_object(content).get("keys")
    except RefusedError as refused:
        raise KeySetError(f"it is no JSON object that can be read in one way only ({refused})") from None
    if type(entries) is not list or len(entries) > KEYS_MAX:
        raise KeySetError(f"its member 'keys' is no list of at most {KEYS_MAX} keys")
    keys: dict[str, ForeignKey] = {}
    kids: set[str] = set()
    for place, entry in enumerate(entries, 1):
        try:
            if type(entry) is not dict:
                raise KeySetError("is no JSON object")
            _check_public(entry)
            _check_new(entry.get("kid"), kids)
            key = _read_key(entry, algorithms)
        except RefusedError:
            raise KeySetError(f"key {place} has a member that is not canonical base64url") from None
        except KeySetError as problem:
            raise KeySetError(f"key {place} {problem}") from None
        if key is not None:
            keys[key.kid] = key
    return MappingProxyType(keys)


def _check_public(entry: dict[str, Any]) -> None:
    if entry.keys() & _PRIVATE:
        raise KeySetError("is a private key: whoever could read the file can make tokens; have the issuer replace it")


def _check_new(kid: Any, kids: set[str]) -> None:
    if type(kid) is not str:
        return  # Allowed to a key that is not for us.
    if kid in kids:
        raise KeySetError("has the kid of one before it")
    kids.add(kid)


def _read_key(entry: dict[str, Any], algorithms: Collection[str]) -> ForeignKey | None:
    """Return the key, None when it is not for us."""
    kind = _KINDS.get(_kind_of(entry))
    if kind is None or not _is_for_verifying(entry):
        return None
    algorithm, build = kind
    if entry.get("alg", algorithm) != algorithm:
        return None
    if algorithm not in algorithms:
        if algorithm == "HS256":
            raise KeySetError("is a secret, and HS256 is not among the issuer's algorithms")
        return None
    kid = entry.get("kid")
    if type(kid) is not str or not 0 < len(kid) <= _KID_CHARS_MAX or not kid.isprintable():
        raise KeySetError(f"has no kid of 1 to {_KID_CHARS_MAX} printable characters")
    key, material = build(entry)
    return ForeignKey(kid, algorithm, key, hashlib.sha256(algorithm.encode() + b"\0" + material).digest())


def _kind_of(entry: dict[str, Any]) -> tuple[str, str]:
    kty, crv = entry.get("kty"), entry.get("crv")
    return (kty, crv if type(crv) is str and kty in ("OKP", "EC") else "") if type(kty) is str else ("", "")


def _is_for_verifying(entry: dict[str, Any]) -> bool:
    """True unless ``use`` or ``key_ops`` say that the key is for something else (RFC 7517, 4.2 and 4.3)."""
    operations = entry.get("key_ops", ["verify"])
    return entry.get("use", "sig") == "sig" and type(operations) is list and "verify" in operations


def _member(entry: dict[str, Any], name: str) -> bytes:
    value = entry.get(name)
    if type(value) is not str:
        raise KeySetError(f"lacks the member '{name}'")
    return canonical_bytes(value)


def _ed25519(entry: dict[str, Any]) -> tuple[Any, bytes]:
    raw = _member(entry, "x")
    try:
        return Ed25519PublicKey.from_public_bytes(raw), raw
    except ValueError:
        raise KeySetError("is no Ed25519 key of 32 bytes") from None


def _p256(entry: dict[str, Any]) -> tuple[Any, bytes]:
    x, y = _member(entry, "x"), _member(entry, "y")
    try:
        if not len(x) == len(y) == _COORDINATE_BYTES:
            raise ValueError
        point = EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), SECP256R1())
        return point.public_key(), x + y
    except ValueError:
        raise KeySetError("is no point on P-256") from None


def _rsa(entry: dict[str, Any]) -> tuple[Any, bytes]:
    modulus, exponent = int.from_bytes(_member(entry, "n")), int.from_bytes(_member(entry, "e"))
    if not _RSA_BITS_MIN <= modulus.bit_length() <= _RSA_BITS_MAX:
        raise KeySetError(
            f"is an RSA key of {modulus.bit_length()} bits; between {_RSA_BITS_MIN} and {_RSA_BITS_MAX} are accepted"
        )
    try:
        if exponent not in _RSA_EXPONENTS or modulus % 2 == 0:
            raise ValueError
        return RSAPublicNumbers(exponent, modulus).public_key(), f"{exponent} {modulus}".encode()
    except ValueError:
        raise KeySetError("is no RSA key, or none with an exponent of 65537 or 3") from None


def _secret(entry: dict[str, Any]) -> tuple[Any, bytes]:
    secret = _member(entry, "k")
    if not _SECRET_BYTES_MIN <= len(secret) <= _SECRET_BYTES_MAX:
        raise KeySetError(
            f"is a secret of {len(secret)} bytes; {_SECRET_BYTES_MIN} to {_SECRET_BYTES_MAX} are accepted"
        )
    try:
        _HMAC.prepare_key(secret)
    except jwt.InvalidKeyError:
        raise KeySetError("is a public key in the place of a secret") from None  # The classic confusion, on purpose.
    return secret, secret


_KINDS: Mapping[tuple[str, str], tuple[str, Callable[[dict[str, Any]], tuple[Any, bytes]]]] = MappingProxyType(
    {
        ("OKP", "Ed25519"): ("EdDSA", _ed25519),
        ("EC", "P-256"): ("ES256", _p256),
        ("RSA", ""): ("RS256", _rsa),
        ("oct", ""): ("HS256", _secret),
    }
)
