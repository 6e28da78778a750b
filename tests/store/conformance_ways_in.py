"""What every store promises about its committer and its ingest, as tests any store can inherit.

Method: as in ``conformance``; nothing but the ``Store`` protocol. A store without an ingest skips those tests.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from prefixdb.keycodec import Span, data_key, namespace_span
from prefixdb.store.base import (
    Absent,
    Commit,
    CommitResult,
    DeleteSpan,
    Exists,
    Ingest,
    Put,
    ValueIs,
)
from tests.store.conformance import NS, key, payloads, put, rows
from tests.store.stores import VOLATILE, Harness


def writing(number: int) -> Commit:
    return Commit((Put(key(b"%05d" % number), b"%d" % number),))


class CommitterConformance:
    """Promises about committers of an event loop."""

    def test_commits_of_many_tasks_are_all_applied_once_with_versions_of_their_own(self, harness: Harness) -> None:
        async def run() -> list[CommitResult]:
            committer = harness.store.new_committer()
            results = await asyncio.gather(*(committer.commit(writing(number)) for number in range(300)))
            await committer.close()
            return results

        results = asyncio.run(run())
        assert all(result.applied for result in results)
        assert len({result.version for result in results}) == 300
        for number, result in enumerate(results):
            row = harness.store.get(key(b"%05d" % number))
            assert row is not None and (row.payload, row.version) == (b"%d" % number, result.version)

    def test_what_was_acknowledged_is_seen_by_the_next_read(self, harness: Harness) -> None:
        async def run() -> None:
            committer = harness.store.new_committer()
            for number in range(50):
                result = await committer.commit(Commit((Put(key("n"), b"%d" % number),)))
                row = harness.store.get(key("n"))
                assert row is not None and row.version == result.version
            await committer.close()

        asyncio.run(run())

    def test_commit_all_answers_in_order_and_sees_its_own_earlier_commits(self, harness: Harness) -> None:
        async def run() -> None:
            committer = harness.store.new_committer()
            claim = Commit((Put(key("lock"), b""),), conditions=(Absent(key("lock")),))
            results = await committer.commit_all([claim, claim, writing(1)])
            assert [result.applied for result in results] == [True, False, True]
            assert results[1] == CommitResult(False, failed_condition=0, current_version=results[0].version)
            assert await committer.commit_all([]) == []
            await committer.close()

        asyncio.run(run())

    def test_racing_conditions_have_one_winner(self, harness: Harness) -> None:
        async def run() -> int:
            committer = harness.store.new_committer()
            claims = [Commit((Put(key("lock"), b"%d" % n),), conditions=(Absent(key("lock")),)) for n in range(100)]
            results = await asyncio.gather(*(committer.commit(claim) for claim in claims))
            await committer.close()
            return sum(result.applied for result in results)

        assert asyncio.run(run()) == 1

    def test_a_wrong_request_fails_alone(self, harness: Harness) -> None:
        async def run() -> None:
            committer = harness.store.new_committer()
            wrong = Commit(("no mutation",))  # type: ignore[arg-type]
            outcomes = await asyncio.gather(
                committer.commit(writing(1)),
                committer.commit(wrong),
                committer.commit(writing(2)),
                return_exceptions=True,
            )
            assert isinstance(outcomes[0], CommitResult) and isinstance(outcomes[2], CommitResult)
            assert isinstance(outcomes[1], TypeError)
            await committer.close()

        if harness.name not in VOLATILE:
            asyncio.run(run())
            assert set(payloads(harness.store)) == {key(b"00001"), key(b"00002")}

    def test_a_cancelled_task_does_not_take_its_commit_back_and_disturbs_nobody(self, harness: Harness) -> None:
        async def run() -> None:
            committer = harness.store.new_committer()
            tasks = [asyncio.create_task(committer.commit(writing(number))) for number in range(20)]
            await asyncio.sleep(0)
            tasks[7].cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(isinstance(each, CommitResult) for each in done) >= 19
            await committer.close()

        asyncio.run(run())
        assert len(payloads(harness.store)) == 20

    def test_close_finishes_what_was_accepted_and_refuses_the_rest(self, harness: Harness) -> None:
        async def run() -> None:
            committer = harness.store.new_committer()
            accepted = [asyncio.create_task(committer.commit(writing(number))) for number in range(20)]
            await asyncio.sleep(0)
            await committer.close()
            with pytest.raises(RuntimeError):
                await committer.commit(writing(99))
            assert all(result.applied for result in await asyncio.gather(*accepted))
            await committer.close()

        asyncio.run(run())
        assert len(payloads(harness.store)) == 20

    def test_two_committers_and_blocking_callers_share_the_store(self, harness: Harness) -> None:
        async def run() -> None:
            committers = [harness.store.new_committer() for _ in range(2)]
            await asyncio.gather(
                *(committers[number % 2].commit(writing(number)) for number in range(40)),
                *(asyncio.to_thread(harness.store.commit, writing(number)) for number in range(40, 50)),
            )
            for committer in committers:
                await committer.close()

        asyncio.run(run())
        assert len(payloads(harness.store)) == 50

    def test_one_event_loop_after_the_other_gets_a_committer(self, harness: Harness) -> None:
        async def run(number: int) -> None:
            committer = harness.store.new_committer()
            await committer.commit(writing(number))
            await committer.close()

        for number in range(3):
            asyncio.run(run(number))
        assert len(payloads(harness.store)) == 3


class IngestConformance:
    """Promises about loading sorted rows."""

    def begin(self, harness: Harness, span: Span | None = None) -> Ingest:
        ingest = harness.store.open_ingest(span or namespace_span(NS))
        if ingest is None:
            pytest.skip("this store has no ingest")
        return ingest

    def sorted_rows(self, count: int, size: int = 100) -> list[Put]:
        return [Put(key(b"%06d" % number), os.urandom(size)) for number in range(count)]

    def test_ingested_rows_are_rows_like_any_others_with_one_version(self, harness: Harness) -> None:
        before = harness.store.status().last_version
        ingest = self.begin(harness)
        wanted = self.sorted_rows(3_000)
        wanted[7] = wanted[7]._replace(expires_at_ms=harness.clock.now_ms() + 5)
        for first in range(0, 3_000, 700):
            ingest.add(wanted[first : first + 700])
        assert rows(harness.store, namespace_span(NS), raw=True) == []
        result = ingest.finish()
        assert result is not None and result.applied and result.version > before
        found = rows(harness.store, namespace_span(NS))
        assert [Put(row.key, row.payload, row.expires_at_ms) for row in found] == wanted
        assert {row.version for row in found} == {result.version}
        assert harness.store.get(wanted[5].key) == found[5]
        later = harness.store.commit(Commit((Put(wanted[5].key, b"later"),)))
        assert later.version > result.version
        harness.clock.advance(5)
        assert harness.store.get(wanted[7].key) is None
        store = harness.reopen()
        assert len(rows(store, namespace_span(NS))) == 2_999
        assert store.commit(Commit((Put(key("zz"), b""),))).version > later.version

    def test_ingested_rows_keep_the_versions_they_bring(self, harness: Harness) -> None:
        old = [put(harness.store, "elsewhere").version for _ in range(3)]
        harness.store.commit(Commit((DeleteSpan(namespace_span(NS)),)))
        ingest = self.begin(harness)
        wanted = [row._replace(version=version) for row, version in zip(self.sorted_rows(4), [*old, 0], strict=True)]
        ingest.add(wanted)
        result = ingest.finish()
        assert result is not None and result.version > old[-1]
        found = rows(harness.reopen(), namespace_span(NS))
        assert [row.version for row in found] == [*old, result.version]

    def test_rows_with_a_version_that_is_still_to_come_are_refused(self, harness: Harness) -> None:
        for wrong in (-1, 1 << 63, 1 << 64, None):
            ingest = self.begin(harness)
            # The ingest's own number is the first one nobody had before it began.
            version = wrong if wrong is not None else harness.store.status().last_version + 1
            with pytest.raises(ValueError):
                ingest.add([self.sorted_rows(1)[0]._replace(version=version)])
                ingest.finish()
            ingest.abort()
        assert payloads(harness.store) == {}

    def test_a_span_that_has_rows_by_now_takes_nothing(self, harness: Harness) -> None:
        ingest = self.begin(harness)
        ingest.add(self.sorted_rows(10))
        put(harness.store, "taken")
        assert ingest.finish() is None
        assert set(payloads(harness.store)) == {key("taken")}

    def test_rows_that_were_deleted_or_reclaimed_do_not_stand_in_the_way(self, harness: Harness) -> None:
        for number in range(20):
            put(harness.store, b"%06d" % number, b"old")
        harness.store.commit(Commit((DeleteSpan(namespace_span(NS)),)))
        ingest = self.begin(harness)
        wanted = self.sorted_rows(10)
        ingest.add(wanted)
        result = ingest.finish()
        assert result is not None and result.applied
        assert payloads(harness.store) == {row.key: row.payload for row in wanted}

    def test_a_marker_outside_the_span_comes_with_the_rows_or_not_at_all(self, harness: Harness) -> None:
        marker = Put(data_key(NS - 1, 0, b"marker"), b"done")
        for guards, taken in (((Exists(data_key(NS - 1, 0, b"no")),), False), ((), True)):
            ingest = self.begin(harness)
            ingest.add(self.sorted_rows(10))
            if taken:
                put(harness.store, "taken")
            result = ingest.finish(guards, marker=marker)
            assert result is None if taken else result is not None and not result.applied
            assert harness.store.get(marker.key) is None
        harness.store.commit(Commit((DeleteSpan(namespace_span(NS)),)))
        ingest = self.begin(harness)
        ingest.add(self.sorted_rows(10))
        result = ingest.finish(marker=marker)
        assert result is not None and result.applied
        store = harness.reopen()
        assert len(rows(store, namespace_span(NS))) == 10
        found = store.get(marker.key)
        assert found is not None and found.payload == b"done"

    def test_guards_decide_and_nothing_is_there_when_one_fails(self, harness: Harness) -> None:
        guard = data_key(NS + 1, 0, b"guard")
        version = harness.store.commit(Commit((Put(guard, b"1"),))).version
        for guards, failed in (((Exists(guard), ValueIs(guard, b"2")), 1), ((Absent(guard),), 0)):
            ingest = self.begin(harness)
            ingest.add(self.sorted_rows(10))
            expected = CommitResult(False, failed_guard=failed, current_version=version)
            assert ingest.finish(guards) == expected
            assert payloads(harness.store) == {}
        ingest = self.begin(harness)
        ingest.add(self.sorted_rows(10))
        result = ingest.finish((ValueIs(guard, b"1"),))
        assert result is not None and result.applied
        assert len(payloads(harness.store)) == 10

    def test_rows_outside_the_span_or_out_of_order_are_refused(self, harness: Harness) -> None:
        good = self.sorted_rows(3)
        for wrong in (
            [good[1], good[0]],
            [good[0], good[0]],
            [Put(data_key(NS + 1, 0, b"x"), b"")],
            [good[0], Put(data_key(NS - 1, 0, b"x"), b"")],
        ):
            ingest = self.begin(harness)
            with pytest.raises(ValueError):
                ingest.add(wrong)
            ingest.abort()
        ingest = self.begin(harness)
        ingest.add(good[:2])
        with pytest.raises(ValueError):
            ingest.add(good[1:])
        ingest.abort()
        assert payloads(harness.store) == {}

    def test_an_aborted_ingest_leaves_nothing_and_nothing_can_follow(self, harness: Harness) -> None:
        ingest = self.begin(harness)
        ingest.add(self.sorted_rows(10))
        ingest.abort()
        ingest.abort()
        for call in (lambda: ingest.add(self.sorted_rows(1)), ingest.finish):
            with pytest.raises(RuntimeError):
                call()
        assert payloads(harness.store) == {}
        assert not list(harness.directory.glob("ingest/*"))

    def test_an_ingest_of_nothing_is_fine(self, harness: Harness) -> None:
        result = self.begin(harness).finish()
        assert result is not None and result.applied
        put(harness.store, "a")
        assert self.begin(harness).finish() is None

    def test_a_power_cut_leaves_all_or_nothing(self, harness: Harness, tmp_path: Path) -> None:
        if harness.name in VOLATILE:
            pytest.skip("this store has no directory")
        ingest = self.begin(harness)
        ingest.add(self.sorted_rows(2_000))
        before, after = tmp_path / "before", tmp_path / "after"
        shutil.copytree(harness.directory, before)
        result = ingest.finish()
        shutil.copytree(harness.directory, after)
        for image, count in ((before, 0), (after, 2_000)):
            store = harness.open_copy(image)
            try:
                assert len(rows(store, namespace_span(NS))) == count
                assert not list(image.glob("ingest/*"))
                assert result is not None
                assert store.commit(Commit((Put(key("zz"), b""),))).version > result.version
            finally:
                store.close()
