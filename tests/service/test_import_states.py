"""An import whose namespace changes its state in the middle, or while the server is down; and a spool that will not go.

Goal: a namespace that is suspended or read-only holds an import up and loses nothing of it; one that is banned, unknown
or issued again gets nothing of it, and is not proven empty while a spool of it is on the disk.
Method: real sockets; imports are stopped in the middle by the state itself, or by the server's end, and the spools, the
rows and the counts are looked at. A folder that refuses to give up a file stands for a bad disk.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from pathlib import Path
from typing import Any

import pytest

from prefixdb.catalog.entities import NamespaceRecord, NamespaceState
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.service import import_jobs
from prefixdb.service.uploads import UploadKey
from tests.service.test_export import fill
from tests.support.importing import FAIL, SKIP, Importing, archive_of, rows_in, simple
from tests.support.server import Caller, RunningServer, eventually, running

ROWS = 25_000
"""Rows of an import that is no single commit."""

CLOSED = {NamespaceState.READ_ONLY: Reason.READ_ONLY, NamespaceState.SUSPENDED: Reason.NAMESPACE_SUSPENDED}


def spools(data_dir: Path) -> list[str]:
    """Return the names of the spools."""
    return sorted(path.name for path in (data_dir / "imports").iterdir())


async def begun(server: RunningServer, caller: Caller, home: NamespaceRecord, **settings: Any) -> Importing:
    """Send an archive of ROWS rows, and return when some of them are there, and not all."""
    # A row in the way, so that every store has to write batches.
    fill(server, home.id, {(0, b"key/0000000x"): b""})
    one = Importing(caller, **settings)
    await one.ready()
    await one.send(archive_of(simple(ROWS), frame_rows=500))
    await one.call.done_writing()
    uploads = server.app.imports._uploads
    await eventually(lambda: any(u.importer.progress.rows_done > 1_000 for u in uploads.values()), "rows are there")
    return one


@pytest.mark.parametrize("state", CLOSED)
def test_an_upload_into_a_namespace_that_closes_is_kept_and_goes_on_when_it_opens(
    tmp_path: Path, state: NamespaceState
) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            caller = server.caller(home, groups=("writers",))
            frames = archive_of(simple(3_000), frame_rows=100)
            one = Importing(caller)
            await one.ready()
            await one.send(frames[:9])
            await eventually(lambda: any(u.rows for u in server.app.imports._uploads.values()), "frames have come")
            await asyncio.to_thread(server.app.registry.suspend, home.id, state)
            with pytest.raises(PrefixdbError) as refused:
                if state is NamespaceState.READ_ONLY:  # Its streams go on until they want to write.
                    await one.send(frames[9:10])
                await one.last()
            assert refused.value.reason is CLOSED[state]
            assert rows_in(server.app.store, home.id) == {} and len(spools(tmp_path / "data")) == 1
            await asyncio.to_thread(server.app.registry.resume, home.id)
            again = Importing(caller, one.upload)
            ready = await again.ready()
            assert 1 < ready.frames_kept < 11
            await again.send(frames[ready.frames_kept :])
            assert (await again.done()).rows_inserted == 3_000

    asyncio.run(scenario())


@pytest.mark.parametrize("state", CLOSED)
def test_an_import_that_is_being_applied_waits_for_its_namespace_and_is_applied_once(
    tmp_path: Path, state: NamespaceState
) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            caller = server.caller(home, groups=("writers",))
            one = await begun(server, caller, home, on_conflict=FAIL)
            await asyncio.to_thread(server.app.registry.suspend, home.id, state)
            [upload] = server.app.imports._uploads.values()
            importer = upload.importer

            # No commit of it can come any more: its guard names the record as it was.
            there = len(rows_in(server.app.store, home.id))
            assert 0 < there < ROWS
            waited = asyncio.Event()
            pause, loop = importer._ledger.pause, asyncio.get_running_loop()

            def noted(seconds: float = 0.0) -> None:
                if seconds >= 0.1:
                    loop.call_soon_threadsafe(waited.set)
                pause(seconds)

            importer._ledger.pause = noted  # type: ignore[method-assign]
            await asyncio.wait_for(waited.wait(), 10)
            assert len(rows_in(server.app.store, home.id)) == there
            if state is NamespaceState.SUSPENDED:
                with pytest.raises(PrefixdbError) as refused:
                    await one.last()
                assert refused.value.reason is Reason.NAMESPACE_SUSPENDED
            await asyncio.to_thread(server.app.registry.resume, home.id)
            await eventually(lambda: not len(server.app.imports) or upload.result.done(), "it is over", 20.0)
            again = Importing(caller, one.upload)
            await again.ready()
            done = await again.last()
            assert (done.rows_inserted, done.rows_skipped) == (ROWS, 0)
            assert len(rows_in(server.app.store, home.id)) == ROWS + 1

    asyncio.run(scenario())


@pytest.mark.parametrize("change", ["banned", "read only", "suspended", "unknown", "issued again"])
def test_a_restart_goes_on_with_the_spools_of_live_namespaces_and_removes_all_others(
    tmp_path: Path, change: str
) -> None:
    data_dir = tmp_path / "data"

    async def first() -> tuple[NamespaceRecord, str, str]:
        async with running(data_dir) as server:
            home = server.create("home", 4_711)
            token = server.token(home.id, groups=("writers",))
            one = await begun(server, Caller(server.channel, token), home, on_conflict=SKIP)
        return home, token, one.upload

    async def meanwhile(home: NamespaceRecord) -> int:
        """Change the namespace's state without the part of the server that goes on with imports."""
        kept = data_dir / "kept"
        (data_dir / "imports").rename(kept)
        async with running(data_dir) as server:
            if change == "banned":
                server.app.registry.ban(home.id, by="test", grace_ms=3_600_000)
            elif change in ("read only", "suspended"):
                server.app.registry.suspend(home.id, NamespaceState[change.replace(" ", "_").upper()])
            elif change == "issued again":
                server.app.registry.ban(home.id, by="test")
                await eventually(
                    lambda: server.app.registry.get(home.id).state is NamespaceState.RECLAIMED, "reclaimed", 30.0
                )
                server.create("home", home.id)
            there = len(rows_in(server.app.store, home.id))
        (data_dir / "imports").rmdir() if (data_dir / "imports").exists() else None
        kept.rename(data_dir / "imports")
        if change == "unknown":
            stranger = UploadKey(815, 17, b"s" * 16, b"u" * 16)
            [spool] = (data_dir / "imports").iterdir()
            spool.rename(spool.with_name(stranger.file_name))
        return there

    async def last(home: NamespaceRecord, token: str, upload: str, there: int) -> None:
        async with running(data_dir) as server:
            live = change in ("read only", "suspended")
            assert len(spools(data_dir)) == len(server.app.imports) == int(live)
            if not live:
                assert len(rows_in(server.app.store, home.id)) == there
                return
            assert server.app.streams.views(home.id) == 1, "it is held while its spool is there"
            assert len(rows_in(server.app.store, home.id)) == there
            await asyncio.to_thread(server.app.registry.resume, home.id)
            await eventually(lambda: not len(server.app.imports), "finished", 30.0)
            assert spools(data_dir) == []
            again = Importing(Caller(server.channel, token), upload, on_conflict=SKIP)
            await again.ready()
            done = await again.last()
            assert (done.rows_inserted, done.rows_skipped) == (ROWS, 0)

    home, token, upload = asyncio.run(first())
    assert len(spools(data_dir)) == 1
    there = asyncio.run(meanwhile(home))
    asyncio.run(last(home, token, upload, there))


