"""``export``: the rows of a namespace, or of a part of it, at one instant."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from prefixdb.cli.base import command
from prefixdb.cli.formats import Format, export_format, put_rows
from prefixdb.cli.logins import kept_login
from prefixdb.cli.meter import Meter, meter
from prefixdb.cli.output import put_json, say, stdout_is_terminal
from prefixdb.cli.session import connected
from prefixdb.cli.settings import Settings, load_settings, namespace_text
from prefixdb.cli.text import decode_argument, number, size
from prefixdb.errors import PrefixdbError, Reason

if TYPE_CHECKING:
    from prefixdb.client.models import Exported, ExportedFrame
    from prefixdb.client.sync import Database


@command("export")
@click.option("--prefix", metavar="KEY", help="Only keys of --database that begin so.")
@click.option(
    "--format",
    "wanted",
    type=click.Choice([item.value for item in Format]),
    help="An archive, JSON lines, CSV, or a RocksDB directory. [what --out's ending says, else msgpack]",
)
@click.option("--codec", type=click.Choice(["zstd", "none"]), default="zstd", show_default=True, help="Of an archive.")
@click.option("--members", is_flag=True, help="Also members with their password hashes, and groups; for guardians.")
@click.option(
    "--out", type=click.Path(), default="-", metavar="FILE", help="Where to; '-' is standard output, the default."
)
def export(prefix: str | None, wanted: str | None, codec: str, members: bool, out: str) -> None:
    """Write the rows of the namespace at one instant: all databases, or the one that --database names.

    Nothing stops meanwhile. FILE appears when all of it is there; it is replaced then. An archive keeps everything,
    also versions; 'import', 'load' and 'backup restore-namespace' take it. JSON lines and CSV are for other programs.

    \b
      prefixdb export --out acme.prefixdb
      prefixdb export --database 3 --prefix user/ --format jsonl | jq .key
    """
    settings = load_settings()
    kind = export_format(wanted, out)
    if members and (kind is not Format.MSGPACK or prefix is not None or settings.given("database")):
        raise click.UsageError("--members goes with an archive of everything: no --format, --database or --prefix.")
    if kind is Format.ROCKSDB and out == "-":
        raise click.UsageError("A RocksDB directory needs a name: --out DIRECTORY.")
    if kind is Format.MSGPACK and out == "-" and stdout_is_terminal():
        raise click.UsageError("An archive is not for a terminal: give --out FILE, a pipe, or --format jsonl.")
    first = None if prefix is None else decode_argument(prefix, settings.enc)
    database = settings.database if prefix is not None or settings.given("database") else None
    with _advice(settings), connected(settings) as db, meter(settings, "Exporting") as shown:
        if kind is Format.MSGPACK:
            done = put_archive(db, out, shown, database=database, prefix=first, members=members, codec=codec)
        else:
            frames = db.export_frames(database=database, prefix=first, codec="none")
            done = put_rows(kind, frames, out, shown, settings)
    what = "every database" if database is None else f"database {database}"
    say_exported(settings, done, what + _whose(settings), out)


def _whose(settings: Settings) -> str:
    """Return whose rows they are, where that is known without asking: an empty export is often one of elsewhere."""
    if settings.namespace is not None:
        return f" of {namespace_text(settings.namespace)}"
    login = kept_login(settings.credentials_file)
    return "" if login is None else f" of {login.namespace_name}"


@contextmanager
def _advice(settings: Settings) -> Iterator[None]:
    """Say what only an export can be told."""
    try:
        yield
    except PrefixdbError as failure:
        if failure.reason is Reason.BAD_FIELD and failure.metadata.get("field") == "encoding":
            failure.message = "There are keys or values that are not UTF-8, which CSV cannot hold as text."
            failure.add_note("Use --enc base64 or --enc hex, or --format jsonl.")
        elif failure.reason is Reason.NOT_PERMITTED and settings.given("namespace"):
            line = shlex.join(["prefixdb", "backup", "namespace", namespace_text(settings.namespace), "--out", "FILE"])
            failure.add_note(f"Cluster guardians export another namespace with: {line}")
        elif failure.reason is Reason.NOT_PERMITTED:
            failure.add_note(
                "An export takes the right to read every row it asks for, and --members a guardian. 'prefixdb whoami' "
                "shows your rights; name a part with --database and --prefix."
            )
        raise


def put_archive(db: Database, out: str, shown: Meter, **wishes: Any) -> Exported:
    """Write an archive to a file, or to standard output for "-"."""

    def tell(frame: ExportedFrame) -> None:
        shown.rows(frame.rows_done, frame.rows_estimate, "exporting")

    if out != "-":
        return db.export(out, on_progress=tell, **wishes)
    done = db.export(cast("BinaryIO", sys.stdout.buffer), on_progress=tell, **wishes)
    sys.stdout.buffer.flush()
    return done


def say_exported(settings: Settings, done: Exported, what: str, out: str) -> None:
    """Say what was exported; as JSON when that was asked for and standard output is not the data's."""
    if settings.json and out != "-":
        put_json({"rows": done.rows, "bytes": done.bytes, "groups": done.groups, "members": done.members})
    people = ""
    if done.members or done.groups:
        people = f", {number(done.members, 'member')}, {number(done.groups, 'group')}"
    where = "" if out == "-" else f" to {out}"
    say(settings, f"Exported {number(done.rows, 'row')} of {what}{people}{where}: {size(done.bytes)}.")
