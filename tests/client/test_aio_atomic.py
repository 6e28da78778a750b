"""Goal: batches are all or nothing, transactions are serializable under contention, pipelines fail one by one.

Method: a real server; counters that many writers raise at once must end at exactly the number of raises.
"""

from __future__ import annotations

import pytest

from prefixdb.client.pending import Pending
from prefixdb.errors import ConflictError, InvalidArgumentError, PermissionDeniedError, Reason
from prefixdb.limits import VALUE_BYTES_MAX, WRITE_MUTATIONS_MAX
from prefixdb.testing import Namespace
from tests.client.harness import async_gather, async_test


@async_test
async def test_a_batch_is_one_commit_across_databases(place: Namespace) -> None:
    async with place.connect_async() as db:
        await db.put("gone", b"1")
        async with db.batch() as batch:
            batch.put("x", b"1").put("y", b"2", database=4, ttl=60).delete("gone").delete_range("old/")
            assert len(batch) == 4
        assert await db.get("gone") is None
        one, two = await db.get_row("x"), await db.database(4).get_row("y")
        assert one is not None and two is not None
        assert one.version == two.version == batch.version


@async_test
async def test_nothing_of_a_batch_is_applied_when_its_block_fails(place: Namespace) -> None:
    async with place.connect_async() as db:
        with pytest.raises(ZeroDivisionError):
            async with db.batch() as batch:
                batch.put("x", b"1")
                raise ZeroDivisionError
        assert await db.get("x") is None
        async with db.batch() as empty:
            pass
        assert empty.version is None


@async_test
async def test_nothing_of_a_batch_is_applied_when_a_condition_does_not_hold(place: Namespace) -> None:
    async with place.connect_async() as db:
        version = await db.put("a", b"1")
        with pytest.raises(ConflictError) as caught:
            async with db.batch() as batch:
                batch.require("b", absent=True).require("a", version=version + 99).put("x", b"1")
        assert caught.value.metadata == {"current_version": str(version), "failed_condition": "1"}
        assert await db.get("x") is None
        async with db.batch() as batch:
            batch.require("b", absent=True).require("a", value=b"1").require("a", exists=True).put("x", b"1")
        assert await db.get("x") == b"1"
        with pytest.raises(InvalidArgumentError):
            batch.require("a")
        with pytest.raises(InvalidArgumentError, match="sent already"):
            await batch.commit()


@async_test
async def test_a_batch_that_is_too_large_is_refused_whole(place: Namespace) -> None:
    async with place.connect_async() as db:
        with pytest.raises(InvalidArgumentError) as caught:
            async with db.batch() as batch:
                for number in range(WRITE_MUTATIONS_MAX + 1):
                    batch.put(f"k{number}", b"")
        assert caught.value.reason is Reason.BATCH_TOO_LARGE
        assert await db.count() == 0


@async_test
async def test_a_transaction_sees_its_own_writes_and_repeats_its_reads(place: Namespace) -> None:
    async with place.connect_async() as db:
        await db.put("a", b"1")
        await db.put("b", b"2")

        async def change(txn):  # type: ignore[no-untyped-def]
            assert await txn.get("a") == b"1"
            txn.put("a", b"new")
            assert await txn.get("a") == b"new"
            txn.delete("b")
            assert await txn.get("b") is None
            assert await txn.get_many(["a", "b", "c"]) == {"a": b"new"}
            assert await txn.get("k", database=7) is None
            txn.put("k", b"7", database=7, ttl=60)
            assert await db.get("a") == b"1", "others see nothing before the commit"
            return "result"

        assert await db.run(change) == "result"
        assert await db.get_many(["a", "b"]) == {"a": b"new"}
        assert await db.database(7).get("k") == b"7"


@async_test
async def test_a_transaction_that_fails_changes_nothing(place: Namespace) -> None:
    async with place.connect_async() as db:

        async def fail(txn):  # type: ignore[no-untyped-def]
            txn.put("a", b"1")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await db.run(fail)
        assert await db.get("a") is None


@async_test
async def test_counters_under_contention_lose_no_increment(place: Namespace) -> None:
    writers, rounds = 8, 10
    async with place.connect_async(deadline_s=30) as db:

        async def increment(txn):  # type: ignore[no-untyped-def]
            txn.put("n", b"%d" % (int(await txn.get("n") or b"0") + 1))

        async def write(number: int) -> None:
            for _ in range(rounds):
                await db.run(increment, attempts=200)

        await async_gather(write, writers)
        assert await db.get("n") == b"%d" % (writers * rounds)


