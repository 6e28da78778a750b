"""Reads an archive, frame by frame, and believes nothing.

A frame is taken when it stands where it may, its digest continues the chain, its body unfolds to exactly the size it
promised, and its content is exactly what its kind may say. The first frame that is not ends the reading:
ARCHIVE_INVALID, with the place in the message and in ``metadata["place"]``.
"""

from __future__ import annotations

from prefixdb.archive.bodies import new_decompressor, unfold
from prefixdb.archive.contents import (
    Footer,
    Groups,
    Header,
    Members,
    decode_footer,
    decode_groups,
    decode_header,
    decode_members,
)
from prefixdb.archive.frames import START_DIGEST, Fault, Frame, damaged, next_frame, place_of
from prefixdb.archive.order import Order
from prefixdb.archive.rows import Rows, decode_rows
from prefixdb.archive.scanned import RowsScanner, ScannedRows

__all__ = ["ArchiveReader", "Content"]

Content = Header | Groups | Members | Rows | ScannedRows | Footer
"""What a frame can hold. Packed rows come from readers that were given a scanner only."""


class ArchiveReader:
    """Checks the frames of one archive and returns what they hold.

    A frame that is refused changes nothing: the reader stands where it stood.

    Not thread-safe, but each call may come from another thread; the lock of the interpreter is released while a large
    body is hashed or decompressed.

    Memory: a frame and what it unfolds to: about 64 times ARCHIVE_FRAME_BYTES_MAX for the most hostile one.

    Args:
        scanner: looks through rows, which are then returned packed; without it they are decoded.

    Attributes:
        digest: of the last frame that was taken.
        frames, bytes: taken so far.
    """

    def __init__(self, scanner: RowsScanner | None = None) -> None:
        self._scanner = scanner
        self.digest = START_DIGEST
        self.frames = 0
        self.bytes = 0
        self._order = Order()
        self._footer: Footer | None = None
        self._decompressor = new_decompressor()

    @property
    def header(self) -> Header:
        """The header. RuntimeError before it was read."""
        if self._order.header is None:
            raise RuntimeError("the header has not been read")
        return self._order.header

    @property
    def rows(self) -> int:
        """Rows read so far."""
        return self._order.counts()[0]

    @property
    def sorted(self) -> bool:
        """True when the rows ascend strictly by (database, key), as the header says and the reader checks."""
        return self.header.sorted

    @property
    def place(self) -> str:
        """Where the next frame begins."""
        return place_of(self.frames + 1, self.bytes)

    def read(self, data: bytes) -> Content:
        """Return what the next frame holds.

        Args:
            data: the frame, exactly.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID.
            FailedPreconditionError: FORMAT_TOO_NEW.
        """
        try:
            frame = next_frame(self.digest, data)
            content = self._take(frame)
        except Fault as fault:
            raise damaged(self.place, str(fault)) from None
        self.digest = frame.digest
        self.frames += 1
        self.bytes += len(data)
        return content

    def finish(self) -> Footer:
        """Return the footer when the archive is complete.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID when it is cut short.
        """
        if self._footer is None:
            raise damaged(self.place, "The archive is cut short: there is no footer.")
        return self._footer

    def _take(self, frame: Frame) -> Content:
        if frame.kind == "header":
            if frame.raw_bytes != len(frame.body):
                raise Fault("The header's size is not what it promises.")
            header = decode_header(frame.body)
            self._order.begin(header)
            return header
        self._order.expect(frame.kind)
        raw = unfold(frame, self.header.codec, self._decompressor)
        if frame.kind == "rows":
            facts = None if self._scanner is None else self._scanner.scan(raw)
            if self._scanner is not None and facts is not None:
                self._order.scanned(raw, facts)
                return ScannedRows(raw, facts, self._scanner)
            rows = decode_rows(raw)
            self._order.rows(rows.database, rows.rows)
            return rows
        if frame.kind == "groups":
            groups = decode_groups(raw)
            self._order.groups([group.name for group in groups.groups])
            return groups
        if frame.kind == "members":
            members = decode_members(raw)
            self._order.members([member.name for member in members.members])
            return members
        footer = decode_footer(raw)
        self._order.end(footer)
        self._footer = footer
        return footer
