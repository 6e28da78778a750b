"""Recovery of a damaged directory: what can be read is there, what was dropped stays gone, and the report is right.

Method: the directory a kill leaves is damaged for real (files cut, flipped, removed, rolled back), recovered, and read
with a store. The oracle is what was written: no row that was deleted or dropped may be found, every row that is missing
or old must be announced, and the damaged directory must be the same afterwards, byte for byte and file by file.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rocksdict

from prefixdb.backup import recover as recovering
from prefixdb.backup.recover import VERSIONS_SKIPPED, recover
from prefixdb.backup.recover_report import LossReport
from prefixdb.catalog.entities import NamespaceState
from prefixdb.catalog.namespaces import Registry
from prefixdb.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    Reason,
)
from prefixdb.keycodec import FAMILY_DATA, data_key, family_span, namespace_span, split_data_key
from prefixdb.repository.bans import BannedIssue
from prefixdb.store.base import Commit, Delete, Put, Store
from prefixdb.v1 import key_value_pb2
from tests.support.clocks import HeldClock
from tests.support.crash_image import OpenStore, content, cut, flip, newest
from tests.support.damaged import (
    AGAIN,
    BANNED,
    DAY_MS,
    FLUSHED,
    GRACE,
    LIVE,
    LOGGED,
    OTHER,
    RECLAIMED,
    Past,
    Rows,
    key_of,
    make_past,
)
from tests.support.server import running


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Past:
    return make_past(tmp_path_factory.mktemp("past"), kind)


@pytest.fixture
def past(pristine: Past, tmp_path: Path) -> Past:
    image = Path(shutil.copytree(pristine.image, tmp_path / "image"))
    return Past(image, pristine.rows, pristine.deleted, pristine.incarnations, pristine.obsolete, pristine.now_ms)


@dataclass
class Outcome:
    report: LossReport
    rows: Rows
    states: dict[int, NamespaceState]
    last_sequence: int


def everything(directory: Path) -> dict[str, tuple[int, ...]]:
    """Return what a look at every entry tells, but for the time of the last reading."""
    found = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        facts = path.lstat()
        who = (facts.st_ino, facts.st_mode, facts.st_nlink, facts.st_size)
        found[str(path.relative_to(directory))] = (*who, facts.st_mtime_ns, facts.st_ctime_ns)
    return found


def rows_of(store: Store) -> Rows:
    rows: Rows = {}
    for namespace_id in (LIVE, OTHER, BANNED, GRACE, RECLAIMED, AGAIN):
        cursor = store.open_cursor(family_span(namespace_id, FAMILY_DATA), raw=True)
        while page := cursor.fetch(1_000, 1 << 20):
            for row in page:
                found, database, user_key = split_data_key(row.key)
                assert (found, database) == (namespace_id, 0)
                rows[namespace_id, bytes(user_key)] = row.payload
        cursor.close()
    return rows


def run(past: Past, open_store: OpenStore, **options: Any) -> Outcome:
    """Recover, and hold what every recovery must hold."""
    target = past.image.parent / "new"
    before, looks = content(past.image), everything(past.image)
    report = recover(past.image, target, accept_loss=True, clock=HeldClock(), **options)
    assert content(past.image) == before
    assert everything(past.image) == looks
    assert report.written
    assert sorted(path.name for path in past.image.parent.iterdir()) == ["image", "new"]
    store = open_store(target)
    registry = Registry(store, HeldClock())
    rows = rows_of(store)
    states = {record.id: record.state for record in registry.page(0, 100, include_dropped=True)}
    outcome = Outcome(report, rows, states, store.status().last_version)
    assert_nothing_came_back(store, outcome)
    assert_report_counts(outcome)
    store.close()
    return outcome


def assert_nothing_came_back(store: Store, outcome: Outcome) -> None:
    """What was reclaimed or banned for good is gone: no row, and no live record."""
    for namespace_id in (RECLAIMED, BANNED):
        state = outcome.states.get(namespace_id)
        assert state is None or not state.is_live
        cursor = store.open_cursor(namespace_span(namespace_id), keys_only=True, raw=True)
        assert cursor.fetch(1, 1 << 20) == []
        cursor.close()
    assert not any((AGAIN, key_of(number)) in outcome.rows for number in range(50))


def assert_report_counts(outcome: Outcome) -> None:
    """The report counts what is there: rows by namespace, and versions that go on behind everything."""
    for entry in outcome.report.namespaces:
        if entry.namespace_id and entry.fate == "kept":
            found = sum(1 for namespace_id, _ in outcome.rows if namespace_id == entry.namespace_id)
            assert entry.rows - entry.records == found
    losses = outcome.report.losses
    assert outcome.report.sequence >= max(losses.sequence, losses.acknowledged) + VERSIONS_SKIPPED
    assert outcome.last_sequence >= outcome.report.sequence


def test_a_directory_without_damage_is_recovered_whole_and_needs_no_consent(past: Past, open_store: OpenStore) -> None:
    target = past.image.parent / "first"
    report = recover(past.image, target, accept_loss=False, clock=HeldClock())
    assert report.lossless and report.written
    shutil.rmtree(target)
    outcome = run(past, open_store)
    assert outcome.rows == past.rows
    assert outcome.report.lossless
    assert outcome.report.commits_lost == 0
    assert outcome.report.losses.obsolete == list(past.obsolete)
    assert outcome.states == {
        LIVE: NamespaceState.ACTIVE,
        OTHER: NamespaceState.ACTIVE,
        BANNED: NamespaceState.BANNED,
        GRACE: NamespaceState.BANNED,
        RECLAIMED: NamespaceState.RECLAIMED,
        AGAIN: NamespaceState.ACTIVE,
    }


def without_side_file(image: Path) -> None:
    (image / "store-state.json").unlink()


def log_of(image: Path) -> Path:
    return newest(image, ".log")


def manifest_of(image: Path) -> Path:
    return newest(image, "MANIFEST")


NO_LOSS: dict[str, Callable[[Path], Any]] = {
    "CURRENT removed": lambda image: (image / "db" / "CURRENT").unlink(),
    "CURRENT emptied": lambda image: cut(image / "db" / "CURRENT", 0),
    "CURRENT leads outside": lambda image: (image / "db" / "CURRENT").write_text("../../../etc/passwd\n"),
    "MANIFEST removed": lambda image: manifest_of(image).unlink(),
    "MANIFEST emptied": lambda image: cut(manifest_of(image), 0),
    "MANIFEST cut in half": lambda image: cut(manifest_of(image), manifest_of(image).stat().st_size // 2),
    "MANIFEST without its last byte": lambda image: cut(manifest_of(image), -1),
    "MANIFEST flipped": lambda image: flip(manifest_of(image), manifest_of(image).stat().st_size // 2),
    "MANIFEST and CURRENT removed": lambda image: (manifest_of(image).unlink(), (image / "db" / "CURRENT").unlink()),
    "side file removed": without_side_file,
    "side file torn": lambda image: (image / "store-state.json").write_text("{"),
    "a torn record behind the log": lambda image: log_of(image).write_bytes(
        log_of(image).read_bytes() + b"\x01\x02\x03\x04\x40\x00\x01torn"
    ),
}


@pytest.mark.parametrize("name", NO_LOSS)
def test_damage_that_takes_no_row_loses_none(past: Past, open_store: OpenStore, name: str) -> None:
    """Obsolete files hold rows that were deleted since; not one of them comes back."""
    NO_LOSS[name](past.image)
    outcome = run(past, open_store)
    assert outcome.rows == past.rows
    assert outcome.report.losses.tables == []
    assert set(past.obsolete) <= set(outcome.report.losses.obsolete)
    assert outcome.report.lossless == ("side file" not in name)


LOG_DAMAGE: dict[str, Callable[[Path], Any]] = {
    "flipped in the middle": lambda log: flip(log, log.stat().st_size // 2),
    "flipped in the first record": lambda log: flip(log, 20),
    "flipped in the last record": lambda log: flip(log, -10),
    "cut in half": lambda log: cut(log, log.stat().st_size // 2),
    "last bytes cut off": lambda log: cut(log, -3),
    "emptied": lambda log: cut(log, 0),
    "removed": lambda log: log.unlink(),
}


@pytest.mark.parametrize("name", LOG_DAMAGE)
@pytest.mark.parametrize("side_file", [True, False])
def test_a_damaged_log_leaves_a_prefix_of_the_commits(
    past: Past, open_store: OpenStore, name: str, side_file: bool
) -> None:
    log = log_of(past.image)
    LOG_DAMAGE[name](log)
    if not side_file:
        without_side_file(past.image)
    outcome = run(past, open_store)
    logged = sorted(key for namespace_id, key in outcome.rows if namespace_id == LIVE and key >= key_of(FLUSHED))
    assert logged == [key_of(number) for number in range(FLUSHED, FLUSHED + len(logged))]
    assert len(logged) % 10 == 0, "a commit was torn"
    assert len(logged) < LOGGED
    missing = {(LIVE, key_of(number)) for number in range(FLUSHED + len(logged), FLUSHED + LOGGED)}
    assert outcome.rows == {key: value for key, value in past.rows.items() if key not in missing}
    assert not outcome.report.lossless
    if side_file:
        assert outcome.report.commits_lost == len(missing)
        assert [lost.name for lost in outcome.report.losses.logs] == [log.name]
    said = " ".join(outcome.report.sentences())
    assert (f"the last {len(missing)} changes" in said) if side_file else ("side file" in said or "store-state" in said)


def tables_with(past: Past, namespace_id: int) -> list[Path]:
    """Return the table files in use whose range meets a namespace's; the engine is asked, through a copy."""
    copy = Path(shutil.copytree(past.image, past.image.parent / "look"))
    database = rocksdict.Rdict(str(copy / "db"), rocksdict.Options(raw_mode=True))
    span = namespace_span(namespace_id)
    files = [file for file in database.live_files() if file["start_key"] < span.end and file["end_key"] >= span.begin]
    database.close()
    shutil.rmtree(copy)
    names = [file["name"].lstrip("/") for file in files]
    return [past.image / "db" / name for name in names if (past.image / "db" / name).exists()]


