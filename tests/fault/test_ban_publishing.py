"""Goal: with real stores, no ban reaches the filter before the last reader has gone, and no living row is ever dropped.

Method: a registry and a reclaimer over each store with a directory, driven step by step, with compactions of everything
forced in between, which drop whatever is published; images of the directory are taken between any two steps and opened
as after a power cut. What is left is counted raw, with nothing hidden.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prefixdb.catalog.entities import NamespaceState, ReclaimPhase
from prefixdb.catalog.namespaces import Registry
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import data_key, namespace_span
from prefixdb.reclaim import Reclaimer
from prefixdb.store.base import Commit, Put
from prefixdb.store.core import StoreCore
from tests.support.clocks import HeldClock
from tests.support.crash_image import OpenStore, await_saved

ROWS = 300
GROUPS = 3
"""Rows every namespace begins with: its built-in groups."""


class World:
    """A store, and the registry and reclaimer over it."""

    def __init__(self, open_store: OpenStore, data_dir: Path) -> None:
        self.clock = HeldClock()
        self.data_dir = data_dir
        self.store: StoreCore[Any] = open_store(data_dir, clock=self.clock, durability="os")
        self.registry = Registry(self.store, self.clock)
        self.streams: dict[int, int] = {}
        self.reclaimer = Reclaimer(self.store, self.registry, self.clock, lambda n: self.streams.get(n, 0))

    @property
    def published(self) -> int:
        return int(self.store.status().extra["published_bans"])

    def tenant(self, name: str, rows: int = ROWS, namespace_id: int | None = None) -> int:
        created = self.registry.create(name, namespace_id=namespace_id).id
        puts = tuple(Put(data_key(created, 0, b"row/%05d" % n), name.encode() * 20) for n in range(rows))
        assert self.store.commit(Commit(puts)).applied
        return created

    def count(self, namespace_id: int) -> int:
        """Return how many rows the namespace has, with nothing hidden."""
        cursor = self.store.open_cursor(namespace_span(namespace_id), raw=True)
        try:
            return cursor.count(1_000_000)
        finally:
            cursor.close()

    def churn(self) -> None:
        """Have every file rewritten."""
        self.store.flush()
        self.store.compact()

    def phase(self, namespace_id: int) -> ReclaimPhase:
        return self.reclaimer.report(namespace_id).phase

    def close(self) -> None:
        self.store.close()


@pytest.fixture
def world(open_store: OpenStore, tmp_path: Path) -> Iterator[World]:
    made = World(open_store, tmp_path / "data")
    yield made
    made.close()


def refusal_of(call: Callable[..., object], *arguments: object) -> Reason | None:
    try:
        call(*arguments)
    except PrefixdbError as refusal:
        return refusal.reason
    return None


def test_a_namespace_in_its_grace_survives_every_compaction_and_comes_back_whole(world: World) -> None:
    doomed = world.tenant("doomed")
    world.registry.ban(doomed, by="x", grace_ms=1_000)
    world.clock.advance(999)
    world.reclaimer.run_once()
    world.churn()
    assert world.published == 0
    assert world.registry.unban(doomed).state is NamespaceState.ACTIVE
    world.clock.advance(10_000)
    world.reclaimer.run_once()
    world.churn()
    assert (world.published, world.count(doomed)) == (0, ROWS + GROUPS)


def test_while_a_reader_is_left_compactions_keep_every_row_and_afterwards_none(world: World, tmp_path: Path) -> None:
    doomed, other = world.tenant("doomed"), world.tenant("other")
    reading = world.store.open_cursor(namespace_span(doomed))
    others = world.store.open_cursor(namespace_span(other))
    assert len(reading.fetch(10, 1 << 20)) == len(others.fetch(10, 1 << 20)) == 10
    world.streams[doomed] = 1
    world.registry.ban(doomed, by="x")
    world.reclaimer.run_once()
    world.churn()
    assert (world.published, world.count(doomed)) == (0, ROWS + GROUPS)
    assert refusal_of(world.registry.unban, doomed) is Reason.RECLAIM_STARTED
    assert reading.count(1_000) == ROWS + GROUPS - 10, "the reader sees its whole view"
    reading.close()
    world.streams[doomed] = 0
    world.clock.advance(2_000)
    world.store.checkpoint(tmp_path / "backup")
    world.reclaimer.run_once()
    assert others.count(1_000) == ROWS + GROUPS - 10, "a neighbour's scan loses nothing"
    others.close()
    for _ in range(100):
        if world.phase(doomed) is ReclaimPhase.DONE:
            break
        world.clock.advance(60_000)  # Files that the neighbour's scan kept are gone now, or in a moment.
        world.reclaimer.run_once()
    assert world.phase(doomed) is ReclaimPhase.DONE
    assert (world.published, world.count(doomed), world.count(other)) == (0, 0, ROWS + GROUPS)


def test_a_checkpoint_that_is_written_while_bans_are_published_and_reclaimed_has_all_rows_of_others(
    world: World, open_store: OpenStore, tmp_path: Path
) -> None:
    doomed = [world.tenant(f"doomed-{n}") for n in range(10)]
    others = [world.tenant(f"other-{n}") for n in range(10)]
    stop = threading.Event()
    made: list[Path] = []

    def keep_writing_backups() -> None:
        while not stop.is_set():
            world.store.checkpoint(target := tmp_path / f"backup-{len(made)}")
            made.append(target)

    thread = threading.Thread(target=keep_writing_backups)
    thread.start()
    try:
        for namespace_id in doomed:
            world.registry.ban(namespace_id, by="x")
            world.reclaimer.run_once()
            world.churn()
    finally:
        stop.set()
        thread.join(60)
    assert len(made) > 1
    for target in (made[0], made[len(made) // 2], made[-1]):
        backup = open_store(target, clock=world.clock)
        try:
            for namespace_id in others:
                cursor = backup.open_cursor(namespace_span(namespace_id), raw=True)
                assert cursor.count(1_000) == ROWS + GROUPS
                cursor.close()
        finally:
            backup.close()


def test_a_number_issued_again_keeps_every_row_through_forced_compactions_and_restarts(
    world: World, open_store: OpenStore, tmp_path: Path
) -> None:
    doomed = world.tenant("doomed")
    for turn in range(3):
        world.churn()
        world.registry.ban(doomed, by="x")
        assert world.reclaimer.run_once() is True
        world.tenant(f"again-{turn}", ROWS + turn, namespace_id=doomed)
        world.churn()
        world.reclaimer.run_once()
        world.churn()
        assert (world.published, world.count(doomed)) == (0, ROWS + turn + GROUPS)
    world.close()
    again = World(open_store, world.data_dir)
    again.churn()
    assert again.count(doomed) == ROWS + 2 + GROUPS
    again.close()


@pytest.mark.timeout(300)
def test_two_thousand_tiny_namespaces_banned_at_once_share_their_reclaim(world: World) -> None:
    tiny = [world.tenant(f"tiny-{n}", 3, namespace_id=1_000 + 2 * n) for n in range(2_000)]
    kept = [world.tenant(f"kept-{n}", 3, namespace_id=1_001 + 20 * n) for n in range(200)]
    world.churn()
    for namespace_id in tiny:
        world.registry.ban(namespace_id, by="x")
    begin = time.monotonic()
    assert world.reclaimer.run_once() is True
    took_s = time.monotonic() - begin
    assert world.registry.counts()[NamespaceState.RECLAIMED] == len(tiny)
    assert {world.count(namespace_id) for namespace_id in kept} == {3 + GROUPS}
    assert sum(world.count(namespace_id) for namespace_id in tiny) == 0
    reports = [world.reclaimer.report(namespace_id) for namespace_id in tiny]
    assert {report.rows_dropped for report in reports} == {3 + GROUPS}
    assert took_s < 60, "each by itself would take minutes"


STEPS = ("mark_reclaims_started", "publish_bans", "reclaim", "prove_empty", "withdraw_bans", "mark_reclaimed")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_power_cut_between_any_two_steps_loses_no_living_row_and_ends_in_the_proof(
    world: World, open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    first, second, other = (world.tenant(name) for name in ("first", "second", "other"))
    world.churn()
    image = tmp_path / "image"
    part = world.registry if step.startswith("mark") else world.store
    honest = getattr(part, step)

    def take_image() -> None:
        if not image.exists():
            world.store._wake.set()
            await_saved(world.data_dir, world.store.status().last_version)
            shutil.copytree(world.data_dir, image)

    def stepping(*arguments: Any, **keywords: Any) -> Any:
        if not after:
            take_image()
        result = honest(*arguments, **keywords)
        take_image()
        return result

    monkeypatch.setattr(part, step, stepping)
    for namespace_id in (first, second):
        world.registry.ban(namespace_id, by="x")
    assert world.reclaimer.run_once() is True
    revived = World(open_store, image)
    try:
        begun = [bool(ban.reclaim_started_at_ms) for ban in revived.registry.undone_bans()]
        assert revived.published == sum(begun)
        revived.churn()
        assert revived.count(other) == ROWS + GROUPS
        if all(begun):
            assert {refusal_of(revived.registry.unban, n) for n in (first, second)} == {Reason.RECLAIM_STARTED}
        revived.reclaimer.run_once()
        assert [revived.phase(n) for n in (first, second)] == [ReclaimPhase.DONE] * 2
        assert (revived.published, revived.count(first), revived.count(second)) == (0, 0, 0)
        revived.tenant("again", namespace_id=first)
        revived.churn()
        assert (revived.count(first), revived.count(other)) == (ROWS + GROUPS, ROWS + GROUPS)
    finally:
        revived.close()


def test_a_stop_ends_a_reclaim_under_way_within_a_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    doomed = world.tenant("doomed", 20_000)
    world.churn()
    under_way = threading.Event()
    world.reclaimer.add_listener(
        lambda n: under_way.set() if world.reclaimer.report(n).phase is ReclaimPhase.RECLAIMING else None
    )
    world.registry.ban(doomed, by="x")
    world.reclaimer.start()
    assert under_way.wait(20)
    begin = time.monotonic()
    world.reclaimer.stop(20)
    assert time.monotonic() - begin < 1
