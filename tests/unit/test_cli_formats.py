"""Goal: a file that cannot be what it is taken for is refused with what to do instead, before anything is sent.

Method: the beginnings and names of such files, one by one; those that are right are found out without being told.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import click
import pytest

from prefixdb.cli.formats import Format, export_format, input_format, refuse_text
from prefixdb.client.partial_file import PartialFile


def found(path: Path, data: bytes) -> Format:
    path.write_bytes(data)
    with path.open("rb") as opened:
        return input_format(None, path.name, opened)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"key,value\na,b\n", Format.CSV),
        (b"\xef\xbb\xbfkey,value\r\n", Format.CSV),
        (b'"value_b64","key_hex"\n', Format.CSV),
        (b' \n{"key": "a"}', Format.JSONL),
        (b"\x94\xa6header", Format.MSGPACK),
    ],
)
def test_a_beginning_shows_what_a_file_is(data: bytes, what: Format, tmp_path: Path) -> None:
    assert found(tmp_path / "file", data) is what


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x1f\x8b\x08", "zcat"),
        (b"\x28\xb5\x2f\xfd", "zstdcat"),
        (b"\xfd7zXZ\x00", "xzcat"),
        (b"BZh9", "bzcat"),
        (b"PK\x03\x04", "save it as CSV"),
        (b"\xff\xfek\x00", "UTF-16"),
        (b"something", "give --format"),
    ],
)
def test_what_is_no_text_is_refused_with_the_way_to_make_it_one(data: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=words):
        found(tmp_path / "file", data)
    if "--format" not in words:
        with pytest.raises(click.UsageError, match=words):
            found(tmp_path / "file.csv", data)


def test_a_name_that_promises_compressed_text_is_refused_with_the_pipe_that_makes_it() -> None:
    for name, words in (("a b.jsonl.gz", "--format jsonl \\| gzip > 'a b.jsonl.gz'"), ("rows.CSV.ZST", "csv \\| zstd")):
        with pytest.raises(click.UsageError, match=words):
            export_format(None, name)
    with pytest.raises(click.UsageError, match="compressed already"):
        export_format(None, "acme.gz")
    assert export_format("msgpack", "acme.gz") is Format.MSGPACK
    assert export_format(None, "acme.prefixdb") is Format.MSGPACK


@pytest.mark.parametrize("data", [b'{"key": "a", "value": "b"}\n', b"key,value\n"])
def test_rows_as_text_are_no_namespace(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(data)
    opened = (tmp_path / "rows").open("rb")
    with pytest.raises(click.UsageError, match="prefixdb --namespace NAME load"):
        refuse_text("rows", opened)
    assert opened.closed
    (tmp_path / "rows").write_bytes(b"\x94\xa6header")
    with (tmp_path / "rows").open("rb") as opened:
        refuse_text("rows", opened)
        assert opened.tell() == 0


def test_the_file_that_a_full_disk_refuses_is_named() -> None:
    with pytest.raises(OSError) as refusal, PartialFile("/dev/full") as partial:
        partial.file.write(b"x" * (4 << 20))
    assert (refusal.value.errno, refusal.value.filename) == (errno.ENOSPC, "/dev/full")
    with pytest.raises(OSError) as late, PartialFile("/dev/full") as partial:
        partial.file.write(b"x")
    assert (late.value.errno, late.value.filename) == (errno.ENOSPC, "/dev/full")
    with pytest.raises(ConnectionResetError) as lost, PartialFile(os.devnull):
        raise ConnectionResetError(errno.ECONNRESET, "gone")
    assert lost.value.filename is None
