"""The group committer: many waiting writers share one batch, in order, and one's fault is not another's.

Method: the model store with a gate in front of ``commit_many`` shows which requests came together.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from prefixdb.errors import DataLossError, Reason, UnavailableError, error
from prefixdb.keycodec import RowKey, data_key
from prefixdb.store import commit as commit_module
from prefixdb.store.base import Absent, Commit, CommitResult, Exists, Put
from prefixdb.store.commit import GroupCommitter
from tests.support.clocks import HeldClock
from tests.support.memory_store import MemoryStore


def key(number: int) -> RowKey:
    return data_key(1, 0, b"%d" % number)


def put(number: int, size: int = 1) -> Commit:
    return Commit((Put(key(number), b"x" * size),))


class GatedStore(MemoryStore):
    """Counts batches; holds each until ``gate`` is set; fails for rows named in ``damaged``."""

    def __init__(self) -> None:
        super().__init__(HeldClock())
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []
        self.damaged: set[bytes] = set()

    def commit_many(self, commits: Sequence[Commit]) -> list[CommitResult]:
        self.batches.append(len(commits))
        self.gate.wait(30)
        if any(condition.key in self.damaged for commit in commits for condition in commit.conditions):
            raise error(Reason.CORRUPTION)
        return super().commit_many(commits)


def test_writers_of_one_turn_share_a_batch_and_keep_their_order() -> None:
    async def run() -> None:
        store = GatedStore()
        committer = GroupCommitter(store)
        results = await asyncio.gather(*(committer.commit(put(number)) for number in range(50)))
        assert store.batches == [50]
        versions = [result.version for result in results]
        assert versions == sorted(set(versions))
        await committer.close()

    asyncio.run(run())


def test_writers_that_arrive_a_turn_after_one_another_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "GATHER_SECONDS_MAX", 60.0)

    async def run() -> None:
        store = GatedStore()
        committer = GroupCommitter(store)
        writers = []
        for number in range(20):
            writers.append(asyncio.create_task(committer.commit(put(number))))
            await asyncio.sleep(0)
        await asyncio.gather(*writers)
        assert store.batches == [20]
        await committer.close()

    asyncio.run(run())


def test_a_batch_does_not_wait_for_company_longer_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "GATHER_SECONDS_MAX", 0.0)

    async def run() -> None:
        store = GatedStore()
        committer = GroupCommitter(store)
        writers = [asyncio.create_task(committer.commit(put(0)))]
        while not store.batches:  # Somebody new in every turn: without the limit the batch would never close.
            writers.append(asyncio.create_task(committer.commit(put(len(writers)))))
            await asyncio.sleep(0)
        assert (await asyncio.gather(*writers))[0].applied
        await committer.close()

    asyncio.run(run())


def test_while_one_batch_is_written_the_next_one_gathers() -> None:
    async def run() -> None:
        store = GatedStore()
        committer = GroupCommitter(store)
        store.gate.clear()
        first = asyncio.create_task(committer.commit(put(0)))
        while not store.batches:
            await asyncio.sleep(0)
        later = [asyncio.create_task(committer.commit(put(number))) for number in range(1, 30)]
        await asyncio.sleep(0)
        store.gate.set()
        await asyncio.gather(first, *later)
        assert store.batches == [1, 29]
        await committer.close()

    asyncio.run(run())


def test_commit_all_answers_in_order_and_sees_its_own_earlier_commits() -> None:
    async def run() -> None:
        committer = GroupCommitter(MemoryStore(HeldClock()))
        claim = Commit((Put(key(1), b""),), conditions=(Absent(key(1)),))
        results = await committer.commit_all([claim, claim, put(2)])
        assert [result.applied for result in results] == [True, False, True]
        assert await committer.commit_all([]) == []
        await committer.close()

    asyncio.run(run())


@pytest.mark.parametrize("limit", ["SHARED_BATCH_BYTES_MAX", "SHARED_BATCH_COMMITS_MAX"])
def test_a_shared_batch_is_bounded_but_a_large_request_still_goes(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, limit, 100 if limit.endswith("BYTES_MAX") else 3)

    async def run() -> None:
        store = GatedStore()
        committer = GroupCommitter(store)
        await asyncio.gather(
            committer.commit_all([put(number, 300) for number in range(5)]),
            *(committer.commit(put(number, 40)) for number in range(10, 14)),
        )
        assert store.batches[0] == 5
        assert sum(store.batches) == 9 and len(store.batches) >= 3
        await committer.close()

    asyncio.run(run())


def test_a_damaged_row_fails_the_request_that_named_it_and_no_other() -> None:
    async def run() -> None:
        store = GatedStore()
        store.damaged = {key(7)}
        committer = GroupCommitter(store)
        bad = Commit((Put(key(2), b""),), conditions=(Exists(key(7)),))
        outcomes = await asyncio.gather(
            committer.commit(put(1)), committer.commit(bad), committer.commit(put(3)), return_exceptions=True
        )
        assert isinstance(outcomes[1], DataLossError)
        assert isinstance(outcomes[0], CommitResult) and isinstance(outcomes[2], CommitResult)
        assert store.get(key(1)) and store.get(key(3)) and not store.get(key(2))
        await committer.close()

    asyncio.run(run())


def test_an_engine_wide_failure_is_everybodys_and_is_not_tried_again() -> None:
    async def run() -> None:
        store = GatedStore()
        store.fail_commits_with = error(Reason.READ_ONLY_STORE)
        committer = GroupCommitter(store)
        outcomes = await asyncio.gather(*(committer.commit(put(n)) for n in range(3)), return_exceptions=True)
        assert all(isinstance(outcome, UnavailableError) for outcome in outcomes)
        assert store.batches == [3]
        store.fail_commits_with = None
        assert (await committer.commit(put(9))).applied
        await committer.close()

    asyncio.run(run())


def test_a_cancelled_waiter_disturbs_nobody() -> None:
    async def run() -> None:
        store = GatedStore()
        committer = GroupCommitter(store)
        store.gate.clear()
        tasks = [asyncio.create_task(committer.commit(put(number))) for number in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        store.gate.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[1], asyncio.CancelledError)
        assert isinstance(done[0], CommitResult) and isinstance(done[2], CommitResult)
        await committer.close()

    asyncio.run(run())


def test_close_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    async def run() -> None:
        store = GatedStore()
        committer = GroupCommitter(store)
        store.gate.clear()
        accepted = [asyncio.create_task(committer.commit(put(number))) for number in range(3)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(committer.close())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await committer.commit(put(9))
        store.gate.set()
        await closing
        assert all(result.applied for result in await asyncio.gather(*accepted))
        await committer.close()

    asyncio.run(run())
