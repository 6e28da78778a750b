"""Goal: every promise of the KeyValue service holds over a real socket: answers, limits on both sides, refusals.

Method: a real server in the test's event loop; what a row should be is written down by hand in each test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from prefixdb import limits
from prefixdb.catalog.entities import NamespaceState, Rule
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import data_key
from prefixdb.store.base import Commit, Put
from prefixdb.v1 import key_value_pb2 as pb
from tests.support.clocks import HeldClock
from tests.support.server import Caller, RunningServer, eventually, running

ALSO_BEHIND_PYTHON = True

KIB = 1024
Scenario = Callable[[RunningServer, Caller], Awaitable[None]]


def play(tmp_path: Path, scenario: Scenario, **options: Any) -> None:
    """Run a scenario against a fresh server with a namespace and a member of it."""

    async def main() -> None:
        async with running(tmp_path / "data", **options) as server:
            await scenario(server, server.caller(server.create("acme"), groups=("writers",)))

    asyncio.run(main())


async def refusal(awaitable: Awaitable[Any]) -> PrefixdbError:
    """Return the error a call ends with."""
    with pytest.raises(PrefixdbError) as caught:
        await awaitable
    return caught.value


async def scan(caller: Caller, **fields: Any) -> list[tuple[bytes, bytes]]:
    """Return the rows of a scan."""
    pages = await caller.pages(caller.key_value.Scan, pb.ScanRequest(**fields))
    return [(row.key, row.value) for page in pages for row in page.rows]


async def put(caller: Caller, key: bytes, value: bytes = b"v", **fields: Any) -> Any:
    """Put one row."""
    return await caller.call(caller.key_value.Put, pb.PutRequest(key=key, value=value, **fields))


async def get(caller: Caller, key: bytes, **fields: Any) -> Any:
    """Get one row."""
    return await caller.call(caller.key_value.Get, pb.GetRequest(key=key, **fields))


async def delete(caller: Caller, key: bytes, **fields: Any) -> Any:
    """Delete one row."""
    return await caller.call(caller.key_value.Delete, pb.DeleteRequest(key=key, **fields))


async def write(caller: Caller, *mutations: pb.Mutation, conditions: tuple[pb.Condition, ...] = ()) -> Any:
    """Apply mutations atomically."""
    return await caller.call(caller.key_value.Write, pb.WriteRequest(mutations=mutations, conditions=conditions))


def m_put(key: bytes, value: bytes = b"v", database: int = 0) -> pb.Mutation:
    return pb.Mutation(put=pb.Mutation.Put(key=key, value=value, database=database))


def m_delete(key: bytes, database: int = 0) -> pb.Mutation:
    return pb.Mutation(delete=pb.Mutation.Delete(key=key, database=database))


def m_range(**fields: Any) -> pb.Mutation:
    return pb.Mutation(delete_range=pb.Mutation.DeleteRange(range=pb.KeyRange(**fields)))


def condition(key: bytes, **test: Any) -> pb.Condition:
    return pb.Condition(key=key, test=pb.Test(**test))


def test_a_row_can_be_put_read_and_deleted(tmp_path: Path) -> None:
    async def scenario(_: RunningServer, caller: Caller) -> None:
        assert await get(caller, b"k") == pb.GetResponse(found=False)
        first = await put(caller, b"k", b"one")
        assert first.applied and first.version > 0
        assert await get(caller, b"k") == pb.GetResponse(found=True, value=b"one", version=first.version)
        second = await put(caller, b"k", b"")
        assert second.version > first.version
        assert await get(caller, b"k") == pb.GetResponse(found=True, value=b"", version=second.version)
        assert (await delete(caller, b"k")).applied
        assert not (await get(caller, b"k")).found
        assert (await delete(caller, b"k")).applied, "removing what is not there succeeds"

    play(tmp_path, scenario)


def test_databases_of_a_namespace_are_apart(tmp_path: Path) -> None:
    async def scenario(_: RunningServer, caller: Caller) -> None:
        for database in (0, 1, 255, 256, 65535):
            await put(caller, b"k", str(database).encode(), database=database)
        for database in (0, 1, 255, 256, 65535):
            assert (await get(caller, b"k", database=database)).value == str(database).encode()
            assert await scan(caller, database=database) == [(b"k", str(database).encode())]
        failure = await refusal(get(caller, b"k", database=65536))
        assert failure.reason is Reason.BAD_FIELD and failure.metadata["field"] == "database"

    play(tmp_path, scenario)


def test_key_and_value_limits_hold_on_both_sides(tmp_path: Path) -> None:
    async def scenario(_: RunningServer, caller: Caller) -> None:
        longest = b"k" * limits.KEY_BYTES_MAX
        await put(caller, longest, b"v" * limits.VALUE_BYTES_MAX)
        assert len((await get(caller, longest)).value) == limits.VALUE_BYTES_MAX
        for operation in (put, get, delete):
            assert (await refusal(operation(caller, b""))).reason is Reason.KEY_EMPTY
            failure = await refusal(operation(caller, longest + b"k"))
            assert failure.reason is Reason.KEY_TOO_LARGE
            assert failure.metadata == {"size": str(limits.KEY_BYTES_MAX + 1), "limit": str(limits.KEY_BYTES_MAX)}
        failure = await refusal(put(caller, b"k", b"v" * (limits.VALUE_BYTES_MAX + 1)))
        assert failure.reason is Reason.VALUE_TOO_LARGE
        assert failure.metadata["limit"] == str(limits.VALUE_BYTES_MAX)
        assert not (await get(caller, b"k")).found

    play(tmp_path, scenario)


def test_the_value_limit_is_configurable(tmp_path: Path) -> None:
    async def scenario(_: RunningServer, caller: Caller) -> None:
        await put(caller, b"k", b"v" * 2 * limits.MIB)
        assert (await refusal(put(caller, b"k", b"v" * (2 * limits.MIB + 1)))).reason is Reason.VALUE_TOO_LARGE

    play(tmp_path, scenario, settings={"store.value_max": "2MiB"})


def test_a_lifetime_counts_down_and_ends(tmp_path: Path) -> None:
    clock = HeldClock()

    async def scenario(_: RunningServer, caller: Caller) -> None:
        await put(caller, b"k", ttl_ms=1000)
        await put(caller, b"forever", ttl_ms=limits.TTL_MS_MAX)
        clock.advance(999)
        assert (await get(caller, b"k")).ttl_ms == 1
        page = (await caller.pages(caller.key_value.Scan, pb.ScanRequest(range=pb.KeyRange(prefix=b"k"))))[0]
        assert page.rows[0].ttl_ms == 1
        clock.advance(1)
        assert not (await get(caller, b"k")).found
        assert await scan(caller) == [(b"forever", b"v")]
        assert (await put(caller, b"k", condition=pb.Test(absent=True))).applied
        failure = await refusal(put(caller, b"k", ttl_ms=limits.TTL_MS_MAX + 1))
        assert failure.reason is Reason.BAD_FIELD and failure.metadata["field"] == "ttl_ms"

    play(tmp_path, scenario, clock=clock)


def test_conditions_decide_and_tell_the_current_version(tmp_path: Path) -> None:
    async def scenario(_: RunningServer, caller: Caller) -> None:
        version = (await put(caller, b"k", b"one", condition=pb.Test(absent=True))).version
        refused = await put(caller, b"k", b"two", condition=pb.Test(absent=True))
        assert (refused.applied, refused.version, refused.current_version) == (False, 0, version)
        assert not (await put(caller, b"k", b"two", condition=pb.Test(version=version + 1))).applied
        assert not (await put(caller, b"k", b"two", condition=pb.Test(value=b"other"))).applied
        assert not (await delete(caller, b"gone", condition=pb.Test(exists=True))).applied
        assert (await delete(caller, b"gone", condition=pb.Test(exists=True))).current_version == 0
        assert (await put(caller, b"k", b"two", condition=pb.Test(value=b"one"))).applied
        assert (await delete(caller, b"k", condition=pb.Test(exists=True))).applied
        for test in (pb.Test(), pb.Test(absent=False), pb.Test(exists=False)):
            failure = await refusal(put(caller, b"k", condition=test))
            assert failure.reason is Reason.BAD_FIELD and failure.metadata["field"] == "condition"

    play(tmp_path, scenario)


def test_write_is_atomic_across_databases_and_names_the_failed_condition(tmp_path: Path) -> None:
    async def scenario(_: RunningServer, caller: Caller) -> None:
        applied = await write(caller, m_put(b"a", b"1"), m_put(b"a", b"2", 7), m_put(b"b"), m_delete(b"b"))
        assert applied.applied
        assert (await get(caller, b"a")).version == applied.version
        assert (await get(caller, b"a", database=7)).version == applied.version
        assert not (await get(caller, b"b")).found
        tests = (condition(b"a", exists=True), condition(b"a", version=1), condition(b"z", exists=True))
        refused = await write(caller, m_put(b"a", b"9"), m_put(b"c"), conditions=tests)
        assert (refused.applied, refused.failed_condition, refused.current_version) == (False, 1, applied.version)
        assert await scan(caller) == [(b"a", b"1")]
        only_test = await write(caller, conditions=(condition(b"a", exists=True),))
        assert only_test.applied and only_test.version == 0
        assert (await refusal(write(caller, pb.Mutation()))).metadata["field"] == "mutations"

    play(tmp_path, scenario)


def test_write_limits_hold_on_both_sides(tmp_path: Path) -> None:
    async def scenario(_: RunningServer, caller: Caller) -> None:
        key = b"%06d"
        most = [m_put(key % number) for number in range(limits.WRITE_MUTATIONS_MAX)]
        tests = tuple(condition(key % number, absent=True) for number in range(limits.WRITE_CONDITIONS_MAX))
        assert (await write(caller, *most, conditions=tests)).applied
        assert (await refusal(write(caller, *most, m_put(b"x")))).reason is Reason.BATCH_TOO_LARGE
        extra = (*tests, condition(b"x", absent=True))
        assert (await refusal(write(caller, m_put(b"x"), conditions=extra))).reason is Reason.BATCH_TOO_LARGE
        ranges = [m_range(prefix=b"r%d" % number) for number in range(limits.WRITE_RANGE_DELETES_MAX)]
        assert (await write(caller, *ranges)).applied
        assert (await refusal(write(caller, *ranges, m_range(prefix=b"x")))).reason is Reason.BATCH_TOO_LARGE
        assert not (await get(caller, b"x")).found
        count = await caller.call(caller.key_value.Count, pb.CountRequest())
        assert count.count == limits.WRITE_MUTATIONS_MAX

    play(tmp_path, scenario)


def test_range_deletes_remove_exactly_the_range(tmp_path: Path) -> None:
    async def scenario(_: RunningServer, caller: Caller) -> None:
        keys = [b"a", b"a\x00", b"a\xff", b"b", b"c", b"\xff", b"\xff\xff"]
        await write(caller, *[m_put(key) for key in keys])
        await put(caller, b"a", b"other", database=1)
        await write(caller, m_range(start=b"a\x00", end=b"b"))
        assert [key for key, _ in await scan(caller)] == [b"a", b"b", b"c", b"\xff", b"\xff\xff"]
        await write(caller, m_range(prefix=b"\xff"))
        assert [key for key, _ in await scan(caller)] == [b"a", b"b", b"c"]
        await write(caller, m_put(b"0"), m_range(), m_put(b"z"))
        assert [key for key, _ in await scan(caller)] == [b"z"], "later mutations of a commit survive its range delete"
        assert await scan(caller, database=1) == [(b"a", b"other")]

    play(tmp_path, scenario)


def test_inverted_and_odd_ranges_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    async def scenario(_: RunningServer, caller: Caller) -> None:
        await put(caller, b"k", b"kept")
        for odd in ({"start": b"b", "end": b"a"}, {"prefix": b"a", "start": b"a"}, {"prefix": b"a", "end": b"b"}):
            assert (await refusal(write(caller, m_put(b"k", b"lost"), m_range(**odd)))).reason is Reason.BAD_RANGE
            assert (await refusal(scan(caller, range=pb.KeyRange(**odd)))).reason is Reason.BAD_RANGE
            counted = caller.call(caller.key_value.Count, pb.CountRequest(range=pb.KeyRange(**odd)))
            assert (await refusal(counted)).reason is Reason.BAD_RANGE
        assert await scan(caller, range=pb.KeyRange(start=b"k", end=b"k")) == []
        assert (await put(caller, b"next")).applied
        assert (await get(caller, b"k")).value == b"kept"

    play(tmp_path, scenario)


def test_scans_page_resume_reverse_and_stop(tmp_path: Path) -> None:
    async def scenario(_: RunningServer, caller: Caller) -> None:
        keys = [b"%05d" % number for number in range(2_500)]
        await write(caller, *[m_put(key, key) for key in keys])
        pages = await caller.pages(caller.key_value.Scan, pb.ScanRequest())
        assert [len(page.rows) for page in pages] == [1000, 1000, 500]
        assert [row.key for page in pages for row in page.rows] == keys
        backwards = await scan(caller, reverse=True)
        assert [key for key, _ in backwards] == keys[::-1]
        assert [key for key, _ in await scan(caller, limit=1001)] == keys[:1001]
        assert [key for key, _ in await scan(caller, limit=2, resume_after=b"00009")] == keys[10:12]
        assert [key for key, _ in await scan(caller, limit=2, resume_after=b"00009x")] == keys[10:12]
        assert [key for key, _ in await scan(caller, limit=2, reverse=True, resume_after=b"00009")] == keys[8:6:-1]
        assert [key for key, _ in await scan(caller, limit=1, reverse=True, resume_after=b"z")] == [keys[-1]]
        assert await scan(caller, resume_after=b"z") == []
        within = pb.KeyRange(start=b"00010", end=b"00013")
        assert [key for key, _ in await scan(caller, range=within)] == keys[10:13]
        assert [key for key, _ in await scan(caller, range=within, resume_after=b"00000")] == keys[10:13]
        assert await scan(caller, range=within, resume_after=b"00013") == []
        assert await scan(caller, range=within, reverse=True, resume_after=b"00010") == []
        assert (await scan(caller, range=within, keys_only=True)) == [(key, b"") for key in keys[10:13]]
        counted = await caller.call(caller.key_value.Count, pb.CountRequest(range=pb.KeyRange(prefix=b"000")))
        assert counted.count == 100
        everything = await caller.call(caller.key_value.Count, pb.CountRequest())
        assert everything.count == 2_500

    play(tmp_path, scenario)


def test_a_scan_page_holds_a_mebibyte_but_for_one_larger_row(tmp_path: Path) -> None:
    async def scenario(_: RunningServer, caller: Caller) -> None:
        for number in range(5):
            await put(caller, b"%d" % number, b"v" * 400 * KIB)
        await put(caller, b"9", b"v" * limits.VALUE_BYTES_MAX)
        pages = await caller.pages(caller.key_value.Scan, pb.ScanRequest())
        sizes = [sum(len(row.key) + len(row.value) for row in page.rows) for page in pages]
        assert sizes == [3 * (400 * KIB + 1), 2 * (400 * KIB + 1) + limits.VALUE_BYTES_MAX + 1]

    play(tmp_path, scenario)


def test_a_scan_is_one_snapshot_whatever_is_written_meanwhile(tmp_path: Path) -> None:
    async def scenario(_: RunningServer, caller: Caller) -> None:
        keys = [b"%05d" % number for number in range(5_000)]
        await write(caller, *[m_put(key, b"x" * 500) for key in keys])
        stream = caller.key_value.Scan(pb.ScanRequest(), metadata=caller.metadata)
        rows = list((await stream.read()).rows)
        await write(caller, m_range(), m_put(b"00000"), m_put(b"zzz"))
        while (page := await stream.read()) and hasattr(page, "rows"):
            rows += page.rows
        assert [row.key for row in rows] == keys
        assert [key for key, _ in await scan(caller)] == [b"00000", b"zzz"]

    play(tmp_path, scenario)


def test_batch_get_answers_in_request_order_within_its_limits(tmp_path: Path) -> None:
    async def scenario(_: RunningServer, caller: Caller) -> None:
        async def batch(keys: list[bytes]) -> Any:
            return await caller.call(caller.key_value.BatchGet, pb.BatchGetRequest(keys=keys))

        await put(caller, b"a", b"1")
        await put(caller, b"b", b"2")
        answer = await batch([b"b", b"missing", b"a", b"b"])
        assert [(result.found, result.value) for result in answer.results] == [
            (True, b"2"), (False, b""), (True, b"1"), (True, b"2"),
        ]  # fmt: skip
        assert len((await batch([b"a"] * limits.BATCH_KEYS_MAX)).results) == limits.BATCH_KEYS_MAX
        assert (await refusal(batch([b"a"] * (limits.BATCH_KEYS_MAX + 1)))).reason is Reason.BATCH_TOO_LARGE
        assert (await refusal(batch([b"a", b""]))).reason is Reason.KEY_EMPTY
        assert (await batch([])).results == []
        await put(caller, b"large", b"v" * limits.VALUE_BYTES_MAX)
        fits = limits.RESPONSE_BYTES_MAX // (limits.VALUE_BYTES_MAX + 32)
        assert len((await batch([b"large"] * fits)).results) == fits
        assert (await refusal(batch([b"large"] * (fits + 1)))).reason is Reason.BATCH_TOO_LARGE

    play(tmp_path, scenario)


def test_a_large_batch_is_one_snapshot_and_never_read_beyond_what_an_answer_carries(tmp_path: Path) -> None:
    async def scenario(server: RunningServer, caller: Caller) -> None:
        keys = [b"%05d" % number for number in range(2_000)]
        await write(caller, *[m_put(key, key) for key in keys])
        read_at_once: list[int] = []
        honest = server.app.store.get_many

        def counted(wanted: Any) -> Any:
            rows = honest(wanted)
            read_at_once.append(sum(len(row.payload) for row in rows if row is not None))
            return rows

        server.app.store.get_many = counted  # type: ignore[method-assign]
        answer = await caller.call(caller.key_value.BatchGet, pb.BatchGetRequest(keys=[*keys, b"none", keys[0]]))
        assert [result.value for result in answer.results] == [*keys, b"", keys[0]]
        read_at_once.clear()
        await write(caller, *[m_put(b"large-%03d" % number, b"v" * 100_000) for number in range(150)])
        await write(caller, *[m_put(b"larger-%03d" % number, b"v" * 100_000) for number in range(150)])
        wanted = [b"large-%03d" % number for number in range(150)] + [b"larger-%03d" % number for number in range(150)]
        batch = caller.call(caller.key_value.BatchGet, pb.BatchGetRequest(keys=wanted))
        assert (await refusal(batch)).reason is Reason.BATCH_TOO_LARGE
        if not server.has_native_front:  # Whose reads are its own; the next test has it.
            assert max(read_at_once) < limits.RESPONSE_BYTES_MAX, "all of it was read before it was counted"
        await eventually(lambda: len(server.app.streams) == 0, "its place is given back")

    play(tmp_path, scenario)


def peak_mib() -> int:
    """Return the most memory this process has had since ``forget_peak``."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def test_a_batch_that_is_too_large_is_not_held_in_memory(tmp_path: Path) -> None:
    """A thousand values are measured, some at a time, by whoever answers; read as a whole they would be 95 MiB."""

    async def scenario(server: RunningServer, caller: Caller) -> None:
        namespace = server.app.registry.find("acme")
        assert namespace is not None
        keys = [b"%04d" % number for number in range(1_000)]
        for first in range(0, 1_000, 50):
            rows = tuple(Put(data_key(namespace.id, 0, key), b"v" * 100_000) for key in keys[first : first + 50])
            assert server.app.store.commit(Commit(rows)).applied
            server.app.store.flush()
        forget_peak()
        before = peak_mib()
        batch = caller.call(caller.key_value.BatchGet, pb.BatchGetRequest(keys=keys))
        assert (await refusal(batch)).reason is Reason.BATCH_TOO_LARGE
        assert peak_mib() - before < 64

    play(tmp_path, scenario)


