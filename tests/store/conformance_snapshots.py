"""What every store promises about snapshots, as tests any store can inherit.

Method: as in ``conformance``; nothing but the ``Store`` protocol. A copy is opened only after it was copied again: the
files in a snapshot are links to live ones, and an opening writes.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from prefixdb.keycodec import namespace_span
from prefixdb.store.base import Commit, Delete, Put, Row, Snapshot
from tests.store.conformance import NS, key, payloads, put, rows
from tests.store.conformance_space import fill, reclaim
from tests.store.stores import VOLATILE, Harness

FAR = NS + 1_000


def rows_in(harness: Harness, snapshot: Snapshot, tmp_path: Path, namespace_id: int = NS) -> list[Row]:
    target = tmp_path / f"copy of {snapshot.path.name}"
    shutil.copytree(snapshot.path, target)
    copy = harness.open_copy(target)
    try:
        assert copy.status().last_version >= snapshot.last_version
        return rows(copy, namespace_span(namespace_id))
    finally:
        copy.close()
        shutil.rmtree(target)


class SnapshotConformance:
    """Promises about openable copies inside the data directory."""

    def test_a_snapshot_has_what_was_committed_before_and_nothing_of_later(
        self, harness: Harness, tmp_path: Path
    ) -> None:
        put(harness.store, "flushed")
        harness.store.flush()
        put(harness.store, "gone")
        harness.store.commit(Commit((Delete(key("gone")),)))
        version = put(harness.store, "in memory", b"1").version
        before = rows(harness.store, namespace_span(NS))
        snapshot = harness.store.open_snapshot()
        put(harness.store, "in memory", b"2")
        put(harness.store, "later")
        harness.store.compact()
        assert snapshot.last_version == version
        assert rows_in(harness, snapshot, tmp_path) == before
        snapshot.close()
        assert len(payloads(harness.store)) == 3

    def test_a_closed_snapshot_is_gone_and_closing_again_is_harmless(self, harness: Harness) -> None:
        put(harness.store, "a")
        first, second = harness.store.open_snapshot(), harness.store.open_snapshot()
        assert first.path != second.path
        first.close()
        first.close()
        assert not first.path.exists() and second.path.exists()
        second.close()
        assert not second.path.exists()
        assert payloads(harness.store) == {key("a"): b"value"}

    def test_closing_the_store_removes_its_snapshots(self, harness: Harness) -> None:
        put(harness.store, "a")
        snapshot = harness.store.open_snapshot()
        harness.store.close()
        assert not snapshot.path.exists()
        snapshot.close()

    def test_a_snapshot_that_a_crash_has_left_is_gone_after_the_next_opening(
        self, harness: Harness, tmp_path: Path
    ) -> None:
        if harness.name in VOLATILE:
            return
        fill(harness, NS, 100)
        snapshot = harness.store.open_snapshot()
        assert snapshot.path.is_relative_to(harness.directory)
        image = tmp_path / "image"
        shutil.copytree(harness.directory, image)
        store = harness.open_copy(image)
        assert not list(image.glob("snapshots/*"))
        assert len(rows(store, namespace_span(NS))) == 100
        store.close()
        snapshot.close()

    def test_writers_go_on_and_the_copy_is_a_prefix_of_their_commits(self, harness: Harness, tmp_path: Path) -> None:
        acknowledged: list[int] = []
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                acknowledged.append(put(harness.store, b"%06d" % len(acknowledged)).version)

        writer = threading.Thread(target=write)
        writer.start()
        snapshots = []
        try:
            for _ in range(4):
                known = len(acknowledged) + 50
                while len(acknowledged) < known and writer.is_alive():
                    pass
                snapshots.append((list(acknowledged), harness.store.open_snapshot()))
        finally:
            stop.set()
            writer.join()
        for before, snapshot in snapshots:
            found = rows_in(harness, snapshot, tmp_path)
            assert [row.key for row in found] == [key(b"%06d" % number) for number in range(len(found))]
            assert len(found) >= len(before) and snapshot.last_version >= before[-1]
            assert len(found) >= sum(version <= snapshot.last_version for version in acknowledged)
            snapshot.close()

    def test_a_namespace_is_not_proven_empty_while_a_snapshot_has_its_rows(self, harness: Harness) -> None:
        fill(harness, NS, 300)
        snapshot = harness.store.open_snapshot()
        other = harness.store.open_snapshot()
        reclaim(harness, NS)
        found = harness.store.prove_empty(namespace_span(NS))
        assert (found.rows_found, found.bytes_found) == (0, 0)
        assert found.files_pinned and not found.empty
        snapshot.close()
        assert not harness.store.prove_empty(namespace_span(NS)).empty
        other.close()
        assert harness.store.prove_empty(namespace_span(NS)).empty

    def test_a_namespace_of_which_a_snapshot_has_nothing_is_proven_empty_beside_it(self, harness: Harness) -> None:
        fill(harness, NS, 100)
        harness.store.flush()
        snapshot = harness.store.open_snapshot()
        fill(harness, FAR, 100)
        reclaim(harness, FAR)
        assert harness.store.prove_empty(namespace_span(FAR)).empty
        snapshot.close()

    def test_rows_that_were_deleted_before_a_reclaim_count_when_a_snapshot_has_them(self, harness: Harness) -> None:
        keys = fill(harness, NS, 100)
        snapshot = harness.store.open_snapshot()
        harness.store.commit(Commit(tuple(map(Delete, keys))))
        harness.store.compact()
        reclaim(harness, NS)
        assert harness.store.prove_empty(namespace_span(NS)).files_pinned
        snapshot.close()
        assert harness.store.prove_empty(namespace_span(NS)).empty

    def test_rows_keep_their_versions_in_the_copy(self, harness: Harness, tmp_path: Path) -> None:
        old = put(harness.store, "a").version
        harness.store.commit(Commit((Put(key("b"), b"", 0, old), Put(key("c"), b"", 0))))
        snapshot = harness.store.open_snapshot()
        assert rows_in(harness, snapshot, tmp_path) == rows(harness.store, namespace_span(NS))
        snapshot.close()
