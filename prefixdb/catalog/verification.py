"""From the bytes of a token to its claims, or to one refusal that tells nothing.

A token is a compact JWS (RFC 7515) whose payload is a JSON object. PyJWT checks the signature; everything that decides
how the bytes are read is checked here, because PyJWT is lenient where two readers could differ: it ignores ``typ`` and
unknown header members, takes the last of duplicate members, and accepts numbers given as text or with a fraction.

    header   {alg, kid, typ}, exactly these; typ is "JWT"; alg must repeat what the key of that kid is for
    payload  iss, aud, sub, iat, nbf, exp, jti, ns, inc, groups, rev, typ; optional guardian, mint; nothing else

``ns``, ``inc`` and ``rev`` are decimal text in canonical form, because a JSON number loses bits above 2^53 in most
languages. ``rev`` is the newest revocation at the time of issue (see ``catalog.revocation``). Each part must be the one
canonical base64url spelling of its bytes, so that no second text is the same token to a cache or a revocation list.

Why a token was refused goes to the debug log as a fixed phrase; the caller learns TOKEN_INVALID and no more.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from prefixdb import limits
from prefixdb.catalog.entities import DEFAULT_NAMESPACE_ID, Guardian
from prefixdb.catalog.keyring import Keyring
from prefixdb.catalog.names import is_name, is_subject

ISSUER = "prefixdb"
AUDIENCE = "prefixdb"
TYPE_ACCESS = "access"
TYPE_HEADER = "JWT"

_PART = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)
_JTI = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_HEADER = frozenset({"alg", "kid", "typ"})
_REQUIRED = frozenset({"iss", "aud", "sub", "iat", "nbf", "exp", "jti", "ns", "inc", "groups", "rev", "typ"})
_OPTIONAL = frozenset({"guardian", "mint"})
_GUARDIANS = {"namespace": Guardian.NAMESPACE, "cluster": Guardian.CLUSTER}
_U64_MAX = 2**64 - 1


class RefusedError(Exception):
    """The token is not good; the text is a fixed phrase for the debug log and holds nothing of the token."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says. Times in seconds since the epoch.

    revision: claim ``rev``.
    minted_by: the cluster guardian who made the token for a namespace not its own, else empty.
    """

    namespace_id: int
    incarnation: int
    subject: str
    jti: str
    groups: tuple[str, ...]
    guardian: Guardian
    issued_at_s: int
    expires_at_s: int
    revision: int
    minted_by: str = ""


def read_token(token: str, keyring: Keyring, now_ms: int) -> Claims:
    """Return the claims of a token that was signed by one of our keys and is well-formed in every respect.

    Whether it has expired or was revoked, and whether its namespace exists, is not looked at.

    Args:
        token: the text after ``Bearer``.
        keyring: the keys.
        now_ms: the time, for tokens from the future.

    Raises:
        RefusedError: it is not.
    """
    if not isinstance(token, str) or not 0 < len(token) <= limits.TOKEN_BYTES_MAX or not token.isascii():
        _refuse("size or characters")
    parts = token.split(".")
    if len(parts) != 3:
        _refuse("not three parts")
    header_bytes, payload_bytes, _ = [_canonical_bytes(part) for part in parts]
    header = _strict_object(header_bytes)
    if header.keys() != _HEADER:
        _refuse("header members")
    kid, algorithm = header["kid"], header["alg"]
    if header["typ"] != TYPE_HEADER or type(kid) is not str or type(algorithm) is not str:
        _refuse("header values")
    key = keyring.find(kid)
    if key is None:
        _refuse("unknown key")
    if algorithm != key.algorithm:
        _refuse("algorithm is not the key's")
    if keyring.verify(token, key) != payload_bytes:
        _refuse("signature")
    return _claims(_strict_object(payload_bytes), now_ms // 1000)


def encode_claims(claims: Claims) -> bytes:
    """Return the payload that ``read_token`` reads as ``claims``."""
    fields: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "typ": TYPE_ACCESS,
        "sub": claims.subject,
        "jti": claims.jti,
        "ns": str(claims.namespace_id),
        "inc": str(claims.incarnation),
        "rev": str(claims.revision),
        "groups": list(claims.groups),
        "iat": claims.issued_at_s,
        "nbf": claims.issued_at_s,
        "exp": claims.expires_at_s,
    }
    if claims.guardian is not Guardian.NONE:
        fields["guardian"] = claims.guardian.name.lower()
    if claims.minted_by:
        fields["mint"] = claims.minted_by
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def _refuse(why: str) -> NoReturn:
    raise RefusedError(why)


def _canonical_bytes(part: str) -> bytes:
    """Return the bytes of a base64url part that is spelt the one canonical way: no padding, spare bits zero."""
    if _PART.fullmatch(part) is None:
        _refuse("base64url characters")
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (ValueError, binascii.Error):
        _refuse("base64url length")
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part.encode("ascii"):
        _refuse("base64url spelling")
    return decoded


def _strict_object(text: bytes) -> dict[str, Any]:
    """Return a JSON object: UTF-8 without a mark, no duplicate member at any depth, no NaN, nothing nested deeply."""
    try:
        # Decoded here, for json.loads(bytes) would guess UTF-16 and UTF-32.
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        _refuse("json")
    if type(value) is not dict:
        _refuse("not a json object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        _refuse("duplicate member")
    return members


def _no_constant(_name: str) -> NoReturn:
    _refuse("json constant")


def _claims(fields: dict[str, Any], now_s: int) -> Claims:
    if not (fields.keys() >= _REQUIRED and fields.keys() <= _REQUIRED | _OPTIONAL):
        _refuse("claim names")
    if fields["typ"] != TYPE_ACCESS or fields["iss"] != ISSUER or fields["aud"] != AUDIENCE:
        _refuse("typ, iss or aud")
    namespace_id = _decimal(fields["ns"], limits.NAMESPACE_ID_MAX)
    issued_at_s, expires_at_s = _times(fields, now_s)
    guardian = _guardian(fields, namespace_id)
    subject, jti = fields["sub"], fields["jti"]
    if type(subject) is not str or not is_subject(subject):
        _refuse("sub")
    if type(jti) is not str or _JTI.fullmatch(jti) is None:
        _refuse("jti")
    return Claims(
        namespace_id=namespace_id,
        incarnation=_decimal(fields["inc"], _U64_MAX),
        subject=subject,
        jti=jti,
        groups=_groups(fields["groups"]),
        guardian=guardian,
        issued_at_s=issued_at_s,
        expires_at_s=expires_at_s,
        revision=_decimal(fields["rev"], _U64_MAX),
        minted_by=_minted_by(fields, namespace_id, expires_at_s - issued_at_s),
    )


def _decimal(value: Any, largest: int) -> int:
    if type(value) is not str or _DECIMAL.fullmatch(value) is None or int(value) > largest:
        _refuse("ns, inc or rev")
    return int(value)


def _times(fields: dict[str, Any], now_s: int) -> tuple[int, int]:
    """Return (iat, exp) of a token that is not from the future and does not live longer than any may."""
    times = [fields[name] for name in ("iat", "nbf", "exp")]
    if not all(type(value) is int and value >= 0 for value in times):
        _refuse("times are not whole numbers")
    issued_at_s, not_before_s, expires_at_s = times
    if issued_at_s > now_s + limits.TOKEN_LEEWAY_S or not_before_s > now_s + limits.TOKEN_LEEWAY_S:
        _refuse("from the future")
    if not 0 < expires_at_s - issued_at_s <= limits.SERVICE_TOKEN_S_MAX:
        _refuse("lifetime")
    return issued_at_s, expires_at_s


def _guardian(fields: dict[str, Any], namespace_id: int) -> Guardian:
    if "guardian" not in fields:
        return Guardian.NONE
    value = fields["guardian"]
    if type(value) is not str or value not in _GUARDIANS:
        _refuse("guardian")
    guardian = _GUARDIANS[value]
    if guardian is Guardian.CLUSTER and (namespace_id != DEFAULT_NAMESPACE_ID or "mint" in fields):
        _refuse("a cluster guardian outside namespace 0")
    return guardian


def _minted_by(fields: dict[str, Any], namespace_id: int, lifetime_s: int) -> str:
    if "mint" not in fields:
        return ""
    value = fields["mint"]
    if type(value) is not str or not is_subject(value):
        _refuse("mint")
    if namespace_id == DEFAULT_NAMESPACE_ID or lifetime_s > limits.MINTED_TOKEN_S_MAX:
        _refuse("a minted token for too long or for namespace 0")
    return str(value)


def _groups(value: Any) -> tuple[str, ...]:
    if type(value) is not list or len(value) > limits.TOKEN_GROUPS_MAX:
        _refuse("groups")
    if not all(type(name) is str and is_name(name) for name in value) or len(set(value)) != len(value):
        _refuse("group names")
    return tuple(value)
