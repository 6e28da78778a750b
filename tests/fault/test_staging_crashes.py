"""Goal: a namespace in the making is whole or gone, wherever a server that makes it is cut off.

Method: with real stores, a namespace is built in this process, and before and after every commit and every ingest an
image of the directory is taken, each opened as after a power cut: the namespace lives with every row, or nothing is
seen, its number is proven to be empty, and it can be made again under the same number.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prefixdb.backup.building import Builder, Plan
from prefixdb.backup.cloning import CloneContent
from prefixdb.catalog.entities import NamespaceRecord, NamespaceState
from prefixdb.catalog.incoming import Incoming
from prefixdb.catalog.namespaces import Registry
from prefixdb.keycodec import data_key, namespace_span
from prefixdb.reclaim import Reclaimer
from prefixdb.store.base import Commit, Put
from prefixdb.store.core import StoreCore
from tests.service.staging import rows_of
from tests.support.clocks import HeldClock
from tests.support.crash_image import OpenStore, await_saved

ROWS = 700
CHOSEN = 4_711


class World:
    """A store and its registry."""

    def __init__(self, open_store: OpenStore, data_dir: Path) -> None:
        self.clock = HeldClock()
        self.store: StoreCore[Any] = open_store(data_dir, clock=self.clock, durability="os")
        self.registry = Registry(self.store, self.clock)
        self.reclaimer = Reclaimer(self.store, self.registry, self.clock, lambda _: 0)

    def build(self, source: NamespaceRecord) -> NamespaceRecord:
        """Clone the source under the chosen number."""
        builder = Builder(self.store, self.registry)
        reservation = self.registry.staging.reserve("copy", CHOSEN)

        def content() -> CloneContent:
            incoming = Incoming(CHOSEN, self.clock.now_ms())
            return CloneContent(self.store, source.id, CHOSEN, incoming=incoming, progress=builder.progress)

        return builder.run(Plan(reservation, "me@0", "being cloned", {}, source=source), content)

    def raw_rows(self, namespace_id: int) -> int:
        """Return how many rows the namespace has, with nothing hidden."""
        cursor = self.store.open_cursor(namespace_span(namespace_id), raw=True)
        try:
            return cursor.count(1_000_000)
        finally:
            cursor.close()

    def close(self) -> None:
        self.store.close()


def images_of(world: World, data_dir: Path, folder: Path, act: Callable[[], object]) -> Iterator[Path]:
    """Do ``act``, and yield images of the directory: before and after each of its writes."""
    images: list[Path] = []

    def take() -> None:
        world.store._wake.set()
        await_saved(data_dir, world.store.status().last_version)
        image = folder / f"image-{len(images)}"
        shutil.copytree(data_dir, image)
        images.append(image)

    def imaged(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            take()
            try:
                return function(*arguments, **more)
            finally:
                take()

        return call

    plain_commit, plain_ingest = world.store.commit, world.store.open_ingest

    def open_ingest(*arguments: Any) -> Any:
        ingest = plain_ingest(*arguments)
        if ingest is not None:
            ingest.finish = imaged(ingest.finish)
        return ingest

    world.store.commit = imaged(plain_commit)  # type: ignore[method-assign]
    world.store.open_ingest = open_ingest  # type: ignore[method-assign]
    try:
        act()
    finally:
        world.store.commit = plain_commit  # type: ignore[method-assign]
        world.store.open_ingest = plain_ingest  # type: ignore[method-assign]
    yield from images


def filled(world: World) -> NamespaceRecord:
    """Return a source with rows."""
    source = world.registry.create("source")
    puts = tuple(Put(data_key(source.id, 0, b"k%05d" % n), b"v" * 50) for n in range(ROWS))
    assert world.store.commit(Commit(puts)).applied
    return source


def test_between_any_two_writes_a_crash_leaves_all_of_it_or_nothing(open_store: OpenStore, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    world = World(open_store, data_dir)
    source = filled(world)
    # The number had another owner once.
    world.registry.create("before", namespace_id=CHOSEN)
    world.registry.ban(CHOSEN, by="me")
    assert world.reclaimer.run_once()
    images = list(images_of(world, data_dir, tmp_path, lambda: world.build(source)))
    built = world.registry.get(CHOSEN)
    wanted = rows_of(world.store, source.id)
    assert rows_of(world.store, CHOSEN) == wanted
    world.close()
    assert len(images) >= 6, "reserve writes nothing; stage, ingest and finish do"
    ends = set()
    for image in images:
        revived = World(open_store, image)
        found = revived.registry.find("copy")
        if found is not None and found.state.is_live:
            ends.add("whole")
            assert found.incarnation == built.incarnation
            assert rows_of(revived.store, CHOSEN) == wanted
        else:
            staged = revived.registry.get(CHOSEN)
            ends.add(staged.state.name + (" staged" if revived.registry.bans()[0].staged else ""))
            assert not staged.state.is_live
            for _ in range(3):
                revived.reclaimer.run_once()
            assert revived.registry.get(CHOSEN).state is NamespaceState.RECLAIMED
            assert revived.raw_rows(CHOSEN) == 0
            assert revived.store.prove_empty(namespace_span(CHOSEN)).empty
            assert not (image / "ingest").exists() or not list((image / "ingest").iterdir())
            again = revived.build(revived.registry.find("source"))
            assert again.incarnation > built.incarnation or staged.incarnation != again.incarnation
            assert [row[:3] for row in rows_of(revived.store, CHOSEN)] == [row[:3] for row in wanted]
        revived.close()
    assert ends == {"RECLAIMED", "BANNED staged", "whole"}
