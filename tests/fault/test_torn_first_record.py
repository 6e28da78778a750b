"""A kill that tears the first record of a new log leaves no bytes behind that nobody will ever remove.

Goal: after the next opening the rows of the torn record are in no file, and a ban of their namespace is proven.
Method: the shim kills a store halfway through its first write into a log that a flush has begun. RocksDB reads such a
log at the next opening, finds nothing in it, and leaves it on the disk for hours; no namespace that may be in it could
be proven empty meanwhile. A log that is only on its way out, which the shim holds there, is none of these.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prefixdb.keycodec import data_key, namespace_span
from prefixdb.store.base import Commit, Put, Store
from tests.store.test_reclaim import reclaim
from tests.support.store_host import DURABLE, HostFailedError, StoreHost
from tools.crash.shim import Action, Call, Shim

NS = 42
SECRET = b"a secret that is torn in two " * 40


def fill(store: Store) -> None:
    store.commit(Commit(tuple(Put(data_key(NS, 0, b"%04d" % number), os.urandom(50)) for number in range(200))))
    store.flush()


def write_secret(store: Store) -> None:
    store.commit(Commit((Put(data_key(NS, 0, b"secret"), SECRET),)))


def logs_with_bytes(data_dir: Path) -> list[Path]:
    return [path for path in (data_dir / "db").glob("*.log") if path.stat().st_size]


def rows(store: Store) -> int:
    cursor = store.open_cursor(namespace_span(NS))
    try:
        return cursor.count(1_000)
    finally:
        cursor.close()


def reclaimed(store: Store) -> str:
    """Drop the namespace and return how far its reclaim came, and whether it is proven."""
    phase = reclaim(store, NS)
    return f"{phase} {store.prove_empty(namespace_span(NS)).empty}"


@pytest.mark.parametrize("kind", DURABLE)
def test_a_torn_first_record_is_gone_after_the_next_opening(kind: str, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with Shim(tmp_path) as shim:
        with StoreHost(kind, data_dir, shim) as host:
            host.run(fill)
            rule = shim.add(f"{data_dir}/db/*.log", Call.WRITES, action=Action.KILL_AFTER, times=1)
            with pytest.raises(HostFailedError):
                host.run(write_secret)
            host.await_death()
            assert rule.hits == 1
        [torn] = logs_with_bytes(data_dir)
        assert SECRET[:20] in torn.read_bytes()
    with StoreHost(kind, data_dir) as host:
        assert host.run(rows) == 200
        assert torn not in logs_with_bytes(data_dir)
        assert host.run(reclaimed) == "done True"


@pytest.mark.parametrize("kind", DURABLE)
def test_an_ordinary_crash_needs_no_second_opening(kind: str, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with StoreHost(kind, data_dir) as host:
        host.run(fill)
        host.run(write_secret)
    with Shim(tmp_path) as shim:
        opened = shim.add(f"{data_dir}/db/MANIFEST-*", Call.CREATE, after=1 << 40)
        with StoreHost(kind, data_dir, shim) as host:
            assert host.run(rows) == 201
            assert opened.matched == 1


@pytest.mark.skipif("native" not in DURABLE, reason="the native store is not built")
def test_a_log_that_is_being_removed_needs_no_second_opening(tmp_path: Path) -> None:
    """The native engine removes the log that it has recovered in a thread of its own, whenever that comes to it."""
    data_dir = tmp_path / "data"
    with StoreHost("native", data_dir) as host:
        host.run(fill)
        host.run(write_secret)
    [recovered] = logs_with_bytes(data_dir)
    with Shim(tmp_path) as shim:
        removal = shim.add(f"{data_dir}/db/*.log", Call.UNLINK, action=Action.HOLD)
        opened = shim.add(f"{data_dir}/db/MANIFEST-*", Call.CREATE, after=1 << 40)
        with StoreHost("native", data_dir, shim) as host:
            removal.await_hits(while_=lambda: host.alive)
            assert host.run(rows) == 201
            assert opened.matched == 1
            assert recovered in logs_with_bytes(data_dir)
