"""Goal: a repository holds backups that come back byte for byte, wherever it lies and whatever was interrupted.

Method: small backups made by hand in directories and behind URLs; writers that are abandoned; locks of others, dead
ones too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.repository import remote
from prefixdb.repository.bans import BannedIssue, encode_bans
from prefixdb.repository.manifest import BackupFile
from prefixdb.repository.places import place_of
from prefixdb.repository.repository import MARK, Repository, StoredBackup
from prefixdb.repository.upkeep import check_files, check_names, plan_prune, prune
from tests.support.repositories import CONTENT, NOON_MS, digest, files_of, manifest_of, put_backup, put_objects, tree

PLACES = ("path", "file", "local", "memory")
OTHER = CONTENT | {"db/000011.sst": b"more rows", "store-state.json": b'{"format": 1, "other": 2}'}


@pytest.fixture(params=PLACES)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a repository is to be, in every kind of place."""
    if request.param == "path":
        yield str(tmp_path / "repo")
    elif request.param == "memory":
        yield "memory://test/repo"
        fsspec.filesystem("memory").rm("/test", recursive=True)
    else:
        yield f"{request.param}://{tmp_path}/repo"


def refused(work: Callable[[], object]) -> PrefixdbError:
    """Return the error with which something is refused."""
    with pytest.raises(PrefixdbError) as caught:
        work()
    return caught.value


def test_what_was_stored_comes_back(where: str) -> None:
    made = Repository.open_or_create(where)
    manifest = put_backup(made)
    again = Repository.open(where)
    assert again.find() == manifest
    stored = StoredBackup(again, manifest)
    for path, data in CONTENT.items():
        with stored.open(path) as file:
            assert b"".join(iter(lambda file=file: file.read(7), b"")) == data
        with stored.open(path) as file:
            assert file.read() == data
    assert again.strangers() == []
    assert check_names(again) == []


def test_a_second_backup_stores_only_what_is_new(where: str) -> None:
    repository = Repository.open_or_create(where)
    put_backup(repository)
    before = repository.objects()
    put_backup(repository, OTHER, NOON_MS + 1)
    added = repository.objects().keys() - before.keys()
    assert added == {digest(OTHER["db/000011.sst"]), digest(OTHER["store-state.json"])}


def test_the_newest_is_the_last_and_ids_may_be_cut(where: str) -> None:
    repository = Repository.open_or_create(where)
    late = put_backup(repository, OTHER, NOON_MS + 90_000)
    early = put_backup(repository, CONTENT, NOON_MS)
    twin = put_backup(repository, CONTENT, NOON_MS + 1)
    assert [entry.id for entry in repository.entries()] == [early.id, twin.id, late.id]
    assert repository.find() == late
    assert repository.find(early.id) == early
    assert repository.find(late.id[:16]) == late
    assert refused(lambda: repository.find(early.id[:16])).reason is Reason.BAD_FIELD
    assert refused(lambda: repository.find("2030")).reason is Reason.BAD_FIELD


def test_nothing_and_something_else_are_no_repository(where: str, tmp_path: Path) -> None:
    assert refused(lambda: Repository.open(where)).reason is Reason.BAD_FIELD
    place = place_of(where)
    place.prepare()
    assert refused(lambda: Repository.open(where)).reason is Reason.BAD_FIELD
    place.put("notes.txt", b"mine")
    assert refused(lambda: Repository.open_or_create(where)).reason is Reason.DIRECTORY_NOT_EMPTY
    assert place.read("notes.txt", 10) == b"mine"


def test_a_repository_of_a_newer_format_or_with_another_mark_is_refused(where: str) -> None:
    place = Repository.open_or_create(where).place
    assert place.read("prefixdb-repository.json", 100) == MARK == b'{"format": 1, "kind": "prefixdb backups"}\n'
    place.put("prefixdb-repository.json", b'{"format": 2, "what": "ever"}')
    assert refused(lambda: Repository.open(where)).reason is Reason.FORMAT_TOO_NEW
    for bad in (b"", MARK[:-1], MARK + b" ", b"[" * 3000, MARK.replace(b"1", b"true"), b"x" * 5000):
        place.put("prefixdb-repository.json", bad)
        failure = refused(lambda: Repository.open(where))
        assert failure.reason is Reason.ARCHIVE_INVALID
        assert failure.metadata["place"].endswith("prefixdb-repository.json")


