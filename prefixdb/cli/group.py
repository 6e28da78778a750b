"""``prefixdb group``: named sets of rules inside a namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.base import group
from prefixdb.cli.output import put_facts, put_json, put_table, say, stdout_is_terminal
from prefixdb.cli.rules import parse_rules, rule_flags, rule_json, rule_text, typeable
from prefixdb.cli.session import At, command_line, confirm, connected
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.cli.text import number

if TYPE_CHECKING:
    from prefixdb.client.models import Group

_RULES = click.option(
    "--rule",
    "rules",
    multiple=True,
    required=True,
    metavar="RULE",
    help="RIGHTS[:DATABASE[:PREFIX]]: rw, r:0, w:*:queue/; may be repeated.",
)


@group("group")
def group_() -> None:
    """Groups: what their members may read and write. For guardians.

    A group is a list of rules RIGHTS[:DATABASE[:PREFIX]]; what no rule permits is denied. RIGHTS is r, w or rw,
    DATABASE a number or * for every one, PREFIX how the keys begin, written as --enc says. Built in are guardians,
    writers (rw) and readers (r).
    """


@group_.command("create")
@click.argument("name")
@_RULES
def create(name: str, rules: tuple[str, ...]) -> None:
    """Make group NAME with these rules."""
    settings = load_settings()
    wanted = parse_rules(rules, settings.enc)
    with connected(settings, At.MEMBERS) as db:
        made = db.guardian.groups.create(name, wanted)
    _put_group_when_seen(settings, made)
    say(settings, f"Created group {name}. Take it back: {command_line('group', 'delete', name)}")
    say(settings, f"Put somebody in: {command_line('user', 'set')} USER --add-group {name}")


@group_.command("list")
def list_() -> None:
    """List the groups by name, the built-in ones among them."""
    settings = load_settings()
    rows, items = [], []
    with connected(settings, At.MEMBERS) as db:
        for item in db.guardian.groups.list():
            if settings.json:
                put_json(group_json(settings, item))
            else:
                items.append(item)
                rules = ", ".join(rule_text(rule, settings.enc) for rule in item.rules)
                rows.append([item.name, "built in" if item.built_in else "own", rules])
    if not settings.json:
        put_table(settings, ["name", "kind", "rules"], rows, [])
        _explain_escapes(settings, *items)


@group_.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Show group NAME; its rules are written as --rule takes them."""
    settings = load_settings()
    with connected(settings, At.MEMBERS) as db:
        _put_group(settings, db.guardian.groups.get(name))


@group_.command("set")
@click.argument("name")
@_RULES
def set_(name: str, rules: tuple[str, ...]) -> None:
    """Give group NAME these rules instead of those it has. They count from the next request of its members on."""
    settings = load_settings()
    wanted = parse_rules(rules, settings.enc)
    with connected(settings, At.MEMBERS) as db:
        before = db.guardian.groups.get(name)
        changed = db.guardian.groups.update(name, wanted)
    _put_group_when_seen(settings, changed)
    undo = f"{command_line('group', 'set', name)} {rule_flags(before.rules)}"
    say(settings, f"Group {name} has {number(len(changed.rules), 'rule')} now. Take it back: {undo}")


@group_.command("delete")
@click.argument("name")
def delete(name: str) -> None:
    """Remove group NAME, also from its members.

    Service tokens and grants that name it keep the name, which permits nothing. The name has to be typed, or --yes
    given.
    """
    settings = load_settings()
    with connected(settings, At.MEMBERS) as db:
        where = db.whoami().namespace_name
        item = db.guardian.groups.get(name)
        what = f"This removes group {name} of namespace {where}, also from its members; who was in it is not kept."
        if not item.built_in:  # The server refuses those; a question before that would promise too much.
            confirm(settings, what, item.name)
        db.guardian.groups.delete(name)
    if settings.json:
        put_json({"name": name, "deleted": True})
    undo = f"{command_line('group', 'create', name)} {rule_flags(item.rules)}"
    say(settings, f"Removed group {name} of namespace {where}, also from its members.")
    say(settings, f"The group comes back with: {undo}; its members have to be put in again.")


def group_json(settings: Settings, item: Group) -> dict[str, Any]:
    """Return a group for programs."""
    rules = [rule_json(rule, settings.enc) for rule in item.rules]
    return {"name": item.name, "built_in": item.built_in, "rules": rules}


def _put_group(settings: Settings, item: Group) -> None:
    rules = [rule_text(rule, settings.enc) for rule in item.rules]
    words = {"name": item.name, "kind": "built in" if item.built_in else "own", "rule": rules or "-"}
    put_facts(settings, group_json(settings, item), words)
    _explain_escapes(settings, item)


def _put_group_when_seen(settings: Settings, item: Group) -> None:
    """Write a group after a change: to a program that asked for it, or to a person."""
    if settings.json or (stdout_is_terminal() and not settings.quiet):
        _put_group(settings, item)


def _explain_escapes(settings: Settings, *items: Group) -> None:
    """Say that escaped prefixes cannot be copied into --rule."""
    escaped = any(not typeable(rule) for item in items for rule in item.rules)
    if escaped and settings.enc == "auto" and not settings.json:
        say(settings, "Some prefixes are no text and are escaped here; with --enc hex they can be copied into --rule.")
