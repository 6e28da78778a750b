"""The last of the disk is kept for what makes room: deletes, bans, and the store's own flushes and compactions.

A disk that is full to the last byte takes no delete and no ban either, and a memtable that cannot be flushed is only
kept in the log. So new rows of tenants are refused while less is free than the memtables need to reach the disk. The
catalog's own records are small and always taken.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from prefixdb.errors import PrefixdbError
from prefixdb.keycodec import is_data_key
from prefixdb.limits import MIB
from prefixdb.store.base import Commit, Put
from prefixdb.store.faults import disk_full


class SpaceReserve:
    """Whether new rows are taken. ``look`` is called by one thread, ``admit`` by any.

    Args:
        directory: on the file system that is watched.
        reserve_bytes: free space below which only deletes and records of the catalog are taken.
    """

    def __init__(self, directory: Path, reserve_bytes: int) -> None:
        self._directory = directory
        self._reserve_bytes = reserve_bytes
        self.low = False
        """Whether less than the reserve was free at the last look."""

    def look(self) -> bool:
        """Measure the free space and return whether the answer has changed."""
        was_low, self.low = self.low, free_bytes(self._directory) < self._reserve_bytes
        return self.low != was_low

    def admit(self, commits: Sequence[Commit]) -> None:
        """Raise DISK_FULL when space is low and a commit writes a tenant's row; nothing was applied then."""
        if self.low and any(type(each) is Put and is_data_key(each.key) for one in commits for each in one.mutations):
            raise self.refusal()

    def refusal(self) -> PrefixdbError:
        """Return the error for a row that was not taken."""
        mebibytes = self._reserve_bytes // MIB
        return disk_full(f"Less than {mebibytes} MiB of disk are free; the last is kept for deletes and bans.")


def free_bytes(directory: Path) -> int:
    """Return how many bytes the server's user may still write to the directory's file system."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
