"""New namespaces made whole: from an archive, or with the rows of another one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from prefixdb.client import methods
from prefixdb.client.aio import wire
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.encoding import namespace_ref
from prefixdb.client.frame_source import FrameSource, archive_source
from prefixdb.client.models_server import namespace_of
from prefixdb.client.models_transfer import OnProgress, PlacedNamespace, TransferPhase, TransferProgress
from prefixdb.errors import Reason, UnauthenticatedError, error
from prefixdb.v1 import transfer_pb2

Source = str | os.PathLike[str] | BinaryIO | FrameSource

PATIENCE_S = 120.0
"""Longest wait for the server's next word once it has everything: it speaks every few seconds."""


async def restore_namespace(
    connection: AsyncConnection,
    source: Source,
    begin: transfer_pb2.RestoreNamespaceBegin,
    on_progress: OnProgress | None,
) -> PlacedNamespace:
    """Make a namespace from an archive; nothing of it is seen before all of it is there."""
    given = source if isinstance(source, FrameSource) else await wire.in_thread(archive_source, source)
    try:
        return await _upload(connection, given, begin, on_progress)
    finally:
        if given is not source:
            given.close()


async def _upload(
    connection: AsyncConnection,
    source: FrameSource,
    begin: transfer_pb2.RestoreNamespaceBegin,
    on_progress: OnProgress | None,
) -> PlacedNamespace:
    renewed = False
    while True:
        request = transfer_pb2.RestoreNamespaceRequest(begin=begin)
        upload = await connection.open_upload(methods.RESTORE_NAMESPACE, request)
        sending = False
        try:
            last = None
            while (answer := await upload.receive(PATIENCE_S if last is None or upload.drained else None)) is not None:
                if not sending and answer.phase == transfer_pb2.TRANSFER_PHASE_READY:
                    sending = True
                    upload.send_all(_requests(source))
                last = answer
                if on_progress is not None:
                    on_progress(_progress(answer, answer.rows_received, source.share))
            return _placed(last)
        except UnauthenticatedError:
            # A token that is refused before anything was sent; what has begun cannot go on with another.
            if sending or renewed or not await connection.renew(upload.token):
                raise
            renewed = True
        finally:
            upload.cancel()


async def clone_namespace(
    connection: AsyncConnection,
    source: int | str,
    name: str,
    *,
    id: int | None,
    members: bool,
    on_progress: OnProgress | None,
) -> PlacedNamespace:
    """Make a namespace with the rows that another one has at one instant."""
    request = transfer_pb2.CloneNamespaceRequest(source=namespace_ref(source), name=name, id=id, members=members)
    renewed = False
    while True:
        messages = await connection.open_stream(methods.CLONE_NAMESPACE, request)
        last = None
        try:
            while (answer := await messages.receive(PATIENCE_S)) is not None:
                last = answer
                if on_progress is not None:
                    on_progress(_progress(answer, answer.rows_estimate, 1.0))
            return _placed(last)
        except UnauthenticatedError:
            if last is not None or renewed or not await connection.renew(messages.token):
                raise
            renewed = True
        finally:
            messages.cancel()


def _requests(source: FrameSource) -> Iterator[transfer_pb2.RestoreNamespaceRequest]:
    for frame in source.frames_from(0):
        yield transfer_pb2.RestoreNamespaceRequest(frame=frame)


def _progress(
    answer: transfer_pb2.RestoreNamespaceResponse | transfer_pb2.CloneNamespaceResponse, total: int, share: float
) -> TransferProgress:
    received = answer.rows_received if isinstance(answer, transfer_pb2.RestoreNamespaceResponse) else total
    return TransferProgress(TransferPhase(answer.phase), received, answer.rows_done, total, share)


def _placed(
    last: transfer_pb2.RestoreNamespaceResponse | transfer_pb2.CloneNamespaceResponse | None,
) -> PlacedNamespace:
    if last is None or last.phase != transfer_pb2.TRANSFER_PHASE_DONE:
        message = "The server ended the call without saying what became of it; 'ns list' shows whether it is there."
        raise error(Reason.OUTCOME_UNKNOWN, message)
    expired = last.rows_expired if isinstance(last, transfer_pb2.RestoreNamespaceResponse) else 0
    return PlacedNamespace(
        namespace=namespace_of(last.namespace),
        rows=last.rows_done,
        expired=expired,
        groups=last.groups,
        members=last.members,
    )
