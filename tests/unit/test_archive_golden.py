"""Goal: what was written once is read for ever, and what is written today is the same.

Method: frozen files in `tests/data/archives` are read and compared with what they were made of; those that no
compression makes depend on a library's version are written again, byte for byte.
"""

from __future__ import annotations

import io
from typing import Any

import pytest

from prefixdb.archive import ArchiveReader, ArchiveWriter, Footer, Groups, Header, Members, Rows, frames_of
from prefixdb.archive.csvrows import csv_head, csv_lines, read_csv
from prefixdb.archive.jsonlines import json_lines, read_json_lines
from prefixdb.archive.text import ENCODINGS, TextOptions
from tests.support import archives_golden as golden

TEXT_BATCH = Rows(3, golden.TEXT_ROWS)
OPTIONS = TextOptions(now_ms=1)
TEXT_FOUND = [(3, *row) for row in golden.TEXT_ROWS]


def contents(name: str) -> list[Any]:
    """Return what a frozen archive holds, rows as lists."""
    reader = ArchiveReader()
    with (golden.DIRECTORY / name).open("rb") as file:
        found = [reader.read(frame) for frame in frames_of(file)]
    reader.finish()
    return [Rows(one.database, list(one.rows)) if isinstance(one, Rows) else one for one in found]


def written(header: Header, *batches: Rows, whole: bool = False) -> bytes:
    """Return an archive; ``whole`` with groups and members."""
    writer = ArchiveWriter(header)
    frames = [writer.header()]
    if whole:
        frames += [writer.groups(golden.GROUPS), writer.members(golden.MEMBERS)]
    frames += [writer.rows(*batch) for batch in batches]
    return b"".join([*frames, writer.footer()])


def test_an_archive_of_a_whole_namespace() -> None:
    batches = [Rows(database, rows) for database, rows in golden.ROWS.items()]
    assert contents("namespace.archive") == [
        golden.HEADER,
        Groups(tuple(golden.GROUPS)),
        Members(tuple(golden.MEMBERS)),
        *batches,
        Footer(5, 2, 2, 2**64 - 1),
    ]
    assert written(golden.HEADER, *batches, whole=True) == (golden.DIRECTORY / "namespace.archive").read_bytes()


def test_a_compressed_archive_of_one_prefix() -> None:
    batch = Rows(3, golden.PREFIX_ROWS)
    assert contents("prefix-zstd.archive") == [golden.PREFIX_HEADER, batch, Footer(500, 0, 0, 100)]


def test_an_archive_of_plain_rows_in_no_order() -> None:
    header = Header(kind="rows", codec="none", sorted=False, created_at_ms=1)
    assert contents("rows.archive") == [header, TEXT_BATCH, Footer(3, 0, 0, 0)]
    assert written(header, TEXT_BATCH) == (golden.DIRECTORY / "rows.archive").read_bytes()


def test_json_lines() -> None:
    data = (golden.DIRECTORY / "rows.jsonl").read_bytes()
    assert json_lines(TEXT_BATCH, with_database=True) == data
    assert list(read_json_lines(io.BytesIO(data), OPTIONS)) == TEXT_FOUND


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_csv(encoding: str) -> None:
    data = (golden.DIRECTORY / f"rows-{encoding}.csv").read_bytes()
    assert csv_head(encoding, with_database=True) + csv_lines(TEXT_BATCH, encoding, with_database=True) == data
    assert list(read_csv(io.BytesIO(data), OPTIONS)) == TEXT_FOUND
