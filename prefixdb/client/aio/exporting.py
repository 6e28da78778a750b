"""Receiving an archive: its frames one by one, or into a file that appears when it is whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from prefixdb.client import methods
from prefixdb.client.aio import wire
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.encoding import check_database, namespace_ref
from prefixdb.client.frame_chain import FrameChain
from prefixdb.client.models_transfer import Exported, ExportedFrame
from prefixdb.errors import UnauthenticatedError, bad_field
from prefixdb.v1 import transfer_pb2

CODECS = ("zstd", "none")

PATIENCE_S = 60.0
"""Longest wait for a frame: the server reads on while frames are taken, but may have to wait for its disk."""


async def exported_frames(
    connection: AsyncConnection, request: transfer_pb2.ExportRequest
) -> wire.Stream[ExportedFrame]:
    """Yield the frames of an archive of one instant; ends normally only behind the footer.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID when what came is not an archive, or not all of it.
        PrefixdbError: the export failed. What was yielded is good for nothing then: begin anew.
    """
    if request.members:
        connection.options.check_private("the password hashes in the archive")
    renewed = False
    while True:
        messages = await connection.open_stream(methods.EXPORT, request)
        chain = FrameChain()
        try:
            while (answer := await messages.receive(PATIENCE_S)) is not None:
                chain.add(answer.frame)
                yield ExportedFrame(answer.frame, answer.rows_done, answer.rows_estimate, chain.footer)
            chain.finish()
            return
        except UnauthenticatedError:
            # What has begun cannot go on with another token: that would be another instant.
            if chain.frames or renewed or not await connection.renew(messages.token):
                raise
            renewed = True
        finally:
            messages.cancel()


def export_request(
    database: int | None, prefix: bytes | None, namespace: int | str | None, members: bool, codec: str
) -> transfer_pb2.ExportRequest:
    """Return what asks for an archive.

    Raises:
        InvalidArgumentError: BAD_FIELD for a codec or a database that cannot be, or members with less than all rows.
    """
    if codec not in CODECS:
        raise bad_field("codec", f"is one of {', '.join(CODECS)}.")
    if members and database is not None:
        raise bad_field("members", "go with all databases, not with one.")
    return transfer_pb2.ExportRequest(
        namespace=None if namespace is None else namespace_ref(namespace),
        database=None if database is None else check_database(database),
        prefix=prefix or b"",
        members=members,
        codec=codec,
    )


async def write_frames(
    frames: wire.Stream[ExportedFrame], file: BinaryIO, on_progress: Callable[[ExportedFrame], None] | None
) -> Exported:
    """Write an archive's frames to an open file and return what they hold."""
    size = 0
    footer = None
    try:
        async for frame in frames:
            await wire.in_thread(write_whole, file, frame.frame)
            size += len(frame.frame)
            footer = frame.footer
            if on_progress is not None:
                on_progress(frame)
    finally:
        await frames.aclose()
    if footer is None:
        raise AssertionError("frames end normally only behind the footer")
    return Exported(rows=footer.rows, bytes=size, groups=footer.groups, members=footer.members)


def write_whole(file: BinaryIO, data: bytes) -> None:
    """Write all of these bytes: the raw file of PYTHONUNBUFFERED may take a part and say so only by its result."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
