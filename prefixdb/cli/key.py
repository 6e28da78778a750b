"""``prefixdb key``: the keys that tokens are signed with."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.base import group
from prefixdb.cli.ns_show import iso
from prefixdb.cli.output import put_json, put_table, say, stdout_is_terminal
from prefixdb.cli.session import At, confirm, connected
from prefixdb.cli.settings import load_settings
from prefixdb.cli.text import instant

if TYPE_CHECKING:
    from prefixdb.client.models import SigningKey

WIDE = 110
"""Columns of a terminal that shows all of a key's facts side by side."""


@group("key")
def key() -> None:
    """The keys that sign tokens. For cluster guardians."""


@key.command("list")
def list_() -> None:
    """Print the public keys that verify tokens now, the oldest first."""
    settings = load_settings()
    with connected(settings, At.HOME) as db:
        keys = db.guardian.keys.list()
    if settings.json:
        for item in keys:
            put_json(_json(item))
        return
    rows = [[item.kid, item.algorithm, _public(item), instant(item.created_at), _use(item)] for item in keys]
    columns = ["kid", "algorithm", "public key", "created", "use"]
    if stdout_is_terminal() and shutil.get_terminal_size().columns < WIDE:
        columns, rows = [columns[0], *columns[3:]], [[row[0], *row[3:]] for row in rows]
    put_table(settings, columns, rows, [], whole=[0])


@key.command("rotate")
def rotate() -> None:
    """Make a new signing key and print its id. No token is lost: the old key verifies until its last one is over."""
    settings = load_settings()
    with connected(settings, At.HOME) as db:
        made = db.guardian.keys.rotate()
    if settings.json:
        put_json(_json(made))
    else:
        click.echo(made.kid)
    say(settings, f"New tokens are signed by {made.kid}; those of the old key stay good until they expire.")
    say(settings, "If the old key was stolen, also end its tokens: prefixdb token revoke --everyone")


@key.command("remove")
@click.argument("kid")
def remove(kid: str) -> None:
    """Forget key KID, which no longer signs: what it signed is refused from the next request on.

    The id has to be typed, or --yes given. It cannot be undone.
    """
    settings = load_settings()
    with connected(settings, At.HOME) as db:
        known = {item.kid: item for item in db.guardian.keys.list()}
        # The server refuses an unknown key and the one that signs; a question before that would promise too much.
        if kid in known and known[kid].verifies_until is not None:
            until = instant(known[kid].verifies_until)
            what = (
                f"This ends every token that key {kid} signed, which would verify until {until}. It cannot be undone."
            )
            confirm(settings, what, kid)
        db.guardian.keys.remove(kid)
    if settings.json:
        put_json({"kid": kid, "removed": True})
    say(
        settings,
        f"Key {kid} is gone, and every token it signed with it. It cannot be undone; tokens can be issued anew.",
    )


def _public(item: SigningKey) -> str:
    """Return the public key; on a terminal enough of it to compare."""
    text = item.public_key.hex()
    return f"{text[:12]}…" if stdout_is_terminal() else text


def _use(item: SigningKey) -> str:
    return "signs" if item.verifies_until is None else f"verifies until {instant(item.verifies_until)}"


def _json(item: SigningKey) -> dict[str, Any]:
    return {
        "kid": item.kid,
        "algorithm": item.algorithm,
        "public_key_hex": item.public_key.hex(),
        "created_at": iso(item.created_at),
        "verifies_until": iso(item.verifies_until),
    }
