"""An import is applied once, wherever it is cut off, and everything it counts is true.

Method: the importer works on a store that fails, or "crashes", at one of its steps: right before a commit or an ingest
takes effect, or right after, when its answer is lost. Another importer, as after a restart, goes on with the spool and
the record that are there. Each step is tried in turn. What was doubled would show in the rows, or in the counts: a row
that is put twice is a replaced or a skipped one.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from prefixdb.backup import import_batch, importing, repeats
from prefixdb.backup.import_ledger import ImportStoppedError, Target
from prefixdb.backup.import_record import ImportPhase, ImportRecord, OnConflict, import_key
from prefixdb.backup.importing import Importer
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.schema import Tag, rows_of
from prefixdb.errors import NamespaceBannedError, PrefixdbError, Reason, error
from prefixdb.keycodec import data_key, system_span
from prefixdb.store.base import Commit, CommitResult, Put
from tests.support.clocks import HeldClock
from tests.support.importing import archive_of, rows_in, simple, versions_in
from tests.support.memory_store import MemoryStore

COUNT = 60
"""Rows of an archive here; batches are made small enough that they are many."""


class CrashError(Exception):
    """The process ended here."""


class CrashingStore:
    """A store that crashes at its n-th change, before or after it takes effect; with ``failure`` it raises that."""

    def __init__(self, store: MemoryStore, at: int, after: bool, failure: PrefixdbError | None = None) -> None:
        self._store = store
        self._at = at
        self._after = after
        self._failure = failure
        self.changes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, commit: Commit) -> CommitResult:
        return self.crossing(lambda: self._store.commit(commit))

    def crossing(self, change: Any) -> Any:
        self.changes += 1
        here = self.changes == self._at
        if here and not self._after:
            raise self._failure or CrashError
        result = change()
        if here:
            raise self._failure or CrashError
        return result

    def open_ingest(self, span: Any) -> Any:
        ingest = self._store.open_ingest(span)
        if ingest is None:
            return None
        finish = ingest.finish
        ingest.finish = lambda *args, **named: self.crossing(lambda: finish(*args, **named))  # type: ignore[method-assign]
        return ingest


class World:
    """A namespace, a spool, and the record an import of it begins with."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        monkeypatch.setattr(importing, "ATOMIC_ROWS", settings.pop("atomic_rows", 0))
        monkeypatch.setattr(import_batch, "BATCH_ROWS", 7)
        monkeypatch.setattr("prefixdb.backup.import_ledger.WAIT_S", 0.0)
        monkeypatch.setattr("prefixdb.backup.importing.WAIT_S", 0.0)
        self.clock = HeldClock(now_ms=1_700_000_000_000)
        self.store = MemoryStore(self.clock)
        self.registry = Registry(self.store, self.clock)
        self.namespace = self.registry.create("home")
        self.rows = simple(COUNT)
        self.path = tmp_path / "spool"
        self.path.write_bytes(b"".join(archive_of(self.rows, frame_rows=11)))
        self.there = settings.pop("there", ())
        for key in self.there:
            self.put(key, b"old")
        bound = [database.to_bytes(2) + key for database, key, *_ in (self.rows[0], self.rows[-1])]
        settings.setdefault("on_conflict", OnConflict.SKIP)
        self.record = ImportRecord(
            ImportPhase.RECEIVED, rows=COUNT, row_bytes=1_000, first=bound[0], last=bound[1], **settings
        )

    def put(self, key: bytes, value: bytes) -> None:
        """Write a row."""
        assert self.store.commit(Commit((Put(data_key(self.namespace.id, 0, key), value),))).applied

    def importer(self, store: Any = None) -> Importer:
        """Return a new importer, as a restart would make one."""
        key = import_key(self.namespace.id, b"s" * 16, b"u" * 16)
        target = Target(self.namespace.id, self.namespace.incarnation, key)
        return Importer(store or self.store, self.registry, self.clock, target=target, path=self.path)

    def check(self, done: ImportRecord) -> None:
        """Compare the store, and what the import says, with what must be."""
        assert done.phase is ImportPhase.DONE and done.position == COUNT
        found = rows_in(self.store, self.namespace.id)
        overwrite = done.on_conflict is OnConflict.OVERWRITE
        wanted = {(0, key): value for _, key, value, _, _ in self.rows}
        wanted |= {} if overwrite else {(0, key): b"old" for key in self.there}
        assert found == wanted
        taken = len(self.there)
        assert (done.inserted, done.replaced, done.skipped) == (
            COUNT - taken,
            taken if overwrite else 0,
            0 if overwrite else taken,
        )
        assert len(list(rows_of(self.store, system_span(self.namespace.id, Tag.IMPORT)))) == 1  # No marker is left.


