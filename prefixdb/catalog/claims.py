"""What a token says: the grammar of the claims, of our own tokens and of other issuers'.

    access   iss, aud, sub, iat, nbf, exp, jti, ns, inc, groups, rev, typ "access"; optional guardian, mint, fam, home
    refresh  the same with typ "refresh" and fam, for the member's home; groups empty; no guardian, mint or home
    foreign  iss, aud, sub, iat, exp, jti, ns, inc, groups, typ "access"; optional nbf; never guardian, mint, fam, home
             or rev; what else a foreign issuer says is not looked at

Our own have nothing else. ``ns``, ``inc`` and ``rev`` are decimal text in canonical form, because a JSON number loses
bits above 2^53 in most languages; ``rev`` is the newest revocation at the time of issue (see ``catalog.revocation``).
``fam`` is the login that the token came from: groups, guardian and privileges of such a token are looked up in the
member's record, and ``groups`` and ``guardian`` are for people to read. ``home`` is "0", in a token of a member of
namespace 0 for another namespace.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from prefixdb import limits
from prefixdb.catalog.compact import refuse
from prefixdb.catalog.entities import DEFAULT_NAMESPACE_ID, Guardian
from prefixdb.catalog.names import is_name, is_subject

ISSUER = "prefixdb"
AUDIENCE = "prefixdb"
TYPE_ACCESS = "access"
TYPE_REFRESH = "refresh"

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_FOREIGN_ID = re.compile(r"[!-~]{1,128}", re.ASCII)
_REQUIRED = frozenset({"iss", "aud", "sub", "iat", "nbf", "exp", "jti", "ns", "inc", "groups", "rev", "typ"})
_OPTIONAL = frozenset({"guardian", "mint", "fam", "home"})
_FOREIGN_REQUIRED = frozenset({"iss", "aud", "sub", "iat", "exp", "jti", "ns", "inc", "groups", "typ"})
_FOREIGN_REFUSED = frozenset({"guardian", "mint", "fam", "home", "rev"})
_GUARDIANS = {"namespace": Guardian.NAMESPACE, "cluster": Guardian.CLUSTER}
_U64_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says. Times in seconds since the epoch.

    subject: of a foreign token ``ISSUERNAME:sub``.
    groups, guardian: of a token with a family for information only.
    revision: claim ``rev``; None for a foreign token, which knows nothing of our revocations.
    minted_by: the cluster guardian who made the token for a namespace not its own, else empty.
    kid: the key that verified it.
    issuer: name of the other issuer, empty for our own tokens.
    family: the login it came from, empty for a service token or a foreign one.
    guest: the subject is a member of namespace 0 in another namespace.
    refresh: it is a refresh token, which opens nothing.
    key_print: what the verifying key was; a key of the same id but of other bytes did not verify the token.
    """

    namespace_id: int
    incarnation: int
    subject: str
    jti: str
    groups: tuple[str, ...]
    guardian: Guardian
    issued_at_s: int
    expires_at_s: int
    revision: int | None
    minted_by: str = ""
    kid: str = ""
    issuer: str = ""
    family: str = ""
    guest: bool = False
    refresh: bool = False
    key_print: bytes = field(default=b"", repr=False)

    @property
    def home_id(self) -> int:
        """The namespace the subject belongs to."""
        return DEFAULT_NAMESPACE_ID if self.guest else self.namespace_id


def encode_claims(claims: Claims) -> bytes:
    """Return the payload of one of our own tokens that ``own_claims`` reads as ``claims``."""
    fields: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "typ": TYPE_REFRESH if claims.refresh else TYPE_ACCESS,
        "sub": claims.subject,
        "jti": claims.jti,
        "ns": str(claims.namespace_id),
        "inc": str(claims.incarnation),
        "rev": str(claims.revision or 0),
        "groups": list(claims.groups),
        "iat": claims.issued_at_s,
        "nbf": claims.issued_at_s,
        "exp": claims.expires_at_s,
    }
    if claims.guardian is not Guardian.NONE:
        fields["guardian"] = claims.guardian.name.lower()
    if claims.minted_by:
        fields["mint"] = claims.minted_by
    if claims.family:
        fields["fam"] = claims.family
    if claims.guest:
        fields["home"] = str(DEFAULT_NAMESPACE_ID)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def own_claims(fields: dict[str, Any], now_s: int) -> Claims:
    """Return the claims of one of our own tokens, access or refresh; the key is the caller's to note.

    Args:
        fields: the payload, its signature good.
        now_s: the time, for tokens from the future.

    Raises:
        RefusedError: they are not as the grammar above says.
    """
    if not (fields.keys() >= _REQUIRED and fields.keys() <= _REQUIRED | _OPTIONAL):
        refuse("claim names")
    kind = fields["typ"]
    if kind not in (TYPE_ACCESS, TYPE_REFRESH) or fields["iss"] != ISSUER or fields["aud"] != AUDIENCE:
        refuse("typ, iss or aud")
    namespace_id = _decimal(fields["ns"], limits.NAMESPACE_ID_MAX)
    claims = Claims(
        namespace_id=namespace_id,
        incarnation=_decimal(fields["inc"], _U64_MAX),
        subject=_subject(fields["sub"]),
        jti=_identifier(fields["jti"], _ID, "jti"),
        groups=_groups(fields["groups"]),
        guardian=_guardian(fields, namespace_id),
        issued_at_s=_time(fields["iat"]),
        expires_at_s=_time(fields["exp"]),
        revision=_decimal(fields["rev"], _U64_MAX),
        minted_by=_subject(fields["mint"]) if "mint" in fields else "",
        family=_identifier(fields["fam"], _ID, "fam") if "fam" in fields else "",
        guest=_is_guest(fields, namespace_id),
        refresh=kind == TYPE_REFRESH,
    )
    _check_times(claims, _time(fields["nbf"]), now_s, _longest_s(claims))
    _check_together(claims)
    return claims


