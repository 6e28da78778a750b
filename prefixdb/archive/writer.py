"""Writes an archive, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

from prefixdb.archive.bodies import new_compressor
from prefixdb.archive.contents import (
    Footer,
    Group,
    Header,
    Member,
    encode_footer,
    encode_groups,
    encode_header,
    encode_members,
)
from prefixdb.archive.frames import START_DIGEST, Frame, chain, encode_frame
from prefixdb.archive.order import Order
from prefixdb.archive.rows import ArchiveRow, PackedRows, encode_rows

__all__ = ["ArchiveWriter"]


class ArchiveWriter:
    """Makes the frames of one archive; the caller puts them one after the other.

    Order: ``header``; ``groups``, ``members`` and ``rows``, each any number of times; ``footer``. What would make an
    archive that no reader takes is refused here: ValueError, our own mistake.

    Not thread-safe, but each call may come from another thread; the lock of the interpreter is released while a large
    body is compressed or hashed.

    Attributes:
        digest: of the last frame.
        frames: made so far.
    """

    def __init__(self, header: Header) -> None:
        self.digest = START_DIGEST
        self.frames = 0
        self._header = header
        self._order = Order()
        self._compressor = new_compressor() if header.codec == "zstd" else None

    def header(self) -> bytes:
        """Return the first frame."""
        content = encode_header(self._header)
        self._order.begin(self._header)
        return self._frame("header", content)

    def groups(self, groups: Sequence[Group]) -> bytes:
        """Return a frame of groups, names ascending; ``contents.group_batches`` cuts lists to size."""
        content = encode_groups(groups)
        self._order.groups([group.name for group in groups])
        return self._frame("groups", content)

    def members(self, members: Sequence[Member]) -> bytes:
        """Return a frame of members, names ascending; ``contents.member_batches`` cuts lists to size."""
        content = encode_members(members)
        self._order.members([member.name for member in members])
        return self._frame("members", content)

    def rows(self, database: int, rows: Sequence[ArchiveRow]) -> bytes:
        """Return a frame of rows of one database; ``rows.row_batches`` cuts them to size."""
        content = encode_rows(database, rows)
        self._order.rows(database, rows)
        return self._frame("rows", content)

    def packed(self, rows: PackedRows) -> bytes:
        """Return a frame of rows that were packed where they are kept."""
        self._order.packed(rows)
        return self._frame("rows", rows.content)

    def footer(self) -> bytes:
        """Return the last frame."""
        footer = Footer(*self._order.counts())
        self._order.end(footer)
        return self._frame("footer", encode_footer(footer))

    def _frame(self, kind: str, content: bytes) -> bytes:
        body = content
        if self._compressor is not None and kind != "header":
            body = self._compressor.compress(content)
        self.digest = chain(self.digest, kind, len(content), body)
        self.frames += 1
        return encode_frame(Frame(kind, len(content), body, self.digest))