def steps_of(world: World) -> int:
    """Return how many changes an import makes that nothing disturbs, and check it."""
    store = CrashingStore(world.store, -1, after=False)
    importer = world.importer(store)
    importer.begin(world.record)
    world.check(importer.run())
    return store.changes


KINDS: list[dict[str, Any]] = [
    {},
    {"on_conflict": OnConflict.FAIL},
    {"keep_order": True},
    {"there": (b"key/0000003", b"key/0000030")},
    {"there": (b"key/0000003", b"key/0000030"), "on_conflict": OnConflict.OVERWRITE},
    {"there": (b"key/0000003",), "on_conflict": OnConflict.OVERWRITE, "keep_order": True},
    {"there": (b"key/0000003",), "atomic_rows": 1_000},
]


@pytest.mark.parametrize("settings", KINDS, ids=range(len(KINDS)))
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("reason", [None, Reason.OUTCOME_UNKNOWN, Reason.WRITE_STALL])
def test_an_import_that_is_cut_off_at_any_step_is_finished_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], after: bool, reason: Reason | None
) -> None:
    if after and reason is Reason.WRITE_STALL:
        pytest.skip("a stalled write was not applied")
    (tmp_path / "whole").mkdir()
    steps = steps_of(World(tmp_path / "whole", monkeypatch, **dict(settings)))
    assert steps >= 3
    for at in range(1, steps + 1):
        (tmp_path / str(at)).mkdir()
        world = World(tmp_path / str(at), monkeypatch, **dict(settings))
        store = CrashingStore(world.store, at, after, None if reason is None else error(reason))
        importer = world.importer(store)
        try:
            importer.begin(world.record)
            done = importer.run()
        except (CrashError, PrefixdbError):
            importer = world.importer()
            if at == 1 and not after:
                importer.begin(world.record)  # It had not begun: its client sends the archive again.
            done = importer.run()
        world.check(done)


def test_what_others_write_meanwhile_is_neither_lost_nor_undone_by_going_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    store = CrashingStore(world.store, 3, after=True)  # The ingest has taken effect; nobody was told.
    importer = world.importer(store)
    importer.begin(world.record)
    with pytest.raises(CrashError):
        importer.run()
    world.put(b"key/0000005", b"later")
    assert world.importer().run().inserted == COUNT
    assert rows_in(world.store, world.namespace.id)[0, b"key/0000005"] == b"later"


def test_a_key_that_comes_between_the_look_and_the_files_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for on_conflict, wanted in ((OnConflict.FAIL, ImportPhase.FAILED), (OnConflict.SKIP, ImportPhase.DONE)):
        (tmp_path / on_conflict.name).mkdir()
        world = World(tmp_path / on_conflict.name, monkeypatch, on_conflict=on_conflict)
        open_ingest = world.store.open_ingest

        def late(span: Any, world: World = world, open_ingest: Any = open_ingest) -> Any:
            ingest = open_ingest(span)
            world.put(b"key/0000005", b"first")
            return ingest

        monkeypatch.setattr(world.store, "open_ingest", late)
        importer = world.importer()
        importer.begin(world.record)
        record = importer.run()
        assert record.phase is wanted
        found = rows_in(world.store, world.namespace.id)
        assert found[0, b"key/0000005"] == b"first"
        assert len(found) == (1 if wanted is ImportPhase.FAILED else COUNT)


