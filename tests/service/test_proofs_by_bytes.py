"""A namespace that is banned while something moves its rows is proven empty only when no file has a byte of them.

Goal: the proof waits for the links of a backup, the spool of an import, the cursor of an export, and what a clone was
writing, in both stores.
Method: values that no compression can change are looked for in every file of the data directory, at the very moment the
catalog is told that a namespace is empty, and while the work is held up in its middle, when they must be found.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from prefixdb.backup.cloning import CloneContent
from prefixdb.catalog.entities import NamespaceRecord, NamespaceState
from prefixdb.catalog.manifest import ReclaimPhase
from prefixdb.errors import PrefixdbError
from prefixdb.v1 import transfer_pb2 as pb
from prefixdb.v1 import transfer_pb2_grpc
from tests.service.test_export import exporting, fill
from tests.support.importing import OVERWRITE, Importing, archive_of
from tests.support.server import RunningServer, eventually, reference, running, translated
from tools.lab.files import files_with, incompressible

ROWS = 24
"""Of 64 KiB each: more than a client that does not read is sent ahead."""

PROVEN_S = 30.0


def secret(name: str) -> tuple[dict[tuple[int, bytes], bytes], bytes]:
    """Return rows, and bytes that are in the file of the last of them and nowhere else."""
    rows = {(0, b"%03d" % number): incompressible(f"{name}/{number}")[0] for number in range(ROWS)}
    return rows, incompressible(f"{name}/{ROWS - 1}")[1]


class Proofs:
    """Looks into every file at the moment of each proof."""

    def __init__(self, server: RunningServer, needle: bytes) -> None:
        self.found: dict[int, list[str]] = {}
        self._directory = server.app.config.data_dir
        self._needle = needle
        registry = server.app.registry
        mark = registry.mark_reclaimed

        def marked(reports: Iterable[Any]) -> Any:
            listed = list(reports)
            self.found |= {report.namespace_id: self.files() for report in listed}
            return mark(listed)

        registry.mark_reclaimed = marked  # type: ignore[method-assign]

    def files(self) -> list[str]:
        """Return the files that hold the secret now."""
        return [str(path.relative_to(self._directory)) for path in files_with(self._directory, self._needle)]

    def holds(self, part: str) -> bool:
        """Return whether one of them is in this part of the data directory."""
        return any(name.startswith(part) for name in self.files())


@asynccontextmanager
async def secretive(data_dir: Path) -> AsyncIterator[tuple[RunningServer, NamespaceRecord, Proofs]]:
    """Start a server with a namespace that has secret rows, in table files."""
    rows, needle = secret("home")
    async with running(data_dir) as server:
        home = server.create("home")
        fill(server, home.id, rows)
        await asyncio.to_thread(server.app.store.flush)
        proofs = Proofs(server, needle)
        assert proofs.holds("db"), "the look is blind"
        yield server, home, proofs


async def ban(server: RunningServer, home: NamespaceRecord) -> None:
    await asyncio.to_thread(server.app.registry.ban, home.id, by="test")


async def proven(server: RunningServer, proofs: Proofs, *namespaces: int) -> None:
    """Wait until namespaces are reclaimed and make sure that the last proof came when nothing was left."""

    def done() -> bool:
        return all(server.app.registry.get(one).state is NamespaceState.RECLAIMED for one in namespaces)

    await eventually(done, "reclaimed", PROVEN_S)
    last = list(proofs.found)[-1]
    assert set(proofs.found) == set(namespaces) and proofs.found[last] == []


def state_of(server: RunningServer, home: NamespaceRecord) -> NamespaceState:
    found = server.app.registry.get(home.id)
    assert found is not None
    return found.state


def test_a_backup_that_has_links_keeps_the_proof_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with secretive(tmp_path / "data") as (server, home, proofs):
            stub: Any = transfer_pb2_grpc.TransferStub(server.channel)
            call = stub.Backup(metadata=server.guardian.metadata, timeout=60)
            await call.write(pb.BackupRequest(begin=pb.BackupBegin()))
            while not (await call.read()).files.last:
                pass
            assert proofs.holds("snapshots")
            await ban(server, home)
            # The rows are gone from the engine, and still on the disk.
            await eventually(lambda: not proofs.holds("db"), "the engine has dropped them", PROVEN_S)
            report = server.app.reclaimer.report
            await eventually(lambda: report(home.id).phase is ReclaimPhase.PROVING, "it tries to prove", PROVEN_S)
            assert proofs.holds("snapshots") and proofs.found == {}
            assert state_of(server, home) is NamespaceState.BANNED
            call.cancel()
            await proven(server, proofs, home.id)

    asyncio.run(scenario())


def test_an_export_that_is_cut_gives_its_cursor_back_before_the_proof(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with secretive(tmp_path / "data") as (server, home, proofs):
            call = exporting(server.guardian, codec="none", namespace=reference(home))
            with translated():
                await call.read()
            await ban(server, home)
            await proven(server, proofs, home.id)

    asyncio.run(scenario())


@pytest.mark.parametrize("applied", [False, True])
def test_the_spool_of_an_import_is_gone_before_the_proof(tmp_path: Path, applied: bool) -> None:
    async def scenario() -> None:
        rows, needle = secret("archive")
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            proofs = Proofs(server, needle)
            frames = archive_of(
                [(database, key, value, 1, 0) for (database, key), value in rows.items()], codec="none", frame_rows=4
            )
            one = Importing(server.caller(home, groups=("writers",)), on_conflict=OVERWRITE)
            await one.ready()
            await one.send(frames if applied else frames[:-1])
            if applied:
                # Whole, and held up: a namespace that is read-only lets no row in.
                await eventually(
                    lambda: any(u.rows == ROWS for u in server.app.imports._uploads.values()), "all have come"
                )
                [upload] = server.app.imports._uploads.values()
                guard, held = upload.importer._ledger.guard, threading.Event()

                def holding() -> Any:
                    held.set()
                    while True:
                        upload.importer._ledger.pause(0.01)
                        guard()

                upload.importer._ledger.guard = holding  # type: ignore[method-assign]
                await one.call.done_writing()
                await asyncio.to_thread(held.wait, 10)
                upload.importer._ledger._stopping.clear()
            else:
                await eventually(
                    lambda: any(u.rows == ROWS for u in server.app.imports._uploads.values()), "all have come"
                )
                for each in server.app.imports._uploads.values():
                    assert each.spool is not None
                    await asyncio.to_thread(each.spool.sync)
            assert proofs.holds("imports"), "the look is blind"
            await ban(server, home)
            with pytest.raises(PrefixdbError):
                await one.last()
            await proven(server, proofs, home.id)

    asyncio.run(scenario())


def test_what_a_clone_has_written_of_a_banned_source_is_reclaimed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halfway, go_on = threading.Event(), threading.Event()
    pages = CloneContent.pages

    def slow(self: CloneContent) -> Any:
        for page in pages(self):
            yield page
            halfway.set()
            go_on.wait(30)

    monkeypatch.setattr(CloneContent, "pages", slow)

    async def scenario() -> None:
        async with secretive(tmp_path / "data") as (server, home, proofs):
            stub: Any = transfer_pb2_grpc.TransferStub(server.channel)
            request = pb.CloneNamespaceRequest(source=reference(home), name="copy", id=4_711)
            call = stub.CloneNamespace(request, metadata=server.guardian.metadata, timeout=60)
            assert await asyncio.to_thread(halfway.wait, 20)
            await ban(server, home)
            await eventually(lambda: server.app.streams.views(home.id) == 1, "only the clone is left")
            assert proofs.found == {} and state_of(server, home) is NamespaceState.BANNED
            go_on.set()
            with pytest.raises(PrefixdbError), translated():
                while hasattr(await call.read(), "phase"):
                    pass
            await proven(server, proofs, home.id, 4_711)

    asyncio.run(scenario())
