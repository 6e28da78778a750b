"""A directory of this machine as the place of a repository.

Nothing in it is trusted: no link is ever followed below the root, by opening every part of a path by itself, and
whatever is neither a plain file nor a directory is refused by name. New files are written under ``tmp/``, synced and
renamed. The lock is flock's, so that it ends with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from prefixdb.disk import sync_directory
from prefixdb.errors import Reason, error
from prefixdb.repository.manifest import invalid
from prefixdb.repository.places import Lease, Writer, occupied

LOCK_NAME = "LOCK"
TEMPORARY = "tmp"

_DEPTH_MAX = 3
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a pipe in place of a file would be waited for.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LocalPlace:
    """See ``places.Place``."""

    is_local = True

    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = root
        self._unsettled: set[str] = set()

    def __repr__(self) -> str:
        return f"LocalPlace({self.name})"

    def prepare(self) -> None:
        """Make the root if it is not there. Its parent must be: a disk that is not mounted is no place for backups."""
        parent = self._root.absolute().parent
        try:
            self._root.mkdir(mode=0o700)
            sync_directory(parent)
        except FileExistsError:
            return
        except FileNotFoundError as failure:
            what = f"{self._root} cannot be made: there is no {parent}."
            raise error(Reason.BAD_FIELD, what, metadata={"field": "repository"}) from failure

    def read(self, path: str, bytes_max: int) -> bytes | None:
        """Return a file's bytes, None when it is not there."""
        try:
            file = self.open(path)
        except FileNotFoundError:
            return None
        with file:
            data = file.read(bytes_max + 1)
        if len(data) > bytes_max:
            raise invalid(self._place(path), f"has more than {bytes_max:,} bytes")
        return data

    def open(self, path: str) -> BinaryIO:
        """Open a plain file for reading."""
        folder, _, name = path.rpartition("/")
        with self._folder(folder) as directory:
            try:
                descriptor = os.open(name, _READ, dir_fd=directory)
            except OSError as failure:
                raise self._told(failure, path) from failure
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise invalid(self._place(path), "is no plain file")
        return os.fdopen(descriptor, "rb", buffering=0)

    def names(self) -> list[str]:
        """Return the names right below the root, sorted; none when it is not there."""
        try:
            return sorted(os.listdir(self._root))  # noqa: PTH208 - names, not paths
        except FileNotFoundError:
            return []

    def files(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield path and size of every plain file below a folder; none when it is not there."""
        try:
            with self._folder(folder) as directory, os.scandir(directory) as entries:
                found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        except FileNotFoundError:
            return
        for name, facts in found:
            path = f"{folder}/{name}"
            if stat.S_ISREG(facts.st_mode):
                yield path, facts.st_size
            elif stat.S_ISDIR(facts.st_mode) and path.count("/") < _DEPTH_MAX:
                yield from self.files(path)
            else:
                raise invalid(self._place(path), "is neither a plain file nor a directory of a repository")

    def create(self, path: str) -> Writer:
        """Begin a new file of mode 0600."""
        return _LocalWriter(self, path)

    def put(self, path: str, data: bytes) -> None:
        """Write a small file whole, in place of one that is there."""
        writer = self.create(path)
        try:
            writer.write(data)
            writer.commit()
        finally:
            writer.abort()

    def remove(self, path: str) -> None:
        """Remove a file; harmless when it is gone."""
        folder, _, name = path.rpartition("/")
        with contextlib.suppress(FileNotFoundError), self._folder(folder) as directory:
            os.unlink(name, dir_fd=directory)
            self._unsettled.add(folder)

    def settle(self) -> None:
        """Sync every directory in which a name has changed, and their parents, which may be new."""
        folders = {part for folder in self._unsettled for part in _with_parents(folder)}
        for folder in sorted(folders, reverse=True):
            with self._folder(folder) as directory:
                os.fsync(directory)
        self._unsettled.clear()

    def clean(self) -> None:
        """Remove what interrupted writers left."""
        for path, _ in list(self.files(TEMPORARY)):
            self.remove(path)

    def free_bytes(self) -> int | None:
        """Return how much room there is for this user."""
        facts = os.statvfs(self._root)
        return facts.f_bavail * facts.f_frsize

    def lock(self, *, exclusive: bool) -> Lease:
        """Take the lock of ``LOCK``; who only reads and may not write there does without when there is no such file."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        path = self._root / LOCK_NAME
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError as failure:
            if failure.errno == errno.ELOOP:
                raise invalid(self._place(LOCK_NAME), "is a link") from failure
            if exclusive or failure.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
                raise
            descriptor = self._reading_lock()
        if descriptor < 0:
            return _LocalLease(-1)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            now = path.lstat()
            mine = os.fstat(descriptor)
            if (mine.st_dev, mine.st_ino) != (now.st_dev, now.st_ino):  # Somebody removed it: others lock a new one.
                raise BlockingIOError
        except BlockingIOError:
            os.close(descriptor)
            raise occupied(self.name) from None
        except OSError:
            os.close(descriptor)
            raise
        return _LocalLease(descriptor)

    def _reading_lock(self) -> int:
        """Return LOCK opened for reading; -1 when there is none, and nobody could make one through this mount."""
        try:
            return os.open(self._root / LOCK_NAME, _READ)
        except FileNotFoundError:
            return -1

    @contextlib.contextmanager
    def _folder(self, folder: str, *, make: bool = False) -> Iterator[int]:
        """Yield a descriptor of a directory below the root, reached without following a link."""
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in folder.split("/") if folder else []:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=descriptor)
                try:
                    inner = os.open(part, _DIRECTORY, dir_fd=descriptor)
                except OSError as failure:
                    raise self._told(failure, folder) from failure
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def _told(self, failure: OSError, path: str) -> Exception:
        """Return the failure with the whole path; a link or a file where a directory should be is damage."""
        if failure.errno in {errno.ELOOP, errno.ENOTDIR}:
            return invalid(self._place(path), "is a link, or what should be a directory is none")
        if failure.errno is None:
            return failure
        return OSError(failure.errno, failure.strerror, self._place(path))

    def _place(self, path: str) -> str:
        return str(self._root / path)


class _LocalWriter:
    """See ``places.Writer``. A thread that writes and another that aborts do not meet."""

    def __init__(self, place: LocalPlace, path: str) -> None:
        self._place = place
        self._path = path
        self._name = secrets.token_hex(8)
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with place._folder(TEMPORARY, make=True) as directory:
            self._descriptor = os.open(self._name, flags, 0o600, dir_fd=directory)

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        with self._lock:
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except OSError as failure:
                    raise self._place._told(failure, self._path) from failure

    def commit(self) -> None:
        folder, _, name = self._path.rpartition("/")
        with self._lock, self._place._folder(TEMPORARY) as source, self._place._folder(folder, make=True) as target:
            os.fsync(self._descriptor)
            os.rename(self._name, name, src_dir_fd=source, dst_dir_fd=target)
            self._place._unsettled.add(folder)
            self._close()

    def abort(self) -> None:
        with self._lock:
            if self._descriptor >= 0:
                self._close()
                self._place.remove(f"{TEMPORARY}/{self._name}")

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


class _LocalLease(Lease):
    """See ``places.Lease``; nobody can take it away."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def keep(self) -> None:
        return

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _with_parents(folder: str) -> Iterator[str]:
    """Yield a folder and everything above it up to the root, which is the empty path."""
    yield folder
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder
