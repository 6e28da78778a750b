"""Rules as people write them: ``RIGHTS[:DATABASE[:PREFIX]]``, and back.

rw             read and write everything
r:0            read database 0
w:*:queue/     write the keys that begin with "queue/", in every database

What is printed can be given to ``--rule`` again, under the same ``--enc``.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.text import decode_argument, encode_output, escape, json_bytes

if TYPE_CHECKING:
    from prefixdb.client.models import Rule

FORM = "RIGHTS[:DATABASE[:PREFIX]]"

_RIGHTS = {"r": (True, False), "w": (False, True), "rw": (True, True)}


def parse_rules(texts: Iterable[str], enc: str) -> tuple[Rule, ...]:
    """Return the rules that the command line names.

    Raises:
        click.UsageError: one is not written as ``FORM``.
    """
    return tuple(_parse_rule(text, enc) for text in texts)


def _parse_rule(text: str, enc: str) -> Rule:
    from prefixdb.client.models import Rule

    rights, _, rest = text.partition(":")
    database, _, prefix = rest.partition(":")
    if rights not in _RIGHTS:
        raise click.UsageError(f"{text!r} is no rule: it begins with r, w or rw, as in {FORM}, for example r:0:user/.")
    if not database and ":" in text:
        raise click.UsageError(f"{text!r} is no rule: after the first colon comes a database, a number or * for every.")
    if database in {"", "*"}:
        number = None
    elif database.isascii() and database.isdigit() and int(database) <= 65535:
        number = int(database)
    else:
        raise click.UsageError(f"{text!r} is no rule: {database!r} is no database; write 0 to 65535, or * for every.")
    read, write = _RIGHTS[rights]
    return Rule(database=number, prefix=decode_argument(prefix, enc), read=read, write=write)


def rule_text(rule: Rule, enc: str) -> str:
    """Return a rule as ``--rule`` takes it, as short as it can be.

    A prefix that cannot be shown as text is escaped under ``--enc auto`` (see ``typeable``).
    """
    rights = ("r" if rule.read else "") + ("w" if rule.write else "")
    database = "*" if rule.database is None else str(rule.database)
    if rule.prefix:
        prefix = rule.prefix.decode() if enc == "auto" and typeable(rule) else encode_output(rule.prefix, enc)
        return f"{rights}:{database}:{prefix}"
    return rights if rule.database is None else f"{rights}:{database}"


def typeable(rule: Rule) -> bool:
    """True when the prefix is text that can be shown and typed as it is."""
    try:
        return rule.prefix.decode().isprintable()
    except UnicodeDecodeError:
        return False


def rule_words(rule: Rule) -> str:
    """Return what a rule permits in words."""
    rights = " and ".join([*(["read"] if rule.read else []), *(["write"] if rule.write else [])]) or "nothing"
    database = "every database" if rule.database is None else f"database {rule.database}"
    keys = f", keys beginning with {escape(rule.prefix)}" if rule.prefix else ""
    return f"{rights} {database}{keys}"


def rule_json(rule: Rule, enc: str) -> dict[str, Any]:
    """Return a rule for programs."""
    return {
        "database": rule.database,
        **json_bytes("prefix", rule.prefix, enc),
        "read": rule.read,
        "write": rule.write,
    }


def rule_flags(rules: Sequence[Rule]) -> str:
    """Return the options of a command line that says exactly these rules, quoted for a shell."""
    enc = "auto" if all(typeable(rule) for rule in rules) else "hex"
    words = [word for rule in rules for word in ("--rule", rule_text(rule, enc))]
    return shlex.join([*([] if enc == "auto" else ["--enc", enc]), *words])
