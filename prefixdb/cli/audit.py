"""``prefixdb audit``: read and check the audit file, on the machine that has it. The server may be running."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from prefixdb.cli.base import group
from prefixdb.cli.config import missing_server
from prefixdb.cli.failures import EXIT_DAMAGED, say_failure
from prefixdb.cli.output import put_facts, put_json, put_table, say
from prefixdb.cli.settings import load_settings
from prefixdb.cli.text import escape
from prefixdb.errors import Reason, error

COLUMNS = ("time", "user", "namespace", "method", "target", "result")

_FILE = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("prefixdb-data"),
    metavar="DIR",
    help="The server's data directory. [prefixdb-data]",
)


@group("audit")
def audit() -> None:
    """The record of administrative acts: show it, and prove that no line was changed."""


@audit.command("show")
@_FILE
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, metavar="N", help="The newest N lines; 0 for all. [50]"
)
def show(data_dir: Path, limit: int) -> None:
    """Print the newest acts, oldest first. Lines that cannot be read are told and left out."""
    settings = load_settings()
    entries: deque[dict[str, Any]] = deque(maxlen=limit or None)
    unreadable = 0
    with _open(data_dir) as lines:
        for line in lines:
            entry = _parse(line)
            if entry is None:
                unreadable += 1
            else:
                entries.append(entry)
    if settings.json:
        for entry in entries:
            put_json(entry)
    else:
        put_table(settings, COLUMNS, [[_cell(entry, name) for name in COLUMNS] for entry in entries], [])
    if unreadable:
        say(settings, f"{unreadable} lines cannot be read; 'prefixdb audit verify' tells which is the first.")


@audit.command("verify")
@_FILE
@click.pass_context
def verify(context: click.Context, data_dir: Path) -> None:
    """Check that every line carries the hash of the one before it.

    Exit status 3 when a line was edited, inserted or removed. Cut-off newest lines show only against a number and hash
    that were noted elsewhere: keep what this prints.
    """
    settings = load_settings()
    _open(data_dir).close()
    finding = _server_audit().verify(data_dir / "audit.jsonl")
    facts = {"lines": finding.lines, "last_hash": finding.last_hash, "intact": not finding.broken_line}
    if not finding.broken_line:
        put_facts(settings, facts, {"lines": str(finding.lines), "last hash": finding.last_hash})
        say(settings, "Every line follows from the one before.")
        return
    message = f"Line {finding.broken_line} of {data_dir / 'audit.jsonl'} is wrong: {finding.problem}."
    advice = f"The {finding.lines} lines before it are intact. Compare with a copy of the file."
    failure = error(Reason.CORRUPTION, message, metadata={"line": str(finding.broken_line)})
    say_failure(failure, as_json=settings.json, advice=advice)
    context.exit(EXIT_DAMAGED)


def _open(data_dir: Path) -> Any:
    path = data_dir / "audit.jsonl"
    try:
        return path.open("rb")
    except OSError as failure:
        message = f"{path} cannot be read: {failure.strerror}. Name the server's data directory with --data-dir."
        raise click.UsageError(message) from failure


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _cell(entry: dict[str, Any], name: str) -> str:
    text = str(entry.get(name, ""))
    shown = text.rsplit("/", 1)[-1] if name == "method" else text
    return escape(shown.encode("utf-8", "surrogatepass"))  # What callers sent must not steer the terminal.


def _server_audit() -> ModuleType:
    try:
        from prefixdb.server import audit as module
    except ImportError as failure:
        raise missing_server(failure) from failure
    return module
