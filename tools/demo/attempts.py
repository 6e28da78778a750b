"""Attempts of one tenant to reach another's rows, each with what must come of it."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from prefixdb import Database, PrefixdbError, connect


@dataclass(frozen=True, slots=True)
class Party:
    """A tenant: its namespace's number and name, its guardian's token and its application's."""

    id: int
    name: str
    guardian_token: str
    token: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt; ``good`` when it reached nothing."""

    attempt: str
    answer: str
    good: bool


def reach_across(endpoint: str, thief: Party, victim: Party, secret_key: str) -> list[Outcome]:
    """Let ``thief`` try what it can think of to read or change what ``victim`` has under ``secret_key``."""
    raw = struct.pack(">QBH", victim.id, 1, 0)  # The documented layout of a row key in front of the user's key.
    forged = _edit_claims(thief.token, ns=str(victim.id))
    outcomes = []
    with connect(endpoint, token=thief.token) as db, connect(endpoint, token=thief.guardian_token) as guardian:
        outcomes += [
            _empty("get: raw key with the other's prefix", lambda: db.get(raw + secret_key.encode())),
            _empty("scan: the other's prefix", lambda: list(db.scan(raw[:8]))),
            _empty("scan: everything behind its own rows", lambda: list(db.scan(start=b"\xff" * 64))),
        ]
        namespaces, tokens = guardian.guardian.namespaces, guardian.guardian.tokens
        outcomes += [
            _sees_only("guardian: list all namespaces", thief.id, [found.id for found in namespaces.list()]),
            _refused("guardian: look at the other by number", "NOT_PERMITTED", lambda: namespaces.get(victim.id)),
            _refused("guardian: look at a number never used", "NOT_PERMITTED", lambda: namespaces.get(victim.id ^ 1)),
            _refused(
                "guardian: issue a token for the other",
                "NOT_PERMITTED",
                lambda: tokens.issue("thief", ["writers"], namespace=victim.id),
            ),
            _refused("guardian: ban the other", "NOT_PERMITTED", lambda: namespaces.ban(victim.id)),
        ]
    outcomes += [
        _with_token("token: ns claim edited", "TOKEN_INVALID", endpoint, forged, secret_key),
        _with_token("token: edited and signed anew", "TOKEN_INVALID", endpoint, _sign_anew(forged), secret_key),
        _with_token("token: edited, algorithm 'none'", "TOKEN_INVALID", endpoint, _unsigned(forged), secret_key),
        _with_token("no token at all", "TOKEN_MISSING", endpoint, None, secret_key),
    ]
    return outcomes


def refusal_of(call: Callable[[], object]) -> str:
    """Return the reason a call is refused with, or "" when it is not."""
    try:
        call()
    except PrefixdbError as refusal:
        return refusal.reason.name
    return ""


def _empty(attempt: str, call: Callable[[], object]) -> Outcome:
    found = call()
    return Outcome(attempt, "something was found" if found else "nothing there", not found)


def _sees_only(attempt: str, own: int, found: list[int]) -> Outcome:
    others = len(set(found) - {own})
    return Outcome(attempt, f"{others} others were shown" if others else "its own, no other", found == [own])


def _refused(attempt: str, reason: str, call: Callable[[], object]) -> Outcome:
    found = refusal_of(call)
    return Outcome(attempt, found or "it was done", found == reason)


def _with_token(attempt: str, reason: str, endpoint: str, token: str | None, key: str) -> Outcome:
    def read(db: Database) -> object:
        return db.get(key)

    with connect(endpoint, token=token) as db:
        return _refused(attempt, reason, lambda: read(db))


def _edit_claims(token: str, **claims: str) -> str:
    """Return the token with other claims and the old signature."""
    head, payload, signature = token.split(".")
    return ".".join((head, _encode(_decode(payload) | claims), signature))


def _sign_anew(token: str) -> str:
    """Return the token signed by a key of the thief's own, under the server's key id."""
    head, payload, _ = token.split(".")
    signature = Ed25519PrivateKey.generate().sign(f"{head}.{payload}".encode())
    return f"{head}.{payload}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _unsigned(token: str) -> str:
    """Return the token without a signature, as the algorithm "none" wants it."""
    head, payload, _ = token.split(".")
    return f"{_encode(_decode(head) | {'alg': 'none'})}.{payload}."


def _decode(part: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


def _encode(claims: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