def test_a_namespace_is_not_proven_empty_while_a_spool_of_it_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_jobs, "REMOVED_AGAIN_S", 0.02)
    refused, unlink = [], os.unlink
    broken = True

    def failing(path: Any, **named: Any) -> None:
        if broken and str(path).endswith(".import"):
            refused.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(path, **named)

    async def scenario() -> None:
        nonlocal broken
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            one = Importing(server.caller(home, groups=("writers",)), secrets.token_hex(16))
            await one.ready()
            await one.send(archive_of(simple(5_000), frame_rows=1_000)[:4])
            monkeypatch.setattr(os, "unlink", failing)
            await asyncio.to_thread(server.app.registry.ban, home.id, by="test")
            await eventually(lambda: len(refused) > 3, "it was tried again and again")
            assert server.app.streams.views(home.id) == 1
            assert server.app.registry.get(home.id).state is NamespaceState.BANNED
            assert len(spools(tmp_path / "data")) == 1
            broken = False
            await eventually(
                lambda: server.app.registry.get(home.id).state is NamespaceState.RECLAIMED, "reclaimed", 30.0
            )
            assert spools(tmp_path / "data") == []

    asyncio.run(scenario())


def test_a_spool_that_cannot_be_removed_does_not_keep_the_server_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            one = Importing(server.caller(home, groups=("writers",)))
            await one.ready()
            await one.send(archive_of(simple(500), frame_rows=100)[:3])
            unlink = os.unlink

            def failing(path: Any, **named: Any) -> None:
                if str(path).endswith(".import"):
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                unlink(path, **named)

            monkeypatch.setattr(os, "unlink", failing)
        monkeypatch.undo()
        assert len(spools(tmp_path / "data")) == 1
        async with running(tmp_path / "data"):
            assert spools(tmp_path / "data") == [], "the next start removes it"

    asyncio.run(scenario())
