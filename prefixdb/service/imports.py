"""Import: an archive's rows into a namespace that lives.

    frames ──► spool, checked one by one ──► footer ──► record (from here on the server finishes by itself) ──► rows

What the call does ends with the call; what the import does is ``ImportJobs``'.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable

from prefixdb.archive import damaged
from prefixdb.backup.import_record import ImportPhase, ImportRecord, OnConflict, decode_import
from prefixdb.backup.spool import Spool
from prefixdb.catalog.policy import Access, Session
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, bad_field
from prefixdb.limits import TRANSFER_PATIENCE_MS_MAX
from prefixdb.service.calls import Call, Wire, parse
from prefixdb.service.import_jobs import ImportJobs
from prefixdb.service.uploads import Settings, Upload, UploadKey
from prefixdb.service.workers import Workers
from prefixdb.store.base import Store
from prefixdb.v1 import transfer_pb2 as pb

TOLD_EVERY_S = 0.5
"""Pause between two words to the client about how far it is, when something has changed."""

TOLD_AT_LEAST_EVERY_S = 2.0

_UPLOAD = re.compile(r"[0-9a-f]{32}", re.ASCII)


class Imports:
    """Import: an archive's rows into a namespace that lives. Belongs to the event loop's thread.

    Args:
        store: for the records of imports that are over.
        clock: for lifetimes.
        jobs: the uploads, and what becomes of them.
        workers: threads for what a call waits for.
        value_bytes_max: largest value taken.
    """

    def __init__(self, store: Store, clock: Clock, *, jobs: ImportJobs, workers: Workers, value_bytes_max: int) -> None:
        self._store = store
        self._clock = clock
        self._jobs = jobs
        self._workers = workers
        self._value_bytes_max = value_bytes_max

    async def run(self, call: Call, wire: Wire) -> None:
        """Take an archive in, or go on with it, and tell what becomes of it.

        Raises:
            InvalidArgumentError: BAD_FIELD, ARCHIVE_INVALID, VALUE_TOO_LARGE; nothing was changed.
            AlreadyExistsError: IMPORT_CONFLICT; nothing was changed.
            FailedPreconditionError: READ_ONLY, FORMAT_TOO_NEW.
            PermissionDeniedError: NOT_PERMITTED, NAMESPACE_BANNED, NAMESPACE_SUSPENDED.
            ResourceExhaustedError: TOO_MANY_STREAMS, too many imports at once; DISK_FULL.
        """
        wire.patience_ms = TRANSFER_PATIENCE_MS_MAX
        call.refresh(Access.WRITE)
        begin, settings = _begin_of(await wire.receive())
        session = call.refresh(Access.WRITE)
        key = UploadKey.of(session, begin.upload)
        upload = await self._jobs.find(key)
        if upload is None:
            row = self._store.get(key.target.record_key)
            record = None if row is None else decode_import(row)
            if record is not None and record.is_over and not settings.dry_run:
                await wire.send(_ready(record.frames, record.digest, record.rows))
                await wire.send(_outcome(record))
                return
            session = call.refresh(Access.WRITE)
            upload = self._jobs.open(key, settings)
        elif upload.settings != settings:
            raise bad_field("upload", "names an upload that was begun with other settings.")
        if call.stream is None:
            raise RuntimeError("an import is a stream")
        async with self._jobs.attached(upload, call.stream):
            if upload.job is None:
                await self._receive(call, wire, upload)
            elif upload.record is not None:
                await wire.send(_ready(upload.record.frames, upload.record.digest, upload.record.rows))
            await self._follow(call, wire, upload)

    async def _receive(self, call: Call, wire: Wire, upload: Upload) -> None:
        """Take frames until the client says that there are no more, and begin the import."""
        spool = upload.spool
        if spool is None:
            raise RuntimeError("an upload without a spool is being applied")
        call.refresh(Access.WRITE)
        await wire.send(_ready(spool.reader.frames, spool.reader.digest, upload.rows))
        try:
            await self._take_frames(call, wire, upload, spool)
            await self._check_again(call, upload)
        except PrefixdbError as failure:
            if upload.failure is not None or failure.reason not in _KEPT_AFTER:
                self._jobs.drop(upload)
            raise
        self._jobs.begin(upload)

    async def _take_frames(self, call: Call, wire: Wire, upload: Upload, spool: Spool) -> None:
        """Take frames until there are no more: what follows the footer makes the archive another than the client sent,
        and must not be found out when its rows are there. The next frame travels while this one is checked."""
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        taken: asyncio.Future[object] | None = None
        while True:
            raw = await wire.receive()
            if taken is not None:
                await taken
            if raw is None:  # Also what is seen of a client that goes away.
                if spool.ended:
                    return
                raise damaged(spool.reader.place, "The archive is cut short: there is no footer.")
            frame = _frame_of(raw)
            session = call.refresh(Access.WRITE)
            taken = asyncio.ensure_future(upload.work(self._workers, self._taking(upload, frame, session)))
            if loop.time() - told_at > TOLD_EVERY_S:
                told_at = loop.time()
                await wire.send(pb.ImportResponse(phase=pb.TRANSFER_PHASE_RECEIVING, rows_received=upload.rows))

    def _taking(self, upload: Upload, frame: bytes, session: Session) -> Callable[[], object]:
        now_ms, value_bytes_max = self._clock.now_ms(), self._value_bytes_max
        return lambda: upload.take(frame, session, value_bytes_max=value_bytes_max, now_ms=now_ms)

    async def _check_again(self, call: Call, upload: Upload) -> None:
        """Return when the caller's rights, as they are now, cover every row."""
        session = call.refresh(Access.WRITE)
        while upload.rows and not upload.was_checked_against(session):
            await upload.work(self._workers, functools.partial(upload.recheck, session))
            session = call.refresh(Access.WRITE)

    async def _follow(self, call: Call, wire: Wire, upload: Upload) -> None:
        """Tell how far the import is until it is over."""
        loop = asyncio.get_running_loop()
        told: tuple[bool, int] | None = None
        told_at = 0.0
        while not upload.result.done():
            progress = upload.importer.progress
            state = progress.checking, progress.rows_done
            if state != told or loop.time() - told_at > TOLD_AT_LEAST_EVERY_S:
                told, told_at = state, loop.time()
                call.refresh()
                phase = pb.TRANSFER_PHASE_CHECKING if progress.checking else pb.TRANSFER_PHASE_APPLYING
                rows = upload.rows if upload.record is None else upload.record.rows
                await wire.send(pb.ImportResponse(phase=phase, rows_received=rows, rows_done=progress.rows_done))
            await asyncio.wait([upload.result], timeout=TOLD_EVERY_S)
        record = upload.result.result()
        call.refresh()
        await wire.send(_outcome(record))


