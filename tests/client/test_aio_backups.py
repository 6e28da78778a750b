"""Goal: the client makes backups that hold what the server has, sends nothing twice, and goes on when it is cut off.

Method: a real server, repositories in temporary directories and in memory. The server is killed, and the token revoked,
from within the progress of a backup.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import fsspec
import pytest

from prefixdb import connect_async
from prefixdb.client.aio.backups import AsyncBackups
from prefixdb.client.backup_files import BackupProgress
from prefixdb.client.models import GuardianRole
from prefixdb.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    Reason,
    UnavailableError,
)
from prefixdb.limits import KIB
from prefixdb.repository.repository import Repository
from prefixdb.repository.upkeep import check_files
from prefixdb.testing import Namespace, ServerProcess
from tests.client.harness import async_test
from tests.support.repositories import tree
from tests.support.waiting import wait_for

FILES = 3  # One more, and the engine would make one file of them.
FILE_BYTES = 8192 * KIB  # What gRPC has taken in already comes through, also when the server dies.


def check(where: str | Path, backups: int) -> None:
    """Hold every file of a repository against its name."""
    repository = Repository.open(where)
    checked = check_files(repository, repository.manifests(), lambda done, total: None)
    assert (checked.backups, checked.findings) == (backups, ())


async def fill(server: ServerProcess, backups: AsyncBackups, aside: Path) -> None:
    """Give the server some data files: every backup writes out what is in memory."""
    for number in range(FILES):
        with server.namespace(f"full-{secrets.token_hex(4)}-{number}") as db:
            for piece in range(FILE_BYTES // (512 * KIB)):
                db.put(f"{piece}", secrets.token_bytes(512 * KIB))
        await backups.create(aside)


@async_test
async def test_a_backup_is_stored_once_and_the_next_sends_what_is_new(
    prefixdb_server: ServerProcess, tmp_path: Path
) -> None:
    async with connect_async(prefixdb_server.endpoint, token_file=prefixdb_server.guardian_token_file) as db:
        backups = db.guardian.backups
        before_ms = time.time_ns() // 1_000_000
        seen: list[BackupProgress] = []
        first = await backups.create(tmp_path / "repo", on_progress=seen.append)
        assert before_ms <= first.manifest.taken_at_ms <= time.time_ns() // 1_000_000
        assert first.files_new > 0 and first.bytes_new > 0
        assert seen[-1] == BackupProgress("storing", first.bytes_new, first.bytes_new)
        stored = tree(tmp_path / "repo")
        with prefixdb_server.namespace() as other:
            other.put("k", secrets.token_bytes(200 * KIB))
        second = await backups.create(tmp_path / "repo")
        assert 200 * KIB < second.bytes_new < second.manifest.size
        assert second.manifest.last_version > first.manifest.last_version
        assert {path: data for path, data in tree(tmp_path / "repo").items() if path in stored} == stored
    check(tmp_path / "repo", 2)
    assert Repository.open(tmp_path / "repo").manifests() == [first.manifest, second.manifest]


@async_test
async def test_every_kind_of_place_takes_a_backup(prefixdb_server: ServerProcess, tmp_path: Path) -> None:
    async with connect_async(prefixdb_server.endpoint, token_file=prefixdb_server.guardian_token_file) as db:
        for where in (f"file://{tmp_path}/one", f"local://{tmp_path}/two", "memory://backups/three"):
            await db.guardian.backups.create(where)
            check(where, 1)
    fsspec.filesystem("memory").rm("/backups", recursive=True)


@async_test
async def test_who_may_not_is_refused_and_leaves_no_backup(place: Namespace, tmp_path: Path) -> None:
    async with place.connect_async() as db:
        with pytest.raises(PermissionDeniedError):
            await db.guardian.backups.create(tmp_path / "repo")
        with pytest.raises(PermissionDeniedError):
            async for _ in db.guardian.backups.bans():
                raise AssertionError
        with pytest.raises(InvalidArgumentError):
            await db.guardian.backups.create(tmp_path / "repo", rate=1000)
    assert Repository.open(tmp_path / "repo").entries() == []


@async_test
async def test_two_do_not_write_into_one_repository(prefixdb_server: ServerProcess, tmp_path: Path) -> None:
    async with connect_async(prefixdb_server.endpoint, token_file=prefixdb_server.guardian_token_file) as db:
        repository = Repository.open_or_create(tmp_path / "repo")
        with repository.lock(exclusive=True), pytest.raises(FailedPreconditionError) as caught:
            await db.guardian.backups.create(tmp_path / "repo")
        assert caught.value.reason is Reason.BACKUP_RUNNING
        await db.guardian.backups.create(tmp_path / "repo")


@async_test
async def test_bans_are_listed_and_one_taken_back_is_not(prefixdb_server: ServerProcess) -> None:
    async with connect_async(prefixdb_server.endpoint, token_file=prefixdb_server.guardian_token_file) as db:
        spaces = db.guardian.namespaces
        gone, back = prefixdb_server.create_namespace(), prefixdb_server.create_namespace()
        await spaces.ban(gone.id, reason="over", grace=3600)
        await spaces.ban(back.id, grace=3600)
        await spaces.unban(back.id)
        found = {ban.namespace_id: ban async for ban in db.guardian.backups.bans()}
        assert back.id not in found
        ban = found[gone.id]
        assert (ban.name, ban.reason, ban.reclaimed) == (gone.name, "over", False)
        assert ban.reclaim_after_ms - ban.banned_at_ms == 3_600_000
        assert ban.incarnation == (await spaces.get(gone.id)).incarnation


@async_test
async def test_backups_of_different_servers_are_not_mixed(
    prefixdb_server: ServerProcess, own_server: ServerProcess, tmp_path: Path
) -> None:
    async with connect_async(prefixdb_server.endpoint, token_file=prefixdb_server.guardian_token_file) as db:
        await db.guardian.backups.create(tmp_path / "repo")
    async with connect_async(own_server.endpoint, token_file=own_server.guardian_token_file) as db:
        with pytest.raises(FailedPreconditionError) as caught:
            await db.guardian.backups.create(tmp_path / "repo")
        assert caught.value.reason is Reason.DIRECTORY_NOT_EMPTY
        await db.guardian.backups.create(tmp_path / "repo", restored=True)
        await db.guardian.backups.create(tmp_path / "repo")
    check(tmp_path / "repo", 3)


@async_test
async def test_a_rate_is_kept(own_server: ServerProcess, tmp_path: Path) -> None:
    async with connect_async(own_server.endpoint, token_file=own_server.guardian_token_file) as db:
        with own_server.namespace() as filled:
            filled.put("k", secrets.token_bytes(600 * KIB))
        begun_at = time.monotonic()
        made = await db.guardian.backups.create(tmp_path / "repo", rate=400 * KIB)
        assert time.monotonic() - begun_at >= made.bytes_new / (400 * KIB) - 0.1


@async_test
async def test_a_backup_goes_on_after_the_server_was_killed(own_server: ServerProcess, tmp_path: Path) -> None:
    async with connect_async(own_server.endpoint, token_file=own_server.guardian_token_file) as db:
        backups = db.guardian.backups
        await fill(own_server, backups, tmp_path / "aside")
        kills = []

        def kill(progress: BackupProgress) -> None:
            if progress.doing == "storing" and progress.bytes_done > 2 * FILE_BYTES and not kills:
                kills.append(progress)
                own_server.kill()
                own_server.start()

        made = await backups.create(tmp_path / "repo", on_progress=kill)
        assert kills
        assert made.files_new >= len(made.manifest.files) - 1
    check(tmp_path / "repo", 1)


@async_test
async def test_a_backup_waits_for_a_server_that_is_away_for_a_while(
    own_server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def wait_s(attempt: int, failure: Exception) -> float:
        tries.append(failure)
        if len(tries) == 3:
            own_server.start()
        return 0.01

    async with connect_async(own_server.endpoint, token_file=own_server.guardian_token_file) as db:
        backups = db.guardian.backups
        await fill(own_server, backups, tmp_path / "aside")

        def kill(progress: BackupProgress) -> None:
            if progress.doing == "storing" and progress.bytes_done > 2 * FILE_BYTES and not tries:
                own_server.kill()

        monkeypatch.setattr("prefixdb.client.aio.backups.backoff_s", wait_s)
        await backups.create(tmp_path / "repo", on_progress=kill)
        assert len(tries) >= 3
        tries.clear()
        own_server.stop()
        with pytest.raises(UnavailableError):
            await backups.create(tmp_path / "repo")
        assert tries == [], "a server that was not there from the start is not waited for"
        own_server.start()
    check(tmp_path / "repo", 1)


@async_test
async def test_a_backup_goes_on_with_another_token(own_server: ServerProcess, tmp_path: Path) -> None:
    admin = own_server.guardian.guardian
    first = admin.tokens.issue("backup", guardian=GuardianRole.CLUSTER, ttl=3600)
    file = tmp_path / "token"
    file.write_text(first.token)
    async with connect_async(own_server.endpoint, token_file=file) as db:
        backups = db.guardian.backups
        await fill(own_server, backups, tmp_path / "aside")
        revoked = []

        def revoke(progress: BackupProgress) -> None:
            if progress.doing == "storing" and progress.bytes_done > FILE_BYTES and not revoked:
                revoked.append(progress)
                file.write_text(admin.tokens.issue("backup", guardian=GuardianRole.CLUSTER, ttl=3600).token)
                admin.tokens.revoke(jti=first.info.jti)

        await backups.create(tmp_path / "repo", rate=8192 * KIB, on_progress=revoke)
        assert revoked
    check(tmp_path / "repo", 1)


@async_test
async def test_a_server_that_stays_away_ends_the_backup_and_the_next_uses_what_came(
    own_server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills, tries = [], []

    def wait_s(attempt: int, failure: Exception) -> float:
        tries.append(failure)
        return 0.01

    async with connect_async(own_server.endpoint, token_file=own_server.guardian_token_file) as db:
        await fill(own_server, db.guardian.backups, tmp_path / "aside")

        def stop(progress: BackupProgress) -> None:
            if progress.doing == "storing" and progress.bytes_done > 3 * FILE_BYTES // 2 and not kills:
                # A whole file was handed over; it is written in a thread of its own.
                wait_for(lambda: bool(Repository.open(tmp_path / "repo").objects()))
                kills.append(progress)
                own_server.kill()

        monkeypatch.setattr("prefixdb.client.aio.backups.AWAY_S_MAX", 0.3)
        monkeypatch.setattr("prefixdb.client.aio.backups.backoff_s", wait_s)
        with pytest.raises(UnavailableError):
            await db.guardian.backups.create(tmp_path / "repo", on_progress=stop)
    assert len(tries) > 1, "it is waited for, but not for ever"
    repository = Repository.open(tmp_path / "repo")
    assert repository.entries() == [] and repository.objects()
    assert list(repository.place.files("tmp")) == []
    own_server.start()
    async with connect_async(own_server.endpoint, token_file=own_server.guardian_token_file) as db:
        made = await db.guardian.backups.create(tmp_path / "repo")
        assert made.bytes_new < made.manifest.size
    check(tmp_path / "repo", 1)
