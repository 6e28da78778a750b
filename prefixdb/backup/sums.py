"""Sums of the files of a backup: each file is read once, looked at for damage, and remembered for the next backup.

A sum says that a copy is like the original, and nothing of the original. So before a table file gets its sum, the
checksums inside it are held against its bytes (``store.checks``): else a block that was damaged long ago would travel
into every backup, with a sum that says it is right. What is remembered goes by name, size, time and inode; when the
disk changes a byte of such a file later, what is sent does not have the sum, and whoever takes the backup refuses it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import MIB
from prefixdb.store.checks import check_manifest, check_table
from prefixdb.store.faults import DISK_RETRY_MS

THREADS = 2
"""Files that are read at a time. Reading and hashing leave the interpreter alone, and the smallest machine has two
cores."""

_BLOCK_BYTES = 1 * MIB
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

Mark = tuple[str, int, int, int]
OnProgress = Callable[[int, int], None]
"""Told (bytes read, bytes to read), from any thread, one at a time."""


class StoppedError(Exception):
    """Reading was stopped from outside."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file before it was read: where it is on disk, or what it holds. mark: of files that never change."""

    path: str
    size: int
    place: Path | None
    content: bytes = b""
    mark: Mark | None = None

    @classmethod
    def at(cls, path: str, place: Path, facts: os.stat_result) -> Found:
        """Return what is there. path: below the data directory."""
        mark = (path, facts.st_size, facts.st_mtime_ns, facts.st_ino) if path.endswith(".sst") else None
        return cls(path, facts.st_size, place, mark=mark)


class Sums:
    """Sums of table files by what tells them apart; as large as the newest backup. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[Mark, bytes] = {}

    def get(self, mark: Mark | None) -> bytes | None:
        """Return the sum of a file that was read before."""
        return self._known.get(mark) if mark is not None else None

    def add(self, mark: Mark, digest: bytes) -> None:
        """Remember one more."""
        self._known[mark] = digest

    def keep(self, marks: Sequence[Mark]) -> None:
        """Forget all others."""
        self._known = {mark: self._known[mark] for mark in marks}


class SumReader:
    """Reads the files of one backup.

    Args:
        sums: what earlier backups have read.
    """

    def __init__(self, sums: Sums) -> None:
        self._sums = sums
        self._stopping = threading.Event()
        self._telling = threading.Lock()
        self._done = 0
        self._total = 0

    def stop(self) -> None:
        """Let whoever reads end soon. Thread-safe."""
        self._stopping.set()

    def read(self, files: Sequence[Found], on_progress: OnProgress) -> list[bytes]:
        """Return the sums of these files, in their order. What earlier calls have read counts as progress, too.

        Raises:
            StoppedError: ``stop`` was called.
            DataLossError: CORRUPTION; a file is damaged, shorter than it was, or cannot be read.
        """
        unread = [found for found in files if self._sums.get(found.mark) is None]
        self._total += sum(found.size for found in unread)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="backup-sums") as threads:
            jobs = [threads.submit(self._read, found, on_progress) for found in unread]
            try:
                read = dict(zip((found.path for found in unread), [job.result() for job in jobs], strict=True))
            except BaseException:
                self._stopping.set()
                threads.shutdown(cancel_futures=True)
                raise
        return [read.get(found.path) or self._sums.get(found.mark) or b"" for found in files]

    def read_ahead(self, files: Sequence[Found], on_progress: OnProgress) -> None:
        """Read files of which nobody knows yet whether they are whole, or stay; what cannot be read is left for later.

        Raises:
            StoppedError: ``stop`` was called.
        """
        unread = [found for found in files if self._sums.get(found.mark) is None]
        self._total += sum(found.size for found in unread)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="backup-sums") as threads:
            jobs = [threads.submit(self._try, found, on_progress) for found in unread]
        for job in jobs:
            job.result()

    def blocks(self, found: Found, block_bytes: int) -> Iterator[bytes]:
        """Yield exactly the bytes that the file had when it was found.

        Raises:
            StoppedError, DataLossError: as ``read``.
        """
        if found.place is None:
            for begin in range(0, found.size, block_bytes):
                yield found.content[begin : begin + block_bytes]
            return
        try:
            with found.place.open("rb", buffering=0) as file:
                left = found.size
                while left:
                    if self._stopping.is_set():
                        raise StoppedError
                    block = _read(file, min(left, block_bytes))
                    if not block:
                        raise damaged(found.path, "is shorter than it was")
                    left -= len(block)
                    yield block
        except OSError as failure:
            if failure.errno in _PASSING:
                raise error(Reason.READ_ONLY_STORE, retry_after_ms=DISK_RETRY_MS) from failure
            raise damaged(found.path, f"cannot be read: {failure.strerror or 'it failed'}") from failure

    def _read(self, found: Found, on_progress: OnProgress) -> bytes:
        sums = hashlib.sha256()
        for block in self.blocks(found, _BLOCK_BYTES):
            sums.update(block)
            with self._telling:
                self._done += len(block)
                on_progress(self._done, self._total)
        if found.place is not None and found.mark is not None:
            check_table(found.place)
            self._sums.add(found.mark, sums.digest())
        elif found.place is not None and found.path == "db/CURRENT":
            check_manifest(found.place.parent)
        return sums.digest()

    def _try(self, found: Found, on_progress: OnProgress) -> None:
        try:
            self._read(found, on_progress)
        except PrefixdbError:
            # A file that was in the making or on its way out; if it is in the snapshot, it is read again.
            self._total -= found.size


def damaged(path: str, what: str) -> PrefixdbError:
    """Return the error of a file of the server that no backup can be made of."""
    message = f"{path} of the data directory {what}; no backup can be made of it."
    return error(Reason.CORRUPTION, message, metadata={"place": path})


def _read(file: BinaryIO, size: int) -> bytes:
    """Return so many bytes, less only at the end of the file; one system call when the disk is in the mood."""
    block = file.read(size)
    while block and len(block) < size:
        more = file.read(size - len(block))
        if not more:
            break
        block += more
    return block