def test_a_ban_ends_it_and_a_suspension_only_holds_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefixdb.catalog.entities import NamespaceState

    world = World(tmp_path, monkeypatch, there=(b"key/0000003",))
    importer = world.importer()
    importer.begin(world.record)
    world.registry.suspend(world.namespace.id, NamespaceState.READ_ONLY)
    pauses = []
    pause = importer._ledger.pause

    def resumed(seconds: float = 0.0) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            assert len(rows_in(world.store, world.namespace.id)) == 1
            world.registry.resume(world.namespace.id)
        pause(seconds)

    monkeypatch.setattr(importer._ledger, "pause", resumed)
    world.check(importer.run())

    (tmp_path / "banned").mkdir()
    world = World(tmp_path / "banned", monkeypatch)
    importer = world.importer()
    importer.begin(world.record)
    world.registry.ban(world.namespace.id, by="test")
    with pytest.raises(NamespaceBannedError):
        importer.run()
    assert rows_in(world.store, world.namespace.id) == {}


def test_a_spool_the_disk_has_changed_is_told_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    data = bytearray(world.path.read_bytes())
    data[len(data) // 2] ^= 1
    world.path.write_bytes(data)
    importer = world.importer()
    importer.begin(world.record)
    record = importer.run()
    failure = record.failure()
    assert failure is not None and failure.reason is Reason.CORRUPTION
    assert rows_in(world.store, world.namespace.id) == {}


def test_a_stopped_import_says_so_and_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    importer = world.importer()
    importer.begin(world.record)
    importer.stop()
    with pytest.raises(ImportStoppedError):
        importer.run()
    world.check(world.importer().run())


def test_the_order_of_versions_is_the_same_after_a_crash_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, keep_order=True, there=(b"other",))
    world.rows = [(0, key, value, 1_000_000 - number, 0) for number, (_, key, value, *_) in enumerate(world.rows)]
    world.path.write_bytes(b"".join(archive_of(world.rows, frame_rows=11)))
    world.record = dataclasses.replace(world.record, first=b"", last=b"")
    importer = world.importer(CrashingStore(world.store, 6, after=False))
    importer.begin(world.record)
    with pytest.raises(CrashError):
        importer.run()
    assert world.importer().run().inserted == COUNT
    versions = versions_in(world.store, world.namespace.id)
    new: Sequence[int] = [versions[key] for _, key, *_ in world.rows]
    assert all(one > other for one, other in itertools.pairwise(new))


def test_a_second_worker_on_the_same_import_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, there=(b"key/0000003",), on_conflict=OnConflict.OVERWRITE)
    first, second = world.importer(), world.importer()
    first.begin(world.record)
    existing_keys = importing.existing_keys
    met = []

    def meanwhile(*args: Any) -> Any:
        there = existing_keys(*args)
        if not met:
            met.append(True)
            second.run()
            world.put(b"key/0000005", b"later")
        return there

    monkeypatch.setattr(importing, "existing_keys", meanwhile)
    assert first.run().inserted == COUNT - 1
    assert rows_in(world.store, world.namespace.id)[0, b"key/0000005"] == b"later"


def test_a_key_that_comes_between_the_look_and_the_commit_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, there=(b"key/0000003",))
    importer = world.importer()
    importer.begin(world.record)
    existing_keys = importing.existing_keys
    met = []

    def meanwhile(*args: Any) -> Any:
        there = existing_keys(*args)
        if not met:
            met.append(True)
            world.put(b"key/0000001", b"first")
        return there

    monkeypatch.setattr(importing, "existing_keys", meanwhile)
    done = importer.run()
    assert (done.inserted, done.skipped) == (COUNT - 2, 2)
    assert rows_in(world.store, world.namespace.id)[0, b"key/0000001"] == b"first"