def test_a_manifest_is_refused_while_a_file_of_it_is_missing(where: str) -> None:
    repository = Repository.open_or_create(where)
    put_objects(repository, {path: data for path, data in CONTENT.items() if path != "db/CURRENT"})
    failure = refused(lambda: repository.add(manifest_of(CONTENT)))
    assert failure.reason is Reason.ARCHIVE_INVALID
    assert digest(CONTENT["db/CURRENT"]) in failure.metadata["place"]
    assert repository.entries() == []


def test_an_object_with_other_bytes_than_said_never_gets_its_name(where: str) -> None:
    repository = Repository.open_or_create(where)
    data = b"rows" * 100
    file = BackupFile("db/000001.sst", len(data), digest(data))
    for pieces in ([data[:-1]], [data, b"x"], [data[:-1] + b"x"], []):

        def store(pieces: list[bytes] = pieces) -> None:
            writer = repository.write(file)
            try:
                for piece in pieces:
                    writer.write(piece)
                writer.commit()
            finally:
                writer.abort()

        assert refused(store).reason is Reason.CORRUPTION
        assert repository.objects() == {}
        assert list(repository.place.files("tmp")) == []


def test_what_an_interrupted_backup_left_is_taken_up_by_the_next(where: str) -> None:
    repository = Repository.open_or_create(where)
    put_objects(repository, {"db/000009.sst": CONTENT["db/000009.sst"]})
    half = repository.write(files_of(CONTENT)[2])
    half.write(b"MANI")  # And nothing more: its process was killed here.
    with repository.lock(exclusive=True):
        repository.place.clean()
    present = repository.objects()
    assert present[digest(CONTENT["db/000009.sst"])] == 4000
    manifest = put_backup(Repository.open_or_create(where))
    checked = check_files(repository, [manifest], lambda done, total: None)
    assert checked.findings == () and checked.objects == len(CONTENT)


def test_who_changes_it_is_alone_and_readers_of_a_directory_share(where: str) -> None:
    repository = Repository.open_or_create(where)
    other = Repository.open(where)
    with repository.lock(exclusive=True):
        assert refused(lambda: other.lock(exclusive=True)).reason is Reason.BACKUP_RUNNING
    with other.lock(exclusive=True):
        pass
    if not where.startswith("memory"):
        with repository.lock(exclusive=False), other.lock(exclusive=False):
            assert refused(lambda: other.lock(exclusive=True)).reason is Reason.BACKUP_RUNNING
        with repository.lock(exclusive=True):
            assert refused(lambda: other.lock(exclusive=False)).reason is Reason.BACKUP_RUNNING


def test_a_lock_that_its_holder_cannot_hold_any_more_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository.open_or_create("memory://locks/repo")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    now_ms = time.time_ns() // 1_000_000
    holders = {
        "of a process that has ended": {"host": remote._host(), "pid": ended.pid, "renewed_at_ms": now_ms},
        "not renewed": {"host": "elsewhere//", "pid": 1, "renewed_at_ms": now_ms - 1_801_000},
    }
    for content in holders.values():
        repository.place.put("locks/other.json", json.dumps(content).encode())
        with repository.lock(exclusive=True):
            assert "locks/other.json" not in [path for path, _ in repository.place.files("locks")]
    alive = {"host": "elsewhere//", "pid": ended.pid, "renewed_at_ms": now_ms - 1_700_000}
    for held in (json.dumps(alive).encode(), b"{}", b"garbage"):
        repository.place.put("locks/other.json", held)
        assert refused(lambda: repository.lock(exclusive=True)).reason is Reason.BACKUP_RUNNING
        assert [path for path, _ in repository.place.files("locks")] == ["locks/other.json"]
    fsspec.filesystem("memory").rm("/locks", recursive=True)


def test_who_lost_a_lock_behind_a_url_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository.open_or_create("memory://lost/repo")
    monkeypatch.setattr(remote, "RENEW_S", 0)
    with repository.lock(exclusive=True) as lease:
        lease.keep()
        [(path, _)] = repository.place.files("locks")
        lease.keep()
        repository.place.remove(path)
        assert refused(lease.keep).reason is Reason.BACKUP_RUNNING
    fsspec.filesystem("memory").rm("/lost", recursive=True)