TABLE_DAMAGE: dict[str, Callable[[Path], Any]] = {
    "removed": lambda path: path.unlink(),
    "cut": lambda path: cut(path, -1),
    "grown": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "replaced": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    "footer flipped": lambda path: flip(path, -5),
}


@pytest.mark.parametrize("name", TABLE_DAMAGE)
def test_a_lost_table_loses_its_rows_and_no_others(past: Past, open_store: OpenStore, name: str) -> None:
    table = tables_with(past, OTHER)[0]
    TABLE_DAMAGE[name](table)
    outcome = run(past, open_store)
    assert {key: value for key, value in past.rows.items() if key[0] != OTHER} == outcome.rows
    (lost,) = outcome.report.losses.tables
    assert (lost.name, lost.partly) == (table.name, False)
    assert table.name in " ".join(outcome.report.sentences())
    assert str(OTHER) in " ".join(outcome.report.sentences())
    assert not outcome.report.lossless
    assert outcome.states[OTHER] is NamespaceState.ACTIVE


@pytest.mark.parametrize("place", ["first block", "middle", "several"])
def test_around_a_damaged_block_everything_is_read(past: Past, open_store: OpenStore, place: str) -> None:
    table = tables_with(past, OTHER)[0]
    size = table.stat().st_size
    for offset in {"first block": [100], "middle": [size // 2], "several": [100, size // 2, size * 4 // 5]}[place]:
        flip(table, offset)
    outcome = run(past, open_store)
    lost = past.rows.keys() - outcome.rows.keys()
    assert {namespace_id for namespace_id, _ in lost} == {OTHER}
    blocks = 3 if place == "several" else 1
    assert 0 < len(lost) <= blocks * 60
    assert all(past.rows[key] == value for key, value in outcome.rows.items())
    (told,) = outcome.report.losses.tables
    assert (told.name, told.partly) == (table.name, True)
    assert len(outcome.report.losses.stretches) <= blocks
    stretches = outcome.report.losses.stretches
    for _, user_key in lost:
        assert any(each.covers(bytes(namespace_span(OTHER).begin) + b"\x01\0\0" + user_key) for each in stretches)


@pytest.mark.parametrize("lost", ["removed", "damaged"])
def test_rows_that_may_be_older_than_what_was_lost_are_counted(past: Past, open_store: OpenStore, lost: str) -> None:
    """A later table overwrote some rows of LIVE and deleted others; it is gone, so the earlier values are doubtful."""
    store = open_store(past.image)
    changes = [Commit((Put(data_key(LIVE, 0, key_of(number)), b"newer"),)) for number in range(40)]
    changes += [Commit((Delete(data_key(LIVE, 0, key_of(number))),)) for number in range(40, 60)]
    store.flush()
    store.commit_many(changes)
    before = {path.name for path in (past.image / "db").glob("*.sst")}
    store.flush()
    # The first of them: the engine may already be merging it with others into a second one.
    table = min(path for path in (past.image / "db").glob("*.sst") if path.name not in before)
    store.close()
    if not table.exists():
        pytest.skip("the engine has merged the file on its way out")
    table.unlink() if lost == "removed" else flip(table, 100)
    outcome = run(past, open_store)
    assert outcome.rows == past.rows, "the earlier values are all there is"
    (live,) = (entry for entry in outcome.report.namespaces if entry.namespace_id == LIVE)
    assert live.doubtful == 60
    assert "60 of them may be out of date" in " ".join(outcome.report.sentences())


def test_without_side_file_and_manifest_nobody_dropped_comes_back_and_the_doubt_is_told(
    past: Past, open_store: OpenStore
) -> None:
    manifest_of(past.image).unlink()
    without_side_file(past.image)
    outcome = run(past, open_store)
    extra = outcome.rows.keys() - past.rows.keys()
    assert extra <= {(LIVE, key_of(number)) for number in range(10_000, 10_050)}
    assert past.rows.items() <= outcome.rows.items()
    assert outcome.report.losses.tables_uncertain
    assert "deleted may be back" in " ".join(outcome.report.sentences())
    (again,) = (entry for entry in outcome.report.namespaces if entry.namespace_id == AGAIN)
    assert again.earlier_issue > 0
    assert outcome.states[RECLAIMED] is NamespaceState.RECLAIMED, "an older record hides a newer one"


@pytest.mark.parametrize("compacted", [False, True])
def test_an_engine_directory_that_was_rolled_back_is_told_by_its_numbers(
    pristine: Past, tmp_path: Path, open_store: OpenStore, compacted: bool
) -> None:
    """The side file knows what an older copy of the engine's directory lacks."""
    image = Path(shutil.copytree(pristine.image, tmp_path / "image"))
    past = Past(image, pristine.rows, pristine.deleted, pristine.incarnations, pristine.obsolete, pristine.now_ms)
    old = Path(shutil.copytree(image / "db", tmp_path / "old"))
    store = open_store(image)
    version = store.commit_many([Commit((Put(data_key(LIVE, 0, b"new"), b""),)) for _ in range(25)])[-1].version
    if compacted:
        store.flush()
        store.compact()
    store.close()
    shutil.rmtree(image / "db")
    old.rename(image / "db")
    outcome = run(past, open_store)
    assert outcome.rows == past.rows
    assert outcome.report.commits_lost >= 25
    assert outcome.report.losses.acknowledged >= version
    assert outcome.last_sequence > version


def test_a_log_that_goes_on_where_the_tables_end_is_used_whatever_its_name(past: Past, open_store: OpenStore) -> None:
    log = log_of(past.image)
    log.rename(log.with_name(f"{int(log.stem) + 50:06d}.log"))
    assert run(past, open_store).rows == past.rows


def test_logs_behind_a_missing_one_are_left_out(past: Past, open_store: OpenStore) -> None:
    """A later log begins five commits after the end of the table files; what came between is gone."""
    log = log_of(past.image)
    records, begin = log.read_bytes(), 0
    for _ in range(5):
        begin += 7 + int.from_bytes(records[begin + 4 : begin + 6], "little")
    later = log.with_name(f"{int(log.stem) + 50:06d}.log")
    later.write_bytes(records[begin:])
    log.unlink()
    outcome = run(past, open_store)
    logged = {(LIVE, key_of(number)) for number in range(FLUSHED, FLUSHED + LOGGED)}
    assert outcome.rows == {key: value for key, value in past.rows.items() if key not in logged}
    assert [lost.name for lost in outcome.report.losses.logs] == [log.name, later.name]


def test_rows_whose_record_is_lost_with_the_catalog_are_kept_suspended(past: Past, open_store: OpenStore) -> None:
    for table in tables_with(past, 0):
        table.unlink()
    listed = [BannedIssue(number, past.incarnations[number], "x", 1, "root@0", "", 1) for number in (BANNED, RECLAIMED)]
    outcome = run(past, open_store, bans=listed)
    assert not outcome.report.lossless
    assert outcome.states == {LIVE: NamespaceState.SUSPENDED, OTHER: NamespaceState.SUSPENDED}
    kept = {key: value for key, value in past.rows.items() if key[0] == OTHER or key >= (LIVE, key_of(FLUSHED))}
    assert outcome.rows == {key: value for key, value in kept.items() if key[0] in (LIVE, OTHER)}
    assert "suspended: resume it or ban it" in " ".join(outcome.report.sentences())


def test_a_list_of_bans_from_elsewhere_is_obeyed(past: Past, open_store: OpenStore) -> None:
    bans = [
        BannedIssue(OTHER, past.incarnations[OTHER], "other", 1, "root@0", "", 1),
        BannedIssue(AGAIN, past.incarnations[AGAIN] - 1, "again", 1, "root@0", "", 1, reclaimed=True),
    ]
    outcome = run(past, open_store, bans=bans)
    assert outcome.states[OTHER] is NamespaceState.BANNED
    assert not any(namespace_id == OTHER for namespace_id, _ in outcome.rows)
    assert outcome.states[AGAIN] is NamespaceState.ACTIVE, "the ban was of an earlier issue"


def test_the_grace_of_a_ban_goes_on_and_its_rows_with_it(past: Past, open_store: OpenStore) -> None:
    assert any(namespace_id == GRACE for namespace_id, _ in run(past, open_store).rows)
    shutil.rmtree(past.image.parent / "new")
    late = HeldClock(now_ms=past.now_ms + 8 * DAY_MS)
    recover(past.image, past.image.parent / "new", accept_loss=True, clock=late)
    store = open_store(past.image.parent / "new")
    assert not any(namespace_id == GRACE for namespace_id, _ in rows_of(store))
    store.close()


# --- the way in and out --------------------------------------------------------------------------------------------


def test_without_consent_nothing_is_written_and_the_loss_is_told(past: Past) -> None:
    log_of(past.image).unlink()
    report = recover(past.image, past.image.parent / "new", accept_loss=False, clock=HeldClock())
    assert not report.written
    assert report.commits_lost == LOGGED
    assert [path.name for path in past.image.parent.iterdir()] == ["image"]


def test_a_server_starts_on_the_new_directory_and_serves(past: Past, open_store: OpenStore) -> None:
    manifest_of(past.image).unlink()
    flip(log_of(past.image), log_of(past.image).stat().st_size // 2)
    run(past, open_store)

    async def serve() -> None:
        async with running(past.image.parent / "new", clock=HeldClock()) as server:
            caller = server.caller(LIVE)
            answer = await caller.get(key_value_pb2.GetRequest(key=key_of(3)))
            assert answer.value == past.rows[LIVE, key_of(3)]
            written = await caller.call(caller.key_value.Put, key_value_pb2.PutRequest(key=b"new", value=b"value"))
            assert written.version > VERSIONS_SKIPPED
            with pytest.raises(FailedPreconditionError, match="dropped"):
                server.caller(BANNED)
            record = await asyncio.to_thread(server.app.registry.unban, GRACE)
            assert record.state is NamespaceState.ACTIVE
            found = await server.caller(GRACE).get(key_value_pb2.GetRequest(key=key_of(120)))
            assert found.value == past.rows[GRACE, key_of(120)]

    asyncio.run(serve())


def test_keys_and_audit_are_taken_over_with_their_modes_and_links_are_not(past: Past, open_store: OpenStore) -> None:
    (past.image / "audit.jsonl").write_text("a line\n")
    (past.image / "link").symlink_to("/etc/passwd")
    (past.image / "keys" / "link.pem").symlink_to("/etc/passwd")
    os.mkfifo(past.image / "pipe")
    (past.image / "imports").mkdir()
    (past.image / "imports" / "spool").write_bytes(b"tenants' rows")
    outcome = run(past, open_store)
    new = past.image.parent / "new"
    keys = list((new / "keys").iterdir())
    assert len(keys) == 1
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600
    assert stat.S_IMODE((new / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE(new.stat().st_mode) == 0o700
    assert stat.S_IMODE((new / "db").stat().st_mode) == 0o700
    assert (new / "audit.jsonl").read_text() == "a line\n"
    assert not (new / "imports").exists() and not (new / "link").exists()
    assert len(outcome.report.left_out) == 4


def test_a_directory_in_use_is_refused(past: Past, open_store: OpenStore) -> None:
    store = open_store(past.image)
    with pytest.raises(FailedPreconditionError) as refused:
        recover(past.image, past.image.parent / "new", accept_loss=True, clock=HeldClock())
    assert refused.value.reason is Reason.DIRECTORY_LOCKED
    store.close()


@pytest.mark.parametrize("target", ["image/new", "image", ".", "no/where", "full", "link"])
def test_a_target_that_cannot_be_one_is_refused(past: Past, target: str) -> None:
    home = past.image.parent
    (home / "full").mkdir()
    (home / "full" / "file").touch()
    (home / "link").symlink_to(home / "image")
    before = everything(home)
    with pytest.raises((InvalidArgumentError, FailedPreconditionError)) as refused:
        recover(past.image, home / target, accept_loss=True, clock=HeldClock())
    assert refused.value.reason in (Reason.BAD_FIELD, Reason.DIRECTORY_NOT_EMPTY)
    assert everything(home) == before


def test_what_is_no_data_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError):
        recover(tmp_path, tmp_path / "new", accept_loss=True, clock=HeldClock())


def test_a_recovery_that_fails_leaves_nothing(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_arguments: object) -> None:
        raise DataLossError(Reason.CORRUPTION, "no")

    monkeypatch.setattr(recovering, "Registry", failing)
    with pytest.raises(DataLossError):
        recover(past.image, past.image.parent / "new", accept_loss=True, clock=HeldClock())
    assert [path.name for path in past.image.parent.iterdir()] == ["image"]
