"""``prefixdb ns``: namespaces from creation to the proof that nothing is left."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from prefixdb.cli.arguments import DURATION, LABEL, NAMESPACE, check_new_file, write_secret
from prefixdb.cli.base import group
from prefixdb.cli.ns_ban import ban, report, unban
from prefixdb.cli.ns_bans import bans
from prefixdb.cli.ns_clone import clone
from prefixdb.cli.ns_show import namespace_json, put_namespace
from prefixdb.cli.output import put_json, put_table, say, stdout_is_terminal
from prefixdb.cli.passwords import PASSWORD_FILE_HELP, new_password
from prefixdb.cli.session import At, command_line, connected, place_words
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.cli.text import instant


@group("ns")
def ns() -> None:
    """Namespaces: create, list, suspend, ban. For cluster guardians, but for 'list' and 'show' of the own one.

    A NAMESPACE is its name, or id:NUMBER. To work in one, see --namespace and 'prefixdb login'.
    """


@ns.command("create")
@click.argument("name")
@click.option("--id", "number", type=click.IntRange(1, 2**64 - 2), metavar="N", help="Ask for this id; else random.")
@click.option("--label", "labels", type=LABEL, multiple=True, metavar="NAME=VALUE", help="A label; may be repeated.")
@click.option(
    "--guardian-token-ttl", type=DURATION, metavar="TIME", help="Also issue the namespace's first guardian token."
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where that token goes: a new file, 0600.")
@click.option("--guardian", metavar="USER", help="Also make the namespace's first guardian, a member with a password.")
@click.option("--password-file", metavar="FILE", help=PASSWORD_FILE_HELP)
def create(
    name: str,
    number: int | None,
    labels: tuple[tuple[str, str], ...],
    guardian_token_ttl: float | None,
    out: Path | None,
    guardian: str | None,
    password_file: str | None,
) -> None:
    """Create namespace NAME and print its id."""
    settings = load_settings()
    if password_file is not None and guardian is None:
        raise click.UsageError(
            "--password-file is the password of the namespace's first guardian: name it, --guardian."
        )
    if (guardian_token_ttl is None) != (out is None):
        raise click.UsageError("--guardian-token-ttl and --out belong together: the token has to go somewhere.")
    if out is not None:
        check_new_file(out)
    with connected(settings, At.HOME) as db:
        first = None if guardian is None else (guardian, new_password(password_file, guardian))
        made = db.guardian.namespaces.create(
            name, id=number, labels=dict(labels), guardian_token_ttl=guardian_token_ttl, guardian=first
        )
    if out is not None and made.guardian_token is not None:
        write_secret(out, made.guardian_token)
    if settings.json:
        put_json(namespace_json(made.namespace))
    else:
        click.echo(made.namespace.id)
    say(settings, f"Created namespace {made.namespace.name}.")
    _say_who_begins(settings, made.namespace.name, guardian, out)


def _say_who_begins(settings: Settings, name: str, guardian: str | None, out: Path | None) -> None:
    """Say how the first person gets into a new namespace."""
    if out is not None:
        say(settings, f"Its guardian's token is in {out}; it is stored nowhere else.")
    if guardian is not None:
        # A profile of its own: the login of whoever made the namespace is not to be replaced by it.
        profile = ["--profile", name, *place_words(settings)]
        line = shlex.join(["prefixdb", *profile, "--namespace", name, "login", "--user", guardian])
        say(settings, f"{guardian} is its guardian and logs in with: {line}")
    if out is None and guardian is None:
        line = command_line("grant", "add", "USER", name, "--group", "writers")
        say(settings, f"Nobody belongs to it yet. Let a member of the default namespace in: {line}")
        line = command_line("token", "issue", "first", "--namespace", name, "--guardian", "namespace", "--out", "FILE")
        say(settings, f"A guardian of its own: {line}")
        say(settings, "  and with it: prefixdb --token-file FILE user create USER --group guardians")


@ns.command("list")
@click.option("--all", "include_dropped", is_flag=True, help="Also those that were banned.")
def list_(include_dropped: bool) -> None:
    """List the namespaces one may use, by id; a cluster guardian sees all of them."""
    settings = load_settings()
    rows = []
    with connected(settings, At.HOME) as db:
        for item in db.guardian.namespaces.list(include_dropped=include_dropped):
            if settings.json:
                put_json(namespace_json(item))
            else:
                labels = " ".join(f"{name}={value}" for name, value in sorted(item.labels.items()))
                rows.append([str(item.id), item.name, item.state.name, instant(item.created_at), labels or "-"])
    if not settings.json:
        put_table(settings, ["id", "name", "state", "created", "labels"], rows, [0], sparse=[3, 4])


@ns.command("show")
@click.argument("namespace", type=NAMESPACE, required=False)
def show(namespace: int | str | None) -> None:
    """Show NAMESPACE with its approximate size; without one, the token's own."""
    settings = load_settings()
    with connected(settings, At.HOME) as db:
        put_namespace(settings, db.guardian.namespaces.get(namespace), with_size=True)


@ns.command("update")
@click.argument("namespace", type=NAMESPACE)
@click.option("--name", metavar="NAME", help="The new name.")
@click.option(
    "--label", "labels", type=LABEL, multiple=True, metavar="NAME=VALUE", help="Set a label; may be repeated."
)
@click.option("--remove-label", "removed", multiple=True, metavar="NAME", help="Remove a label; may be repeated.")
def update(
    namespace: int | str, name: str | None, labels: tuple[tuple[str, str], ...], removed: tuple[str, ...]
) -> None:
    """Rename NAMESPACE or change its labels; rows and tokens are not touched."""
    settings = load_settings()
    if name is None and not labels and not removed:
        raise click.UsageError("Nothing to change: give --name, --label or --remove-label.")
    with connected(settings, At.HOME) as db:
        spaces = db.guardian.namespaces
        wanted = None
        if labels or removed:
            present = spaces.get(namespace).labels
            wanted = {key: value for key, value in present.items() if key not in removed} | dict(labels)
        changed = spaces.update(namespace, name=name, labels=wanted)
    if settings.json or stdout_is_terminal():
        put_namespace(settings, changed)
    say(settings, f"Updated namespace {changed.name}.")


@ns.command("suspend")
@click.argument("namespace", type=NAMESPACE)
@click.option("--read-only", is_flag=True, help="Only refuse writes; reads and deletes go on.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the record and told to nobody else.")
def suspend(namespace: int | str, read_only: bool, reason: str) -> None:
    """Stop NAMESPACE from the next request on, or make it read-only. 'ns resume' takes it back."""
    settings = load_settings()
    with connected(settings, At.HOME) as db:
        changed = db.guardian.namespaces.suspend(namespace, read_only=read_only, reason=reason)
    if settings.json:
        put_json(namespace_json(changed))
    effect = "accepts only reads and deletes now" if read_only else "answers nobody now"
    say(settings, f"Namespace {changed.name} {effect}. Take it back: {command_line('ns', 'resume', changed.name)}")


@ns.command("resume")
@click.argument("namespace", type=NAMESPACE)
def resume(namespace: int | str) -> None:
    """Make NAMESPACE active again after 'ns suspend'."""
    settings = load_settings()
    with connected(settings, At.HOME) as db:
        changed = db.guardian.namespaces.resume(namespace)
    if settings.json:
        put_json(namespace_json(changed))
    say(settings, f"Namespace {changed.name} is active.")


# Last, so that the help goes from the beginning of a namespace to its end.
ns.add_command(clone)
ns.add_command(ban)
ns.add_command(unban)
ns.add_command(report)
ns.add_command(bans)
