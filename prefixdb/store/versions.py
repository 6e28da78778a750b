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
from typing import Protocol

from prefixdb.limits import VERSIONS_RESERVED_MAX
from prefixdb.store.base import Commit, CommitResult, Put
from prefixdb.store.opening import CREATION_KEY
from prefixdb.store.version_rule import Block

VERSIONS_PER_COMMIT = 5_000
"""Numbers taken by one commit: those who share its batch wait about 5 ms."""

PAUSE_SECONDS = 0.002
"""Pause between two commits. Without it whoever waits for the store's lock hardly ever gets it: other writers' slowest
hundredth took 226 ms in the rocksdict store, with it 8 ms."""


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
