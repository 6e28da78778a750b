"""Listening on a unix socket: ``unix:/PATH``, which only processes of the server's own user can open.

gRPC by itself would make the socket with whatever mode the umask leaves, and would take a path from a server that is
alive: it removes the socket it finds there (measured with 1.85.1). So the place is looked at first, under a lock on
the directory, for two servers may start at the same moment.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from prefixdb.errors import PrefixdbError, Reason, error

PREFIX = "unix:"

PATH_BYTES_MAX = 107
"""What the kernel's address of a socket has room for."""

SOCKET_MODE = 0o600

_LOCK_WAIT_S = 5.0


def socket_path(address: str, setting: str) -> Path | None:
    """Return the path of ``unix:/PATH`` or ``unix:///PATH``, None for another kind of address.

    Raises:
        InvalidArgumentError: BAD_FIELD that names ``setting``: not an absolute path, or too long for a socket.
    """
    if not address.startswith(PREFIX):
        return None
    text = address.removeprefix(PREFIX)
    path = Path(text.removeprefix("//"))
    if not path.is_absolute() or text.endswith("/") or "\0" in text:
        raise _bad(setting, f"{address!r} is not unix:/PATH with an absolute path.")
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise _bad(setting, f"{path} is longer than the {PATH_BYTES_MAX} bytes a unix socket's path may have.")
    return path


@contextlib.contextmanager
def place_for(path: Path, setting: str) -> Iterator[None]:
    """Make ``path`` free for a socket while the body binds one, and see to it that nobody else can open that.

    The socket that a dead server left is removed; what is alive, or no socket, is left alone.

    Raises:
        InvalidArgumentError: BAD_FIELD that names ``setting``: the place is taken or not ours to use.
    """
    try:
        with _directory_locked(path.parent, setting):
            _clear(path, setting)
            before = os.umask(0o777 & ~SOCKET_MODE)  # Other threads' new files become stricter for a moment, no looser.
            try:
                yield
            finally:
                os.umask(before)
    except OSError as failure:
        raise _bad(setting, f"{path} cannot be used: {failure.strerror}.") from failure


def _clear(path: Path, setting: str) -> None:
    """Remove a socket that nobody listens on."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise _bad(setting, f"{path} exists and is no socket; it was not touched. Choose another path.")
    if _is_alive(path):
        raise _bad(setting, f"{path} belongs to a server that is running. Stop it, or choose another path.")
    path.unlink()


def _is_alive(path: Path) -> bool:
    """True when somebody listens on the socket; also when that cannot be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # A listener whose queue is full is alive too, and would let us wait.
        return probe.connect_ex(os.fspath(path)) not in {errno.ECONNREFUSED, errno.ENOENT}


@contextlib.contextmanager
def _directory_locked(directory: Path, setting: str) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        give_up_at = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise _bad(setting, f"another process keeps {directory} locked; choose another one.") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _bad(setting: str, message: str) -> PrefixdbError:
    return error(Reason.BAD_FIELD, f"{setting}: {message}", metadata={"field": setting})
