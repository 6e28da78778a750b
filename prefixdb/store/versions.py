"""Blocks of versions for rows that are loaded in an order of their own.

Rows of an archive whose versions are ahead of this store's can not keep them: the same numbers would be given out again
here. Their order can be kept. As many numbers as there are distinct versions are taken from the store, by commits that
write its creation row again and again (a commit of n mutations takes n numbers), and the distinct versions are mapped
onto them, smallest onto smallest. A reservation is durable when it is returned, so its numbers are never anybody
else's; one that is not used costs nothing but the numbers.

Every number stands for a write of a few bytes, about 30 in the log, and others wait for the batch it shares: so many go
into one commit as cost them a few milliseconds.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import Protocol

from prefixdb.limits import VERSIONS_RESERVED_MAX
from prefixdb.store.base import Commit, CommitResult, Put
from prefixdb.store.opening import CREATION_KEY

VERSIONS_PER_COMMIT = 5_000
"""Numbers taken by one commit: those who share its batch wait about 5 ms."""

PAUSE_SECONDS = 0.002
"""Pause between two commits. Without it whoever waits for the store's lock hardly ever gets it: other writers' slowest
hundredth took 226 ms in the rocksdict store, with it 8 ms."""

Block = tuple[int, int]
"""(first version, how many): consecutive versions, at least one."""


class CommittingStore(Protocol):
    """What a reservation needs of a store."""

    def commit(self, commit: Commit) -> CommitResult:
        """Apply a commit; see ``Store.commit``."""


def reserve_versions(store: CommittingStore, count: int) -> list[Block]:
    """Take versions nobody else will have. Blocks: about 2 µs each.

    Args:
        store: where they are taken.
        count: how many, 0 .. ``VERSIONS_RESERVED_MAX``.

    Returns:
        Ascending blocks of ``count`` versions in all; other writers' versions lie between them.

    Raises:
        ValueError: ``count`` is out of range.
        PrefixdbError: as ``Store.commit_many``; what was taken so far is lost, which harms nobody.
    """
    if not 0 <= count <= VERSIONS_RESERVED_MAX:
        raise ValueError(f"versions are reserved up to {VERSIONS_RESERVED_MAX} at a time")
    blocks: list[Block] = []
    pause = threading.Event()
    for first in range(0, count, VERSIONS_PER_COMMIT):
        if first:
            pause.wait(PAUSE_SECONDS)
        wanted = min(VERSIONS_PER_COMMIT, count - first)
        # The row stays, so that the last number survives a flush; see ``opening``.
        version = store.commit(Commit((Put(CREATION_KEY, b""),) * wanted)).version
        begin = version - wanted + 1
        if blocks and sum(blocks[-1]) == begin:
            blocks[-1] = (blocks[-1][0], blocks[-1][1] + wanted)
        else:
            blocks.append((begin, wanted))
    return blocks


class VersionMap:
    """Maps ranks 0, 1, 2 … onto the versions of reserved blocks, in ascending order. Immutable.

    Args:
        blocks: as ``reserve_versions`` returns them; they may have been stored meanwhile.

    Raises:
        ValueError: the blocks do not ascend, overlap, or one is empty.
    """

    __slots__ = ("_ends", "_firsts")

    def __init__(self, blocks: Iterable[Block]) -> None:
        pairs = list(blocks)
        end = 1
        for first, count in pairs:
            if count < 1 or first < end:
                raise ValueError("blocks of versions ascend and have at least one each")
            end = first + count
        self._firsts = [first for first, _ in pairs]
        self._ends = list(accumulate(count for _, count in pairs))
        """Ranks up to and without which each block goes."""

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, rank: int) -> int:
        """Return the version of a rank. Raises IndexError for one that was not reserved."""
        if not 0 <= rank < len(self):
            raise IndexError("no version was reserved for this rank")
        index = bisect_right(self._ends, rank)
        return self._firsts[index] + rank - (self._ends[index - 1] if index else 0)
