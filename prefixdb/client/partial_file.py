"""A file that appears under its name when it is whole, and never before.

    NAME            replaced in one step, at the end
    .NAME.partial   written meanwhile; locked by its writer, so that two of them do not meet, and taken over by the next
                    when one was killed

What is no ordinary file (a pipe, a terminal, /dev/null) is written as it is: it cannot be replaced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from prefixdb.disk import sync_directory
from prefixdb.errors import Reason, error

_BUFFER_BYTES = 1 << 20

_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
"""What a write is refused with, as opposed to a connection."""


class PartialFile:
    """Write to ``file``; leaving the block without an exception brings it to disk and gives it its name.

    Args:
        path: the name. A link is followed: what it leads to is replaced, not the link.
        private: whether nobody but its owner may read it, mode 0600.

    Raises:
        OSError: it cannot be made.
        FailedPreconditionError: DIRECTORY_LOCKED when another process is writing it.
    """

    def __init__(self, path: str | os.PathLike[str], *, private: bool = False) -> None:
        self.path = Path(os.path.realpath(path))
        self._scratch: Path | None = None
        if self._is_special():
            self.file: BinaryIO = self.path.open("wb", buffering=_BUFFER_BYTES)
            return
        self._scratch = self.path.with_name(f".{self.path.name}.partial")
        self.file = os.fdopen(self._locked(self._scratch, private), "wb", buffering=_BUFFER_BYTES)

    def __repr__(self) -> str:
        return f"PartialFile({self.path})"

    def restart(self) -> bool:
        """Forget what was written; False when that is not possible."""
        if self._scratch is None:
            return False
        self.file.flush()
        self.file.seek(0)
        self.file.truncate()
        return True

    def commit(self) -> None:
        """Bring it to disk and give it its name."""
        self.file.flush()
        if self._scratch is None:
            self.file.close()
            return
        os.fsync(self.file.fileno())
        self._scratch.replace(self.path)
        self._scratch = None
        self.file.close()
        sync_directory(self.path.parent)

    def discard(self) -> None:
        """Leave nothing behind; harmless after ``commit``."""
        if self._scratch is not None:
            # Before the lock goes with the file, or another's new one could be removed.
            self._scratch.unlink(missing_ok=True)
            self._scratch = None
        try:
            self.file.close()
        except OSError:
            # What is still in the buffer does not fit the disk. It is not wanted, and the descriptor is closed.
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if failure is None:
                self.commit()
        except OSError as refusal:
            self._name(refusal)
            raise
        finally:
            self.discard()
        if isinstance(failure, OSError):
            self._name(failure)

    def _name(self, failure: OSError) -> None:
        """Say which file a disk refused: a write tells an error number only."""
        if failure.filename is None and failure.errno in _DISK_ERRORS:
            failure.filename = str(self.path)

    def _is_special(self) -> bool:
        try:
            mode = self.path.stat().st_mode
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(21, os.strerror(21), str(self.path))
        return not stat.S_ISREG(mode)

    def _check_ours(self, facts: os.stat_result) -> None:
        """Raise when the scratch file that was there is not one of ours: in a directory that others may write to, they
        would read what goes into theirs, or have another file of ours emptied by its second name."""
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_nlink != 1:
            what = f"What is there as .{self.path.name}.partial is not a file of yours alone; remove it first"
            raise PermissionError(1, what, str(self.path))

    def _locked(self, scratch: Path, private: bool) -> int:
        """Return the descriptor of the empty scratch file, which is ours alone."""
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            try:
                descriptor = os.open(scratch, flags, 0o600 if private else 0o666)
            except OSError as cause:
                # Whoever asked for the file knows it by its own name.
                raise type(cause)(cause.errno, cause.strerror, str(self.path)) from cause
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                facts = os.fstat(descriptor)
                if os.path.samestat(facts, scratch.lstat()):
                    self._check_ours(facts)
                    if private:
                        os.fchmod(descriptor, 0o600)
                    os.ftruncate(descriptor, 0)
                    return descriptor
            except FileNotFoundError:
                pass  # Its writer finished between the two calls: it has its name now, and we begin another one.
            except BlockingIOError as cause:
                os.close(descriptor)
                message = f"Another process is writing {self.path}; wait for it, or choose another name."
                raise error(Reason.DIRECTORY_LOCKED, message) from cause
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
