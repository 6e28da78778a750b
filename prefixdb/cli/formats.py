"""What files of rows are: archives, JSON lines, CSV, RocksDB directories; found out, read and written.

Nothing is imported before it is needed: the archives need msgpack and zstd, the RocksDB directories the server part.
"""

from __future__ import annotations

import enum
import functools
import io
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from prefixdb.cli.meter import Meter
from prefixdb.cli.output import say
from prefixdb.cli.settings import Settings
from prefixdb.cli.text import number

if TYPE_CHECKING:
    from prefixdb.archive import Rows
    from prefixdb.client.models import Exported, ExportedFrame

ARCHIVE_START = b"\x94\xa6header"
"""How every archive begins: a list of four, the first of which is the text "header"."""


class Format(enum.Enum):
    """What a file of rows is."""

    MSGPACK = "msgpack"
    JSONL = "jsonl"
    CSV = "csv"
    ROCKSDB = "rocksdb"


_ENDINGS = {
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSONL,
    ".csv": Format.CSV,
}


_PACKERS = {".gz": "gzip", ".zst": "zstd", ".xz": "xz", ".bz2": "bzip2"}

_NO_TEXT = {
    b"\x1f\x8b": "is compressed; unpack it on the way: zcat FILE | prefixdb load - --format jsonl",
    b"\x28\xb5\x2f\xfd": "is compressed; unpack it on the way: zstdcat FILE | prefixdb load - --format jsonl",
    b"\xfd7zXZ": "is compressed; unpack it on the way: xzcat FILE | prefixdb load - --format jsonl",
    b"BZh": "is compressed; unpack it on the way: bzcat FILE | prefixdb load - --format jsonl",
    b"PK\x03\x04": "is a spreadsheet or a zip file; save it as CSV, in UTF-8 and with commas.",
    b"\xff\xfe": "is UTF-16; save it as UTF-8.",
}
"""Beginnings that no row's text has, and what to do about such a file."""

_CSV_START = re.compile(rb'(\xef\xbb\xbf)?"?(key|value)(_hex|_b64)?"?,')
"""How the line that names the columns mostly begins."""


def export_format(wanted: str | None, out: str) -> Format:
    """Return the format of what is written: the one asked for, else what the name's ending says, else an archive.

    Raises:
        click.UsageError: the name says that the file is compressed, which takes a pipe.
    """
    if wanted is not None:
        return Format(wanted)
    packer = _PACKERS.get(Path(out).suffix.lower())
    if packer is not None:
        inside = _ENDINGS.get(Path(out).with_suffix("").suffix.lower())
        if inside is None:
            raise click.UsageError(f"An archive is compressed already: leave {Path(out).suffix} out of the name.")
        line = f"prefixdb export --format {inside.value} | {packer} > {shlex.quote(out)}"
        raise click.UsageError(f"Text is compressed by a pipe: {line}")
    return _ENDINGS.get(Path(out).suffix.lower(), Format.MSGPACK)


def input_format(wanted: str | None, file: str, opened: BinaryIO | None) -> Format:
    """Return what a file is: what was said, else what its beginning or its ending shows.

    Args:
        wanted: what was said.
        file: its name.
        opened: the file, at its beginning; None for a directory.

    Raises:
        click.UsageError: nothing shows it, or it was said to be a directory and is none.
    """
    if wanted is not None:
        found = Format(wanted)
        if (found is Format.ROCKSDB) != (opened is None):
            what = "is no directory, which a RocksDB is" if found is Format.ROCKSDB else "is a directory"
            raise click.UsageError(f"{file} {what}.")
        return found
    if opened is None:
        return Format.ROCKSDB
    start = _start(opened)
    if start.startswith(ARCHIVE_START):
        return Format.MSGPACK
    what = "Standard input" if file == "-" else file
    for beginning, words in _NO_TEXT.items():
        if start.startswith(beginning):
            raise click.UsageError(f"{what} {words}")
    ending = _ENDINGS.get(Path(file).suffix.lower())
    if ending is not None:
        return ending
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return Format.JSONL
    if _CSV_START.match(start):
        return Format.CSV
    raise click.UsageError(f"{what} shows neither by its beginning nor by its name what it holds: give --format.")


