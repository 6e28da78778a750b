"""Goal: namespaces that take no rows keep the threads of imports from nobody.

Method: a server with two threads for imports, and three imports that have begun when their namespaces close; a fourth
namespace imports meanwhile, and the three go on when theirs open.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from prefixdb.backup import import_ledger
from prefixdb.catalog.entities import NamespaceState
from prefixdb.service import workers
from tests.service.test_export import fill
from tests.support.importing import SKIP, Importing, archive_of, imported, rows_in, simple
from tests.support.server import eventually, running

ROWS = 25_000


@pytest.mark.parametrize("state", [NamespaceState.READ_ONLY, NamespaceState.SUSPENDED])
def test_imports_that_wait_for_their_namespaces_keep_nobody_elses_from_running(
    tmp_path: Path, monkeypatch: Any, state: NamespaceState
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(workers, "THREADS_MAX", 2)
        monkeypatch.setattr(import_ledger, "PARKED_AFTER_S", 0.2)
        async with running(tmp_path / "data") as server:
            homes = [server.create(f"home{number}") for number in range(3)]
            uploads = server.app.imports._uploads
            frames = archive_of(simple(ROWS), frame_rows=1_000)
            for home in homes:
                # A row in the way, so that every store has to write batches.
                fill(server, home.id, {(0, b"key/0000000x"): b""})
                one = Importing(server.caller(home, groups=("writers",)), on_conflict=SKIP)
                await one.ready()
                await one.send(frames)
                await one.call.done_writing()

                def begun(namespace_id: int = home.id) -> bool:
                    return any(
                        each.key.namespace_id == namespace_id and each.importer.progress.rows_done > 1_000
                        for each in uploads.values()
                    )

                await eventually(begun, "rows are there")
                server.app.registry.suspend(home.id, state)
            assert len(uploads) == 3
            other = server.create("other")
            done = await asyncio.wait_for(imported(server.caller(other, groups=("writers",)), frames), 20)
            assert done.rows_inserted == ROWS
            await eventually(lambda: len(uploads) == 3, "only those that wait are left")
            server.app.registry.ban(homes[2].id, by="me", reason="enough")
            await eventually(lambda: len(uploads) == 2, "a ban ends one that waits")
            for home in homes[:2]:
                assert len(rows_in(server.app.store, home.id)) < ROWS
                server.app.registry.resume(home.id)
            await eventually(lambda: not uploads, "the others go on", 30.0)
            for home in homes[:2]:
                assert len(rows_in(server.app.store, home.id)) == ROWS + 1

    asyncio.run(scenario())
