"""A file of rows as the frames of an upload: an archive as it is, text and RocksDB directories converted on the way.

A conversion is begun again when the upload has to go back, and makes the same bytes each time: whatever it depends on
(the database, the moment that lifetimes count from) is fixed when the upload begins.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

import click

from prefixdb.cli.formats import Format
from prefixdb.cli.output import say
from prefixdb.cli.settings import Settings
from prefixdb.errors import PrefixdbError, Reason

if TYPE_CHECKING:
    from prefixdb.archive.text import BadLine, OnBad, Rejects, TextRow
    from prefixdb.client.partial_file import PartialFile

TOLD_MAX = 10
"""Bad lines that are told one by one; a file with the wrong separator has millions of them."""


def open_input(file: str) -> BinaryIO:
    """Open a file, or standard input for "-".

    Standard input gets a reader of its own: one of Python's that is still waiting in a thread when the program is
    interrupted would make its end a crash.
    """
    if file != "-":
        return Path(file).open("rb")
    try:
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    except (AttributeError, io.UnsupportedOperation):
        return cast("BinaryIO", sys.stdin.buffer)


class InputFile:
    """The rows of a file, for ``import_archive``; use it as a context manager.

    Args:
        settings: how to speak, and the database of rows that name none.
        file: its name, "-" for standard input, or a directory.
        kind: what it is.
        opened: the file; None for a directory.
        now_ms: the moment that lifetimes count from.
        in_order: whether the keys ascend.
        reject: where lines go that are no rows; None to stop at the first.
    """

    def __init__(
        self,
        settings: Settings,
        file: str,
        kind: Format,
        opened: BinaryIO | None,
        *,
        now_ms: int,
        in_order: bool,
        reject: str | None,
    ) -> None:
        from prefixdb.client.frame_source import FrameSource, archive_source

        self._settings = settings
        self._file = file
        self._kind = kind
        self._opened = opened
        self._now_ms = now_ms
        self.in_order = in_order
        self._reject_file = None if reject is None else _reject_file(file, reject)
        self._rejects: Rejects | None = None
        self._told = 0
        self.again = opened is None or opened.seekable()
        """True when the same command can send it once more."""
        if kind is Format.MSGPACK and opened is not None:
            self.frames = archive_source(opened)
            return
        self._size = 0
        if opened is not None and self.again:
            self._size = opened.seek(0, os.SEEK_END)
            opened.seek(0)
        self.frames = FrameSource(self._convert, again=self.again, share=self._share)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reject_file is not None:
            self._reject_file.discard()
        # A reader that waits for a pipe cannot be closed; it goes with the process.
        if self._opened is not None and self.again:
            self._opened.close()

    @property
    def is_text(self) -> bool:
        """True when it has lines."""
        return self._kind in {Format.JSONL, Format.CSV}

    @property
    def is_archive(self) -> bool:
        """True when it is sent as it is."""
        return self._kind is Format.MSGPACK

    @property
    def rejected(self) -> int:
        """Lines that were no rows."""
        return 0 if self._rejects is None else self._rejects.count

    def keep_rejects(self) -> None:
        """Give the file of rejected lines its name."""
        if self._reject_file is not None:
            self._reject_file.commit()

    def _share(self) -> float:
        return min(1.0, self._opened.tell() / self._size) if self._opened is not None and self._size else 0.0

    def _convert(self) -> Iterator[bytes]:
        from prefixdb.client.row_source import row_frames

        return row_frames(self._rows(), created_at_ms=self._now_ms, in_order=self.in_order)

    def _rows(self) -> Iterator[TextRow]:
        on_bad = self._on_bad()
        if self._opened is None:
            yield from self._directory_rows(on_bad)
            return
        from prefixdb.archive.csvrows import read_csv
        from prefixdb.archive.jsonlines import read_json_lines
        from prefixdb.archive.text import TextOptions

        if self.again:
            self._opened.seek(0)
        enc = self._settings.enc
        options = TextOptions(self._now_ms, self._settings.database, "utf8" if enc == "auto" else enc)
        read = read_csv if self._kind is Format.CSV else read_json_lines
        yield from read(self._opened, options, on_bad)

    def _directory_rows(self, on_bad: OnBad) -> Iterator[TextRow]:
        from prefixdb.archive.text import BadLine

        open_rows = plain_part().open_rows

        def unreadable(row: int, reason: str) -> None:
            on_bad(BadLine(row, reason, json.dumps({"row": row, "reason": reason}).encode() + b"\n"))

        database = self._settings.database
        wanted = None if self._reject_file is None else unreadable
        try:
            for key, value in open_rows(Path(self._file), on_unreadable=wanted):
                yield database, key, value, 0, 0
        except PrefixdbError as failure:
            if failure.reason is Reason.DIRECTORY_LOCKED:
                failure.add_note("Nothing was applied. The directory has to be closed while it is read.")
            raise

    def _on_bad(self) -> OnBad:
        """Return what a bad line meets; begins the file of rejected lines anew."""
        from prefixdb.archive.text import Rejects, refuse

        if self._reject_file is None:
            return refuse
        self._reject_file.restart()
        self._rejects = Rejects(self._reject_file.file, self._tell)
        return self._rejects

    def _tell(self, bad: BadLine) -> None:
        count = self.rejected
        if count <= self._told:
            return
        self._told = count
        if count <= TOLD_MAX:
            what = "row" if self._kind is Format.ROCKSDB else "line"
            say(self._settings, f"{what} {bad.line}: {bad.reason}")
        elif count == TOLD_MAX + 1:
            say(self._settings, "… and more; they are counted at the end.")


def plain_part() -> Any:
    """Return the module that reads and writes RocksDB directories.

    Raises:
        click.UsageError: the server part is not installed.
    """
    try:
        from prefixdb.backup import plain
    except ImportError as cause:
        raise click.UsageError("RocksDB directories take the server part: pip install 'prefixdb[server]'.") from cause
    return plain


def _reject_file(file: str, reject: str) -> PartialFile:
    from prefixdb.client.partial_file import PartialFile

    if file != "-" and Path(reject).exists() and Path(reject).samefile(file):
        raise click.UsageError("--reject names the file that is read; choose another.")
    return PartialFile(reject)
