"""``prefixdb grant``: what members of the default namespace may do in other namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.arguments import NAMESPACE
from prefixdb.cli.base import group
from prefixdb.cli.ns_show import iso
from prefixdb.cli.output import put_json, put_table, say
from prefixdb.cli.session import At, command_line, connected
from prefixdb.cli.settings import Settings, load_settings, namespace_text
from prefixdb.cli.text import instant

if TYPE_CHECKING:
    from prefixdb.client.models import Grant
    from prefixdb.client.sync import Database

EVERY = "*"
"""How every namespace but the default one is written; a shell wants it quoted."""

_TARGET = click.argument("namespace", type=NAMESPACE)


@group("grant")
def grant() -> None:
    """Grants: which other namespaces a member may use. For cluster guardians.

    Only members of the default namespace have grants. A NAMESPACE is its name, id:NUMBER, or '*' (quoted) for every one
    but the default, those to come among them. A denial wins over every grant. Who has a grant logs in there with --home
    default --namespace NAMESPACE, and with the privilege namespaces.use goes from one to the next by --namespace.
    """


@grant.command("add")
@click.argument("member")
@_TARGET
@click.option(
    "--group",
    "groups",
    multiple=True,
    required=True,
    metavar="GROUP",
    help="A group of that namespace the member is in while using it: readers, writers, …; may be repeated. "
    "One that does not exist yet permits nothing until it does.",
)
def add(member: str, namespace: int | str, groups: tuple[str, ...]) -> None:
    """Let MEMBER use NAMESPACE. It replaces what was said about the two before."""
    settings = load_settings()
    with connected(settings, At.HOME) as db:
        before = _find(db, member, namespace)
        made = db.guardian.grants.allow(member, _target(namespace), groups)
    _finish(settings, f"{member} may use {_where(made)} as {', '.join(made.groups)}.", before, made)
    if before is not None and before.effect.name == "DENY":
        say(settings, "It was denied before; that is replaced.")


@grant.command("deny")
@click.argument("member")
@_TARGET
def deny(member: str, namespace: int | str) -> None:
    """Keep MEMBER out of NAMESPACE, whatever else is granted. It replaces what was said about the two before."""
    settings = load_settings()
    with connected(settings, At.HOME) as db:
        before = _find(db, member, namespace)
        made = db.guardian.grants.deny(member, _target(namespace))
    every = made.namespace_id is None
    refusal = "may use no namespace but the default one" if every else f"may not use {_where(made)}"
    _finish(settings, f"{member} {refusal}, whatever else is granted.", before, made)


@grant.command("revoke")
@click.argument("member")
@_TARGET
def revoke(member: str, namespace: int | str) -> None:
    """Take back what was said about MEMBER and NAMESPACE, be it a grant or a denial."""
    settings = load_settings()
    with connected(settings, At.HOME) as db:
        before = _find(db, member, namespace)
        db.guardian.grants.revoke(member, _target(namespace))
    if settings.json:
        put_json({"member": member, "namespace": namespace_text(namespace), "revoked": True})
    what = "denial" if before is not None and before.effect.name == "DENY" else "grant"
    undo = "" if before is None else f" Take it back: {_line_of(before)}"
    where = _where(before) if before is not None else f"namespace {namespace_text(namespace)}"
    say(settings, f"The {what} of {member} for {where} is gone.{undo}")


@grant.command("list")
@click.argument("member", required=False)
def list_(member: str | None) -> None:
    """List grants and denials, of MEMBER or of everybody, by member."""
    settings = load_settings()
    rows = []
    with connected(settings, At.HOME) as db:
        for item in db.guardian.grants.list(member):
            if settings.json:
                put_json(grant_json(item))
            else:
                groups = ", ".join(item.groups) or "-"
                rows.append([item.member, item.effect.name.lower(), _name(item), groups, instant(item.created_at)])
    if not settings.json:
        if member is not None and not rows:
            say(settings, f"There is no grant and no denial for a member {member}.")
        put_table(settings, ["member", "effect", "namespace", "groups", "created"], rows, [])


def _target(namespace: int | str) -> Any:
    from prefixdb.client.models import ALL

    return ALL if namespace == EVERY else namespace


def _find(db: Database, member: str, namespace: int | str) -> Grant | None:
    """Return what is said about the two now, so that one can go back to it."""
    for item in db.guardian.grants.list(member):
        if namespace == EVERY:
            found = item.namespace_id is None
        else:
            found = namespace in (item.namespace_id, item.namespace_name) and item.namespace_id is not None
        if found:
            return item
    return None


def _finish(settings: Settings, words: str, before: Grant | None, made: Grant) -> None:
    """Write the grant, what it means, and the way back."""
    if settings.json:
        put_json(grant_json(made))
    undo = command_line("grant", "revoke", made.member, _name(made)) if before is None else _line_of(before)
    say(settings, f"{words} Take it back: {undo}")


def _line_of(item: Grant) -> str:
    """Return the command that says the same."""
    verb = "deny" if item.effect.name == "DENY" else "add"
    groups = [word for name in item.groups for word in ("--group", name)]
    return command_line("grant", verb, item.member, _name(item), *groups)


def _name(item: Grant) -> str:
    return EVERY if item.namespace_id is None else item.namespace_name or f"id:{item.namespace_id}"


def _where(item: Grant) -> str:
    return "every namespace but the default one" if item.namespace_id is None else f"namespace {_name(item)}"


def grant_json(item: Grant) -> dict[str, Any]:
    """Return a grant for programs; ``namespace_id`` null is every namespace but the default one."""
    return {
        "member": item.member,
        "effect": item.effect.name.lower(),
        "namespace_id": None if item.namespace_id is None else str(item.namespace_id),
        "namespace_name": item.namespace_name or None,
        "groups": list(item.groups),
        "created_at": iso(item.created_at),
    }
