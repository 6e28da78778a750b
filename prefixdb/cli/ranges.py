"""``scan``, ``count`` and ``mget``: many rows at once."""

from __future__ import annotations

from collections.abc import Mapping

import click

from prefixdb.cli.base import command
from prefixdb.cli.output import Lines, put_json
from prefixdb.cli.session import connected
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.cli.text import decode_argument, encode_output, json_bytes, json_line, number
from prefixdb.errors import KeyNotFoundError, Reason

_PREFIX = click.option("--prefix", metavar="KEY", help="Only keys that begin so.")
_START = click.option("--start", metavar="KEY", help="From this key on.")
_END = click.option("--end", metavar="KEY", help="Up to, but not with, this key.")


def _bounds(
    settings: Settings, prefix: str | None, start: str | None, end: str | None
) -> tuple[bytes | None, bytes | None, bytes | None]:
    if prefix is not None and (start is not None or end is not None):
        raise click.UsageError("Give either --prefix or --start and --end.")
    first, begin, behind = (
        None if text is None else decode_argument(text, settings.enc) for text in (prefix, start, end)
    )
    return first, begin, behind


@command("scan")
@_PREFIX
@_START
@_END
@click.option("--reverse", is_flag=True, help="From the last key to the first.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many rows.")
@click.option("--keys-only", is_flag=True, help="Leave the values out.")
def scan(
    prefix: str | None, start: str | None, end: str | None, reverse: bool, limit: int | None, keys_only: bool
) -> None:
    """Print the rows of a range in key order: key, tab, value.

    Bytes that are not printable are escaped (see --enc), so every row is one line. A scan goes on by itself when the
    server restarts.
    """
    settings = load_settings()
    first, begin, behind = _bounds(settings, prefix, start, end)
    lines = Lines()
    with connected(settings) as db:
        if keys_only:
            for key in db.scan(first, start=begin, end=behind, reverse=reverse, limit=limit, keys_only=True):
                lines.put(_line(settings, key, None))
        else:
            for row in db.scan_rows(first, start=begin, end=behind, reverse=reverse, limit=limit):
                facts = {"version": row.version, "ttl_s": row.ttl}
                lines.put(_line(settings, row.key, row.value, facts))
    lines.flush()


def _line(settings: Settings, key: bytes, value: bytes | None, facts: Mapping[str, object] | None = None) -> str:
    """Return one row as one line."""
    if settings.json:
        content: dict[str, object] = dict(json_bytes("key", key, settings.enc))
        if value is not None:
            content |= json_bytes("value", value, settings.enc)
        return json_line(content | dict(facts or {}))
    name = encode_output(key, settings.enc)
    return name if value is None else f"{name}\t{encode_output(value, settings.enc)}"


@command("count")
@_PREFIX
@_START
@_END
def count(prefix: str | None, start: str | None, end: str | None) -> None:
    """Print the exact number of rows of a range.

    The server walks them: give a large range a long --timeout.
    """
    settings = load_settings()
    first, begin, behind = _bounds(settings, prefix, start, end)
    with connected(settings) as db:
        rows = db.count(first, start=begin, end=behind)
    if settings.json:
        put_json({"count": rows})
    else:
        click.echo(rows)


@command("mget")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def mget(keys: tuple[str, ...]) -> None:
    """Print the rows of several KEYs.

    Those that exist are read at one instant: key, tab, value.

    Exit status 1 when one of them does not exist; the others are printed all the same.
    """
    settings = load_settings()
    names = [decode_argument(key, settings.enc) for key in keys]
    with connected(settings) as db:
        found = db.get_many(names)
    lines = Lines()
    for name in names:
        if name in found:
            lines.put(_line(settings, name, found[name]))
    lines.flush()
    missing = sum(name not in found for name in names)
    if missing:
        raise KeyNotFoundError(Reason.KEY_NOT_FOUND, f"{number(missing, 'key')} of {len(names)} not found.")
