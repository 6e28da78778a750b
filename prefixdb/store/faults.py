"""The one translator from an engine's exception texts to prefixdb's errors.

The binding raises plain ``Exception`` for everything; only the first words of the text tell the cases apart
(``IO error:``, ``Corruption:``, ``Result incomplete:``, ``Invalid argument:``). The text itself holds paths of the
server and may hold keys, so it never becomes part of a message; it stays reachable as the cause for the server's log.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefixdb.errors import PrefixdbError, Reason, error

STALL_RETRY_MS = 250
"""When a writer that met a write stall should try again: about the time the engine needs to flush one memtable."""

DISK_RETRY_MS = 1_000
"""When to try again after a disk error: the store itself looks for space once a second."""


_PASSING = ("Too many open files", "Cannot allocate memory", "Interrupted")
_FORBIDDEN = ("Permission denied", "Operation not permitted", "Read-only file system")


class Doing(enum.Enum):
    """What the store was doing when the engine raised; the same text means different things."""

    READ = "read"
    WRITE = "write"
    MAINTAIN = "maintain"


def translate(failure: BaseException, doing: Doing) -> PrefixdbError:
    """Return the error a caller gets for an engine's exception.

    A failed append of the log leaves at most a torn record, which recovery drops: not applied. A failed sync leaves a
    whole record whose fate the disk decides: unknown. Everything that is not understood is INTERNAL for reads and
    unknown for writes, never a guess at success or failure.
    """
    if isinstance(failure, PrefixdbError):
        return failure
    text = str(failure)
    if text.startswith("Corruption"):
        return error(Reason.CORRUPTION, "A stored block is damaged; restore the rows it held from a backup.")
    if doing is Doing.READ:
        return _read_failure(text)
    if text.startswith("Result incomplete") or "Write stall" in text:
        return error(Reason.WRITE_STALL, retry_after_ms=STALL_RETRY_MS)
    no_space = is_no_space(failure)
    if doing is Doing.MAINTAIN:
        return disk_full() if no_space else error(Reason.READ_ONLY_STORE, retry_after_ms=DISK_RETRY_MS)
    if text.startswith("IO error") and "sync" not in text.lower() and ("append" in text.lower() or no_space):
        return disk_full() if no_space else error(Reason.READ_ONLY_STORE, retry_after_ms=DISK_RETRY_MS)
    return error(Reason.OUTCOME_UNKNOWN)


@contextmanager
def translated(doing: Doing) -> Iterator[None]:
    """Turn whatever an engine raises inside a ``with`` block into prefixdb's error, with the original as its cause."""
    try:
        yield
    except PrefixdbError:
        raise
    except Exception as failure:
        raise translate(failure, doing) from failure


def is_no_space(failure: BaseException) -> bool:
    """Return whether the engine or the operating system ran out of disk space or quota."""
    text = str(failure)
    return "No space left on device" in text or "Disk quota exceeded" in text or "File too large" in text


def cannot_open(path: Path, failure: Exception, *, text: str = "", damage: str = "") -> PrefixdbError:
    """Return the error for files that could not be opened: what the machine lacks for a moment is no damage.

    Args:
        path: what was to be opened.
        failure: an engine's exception, or the operating system's.
        text: its words, when they should be others than its own.
        damage: the message when it is damage; made from ``text`` when empty.
    """
    if is_no_space(failure):
        message = f"{path} cannot be opened: no space is left on the disk."
        return error(Reason.DISK_FULL, message, retry_after_ms=DISK_RETRY_MS)
    text = text or str(failure)
    if isinstance(failure, OSError) or any(passing in text for passing in (*_PASSING, *_FORBIDDEN)):
        message = f"{path} cannot be opened: {text}. That says nothing about the data in it."
        return error(Reason.READ_ONLY_STORE, message, retry_after_ms=DISK_RETRY_MS)
    return error(Reason.CORRUPTION, damage or f"{path} cannot be opened: {text}")


def disk_full(message: str = "") -> PrefixdbError:
    """Return DISK_FULL with the time of a sensible retry; without a message it says that the disk is full."""
    return error(Reason.DISK_FULL, message or None, retry_after_ms=DISK_RETRY_MS)


def _read_failure(text: str) -> PrefixdbError:
    if text.startswith("IO error"):
        if any(passing in text for passing in _PASSING):
            return error(
                Reason.READ_ONLY_STORE,
                "The store is out of file descriptors or memory for a moment; the read was not done.",
                retry_after_ms=DISK_RETRY_MS,
            )
        return error(Reason.CORRUPTION, "A stored file is missing or cannot be read.")
    return error(Reason.INTERNAL, "The storage engine failed in a way that was not foreseen.")
