"""Ranks of more versions than are told apart, and the count of different keys, against sorted lists and sets.

Method: random versions, with the limits lowered so far that everything that happens to ten million of them happens to
some hundred; the oracle is a sorted list.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from prefixdb.backup import ranks, repeats
from prefixdb.backup.ranks import ranks_of
from prefixdb.backup.repeats import Different
from prefixdb.store.version_rule import Block


def blocks_of(wanted: int) -> list[Block]:
    """Return blocks with gaps between them, for so many versions."""
    halves = [wanted // 2, wanted - wanted // 2]
    return [(1_000_000 + 10 * wanted * n, count) for n, count in enumerate(halves) if count]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ranks_max", [1, 2, 7, 64, 10_000])
def test_no_order_is_turned_round_however_few_versions_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, seed: int, ranks_max: int
) -> None:
    monkeypatch.setattr(ranks, "_RUN", 16)
    monkeypatch.setattr(ranks, "_RUNS_MAX", 3)
    rng = random.Random(seed)
    versions = [rng.choice((0, rng.randrange(1, 2_000), rng.randrange(1, 2**63))) for _ in range(1_500)]
    pages = [versions[first : first + 9] for first in range(0, len(versions), 9)]
    found = ranks_of(pages, ranks_max)
    distinct = sorted(set(versions) - {0})
    assert 0 < found.wanted <= min(ranks_max, len(distinct))
    version_of = found.mapped_onto(blocks_of(found.wanted))
    new = [version_of(version) for version in distinct]
    assert all(one <= other for one, other in itertools.pairwise(new))
    reserved = {first + n for first, count in blocks_of(found.wanted) for n in range(count)}
    assert set(new) <= reserved
    assert version_of(0) == 0
    if len(distinct) <= ranks_max:
        assert len(set(new)) == len(distinct), "versions that can be told apart were not"
    else:
        assert len(set(new)) > found.wanted // 2, "more became equal than had to"


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 500])
def test_different_keys_are_counted_in_memory_and_on_the_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int
) -> None:
    monkeypatch.setattr(repeats, "_RUN", 16)
    monkeypatch.setattr(repeats, "_READ", 5)
    rng = random.Random(count)
    keys = [b"%d" % rng.randrange(count // 2 + 1) for _ in range(count)]
    with Different(tmp_path) as different:
        for first in range(0, count, 7):
            different.add(keys[first : first + 7])
        assert (different.added, different.repeated) == (count, count - len(set(keys)))
        assert list(tmp_path.iterdir()) == [], "the file has a name"
