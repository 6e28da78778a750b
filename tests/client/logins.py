"""Answers of a scripted server that gives tokens: ``access-N`` and ``refresh-N``, by a clock that the test holds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from prefixdb.client import methods
from prefixdb.client.options import ClientOptions
from prefixdb.v1 import auth_pb2
from prefixdb.v1.key_value_pb2 import GetResponse, PutResponse
from tests.support.clocks import HeldClock
from tests.support.scripted_server import Answer, ScriptedServer

LIFETIME_S = 900
"""Of an access token."""

FOUND = Answer(GetResponse(found=True, value=b"v", version=7))
APPLIED = Answer(PutResponse(applied=True, version=8))
DONE = Answer(auth_pb2.LogoutResponse())
NEAR_END_MS = (LIFETIME_S - 30) * 1000
PAST_END_MS = (LIFETIME_S + 1) * 1000


def pair(number: int, clock: HeldClock, *, namespace: tuple[int, str] = (5, "acme")) -> auth_pb2.Tokens:
    """Return the tokens of one login or refresh."""
    tokens = auth_pb2.Tokens(
        access_token=f"access-{number}",
        refresh_token=f"refresh-{number}",
        namespace_id=namespace[0],
        namespace_name=namespace[1],
    )
    now_s = clock.now_ms() / 1000
    tokens.access_expires_at.FromDatetime(datetime.fromtimestamp(now_s + LIFETIME_S, UTC))
    tokens.refresh_expires_at.FromDatetime(datetime.fromtimestamp(now_s + 7 * 86400, UTC))
    return tokens


def login(number: int, clock: HeldClock, **place: tuple[int, str]) -> Answer:
    """Return the answer to a login."""
    return Answer(auth_pb2.LoginResponse(tokens=pair(number, clock, **place)))


def refreshed(number: int, clock: HeldClock, **place: tuple[int, str]) -> Answer:
    """Return the answer to a refresh."""
    return Answer(auth_pb2.RefreshResponse(tokens=pair(number, clock, **place)))


def exchanged(number: int, clock: HeldClock, namespace: tuple[int, str]) -> Answer:
    """Return the answer to an exchange: an access token alone."""
    tokens = pair(number, clock, namespace=namespace)
    tokens.ClearField("refresh_token")
    return Answer(auth_pb2.ExchangeResponse(tokens=tokens))


def identity(namespace: tuple[int, str], *, member: bool = True, home: int = 0) -> Answer:
    """Return the answer to WhoAmI."""
    return Answer(
        auth_pb2.WhoAmIResponse(
            namespace_id=namespace[0], namespace_name=namespace[1], member=member, home_namespace_id=home
        )
    )


def alice(endpoint: str, password: str = "correct horse", **more: object) -> ClientOptions:
    """Return the options of a member who logs in."""
    return ClientOptions(endpoint, user="alice", password=password, **more)


def sharing(endpoint: str, file: Path, **more: object) -> ClientOptions:
    """Return the options of a program that uses a login kept in a file."""
    return ClientOptions(endpoint, credentials_file=file, **more)


def shown(server: ScriptedServer) -> list[str]:
    """Return the refresh tokens the server was shown, in order."""
    return [request.refresh_token for request in server.requests_of(methods.REFRESH)]
