"""``prefixdb user``: the members of a namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.arguments import NAMESPACE, PRIVILEGE
from prefixdb.cli.base import group
from prefixdb.cli.ns_show import iso
from prefixdb.cli.output import can_ask, put_facts, put_json, put_table, say, stdout_is_terminal
from prefixdb.cli.passwords import PASSWORD_FILE_HELP, known_password, new_password
from prefixdb.cli.session import At, command_line, confirm, connected
from prefixdb.cli.settings import Settings, load_settings, namespace_text
from prefixdb.cli.text import instant

if TYPE_CHECKING:
    from prefixdb.client.models import Member
    from prefixdb.client.sync import Database

COLUMNS = ("name", "groups", "log in", "privileges", "main namespace", "created")

_PRIVILEGES = click.option(
    "--privilege",
    "privileges",
    type=PRIVILEGE,
    multiple=True,
    help="In the default namespace only: a right over the cluster; may be repeated.",
)
_MAIN = click.option(
    "--main", type=NAMESPACE, metavar="NAMESPACE", help="In the default namespace only: where a login lands."
)
_PASSWORD_FILE = click.option("--password-file", metavar="FILE", help=PASSWORD_FILE_HELP)


@group("user")
def user() -> None:
    """Members: who may log in, and in which groups they are. For guardians.

    They are those of the token's own namespace. A cluster guardian who is to help in another one takes a token for it:
    prefixdb token issue NAME --guardian namespace --namespace NAMESPACE --out FILE
    """


@user.command("create")
@click.argument("name")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="readers, writers, …; may be repeated.")
@_PRIVILEGES
@_MAIN
@_PASSWORD_FILE
@click.option("--no-password", is_flag=True, help="Set none yet: nobody can log in as this member.")
def create(
    name: str,
    groups: tuple[str, ...],
    privileges: tuple[str, ...],
    main: int | str | None,
    password_file: str | None,
    no_password: bool,
) -> None:
    """Add member NAME with a password."""
    settings = load_settings()
    if no_password and password_file is not None:
        raise click.UsageError("Give either --password-file or --no-password.")
    with connected(settings, At.MEMBERS) as db:
        password = None if no_password else new_password(password_file, name)
        made = db.guardian.members.create(
            name, password=password, groups=groups, privileges=privileges, main_namespace=main
        )
    _put_member_when_seen(settings, made)
    rights = f" in {', '.join(made.groups)}" if made.groups else ""
    say(settings, f"Created member {name}{rights}. Take it back: {command_line('user', 'delete', name)}")
    if not groups and not privileges:
        say(settings, f"It is in no group and can read and write nothing yet: {_set_line(name)} --group writers")
    if main is not None:
        line = command_line("grant", "add", name, namespace_text(main), "--group")
        say(settings, f"A login lands in {namespace_text(main)} once that is granted: {line} GROUP")
    if no_password:
        say(settings, f"Nobody can log in as {name} before it has a password: {command_line('user', 'passwd', name)}")


@user.command("list")
def list_() -> None:
    """List the members by name."""
    settings = load_settings()
    rows = []
    with connected(settings, At.MEMBERS) as db:
        for item in db.guardian.members.list():
            if settings.json:
                put_json(member_json(item))
            else:
                rows.append(_row(item))
    if not settings.json:
        put_table(settings, COLUMNS, rows, [], sparse=[3, 4])


@user.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Show member NAME."""
    settings = load_settings()
    with connected(settings, At.MEMBERS) as db:
        _put_member(settings, db.guardian.members.get(name))


