"""The order of an archive's versions: which rank each has among the distinct ones, in bounded memory.

Distinct versions are gathered in sorted runs of machine integers, eight bytes each. When there are more than may be
kept, every second one is left out, again and again; one that was left out shares the rank of the next. So neighbours
may become equal, but no order is ever turned round.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from prefixdb.archive import Rows, ScannedRows
from prefixdb.limits import VERSIONS_RESERVED_MAX
from prefixdb.store.version_rule import Block, VersionRule

RANKS_MAX = 10_000_000
"""Distinct versions that are told apart: 80 MB, and as much again while runs are merged."""

_RUN = 1_000_000
"""Versions that are sorted at once."""

_RUNS_MAX = 8
"""Runs that are kept beside each other before they are merged into one."""


class Ranks:
    """The distinct versions of an archive, ascending. Immutable.

    wanted: how many versions have to be reserved for them.
    """

    def __init__(self, versions: array[int]) -> None:
        self._versions = versions
        self.wanted = len(versions)

    def mapped_onto(self, blocks: Iterable[Block]) -> VersionRule:
        """Return what gives each of the archive's versions the reserved version for it; 0 stays 0.

        Args:
            blocks: of ``wanted`` versions.
        """
        return VersionRule.ranked(self._versions, blocks)


def ranks_of(pages: Iterable[Sequence[int]], ranks_max: int = min(RANKS_MAX, VERSIONS_RESERVED_MAX)) -> Ranks:
    """Return the ranks of all versions in ``pages``; 0, which stands for none, has none."""
    runs: list[array[int]] = []
    held: set[int] = set()
    for page in pages:
        held.update(page)
        held.discard(0)
        if len(held) >= _RUN:
            runs.append(array("Q", sorted(held)))
            held = set()
            if len(runs) >= _RUNS_MAX:
                runs = [_merged(runs, ranks_max)]
    runs.append(array("Q", sorted(held)))
    return Ranks(_merged(runs, ranks_max))


def versions_of(rows: Rows | ScannedRows) -> Sequence[int]:
    """Return the versions in a frame, in any order, each at least once."""
    return rows.versions() if isinstance(rows, ScannedRows) else [row[2] for row in rows.rows]


def _merged(runs: Sequence[array[int]], ranks_max: int) -> array[int]:
    merged = runs[0] if len(runs) == 1 else array("Q", _distinct(heapq.merge(*runs)))
    while len(merged) > ranks_max:
        merged = merged[::2]
    return merged


def _distinct(versions: Iterable[int]) -> Iterator[int]:
    for version, _ in groupby(versions):
        yield version
