"""Directories that stores of earlier versions left behind open in every store of today, with every row in them.

Method: ``tests/data/golden`` has a data directory of each kind of store as a kill left it, made once by
``tools/crash/make_golden.py`` and never changed, and a list of all its rows. A copy of each is opened by each store;
every way of reading is compared with the list, the catalog is loaded, a ban in it is reclaimed, and the other store
opens what that has left.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefixdb.catalog.entities import NamespaceState
from prefixdb.catalog.namespaces import Registry
from prefixdb.errors import FailedPreconditionError, Reason
from prefixdb.keycodec import RowKey, Span, namespace_span
from prefixdb.store.base import Commit, Put, Row, Store
from tests.store.stores import STORES, VOLATILE
from tests.support.clocks import HeldClock
from tests.support.crash_image import content

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden"
MADE_BY = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
KINDS = [kind for kind in STORES if kind not in VOLATILE]
SUSPENDED, GRACED, DUE = 100, 101, 102
EVERYTHING = Span(RowKey(bytes(8)), RowKey(b"\xff" * 8))
"""All namespaces. The store's own row in front of them is written anew when the store needs a number."""


def digest(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(params=MADE_BY)
def golden(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A golden directory, which the test must leave as it was."""
    before = digest(GOLDEN / request.param)
    yield GOLDEN / request.param
    assert digest(GOLDEN / request.param) == before


@pytest.fixture
def copy(golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(golden / "data", tmp_path / "data"))


def expected_rows(golden: Path) -> list[Row]:
    facts: dict[str, Any] = json.loads((golden / "expected.json").read_text(encoding="utf-8"))
    rows = [
        Row(RowKey(base64.b64decode(key)), base64.b64decode(payload), *rest) for key, payload, *rest in facts["rows"]
    ]
    return [row for row in rows if row.key in EVERYTHING]


def clock_of(golden: Path) -> HeldClock:
    return HeldClock(json.loads((golden / "expected.json").read_text(encoding="utf-8"))["now_ms"])


def walked(store: Store, span: Span = EVERYTHING, **how: bool) -> list[Row]:
    cursor = store.open_cursor(span, **how)
    rows: list[Row] = []
    try:
        while page := cursor.fetch(50, 1 << 20):
            rows += page
    finally:
        cursor.close()
    return rows


def test_there_is_a_golden_directory_of_each_kind_of_store_and_it_is_small() -> None:
    assert {"rocksdict", "native"} <= set(MADE_BY)
    for name in MADE_BY:
        assert sum(path.stat().st_size for path in (GOLDEN / name).rglob("*") if path.is_file()) < 256 * 1024
        assert list((GOLDEN / name / "data" / "db").glob("*.sst"))
        assert any(path.stat().st_size for path in (GOLDEN / name / "data" / "db").glob("*.log"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_read_as_it_was_written(golden: Path, copy: Path, kind: str) -> None:
    rows, clock = expected_rows(golden), clock_of(golden)
    live = [row for row in rows if not 0 < row.expires_at_ms <= clock.now_ms()]
    assert 300 < len(live) < len(rows)
    store = STORES[kind](copy, clock)
    try:
        assert walked(store, raw=True) == rows
        assert walked(store) == live
        assert walked(store, reverse=True) == live[::-1]
        wanted: dict[RowKey, Row] = {row.key: row for row in live}
        keys = [row.key for row in rows]
        assert [store.get(key) for key in keys] == [wanted.get(key) for key in keys]
        assert store.get_many(keys) == [wanted.get(key) for key in keys]
        newest = max(row.version for row in rows)
        assert store.status().last_version >= newest
        assert store.commit(Commit((Put(live[-1].key, b"new"),))).version > newest
    finally:
        store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_ban_is_found_and_reclaimed_and_the_other_stores_open_what_is_left(
    golden: Path, copy: Path, kind: str
) -> None:
    rows, clock = expected_rows(golden), clock_of(golden)
    due = namespace_span(DUE)
    store = STORES[kind](copy, clock)
    try:
        registry = Registry(store, clock)
        states = {number: record.state for number in (SUSPENDED, GRACED, DUE) if (record := registry.get(number))}
        assert states == {
            SUSPENDED: NamespaceState.READ_ONLY,
            GRACED: NamespaceState.BANNED,
            DUE: NamespaceState.BANNED,
        }
        assert {ban.namespace_id for ban in registry.undone_bans()} == {GRACED, DUE}
        assert [ban.namespace_id for ban in registry.due_bans(clock.now_ms())] == [DUE]
        assert walked(store, due, raw=True)
        store.publish_bans([DUE])
        store.reclaim([DUE], on_progress=lambda namespace_id, progress: None, stop=lambda: False)
        assert store.prove_empty(due).empty
    finally:
        store.close()
    for other in KINDS:
        store = STORES[other](copy, clock_of(golden))
        try:
            # A compaction may have dropped rows whose lifetime had ended, and nothing else.
            left = [row for row in rows if row.key not in due]
            assert walked(store) == [row for row in left if not 0 < row.expires_at_ms <= clock.now_ms()]
            assert set(walked(store, raw=True)) <= set(left)
        finally:
            store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_of_a_future_format_is_refused_with_the_remedy_and_left_alone(copy: Path, kind: str) -> None:
    state = copy / "store-state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"format": 2, "more": []}))
    before = content(copy)
    with pytest.raises(FailedPreconditionError, match=r"format 2.* up to 1; use a newer prefixdb") as refused:
        STORES[kind](copy, HeldClock())
    assert refused.value.reason is Reason.FORMAT_TOO_NEW
    assert content(copy) == before
