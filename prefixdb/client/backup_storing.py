"""Files of a backup on their way into a repository: written and hashed while the next piece comes, brought to the disk
while the next file is written."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from prefixdb.client.backup_files import broken
from prefixdb.repository.manifest import BackupFile
from prefixdb.repository.objects import ObjectWriter
from prefixdb.repository.places import Lease
from prefixdb.repository.repository import Repository

PIECES_AHEAD = 8
"""Pieces that may wait to be written, half a MiB each. Whoever sends waits then."""

FILES_AHEAD = 2
"""Files that may wait for the disk; beyond it the next piece waits, too, so that not everything is left to the end."""


class Storing:
    """The files a server sends, on their way into the repository. Its methods block; one thread calls them.

    Args:
        repository: where to; nobody else uses it meanwhile.
        lease: its lock, held alone.
        files: all files of the backup.
        positions: those that come, ascending.
    """

    def __init__(self, repository: Repository, lease: Lease, files: list[BackupFile], positions: list[int]) -> None:
        self._repository = repository
        self._lease = lease
        self._files = files
        self._coming = iter(positions)
        self._position = -1
        self._left = 0
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="backup-writing")
        self._settling = ThreadPoolExecutor(1, thread_name_prefix="backup-settling")
        self._pieces: deque[Future[None]] = deque()
        self._commits: deque[Future[None]] = deque()
        self._writer: ObjectWriter | None = None
        self._failed = False
        self.files_done = 0
        """Files that are stored whole."""

    def take(self, file: int, data: bytes) -> None:
        """Store the next piece of the file at this position. What goes wrong with it may be raised by a later call.

        Raises:
            DataLossError: CORRUPTION; a file is not what the server had listed.
            OSError: it cannot be written.
        """
        self._lease.keep()
        if self._position < 0:
            self._position = next(self._coming, -1)
            self._left = self._files[self._position].size if self._position >= 0 else 0
        if self._position < 0 or file != self._position or (self._left and not data):
            raise broken("it sent a piece of a file that was not asked for now")
        self._left -= len(data)
        last = self._left <= 0  # Too many bytes are for the writer to refuse.
        self._pieces.append(self._writing.submit(self._write, file, data, last=last))
        if last:
            self._position = -1
        _wait(self._pieces, PIECES_AHEAD)
        _wait(self._commits, FILES_AHEAD)

    def check_done(self) -> None:
        """Return when every file that was asked for came whole and is on the disk.

        Raises:
            As ``take``.
        """
        _wait(self._pieces, 0)
        _wait(self._commits, 0)
        if self._position >= 0 or next(self._coming, None) is not None:
            raise broken("it ended before everything was sent")

    def abort(self) -> None:
        """Leave nothing of a half file behind, and no thread; to be called in any case. Whole files are kept."""
        self._writing.shutdown(cancel_futures=True)
        self._settling.shutdown()
        if self._writer is not None:
            self._writer.abort()

    def _write(self, position: int, data: bytes, *, last: bool) -> None:
        """Write a piece; nothing once one has failed, for whoever sends learns of it some pieces later."""
        if self._failed:
            return
        self._failed = True
        if self._writer is None:
            self._writer = self._repository.write(self._files[position])
        self._writer.write(data)
        if last:
            writer, self._writer = self._writer, None
            if self._repository.place.is_local:
                self._commits.append(self._settling.submit(self._commit, writer))
            else:
                self._commit(writer)
        self._failed = False

    def _commit(self, writer: ObjectWriter) -> None:
        try:
            writer.commit()
        finally:
            writer.abort()
        self.files_done += 1


def _wait(work: deque[Future[None]], left: int) -> None:
    """Wait until no more than ``left`` of these are unfinished, and raise what went wrong with those that are over."""
    while work and (len(work) > left or work[0].done()):
        work.popleft().result()
