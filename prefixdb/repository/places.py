"""Where a repository of backups lies: a directory of this machine, or any file system that fsspec knows by a URL.

    /mnt/backups/prod, file:///mnt/backups/prod, local:///mnt/backups/prod    a directory (``local``)
    s3://bucket/prod, sftp://host/prod, memory://prod, …                      by fsspec (``remote``)

A place knows paths, bytes and locks, and nothing of backups. Paths are relative, with ``/`` between their parts, and
come from this package only: never from a manifest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self
from urllib.parse import unquote, urlsplit

from prefixdb.errors import Reason, bad_field, error

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:://|::).*", re.DOTALL)
_DIRECTORY_SCHEMES = {"file", "local"}


class Writer(Protocol):
    """A new file on its way. Nothing of it is seen under its path before ``commit``, or it has another size."""

    def write(self, data: bytes) -> None:
        """Add bytes."""

    def commit(self) -> None:
        """Put the file under its path, in place of one that is there."""

    def abort(self) -> None:
        """Leave nothing behind; harmless after ``commit``."""


class Lease(Protocol):
    """A lock that is held. Use it as a context manager, or release it."""

    def keep(self) -> None:
        """Show that its holder is alive; to be called at least every few minutes, cheap.

        Raises:
            FailedPreconditionError: BACKUP_RUNNING; it was lost to somebody else.
        """

    def release(self) -> None:
        """Give it up; harmless when that was done."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Place(Protocol):
    """A tree of files. Every method may raise OSError with the name of what it was about."""

    name: str
    """For messages; has no secret."""

    is_local: bool
    """Whether it is a directory of this machine: reading twice costs little, and two threads can use it. Not every file
    system behind a URL allows that."""

    def prepare(self) -> None:
        """Make the tree's root if it is not there; its parent must be."""

    def read(self, path: str, bytes_max: int) -> bytes | None:
        """Return a file's bytes, None when it is not there.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID; it is no plain file or has more than ``bytes_max`` bytes.
        """

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; FileNotFoundError when it is not there, ARCHIVE_INVALID when it is no plain file."""

    def names(self) -> list[str]:
        """Return the names right below the root, sorted; none when it is not there."""

    def files(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield path and size of every file below a folder, in any order.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID; something there is neither a plain file nor a directory.
        """

    def create(self, path: str) -> Writer:
        """Begin a new file."""

    def put(self, path: str, data: bytes) -> None:
        """Write a small file whole, in place of one that is there: whoever looks finds the old or the new one."""

    def remove(self, path: str) -> None:
        """Remove a file; harmless when it is gone."""

    def settle(self) -> None:
        """Return when everything done so far outlives a power cut."""

    def clean(self) -> None:
        """Remove what interrupted writers left. Only for who holds the place alone."""

    def free_bytes(self) -> int | None:
        """Return how much room there is; None when nobody knows."""

    def lock(self, *, exclusive: bool) -> Lease:
        """Take the place's lock at once: alone to change it, shared to read from it.

        Raises:
            FailedPreconditionError: BACKUP_RUNNING; somebody else has it.
        """


def place_of(where: str | Path) -> Place:
    """Return the place of this name; nothing is looked at yet.

    Raises:
        InvalidArgumentError: BAD_FIELD; it is no path and no URL that can be used here.
    """
    from prefixdb.repository.local import LocalPlace

    text = str(where)
    if not text or "\0" in text:
        raise bad_field("repository", "must be a directory or a URL.")
    if isinstance(where, Path) or not _URL.fullmatch(text):
        return LocalPlace(Path(text))
    parts = urlsplit(text)
    if parts.scheme in _DIRECTORY_SCHEMES:
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise bad_field("repository", f"needs an absolute path: {parts.scheme}:///DIRECTORY.")
        return LocalPlace(Path(unquote(parts.path)))
    if "::" in text:
        raise bad_field("repository", "must be one file system; chains of URLs ('::') are not taken.")
    from prefixdb.repository.remote import RemotePlace

    return RemotePlace(text)


def occupied(name: str, who: str = "") -> Exception:
    """Return the error of a lock that somebody else has."""
    message = f"Another backup or prune is at work in {name}{who}; wait for it to end."
    return error(Reason.BACKUP_RUNNING, message, metadata={"repository": name})
