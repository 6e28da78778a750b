"""Objects of a repository on their way in and out: counted, hashed, refused when they are not what they should be."""

from __future__ import annotations

import hashlib
import io
from typing import BinaryIO

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import KIB
from prefixdb.repository.manifest import BackupFile, invalid
from prefixdb.repository.places import Writer

READ_BYTES = 512 * KIB
"""Bytes of an object that are read at a time."""


class ObjectWriter:
    """An object on its way, counted and hashed."""

    def __init__(self, writer: Writer, file: BackupFile) -> None:
        self._writer = writer
        self._file = file
        self._hash = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            DataLossError: CORRUPTION; these are more than the file has.
        """
        self._bytes += len(data)
        if self._bytes > self._file.size:
            raise self._differs()
        self._hash.update(data)
        self._writer.write(data)

    def commit(self) -> None:
        """Put the object under its name.

        Raises:
            DataLossError: CORRUPTION; its bytes are not those of the file.
        """
        if self._bytes != self._file.size or self._hash.hexdigest() != self._file.sha256:
            raise self._differs()
        self._writer.commit()

    def abort(self) -> None:
        """Leave nothing behind; harmless after ``commit``."""
        self._writer.abort()

    def _differs(self) -> PrefixdbError:
        message = (
            f"{self._file.path} came with other bytes than the server had listed for it; nothing was stored of it."
        )
        return error(Reason.CORRUPTION, message, metadata={"place": self._file.path})


class CheckedReader(io.RawIOBase):
    """An object that is read: never more bytes than it should have, and its end only when it was the right one."""

    def __init__(self, opened: BinaryIO, file: BackupFile, place: str) -> None:
        self._opened = opened
        self._file = file
        self._place = place
        self._hash = hashlib.sha256()
        self._left = file.size
        self._checked = False

    def readable(self) -> bool:
        """True."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to ``size`` bytes, all that are left when it is negative, none at the end.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID; the object is not what the backup says.
        """
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        pieces = []
        while wanted:
            data = self._opened.read(min(wanted, READ_BYTES))
            if not data:
                raise invalid(self._place, f"is shorter than {self._file.path} of the backup")
            self._hash.update(data)
            pieces.append(data)
            wanted -= len(data)
            self._left -= len(data)
            if size is not None and size >= 0:
                break
        if not self._left and not self._checked:
            self._check()
        return b"".join(pieces)

    def readinto(self, buffer: object, /) -> int:
        """Fill a buffer, as ``read``."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the object."""
        if not self.closed:
            super().close()
            self._opened.close()

    def _check(self) -> None:
        if self._opened.read(1):
            raise invalid(self._place, f"is longer than {self._file.path} of the backup")
        if self._hash.hexdigest() != self._file.sha256:
            raise invalid(self._place, "is damaged: its bytes do not have the SHA-256 that is its name")
        self._checked = True
