"""RocksDB directories as a source of rows and as a place to leave them: what ``load`` and ``export`` call.

The directory is read by a child process. A directory made to do harm can at worst end that child, which reads, holds
bounded memory and never unpickles; the caller gets an error.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgpack

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import KIB, MIB
from prefixdb.store.plain import ROW_BYTES_MAX, Unreadable, check_directory, refuse, write_directory

__all__ = ["Unreadable", "open_rows", "write_directory"]

_CHILD = "prefixdb.store.plain_child"
_READ_BYTES = 256 * KIB


def open_rows(path: Path, *, on_unreadable: Callable[[int, str], None] | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of every row of a RocksDB or rocksdict directory; the directory is not touched.

    Only the column family ``default``. Plain directories come in the order of their keys' bytes, others in their own.
    See ``prefixdb.store.plain`` for what becomes of rocksdict's typed keys and values. Memory is bounded. Whoever does
    not read to the end closes the iterator, which ends the child.

    Args:
        path: the directory with the file CURRENT in it.
        on_unreadable: called with (number of the row from 1, reason) for a row that cannot be given as bytes, such as a
            pickled object; it is left out. Without it the first such row is an error.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID with metadata ``place``, at the first row or, for damage, at the point of
            damage; rows before it were given.
        FailedPreconditionError: DIRECTORY_LOCKED, another process has it open.
    """
    check_directory(path)
    child = _start(path)
    output = child.stdout
    if output is None:
        raise error(Reason.INTERNAL)
    try:
        yield from _rows(path, output, on_unreadable)
    finally:
        output.close()
        child.kill()
        child.wait()


def _start(path: Path) -> subprocess.Popen[bytes]:
    # -P: a directory made to do harm may also hold a rocksdict.py, and may be where the caller stands.
    package_home = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([package_home, *(entry for entry in sys.path if Path(entry).is_absolute())])
    return subprocess.Popen(
        [sys.executable, "-P", "-m", _CHILD, str(path.absolute())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={**os.environ, "PYTHONPATH": paths},
        cwd="/",
    )


def _rows(
    path: Path, output: IO[bytes], on_unreadable: Callable[[int, str], None] | None
) -> Iterator[tuple[bytes, bytes]]:
    for message in _messages(output):
        if message[:1] == ("end",):
            return
        if message[:1] == ("error",):
            raise _error_of(message)
        for first, second in message:
            if type(first) is bytes:
                yield first, second
            elif on_unreadable is None:
                raise _no_row(path, first, second)
            else:
                on_unreadable(first, second)
    refuse(path, "made RocksDB stop while it was being read; it is damaged or made to do harm")


def _no_row(path: Path, number: int, why: str) -> PrefixdbError:
    place = f"row {number}"
    return error(
        Reason.ARCHIVE_INVALID, f"{path} has a row that cannot be taken, {place}: {why}.", metadata={"place": place}
    )


def _messages(output: IO[bytes]) -> Iterator[tuple[Any, ...]]:
    """Yield the child's messages until its output ends, or is not what it writes: the directory has had its hands on
    that process."""
    unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=ROW_BYTES_MAX + 2 * MIB)
    while chunk := output.read(_READ_BYTES):
        unpacker.feed(chunk)
        try:
            messages = [message for message in unpacker if _is_sound(message)]
        except (ValueError, msgpack.UnpackException):
            return
        yield from messages


def _is_sound(message: object) -> bool:
    """Return True, or raise ValueError for what the child does not say."""
    if type(message) is tuple:
        kinds = [tuple(map(type, row)) if type(row) is tuple else type(row) for row in message]
        if all(kind in ((bytes, bytes), (int, str)) for kind in kinds):
            return True
        if kinds == [str, int] and message[0] == "end":
            return True
        if kinds == [str, str, str, str] and message[0] == "error" and message[1] in Reason.__members__:
            return True
    raise ValueError("no message of the child")


def _error_of(message: tuple[str, str, str, str]) -> PrefixdbError:
    _, reason, text, place = message
    return error(Reason[reason], text, metadata={"place": place} if place else None)
