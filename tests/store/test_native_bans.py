"""What a published ban does in the native store: ordinary compactions drop its rows, and nobody else's are touched.

Method: rows are counted where nothing hides them: in the directory of the closed store, opened by the bare engine of
the other binding.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefixdb.errors import Reason
from prefixdb.keycodec import RowKey, Span, data_key, namespace_span
from prefixdb.limits import RANGE_TOMBSTONES_MAX
from prefixdb.store.base import Commit, DeleteSpan, Put, ReclaimProgress, Store
from tests.store.stores import DURABLE
from tests.support.clocks import HeldClock
from tests.support.crash_image import open_store
from tests.support.raw_rows import raw_rows
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif("native" not in DURABLE, reason="the native store is not built")

BANNED, NEIGHBOUR = 500, 501


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    opened = open_store(tmp_path / "data", "native")
    yield opened
    opened.close()


def fill(store: Store, namespace_id: int, count: int = 300, size: int = 200) -> list[RowKey]:
    keys = [data_key(namespace_id, 0, b"row %05d" % number) for number in range(count)]
    store.commit_many([Commit((Put(key, os.urandom(size)),)) for key in keys])
    return keys


def walked(store: Store, namespace_id: int) -> int:
    cursor = store.open_cursor(namespace_span(namespace_id), raw=True)
    try:
        return cursor.count(1 << 40)
    finally:
        cursor.close()


def test_ordinary_writes_and_their_compactions_alone_drop_a_banned_namespace(store: Any, tmp_path: Path) -> None:
    fill(store, BANNED)
    keys = fill(store, NEIGHBOUR)
    store.flush()
    store.publish_bans([BANNED])
    rounds = 0

    def dropped_by_writing() -> bool:
        nonlocal rounds
        rounds += 1
        fill(store, NEIGHBOUR)
        # Rows on both sides, so that the files of the two do not lie apart.
        fill(store, BANNED - 1, 5)
        store.flush()
        return walked(store, BANNED) == 0

    wait_for(dropped_by_writing)
    assert rounds > 1, "a flush has dropped rows, or the test did"
    assert store.dropped(BANNED).rows == 300
    assert store.dropped(BANNED).bytes > 300 * 200
    assert store.dropped(NEIGHBOUR) == (0, 0)
    store.close()
    assert raw_rows(tmp_path / "data" / "db", BANNED) == 0
    assert raw_rows(tmp_path / "data" / "db", NEIGHBOUR) == len(keys)


def test_without_publishing_nothing_is_dropped(store: Any, tmp_path: Path) -> None:
    fill(store, BANNED)
    store.publish_bans([NEIGHBOUR])
    store.compact()
    store.withdraw_bans([NEIGHBOUR])
    fill(store, NEIGHBOUR)
    store.compact()
    store.close()
    assert [raw_rows(tmp_path / "data" / "db", each) for each in (BANNED, NEIGHBOUR)] == [300, 300]


def test_open_cursors_keep_their_whole_view_over_publishing_and_compaction(store: Any) -> None:
    keys = {each: fill(store, each) for each in (BANNED, NEIGHBOUR)}
    store.flush()
    cursors = {each: store.open_cursor(namespace_span(each)) for each in keys}
    for cursor in cursors.values():
        assert len(cursor.fetch(10, 1 << 20)) == 10
    store.publish_bans([BANNED])
    fill(store, NEIGHBOUR, 50)
    store.compact()
    assert walked(store, BANNED) == 0
    for namespace_id, cursor in cursors.items():
        rest = []
        while page := cursor.fetch(70, 1 << 20):
            rest += page
        assert [row.key for row in rest] == keys[namespace_id][10:]
        cursor.close()


def test_a_checkpoint_under_a_reclaim_is_whole_for_everybody_else(store: Any, tmp_path: Path) -> None:
    fill(store, BANNED)
    fill(store, NEIGHBOUR)
    store.flush()
    store.publish_bans([BANNED])
    made: list[Path] = []

    def copy(_namespace_id: int, progress: ReclaimProgress) -> None:
        target = tmp_path / f"copy-{len(made)}"
        store.checkpoint(target)
        made.append(target)

    store.reclaim([BANNED], on_progress=copy, stop=lambda: False)
    assert len(made) > 2
    for target in made:
        opened = open_store(target, "native")
        assert walked(opened, NEIGHBOUR) == 300
        opened.close()
    assert raw_rows(made[-1] / "db", BANNED) == 0


def test_bans_are_published_to_an_engine_that_takes_the_place_of_a_broken_one(store: Any) -> None:
    fill(store, BANNED)
    store.publish_bans([BANNED])
    with store._commit_lock:
        store._reopen()
    assert store.status().extra["published_bans"] == "1"
    store.compact()
    assert walked(store, BANNED) == 0


def test_a_ban_withdrawn_while_the_engine_is_exchanged_stays_withdrawn(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fresh engine is told of the bans while another thread withdraws one: its number may have a new owner."""
    store.publish_bans([BANNED])
    adopt = store._adopt
    withdrawer = threading.Thread(target=lambda: store.withdraw_bans([BANNED]))

    def slow_adopt(engine: Any) -> None:
        publish = engine.publish_bans

        def slow_publish(namespace_ids: list[int]) -> None:
            withdrawer.start()
            withdrawer.join(0.3)  # It comes first, or it waits for us.
            publish(namespace_ids)

        engine.publish_bans = slow_publish
        adopt(engine)
        engine.publish_bans = publish

    monkeypatch.setattr(store, "_adopt", slow_adopt)
    with store._commit_lock:
        store._reopen()
    withdrawer.join()
    with store._slot.use() as engine:
        assert engine.filter_counts()["banned"] == 0