def test_one_forbidden_key_refuses_the_whole_call(tmp_path: Path) -> None:
    async def scenario(server: RunningServer, caller: Caller) -> None:
        namespace = server.app.registry.find("acme")
        assert namespace is not None
        server.add_group(namespace.id, "mine", Rule(0, b"mine/", read=True, write=True))
        limited = server.caller(namespace, groups=("mine",))
        await put(limited, b"mine/1")
        await put(caller, b"other")
        for forbidden in (b"other", b"mine", b"nine/1"):
            assert (await refusal(write(limited, m_put(b"mine/2"), m_put(forbidden)))).reason is Reason.NOT_PERMITTED
            assert (await refusal(write(limited, m_put(b"mine/2"), m_delete(forbidden)))).reason is Reason.NOT_PERMITTED
            tests = (condition(forbidden, absent=True),)
            assert (await refusal(write(limited, m_put(b"mine/2"), conditions=tests))).reason is Reason.NOT_PERMITTED
            batch = pb.BatchGetRequest(keys=[b"mine/1", forbidden])
            assert (await refusal(limited.call(limited.key_value.BatchGet, batch))).reason is Reason.NOT_PERMITTED
            assert (await refusal(get(limited, forbidden))).reason is Reason.NOT_PERMITTED
        for odd in (
            {},
            {"start": b"mine/"},
            {"start": b"mine", "end": b"mine0"},
            {"start": b"mine/", "end": b"mine1"},
        ):
            whole = pb.KeyRange(**odd)
            assert (await refusal(write(limited, m_put(b"mine/2"), m_range(**odd)))).reason is Reason.NOT_PERMITTED
            assert (await refusal(scan(limited, range=whole))).reason is Reason.NOT_PERMITTED
            counted = limited.call(limited.key_value.Count, pb.CountRequest(range=whole))
            assert (await refusal(counted)).reason is Reason.NOT_PERMITTED
        assert (await refusal(get(limited, b"mine/1", database=1))).reason is Reason.NOT_PERMITTED
        assert await scan(limited, range=pb.KeyRange(prefix=b"mine/")) == [(b"mine/1", b"v")]
        assert await scan(limited, range=pb.KeyRange(start=b"mine/", end=b"mine0")) == [(b"mine/1", b"v")]
        assert [key for key, _ in await scan(caller)] == [b"mine/1", b"other"], "nothing of a refused batch was applied"

    play(tmp_path, scenario)