def refuse_text(file: str, opened: BinaryIO) -> None:
    """Refuse a file that shows it is no archive, where only an archive will do.

    Raises:
        click.UsageError: what to do with it.
    """
    start = _start(opened)
    if start[:1] == b"{" or _CSV_START.match(start):
        opened.close()
        what = "Standard input" if file == "-" else file
        raise click.UsageError(
            f"{what} has rows as text, and no namespace. Make one with 'prefixdb ns create', then: "
            f"prefixdb --namespace NAME load {shlex.quote(file)}"
        )


def _start(opened: BinaryIO) -> bytes:
    """Return the first bytes, which stay for whoever reads next."""
    if opened.seekable():
        start = opened.read(64)
        opened.seek(0)
        return start
    return opened.peek(64)[:64] if isinstance(opened, io.BufferedReader) else b""


def put_rows(kind: Format, frames: Iterator[ExportedFrame], out: str, shown: Meter, settings: Settings) -> Exported:
    """Write the rows of an archive as text, or as a RocksDB directory; ``bytes`` of what is returned are the text's.

    Raises:
        click.UsageError: what is there cannot be written so.
    """
    from prefixdb.client.models import Exported

    pages = _pages(frames, shown)
    if kind is Format.ROCKSDB:
        return _put_directory(pages, Path(out), settings)
    if out == "-":
        rows, size = _put_text(kind, pages, cast("BinaryIO", sys.stdout.buffer), settings)
        sys.stdout.buffer.flush()
    else:
        from prefixdb.client.partial_file import PartialFile

        with PartialFile(out) as partial:
            rows, size = _put_text(kind, pages, partial.file, settings)
    return Exported(rows=rows, bytes=size, groups=0, members=0)


def _pages(frames: Iterator[ExportedFrame], shown: Meter) -> Iterator[Rows]:
    from prefixdb.archive import ArchiveReader, Rows

    reader = ArchiveReader()
    for frame in frames:
        content = reader.read(frame.frame)
        if isinstance(content, Rows):
            yield content
        shown.rows(frame.rows_done, frame.rows_estimate, "exporting")


def _put_text(kind: Format, pages: Iterator[Rows], file: BinaryIO, settings: Settings) -> tuple[int, int]:
    """Write rows as text and return how many there were, and the bytes they took."""
    from prefixdb.archive.csvrows import csv_head, csv_lines
    from prefixdb.archive.jsonlines import json_lines
    from prefixdb.client.aio.exporting import write_whole

    enc = "utf8" if settings.enc == "auto" else settings.enc
    rows = size = 0
    to_text = functools.partial(json_lines, with_database=True)
    if kind is Format.CSV:
        to_text = functools.partial(csv_lines, encoding=enc, with_database=True)
        head = csv_head(enc, with_database=True)
        write_whole(file, head)
        size += len(head)
    for page in pages:
        text = to_text(page)
        write_whole(file, text)
        rows += len(page.rows)
        size += len(text)
    return rows, size


def _put_directory(pages: Iterator[Rows], path: Path, settings: Settings) -> Exported:
    """Write the rows of one database as a plain RocksDB directory."""
    from prefixdb.cli.input_file import plain_part
    from prefixdb.client.models import Exported

    rows = mortal = size = 0
    database: int | None = None

    def pairs() -> Iterator[tuple[bytes, bytes]]:
        nonlocal rows, mortal, size, database
        for page in pages:
            if database not in {None, page.database}:
                raise click.UsageError(
                    "There are rows in several databases, which a RocksDB directory cannot keep apart: name one with "
                    "--database."
                )
            database = page.database
            rows += len(page.rows)
            for key, value, _, expires_at_ms in page.rows:
                mortal += expires_at_ms != 0
                size += len(key) + len(value)
                yield key, value

    plain_part().write_directory(path, pairs())
    if mortal:
        say(settings, f"{number(mortal, 'row')} had a lifetime, which a RocksDB directory does not keep.")
    return Exported(rows=rows, bytes=size, groups=0, members=0)
