"""Which versions rows have that come from elsewhere: new ones, their own, or reserved ones in their own order."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate

Block = tuple[int, int]
"""(first version, how many): consecutive versions, at least one."""


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

    def columns(self) -> tuple[array[int], array[int]]:
        """Return the first version of each block, and the rank that each ends before."""
        return array("Q", self._firsts), array("Q", self._ends)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, rank: int) -> int:
        """Return the version of a rank. Raises IndexError for one that was not reserved."""
        if not 0 <= rank < len(self):
            raise IndexError("no version was reserved for this rank")
        index = bisect_right(self._ends, rank)
        return self._firsts[index] + rank - (self._ends[index - 1] if index else 0)


class VersionRule:
    """Which version each row gets that comes from elsewhere with one. Immutable.

    Args:
        columns: what a store's own code needs to do the same: None for new versions, nothing for those the rows bring,
            else the distinct versions, ascending, and the columns of the ``VersionMap`` that their ranks are mapped by.
    """

    __slots__ = ("_map", "columns")

    def __init__(self, columns: tuple[array[int], ...] | None, ranks: VersionMap | None = None) -> None:
        self.columns = columns
        self._map = ranks

    @classmethod
    def ranked(cls, versions: array[int], blocks: Iterable[Block]) -> VersionRule:
        """Return the rule that maps the ranks of ``versions``, ascending, onto blocks of as many versions.

        One that is not among them shares the rank of the next.
        """
        ranks = VersionMap(blocks)
        return cls((versions, *ranks.columns()), ranks)

    def __call__(self, version: int) -> int:
        """Return the version for a row that brings ``version``; 0, which stands for none, is for the commit's own."""
        if not version or self.columns is None:
            return 0
        if self._map is None:
            return version
        versions = self.columns[0]
        return self._map[min(bisect_left(versions, version), len(versions) - 1)]


NEW_VERSIONS = VersionRule(None)
KEPT_VERSIONS = VersionRule(())