def foreign_claims(fields: dict[str, Any], *, name: str, audience: str, groups: frozenset[str], now_s: int) -> Claims:
    """Return the claims of a token of another issuer; key and namespace are the caller's to check.

    Args:
        fields: the payload, its signature and ``iss`` good.
        name: of the issuer here.
        audience: that ``aud`` must be, or be among.
        groups: that the issuer may name.
        now_s: the time, for tokens from the future.

    Raises:
        RefusedError: they are not as the grammar above says.
    """
    if not fields.keys() >= _FOREIGN_REQUIRED or fields.keys() & _FOREIGN_REFUSED:
        refuse("claim names")
    if fields["typ"] != TYPE_ACCESS or not _is_for(fields["aud"], audience):
        refuse("typ, iss or aud")
    subject = fields["sub"]
    claims = Claims(
        namespace_id=_decimal(fields["ns"], limits.NAMESPACE_ID_MAX),
        incarnation=_decimal(fields["inc"], _U64_MAX),
        subject=_subject(f"{name}:{subject}" if type(subject) is str and subject else None),
        jti=_identifier(fields["jti"], _FOREIGN_ID, "jti"),
        groups=_groups(fields["groups"]),
        guardian=Guardian.NONE,
        issued_at_s=_time(fields["iat"]),
        expires_at_s=_time(fields["exp"]),
        revision=None,
        issuer=name,
    )
    not_before_s = _time(fields["nbf"]) if "nbf" in fields else claims.issued_at_s
    _check_times(claims, not_before_s, now_s, limits.EXTERNAL_TOKEN_S_MAX)
    if not groups.issuperset(claims.groups):
        refuse("a group that is not the issuer's to give")
    return claims


def is_decimal(text: str) -> bool:
    """True for the canonical decimal text of a number that may fit 64 bits."""
    return _DECIMAL.fullmatch(text) is not None


def _decimal(value: Any, largest: int) -> int:
    if type(value) is not str or not is_decimal(value) or int(value) > largest:
        refuse("ns, inc or rev")
    return int(value)


def _subject(value: Any) -> str:
    if type(value) is not str or not is_subject(value):
        refuse("sub or mint")
    return value


def _identifier(value: Any, pattern: re.Pattern[str], what: str) -> str:
    if type(value) is not str or pattern.fullmatch(value) is None:
        refuse(what)
    return value


def _is_for(value: Any, audience: str) -> bool:
    """True when ``aud``, one text or a list of texts (RFC 7519, 4.1.3), names us."""
    if type(value) is list:
        return all(type(entry) is str for entry in value) and audience in value
    return type(value) is str and value == audience


def _time(value: Any) -> int:
    if type(value) is not int or value < 0:
        refuse("times are not whole numbers")
    return value


def _check_times(claims: Claims, not_before_s: int, now_s: int, longest_s: int) -> None:
    """Refuse a token that is from the future or lives longer than its kind may."""
    latest_s = now_s + limits.TOKEN_LEEWAY_S
    if claims.issued_at_s > latest_s or not_before_s > latest_s:
        refuse("from the future")
    if not 0 < claims.expires_at_s - claims.issued_at_s <= longest_s:
        refuse("lifetime")


def _longest_s(claims: Claims) -> int:
    """Return how long a token of ours may live. No kind may borrow the lifetime of another."""
    if claims.refresh:
        return limits.REFRESH_TOKEN_S
    if claims.family:
        return limits.ACCESS_TOKEN_S
    return limits.MINTED_TOKEN_S_MAX if claims.minted_by else limits.SERVICE_TOKEN_S_MAX


def _guardian(fields: dict[str, Any], namespace_id: int) -> Guardian:
    if "guardian" not in fields:
        return Guardian.NONE
    value = fields["guardian"]
    if type(value) is not str or value not in _GUARDIANS:
        refuse("guardian")
    guardian = _GUARDIANS[value]
    if guardian is Guardian.CLUSTER and namespace_id != DEFAULT_NAMESPACE_ID:
        refuse("a cluster guardian outside namespace 0")
    return guardian


def _is_guest(fields: dict[str, Any], namespace_id: int) -> bool:
    if "home" not in fields:
        return False
    if fields["home"] != str(DEFAULT_NAMESPACE_ID) or namespace_id == DEFAULT_NAMESPACE_ID:
        refuse("home")
    return True


def _check_together(claims: Claims) -> None:
    """Refuse claims that never occur together."""
    if claims.minted_by and claims.namespace_id == DEFAULT_NAMESPACE_ID:
        refuse("a minted token for namespace 0")
    if claims.minted_by and claims.family:
        refuse("a minted token that somebody logged in for")
    if claims.guest and (not claims.family or claims.guardian is not Guardian.NONE):
        refuse("home without fam, or with guardian")
    if claims.refresh and (not claims.family or claims.guest or claims.groups or claims.guardian is not Guardian.NONE):
        refuse("a refresh token that opens something")


def _groups(value: Any) -> tuple[str, ...]:
    if type(value) is not list or len(value) > limits.TOKEN_GROUPS_MAX:
        refuse("groups")
    if not all(type(name) is str and is_name(name) for name in value) or len(set(value)) != len(value):
        refuse("group names")
    return tuple(value)
