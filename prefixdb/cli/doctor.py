"""``prefixdb doctor``: looks at everything between here and the server, and says in sentences what it found."""

from __future__ import annotations

import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

import prefixdb
from prefixdb.cli.advice import login_line
from prefixdb.cli.base import command
from prefixdb.cli.failures import EXIT_USAGE, exit_status
from prefixdb.cli.output import put_json
from prefixdb.cli.session import client_options
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.cli.text import duration, instant
from prefixdb.client.profiles import profiles_path
from prefixdb.errors import PrefixdbError, Reason

if TYPE_CHECKING:
    from prefixdb.client.options import ClientOptions
    from prefixdb.client.sync import Database

CLOCK_DIFFERENCE_S_MAX = 5.0
"""Clocks further apart than this are worth a word; tokens tolerate 30 s."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one thing; ``status`` is 0 when it is fine, None for a remark, else the exit status."""

    subject: str
    status: int | None
    words: str


@command("doctor")
@click.pass_context
def doctor(context: click.Context) -> None:
    """Check everything between here and the server.

    Address, TLS, token, clock and version are looked at, and what is wrong is said in sentences.

    Exits with the status of the first thing that is wrong.
    """
    settings = load_settings()
    worst = 0
    for finding in _examine(settings):
        if settings.json:
            state = "note" if finding.status is None else "ok" if finding.status == 0 else "bad"
            put_json({"subject": finding.subject, "state": state, "words": finding.words})
        else:
            mark, colour = ("-", "yellow") if finding.status is None else ("ok", "green")
            if finding.status:
                mark, colour = "!!", "red"
            shown = f"{mark:<3}{finding.subject}"
            click.echo(
                f"{shown if settings.no_color else click.style(shown, fg=colour)}: {finding.words}",
                color=False if settings.no_color else None,
            )
        worst = worst or finding.status or 0
    context.exit(worst)


def _examine(settings: Settings) -> Iterator[Finding]:
    """Yield findings from near to far, and stop where going on makes no sense."""
    try:
        options = client_options(settings)
    except PrefixdbError as failure:
        yield Finding("settings", exit_status(failure), failure.message)
        return
    except click.UsageError as failure:
        yield Finding("settings", EXIT_USAGE, failure.message)
        return
    yield _settings(settings)
    address = _address(options.endpoint)
    yield address
    if address.status:
        return
    from prefixdb.client.sync import connect

    with connect(options=options) as db:
        health = _health(db, options)
        yield health
        if health.status:
            return
        token = _token(settings)
        yield token
        if not token.status:
            yield from _server(db, known=options.has_token or options.has_login)


def _settings(settings: Settings) -> Finding:
    names = ["endpoint", "token_file" if settings.credentials_file is None else "credentials_file"]
    names += ["namespace"] if settings.namespace is not None else []
    sources = ", ".join(f"{name.replace('_', ' ')} from {settings.by_name[name].source}" for name in names)
    profile = settings.by_name["profile"]
    where = f"profile {profile.value} ({profile.source}) in {profiles_path()}" if profile.value else "no profile"
    return Finding("settings", 0, f"{settings.endpoint}; {sources}; {where}.")


def _address(endpoint: str) -> Finding:
    """Try a plain connection: name resolution and the port, before anything of gRPC."""
    from prefixdb.client.options import split_host

    if endpoint.startswith(("unix:", "unix-abstract:")):
        path = Path(endpoint.removeprefix("unix:").removeprefix("//"))
        good = endpoint.startswith("unix-abstract:") or path.is_socket()
        words = f"{path} is a socket." if good else f"{path} is no socket: is the server running on this machine?"
        return Finding("address", 0 if good else 78, words)
    host, port = split_host(endpoint)
    try:
        begun = time.perf_counter()
        with socket.create_connection((host, int(port)), timeout=3):
            took_ms = (time.perf_counter() - begun) * 1000
    except socket.gaierror as failure:
        return Finding("address", 78, f"The name {host} cannot be resolved: {failure.strerror}. Check its spelling.")
    except TimeoutError:
        return Finding("address", 78, f"{endpoint} does not answer within 3 s: a firewall, or the wrong address.")
    except OSError as failure:
        words = f"{endpoint} refuses the connection ({failure.strerror}): is the server running, is the port right?"
        return Finding("address", 78, words)
    return Finding("address", 0, f"{endpoint} accepts connections ({took_ms:.1f} ms).")


