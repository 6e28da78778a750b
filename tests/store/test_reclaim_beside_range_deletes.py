"""A reclaim ends although a neighbour's range tombstone lies in a file that spans the namespace and has nothing of it.

Method: one table file with rows of the neighbours below and above and a range delete of the one below; the store cannot
tell whose tombstone it is without rewriting the file, and the engine passes over files in which the span has no key.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from prefixdb.keycodec import data_key, namespace_span, prefix_span
from prefixdb.store.base import Commit, DeleteSpan, Put
from tests.store.stores import STORES
from tests.support.clocks import HeldClock
from tests.support.store_host import DURABLE

BELOW, BANNED, ABOVE = 6, 7, 8


@pytest.mark.parametrize("kind", DURABLE)
def test_a_neighbours_range_tombstone_does_not_keep_a_reclaim_from_its_end(kind: str, tmp_path: Path) -> None:
    store = STORES[kind](tmp_path / "data", HeldClock())
    try:
        rows = [Put(data_key(each, 0, b"k%02d" % n), b"v") for each in (BELOW, ABOVE) for n in range(20)]
        store.commit(Commit(tuple(rows)))
        store.flush()
        store.compact()
        clear = DeleteSpan(prefix_span(BELOW, 0, b"k"))
        store.commit(Commit((clear, Put(data_key(BELOW, 0, b"x"), b"v"), Put(data_key(ABOVE, 0, b"x"), b"v"))))
        store.flush()
        store.publish_bans([BANNED])
        store.reclaim([BANNED], on_progress=lambda namespace_id, progress: None, stop=lambda: False)
        assert store.prove_empty(namespace_span(BANNED)).empty
        assert store.get(data_key(ABOVE, 0, b"k00")) is not None
        assert store.get(data_key(BELOW, 0, b"k00")) is None
    finally:
        store.close()