def test_who_may_write_but_not_read_learns_nothing_of_what_was_there(tmp_path: Path) -> None:
    async def scenario(server: RunningServer, caller: Caller) -> None:
        namespace = server.app.registry.find("acme")
        assert namespace is not None
        server.add_group(namespace.id, "drop-box", Rule(None, b"", read=False, write=True))
        blind = server.caller(namespace, groups=("drop-box",))
        await put(caller, b"there")
        for key in (b"there", b"absent"):
            for test in (pb.Test(absent=True), pb.Test(exists=True), pb.Test(version=1), pb.Test(value=b"v")):
                assert (await refusal(put(blind, key, condition=test))).reason is Reason.NOT_PERMITTED
                assert (await refusal(delete(blind, key, condition=test))).reason is Reason.NOT_PERMITTED
            assert (await refusal(get(blind, key))).reason is Reason.NOT_PERMITTED
            answer = await put(blind, key)
            assert answer.applied and not answer.current_version
            answer = await delete(blind, key)
            assert answer.applied and not answer.current_version
        assert (await refusal(scan(blind))).reason is Reason.NOT_PERMITTED

    play(tmp_path, scenario)


def test_a_read_only_namespace_takes_deletes_alone_and_a_suspended_one_nothing(tmp_path: Path) -> None:
    async def scenario(server: RunningServer, caller: Caller) -> None:
        namespace = server.app.registry.find("acme")
        assert namespace is not None
        await write(caller, m_put(b"a"), m_put(b"b"), m_put(b"c"))
        server.app.registry.suspend(namespace.id, NamespaceState.READ_ONLY, "audit")
        assert (await refusal(put(caller, b"a"))).reason is Reason.READ_ONLY
        assert (await refusal(write(caller, m_delete(b"a"), m_put(b"a")))).reason is Reason.READ_ONLY
        assert (await get(caller, b"a")).found
        assert (await delete(caller, b"a")).applied
        assert (await write(caller, m_delete(b"b"), m_range(prefix=b"c"))).applied
        assert await scan(caller) == []
        server.app.registry.suspend(namespace.id, NamespaceState.SUSPENDED, "unpaid")
        for refused in (get(caller, b"a"), delete(caller, b"a"), put(caller, b"a"), scan(caller)):
            assert (await refusal(refused)).reason is Reason.NAMESPACE_SUSPENDED
        server.app.registry.resume(namespace.id)
        assert (await put(caller, b"a")).applied

    play(tmp_path, scenario)


def test_bytes_that_are_no_request_are_refused_by_name(tmp_path: Path) -> None:
    async def scenario(server: RunningServer, caller: Caller) -> None:
        raw = server.channel.unary_unary("/prefixdb.v1.KeyValue/Get")
        failure = await refusal(caller.call(raw, b"\xff\xff\xff"))
        assert failure.reason is Reason.BAD_FIELD
        assert (await put(caller, b"k")).applied

    play(tmp_path, scenario)
