"""A gRPC server that takes and gives archives, and fails where a test says: what a real one cannot be made to show.

It keeps the contract of ``Transfer``: nothing is applied before the footer, an interrupted upload goes on by its id,
and the result of an upload that was applied is told again. Archives are read by ``ArchiveReader``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import grpc

from prefixdb.archive import ArchiveReader, Rows
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.rpcstatus import DETAILS_KEY, to_status
from prefixdb.v1 import namespaces_pb2
from prefixdb.v1 import transfer_pb2 as pb

PREFIX = "/prefixdb.v1.Transfer/"


@dataclass
class TransferServer:
    """See the module's docstring. Use it as a context manager.

    Attributes:
        cuts: how each call of Import or Export ends too early, one after the other: after so many frames. None lets a
            call be; so does the end of the list.
        expired: how many frames each call of Export gives before its token has ended; the end of the list: all.
        lost: so many results of Import are lost on their way.
        refusal: what Import refuses everything with, after the footer.
        begins: what began each call of Import.
        received: frames that came, of all calls.
        applied: the rows of each upload that was applied, by its id.
        exported: the frames Export gives.
        restored: what began each call of RestoreNamespace.
        arrived, whole: set once a frame, or a whole archive, has come.
        hold, hold_result: waited for after each frame, and before the result.
    """

    cuts: list[int | None] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    lost: int = 0
    refusal: PrefixdbError | None = None
    begins: list[pb.ImportBegin] = field(default_factory=list)
    received: int = 0
    applied: dict[str, list[tuple[int, bytes, bytes]]] = field(default_factory=dict)
    exported: list[bytes] = field(default_factory=list)
    restored: list[pb.RestoreNamespaceBegin] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event | None = None
    whole: threading.Event = field(default_factory=threading.Event)
    hold_result: threading.Event | None = None

    def __post_init__(self) -> None:
        self._uploads: dict[str, list[bytes]] = {}
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self,))  # type: ignore[arg-type]  # has the one method that is needed
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        for event in (self.hold, self.hold_result):
            if event is not None:
                event.set()
        self._server.stop(None).wait()

    def forget(self) -> None:
        """Lose the uploads that are not whole, as a restart does."""
        self._uploads.clear()

    def keep(self, upload: str, frames: list[bytes]) -> None:
        """Have these frames of an upload already."""
        self._uploads[upload] = list(frames)

    def service(self, details: Any) -> Any:
        """Return the handler of a call; gRPC asks for it."""
        name = details.method.removeprefix(PREFIX)
        if name == "Export":
            return grpc.unary_stream_rpc_method_handler(
                self._export, lambda data: pb.ExportRequest.FromString(data), _out
            )
        if name == "Import":
            return grpc.stream_stream_rpc_method_handler(
                self._import, lambda data: pb.ImportRequest.FromString(data), _out
            )
        if name == "RestoreNamespace":
            parse = pb.RestoreNamespaceRequest.FromString
            return grpc.stream_stream_rpc_method_handler(self._restore, lambda data: parse(data), _out)
        return None

    def _export(self, request: pb.ExportRequest, context: Any) -> Iterator[pb.ExportResponse]:
        cut = self.cuts.pop(0) if self.cuts else None
        expired = self.expired.pop(0) if self.expired else None
        for number, frame in enumerate(self.exported):
            if number == expired:
                _refuse(error(Reason.TOKEN_EXPIRED), context)
            if number == cut:
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            yield pb.ExportResponse(frame=frame, rows_done=number, rows_estimate=len(self.exported))
        if cut == len(self.exported):
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    def _import(self, requests: Iterator[pb.ImportRequest], context: Any) -> Iterator[pb.ImportResponse]:
        cut = self.cuts.pop(0) if self.cuts else None
        begin = next(requests).begin
        self.begins.append(begin)
        if begin.upload not in self.applied:
            kept = self._uploads.setdefault(begin.upload, [])
            digest = kept[-1][-32:] if kept else b""
            yield pb.ImportResponse(phase=pb.TRANSFER_PHASE_READY, frames_kept=len(kept), digest=digest)
            yield from self._receive(requests, context, kept, cut)
            self.applied[begin.upload] = self._rows_of(kept, context)
        rows = len(self.applied[begin.upload])
        self.whole.set()
        if self.hold_result is not None:
            self.hold_result.wait(30)
        if self.lost:
            self.lost -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        yield pb.ImportResponse(phase=pb.TRANSFER_PHASE_APPLYING, rows_received=rows, rows_done=rows // 2)
        yield pb.ImportResponse(
            phase=pb.TRANSFER_PHASE_DONE, rows_received=rows, rows_done=rows, rows_inserted=rows, way="batches"
        )

    def _receive(self, requests: Any, context: Any, kept: list[bytes], cut: int | None) -> Iterator[pb.ImportResponse]:
        taken = 0
        while True:
            if taken == cut:
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            request = next(requests, None)
            if request is None:
                return
            kept.append(request.frame)
            taken += 1
            self.received += 1
            self.arrived.set()
            if self.hold is not None:
                self.hold.wait(30)
            yield pb.ImportResponse(phase=pb.TRANSFER_PHASE_RECEIVING, rows_received=taken)

    def _rows_of(self, frames: list[bytes], context: Any) -> list[tuple[int, bytes, bytes]]:
        """Return the rows of a whole archive; refuse any other as the real server does."""
        reader = ArchiveReader()
        rows = []
        try:
            for frame in frames:
                content = reader.read(frame)
                if isinstance(content, Rows):
                    rows += [(content.database, row[0], row[1]) for row in content.rows]
            reader.finish()
            if self.refusal is not None:
                raise self.refusal
        except PrefixdbError as failure:
            _refuse(failure, context)
        return rows

    def _restore(
        self, requests: Iterator[pb.RestoreNamespaceRequest], context: Any
    ) -> Iterator[pb.RestoreNamespaceResponse]:
        begin = next(requests).begin
        self.restored.append(begin)
        yield pb.RestoreNamespaceResponse(phase=pb.TRANSFER_PHASE_READY)
        frames = [request.frame for request in requests]
        if self.cuts and self.cuts.pop(0) is not None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        rows = len(self._rows_of(frames, context))
        space = namespaces_pb2.Namespace(id=begin.id or 77, name=begin.name or "acme")
        yield pb.RestoreNamespaceResponse(phase=pb.TRANSFER_PHASE_APPLYING, rows_received=rows, rows_done=rows // 2)
        yield pb.RestoreNamespaceResponse(
            phase=pb.TRANSFER_PHASE_DONE, rows_received=rows, rows_done=rows, namespace=space
        )


def _out(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _refuse(failure: PrefixdbError, context: Any) -> None:
    status = to_status(failure if isinstance(failure, PrefixdbError) else error(Reason.INTERNAL))
    context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
    context.abort({code.value[0]: code for code in grpc.StatusCode}[status.code], status.message)
