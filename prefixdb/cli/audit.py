"""``prefixdb audit``: read and check the audit, on the machine that has the file or through the server.

The server may be running while its file is read.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from prefixdb.cli.base import group
from prefixdb.cli.config import missing_server
from prefixdb.cli.failures import EXIT_DAMAGED, say_failure
from prefixdb.cli.output import put_facts, put_json, put_table, say, stdout_is_terminal
from prefixdb.cli.session import At, connected
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.cli.text import escape
from prefixdb.errors import Reason, error

COLUMNS = ("time", "user", "namespace", "method", "target", "result")

DATA_DIR = Path("prefixdb-data")

_FILE = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The server's data directory, on this machine. [prefixdb-data]",
)
_REMOTE = click.option(
    "--remote",
    is_flag=True,
    help="Through the server instead, for cluster guardians and the privilege audit.",
)


@group("audit")
def audit() -> None:
    """The record of administrative acts: show and verify it."""


@audit.command("show")
@_FILE
@_REMOTE
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, metavar="N", help="The newest N lines; 0 for all. [50]"
)
def show(data_dir: Path | None, remote: bool, limit: int) -> None:
    """Print the newest acts, oldest first. Lines that cannot be read are told and left out."""
    settings = load_settings()
    entries: deque[dict[str, Any]] = deque(maxlen=limit or None)
    unreadable = 0
    with _lines(settings, data_dir, remote, limit) as lines:
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
        _put_entries(settings, entries)
    if unreadable:
        say(settings, f"{unreadable} lines cannot be read; 'prefixdb audit verify' tells which is the first.")


@audit.command("verify")
@_FILE
@_REMOTE
@click.pass_context
def verify(context: click.Context, data_dir: Path | None, remote: bool) -> None:
    """Check that every line carries the hash of the one before it.

    Exit status 3 when a line was edited, inserted or removed. Cut-off newest lines show only against a number and hash
    that were noted elsewhere: keep what this prints. With --remote the lines are fetched and checked here.
    """
    settings = load_settings()
    module = _server_audit()
    if remote:
        place, finding = f"the audit of {settings.endpoint}", _verify_remote(settings, module, data_dir)
    else:
        directory = data_dir or DATA_DIR
        _open(directory).close()
        place, finding = str(directory / "audit.jsonl"), module.verify(directory / "audit.jsonl")
    facts = {"lines": finding.lines, "last_hash": finding.last_hash, "intact": not finding.broken_line}
    if not finding.broken_line:
        put_facts(settings, facts, {"lines": str(finding.lines), "last hash": finding.last_hash})
        say(settings, "Every line follows from the one before.")
        return
    message = f"Line {finding.broken_line} of {place} is wrong: {finding.problem}."
    advice = f"The {finding.lines} lines before it are intact. Compare with a copy of the file."
    failure = error(Reason.CORRUPTION, message, metadata={"line": str(finding.broken_line)})
    say_failure(failure, as_json=settings.json, advice=advice)
    context.exit(EXIT_DAMAGED)


@contextmanager
def _lines(settings: Settings, data_dir: Path | None, remote: bool, newest: int) -> Iterator[Iterable[bytes]]:
    """Yield lines of the audit, the newest ones or all when that is 0; from a file possibly more."""
    if not remote:
        with _open(data_dir or DATA_DIR) as lines:
            yield lines
        return
    if data_dir is not None:
        raise click.UsageError("Give either --data-dir or --remote.")
    with connected(settings, At.HOME) as db:
        # A line with a lone surrogate would be the server's mistake; it is shown as a line that cannot be read.
        yield (line.encode("utf-8", "surrogatepass") for line in db.guardian.audit.read(newest))


def _verify_remote(settings: Settings, module: ModuleType, data_dir: Path | None) -> Any:
    """Fetch the whole audit into a file that only lives as long as it is checked."""
    with tempfile.TemporaryDirectory(prefix="prefixdb-audit-") as directory:
        copy = Path(directory) / "audit.jsonl"
        with _lines(settings, data_dir, True, 0) as lines, copy.open("wb") as file:
            for line in lines:
                file.write(line + b"\n")
        return module.verify(copy)


def _open(data_dir: Path) -> Any:
    path = data_dir / "audit.jsonl"
    try:
        return path.open("rb")
    except OSError as failure:
        message = (
            f"{path} cannot be read: {failure.strerror}. Name the server's data directory with --data-dir, or ask the "
            "server with --remote."
        )
        raise click.UsageError(message) from failure


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _put_entries(settings: Settings, entries: Iterable[dict[str, Any]]) -> None:
    """Write a line for each act. A terminal has the target last, where a long one hurts no other column."""
    if not stdout_is_terminal():
        put_table(settings, COLUMNS, [[_cell(entry, name) for name in COLUMNS] for entry in entries], [])
        return
    columns = [name for name in COLUMNS if name != "target"] + ["target"]
    rows = [columns, *([_cell(entry, name) or "-" for name in columns] for entry in entries)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(entry: dict[str, Any], name: str) -> str:
    text = str(entry.get(name, ""))
    shown = text.rsplit("/", 1)[-1] if name == "method" else text
    if name == "time" and stdout_is_terminal():
        # As times are written everywhere; the second is enough for a person, and room is short.
        shown = re.sub(r"\.[0-9]+Z$", "Z", text).replace("T", " ")
    return escape(shown.encode("utf-8", "surrogatepass"))  # What callers sent must not steer the terminal.


def _server_audit() -> ModuleType:
    try:
        from prefixdb.server import audit as module
    except ImportError as failure:
        raise missing_server(failure) from failure
    return module
