"""Goal: ranks are those of all distinct versions, in memory and on disk, and nothing is left behind.

Method: compared with a sorted set, with runs so small that many are merged.
"""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest

from prefixdb.archive.ranks import VersionRanks


def open_files() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("run_versions", [1, 7, 100, 100_000])
def test_the_rank_is_the_number_of_smaller_distinct_versions(tmp_path: Path, run_versions: int) -> None:
    draw = random.Random(run_versions)
    versions = [draw.choice([draw.randrange(300), draw.randrange(2**64), 0, 2**64 - 1]) for _ in range(1000)]
    expected = {version: rank for rank, version in enumerate(sorted(set(versions)))}
    with VersionRanks(tmp_path, run_versions=run_versions) as ranks:
        for begin in range(0, 1000, 50):
            ranks.add(versions[begin : begin + 50])
        assert ranks.finish() == len(expected)
        assert {version: ranks.rank(version) for version in versions} == expected
        with pytest.raises(KeyError):
            ranks.rank(next(version for version in range(1000) if version not in expected))
    assert list(tmp_path.iterdir()) == []


def test_no_versions_have_no_ranks(tmp_path: Path) -> None:
    with VersionRanks(tmp_path) as ranks:
        assert ranks.finish() == 0
        with pytest.raises(KeyError):
            ranks.rank(0)


def test_ranks_are_asked_for_at_the_end(tmp_path: Path) -> None:
    with VersionRanks(tmp_path) as ranks, pytest.raises(RuntimeError):
        ranks.rank(0)


def test_files_are_without_a_name_and_closed_in_the_end(tmp_path: Path) -> None:
    before = open_files()
    ranks = VersionRanks(tmp_path, run_versions=10)
    ranks.add(range(10))
    ranks.add(range(100, 130))
    assert list(tmp_path.iterdir()) == [] and open_files() > before
    ranks.finish()
    ranks.close()
    ranks.close()
    assert open_files() == before


def test_memory_does_not_grow_with_the_number_of_versions(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        with VersionRanks(tmp_path, run_versions=5_000) as ranks:
            for begin in range(0, 200_000, 1_000):
                ranks.add(range(begin, begin + 1_000))
            assert ranks.finish() == 200_000
            assert ranks.rank(199_999) == 199_999
            peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024 * 1024