def test_a_proof_holds_after_a_restart_without_another_reclaim(store: Any, tmp_path: Path) -> None:
    for namespace_id in (BANNED - 1, BANNED, NEIGHBOUR):
        fill(store, namespace_id)
    store.publish_bans([BANNED])
    store.reclaim([BANNED], on_progress=lambda *_: None, stop=lambda: False)
    store.close()
    again = open_store(tmp_path / "data", "native")
    try:
        assert again.prove_empty(namespace_span(BANNED)).empty
        assert not again.prove_empty(namespace_span(NEIGHBOUR)).empty
    finally:
        again.close()


def test_a_namespace_that_compactions_have_emptied_is_not_rewritten_again(store: Any) -> None:
    for namespace_id in (BANNED - 1, BANNED, NEIGHBOUR):
        fill(store, namespace_id)
    store.publish_bans([BANNED])
    store.compact()
    with store._slot.use() as engine:
        before = {file.name for file in engine.live_files()}
    store.reclaim([BANNED], on_progress=lambda *_: None, stop=lambda: False)
    with store._slot.use() as engine:
        assert {file.name for file in engine.live_files()} == before
    assert store.prove_empty(namespace_span(BANNED)).empty


def test_range_tombstones_of_a_banned_namespace_are_not_called_nothing(store: Any) -> None:
    fill(store, BANNED - 1)
    fill(store, NEIGHBOUR)
    store.commit(Commit((DeleteSpan(Span(data_key(BANNED, 0, b"a"), data_key(BANNED, 0, b"b"))),)))
    assert not store.prove_empty(namespace_span(BANNED)).empty
    store.flush()
    with store._slot.use() as engine:
        assert not engine.has_any_version(namespace_span(BANNED).begin, namespace_span(BANNED).end)
        span = namespace_span(BANNED)
        assert engine.range_deletes(span.begin, span.end)
    assert not store.prove_empty(namespace_span(BANNED)).empty
    store.publish_bans([BANNED])
    store.reclaim([BANNED], on_progress=lambda *_: None, stop=lambda: False)
    assert store.prove_empty(namespace_span(BANNED)).empty
    # A neighbour's own do not spoil the proof of a finished reclaim.
    store.commit(Commit((DeleteSpan(namespace_span(NEIGHBOUR)), Put(data_key(BANNED - 1, 0, b"x"), b""))))
    store.flush()
    assert store.prove_empty(namespace_span(BANNED)).empty


def test_rows_expire_from_the_disk_by_the_stores_own_clock(store: Any, tmp_path: Path) -> None:
    clock: HeldClock = store._clock
    ends_at_ms = clock.now_ms() + 1_000
    store.commit(Commit(tuple(Put(data_key(NEIGHBOUR, 0, b"%03d" % n), b"", ends_at_ms) for n in range(100))))
    fill(store, BANNED, 10)
    store.flush()
    clock.advance(999)
    store.compact()
    assert walked(store, NEIGHBOUR) == 100
    clock.advance(1)
    store.compact()
    assert walked(store, NEIGHBOUR) == 0
    store.close()
    assert raw_rows(tmp_path / "data" / "db", NEIGHBOUR) == 0


def test_the_housekeeper_tells_the_filter_the_time(store: Any) -> None:
    store.commit(Commit((Put(data_key(NEIGHBOUR, 0, b"short"), b"", store._clock.now_ms() + 5),)))
    store.flush()
    store._clock.advance(5)
    store._wake.set()

    def dropped() -> bool:
        with store._slot.use() as engine:
            engine.compact(None, None)  # Not the store's own, which tells the time too.
        return walked(store, NEIGHBOUR) == 0

    wait_for(dropped)


def test_an_older_version_does_not_come_back_when_a_younger_one_expires(store: Any) -> None:
    key = data_key(NEIGHBOUR, 0, b"k")
    store.commit(Commit((Put(key, b"old"),)))
    fill(store, NEIGHBOUR)
    store.compact()
    store.commit(Commit((Put(key, b"young", store._clock.now_ms() + 5),)))
    store.flush()
    store._clock.advance(5)
    for _ in range(2):
        assert store.get(key) is None
        store.compact()
    assert walked(store, NEIGHBOUR) == 300


def test_range_deletes_that_must_wait_hold_up_no_neighbour(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of one turn share a batch, but not a refusal that is about range deletes."""
    monkeypatch.setattr(store, "flush", lambda: None)  # The housekeeper would make room.

    def deletes(first: int, count: int) -> Commit:
        keys = [data_key(BANNED, 0, b"r%05d" % number) for number in range(first, first + count)]
        return Commit(tuple(DeleteSpan(Span(key, RowKey(key + b"z"))) for key in keys))

    for first in range(0, 2 * RANGE_TOMBSTONES_MAX - 10, 10):
        store.commit(deletes(first, 10))

    async def together() -> list[Any]:
        committer = store.new_committer()
        try:
            put = Commit((Put(data_key(NEIGHBOUR, 0, b"k"), b"v"),))
            waiting = (committer.commit(put), committer.commit(deletes(50_000, 50)), committer.commit(put))
            return await asyncio.gather(*waiting, return_exceptions=True)
        finally:
            await committer.close()

    before, refused, after = asyncio.run(together())
    assert before.applied
    assert after.applied
    assert refused.reason is Reason.WRITE_STALL
