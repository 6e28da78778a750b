"""What every store promises about cursors, space, expiry and restarts, as tests any store can inherit.

Method: as in ``conformance``; nothing but the ``Store`` protocol.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from prefixdb.keycodec import RowKey, Span, data_key, namespace_span, range_span
from prefixdb.store.base import Commit, Delete, DeleteSpan, Put, ReclaimProgress
from tests.store.conformance import NS, key, payloads, put, rows
from tests.store.stores import Harness


def fill(harness: Harness, namespace_id: int, count: int, size: int = 100) -> list[RowKey]:
    keys = [data_key(namespace_id, 0, b"row %05d" % number) for number in range(count)]
    harness.store.commit_many([Commit(tuple(Put(row_key, os.urandom(size)) for row_key in keys))])
    return keys


def reclaim(harness: Harness, namespace_id: int) -> list[ReclaimProgress]:
    """Publish and reclaim one namespace; return copies of what was told of it."""
    harness.store.publish_bans([namespace_id])
    return reclaim_many(harness, [namespace_id])[namespace_id]


def reclaim_many(
    harness: Harness, namespace_ids: Sequence[int], stop: Callable[[], bool] = lambda: False
) -> dict[int, list[ReclaimProgress]]:
    """Reclaim published namespaces together; return copies of what was told of each."""
    seen: dict[int, list[ReclaimProgress]] = {namespace_id: [] for namespace_id in namespace_ids}

    def keep(namespace_id: int, progress: ReclaimProgress) -> None:
        seen[namespace_id].append(ReclaimProgress(progress.bytes_total, progress.bytes_done, progress.phase))

    harness.store.reclaim(namespace_ids, on_progress=keep, stop=stop)
    return seen


class CursorConformance:
    """Promises about walks."""

    def test_a_cursor_walks_its_span_in_key_order_both_ways(self, harness: Harness) -> None:
        keys = fill(harness, NS, 50)
        fill(harness, NS - 1, 3)
        fill(harness, NS + 1, 3)
        assert [row.key for row in rows(harness.store, namespace_span(NS))] == keys
        assert [row.key for row in rows(harness.store, namespace_span(NS), reverse=True)] == keys[::-1]

    def test_bounds_are_half_open_both_ways(self, harness: Harness) -> None:
        for name in "abcd":
            put(harness.store, name)
        span = range_span(NS, 0, b"b", b"d")
        assert [row.key for row in rows(harness.store, span)] == [key("b"), key("c")]
        assert [row.key for row in rows(harness.store, span, reverse=True)] == [key("c"), key("b")]
        assert rows(harness.store, Span(key("b"), key("b"))) == []
        assert rows(harness.store, Span(key("b"), key("b")), reverse=True) == []

    def test_keys_only_leaves_payloads_empty_and_keeps_versions(self, harness: Harness) -> None:
        version = put(harness.store, "a", b"payload").version
        (row,) = rows(harness.store, namespace_span(NS), keys_only=True)
        assert (row.payload, row.version) == (b"", version)

    def test_a_page_is_bounded_by_rows_and_by_bytes_but_never_empty_before_the_end(self, harness: Harness) -> None:
        fill(harness, NS, 10, size=100)
        cursor = harness.store.open_cursor(namespace_span(NS))
        assert len(cursor.fetch(3, 1 << 20)) == 3
        assert len(cursor.fetch(100, 1)) == 1
        assert len(cursor.fetch(100, 250)) == 3
        assert len(cursor.fetch(100, 1 << 20)) == 3
        assert cursor.fetch(100, 1 << 20) == []
        assert cursor.fetch(100, 1 << 20) == []
        cursor.close()
        with pytest.raises(ValueError):
            harness.store.open_cursor(namespace_span(NS)).fetch(0, 1)

    def test_a_cursor_is_a_view_of_the_moment_it_was_opened(self, harness: Harness) -> None:
        keys = fill(harness, NS, 300)
        cursor = harness.store.open_cursor(namespace_span(NS))
        harness.store.commit(Commit((Delete(keys[0]), Put(keys[1], b"new"), Put(key("zz"), b""))))
        first = cursor.fetch(2, 1 << 20)
        assert first[0].key == keys[0] and first[1].payload != b"new"
        harness.store.commit(Commit((DeleteSpan(namespace_span(NS)),)))
        harness.store.flush()
        harness.store.compact()
        assert cursor.count(1_000) == 298
        cursor.close()
        assert payloads(harness.store) == {}

    def test_count_counts_live_rows_and_stops_at_its_maximum(self, harness: Harness) -> None:
        fill(harness, NS, 20)
        put(harness.store, "expired", expires_at_ms=harness.clock.now_ms())
        cursor = harness.store.open_cursor(namespace_span(NS))
        assert [cursor.count(15), cursor.count(15), cursor.count(15)] == [15, 5, 0]
        cursor.close()

    def test_rows_that_expire_on_the_way_are_skipped(self, harness: Harness) -> None:
        for number in range(400):
            put(harness.store, b"%03d" % number, expires_at_ms=harness.clock.now_ms() + 10)
        put(harness.store, "last")
        cursor = harness.store.open_cursor(namespace_span(NS))
        assert len(cursor.fetch(1, 1 << 20)) == 1
        harness.clock.advance(10)
        assert [row.key for row in cursor.fetch(1, 1 << 20)] == [key("last")]
        cursor.close()

    def test_a_closed_cursor_refuses_and_closes_again(self, harness: Harness) -> None:
        cursor = harness.store.open_cursor(namespace_span(NS))
        cursor.close()
        cursor.close()
        with pytest.raises(RuntimeError):
            cursor.fetch(1, 1)
        with pytest.raises(RuntimeError):
            cursor.count(1)

    def test_many_gets_are_one_view(self, harness: Harness) -> None:
        keys = [key(b"%d" % number) for number in range(8)]
        harness.store.commit(Commit(tuple(Put(each, b"0") for each in keys)))
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                harness.store.commit(Commit(tuple(Put(each, b"%d" % number) for each in keys)))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(200):
                assert len({row.payload for row in harness.store.get_many(keys) if row}) == 1
        finally:
            stop.set()
            writer.join()


class SpaceConformance:
    """Promises about space, expiry and restarts."""

    def test_an_untouched_span_measures_exact_zeros_and_is_proven_empty(self, harness: Harness) -> None:
        fill(harness, NS - 1, 5)
        fill(harness, NS + 1, 5)
        harness.store.flush()
        assert harness.store.span_size(namespace_span(NS)) == (0, 0)
        assert harness.store.prove_empty(namespace_span(NS)).empty

    def test_a_span_with_rows_measures_about_its_bytes(self, harness: Harness) -> None:
        fill(harness, NS, 500, size=1_000)
        for _ in range(2):
            size = harness.store.span_size(namespace_span(NS))
            assert 400_000 < size.bytes < 700_000
            assert 400 < size.rows < 600
            harness.store.flush()

    def test_a_span_is_measured_exactly_up_to_as_many_rows_as_asked(self, harness: Harness) -> None:
        for namespace_id in (NS - 1, NS, NS + 1):
            fill(harness, namespace_id, 3_000)
        for _ in range(2):
            assert harness.store.span_size(namespace_span(NS), exact_rows_max=3_001).rows == 3_000
            harness.store.flush()

    def test_a_reclaimed_span_is_proven_empty_and_its_neighbours_are_whole(self, harness: Harness) -> None:
        keys = {namespace_id: fill(harness, namespace_id, 400) for namespace_id in (NS - 1, NS, NS + 1)}
        harness.store.flush()
        assert not harness.store.prove_empty(namespace_span(NS)).empty
        seen = reclaim(harness, NS)
        assert seen[-1].phase == "done"
        assert seen[-1].bytes_done == seen[-1].bytes_total > 0
        assert [progress.bytes_done for progress in seen] == sorted(progress.bytes_done for progress in seen)
        assert harness.store.prove_empty(namespace_span(NS)).empty
        assert harness.store.span_size(namespace_span(NS)) == (0, 0)
        for neighbour in (NS - 1, NS + 1):
            assert [row.key for row in rows(harness.store, namespace_span(neighbour))] == keys[neighbour]

    def test_an_expired_row_keeps_a_span_from_being_proven_empty(self, harness: Harness) -> None:
        put(harness.store, "a", expires_at_ms=harness.clock.now_ms())
        assert harness.store.prove_empty(namespace_span(NS)).rows_found == 1

    def test_a_reclaim_that_was_stopped_goes_on_when_called_again(self, harness: Harness) -> None:
        fill(harness, NS, 400)
        harness.store.flush()
        harness.store.publish_bans([NS])
        seen = reclaim_many(harness, [NS], stop=lambda: True)[NS]
        assert all(progress.phase != "done" for progress in seen)
        harness.reopen()
        assert reclaim(harness, NS)[-1].phase == "done"
        assert harness.store.prove_empty(namespace_span(NS)).empty

    def test_a_span_that_is_written_again_after_its_reclaim_is_not_empty(self, harness: Harness) -> None:
        fill(harness, NS, 10)
        reclaim(harness, NS)
        harness.store.withdraw_bans([NS])
        put(harness.store, "again")
        assert not harness.store.prove_empty(namespace_span(NS)).empty
        assert reclaim(harness, NS)[-1].phase == "done"
        assert harness.store.prove_empty(namespace_span(NS)).empty

    def test_sweeping_removes_expired_rows_and_only_those(self, harness: Harness) -> None:
        for number in range(30):
            lifetime = {"expires_at_ms": harness.clock.now_ms() + 5} if number % 3 else {}
            put(harness.store, b"%02d" % number, **lifetime)
        harness.clock.advance(5)
        after, rounds = RowKey(b""), 0
        while True:
            after = harness.store.sweep_expired(after, 7)
            rounds += 1
            if not after:
                break
        if harness.name == "native":
            # Its sweep does nothing: the next compaction that meets the rows drops them.
            harness.store.compact()
        left = rows(harness.store, namespace_span(NS), raw=True)
        assert [row.key for row in left] == [key(b"%02d" % number) for number in range(0, 30, 3)]
        assert rounds <= 6

    def test_rows_versions_and_deletes_survive_a_restart(self, harness: Harness) -> None:
        first = put(harness.store, "a", b"1")
        put(harness.store, "b")
        last = harness.store.commit(Commit((Delete(key("b")),)))
        for _ in range(2):
            store = harness.reopen()
            row = store.get(key("a"))
            assert row is not None and (row.payload, row.version) == (b"1", first.version)
            assert set(payloads(store)) == {key("a")}
        assert put(harness.store, "c").version > last.version

    def test_an_expired_row_stays_absent_after_a_restart(self, harness: Harness) -> None:
        put(harness.store, "a", expires_at_ms=harness.clock.now_ms() + 10)
        harness.clock.advance(10)
        assert harness.reopen().get(key("a")) is None

    def test_flush_and_compaction_change_nothing_a_reader_sees(self, harness: Harness) -> None:
        keys = fill(harness, NS, 200)
        harness.store.commit(Commit((DeleteSpan(Span(keys[10], keys[20])),)))
        before = rows(harness.store, namespace_span(NS))
        harness.store.flush()
        assert rows(harness.store, namespace_span(NS)) == before
        harness.store.compact(namespace_span(NS))
        harness.store.compact()
        assert rows(harness.store, namespace_span(NS)) == before
        assert len(before) == 190

    def test_a_checkpoint_is_an_openable_copy_of_its_instant(self, harness: Harness, tmp_path: Path) -> None:
        put(harness.store, "a", b"1")
        harness.store.checkpoint(tmp_path / "copy")
        put(harness.store, "a", b"2")
        copy = harness.open_copy(tmp_path / "copy")
        try:
            assert payloads(copy) == {key("a"): b"1"}
            put(copy, "b")
        finally:
            copy.close()
        assert payloads(harness.store) == {key("a"): b"2"}

    def test_status_tells_what_is_there(self, harness: Harness) -> None:
        status = harness.store.status()
        assert status.name == harness.name
        assert status.writable
        version = put(harness.store, "a").version
        assert harness.store.status().last_version == version


class BanConformance:
    """Promises about published bans. What background work drops of them is each store's own; see ``test_reclaim``."""

    def test_a_ban_of_no_namespace_is_refused_and_publishes_nothing(self, harness: Harness) -> None:
        for wrong in (0, 2**64 - 1, 2**64, -1):
            with pytest.raises(ValueError):
                harness.store.publish_bans([NS, wrong])
            with pytest.raises(ValueError):
                reclaim_many(harness, [NS])

    def test_only_what_was_published_is_reclaimed(self, harness: Harness) -> None:
        keys = fill(harness, NS, 10)
        fill(harness, NS + 1, 10)
        harness.store.publish_bans({NS + 1})
        with pytest.raises(ValueError):
            reclaim_many(harness, [NS + 1, NS])
        assert [row.key for row in rows(harness.store, namespace_span(NS))] == keys
        harness.store.publish_bans({NS})
        harness.store.publish_bans({NS, NS + 2})
        harness.store.withdraw_bans([NS, NS + 3])
        with pytest.raises(ValueError):
            reclaim_many(harness, [NS])
        assert reclaim_many(harness, [NS + 1])[NS + 1][-1].phase == "done"

    def test_a_published_ban_is_not_remembered_over_a_restart(self, harness: Harness) -> None:
        harness.store.publish_bans([NS])
        harness.reopen()
        with pytest.raises(ValueError):
            reclaim_many(harness, [NS])

    def test_many_namespaces_are_reclaimed_at_once_and_those_between_are_whole(self, harness: Harness) -> None:
        keys = {namespace_id: fill(harness, namespace_id, 50) for namespace_id in range(NS, NS + 20)}
        harness.store.flush()
        banned = list(range(NS + 1, NS + 20, 2))
        harness.store.publish_bans(banned)
        seen = reclaim_many(harness, banned[::-1])
        for namespace_id in banned:
            told = seen[namespace_id]
            assert told[-1].phase == "done"
            assert told[-1].bytes_done == told[-1].bytes_total > 0
            assert [each.bytes_done for each in told] == sorted(each.bytes_done for each in told)
            assert harness.store.prove_empty(namespace_span(namespace_id)).empty
        for namespace_id in range(NS, NS + 20, 2):
            assert [row.key for row in rows(harness.store, namespace_span(namespace_id))] == keys[namespace_id]

    def test_a_withdrawn_number_may_be_used_again(self, harness: Harness) -> None:
        fill(harness, NS, 100)
        reclaim(harness, NS)
        harness.store.withdraw_bans([NS])
        keys = fill(harness, NS, 30)
        harness.store.flush()
        harness.store.compact()
        assert [row.key for row in rows(harness.store, namespace_span(NS))] == keys

    def test_nothing_is_known_of_what_was_dropped_before_anything_was_published(self, harness: Harness) -> None:
        assert harness.store.dropped(NS) == (0, 0)

    def test_reclaiming_nothing_is_harmless(self, harness: Harness) -> None:
        assert reclaim_many(harness, []) == {}