@async_test
async def test_two_rows_that_depend_on_each_other_never_both_change(place: Namespace) -> None:
    """Write skew: each transaction reads both rows and clears one; serially at least one must stay set."""
    async with place.connect_async(deadline_s=30) as db:
        for _ in range(10):
            await db.put("x", b"1")
            await db.put("y", b"1")

            async def clear(number: int) -> None:
                async def leave(txn):  # type: ignore[no-untyped-def]
                    if await txn.get("x") == b"1" and await txn.get("y") == b"1":
                        txn.put("xy"[number], b"0")

                await db.run(leave, attempts=200)

            await async_gather(clear, 2)
            assert sorted((await db.get_many(["x", "y"])).values()) == [b"0", b"1"]


@async_test
async def test_a_transaction_that_only_reads_is_checked_as_well(place: Namespace) -> None:
    async with place.connect_async() as db:
        await db.put("x", b"1")
        await db.put("y", b"1")
        attempts = []

        async def look(txn):  # type: ignore[no-untyped-def]
            attempts.append(1)
            x = await txn.get("x")
            if len(attempts) == 1:
                async with db.batch() as batch:
                    batch.put("x", b"2").put("y", b"2")
            return x, await txn.get("y")

        assert await db.run(look) == (b"2", b"2")
        assert len(attempts) == 2


@async_test
async def test_a_transaction_gives_up_with_a_conflict_and_applies_nothing(place: Namespace) -> None:
    async with place.connect_async() as db:

        async def always_late(txn):  # type: ignore[no-untyped-def]
            await txn.get("a")
            await db.put("a", b"of somebody else")
            txn.put("a", b"mine")

        with pytest.raises(ConflictError) as caught:
            await db.run(always_late, attempts=3)
        assert caught.value.metadata["attempts"] == "3"
        assert await db.get("a") == b"of somebody else"


@async_test
async def test_a_pipeline_answers_every_operation_in_order(place: Namespace) -> None:
    async with place.connect_async() as db:
        async with db.pipeline(batch=7, in_flight=3) as pipe:
            puts = [await pipe.put(f"k{number}", b"%d" % number) for number in range(100)]
            gets = [await pipe.get(f"k{number}") for number in range(100)]
            await pipe.delete("k0")
            gone = await pipe.get("k0")
            await pipe.flush()
            assert gone.result() is None, "an operation sees the effects of those before it"
        versions = [put.result() for put in puts]
        assert versions == sorted(versions)
        assert [get.result() for get in gets] == [b"%d" % number for number in range(100)]
        assert (pipe.sent, pipe.failed) == (202, 0)


@async_test
async def test_one_bad_operation_of_a_pipeline_fails_alone(place: Namespace) -> None:
    async with place.connect_async() as db:
        async with db.pipeline(raise_errors=False) as pipe:
            before = await pipe.put("a", b"1")
            bad = await pipe.put("", b"2")
            unmet = await pipe.put("a", b"3", if_absent=True)
            after = await pipe.put("c", b"4")
        assert before.result() < after.result()
        with pytest.raises(InvalidArgumentError):
            bad.result()
        with pytest.raises(ConflictError):
            unmet.result()
        assert pipe.failed == 2
        assert await db.get_many(["a", "c"]) == {"a": b"1", "c": b"4"}
        with pytest.raises(InvalidArgumentError) as caught:
            async with db.pipeline() as pipe:
                await pipe.put("", b"2")
                await pipe.put("d", b"5")
        assert caught.value.__notes__ == ["1 of the pipeline's 2 operations failed."]
        assert await db.get("d") == b"5"


@async_test
async def test_a_pipeline_carries_large_values_and_many_messages(place: Namespace) -> None:
    async with place.connect_async(deadline_s=30) as db:
        assert await db.put_many((f"big{number}", bytes(VALUE_BYTES_MAX)) for number in range(24)) == 24
        assert await db.put_many((f"small{number}", b"") for number in range(5000)) == 5000
        assert await db.count() == 5024


@async_test
async def test_a_promise_says_when_it_has_no_answer_yet(place: Namespace) -> None:
    async with place.connect_async() as db:
        async with db.pipeline() as pipe:
            promise: Pending[int] = await pipe.put("a", b"1")
            assert not promise.done
            with pytest.raises(RuntimeError, match="flush"):
                promise.result()
        assert promise.done


@async_test
async def test_a_reader_may_read_and_not_write(place: Namespace) -> None:
    token_file = place.server.issue_token(place.id, groups=("readers",))
    async with place.connect_async() as db:
        await db.put("a", b"1")
    place.token_file = token_file
    async with place.connect_async() as db:
        assert await db.get("a") == b"1"
        with pytest.raises(PermissionDeniedError):
            await db.put("a", b"2")
        with pytest.raises(PermissionDeniedError):
            async with db.pipeline() as pipe:
                await pipe.put("a", b"2")
        assert await db.get("a") == b"1"
