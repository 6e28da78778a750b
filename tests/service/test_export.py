"""Export over a real socket: what is in the archive, of which instant, for whom, and what ends it.

Method: the archive that comes is read by the archive's reader, which believes nothing, and compared with rows that the
test wrote itself.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from prefixdb.archive import ArchiveReader, Footer, Groups, Header, Members, Rows
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import data_key
from prefixdb.store.base import Commit, Put
from prefixdb.v1 import transfer_pb2 as pb
from prefixdb.v1 import transfer_pb2_grpc
from tests.support.server import Caller, RunningServer, running, translated


def exporting(caller: Caller, **fields: Any) -> Any:
    """Start an export."""
    stub: Any = transfer_pb2_grpc.TransferStub(caller.channel)
    return stub.Export(pb.ExportRequest(**fields), metadata=caller.metadata, timeout=60)


class Archive:
    """An archive that was received, taken apart."""

    def __init__(self) -> None:
        self.reader = ArchiveReader()
        self.header: Header | None = None
        self.rows: list[tuple[int, bytes, bytes, int, int]] = []
        self.groups: list[Any] = []
        self.members: list[Any] = []
        self.footer: Footer | None = None
        self.data = b""
        self.last: Any = None

    def take(self, answer: Any) -> None:
        """Take a frame in."""
        content = self.reader.read(answer.frame)
        self.data += answer.frame
        self.last = answer
        if isinstance(content, Rows):
            self.rows += [(content.database, *row) for row in content.rows]
        elif isinstance(content, Groups):
            self.groups += content.groups
        elif isinstance(content, Members):
            self.members += content.members
        elif isinstance(content, Header):
            self.header = content
        else:
            self.footer = content


async def exported(caller: Caller, **fields: Any) -> Archive:
    """Export and return all of it; raises what the call failed with."""
    archive = Archive()
    with translated():
        async for answer in exporting(caller, **fields):
            archive.take(answer)
    archive.reader.finish()
    return archive


def fill(server: RunningServer, namespace_id: int, rows: dict[tuple[int, bytes], bytes]) -> None:
    """Write rows behind the server's back."""
    puts = [Put(data_key(namespace_id, database, key), value) for (database, key), value in rows.items()]
    for first in range(0, len(puts), 5_000):
        assert server.app.store.commit(Commit(tuple(puts[first : first + 5_000]))).applied


def refused(failure: pytest.ExceptionInfo[PrefixdbError]) -> Reason:
    """Return why a call was refused."""
    return failure.value.reason


@pytest.mark.parametrize("codec", ["", "zstd", "none"])
def test_an_export_has_every_row_of_the_namespace_and_none_of_its_neighbours(tmp_path: Path, codec: str) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            before, home, after = (server.create(name, number) for name, number in (("b", 6), ("h", 7), ("a", 8)))
            rows = {
                (database, b"k%05d" % number): b"v%d" % number for database in (0, 3, 65535) for number in range(9_000)
            }
            rows[0, b"\xff" * 4096] = b""
            rows[1, b"large"] = b"x" * (1 << 20)
            rows[1, b"largest"] = b"y" * (1 << 20)
            rows |= {(7_000 + each, b"one"): b"row" for each in range(50)}
            fill(server, home.id, rows)
            for neighbour in (before, after):
                fill(server, neighbour.id, {(0, b"secret"): b"secret", (65535, b"\xff"): b"secret"})
            archive = await exported(server.caller(home, groups=("readers",)), codec=codec)
            assert {(database, key): value for database, key, value, _, _ in archive.rows} == rows
            assert len(archive.rows) == len(rows)
            assert b"secret" not in archive.data or codec != "none"
            header = archive.header
            assert header is not None and header.kind == "namespace" and header.codec == (codec or "zstd")
            assert (header.namespace_id, header.namespace, header.incarnation) == (7, "h", home.incarnation)
            assert archive.last.rows_done == len(rows) and archive.last.rows_estimate == len(rows)
            version = {row[3] for row in archive.rows}
            assert max(version) <= header.last_version and len(version) == 6

    asyncio.run(scenario())


def test_a_database_and_a_prefix_are_exported_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            fill(
                server,
                home.id,
                {(database, key): b"v" for database in (0, 1, 2) for key in (b"a", b"b/1", b"b/2", b"c")},
            )
            caller = server.caller(home, groups=("readers",))
            assert [row[:2] for row in (await exported(caller, database=1)).rows] == [
                (1, b"a"), (1, b"b/1"), (1, b"b/2"), (1, b"c"),
            ]  # fmt: skip
            archive = await exported(caller, database=0, prefix=b"b/")
            assert [row[:2] for row in archive.rows] == [(0, b"b/1"), (0, b"b/2")]
            assert archive.header is not None and archive.header.kind == "export" and archive.header.prefix == b"b/"
            assert (await exported(caller, database=9)).footer == Footer(0, 0, 0, 0)

    asyncio.run(scenario())