_KEPT_AFTER = frozenset(
    {
        Reason.READ_ONLY,
        Reason.NAMESPACE_SUSPENDED,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_REVOKED,
        Reason.DRAINING,
        Reason.DEADLINE,
        Reason.ARCHIVE_INVALID,
    }
)
"""Failures of the call, not of what has come: it may go on with another token, or later. An archive that is cut short
may be the upload of a client that went away in this moment; one that is wrong is the upload's own failure."""


def _begin_of(raw: bytes | None) -> tuple[pb.ImportBegin, Settings]:
    """Return the first message."""
    request = parse(pb.ImportRequest, raw or b"")
    if request.WhichOneof("request") != "begin":
        raise bad_field("begin", "must come first.")
    begin: pb.ImportBegin = request.begin
    if not _UPLOAD.fullmatch(begin.upload):
        raise bad_field("upload", "must be 32 hex digits, in small letters.")
    if begin.on_conflict not in OnConflict._value2member_map_:
        raise bad_field("on_conflict", "must be fail, skip or overwrite.")
    settings = Settings(OnConflict(begin.on_conflict), begin.dry_run, begin.keep_version_order)
    return begin, settings


def _frame_of(raw: bytes | None) -> bytes:
    request = parse(pb.ImportRequest, raw or b"")
    if request.WhichOneof("request") != "frame":
        raise bad_field("frame", "must come after begin.")
    frame: bytes = request.frame
    return frame


def _ready(frames: int, digest: bytes, rows: int) -> pb.ImportResponse:
    return pb.ImportResponse(
        phase=pb.TRANSFER_PHASE_READY, frames_kept=frames, digest=digest if frames else b"", rows_received=rows
    )


def _outcome(record: ImportRecord) -> pb.ImportResponse:
    """Return the last message of an import that is over; raises why it failed."""
    if record.phase is not ImportPhase.DONE:
        failure = record.failure()
        raise failure if failure is not None else RuntimeError("the import is not over")
    return pb.ImportResponse(
        phase=pb.TRANSFER_PHASE_DONE,
        rows_received=record.rows,
        rows_done=record.position,
        rows_inserted=record.inserted,
        rows_replaced=record.replaced,
        rows_skipped=record.skipped,
        rows_expired=record.expired,
        way=record.way,
    )
