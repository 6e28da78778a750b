"""``backup namespace`` and ``backup restore-namespace``: one namespace into a file, and a new one from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefixdb.cli.arguments import NAMESPACE
from prefixdb.cli.base import command
from prefixdb.cli.export import put_archive, say_exported
from prefixdb.cli.formats import refuse_text
from prefixdb.cli.input_file import open_input
from prefixdb.cli.meter import meter
from prefixdb.cli.ns_show import namespace_json
from prefixdb.cli.output import put_json, say, stdout_is_terminal
from prefixdb.cli.session import At, command_line, connected
from prefixdb.cli.settings import Settings, load_settings, namespace_text
from prefixdb.cli.text import number

if TYPE_CHECKING:
    from prefixdb.client.models import PlacedNamespace


@command("namespace")
@click.argument("namespace", type=NAMESPACE)
@click.option("--out", type=click.Path(), required=True, metavar="FILE", help="Where to; '-' is standard output.")
@click.option("--rows-only", is_flag=True, help="Leave members, with their password hashes, and groups out.")
@click.option("--codec", type=click.Choice(["zstd", "none"]), default="zstd", show_default=True, help="Of the archive.")
def namespace_(namespace: int | str, out: str, rows_only: bool, codec: str) -> None:
    """Write NAMESPACE at one instant into FILE: rows, members and groups.

    For cluster guardians and the privilege backup; the namespace goes on meanwhile. FILE is readable for its owner
    only, and appears when all of it is there. 'backup restore-namespace' makes a namespace from it.
    """
    settings = load_settings()
    if out == "-" and stdout_is_terminal():
        raise click.UsageError("An archive is not for a terminal: give --out FILE, or a pipe.")
    with connected(settings, At.HOME) as db, meter(settings, "Exporting") as shown:
        done = put_archive(db, out, shown, namespace=namespace, members=not rows_only, codec=codec)
    say_exported(settings, done, f"namespace {namespace_text(namespace)}", out)


@command("restore-namespace")
@click.argument("file", type=click.Path())
@click.option("--name", metavar="NAME", help="Name of the new namespace. [the archive's]")
@click.option("--id", "number_", type=click.IntRange(1, 2**64 - 2), metavar="N", help="Ask for this id; else random.")
@click.option("--rows-only", is_flag=True, help="Leave the archive's members and groups out.")
def restore_namespace(file: str, name: str | None, number_: int | None, rows_only: bool) -> None:
    """Make a new namespace from the archive FILE and print its id; '-' reads standard input.

    For cluster guardians and the privilege namespaces.edit. The namespace is seen when all of it is there, and not
    before; what is cut off leaves nothing. Tokens and grants of the old namespace are not those of the new one.
    """
    settings = load_settings()
    if file == "-" and settings.token_file == Path("-"):
        raise click.UsageError("Standard input cannot give the token and the archive; name a file for one of them.")
    source = open_input(file)
    refuse_text(file, source)
    with connected(settings, At.HOME) as db, meter(settings, "Restoring") as shown:
        made = db.guardian.namespaces.restore(
            source, name=name, id=number_, members=not rows_only, on_progress=shown.follow
        )
    put_placed(settings, made, "Restored")


def put_placed(settings: Settings, made: PlacedNamespace, did: str) -> None:
    """Print the id of a namespace that was made, and say what came into it."""
    space = made.namespace
    if settings.json:
        facts = {"rows": made.rows, "rows_expired": made.expired, "groups": made.groups, "members": made.members}
        put_json(namespace_json(space) | facts)
    else:
        click.echo(space.id)
    expired = f" ({number(made.expired, 'row')} had expired)" if made.expired else ""
    say(
        settings,
        f"{did} namespace {space.name}: {number(made.rows, 'row')}{expired}, {number(made.members, 'member')}, "
        f"{number(made.groups, 'group')}.",
    )
    if not made.members:
        line = command_line("grant", "add", "USER", space.name, "--group", "writers")
        say(settings, f"Nobody belongs to it. Let a member of the default namespace in: {line}")
