"""Export: one namespace's rows out, as an archive of one instant.

A thread makes the next frame while the client takes the one before; no more than these two are in memory. Before each
is sent it is looked whether the caller may still have it. A namespace that is not the caller's own is held like a
stream of its own would hold it: it is not reclaimed under an open cursor, and a ban ends the export within a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from prefixdb.backup.exporting import Exporter, Piece, Wanted
from prefixdb.catalog.entities import NamespaceRecord
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import ExportTarget, Session, check_export
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, bad_field, error
from prefixdb.keycodec import check_database, prefix_span
from prefixdb.limits import TRANSFER_MS_MAX, TRANSFER_PATIENCE_MS_MAX
from prefixdb.service.administration import Administration
from prefixdb.service.calls import Call, Wire
from prefixdb.service.messages import describe, find_namespace, known
from prefixdb.service.streams import OpenStreams
from prefixdb.service.workers import Workers
from prefixdb.store.base import Store
from prefixdb.v1 import transfer_pb2 as pb

CODECS = ("zstd", "none")
"""What frames can be compressed with; the first when nothing is said."""


class Exports:
    """Export: one namespace's rows out, as an archive of one instant. Belongs to the event loop's thread."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        clock: Clock,
        *,
        administration: Administration,
        streams: OpenStreams,
        workers: Workers,
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._administration = administration
        self._streams = streams
        self._workers = workers

    async def run(self, call: Call, request: pb.ExportRequest, wire: Wire) -> None:
        """Stream the archive; returns after the last frame was taken.

        Raises:
            InvalidArgumentError: BAD_FIELD (database, prefix, members, codec, namespace), KEY_TOO_LARGE.
            NotFoundError: NAMESPACE_NOT_FOUND, to those who may export every namespace.
            PermissionDeniedError: NOT_PERMITTED, also when the caller's rights change meanwhile; NAMESPACE_BANNED.
            DeadlineExceededError: DEADLINE, the client is too slow.
            DataLossError: CORRUPTION, at the point of damage.
        """
        wanted, administrative = self._wanted(call, request)
        wire.patience_ms = TRANSFER_PATIENCE_MS_MAX
        wire.end_within(TRANSFER_MS_MAX)
        if not administrative:
            await self._stream(call, wanted, wire)
            return
        async with self._administration.act(call, _target_of(wanted)):
            await self._stream(call, wanted, wire)

    def _wanted(self, call: Call, request: pb.ExportRequest) -> tuple[Wanted, bool]:
        """Return what the caller wants and may have, and whether it may by a right over all of the namespace."""
        codec = request.codec or CODECS[0]
        if codec not in CODECS:
            raise bad_field("codec", f"must be one of: {', '.join(CODECS)}.")
        database = request.database if request.HasField("database") else None
        if database is None and request.prefix:
            raise bad_field("prefix", "needs a database.")
        if database is not None and request.members:
            raise bad_field("members", "needs all rows: no database.")
        if database is not None:
            prefix_span(0, check_database(database), request.prefix)
        record: NamespaceRecord | None = call.record
        if request.HasField("namespace"):
            record = find_namespace(self._registry, request.namespace)
        target = ExportTarget(None if record is None else record.id, database, request.prefix, request.members)

        def check(session: Session) -> None:
            check_export(session, target)

        administrative = check_export(call.session, target)
        call.needs = check
        wanted = Wanted(
            known(record), database, request.prefix, members=request.members, labels=administrative, codec=codec
        )
        return wanted, administrative

    async def _stream(self, call: Call, wanted: Wanted, wire: Wire) -> None:
        with self._held(call, wanted.record):
            pool = call.session.namespace_id
            exporter = Exporter(self._store, self._clock, wanted)
            ahead: asyncio.Task[Piece | None] | None = None
            try:
                size = await self._workers.run(pool, lambda: self._store.span_size(wanted.rows_span))
                ahead = asyncio.create_task(self._workers.run(pool, exporter.next))
                while (piece := await ahead) is not None:
                    ahead = asyncio.create_task(self._workers.run(pool, exporter.next))
                    for frame in piece.frames:
                        call.refresh()
                        self._check_foreign(call, wanted.record)
                        answer = pb.ExportResponse(
                            frame=frame, rows_done=piece.rows_done, rows_estimate=max(size.rows, piece.rows_done)
                        )
                        await wire.send(answer)
            finally:
                if ahead is not None:
                    ahead.cancel()
                exporter.close()

    @contextlib.contextmanager
    def _held(self, call: Call, record: NamespaceRecord) -> Iterator[None]:
        """Hold a namespace that is not the caller's own while inside."""
        stream = call.stream
        if record.id == call.session.namespace_id or stream is None:
            self._check_foreign(call, record)
            yield
            return
        with self._streams.hold(record.id, lambda: self._check_foreign(call, record), stream.cut):
            yield

    def _check_foreign(self, call: Call, record: NamespaceRecord) -> None:
        """Raise unless a namespace that is not the caller's own may still be read; its own is ``call.refresh``'s.

        One that is suspended may: whoever looks after the cluster takes a copy before deciding what becomes of it.
        """
        if record.id == call.session.namespace_id:
            return
        now = self._registry.get(record.id)
        if now is None or now.incarnation != record.incarnation or not now.state.is_live:
            raise banned()


def banned() -> PrefixdbError:
    """Return the error for a namespace that was dropped while it was being worked on."""
    return error(Reason.NAMESPACE_BANNED)


def _target_of(wanted: Wanted) -> str:
    """Return what an audit line says of an export; prefixes are tenants' data and are not in it."""
    parts = [describe(wanted.record)]
    if wanted.database is not None:
        parts.append(f"database {wanted.database}" + (", a prefix" if wanted.prefix else ""))
    if wanted.members:
        parts.append("with members")
    return ", ".join(parts)
