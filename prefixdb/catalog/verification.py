"""From the bytes of a token to its claims, or to one refusal that tells nothing.

    own      header {alg, kid, typ}, exactly these; typ is "JWT"; the key is ours, of that kid
    foreign  header {alg, kid}, optionally typ "JWT" or "at+jwt" (RFC 9068); the key is the issuer's, of that kid

Whose key may verify a token follows from its ``iss``, and that key's own algorithm decides how: ``alg`` must repeat it.
No key is ever tried that stands somewhere else: ours verify nothing but tokens that say they are ours, an issuer's
nothing but that issuer's. Until the signature is good nothing a token says is used for anything but finding the key.
``catalog.compact`` says how the bytes are read, ``catalog.claims`` what they may say.
"""

from __future__ import annotations

from dataclasses import replace

from prefixdb.catalog.claims import ISSUER, Claims, foreign_claims, own_claims
from prefixdb.catalog.compact import Compact, RefusedError, check_signature, refuse, take_apart
from prefixdb.catalog.issuers import Issuer, Issuers
from prefixdb.catalog.keyring import Keyring

__all__ = ["RefusedError", "read_token"]

_HEADER = frozenset({"alg", "kid", "typ"})
_HEADER_WITHOUT_TYPE = frozenset({"alg", "kid"})
_FOREIGN_TYPES = frozenset({"jwt", "at+jwt"})


def read_token(token: str, keyring: Keyring, issuers: Issuers | None, now_ms: int) -> Claims:
    """Return the claims of a token that one of our keys or another issuer's signed, well-formed in every respect.

    Whether it has expired or was revoked, and whether its namespace exists and is one of the issuer's, is not looked
    at; nor whether it is an access or a refresh token.

    Args:
        token: the text after ``Bearer``.
        keyring: our keys.
        issuers: the other issuers, if there are any.
        now_ms: the time, for tokens from the future.

    Raises:
        RefusedError: it is not.
    """
    parts = take_apart(token)
    iss = parts.fields.get("iss")
    if type(iss) is not str:
        refuse("iss")
    if iss == ISSUER:
        return _read_own(token, parts, keyring, now_ms // 1000)
    issuer = issuers.get(iss) if issuers is not None else None
    if issuer is None:
        refuse("unknown issuer")
    return _read_foreign(token, parts, issuer, now_ms // 1000)


def _read_own(token: str, parts: Compact, keyring: Keyring, now_s: int) -> Claims:
    if parts.header.keys() != _HEADER:
        refuse("header members")
    if parts.header["typ"] != "JWT":
        refuse("header values")
    kid, algorithm = _names_of(parts)
    key = keyring.find(kid)
    if key is None:
        refuse("unknown key")
    if algorithm != key.algorithm:
        refuse("algorithm is not the key's")
    check_signature(token, parts.payload, key.key, key.algorithm)
    claims = own_claims(parts.fields, now_s)
    if not key.may_have_signed(claims.issued_at_s):
        refuse("issued after the backup that was restored")
    return replace(claims, kid=kid, key_print=key.public)


def _read_foreign(token: str, parts: Compact, issuer: Issuer, now_s: int) -> Claims:
    members = parts.header.keys()
    if not members >= _HEADER_WITHOUT_TYPE or not members <= _HEADER:
        refuse("header members")
    kind = parts.header.get("typ", "JWT")
    if type(kind) is not str or kind.lower() not in _FOREIGN_TYPES:
        refuse("header values")
    kid, algorithm = _names_of(parts)
    key = issuer.keys.get(kid)
    if key is None:
        refuse("unknown key")
    if algorithm != key.algorithm:
        refuse("algorithm is not the key's")
    check_signature(token, parts.payload, key.key, key.algorithm)
    claims = foreign_claims(parts.fields, name=issuer.name, audience=issuer.audience, groups=issuer.groups, now_s=now_s)
    return replace(claims, kid=kid, key_print=issuer.print_of(key))


def _names_of(parts: Compact) -> tuple[str, str]:
    """Return (kid, alg) as texts."""
    kid, algorithm = parts.header["kid"], parts.header["alg"]
    if type(kid) is not str or type(algorithm) is not str:
        refuse("header values")
    return kid, algorithm
