"""After a write error: the right refusal, reads go on, writes come back by themselves, nothing acknowledged is lost.

Method: a file size limit of the process stands in for a full disk (the kernel refuses the append, as ENOSPC does); what
a file system cannot be asked for (failed sync, stall, a failing reopening) comes from an engine that fails on demand.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prefixdb.errors import DataLossError, OutcomeUnknownError, PrefixdbError, Reason, UnavailableError
from prefixdb.keycodec import namespace_span
from prefixdb.limits import KIB
from prefixdb.store.base import Commit, CommitResult, Put, Store
from prefixdb.store.faults import Doing, translate
from tests.store.stores import DURABLE
from tests.support.crash_image import NS, OpenStore, row_key, write_rows
from tests.support.faulty_engine import APPEND_FAILED, NO_SPACE, STALL, SYNC_FAILED, Faults


@contextmanager
def no_file_grows_beyond(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def put_row(store: Store, number: int) -> bool:
    return store.commit(Commit((Put(row_key(number), b"x" * 100),))).applied


def refusal(store: Store, number: int) -> PrefixdbError:
    with pytest.raises(PrefixdbError) as refused:
        put_row(store, number)
    return refused.value


def await_writable(store: Store, probe: Callable[[], bool], seconds: float = 10.0) -> float:
    start = time.monotonic()
    while not probe():
        assert time.monotonic() - start < seconds, "writes did not resume"
        time.sleep(0.02)
    return time.monotonic() - start


def test_a_full_disk_refuses_writes_keeps_reads_and_recovers_without_an_operator(
    tmp_path: Path, open_store: OpenStore
) -> None:
    store = open_store(tmp_path / "data")
    written = 0
    with no_file_grows_beyond(64 * KIB):
        while True:
            try:
                put_row(store, written)
            except PrefixdbError as refused:
                assert refused.reason is Reason.DISK_FULL
                assert refused.retry_after_ms
                break
            written += 1
        assert written > 100
        for _ in range(3):
            assert refusal(store, written).reason is Reason.DISK_FULL
        assert not store.status().writable
        assert all(store.get_many([row_key(number) for number in range(written)]))
        assert store.get(row_key(0)) is not None
        cursor = store.open_cursor(namespace_span(NS))
        assert cursor.count(100_000) == written
    await_writable(store, lambda: store.status().writable)
    with pytest.raises(UnavailableError):
        cursor.fetch(1, 1)
    assert store.get(row_key(written)) is None
    assert put_row(store, written)
    store.close()
    store = open_store(tmp_path / "data")
    assert all(store.get_many([row_key(number) for number in range(written + 1)]))
    store.close()


def test_a_commit_brings_the_store_back_within_ten_seconds(tmp_path: Path, faults: Faults) -> None:
    store = faults.open_store(tmp_path / "data")
    faults.write_text = NO_SPACE
    assert refusal(store, 0).reason is Reason.DISK_FULL
    faults.write_text = None

    def probe() -> bool:
        try:
            return put_row(store, 1)
        except PrefixdbError as refused:
            assert refused.reason is Reason.DISK_FULL
            return False

    await_writable(store, probe)
    store.close()


@pytest.mark.parametrize("applies", [False, True])
def test_a_failed_sync_is_an_unknown_outcome_and_then_whole_or_absent(
    tmp_path: Path, applies: bool, faults: Faults
) -> None:
    store = faults.open_store(tmp_path / "data")
    before = write_rows(store, 0, 3)
    faults.write_text, faults.write_applies = SYNC_FAILED, applies
    with pytest.raises(OutcomeUnknownError):
        store.commit(Commit((Put(row_key(10), b""), Put(row_key(11), b""))))
    assert refusal(store, 12).reason is Reason.READ_ONLY_STORE
    faults.write_text = None
    await_writable(store, lambda: store.status().writable)
    assert [store.get(row_key(number)) is not None for number in (10, 11, 12)] == [applies, applies, False]
    assert write_rows(store, 20, 1) > before + 2 * applies
    store.close()


def test_a_stalled_write_is_refused_with_a_time_and_the_store_stays_writable(tmp_path: Path, faults: Faults) -> None:
    store = faults.open_store(tmp_path / "data")
    faults.write_text = STALL
    refused = refusal(store, 0)
    assert refused.reason is Reason.WRITE_STALL
    assert refused.retry_after_ms
    assert store.status().writable
    faults.write_text = None
    assert put_row(store, 0)
    store.close()


def test_reads_go_on_while_the_store_cannot_be_reopened_for_writing(tmp_path: Path, faults: Faults) -> None:
    store = faults.open_store(tmp_path / "data")
    write_rows(store, 0, 50)
    engines = len(faults.engines)
    faults.write_text = APPEND_FAILED
    faults.open_text = "IO error: No space left on device: While mkdir: /data/db"
    assert refusal(store, 60).reason is Reason.READ_ONLY_STORE
    await_writable(store, lambda: len(faults.engines) > engines)
    assert all(store.get_many([row_key(number) for number in range(50)]))
    assert store.get(row_key(7)) is not None
    assert not store.status().writable
    faults.write_text = faults.open_text = None
    await_writable(store, lambda: store.status().writable)
    assert put_row(store, 60)
    assert store.get(row_key(49)) is not None
    store.close()


def test_a_store_that_can_not_even_be_read_says_so_and_comes_back(tmp_path: Path, faults: Faults) -> None:
    store = faults.open_store(tmp_path / "data")
    write_rows(store, 0, 5)
    faults.write_text = APPEND_FAILED
    faults.open_text = faults.open_read_only_text = "IO error: While open a file for random read: Too many open files"
    refusal(store, 60)

    def unreadable() -> bool:
        try:
            store.get(row_key(0))
        except UnavailableError:
            return True
        return False

    await_writable(store, unreadable)
    faults.write_text = faults.open_text = faults.open_read_only_text = None
    await_writable(store, lambda: not unreadable())
    assert store.get(row_key(4)) is not None
    store.close()


def test_commits_lost_over_a_reopening_stop_the_store(tmp_path: Path, faults: Faults) -> None:
    store = faults.open_store(tmp_path / "data")
    write_rows(store, 0, 5)
    store._sequence += 1_000
    faults.write_text = APPEND_FAILED
    refusal(store, 60)

    def lost() -> bool:
        try:
            store.get(row_key(0))
        except DataLossError:
            return True
        return False

    await_writable(store, lost)
    store.close()


@pytest.mark.parametrize(
    ("text", "doing", "reason"),
    [
        ("Corruption: block checksum mismatch", Doing.READ, Reason.CORRUPTION),
        ("Corruption: block checksum mismatch", Doing.WRITE, Reason.CORRUPTION),
        ("Corruption: block checksum mismatch", Doing.MAINTAIN, Reason.CORRUPTION),
        ("IO error: No such file or directory: While open a file", Doing.READ, Reason.CORRUPTION),
        ("IO error: While pread offset 0 len 5: x: Input/output error", Doing.READ, Reason.CORRUPTION),
        ("IO error: While open a file: Too many open files", Doing.READ, Reason.READ_ONLY_STORE),
        ("Invalid argument: something", Doing.READ, Reason.INTERNAL),
        (STALL, Doing.WRITE, Reason.WRITE_STALL),
        (NO_SPACE, Doing.WRITE, Reason.DISK_FULL),
        (NO_SPACE, Doing.MAINTAIN, Reason.DISK_FULL),
        (APPEND_FAILED, Doing.WRITE, Reason.READ_ONLY_STORE),
        (APPEND_FAILED, Doing.MAINTAIN, Reason.READ_ONLY_STORE),
        (SYNC_FAILED, Doing.WRITE, Reason.OUTCOME_UNKNOWN),
        ("IO error: No space left on device: While fdatasync: x", Doing.WRITE, Reason.OUTCOME_UNKNOWN),
        ("Invalid argument: end key comes before start key", Doing.WRITE, Reason.OUTCOME_UNKNOWN),
        ("something nobody has seen", Doing.WRITE, Reason.OUTCOME_UNKNOWN),
        ("something nobody has seen", Doing.READ, Reason.INTERNAL),
    ],
)
def test_every_kind_of_engine_text_has_its_reason_and_never_becomes_the_message(
    text: str, doing: Doing, reason: Reason
) -> None:
    translated = translate(Exception(text), doing)
    assert translated.reason is reason
    assert text not in translated.message
    assert (translated.retry_after_ms is not None) == (reason.value.retryable)


@pytest.mark.parametrize("kind", [name for name in DURABLE if name == "native"], indirect=True)
def test_an_engine_that_stopped_in_the_background_is_exchanged_before_a_write_meets_it(
    tmp_path: Path, faults: Faults
) -> None:
    store = faults.open_store(tmp_path / "data")
    write_rows(store, 0, 10)
    engines = len(faults.engines)
    faults.engines[-1].failure = lambda: NO_SPACE
    await_writable(store, lambda: len(faults.engines) > engines)
    await_writable(store, lambda: store.status().writable)
    assert all(store.get_many([row_key(number) for number in range(10)]))
    assert put_row(store, 10)
    store.close()


@pytest.mark.parametrize("kind", [name for name in DURABLE if name == "native"], indirect=True)
def test_tasks_that_wait_for_a_commit_are_answered_when_the_engine_is_exchanged(
    tmp_path: Path, open_store: OpenStore
) -> None:
    store = open_store(tmp_path / "data")

    async def run() -> list[object]:
        committer = store.new_committer()
        await committer.commit(Commit((Put(row_key(0), b""),)))
        tasks = [asyncio.create_task(committer.commit(Commit((Put(row_key(n), b""),)))) for n in range(1, 500)]
        await asyncio.sleep(0)
        with store._commit_lock:
            store._reopen()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert (await committer.commit(Commit((Put(row_key(1_000), b""),)))).applied
        await committer.close()
        return outcomes

    outcomes = asyncio.run(run())
    for number, outcome in enumerate(outcomes, 1):
        if isinstance(outcome, CommitResult):
            assert store.get(row_key(number)) is not None
        else:
            assert isinstance(outcome, UnavailableError) and outcome.reason is Reason.READ_ONLY_STORE
            assert store.get(row_key(number)) is None
    store.close()