def _health(db: Database, options: ClientOptions) -> Finding:
    kind = "TLS" if options.tls is not None else "plaintext"
    try:
        health = db.health()
    except PrefixdbError as failure:
        advice = (
            "Over TLS: look at --tls-ca; a server without TLS wants none of the --tls flags."
            if options.tls is not None
            else "In plaintext: a server with TLS wants --tls-ca; or something else listens there, no prefixdb."
        )
        return Finding("server", exit_status(failure), f"{failure.message} {advice}")
    if health != "SERVING":
        return Finding("server", 78, f"It answers over {kind}, but it is {health}: starting, stopping, or in trouble.")
    return Finding("server", 0, f"It answers over {kind} and is SERVING.")


def _token(settings: Settings) -> Finding:
    """Look at the token without asking the server."""
    from prefixdb.client.credentials import TokenSource, inspect_token

    if settings.credentials_file is not None:
        return _login(settings)
    path: Path | None = settings.token_file
    if path is None:
        return Finding("token", None, "None is named (a login, --token-file, PREFIXDB_TOKEN_FILE or a profile's).")
    if path == Path("-"):
        return Finding("token", 0, "It came over standard input.")
    try:
        claims = inspect_token(TokenSource(token_file=path).token() or "")
    except PrefixdbError as failure:
        return Finding("token", exit_status(failure), failure.message)
    if claims.expires_at is not None and claims.expires_at < datetime.now(UTC):
        return Finding("token", 80, f"{path} expired at {instant(claims.expires_at)}; get a new one from a guardian.")
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return Finding(
            "token", None, f"{path} is good until {instant(claims.expires_at)}, but others can read it: chmod 600."
        )
    return Finding("token", 0, f"{path} is for {claims.subject} and good until {instant(claims.expires_at)}.")


def _login(settings: Settings) -> Finding:
    """Look at the login without asking the server."""
    from prefixdb.client.login_file import LoginFile

    again = f"log in again: {login_line(settings)}"
    try:
        kept = LoginFile(settings.credentials_file).read()
    except PrefixdbError as failure:
        return Finding("login", exit_status(failure), f"{failure.message} Then {again}")
    if kept is None:
        return Finding("login", 80, f"The login of profile {settings.profile} is not there any more; {again}")
    if kept.refresh_expires_at is not None and kept.refresh_expires_at < datetime.now(UTC):
        return Finding("login", 80, f"It expired at {instant(kept.refresh_expires_at)}; {again}")
    words = (
        f"{kept.user} in namespace {kept.namespace_name}, until {instant(kept.refresh_expires_at)} and longer in use."
    )
    return Finding("login", 0, words)


def _server(db: Database, *, known: bool) -> Iterator[Finding]:
    """What only the server can tell."""
    try:
        me = db.whoami()
    except PrefixdbError as failure:
        if failure.reason is Reason.TOKEN_MISSING and not known:
            yield Finding("identity", None, "The server answers nobody without a token; stopping here.")
            return
        yield Finding("identity", exit_status(failure), f"The server refuses you: {failure.message}")
        return
    yield Finding("identity", 0, f"The server knows you as {me.subject} in namespace {me.namespace_name}.")
    if me.guardian.name != "CLUSTER":
        yield Finding("version", None, "Version and clock are told to cluster guardians only.")
        return
    now = db.guardian.maintenance.status()
    if now.version == prefixdb.__version__:
        yield Finding("version", 0, f"Client and server are both {now.version}.")
    else:
        words = f"The server is {now.version}, this client {prefixdb.__version__}; use the same where something is odd."
        yield Finding("version", None, words)
    if now.started_at is not None:
        apart_s = abs((datetime.now(UTC) - (now.started_at + now.uptime)).total_seconds())
        near = apart_s <= CLOCK_DIFFERENCE_S_MAX
        words = f"The clocks are {duration(apart_s)} apart" + (
            "." if near else "; set them, or tokens will be refused."
        )
        yield Finding("clock", 0 if near else None, words)
    words = f"{now.store}, answered by the {now.front or 'python'} front, durability {now.durability}, " + (
        "writable." if now.writable else "NOT writable at present."
    )
    yield Finding("store", 0 if now.writable else 78, words)
    for alarm in now.alarms:
        yield Finding("alarm", None, alarm)