def test_bans_of_newer_backups_are_known(where: str) -> None:
    def ban(number: int, *, reclaimed: bool = False) -> BannedIssue:
        return BannedIssue(number, 5, f"n{number}", NOON_MS, "g", "", NOON_MS, reclaimed)

    repository = Repository.open_or_create(where)
    lists = [[ban(1)], [ban(2), ban(3)], [ban(3, reclaimed=True), ban(4)]]
    made = [
        put_backup(repository, CONTENT | {"bans.jsonl": encode_bans(bans)}, NOON_MS + number * 1000)
        for number, bans in enumerate(lists)
    ]
    assert [ban.namespace_id for ban in repository.newer_bans(made[0])] == [2, 3, 4]
    assert [ban.reclaimed for ban in repository.newer_bans(made[0])] == [False, True, False]
    assert [ban.namespace_id for ban in repository.newer_bans(made[1])] == [3, 4]
    assert repository.newer_bans(made[2]) == []
    repository.place.remove(f"objects/{digest(encode_bans(lists[2]))[:2]}/{digest(encode_bans(lists[2]))}")
    assert refused(lambda: repository.newer_bans(made[0])).reason is Reason.ARCHIVE_INVALID


def test_a_prune_leaves_the_newest_whole_and_nothing_else(where: str) -> None:
    repository = Repository.open_or_create(where)
    old = put_backup(repository, CONTENT, NOON_MS)
    newer = [put_backup(repository, OTHER | {"db/000012.sst": bytes([n])}, NOON_MS + n * 1000) for n in (1, 2)]
    put_objects(repository, {"db/000099.sst": b"of an interrupted backup"})
    with repository.lock(exclusive=True) as lease:
        plan = plan_prune(repository, 2)
        assert plan.remove == (old.id,) and plan.keep == tuple(manifest.id for manifest in newer)
        assert plan.unfinished == 1
        assert plan.bytes == len(b"of an interrupted backup") + len(CONTENT["store-state.json"])
        prune(repository, plan, lease, lambda done, total: None)
    assert repository.manifests() == newer
    checked = check_files(repository, newer, lambda done, total: None)
    assert checked.findings == ()
    assert repository.objects().keys() == {file.sha256 for manifest in newer for file in manifest.files}


def test_a_prune_that_stopped_anywhere_leaves_whole_backups(tmp_path: Path) -> None:
    """Every order of removal is tried by stopping after each one."""

    class StoppedError(Exception):
        pass

    for stop_after in range(10):
        root = tmp_path / str(stop_after)
        repository = Repository.open_or_create(root)
        for number in range(3):
            put_backup(repository, CONTENT | {"db/000012.sst": bytes([number])}, NOON_MS + number * 1000)

        def count(done: int, total: int, stop_after: int = stop_after) -> None:
            if done == stop_after:
                raise StoppedError

        with repository.lock(exclusive=True) as lease:
            plan = plan_prune(repository, 1)
            try:
                prune(repository, plan, lease, count)
            except StoppedError:
                pass
        left = repository.manifests()
        assert 1 <= len(left) <= 3
        assert check_files(repository, left, lambda done, total: None).findings == ()
        with repository.lock(exclusive=True) as lease:
            prune(repository, plan_prune(repository, 1), lease, lambda done, total: None)
        assert repository.manifests() == left[-1:]
        assert len(tree(root)) == 2 + len(CONTENT) + 1


def test_a_prune_with_a_backup_that_cannot_be_read(where: str) -> None:
    repository = Repository.open_or_create(where)
    made = [put_backup(repository, OTHER, NOON_MS + number * 1000) for number in range(3)]
    repository.place.put(f"backups/{made[1].id}.json", b"garbage")
    failure = refused(lambda: plan_prune(repository, 2))
    assert failure.reason is Reason.ARCHIVE_INVALID
    assert made[1].id in failure.metadata["place"]
    assert plan_prune(repository, 1).remove == (made[0].id, made[1].id)
    repository.place.put("backups/00-notes.txt", b"mine")
    assert refused(lambda: plan_prune(repository, 1)).reason is Reason.ARCHIVE_INVALID
    assert refused(lambda: plan_prune(repository, 0)).reason is Reason.BAD_FIELD


def test_names_that_are_no_place_are_refused() -> None:
    for bad in ("", "a\0b", "file://host/path", "file:relative", "nosuch://x/y", "simplecache::memory://x", "file://"):
        if bad == "file:relative":
            assert str(place_of(bad).name) == bad  # A name with a colon is a name.
            continue
        assert refused(lambda bad=bad: place_of(bad)).reason is Reason.BAD_FIELD
    assert "secret" not in remote._without_secrets("sftp://user:secret@host/x")
