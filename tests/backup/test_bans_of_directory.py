"""Goal: the data directory of a stopped server tells its bans, and is the same byte for byte afterwards.

Method: real directories, of servers that ended well and that were killed; all files, times and names are compared.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from prefixdb.backup.bans import read_bans
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.v1 import namespaces_pb2 as ns
from tests.support.backups import Taking, list_bans
from tests.support.server import Caller, running, subprocess_server


def picture(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        path.relative_to(directory).as_posix(): (
            path.stat().st_mtime_ns,
            path.stat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(directory.rglob("*"))
    }


def test_a_stopped_directory_tells_its_bans_and_is_not_touched_and_a_served_one_is_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        data = tmp_path / "data"
        async with running(data) as server:
            for name in ("acme", "beta"):
                server.app.registry.ban(server.create(name).id, by="gina", grace_ms=3_600_000)
            bans = await list_bans(server.guardian)
            with pytest.raises(PrefixdbError) as caught:
                read_bans(data)
            assert caught.value.reason is Reason.DIRECTORY_LOCKED
        before = picture(data)
        assert len(bans) == 2 and read_bans(data) == bans
        assert picture(data) == before
        (data / "LOCK").unlink()
        before = picture(data)
        assert read_bans(data) == bans and picture(data) == before, "a copy that nobody has opened yet"

    asyncio.run(main())


def test_a_directory_that_cannot_be_trusted_tells_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            server.app.registry.ban(server.create("acme").id, by="gina")

    asyncio.run(main())
    for number, spoil in enumerate(("store-state.json", "db/CURRENT", "MANIFEST", ".sst")):
        spoiled = shutil.copytree(tmp_path / "data", tmp_path / f"spoiled{number}")
        for path in [path for path in spoiled.rglob("*") if path.as_posix().endswith(spoil) or spoil in path.name]:
            path.unlink()
        with pytest.raises(PrefixdbError) as caught:
            read_bans(spoiled)
        assert caught.value.reason in (Reason.CORRUPTION, Reason.BAD_FIELD), spoil


def test_a_server_that_was_killed_during_a_backup_has_its_bans_and_no_snapshot_is_left(tmp_path: Path) -> None:
    async def main() -> None:
        import grpc

        with subprocess_server(tmp_path / "data") as server:
            async with grpc.aio.insecure_channel(server.address) as channel:
                guardian = Caller(channel, server.guardian_token)
                made = await guardian.call(guardian.namespaces.CreateNamespace, ns.CreateNamespaceRequest(name="acme"))
                taking = await Taking(guardian).begin()
                reference = ns.NamespaceRef(id=made.namespace.id)
                await guardian.call(guardian.namespaces.BanNamespace, ns.BanNamespaceRequest(namespace=reference))
                assert taking.files and list((tmp_path / "data/snapshots").iterdir())
                server.process.kill()
                server.process.wait()
        (ban,) = read_bans(tmp_path / "data")
        assert ban.issue == (made.namespace.id, made.namespace.incarnation)
        async with running(tmp_path / "data") as again:
            assert not list((tmp_path / "data/snapshots").glob("*"))
            assert [each.issue for each in await list_bans(again.guardian)] == [ban.issue]

    asyncio.run(main())
