"""Import over a real socket: what comes in, what happens to keys that exist, and what is refused.

Method: archives made by the writer are sent frame by frame; afterwards the namespace's rows are read from the store and
compared with a dict. Each test says what neighbours must not have noticed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.v1 import transfer_pb2 as pb
from tests.service.test_export import fill
from tests.support.importing import (
    FAIL, OVERWRITE, SKIP, Importing, archive_of, imported, rows_in, simple, versions_in,
)  # fmt: skip
from tests.support.server import RunningServer, eventually, running

LARGE = 25_000
"""Rows of an import that is no single commit."""


def as_dict(rows: list[tuple[int, bytes, bytes, int, int]]) -> dict[tuple[int, bytes], bytes]:
    """Return rows of an archive as the store must have them."""
    return {(database, key): value for database, key, value, _, _ in rows}


@pytest.mark.parametrize("count", [0, 1, 9_999, LARGE])
@pytest.mark.parametrize("on_conflict", [FAIL, SKIP, OVERWRITE])
def test_an_import_into_an_empty_namespace_brings_every_row(tmp_path: Path, count: int, on_conflict: int) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home, other = server.create("home"), server.create("other")
            rows = simple(count) + simple(count // 10, database=3)
            done = await imported(server.caller(home, groups=("writers",)), archive_of(rows), on_conflict=on_conflict)
            assert done.phase == pb.TRANSFER_PHASE_DONE
            assert (done.rows_received, done.rows_inserted) == (len(rows), len(rows))
            assert (done.rows_replaced, done.rows_skipped, done.rows_expired) == (0, 0, 0)
            assert rows_in(server.app.store, home.id) == as_dict(rows)
            assert rows_in(server.app.store, other.id) == {}
            await gone(server, home.id)

    asyncio.run(scenario())


async def gone(server: RunningServer, namespace_id: int) -> None:
    """Wait until nothing of an upload is left in the server."""
    folder = server.app.config.data_dir / "imports"
    await eventually(lambda: not len(server.app.imports), "no upload is left")
    assert list(folder.iterdir()) == []
    await eventually(lambda: server.app.streams.views(namespace_id) == 0, "nothing holds the namespace")
