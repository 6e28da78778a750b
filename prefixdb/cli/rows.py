"""``get``, ``put`` and ``del``: single rows, and the deletion of ranges."""

from __future__ import annotations

from pathlib import Path

import click

from prefixdb.cli.arguments import DURATION, read_stdin_bytes
from prefixdb.cli.base import command
from prefixdb.cli.output import put_bytes, put_json, say, stdout_is_terminal
from prefixdb.cli.session import confirm, connected
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.cli.text import decode_argument, encode_output, escape, json_bytes, number
from prefixdb.errors import KeyNotFoundError, Reason


@command("get")
@click.argument("key")
def get(key: str) -> None:
    """Print the value of KEY.

    Into a pipe or a file go the exact bytes, nothing added; on a terminal they are escaped and end with a newline.
    Exit status 1 when there is no such key.
    """
    settings = load_settings()
    with connected(settings) as db:
        row = db.get_row(decode_argument(key, settings.enc))
    if row is None:
        raise KeyNotFoundError(Reason.KEY_NOT_FOUND)
    if settings.json:
        facts = json_bytes("key", row.key, settings.enc) | json_bytes("value", row.value, settings.enc)
        put_json(facts | {"version": row.version, "ttl_s": row.ttl})
    elif settings.enc != "auto":
        click.echo(encode_output(row.value, settings.enc))
    elif stdout_is_terminal():
        click.echo(escape(row.value))
    else:
        put_bytes(row.value)


@command("put")
@click.argument("key")
@click.argument("value", required=False)
@click.option("--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Value from a file.")
@click.option("--ttl", type=DURATION, metavar="TIME", help="Lifetime, such as 90s, 1h or 7d.")
@click.option("--if-absent", is_flag=True, help="Write only if there is no such key.")
@click.option("--if-version", type=click.IntRange(1), metavar="N", help="Write only if the row has this version.")
def put(
    key: str, value: str | None, file: Path | None, ttl: float | None, if_absent: bool, if_version: int | None
) -> None:
    """Write VALUE under KEY.

    VALUE '-' reads standard input, --file reads a file; both take the bytes as they are. Exit status 1 when the
    condition does not hold.
    """
    settings = load_settings()
    if (value is None) == (file is None):
        raise click.UsageError("Give either a VALUE ('-' for standard input) or --file.")
    if if_absent and if_version is not None:
        raise click.UsageError("Give either --if-absent or --if-version.")
    name = decode_argument(key, settings.enc)
    with connected(settings) as db:
        content = _content(settings, value, file)
        version = db.put(name, content, ttl=ttl, if_absent=if_absent, if_version=if_version)
    if settings.json:
        put_json({"version": version})
    elif stdout_is_terminal():
        say(settings, f"Written, version {version}.")


def _content(settings: Settings, value: str | None, file: Path | None) -> bytes:
    """Return the value's bytes."""
    if file is not None:
        return file.read_bytes()
    if value == "-":
        return read_stdin_bytes()
    return decode_argument(value or "", settings.enc)


@command("del")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--prefix", metavar="KEY", help="Every key that begins so; '' is the whole database.")
@click.option("--start", metavar="KEY", help="Every key from this one on.")
@click.option("--end", metavar="KEY", help="Every key before this one.")
@click.option("--if-version", type=click.IntRange(1), metavar="N", help="Only if the row has this version (one KEY).")
def delete(
    keys: tuple[str, ...], prefix: str | None, start: str | None, end: str | None, if_version: int | None
) -> None:
    """Delete KEYs, or every key of a range.

    Several keys go in one step, all or none. Deleting what is not there succeeds. A range is counted first and its size
    has to be typed, or --yes given.
    """
    settings = load_settings()
    ranged = prefix is not None or start is not None or end is not None
    if bool(keys) == ranged:
        raise click.UsageError("Give either KEYs or a range (--prefix, --start, --end).")
    if if_version is not None and len(keys) != 1:
        raise click.UsageError("--if-version goes with exactly one KEY.")
    if ranged:
        _delete_range(settings, prefix, start, end)
        return
    names = [decode_argument(key, settings.enc) for key in keys]
    with connected(settings) as db:
        if if_version is not None:
            version: int | None = db.delete(names[0], if_version=if_version)
        else:
            with db.batch() as batch:
                for name in names:
                    batch.delete(name)
            version = batch.version
    if settings.json:
        put_json({"version": version})
    elif stdout_is_terminal():
        say(settings, f"Deleted {number(len(names), 'key')}, version {version}.")


def _delete_range(settings: Settings, prefix: str | None, start: str | None, end: str | None) -> None:
    first, begin, behind = (
        None if text is None else decode_argument(text, settings.enc) for text in (prefix, start, end)
    )
    with connected(settings) as db:
        count = db.count(first, start=begin, end=behind)
        if count:
            what = f"This deletes {number(count, 'row')} of database {settings.database} and cannot be undone."
            confirm(settings, what, str(count))
        version = db.delete_range(first, start=begin, end=behind)
    if settings.json:
        put_json({"version": version, "rows": count})
    say(settings, f"Deleted {number(count, 'row')} (as counted just before), version {version}. It cannot be undone.")