def test_a_rehearsal_of_rows_that_come_more_than_once_counts_what_the_import_then_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "_RUN", 5)  # Several runs on the disk.
    for number, on_conflict in enumerate(OnConflict):
        (tmp_path / str(number)).mkdir()
        there = () if on_conflict is OnConflict.FAIL else (b"key/0000003", b"key/0000004")
        world = World(tmp_path / str(number), monkeypatch, there=there, on_conflict=on_conflict)
        # Each key three times, in different batches, and once more beside itself.
        some = [(0, key, value, 0, 0) for _, key, value, *_ in world.rows[:15]]
        world.rows = [row for row in some for _ in range(2)] + some + some
        world.path.write_bytes(b"".join(archive_of(world.rows, kind="rows", frame_rows=11)))
        world.record = dataclasses.replace(world.record, first=b"", last=b"")
        rehearsed = world.importer().rehearse(world.record)
        assert len(rows_in(world.store, world.namespace.id)) == len(there)
        importer = world.importer()
        importer.begin(world.record)
        done = importer.run()
        counts = [(one.inserted, one.replaced, one.skipped, one.position) for one in (rehearsed, done)]
        assert counts[0] == counts[1]
        assert done.inserted == 15 - len(there) and sum(counts[0][:3]) == COUNT
        assert list(world.path.parent.iterdir()) == [world.path]


def test_a_key_that_exists_is_one_conflict_however_often_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, there=(b"key/0000003",), on_conflict=OnConflict.FAIL)
    world.rows = [(0, key, value, 0, 0) for _, key, value, *_ in world.rows[:15]] * 4
    world.path.write_bytes(b"".join(archive_of(world.rows, kind="rows", frame_rows=11)))
    world.record = dataclasses.replace(world.record, first=b"", last=b"")
    with pytest.raises(PrefixdbError) as refused:
        world.importer().rehearse(world.record)
    assert refused.value.metadata["rows"] == "1"
    importer = world.importer()
    importer.begin(world.record)
    failure = importer.run().failure()
    assert failure is not None and failure.metadata["rows"] == "1"


def test_with_fail_a_key_that_comes_while_rows_are_written_is_left_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Beside the archive's keys there is one of somebody else, so the rows come in batches.
    world = World(tmp_path, monkeypatch, on_conflict=OnConflict.FAIL)
    world.put(b"key/0000030x", b"beside")
    importer = world.importer()
    importer.begin(world.record)
    try_save, begun = importer._ledger.try_save, []

    def meanwhile(*args: Any, **named: Any) -> int:
        begun.append(True)
        if len(begun) == 3:  # Two batches are there: there is no way back to "nothing was imported".
            world.put(b"key/0000040", b"first")
        return try_save(*args, **named)

    monkeypatch.setattr(importer._ledger, "try_save", meanwhile)
    done = importer.run()
    assert (done.phase, done.way) == (ImportPhase.DONE, "batches")
    assert (done.inserted, done.skipped) == (COUNT - 1, 1)
    assert rows_in(world.store, world.namespace.id)[0, b"key/0000040"] == b"first"


def test_a_stall_when_the_files_are_taken_in_is_waited_out_with_the_files_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefixdb.backup.placing.STALLED_S", 0.0)
    world = World(tmp_path, monkeypatch)
    open_ingest, begun, tried = world.store.open_ingest, [], []

    def stalling(span: Any) -> Any:
        begun.append(span)
        ingest = open_ingest(span)
        finish = ingest.finish

        def stalled(*args: Any, **named: Any) -> Any:
            tried.append(True)
            if len(tried) < 4:
                raise error(Reason.WRITE_STALL)
            return finish(*args, **named)

        monkeypatch.setattr(ingest, "finish", stalled)
        return ingest

    monkeypatch.setattr(world.store, "open_ingest", stalling)
    importer = world.importer()
    importer.begin(world.record)
    world.check(importer.run())
    assert (len(begun), len(tried)) == (1, 4)


def test_a_ban_in_a_stall_that_does_not_end_ends_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefixdb.backup.placing.STALLED_S", 0.0)
    world = World(tmp_path, monkeypatch)
    open_ingest, tried = world.store.open_ingest, []

    def stalling(span: Any) -> Any:
        ingest = open_ingest(span)

        def stalled(*args: Any, **named: Any) -> Any:
            tried.append(True)
            if len(tried) == 3:
                world.registry.ban(world.namespace.id, by="test")
            raise error(Reason.WRITE_STALL)

        monkeypatch.setattr(ingest, "finish", stalled)
        return ingest

    monkeypatch.setattr(world.store, "open_ingest", stalling)
    importer = world.importer()
    importer.begin(world.record)
    with pytest.raises(NamespaceBannedError):
        importer.run()
    assert len(tried) == 3
