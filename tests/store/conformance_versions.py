"""What every store promises about versions that rows bring with them, and about versions that are reserved.

Method: as in ``conformance``; nothing but the ``Store`` protocol.
"""

from __future__ import annotations

import asyncio

import pytest

from prefixdb.keycodec import Span, namespace_span
from prefixdb.store.base import Commit, CommitResult, Delete, DeleteSpan, Put, VersionIs
from prefixdb.store.version_rule import VersionMap
from prefixdb.store.versions import VERSIONS_PER_COMMIT, reserve_versions
from tests.store.conformance import NS, key, payloads, put, rows
from tests.store.conformance_space import fill, reclaim
from tests.store.stores import Harness


class VersionConformance:
    """Promises about ``Put.version`` and about the numbers a commit takes."""

    def test_a_row_keeps_the_version_it_brings_and_the_commit_has_its_own(self, harness: Harness) -> None:
        old = put(harness.store, "a").version
        put(harness.store, "b")
        result = harness.store.commit(Commit((Put(key("a"), b"moved", 0, old), Put(key("c"), b""))))
        assert result.applied and result.version > old + 1
        found = harness.store.get_many([key("a"), key("c")])
        assert [row.version if row else None for row in found] == [old, result.version]
        assert {row.key: row.version for row in rows(harness.reopen(), namespace_span(NS))}[key("a")] == old

    def test_the_highest_version_a_row_may_bring_is_the_one_before_the_commits(self, harness: Harness) -> None:
        last = put(harness.store, "a").version
        assert harness.store.commit(Commit((Put(key("b"), b"", 0, last),))).version > last
        last = harness.store.status().last_version
        mutations = (Put(key("c"), b"", 0, last + 2), Delete(key("x")), Delete(key("y")))
        assert harness.store.commit(Commit(mutations)).version == last + 3
        row = harness.store.get(key("c"))
        assert row is not None and row.version == last + 2

    @pytest.mark.parametrize("ahead", [1, 2, 1_000])
    def test_a_version_that_is_still_to_come_fails_the_whole_batch(self, harness: Harness, ahead: int) -> None:
        last = put(harness.store, "a", b"kept").version
        wrong = Put(key("b"), b"", 0, last + 1 + ahead)
        with pytest.raises(ValueError):
            harness.store.commit_many([Commit((Put(key("a"), b"lost"),)), Commit((wrong,))])
        assert payloads(harness.store) == {key("a"): b"kept"}
        assert harness.store.status().last_version == last
        assert put(harness.store, "c").version == last + 1

    @pytest.mark.parametrize("version", [-1, (1 << 64) - 1, 1 << 64, -(1 << 64)])
    def test_a_version_no_commit_can_have_is_refused(self, harness: Harness, version: int) -> None:
        with pytest.raises(ValueError):
            harness.store.commit(Commit((Put(key("a"), b"", 0, version),)))
        assert payloads(harness.store) == {}

    def test_later_commits_of_a_batch_see_the_version_a_row_has_brought(self, harness: Harness) -> None:
        old = put(harness.store, "a").version
        put(harness.store, "b")
        results = harness.store.commit_many(
            [
                Commit((Put(key("b"), b"", 0, old),)),
                Commit((Put(key("c"), b""),), conditions=(VersionIs(key("b"), old),)),
                Commit((Put(key("d"), b""),), conditions=(VersionIs(key("b"), old + 1),)),
            ]
        )
        assert [result.applied for result in results] == [True, True, False]
        assert results[2].current_version == old

    def test_a_wrong_version_fails_alone_among_the_tasks_of_an_event_loop(self, harness: Harness) -> None:
        async def run() -> list[CommitResult | BaseException]:
            committer = harness.store.new_committer()
            wrong = Commit((Put(key("wrong"), b"", 0, 1 << 40),))
            commits = [Commit((Put(key("a"), b""),)), wrong, Commit((Put(key("b"), b""),))]
            outcomes = await asyncio.gather(*map(committer.commit, commits), return_exceptions=True)
            await committer.close()
            return outcomes

        outcomes = asyncio.run(run())
        assert [type(outcome) for outcome in outcomes] == [CommitResult, ValueError, CommitResult]
        assert set(payloads(harness.store)) == {key("a"), key("b")}

    def test_a_commit_takes_a_number_for_each_mutation_and_none_for_an_empty_span(self, harness: Harness) -> None:
        first = put(harness.store, "a").version
        nothing = DeleteSpan(Span(key("a"), key("a")))
        mutations = (Put(key("a"), b""), nothing, Delete(key("b")), DeleteSpan(namespace_span(NS + 1)))
        assert harness.store.commit(Commit(mutations)).version == first + 3

    @pytest.mark.parametrize("count", [1, VERSIONS_PER_COMMIT, 2 * VERSIONS_PER_COMMIT + 1])
    def test_reserved_versions_are_nobody_elses_and_ascend(self, harness: Harness, count: int) -> None:
        before = put(harness.store, "a").version
        blocks = reserve_versions(harness.store, count)
        after = put(harness.store, "b").version
        taken = VersionMap(blocks)
        assert len(taken) == count
        numbers = [taken[rank] for rank in range(count)]
        assert numbers == sorted(set(numbers))
        assert before < numbers[0] and numbers[-1] < after
        harness.store.commit(Commit((Put(key("c"), b"", 0, numbers[0]), Put(key("d"), b"", 0, numbers[-1]))))
        assert {row.version for row in rows(harness.store, namespace_span(NS))} == {
            before,
            after,
            numbers[0],
            numbers[-1],
        }
        assert set(payloads(harness.store)) == {key(name) for name in "abcd"}, "no row is visible but these"

    def test_reserved_versions_stay_reserved_after_a_restart(self, harness: Harness) -> None:
        (first, count) = reserve_versions(harness.store, 500)[-1]
        harness.store.flush()
        store = harness.reopen()
        assert put(store, "a").version >= first + count

    def test_versions_are_reserved_after_a_reclaim_as_before(self, harness: Harness) -> None:
        fill(harness, NS + 5, 10)
        reclaim(harness, NS + 5)
        assert len(VersionMap(reserve_versions(harness.store, 5))) == 5
        assert harness.store.prove_empty(namespace_span(NS + 5)).empty

    def test_versions_of_other_writers_lie_between_the_blocks(self, harness: Harness) -> None:
        taken: list[int] = []

        class Interrupted:
            def commit(self, commit: Commit) -> CommitResult:
                taken.append(put(harness.store, "other").version)
                return harness.store.commit(commit)

        blocks = reserve_versions(Interrupted(), 2 * VERSIONS_PER_COMMIT + 5)
        assert len(taken) == len(blocks) == 3
        numbers = VersionMap(blocks)
        assert not {numbers[rank] for rank in range(len(numbers))} & set(taken)
        assert sum(count for _, count in blocks) == 2 * VERSIONS_PER_COMMIT + 5
