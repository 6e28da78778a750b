"""What every store promises about rows and commits (see ``prefixdb.store.base``), as tests any store can inherit.

Method: each test states one promise and uses nothing but the ``Store`` protocol, so that a later store passes it
unchanged or is wrong. ``conformance_space`` does the same for cursors, space and restarts.
"""

from __future__ import annotations

import threading

import pytest

from prefixdb.errors import InvalidArgumentError
from prefixdb.keycodec import RowKey, Span, data_key, namespace_span, prefix_span, system_key
from prefixdb.limits import KEY_BYTES_MAX
from prefixdb.store.base import (
    Absent,
    Commit,
    CommitResult,
    Condition,
    Delete,
    DeleteSpan,
    Exists,
    Put,
    Row,
    Store,
    ValueIs,
    VersionIs,
)
from tests.store.stores import Harness

NS = 42


def key(name: str | bytes, namespace_id: int = NS) -> RowKey:
    return data_key(namespace_id, 0, name.encode() if isinstance(name, str) else name)


def put(store: Store, name: str | bytes, payload: bytes = b"value", **more: int) -> CommitResult:
    return store.commit(Commit((Put(key(name), payload, **more),)))


def rows(store: Store, span: Span, **options: bool) -> list[Row]:
    cursor = store.open_cursor(span, **options)
    found: list[Row] = []
    try:
        while page := cursor.fetch(7, 1 << 20):
            found += page
    finally:
        cursor.close()
    return found


def payloads(store: Store) -> dict[bytes, bytes]:
    return {row.key: row.payload for row in rows(store, namespace_span(NS))}


