"""Imports over a real socket for tests: archives made by the writer, and a client that does what it is told."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import grpc

from prefixdb.archive import ArchiveWriter, Header, row_batches
from prefixdb.errors import PrefixdbError
from prefixdb.keycodec import DATA_HEAD_BYTES, FAMILY_DATA, family_span
from prefixdb.store.base import Store
from prefixdb.v1 import transfer_pb2 as pb
from prefixdb.v1 import transfer_pb2_grpc
from tests.support.server import Caller, error_of, translated

FAIL, SKIP, OVERWRITE = pb.CONFLICT_POLICY_FAIL, pb.CONFLICT_POLICY_SKIP, pb.CONFLICT_POLICY_OVERWRITE

ArchivedRow = tuple[int, bytes, bytes, int, int]
"""(database, key, value, version, expires_at_ms)"""


def archive_of(
    rows: Iterable[ArchivedRow], *, kind: str = "export", codec: str = "zstd", frame_rows: int = 0
) -> list[bytes]:
    """Return the frames of an archive; ``frame_rows`` cuts frames smaller than they have to be."""
    writer = ArchiveWriter(
        Header(kind=kind, codec=codec, sorted=kind != "rows", last_version=0 if kind == "rows" else 2**60)
    )
    frames = [writer.header()]
    for batch in row_batches(rows):
        step = frame_rows or len(batch.rows)
        frames += [writer.rows(batch.database, batch.rows[at : at + step]) for at in range(0, len(batch.rows), step)]
    return [*frames, writer.footer()]


def simple(count: int, *, start: int = 0, value: bytes = b"imported", database: int = 0) -> list[ArchivedRow]:
    """Return sorted rows."""
    return [(database, b"key/%07d" % number, value, number + 1, 0) for number in range(start, start + count)]


def rows_in(store: Store, namespace_id: int) -> dict[tuple[int, bytes], bytes]:
    """Return the rows of a namespace, by database and key."""
    found = {}
    cursor = store.open_cursor(family_span(namespace_id, FAMILY_DATA))
    try:
        while rows := cursor.fetch(10_000, 1 << 30):
            for row in rows:
                found[int.from_bytes(row.key[9:DATA_HEAD_BYTES]), row.key[DATA_HEAD_BYTES:]] = row.payload
    finally:
        cursor.close()
    return found


def versions_in(store: Store, namespace_id: int) -> dict[bytes, int]:
    """Return the versions of a namespace's rows, by key."""
    cursor = store.open_cursor(family_span(namespace_id, FAMILY_DATA))
    found = {}
    try:
        while rows := cursor.fetch(10_000, 1 << 30):
            found |= {row.key[DATA_HEAD_BYTES:]: row.version for row in rows}
    finally:
        cursor.close()
    return found


class Importing:
    """One call of an import, step by step."""

    def __init__(self, caller: Caller, upload: str = "", **settings: Any) -> None:
        self.upload = upload or secrets.token_hex(16)
        stub: Any = transfer_pb2_grpc.TransferStub(caller.channel)
        self.call = stub.Import(metadata=caller.metadata, timeout=60)
        settings.setdefault("on_conflict", FAIL)
        self.begin = pb.ImportRequest(begin=pb.ImportBegin(upload=self.upload, **settings))
        self.answers: list[Any] = []

    async def ready(self) -> Any:
        """Begin, and return the server's first answer."""
        with translated():
            await self.call.write(self.begin)
            return await self.answer()

    async def answer(self) -> Any:
        """Return the next answer, None at the end."""
        with translated():
            answer = await asyncio.wait_for(self.call.read(), 30)
            if not hasattr(answer, "phase"):
                return None
            self.answers.append(answer)
            return answer

    async def send(self, frames: Sequence[bytes]) -> None:
        """Send frames."""
        with translated():
            for frame in frames:
                await self.call.write(pb.ImportRequest(frame=frame))

    async def done(self) -> Any:
        """Send no more and return the last answer."""
        with translated():
            await self.call.done_writing()
        return await self.last()

    async def last(self) -> Any:
        """Return the last answer."""
        last = None
        while (answer := await self.answer()) is not None:
            last = answer
        return last


async def imported(caller: Caller, frames: Sequence[bytes], upload: str = "", **settings: Any) -> Any:
    """Import an archive, going on with the upload if there is one, and return the last answer."""
    one = Importing(caller, upload, **settings)
    ready = await one.ready()
    await one.send(frames[ready.frames_kept :])
    return await one.done()


async def refusal_of(address: str, caller: Caller, frames: Sequence[bytes], **settings: Any) -> PrefixdbError | None:
    """Send an archive at once, without listening, and return why it was refused.

    By gRPC's blocking client: the one for asyncio forgets a status that comes while it writes.
    """
    settings.setdefault("on_conflict", FAIL)
    begin = pb.ImportRequest(begin=pb.ImportBegin(upload=secrets.token_hex(16), **settings))

    def send() -> PrefixdbError | None:
        with grpc.insecure_channel(address) as channel:
            stub: Any = transfer_pb2_grpc.TransferStub(channel)
            requests = [begin, *(pb.ImportRequest(frame=frame) for frame in frames)]
            try:
                list(stub.Import(iter(requests), metadata=caller.metadata, timeout=30))
            except grpc.RpcError as failure:
                return error_of(failure)  # type: ignore[arg-type]
            return None

    return await asyncio.to_thread(send)
