"""A ban alone drops a namespace's rows: the compactions that RocksDB does anyway leave nothing of it behind.

Method: rows of a namespace and of its neighbours, mixed in the same table files. The namespace is banned, and from
then on there is nothing but ordinary writes to the neighbours, until the engine by itself has replaced every file from
before the ban; nobody calls a reclaim or a compaction. The directory is closed and opened by the bare engine of the
other binding, which hides nothing and knows no filter, and the rows under the namespace's prefix are counted. The same
with a whole server, whose reclaimer is kept from its work; and without a ban, where every row must still be there.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from prefixdb.keycodec import RowKey, data_key
from prefixdb.store.base import Commit, Put, Store
from prefixdb.v1 import key_value_pb2 as pb
from prefixdb.v1 import namespaces_pb2
from tests.store.stores import STORES
from tests.support.clocks import HeldClock
from tests.support.raw_rows import raw_rows
from tests.support.server import running

BELOW, BANNED, ABOVE = 41, 42, 43
ROWS = 200
"""In each of two files of three namespaces: less than a memtable, so that no compaction begins before the ban."""

VALUE_BYTES = 1_000
REPLACED_S_MAX = 60.0

pytestmark = pytest.mark.skipif("native" not in STORES, reason="the native store is not built")


def tables(data_dir: Path) -> set[str]:
    return {path.name for path in (data_dir / "db").glob("*.sst")}


def key_of(namespace_id: int, number: int) -> RowKey:
    return data_key(namespace_id, 0, b"row %06d" % number)


def write(store: Store, namespace_ids: Iterable[int], first: int, count: int = ROWS) -> None:
    for namespace_id in namespace_ids:
        puts = (Put(key_of(namespace_id, number), os.urandom(VALUE_BYTES)) for number in range(first, first + count))
        store.commit_many([Commit((put,)) for put in puts])


def write_until(done: Callable[[], bool], write_some: Callable[[], None]) -> None:
    limit = time.monotonic() + REPLACED_S_MAX
    while not done():
        assert time.monotonic() < limit, "the engine has not replaced the files from before"
        write_some()


def fill(store: Store) -> None:
    """Two table files, each with rows of all three namespaces."""
    for half in range(2):
        write(store, (BELOW, BANNED, ABOVE), half * ROWS)
        store.flush()


@pytest.mark.parametrize("banned", [True, False])
def test_the_engines_own_compactions_drop_a_published_namespace_and_nothing_else(tmp_path: Path, banned: bool) -> None:
    data_dir = tmp_path / "data"
    store = STORES["native"](data_dir, HeldClock())
    fill(store)
    if banned:
        store.publish_bans([BANNED])
    before = tables(data_dir)
    assert len(before) == 2
    write_until(lambda: not before & tables(data_dir), lambda: write(store, (BELOW, ABOVE), 0, 100))
    if banned:
        dropped = store.dropped(BANNED)
        assert dropped.rows == 2 * ROWS
        assert dropped.bytes > 2 * ROWS * VALUE_BYTES
    store.close()
    assert raw_rows(data_dir / "db", BANNED) == (0 if banned else 2 * ROWS)
    assert raw_rows(data_dir / "db", BELOW) == raw_rows(data_dir / "db", ABOVE) == 2 * ROWS


def test_a_file_that_no_compaction_touches_keeps_its_rows(tmp_path: Path) -> None:
    """The filter acts where files are rewritten: without that, a ban costs nothing and changes nothing on the disk."""
    data_dir = tmp_path / "data"
    store = STORES["native"](data_dir, HeldClock())
    fill(store)
    store.publish_bans([BANNED])
    before = tables(data_dir)
    store.close()
    assert before <= tables(data_dir)
    assert raw_rows(data_dir / "db", BANNED) == 2 * ROWS


def test_a_ban_over_the_wire_and_ordinary_puts_of_others_empty_the_namespace_on_disk(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    settings = {"store.kind": "native", "store.write_buffer": "1MiB", "store.cache": "4MiB"}
    begun = threading.Event()

    async def scenario() -> None:
        async with running(data_dir, settings=settings) as server:
            store = server.app.store
            neighbours = [server.caller(server.create(f"n{number}", number)) for number in (BELOW, ABOVE)]
            server.create("dropped", BANNED)
            await asyncio.to_thread(fill, store)

            def keep_from_work(namespace_ids: Iterable[int], *, on_progress: object, stop: Callable[[], bool]) -> None:
                begun.set()
                while not stop():
                    time.sleep(0.01)

            store.reclaim = keep_from_work  # type: ignore[method-assign]
            ban = namespaces_pb2.BanNamespaceRequest(namespace=namespaces_pb2.NamespaceRef(id=BANNED))
            await server.guardian.call(server.guardian.namespaces.BanNamespace, ban)
            assert await asyncio.to_thread(begun.wait, 30)
            before = tables(data_dir)
            number, limit = 0, time.monotonic() + REPLACED_S_MAX
            while before & tables(data_dir):
                assert time.monotonic() < limit
                request = pb.WriteRequest()
                for _ in range(100):
                    put = pb.Mutation.Put(key=b"row %06d" % (number % ROWS), value=os.urandom(VALUE_BYTES))
                    request.mutations.add().put.MergeFrom(put)
                    number += 1
                for caller in neighbours:
                    await caller.call(caller.key_value.Write, request)

    asyncio.run(scenario())
    assert raw_rows(data_dir / "db", BANNED) == 0
    assert raw_rows(data_dir / "db", ABOVE) > 2 * ROWS
