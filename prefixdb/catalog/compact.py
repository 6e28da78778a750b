"""Compact JWS (RFC 7515): the bytes of a token, read in the one way that no two readers could read differently.

    token := base64url(header) "." base64url(payload) "." base64url(signature)

PyJWT computes signatures; how the bytes are read is decided here, because PyJWT is lenient where two readers could
differ: it ignores ``typ`` and unknown header members, takes the last of duplicate members, accepts numbers given as
text or with a fraction, and guesses at UTF-16. Each part must be the one canonical base64url spelling of its bytes, so
that no second text is the same token to a cache or a log.

Why a token was refused is a fixed phrase for the debug log; the caller learns TOKEN_INVALID and no more.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NamedTuple, NoReturn

import jwt

from prefixdb import limits

ALGORITHMS = ("EdDSA", "ES256", "RS256", "HS256")
"""JOSE's names of the signatures that are known at all. Which one a key is for stands with the key."""

_PART = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_JWS = jwt.PyJWS(algorithms=ALGORITHMS)


class RefusedError(Exception):
    """The token is not good; the text is a fixed phrase for the debug log and holds nothing of the token."""


class Compact(NamedTuple):
    """A token taken apart and not yet believed.

    payload: the bytes that were signed, if anybody signed them; ``fields`` is what they say.
    """

    header: dict[str, Any]
    payload: bytes
    fields: dict[str, Any]


def refuse(why: str) -> NoReturn:
    """Refuse the token; ``why`` is a fixed phrase."""
    raise RefusedError(why)


def take_apart(token: str) -> Compact:
    """Return the parts of a token in its one spelling; nothing of it is verified.

    Raises:
        RefusedError: it is none.
    """
    if not isinstance(token, str) or not 0 < len(token) <= limits.TOKEN_BYTES_MAX or not token.isascii():
        refuse("size or characters")
    parts = token.split(".")
    if len(parts) != 3:
        refuse("not three parts")
    header, payload, _ = [canonical_bytes(part) for part in parts]
    return Compact(strict_object(header), payload, strict_object(payload))


def check_signature(token: str, payload: bytes, key: Any, algorithm: str) -> None:
    """Return when ``key`` signed the token by the one algorithm it is for.

    Args:
        token: the whole text.
        payload: what ``take_apart`` found; another reader of the token must find the same.
        key: as PyJWT takes it.
        algorithm: the key's, never the token's.

    Raises:
        RefusedError: it did not.
    """
    try:
        complete = _JWS.decode_complete(token, key, algorithms=[algorithm])
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        # InvalidKeyError is no InvalidTokenError; both are PyJWTErrors.
        refuse("signature")
    if complete["payload"] != payload:
        refuse("signature")


def sign(payload: bytes, key: Any, algorithm: str, kid: str) -> str:
    """Return ``payload`` as a compact JWS with header ``{alg, kid, typ}``."""
    return _JWS.encode(payload, key, algorithm=algorithm, headers={"kid": kid, "typ": "JWT"})


def canonical_bytes(part: str) -> bytes:
    """Return the bytes of a base64url text that is spelt the one canonical way: no padding, spare bits zero."""
    if _PART.fullmatch(part) is None:
        refuse("base64url characters")
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (ValueError, binascii.Error):
        refuse("base64url length")
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part.encode("ascii"):
        refuse("base64url spelling")
    return decoded


def strict_object(text: bytes) -> dict[str, Any]:
    """Return a JSON object: UTF-8 without a mark, no duplicate member at any depth, no NaN, nothing nested deeply."""
    try:
        # Decoded here, for json.loads(bytes) would guess UTF-16 and UTF-32.
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        refuse("json")
    if type(value) is not dict:
        refuse("not a json object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        refuse("duplicate member")
    return members


def _no_constant(_name: str) -> NoReturn:
    refuse("json constant")