@user.command("set")
@click.argument("name")
@click.option(
    "--group", "groups", multiple=True, metavar="GROUP", help="Be in this group and in no other; may be repeated."
)
@click.option("--add-group", "added", multiple=True, metavar="GROUP", help="Be in this group too; may be repeated.")
@click.option("--remove-group", "removed", multiple=True, metavar="GROUP", help="Leave this group; may be repeated.")
@click.option(
    "--disable/--enable",
    "disabled",
    default=None,
    help="Shut the member out and end its logins, or let it log in again; service tokens of that name live on.",
)
@_PRIVILEGES
@click.option("--no-privileges", is_flag=True, help="Hold no privilege.")
@_MAIN
@click.option("--no-main", is_flag=True, help="Let a login land in the default namespace.")
def set_(
    name: str,
    groups: tuple[str, ...],
    added: tuple[str, ...],
    removed: tuple[str, ...],
    disabled: bool | None,
    privileges: tuple[str, ...],
    no_privileges: bool,
    main: int | str | None,
    no_main: bool,
) -> None:
    """Change what member NAME may do.

    It counts from the next request on, for tokens of before too. What --privilege says replaces all that were held.
    """
    settings = load_settings()
    _check_either("--group", groups, "--add-group and --remove-group", added or removed)
    _check_either("--privilege", privileges, "--no-privileges", no_privileges)
    _check_either("--main", main is not None, "--no-main", no_main)
    changes: dict[str, Any] = {}
    if privileges or no_privileges:
        changes["privileges"] = privileges
    if main is not None or no_main:
        changes["main_namespace"] = main
    if disabled is not None:
        changes["disabled"] = disabled
    if not (changes or groups or added or removed):
        raise click.UsageError("Nothing to change: give --group, --disable or another option.")
    with connected(settings, At.MEMBERS) as db:
        before = db.guardian.members.get(name)
        if groups or added or removed:
            changes["groups"] = groups or _changed_groups(before, added, removed)
        changed = db.guardian.members.update(name, **changes)
    _put_member_when_seen(settings, changed)
    ended = " Its logins have ended." if disabled else ""
    say(settings, f"Changed member {name}.{ended} Take it back: {_undo_line(before, changes)}")


@user.command("passwd")
@click.argument("name", required=False)
@_PASSWORD_FILE
@click.option("--old-password-file", metavar="FILE", help="For your own: the password until now. [asked for]")
def passwd(name: str | None, password_file: str | None, old_password_file: str | None) -> None:
    """Set the password of member NAME, or change your own.

    Without NAME it is your own, which takes the old password, and of your logins this one lives on. All other logins of
    the member end, a guardian's who gives the own NAME too; service tokens live on. When both files are '-', the old
    password is the first line of standard input and the new one the second.
    """
    settings = load_settings()
    if name is not None and old_password_file is not None:
        raise click.UsageError("A guardian needs no old password; leave --old-password-file out, or NAME for your own.")
    if name is None and (password_file is None) != (old_password_file is None):
        raise click.UsageError("For your own password --old-password-file and --password-file belong together.")
    if name is None and password_file is None and not can_ask():
        raise click.UsageError("Nobody can be asked here: give --old-password-file and --password-file, or a NAME.")
    with connected(settings, At.HOME if name is None else At.MEMBERS) as db:
        if name is None:
            name = _change_own(db, password_file, old_password_file)
            kept = ", but for this one"
        else:
            db.guardian.members.set_password(name, new_password(password_file, name))
            kept = ""
    if settings.json:
        put_json({"name": name, "password_set": True})
    say(settings, f"{name} has a new password; all logins of {name} have ended{kept}. It cannot be undone.")


@user.command("delete")
@click.argument("name")
def delete(name: str) -> None:
    """Remove member NAME with its grants and logins, and revoke the tokens of that name.

    The name has to be typed, or --yes given. It cannot be undone.
    """
    settings = load_settings()
    with connected(settings, At.MEMBERS) as db:
        where = db.whoami().namespace_name
        item = db.guardian.members.get(name)
        ends = "Its logins and grants end, and every token of that name is revoked; it cannot be undone."
        confirm(settings, f"This removes member {name} of namespace {where}. {ends}", item.name)
        db.guardian.members.delete(name)
    if settings.json:
        put_json({"name": name, "deleted": True})
    say(settings, f"Removed member {name} of namespace {where}, with its logins, grants and tokens.")
    say(settings, "It cannot be undone; 'prefixdb user create' makes a new member, with a new password.")


