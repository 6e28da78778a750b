"""``ns clone``: a new namespace with the rows of another one."""

from __future__ import annotations

import click

from prefixdb.cli.arguments import NAMESPACE
from prefixdb.cli.backup_namespace import put_placed
from prefixdb.cli.base import command
from prefixdb.cli.meter import meter
from prefixdb.cli.session import At, connected
from prefixdb.cli.settings import load_settings


@command("clone")
@click.argument("source", type=NAMESPACE)
@click.argument("name")
@click.option("--id", "number", type=click.IntRange(1, 2**64 - 2), metavar="N", help="Ask for this id; else random.")
@click.option("--rows-only", is_flag=True, help="Leave members and groups out.")
def clone(source: int | str, name: str, number: int | None, rows_only: bool) -> None:
    """Create namespace NAME with what SOURCE holds at one instant, and print its id.

    SOURCE goes on meanwhile. NAME is seen when all of it is there, and not before.
    """
    settings = load_settings()
    with connected(settings, At.HOME) as db, meter(settings, "Cloning") as shown:
        made = db.guardian.namespaces.clone(source, name, id=number, members=not rows_only, on_progress=shown.follow)
    put_placed(settings, made, "Cloned into")
