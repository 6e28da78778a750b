"""Copies of files in directories that somebody else may write to.

Commands that work on a stopped server's directory are often run by root, and the directory is the server's. So nothing
in it is opened by a name that was looked at before: what is opened is looked at, is no link, and is never waited for.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def open_entry(name: str | Path, *, folder: int | None = None) -> int | None:
    """Return a descriptor of a file or a directory for reading; None when it is a link or another special thing.

    Args:
        name: in ``folder``, or a path; links on the way there are followed, the last part is none.
        folder: descriptor of a directory.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(name, _OPEN, dir_fd=folder)
    except OSError as failure:
        if failure.errno in {errno.ELOOP, errno.ENXIO}:
            return None
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return descriptor
    os.close(descriptor)
    return None


def copy_open(descriptor: int, target: Path) -> None:
    """Copy the open file into a new one of mode 0600; ``descriptor`` is closed."""
    with os.fdopen(descriptor, "rb") as content, os.fdopen(os.open(target, _CREATE, 0o600), "wb") as file:
        shutil.copyfileobj(content, file)


def copy_plain(source: Path, target: Path) -> None:
    """Copy a plain file into a new one of mode 0600.

    Raises:
        OSError: it is a link or no plain file, or the disk refuses.
    """
    descriptor = open_entry(source)
    if descriptor is not None and stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        descriptor = None
    if descriptor is None:
        raise OSError(errno.ELOOP, "It is a link, or no plain file, and is not followed", str(source))
    copy_open(descriptor, target)
