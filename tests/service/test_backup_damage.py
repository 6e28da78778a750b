"""Goal: damage on the server's disk never gets into a backup with a sum that says it is right.

Method: bits of a real server's table files are flipped before a backup lists them, between list and sending, and
without a trace in the file's time; the repository is then as it was before, and whole.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefixdb import connect_async
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.repository.repository import Repository
from prefixdb.repository.upkeep import check_files
from prefixdb.service import backups
from prefixdb.store.checks import check_manifest, check_table
from prefixdb.v1 import key_value_pb2 as kv
from tests.support.server import RunningServer, running


async def fill(server: RunningServer) -> None:
    """Write rows that do not compress, and have them in a table file."""
    caller = server.caller(server.create(f"acme-{random.randrange(10**9)}"))
    for number in range(200):
        value = random.randbytes(2_000)
        await caller.call(caller.key_value.Put, kv.PutRequest(key=b"fill/%d" % number, value=value))
    await asyncio.to_thread(server.app.store.flush)


def table_of(server: RunningServer) -> Path:
    """Return the largest table file."""
    folder = server.app.config.data_dir / "db"
    return max(folder.glob("*.sst"), key=lambda path: path.stat().st_size)


def flip(path: Path, *, quietly: bool = False) -> None:
    """Change a bit in the middle of a file, as a disk does (quietly) or a program."""
    facts = path.stat()
    with path.open("r+b") as file:
        file.seek(facts.st_size // 2)
        byte = file.read(1)[0]
        file.seek(facts.st_size // 2)
        file.write(bytes([byte ^ 4]))
    if quietly:
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def ids_of(repo: Path) -> list[str]:
    return [entry.id for entry in Repository.open(repo).entries()] if repo.exists() else []


async def create(server: RunningServer, repo: Path) -> None:
    async with connect_async(server.app.address, token_file=server.app.config.data_dir / "guardian.token") as db:
        await db.guardian.backups.create(repo)


async def refused(server: RunningServer, repo: Path) -> PrefixdbError:
    """Return why no backup can be made; the backups and files that were there are as they were."""
    before = ids_of(repo)
    with pytest.raises(PrefixdbError) as caught:
        await create(server, repo)
    repository = Repository.open(repo)
    assert ids_of(repo) == before
    assert check_files(repository, repository.manifests(), lambda *_: None).findings == ()
    assert list(repository.place.files("tmp")) == []
    return caught.value


def with_server(tmp_path: Path, test: Callable[[RunningServer, Path], Any]) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            await fill(server)
            await test(server, tmp_path / "repo")

    asyncio.run(main())


def needs_the_compiled_part() -> None:
    pytest.importorskip("prefixdb._native.module", reason="without it nobody looks into table files")


def before_sending(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
    """Do something on the server when the client has said which files it wants."""
    honest = backups._checked

    def checked(*arguments: Any) -> list[int]:
        work()
        return honest(*arguments)

    monkeypatch.setattr(backups, "_checked", checked)


@pytest.mark.parametrize("known", [False, True])
def test_a_block_that_was_damaged_before_the_list_is_found_by_its_own_checksum(tmp_path: Path, known: bool) -> None:
    needs_the_compiled_part()

    async def test(server: RunningServer, repo: Path) -> None:
        if known:
            await create(server, repo)
        table = table_of(server)
        flip(table)
        failure = await refused(server, repo)
        assert failure.reason is Reason.CORRUPTION and table.name in failure.message
        assert failure.metadata["place"] == f"db/{table.name}"
        flip(table)
        await create(server, repo)

    with_server(tmp_path, test)


def test_a_manifest_of_the_engine_that_was_damaged_is_found(tmp_path: Path) -> None:
    needs_the_compiled_part()

    async def test(server: RunningServer, repo: Path) -> None:
        (manifest,) = (server.app.config.data_dir / "db").glob("MANIFEST-*")
        flip(manifest)
        assert (await refused(server, repo)).reason is Reason.CORRUPTION

    with_server(tmp_path, test)


def test_a_byte_that_changes_between_list_and_sending_is_refused_by_whoever_receives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(server: RunningServer, repo: Path) -> None:
        table = table_of(server)
        before_sending(monkeypatch, lambda: flip(table, quietly=True))
        failure = await refused(server, repo)
        assert failure.reason is Reason.CORRUPTION and failure.metadata["place"] == f"db/{table.name}"

    with_server(tmp_path, test)


def test_a_file_that_gets_shorter_between_list_and_sending_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(server: RunningServer, repo: Path) -> None:
        table = table_of(server)
        before_sending(monkeypatch, lambda: os.truncate(table, 100))
        failure = await refused(server, repo)
        assert failure.reason is Reason.CORRUPTION and "shorter" in failure.message

    with_server(tmp_path, test)


def test_damage_after_a_sum_was_remembered_spoils_no_repository(tmp_path: Path) -> None:
    """The disk leaves a file's time as it was. Who has the file keeps the right one; who lacks it gets none."""

    async def test(server: RunningServer, repo: Path) -> None:
        await create(server, repo)
        flip(table_of(server), quietly=True)
        await create(server, repo)
        repository = Repository.open(repo)
        assert len(repository.manifests()) == 2
        assert check_files(repository, repository.manifests(), lambda *_: None).findings == ()
        assert (await refused(server, repo.with_name("other"))).reason is Reason.CORRUPTION

    with_server(tmp_path, test)


def test_whoever_cannot_look_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prefixdb.store.native", None)
    assert check_table(tmp_path / "1.sst") is False and check_manifest(tmp_path) is False