class RowConformance:
    """Promises about single rows and atomic commits."""

    def test_a_row_is_read_back_with_its_version_and_lifetime(self, harness: Harness) -> None:
        expires_at_ms = harness.clock.now_ms() + 5
        result = put(harness.store, "a", b"payload", expires_at_ms=expires_at_ms)
        assert result.applied and result.version > 0
        assert harness.store.get(key("a")) == Row(key("a"), b"payload", result.version, expires_at_ms)

    def test_an_absent_row_is_none(self, harness: Harness) -> None:
        assert harness.store.get(key("a")) is None
        assert harness.store.get_many([key("a"), key("b")]) == [None, None]

    def test_a_deleted_row_is_none(self, harness: Harness) -> None:
        put(harness.store, "a")
        harness.store.commit(Commit((Delete(key("a")),)))
        assert harness.store.get(key("a")) is None

    def test_many_rows_come_in_the_order_of_the_keys_with_repetitions(self, harness: Harness) -> None:
        for name in "abc":
            put(harness.store, name, name.encode())
        wanted = [key("c"), key("x"), key("a"), key("c")]
        found = harness.store.get_many(wanted)
        assert [row.payload if row else None for row in found] == [b"c", None, b"a", b"c"]
        assert harness.store.get_many([]) == []

    @pytest.mark.parametrize(
        "name", [b"\0", b"\xff", b"\xff" * KEY_BYTES_MAX, b"a\0b", b"a" * KEY_BYTES_MAX, "ключ".encode()]
    )
    def test_any_key_and_any_payload_survive(self, harness: Harness, name: bytes) -> None:
        payload = b"\0\xff" * 3
        put(harness.store, name, payload)
        put(harness.store, name + b"\0" if len(name) < KEY_BYTES_MAX else name[:-1], b"")
        row = harness.store.get(key(name))
        assert row is not None and row.payload == payload
        assert len(rows(harness.store, namespace_span(NS))) == 2

    def test_versions_grow_and_are_shared_within_a_commit(self, harness: Harness) -> None:
        versions = [put(harness.store, "a").version]
        result = harness.store.commit(Commit((Put(key("a"), b""), Put(key("b"), b""), Delete(key("c")))))
        versions.append(result.version)
        versions += [r.version for r in harness.store.commit_many([Commit((Put(key("d"), b""),))] * 3)]
        assert versions == sorted(set(versions))
        found = harness.store.get_many([key("a"), key("b")])
        assert [row.version if row else None for row in found] == [result.version] * 2
        assert harness.store.status().last_version == versions[-1]

    def test_mutations_apply_in_order(self, harness: Harness) -> None:
        put(harness.store, "old")
        span = prefix_span(NS, 0, b"")
        harness.store.commit(
            Commit(
                (
                    Put(key("gone"), b""),
                    DeleteSpan(span),
                    Put(key("kept"), b"1"),
                    Put(key("kept"), b"2"),
                    Put(key("del"), b""),
                    Delete(key("del")),
                )
            )
        )
        assert payloads(harness.store) == {key("kept"): b"2"}

    def test_a_span_delete_takes_exactly_its_span(self, harness: Harness) -> None:
        for name in ("a", "b", "b\0", "bz", "c"):
            put(harness.store, name)
        harness.store.commit(Commit((DeleteSpan(Span(key("b"), key("c"))),)))
        assert set(payloads(harness.store)) == {key("a"), key("c")}

    def test_an_empty_span_delete_does_nothing_and_later_writes_work(self, harness: Harness) -> None:
        put(harness.store, "a")
        result = harness.store.commit(Commit((DeleteSpan(Span(key("a"), key("a"))), Put(key("b"), b""))))
        assert result.applied
        assert set(payloads(harness.store)) == {key("a"), key("b")}
        assert put(harness.store, "c").version > result.version

    def test_a_commit_of_empty_spans_only_has_no_version(self, harness: Harness) -> None:
        before = put(harness.store, "a").version
        empty = Commit((DeleteSpan(Span(key("a"), key("a"))),))
        assert harness.store.commit_many([empty, Commit((Delete(key("b")),)), empty])[0] == CommitResult(True)
        assert harness.store.status().last_version > before
        assert put(harness.reopen(), "c").version > harness.store.status().last_version - 2

    def test_an_inverted_span_is_refused_before_the_store_sees_it(self, harness: Harness) -> None:
        put(harness.store, "a")
        with pytest.raises(InvalidArgumentError):
            Commit((Put(key("b"), b""), DeleteSpan(Span(key("z"), key("a")))))
        put(harness.store, "c")
        assert set(payloads(harness.store)) == {key("a"), key("c")}

    def test_a_commit_without_mutations_applies_with_version_zero(self, harness: Harness) -> None:
        assert harness.store.commit(Commit()) == CommitResult(True)
        assert harness.store.commit(Commit(conditions=(Absent(key("a")),))) == CommitResult(True)

    @pytest.mark.parametrize(
        ("condition", "holds"),
        [
            (Absent(key("none")), True),
            (Absent(key("a")), False),
            (Exists(key("a")), True),
            (Exists(key("none")), False),
            (Exists(key("expired")), False),
            (Absent(key("expired")), True),
            (ValueIs(key("a"), b"1"), True),
            (ValueIs(key("a"), b"2"), False),
            (ValueIs(key("none"), b""), False),
            (ValueIs(key("expired"), b"x"), False),
            (VersionIs(key("none"), 0), False),
            (VersionIs(key("a"), 0), False),
        ],
    )
    def test_a_condition_decides_whether_the_commit_applies(
        self, harness: Harness, condition: Condition, holds: bool
    ) -> None:
        version = put(harness.store, "a", b"1").version
        put(harness.store, "expired", b"x", expires_at_ms=harness.clock.now_ms())
        result = harness.store.commit(Commit((Put(key("new"), b""),), conditions=(Exists(key("a")), condition)))
        assert result.applied is holds
        assert (harness.store.get(key("new")) is not None) is holds
        if not holds:
            current = version if condition.key == key("a") else 0
            assert result == CommitResult(False, failed_condition=1, current_version=current)

    def test_a_version_condition_is_compare_and_swap(self, harness: Harness) -> None:
        first = put(harness.store, "a").version
        swap = Commit((Put(key("a"), b"swapped"),), conditions=(VersionIs(key("a"), first),))
        second = harness.store.commit(swap)
        assert second.applied
        assert harness.store.commit(swap) == CommitResult(False, failed_condition=0, current_version=second.version)

    def test_guards_are_checked_first_and_told_apart(self, harness: Harness) -> None:
        version = put(harness.store, "a").version
        both = Commit(
            (Put(key("b"), b""),), conditions=(Absent(key("a")),), guards=(Exists(key("a")), Absent(key("a")))
        )
        assert harness.store.commit(both) == CommitResult(False, failed_guard=1, current_version=version)
        assert harness.store.get(key("b")) is None

    def test_a_commit_sees_those_before_it_in_the_same_call(self, harness: Harness) -> None:
        claim = Commit((Put(key("lock"), b"owner"),), conditions=(Absent(key("lock")),))
        release = Commit((Delete(key("lock")),), guards=(Exists(key("lock")),))
        wipe = Commit((DeleteSpan(prefix_span(NS, 0, b"l")),), conditions=(ValueIs(key("lock"), b"owner"),))
        results = harness.store.commit_many([claim, claim, release, release, claim, wipe, claim])
        assert [result.applied for result in results] == [True, False, True, False, True, True, True]
        assert results[1].current_version == results[0].version
        row = harness.store.get(key("lock"))
        assert row is not None and row.version == results[6].version

    def test_conditions_look_at_the_state_before_the_commits_own_mutations(self, harness: Harness) -> None:
        both = Commit((Delete(key("a")), Put(key("a"), b"2")), conditions=(Absent(key("a")),))
        assert harness.store.commit(both).applied
        assert not harness.store.commit(both).applied

    def test_a_span_delete_in_the_batch_hides_stored_rows_from_later_conditions(self, harness: Harness) -> None:
        put(harness.store, "stored")
        wipe = Commit((DeleteSpan(namespace_span(NS)),))
        check = Commit((Put(key("seen"), b""),), conditions=(Exists(key("stored")),))
        assert [result.applied for result in harness.store.commit_many([wipe, check])] == [True, False]
        put(harness.store, "stored")
        assert [result.applied for result in harness.store.commit_many([check, wipe, check])] == [True, True, False]
        assert payloads(harness.store) == {}

    def test_an_expired_row_is_absent_for_every_read(self, harness: Harness) -> None:
        put(harness.store, "a", expires_at_ms=harness.clock.now_ms() + 10)
        put(harness.store, "b")
        harness.clock.advance(9)
        assert harness.store.get(key("a")) is not None
        harness.clock.advance(1)
        assert harness.store.get(key("a")) is None
        assert harness.store.get_many([key("a")]) == [None]
        assert [row.key for row in rows(harness.store, namespace_span(NS))] == [key("b")]
        assert len(rows(harness.store, namespace_span(NS), raw=True)) == 2

    def test_a_walk_of_one_instant_sees_what_lived_when_it_was_opened(self, harness: Harness) -> None:
        ends_at = harness.clock.now_ms() + 10
        for name in ("a", "b", "c"):
            put(harness.store, name, expires_at_ms=ends_at)
        put(harness.store, "gone", expires_at_ms=harness.clock.now_ms())
        one = harness.store.open_cursor(namespace_span(NS), one_instant=True)
        counted = harness.store.open_cursor(namespace_span(NS), keys_only=True, one_instant=True)
        walk = harness.store.open_cursor(namespace_span(NS))
        try:
            assert [row.key for row in one.fetch(1, 1)] == [row.key for row in walk.fetch(1, 1)] == [key("a")]
            assert counted.count(1) == 1
            harness.clock.advance(10)
            harness.store.sweep_expired(RowKey(b""), 100)
            harness.store.compact()
            assert [row.key for row in one.fetch(10, 1 << 20)] == [key("b"), key("c")]
            assert counted.count(10) == 2
            assert walk.fetch(10, 1 << 20) == []
        finally:
            one.close()
            counted.close()
            walk.close()

    def test_system_rows_and_data_rows_live_side_by_side(self, harness: Harness) -> None:
        harness.store.commit(Commit((Put(system_key(NS, 1, b"record"), b"s"), Put(key("a"), b"d"))))
        assert [row.payload for row in rows(harness.store, namespace_span(NS))] == [b"s", b"d"]

    def test_concurrent_counters_lose_no_update(self, harness: Harness) -> None:
        def count() -> None:
            done = 0
            while done < 25:
                row = harness.store.get(key("n"))
                condition = VersionIs(key("n"), row.version) if row else Absent(key("n"))
                new = str(int(row.payload) + 1 if row else 1).encode()
                done += harness.store.commit(Commit((Put(key("n"), new),), conditions=(condition,))).applied

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        row = harness.store.get(key("n"))
        assert row is not None and row.payload == b"100"

    def test_a_closed_store_refuses_everything(self, harness: Harness) -> None:
        put(harness.store, "a")
        cursor = harness.store.open_cursor(namespace_span(NS))
        harness.store.close()
        harness.store.close()
        for call in (
            lambda: harness.store.get(key("a")),
            lambda: harness.store.get_many([key("a")]),
            lambda: harness.store.open_cursor(namespace_span(NS)),
            lambda: put(harness.store, "b"),
            lambda: cursor.fetch(1, 1),
            harness.store.flush,
            harness.store.status,
        ):
            with pytest.raises(RuntimeError):
                call()
