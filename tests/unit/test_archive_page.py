"""Goal: another implementation can be written from `docs/data-format.md` alone.

Method: the page's example is put together from its hex and compared with the frozen file; the page's reader runs as it
stands on right and damaged archives; the page's text examples are read.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest

from prefixdb.archive import ArchiveReader, Header, Rows, frames_of
from prefixdb.archive.csvrows import read_csv
from prefixdb.archive.jsonlines import read_json_lines
from prefixdb.archive.text import TextOptions
from tests.support import archives_golden as golden
from tests.support.archives import archive, encode, flips, pieces_of, sample_rows

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data-format.md").read_text(encoding="utf-8")
OPTIONS = TextOptions(now_ms=1)


def block(heading: str, language: str = "") -> str:
    """Return the first fenced block below a heading."""
    found = re.search(rf"^#+ {re.escape(heading)}$.*?^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return found.group(1)


def example() -> bytes:
    """Return the bytes of the example: the hex in front of each line's words."""
    lines = [re.match(r"\s*((?:[0-9a-f]{2,} ?)*[0-9a-f]*)(?:  |$)", line) for line in block(EXAMPLE).splitlines()]
    return bytes.fromhex("".join(line.group(1) for line in lines if line is not None))


EXAMPLE = "An archive of one row, byte by byte"
READER = "A reader in twenty lines"


def rows_of(data: bytes) -> list[Any]:
    """Run the page's reader."""
    names: dict[str, Any] = {}
    exec(compile(block(READER, "python"), "docs/data-format.md", "exec"), names)
    return list(names["rows_of"](io.BytesIO(data)))


def test_the_example_is_the_frozen_file_and_an_archive() -> None:
    data = example()
    assert data == (golden.DIRECTORY / "example.archive").read_bytes()
    reader = ArchiveReader()
    header, rows, footer = [reader.read(frame) for frame in frames_of(io.BytesIO(data))]
    assert header == golden.EXAMPLE_HEADER and footer == reader.finish()
    assert isinstance(header, Header) and isinstance(rows, Rows)
    assert (rows.database, list(rows.rows)) == (0, golden.EXAMPLE_ROWS)


def test_the_reader_is_twenty_lines_and_reads_every_kind() -> None:
    assert len([line for line in block(READER, "python").splitlines() if line.strip()]) <= 20
    assert rows_of(example()) == [(0, *row) for row in golden.EXAMPLE_ROWS]
    expected = [(0, *row) for row in sample_rows(40)] + [(3, *row) for row in sample_rows(20, seed=2)]
    for codec in ("none", "zstd"):
        assert rows_of(archive(codec=codec)) == expected
    frozen = [(database, *row) for database, rows in golden.ROWS.items() for row in rows]
    assert rows_of((golden.DIRECTORY / "namespace.archive").read_bytes()) == frozen


def test_the_reader_notices_damage_and_cuts() -> None:
    good = archive(rows=8)
    for position, changed in flips(good, 200):
        with pytest.raises(Exception):  # noqa: B017 - whatever its libraries raise
            pytest.fail(f"byte {position}, rows {len(rows_of(changed))}", pytrace=False)
    frames = encode(pieces_of(rows=8))
    for kept in range(len(frames)):
        with pytest.raises(ValueError, match="cut short"):
            rows_of(b"".join(frames[:kept]))


def test_the_examples_of_text_are_read() -> None:
    lines = block("JSON lines").encode()
    assert list(read_json_lines(io.BytesIO(lines), OPTIONS)) == [
        (0, b"user/1", b"alice", 0, 0),
        (3, b"\x00\xff", b"x", 0, 1_800_000_000_000),
    ]
    assert list(read_csv(io.BytesIO(block("CSV").encode()), OPTIONS)) == [
        (3, b"user/2", b"bob", 0, 1_800_000_000_000),
        (3, b"user/1", b'two\nlines and a "quote"', 0, 0),
    ]
