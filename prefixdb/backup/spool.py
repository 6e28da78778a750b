"""A spool: an archive on its way in, kept in a file until all of it is known to be right.

Nothing of an archive may be seen before its footer has come, and an archive may be larger than the memory. So its
frames are written down as they are checked, byte for byte, and read again when they are applied: the file of a whole
spool is the archive itself. Reading checks everything a second time, digests included, so bytes that the disk changed
in between are refused too. A spool holds tenants' rows; whoever keeps one keeps their namespace from being proven empty
until the file is gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from prefixdb.archive import ArchiveReader, Content, Footer, Header, RowsScanner, frames_of
from prefixdb.backup.spool_room import SpoolShare
from prefixdb.disk import sync_directory
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.store.faults import disk_full, is_no_space

_BUFFER_BYTES = 1 << 20


class Spool:
    """One archive's frames in a file. Not thread-safe: one thread uses it at a time, never two.

    reader: checks what comes; ``reader.frames`` and ``reader.digest`` say how far it is.
    bytes: size of the file.
    """

    def __init__(self, path: Path, reader: ArchiveReader, descriptor: int, share: SpoolShare) -> None:
        self.path = path
        self.reader = reader
        self._share = share
        self.bytes = 0
        self._file = os.fdopen(descriptor, "wb", _BUFFER_BYTES)
        self._failed: PrefixdbError | None = None
        self._ended = False

    @classmethod
    def create(cls, path: Path, share: SpoolShare, scanner: RowsScanner | None = None) -> Spool:
        """Begin a spool in a new file of mode 0600; its directory is made when it is missing.

        Args:
            path: of the file.
            share: what it takes of the room for spools; given back when the file is removed.
            scanner: the store's; see ``archive.scanned``.

        Raises:
            ResourceExhaustedError: DISK_FULL.
            UnavailableError: READ_ONLY_STORE, the file cannot be made.
        """
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as failure:
            raise disk_refusal(failure) from failure
        return cls(path, ArchiveReader(scanner), descriptor, share)

    def add(self, frame: bytes) -> Content:
        """Check the next frame, keep it, and return what it holds.

        After any failure nothing more is taken: the spool can only be closed.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID.
            FailedPreconditionError: FORMAT_TOO_NEW.
            ResourceExhaustedError: DISK_FULL; QUOTA_EXCEEDED, the namespace has too much on its way.
            UnavailableError: READ_ONLY_STORE, the disk does not take it.
        """
        if self._failed is not None:
            raise self._failed
        try:
            content = self.reader.read(frame)
            self._share.grow(self.bytes + len(frame))
            self._file.write(frame)
        except PrefixdbError as failure:
            self._failed = failure
            raise
        except OSError as failure:
            self._failed = disk_refusal(failure)
            raise self._failed from failure
        self.bytes += len(frame)
        self._ended = isinstance(content, Footer)
        return content

    @property
    def ended(self) -> bool:
        """True once the footer has come."""
        return self._ended

    def finish(self) -> Footer:
        """Return the archive's footer once it has come; raises ARCHIVE_INVALID when it is cut short."""
        return self.reader.finish()

    def sync(self) -> None:
        """Bring the file and its name to the disk.

        Raises:
            ResourceExhaustedError, UnavailableError: as ``add``.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            sync_directory(self.path.parent)
        except OSError as failure:
            self._failed = disk_refusal(failure)
            raise self._failed from failure

    def contents(self, scanner: RowsScanner | None = None) -> Iterator[Content]:
        """Yield what the frames hold, from the start, checked anew; call it when the archive is whole."""
        try:
            self._file.flush()
        except OSError as failure:
            raise disk_refusal(failure) from failure
        yield from contents_of(self.path, scanner)

    def close(self, delete: bool = True) -> None:
        """Close the file and remove it from the disk, or keep it. Harmless when called again."""
        try:
            self._file.close()
        except OSError:  # What could not be flushed is wanted only when the file is kept.
            if not delete:
                raise
        if delete and self.path.exists():
            self.path.unlink()
            sync_directory(self.path.parent)
        if delete:
            self._share.close()


def contents_of(path: Path, scanner: RowsScanner | None = None) -> Iterator[Content]:
    """Yield what the frames of a whole archive in a file hold, the footer last, everything checked.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID, at the place of damage.
        UnavailableError: READ_ONLY_STORE, the disk does not give it.
    """
    reader = ArchiveReader(scanner)
    try:
        with path.open("rb", _BUFFER_BYTES) as file:
            for frame in frames_of(file):
                yield reader.read(frame)
    except OSError as failure:
        raise disk_refusal(failure) from failure
    reader.finish()


def header_of(contents: Iterator[Content]) -> Header:
    """Return the header that ``contents`` begins with."""
    first = next(contents)
    if not isinstance(first, Header):
        raise error(Reason.ARCHIVE_INVALID, "The archive does not begin with a header.")
    return first


def disk_refusal(failure: OSError) -> PrefixdbError:
    """Return what a disk's refusal of a file in the folder of uploads means for whoever sends one."""
    if is_no_space(failure):
        return disk_full()
    return error(Reason.READ_ONLY_STORE, "The server cannot use the file of an archive that is on its way in.")
