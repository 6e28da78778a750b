"""The last of the disk is kept for deletes and for the catalog, in every store with a directory.

Method: the free space is what the test says; everything else is real. Stores look once a second, so the tests wait for
the store to have looked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import namespace_span, system_key
from prefixdb.limits import MIB
from prefixdb.store import reserve
from prefixdb.store.base import Commit, Delete, DeleteSpan, Put
from tests.support.crash_image import NS, OpenStore, row_key, write_rows
from tests.support.waiting import wait_for


class Disk:
    """A disk whose free space the test sets."""

    free = 1 << 40

    def __call__(self, _directory: Path) -> int:
        return self.free


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(reserve, "free_bytes", disk)
    return disk


@pytest.fixture
def store(open_store: OpenStore, disk: Disk, tmp_path: Path) -> Iterator[Any]:
    opened = open_store(tmp_path / "data")
    write_rows(opened, 0, 10)
    yield opened
    opened.close()


def make_low(store: Any, disk: Disk) -> None:
    disk.free = 3 * MIB - 1  # Three memtables of 1 MiB each are to be flushed.
    store._wake.set()  # The housekeeper looks now instead of within a second.
    wait_for(lambda: not store.status().writable)


def put(number: int) -> Commit:
    return Commit((Put(row_key(number), b"new"),))


def test_new_rows_are_refused_and_applied_nowhere(store: Any, disk: Disk) -> None:
    make_low(store, disk)
    before = store.status().last_version
    for commits in ([put(100)], [Commit((Delete(row_key(1)),)), put(100)], [put(1)]):
        with pytest.raises(PrefixdbError) as refused:
            store.commit_many(commits)
        assert refused.value.reason is Reason.DISK_FULL
        assert refused.value.retry_after_ms
        assert "3 MiB" in refused.value.message
    assert store.status().last_version == before
    assert store.get(row_key(100)) is None
    assert store.get(row_key(1)) is not None


def test_deletes_and_records_of_the_catalog_are_taken(store: Any, disk: Disk) -> None:
    make_low(store, disk)
    record = system_key(NS, 1, b"a ban")
    results = store.commit_many(
        [
            Commit((Delete(row_key(1)),)),
            Commit((Put(record, b"banned"),)),
            Commit((DeleteSpan(namespace_span(NS + 1)),)),
        ]
    )
    assert all(result.applied for result in results)
    assert store.get(row_key(1)) is None
    assert store.get(record).payload == b"banned"


def test_rows_are_taken_again_when_space_is_back(store: Any, disk: Disk) -> None:
    make_low(store, disk)
    disk.free = 3 * MIB
    wait_for(lambda: store.status().writable)
    assert store.commit(put(100)).applied


def test_a_full_disk_at_the_start_is_seen_before_the_first_row(
    open_store: OpenStore, disk: Disk, tmp_path: Path
) -> None:
    disk.free = 0
    opened = open_store(tmp_path / "data")
    try:
        with pytest.raises(PrefixdbError) as refused:
            opened.commit(put(1))
        assert refused.value.reason is Reason.DISK_FULL
    finally:
        opened.close()


def test_a_put_that_is_refused_takes_no_delete_of_its_batch_with_it(store: Any, disk: Disk) -> None:
    make_low(store, disk)

    async def together() -> list[Any]:
        committer = store.new_committer()
        try:
            waiting = (committer.commit(put(100)), committer.commit(Commit((Delete(row_key(2)),))))
            return await asyncio.gather(*waiting, return_exceptions=True)
        finally:
            await committer.close()

    refused, deleted = asyncio.run(together())
    assert isinstance(refused, PrefixdbError)
    assert refused.reason is Reason.DISK_FULL
    assert deleted.applied
    assert store.get(row_key(2)) is None


def test_nothing_is_ingested_into_the_reserve(store: Any, disk: Disk) -> None:
    ingest = store.open_ingest(namespace_span(NS + 1))
    if ingest is None:
        pytest.skip("this store does not ingest")
    make_low(store, disk)
    with pytest.raises(PrefixdbError) as refused:
        ingest.add([Put(namespace_span(NS + 1).begin, b"row")])
    assert refused.value.reason is Reason.DISK_FULL
    ingest.abort()
