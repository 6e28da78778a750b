"""How much of the disk archives may take while they are on their way in: of one namespace, and all together.

What is measured against is the room there would be without any spool: what is free, and what spools have. One
namespace may have a third of it, so that no tenant keeps the others' imports out; all together half, for what comes in
has to be written as rows as well. The last of the disk is never taken. An archive below ``PIECE_BYTES`` is not looked
at: there are too few of them at a time to matter.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import MIB, SPOOLED_PER_NAMESPACE_PERCENT, SPOOLED_PERCENT
from prefixdb.store.faults import disk_full
from prefixdb.store.reserve import free_bytes

PIECE_BYTES = 1 * MIB
"""What a spool takes at a time; as much as is written at a time."""

RESERVE_BYTES = 512 * MIB
"""Of the disk that spools leave for rows."""


class SpoolRoom:
    """What spools have taken. Thread-safe.

    Args:
        folder: of the spools, or one above it that is there.
        free: tells what is free there.
    """

    def __init__(self, folder: Path, free: Callable[[Path], int] = free_bytes) -> None:
        self._folder = folder
        self._free = free
        self._lock = threading.Lock()
        self._taken: Counter[int] = Counter()

    def share(self, namespace_id: int) -> SpoolShare:
        """Return what one spool of a namespace takes, nothing yet."""
        return SpoolShare(self, namespace_id)

    def taken(self, namespace_id: int) -> int:
        """Return the bytes that the spools of a namespace have taken."""
        return self._taken[namespace_id]

    def is_tight(self, namespace_id: int) -> bool:
        """Return whether the spools of a namespace have more than half of what they may."""
        with self._lock:
            room = self._free(self._folder) + self._taken.total()
            return 2 * self._taken[namespace_id] > room * SPOOLED_PER_NAMESPACE_PERCENT // 100

    def take(self, namespace_id: int, size: int, *, measured: bool = True) -> None:
        """Take so many bytes; called by the share.

        Raises:
            ResourceExhaustedError: QUOTA_EXCEEDED, of the namespace; DISK_FULL.
        """
        with self._lock:
            if measured:
                self._check(namespace_id, size)
            self._taken[namespace_id] += size

    def give_back(self, namespace_id: int, size: int) -> None:
        """Have so many bytes no more; called by the share."""
        with self._lock:
            self._taken[namespace_id] -= size
            if not self._taken[namespace_id]:
                del self._taken[namespace_id]

    def _check(self, namespace_id: int, size: int) -> None:
        free = self._free(self._folder)
        if free < RESERVE_BYTES + size:
            raise disk_full(f"Less than {RESERVE_BYTES // MIB} MiB of disk are free; the last is kept for rows.")
        total = self._taken.total()
        room = free + total
        if self._taken[namespace_id] + size > room * SPOOLED_PER_NAMESPACE_PERCENT // 100:
            raise _too_much(room * SPOOLED_PER_NAMESPACE_PERCENT // 100)
        if total + size > room * SPOOLED_PERCENT // 100:
            raise disk_full(f"Archives on their way in take {SPOOLED_PERCENT} % of the free disk; let one of them end.")


class SpoolShare:
    """What one spool has taken of the room. One thread at a time."""

    def __init__(self, room: SpoolRoom, namespace_id: int) -> None:
        self._room = room
        self._namespace_id = namespace_id
        self._taken = 0

    def grow(self, size: int) -> None:
        """Return when the spool may have this size; raises as ``SpoolRoom.take``."""
        if size >= self._taken + PIECE_BYTES:
            more = (size - self._taken) // PIECE_BYTES * PIECE_BYTES
            self._room.take(self._namespace_id, more)
            self._taken += more

    def adopt(self, size: int) -> None:
        """Note a spool of an earlier process, which is there whether it may or not."""
        self._room.take(self._namespace_id, size, measured=False)
        self._taken += size

    def close(self) -> None:
        """Give everything back; harmless when called again."""
        taken, self._taken = self._taken, 0
        if taken:
            self._room.give_back(self._namespace_id, taken)


def _too_much(limit: int) -> PrefixdbError:
    message = (
        f"The archives on their way into the namespace may take {limit // MIB} MiB of the server's disk now; let the "
        "others end, or send it in parts."
    )
    return error(Reason.QUOTA_EXCEEDED, message, metadata={"limit": str(limit)})
