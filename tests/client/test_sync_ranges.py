# Generated from tests/client/test_aio_ranges.py by tools/async_to_sync.py; do not edit.
"""Goal: ranges are walked, counted and deleted exactly, in pages, in both directions, and across a server's restart.

Method: a real server; a sorted list of the keys that were put is the oracle.
"""

from __future__ import annotations

import pytest

from prefixdb.errors import InvalidArgumentError, Reason, UnavailableError
from prefixdb.limits import SCAN_PAGE_ROWS_MAX
from prefixdb.testing import Namespace, ServerProcess
from tests.client.harness import sync_test

ROWS = 3 * SCAN_PAGE_ROWS_MAX + 7


def rows(count: int) -> list[tuple[bytes, bytes]]:
    """Return rows in key order."""
    return [(b"row/%06d" % number, b"value %d" % number) for number in range(count)]


@sync_test
def test_a_scan_yields_every_row_once_in_order_over_many_pages(place: Namespace) -> None:
    with place.connect() as db:
        db.put_many(rows(ROWS))
        db.put("rox", b"outside of the prefix")
        assert [row for row in db.scan("row/")] == rows(ROWS)
        assert [row for row in db.scan("row/", reverse=True)] == rows(ROWS)[::-1]
        assert [key for key in db.scan("row/", keys_only=True)] == [key for key, _ in rows(ROWS)]
        assert [key for key, _ in db.scan()] == [*(key for key, _ in rows(ROWS)), b"rox"]
        assert db.count("row/") == ROWS
        assert db.count() == ROWS + 1


@sync_test
def test_bounds_are_half_open_in_both_directions(place: Namespace) -> None:
    with place.connect() as db:
        db.put_many((letter, b"") for letter in "abcdef")
        assert [key for key in db.scan(start="b", end="d", keys_only=True)] == [b"b", b"c"]
        assert [key for key in db.scan(start="b", end="d", reverse=True, keys_only=True)] == [b"c", b"b"]
        assert [key for key in db.scan(start="e", keys_only=True)] == [b"e", b"f"]
        assert [key for key in db.scan(end="b", keys_only=True)] == [b"a"]
        assert [key for key in db.scan(start="c", end="c", keys_only=True)] == []
        assert db.count(start="b", end="d") == 2


@pytest.mark.parametrize("limit", [1, SCAN_PAGE_ROWS_MAX, SCAN_PAGE_ROWS_MAX + 1, ROWS, ROWS + 1])
@sync_test
def test_a_limit_is_exact_on_both_sides_of_a_page(place: Namespace, limit: int) -> None:
    with place.connect() as db:
        db.put_many(rows(ROWS))
        assert [row for row in db.scan(limit=limit)] == rows(ROWS)[:limit]


@sync_test
def test_rows_of_a_scan_carry_versions_that_conditions_accept(place: Namespace) -> None:
    with place.connect() as db:
        db.put("a", b"1", ttl=60)
        [row] = [row for row in db.scan_rows()]
        assert row.ttl is not None
        db.put(row.key, b"2", if_version=row.version)


@sync_test
def test_inverted_and_contradictory_ranges_are_refused(place: Namespace) -> None:
    with place.connect() as db:
        db.put("a", b"1")
        for bounds in ({"start": "b", "end": "a"}, {"prefix": "a", "start": "a"}, {"start": "a", "end": ""}):
            with pytest.raises(InvalidArgumentError) as caught:
                db.count(**bounds)
            assert caught.value.reason is Reason.BAD_RANGE
        with pytest.raises(InvalidArgumentError, match="empty the database"):
            db.delete_range()
        assert db.count() == 1


@sync_test
def test_delete_range_removes_its_range_and_nothing_else(place: Namespace) -> None:
    with place.connect() as db:
        db.put_many((key, b"") for key in ["a/1", "a/2", "b/1", "c/1", "d"])
        db.delete_range("a/")
        assert [key for key in db.scan(keys_only=True)] == [b"b/1", b"c/1", b"d"]
        db.delete_range(start="b", end="c")
        assert [key for key in db.scan(keys_only=True)] == [b"c/1", b"d"]
        db.delete_range("")
        assert db.count() == 0


@sync_test
def test_a_scan_that_is_left_early_frees_its_stream(place: Namespace) -> None:
    with place.connect() as db:
        db.put_many(rows(ROWS))
        walk = db.scan()
        for _ in walk:
            break
        walk.close()
        while place.server.guardian.guardian.maintenance.status().streams_open:
            pass


@sync_test
def test_a_scan_goes_on_across_a_restart_without_loss_or_doubles(own_server: ServerProcess) -> None:
    place = own_server.create_namespace()
    for reverse in (False, True):
        with place.connect() as db:
            db.put_many((key, bytes(5000)) for key, _ in rows(ROWS))
            seen = []
            for key, _ in db.scan(reverse=reverse):
                seen.append(key)
                if len(seen) == 1500:
                    own_server.kill()
                    own_server.start()
            expected = [key for key, _ in rows(ROWS)]
            assert seen == (expected[::-1] if reverse else expected)


@sync_test
def test_a_limited_scan_keeps_its_limit_across_a_restart(own_server: ServerProcess) -> None:
    place = own_server.create_namespace()
    with place.connect() as db:
        db.put_many((key, bytes(5000)) for key, _ in rows(ROWS))
        seen = []
        for key, _ in db.scan(limit=2500):
            seen.append(key)
            if len(seen) == 900:
                own_server.kill()
                own_server.start()
        assert seen == [key for key, _ in rows(ROWS)][:2500]


@sync_test
def test_a_scan_that_must_be_one_snapshot_fails_instead_of_going_on(own_server: ServerProcess) -> None:
    place = own_server.create_namespace()
    with place.connect() as db:
        db.put_many((key, bytes(20000)) for key, _ in rows(ROWS))
        seen = 0
        with pytest.raises(UnavailableError):
            for _ in db.scan(resume=False):
                seen += 1
                if seen == 100:
                    own_server.kill()
        assert 100 <= seen < ROWS
