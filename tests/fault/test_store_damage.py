"""A damaged block is DATA_LOSS at the point of damage, for every kind of read, and never a short answer.

Method: a table file of a closed store is damaged in its first or in a later data block, the store is opened again, and
get, get_many, cursors both ways, counts, conditions and sweeps are asked for rows in and around the block.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from prefixdb.errors import DataLossError
from prefixdb.keycodec import RowKey, namespace_span
from prefixdb.store.base import Commit, Exists, Put, Row, Store
from tests.support.crash_image import NS, OpenStore, flip, row_key, write_rows

ROWS = 400


@pytest.fixture(params=["first block", "later block"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path, open_store: OpenStore) -> Store:
    store = open_store(tmp_path / "data")
    write_rows(store, 0, ROWS)
    store.flush()
    store.compact()
    store.close()
    (table,) = (tmp_path / "data" / "db").glob("*.sst")
    flip(table, 100 if request.param == "first block" else table.stat().st_size // 2)
    store = open_store(tmp_path / "data")
    request.addfinalizer(store.close)
    return store


def lost_rows(store: Store) -> list[int]:
    lost = []
    for number in range(ROWS):
        try:
            assert store.get(row_key(number)) is not None
        except DataLossError:
            lost.append(number)
    return lost


def test_get_fails_for_rows_of_the_block_and_for_no_others(damaged: Store) -> None:
    lost = lost_rows(damaged)
    assert 0 < len(lost) < ROWS
    assert lost == list(range(lost[0], lost[-1] + 1))


def test_get_many_fails_as_a_whole_and_never_says_absent(damaged: Store) -> None:
    lost = lost_rows(damaged)
    with pytest.raises(DataLossError):
        damaged.get_many([row_key(number) for number in range(ROWS)])
    with pytest.raises(DataLossError):
        damaged.get_many([row_key(lost[0])])
    good = [row_key(number) for number in range(ROWS) if number not in lost]
    assert None not in damaged.get_many(good)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_cursor_gives_the_rows_before_the_damage_and_then_fails_for_good(damaged: Store, reverse: bool) -> None:
    lost = lost_rows(damaged)
    cursor = damaged.open_cursor(namespace_span(NS), reverse=reverse)
    before: list[Row] = []
    with pytest.raises(DataLossError):
        while page := cursor.fetch(30, 1 << 20):
            before += page
    good = list(range(ROWS - 1, lost[-1], -1)) if reverse else list(range(lost[0]))
    assert [row.key for row in before] == [row_key(number) for number in good][: len(before)]
    # Backwards the engine reads one row ahead, so the row next to the damage may go with it.
    assert len(before) >= len(good) - reverse
    with pytest.raises(DataLossError):
        cursor.fetch(30, 1 << 20)
    cursor.close()


def test_a_count_fails_instead_of_being_short(damaged: Store) -> None:
    cursor = damaged.open_cursor(namespace_span(NS), keys_only=True)
    with pytest.raises(DataLossError):
        cursor.count(ROWS * 2)
    cursor.close()


def test_proofs_sizes_and_sweeps_fail_or_say_not_empty(damaged: Store) -> None:
    if damaged.status().name != "native":  # Its sweep reads nothing.
        with pytest.raises(DataLossError):
            damaged.sweep_expired(RowKey(b""), ROWS * 2)
    with pytest.raises(DataLossError):
        damaged.span_size(namespace_span(NS))


def test_a_condition_on_a_damaged_row_refuses_the_commit_and_applies_nothing(damaged: Store) -> None:
    lost = lost_rows(damaged)
    new = row_key(ROWS + 1)
    with pytest.raises(DataLossError):
        damaged.commit_many(
            [Commit((Put(new, b""),)), Commit((Put(row_key(0), b""),), conditions=(Exists(row_key(lost[0])),))]
        )
    assert damaged.get(new) is None
    assert damaged.commit(Commit((Put(new, b"later"),))).applied


def test_a_row_that_is_not_a_stored_value_is_damage(tmp_path: Path, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "data")
    write_rows(store, 0, 3)
    with store._slot.use() as engine:
        engine.put_synced(row_key(1), b"\x77nonsense")
    with pytest.raises(DataLossError):
        store.get(row_key(1))
    with pytest.raises(DataLossError):
        store.get_many([row_key(1)])
    cursor = store.open_cursor(namespace_span(NS))
    assert [row.key for row in cursor.fetch(10, 1 << 20)] == [row_key(0)]
    for _ in range(2):
        with pytest.raises(DataLossError):
            cursor.fetch(10, 1 << 20)
    store.close()