def _change_own(db: Database, password_file: str | None, old_password_file: str | None) -> str:
    """Change the caller's own password and return the caller's name."""
    me = db.whoami()
    name = me.subject
    if not me.member:
        raise click.UsageError(
            f"Only who logged in has a password of one's own to change. Log in first, or name the member whose "
            f"password it is: {command_line('user', 'passwd')} NAME"
        )
    old = known_password(old_password_file, f"{name} until now")
    db.change_password(old, new_password(password_file, name))
    return name


def _check_either(one: str, given: object, other: str, also: object) -> None:
    if given and also:
        raise click.UsageError(f"Give either {one} or {other}.")


def _changed_groups(before: Member, added: Sequence[str], removed: Sequence[str]) -> tuple[str, ...]:
    """Return the groups after the change; a group to leave that the member is not in is most likely a slip."""
    for name in removed:
        if name not in before.groups:
            has = ", ".join(before.groups) or "none"
            raise click.UsageError(f"{before.name} is not in group {name}; nothing was changed. Its groups: {has}.")
    kept = [name for name in before.groups if name not in removed]
    return tuple(kept + [name for name in dict.fromkeys(added) if name not in kept])


def _set_line(name: str) -> str:
    return command_line("user", "set", name)


def _undo_line(before: Member, changes: dict[str, Any]) -> str:
    """Return the command that gives back what was changed."""
    words: list[str] = []
    if "groups" in changes:
        words += [word for name in before.groups for word in ("--group", name)]
        if not before.groups:
            words += [word for name in changes["groups"] for word in ("--remove-group", name)]
    if "privileges" in changes:
        words += [word for item in before.privileges for word in ("--privilege", item.label)]
        words += [] if before.privileges else ["--no-privileges"]
    if "main_namespace" in changes:
        main = before.main_namespace_id
        words += ["--no-main"] if main is None else ["--main", before.main_namespace_name or f"id:{main}"]
    if "disabled" in changes:
        words.append("--disable" if before.disabled else "--enable")
    return command_line("user", "set", before.name, *words)


def _log_in(item: Member) -> str:
    """Return whether the member can log in."""
    return "disabled" if item.disabled else "yes" if item.has_password else "no password"


def _main(item: Member) -> str:
    if item.main_namespace_id is None:
        return "-"
    return item.main_namespace_name or f"id:{item.main_namespace_id} (gone)"


def _row(item: Member) -> list[str]:
    privileges = ", ".join(privilege.label for privilege in item.privileges)
    groups = ", ".join(item.groups)
    return [item.name, groups or "-", _log_in(item), privileges or "-", _main(item), instant(item.created_at)]


def _put_member(settings: Settings, item: Member) -> None:
    row = dict(zip(COLUMNS, _row(item), strict=True))
    words = row | {"updated": instant(item.updated_at), "password set": instant(item.password_changed_at)}
    for name in ("privileges", "main namespace"):
        if words[name] == "-":
            del words[name]
    put_facts(settings, member_json(item), words)


def _put_member_when_seen(settings: Settings, item: Member) -> None:
    """Write a member after a change: to a program that asked for it, or to a person."""
    if settings.json or (stdout_is_terminal() and not settings.quiet):
        _put_member(settings, item)


def member_json(item: Member) -> dict[str, Any]:
    """Return a member for programs. Ids are text: a JSON number would lose bits above 2^53."""
    return {
        "name": item.name,
        "groups": list(item.groups),
        "disabled": item.disabled,
        "has_password": item.has_password,
        "privileges": [privilege.label for privilege in item.privileges],
        "main_namespace_id": None if item.main_namespace_id is None else str(item.main_namespace_id),
        "main_namespace_name": item.main_namespace_name or None,
        "created_at": iso(item.created_at),
        "updated_at": iso(item.updated_at),
        "password_changed_at": iso(item.password_changed_at),
    }
