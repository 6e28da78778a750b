"""Ranks are mapped onto reserved versions in order, whatever the blocks look like, and wrong blocks are refused.

Method: the oracle is the plain list of all numbers of the blocks.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixdb.limits import VERSIONS_RESERVED_MAX
from prefixdb.store.base import Commit, CommitResult
from prefixdb.store.version_rule import VersionMap
from prefixdb.store.versions import reserve_versions


class Refusing:
    def commit(self, commit: Commit) -> CommitResult:
        raise AssertionError("nothing is to be committed")


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=20))
def test_ranks_go_through_all_numbers_of_all_blocks_in_order(gaps: list[tuple[int, int]]) -> None:
    blocks, numbers, end = [], [], 0
    for gap, count in gaps:
        blocks.append((end + gap, count))
        numbers += range(end + gap, end + gap + count)
        end += gap + count
    found = VersionMap(blocks)
    assert len(found) == len(numbers)
    assert [found[rank] for rank in range(len(found))] == numbers
    for rank in (-1, len(numbers), len(numbers) + 1):
        with pytest.raises(IndexError):
            found[rank]


def test_blocks_that_touch_are_fine() -> None:
    assert [VersionMap([(5, 2), (7, 1)])[rank] for rank in range(3)] == [5, 6, 7]


@pytest.mark.parametrize("blocks", [[(0, 1)], [(5, 0)], [(5, -1)], [(5, 2), (6, 1)], [(5, 2), (3, 1)], [(-3, 2)]])
def test_blocks_that_are_none_are_refused(blocks: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError):
        VersionMap(blocks)


@pytest.mark.parametrize("count", [-1, VERSIONS_RESERVED_MAX + 1])
def test_more_than_may_be_reserved_is_refused_before_anything_is(count: int) -> None:
    with pytest.raises(ValueError):
        reserve_versions(Refusing(), count)


def test_nothing_is_reserved_without_a_commit() -> None:
    assert reserve_versions(Refusing(), 0) == []
