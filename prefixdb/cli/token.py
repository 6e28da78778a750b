"""``prefixdb token``: issue, list, revoke and look into tokens."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.arguments import DURATION, check_new_file, write_secret
from prefixdb.cli.base import given_flags, group
from prefixdb.cli.ns_show import iso
from prefixdb.cli.output import put_facts, put_json, put_table, say, stdout_is_terminal
from prefixdb.cli.session import At, command_line, confirm, connected
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.cli.text import instant

if TYPE_CHECKING:
    from prefixdb.client.models import ServiceToken

WIDE = 130
"""Columns of a terminal that shows all of a token's facts side by side."""


@group("token")
def token() -> None:
    """Service tokens: issue, list, revoke. For guardians.

    They are those of the token's own namespace. A cluster guardian names any other with --namespace, PREFIXDB_NAMESPACE
    or the profile's namespace; no grant is needed for that.
    """


@token.command("issue")
@click.argument("subject")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="readers, writers, …; may be repeated.")
@click.option("--ttl", type=DURATION, metavar="TIME", help="Lifetime, such as 30d; at most 366d. [15m]")
@click.option(
    "--guardian",
    type=click.Choice(["namespace", "cluster"]),
    help="Let the holder administer the namespace, or the cluster.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write it to a new file of mode 0600.")
def issue(
    subject: str,
    groups: tuple[str, ...],
    ttl: float | None,
    guardian: str | None,
    out: Path | None,
) -> None:
    """Issue a token for SUBJECT and print it. It is shown once and stored nowhere.

    With --namespace NAMESPACE a cluster guardian issues one for that namespace; it lives an hour at most.
    """
    from prefixdb.client.models import GuardianRole

    settings = load_settings()
    if out is not None:
        check_new_file(out)
    role = GuardianRole[guardian.upper()] if guardian else GuardianRole.NONE
    with connected(settings, At.NAMED) as db:
        issued = db.guardian.tokens.issue(subject, groups, ttl=ttl, namespace=settings.namespace, guardian=role)
    if out is not None:
        write_secret(out, issued.token)
    if settings.json:
        secret = {} if out is not None else {"token": issued.token}
        put_json(secret | _token_json(issued.info))
    elif out is None:
        click.echo(issued.token)
    if not groups and role is GuardianRole.NONE:
        say(settings, "It is in no group and can read and write nothing; --group readers or --group writers lets it.")
    where = f" in {out}" if out is not None else ""
    say(settings, f"Token for {subject}{where}, valid until {instant(issued.info.expires_at)}.")
    say(settings, f"Revoke it: {command_line('token', 'revoke', '--jti', issued.info.jti)}")


@token.command("list")
def list_() -> None:
    """List the tokens that have not expired; the tokens themselves are not stored."""
    settings = load_settings()
    rows = []
    with connected(settings, At.NAMED) as db:
        for item in db.guardian.tokens.list(namespace=settings.namespace):
            if settings.json:
                put_json(_token_json(item))
                continue
            state = "revoked" if item.revoked else "valid"
            role = "" if item.guardian.name == "NONE" else f"{item.guardian.name.lower()} guardian"
            rights = ", ".join([*item.groups, *([role] if role else [])]) or "-"
            rows.append([item.jti, item.subject, rights, state, instant(item.expires_at), item.issued_by])
    if not settings.json:
        _put_tokens(settings, rows)


def _put_tokens(settings: Settings, rows: list[list[str]]) -> None:
    """Write the tokens; on a narrow terminal without what is left, so that an id stays in one piece to be copied."""
    columns = ["jti", "subject", "rights", "state", "expires", "issued by"]
    if stdout_is_terminal() and shutil.get_terminal_size().columns < WIDE:
        columns = ["jti", "subject", "rights", "valid until"]
        rows = [
            [jti, subject, rights, expires if state == "valid" else state]
            for jti, subject, rights, state, expires, _ in rows
        ]
    put_table(settings, columns, rows, [], whole=[0])


@token.command("revoke")
@click.option("--jti", metavar="JTI", help="One token, by its id.")
@click.option("--subject", metavar="SUBJECT", help="Every token of a subject issued until now.")
@click.option("--all", "all_", is_flag=True, help="Every token of the namespace issued until now.")
@click.option("--everyone", is_flag=True, help="Every token of every namespace issued until now, your own too.")
def revoke(jti: str | None, subject: str | None, all_: bool, everyone: bool) -> None:
    """End tokens, from the next request on. It cannot be undone; new tokens can be issued."""
    settings = load_settings()
    if sum([jti is not None, subject is not None, all_, everyone]) != 1:
        raise click.UsageError("Give exactly one of --jti, --subject, --all and --everyone.")
    namespace = settings.namespace
    if everyone:
        if "namespace" in given_flags(click.get_current_context()):
            raise click.UsageError("--everyone is every namespace; leave --namespace out.")
        namespace = None
    with connected(settings, At.NAMED) as db:
        if everyone:
            confirm(settings, "This ends every token of every namespace, your own too.", "everyone")
        elif all_:
            name = db.guardian.namespaces.get(namespace).name
            confirm(settings, f"This ends every token of namespace {name}.", name)
        db.guardian.tokens.revoke(
            jti=jti, subject=subject, all_of_namespace=all_, everyone=everyone, namespace=namespace
        )
    if settings.json:
        put_json({"revoked": True})
    whose = f"Token {jti}" if jti else f"Every token of {subject}" if subject else "Every token"
    say(settings, f"{whose} issued until now is revoked. It cannot be undone; 'prefixdb token issue' makes new ones.")


@token.command("inspect")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), required=False)
def inspect(file: str | None) -> None:
    """Show what the token in FILE says about itself; '-' is standard input, nothing is the token in use.

    Nothing is verified and no server is asked.
    """
    from prefixdb.client.credentials import TokenSource, inspect_token

    settings = load_settings()
    if file == "-":
        text = sys.stdin.read()
    else:
        path = Path(file) if file is not None else settings.token_file
        if path is None:
            raise click.UsageError("Which token? Give a FILE, or --token-file, or a profile that has one.")
        text = TokenSource(token_file=path).token() or ""
    claims = inspect_token(text)
    facts: dict[str, Any] = {
        "subject": claims.subject,
        "namespace_id": None if claims.namespace_id is None else str(claims.namespace_id),
        "incarnation": None if claims.incarnation is None else str(claims.incarnation),
        "groups": list(claims.groups),
        "guardian": claims.guardian or None,
        "issuer": claims.issuer,
        "jti": claims.jti,
        "issued_at": iso(claims.issued_at),
        "expires_at": iso(claims.expires_at),
        "algorithm": claims.algorithm,
        "key_id": claims.key_id,
        "verified": False,
    }
    words = {
        name.replace("_", " "): ", ".join(value) if isinstance(value, list) else str(value)
        for name, value in facts.items()
        if value not in (None, "", [], False)
    }
    words |= {"issued at": instant(claims.issued_at), "expires at": instant(claims.expires_at)}
    put_facts(settings, facts, words)
    say(settings, "Nothing of this was verified; 'prefixdb whoami' asks the server.")


def _token_json(item: ServiceToken) -> dict[str, Any]:
    return {
        "jti": item.jti,
        "subject": item.subject,
        "groups": list(item.groups),
        "guardian": item.guardian.name.lower(),
        "issued_at": iso(item.issued_at),
        "expires_at": iso(item.expires_at),
        "issued_by": item.issued_by,
        "revoked": item.revoked,
    }
