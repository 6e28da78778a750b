"""RestoreNamespace and CloneNamespace: a new namespace, unseen until it is whole.

    client ──frames──► spool, each judged ──footer──►┐
                                                     ├─► act: stage, fill, finish; a thread of its own, see ``building``
    CloneNamespace ──────────────────────────────────┘

The name and the number are promised before the first frame is taken, so that nobody learns after an hour that they are
gone. The act goes on by itself to its end, which comes soon when the client has gone or its rights have: then the
namespace is given up, and reclaimed like any other that was banned.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from prefixdb.backup.building import Builder, Content, Plan
from prefixdb.backup.cloning import CloneContent
from prefixdb.backup.restoring import Arrival, RestoreContent
from prefixdb.backup.spool import Spool
from prefixdb.backup.spool_room import SpoolRoom
from prefixdb.catalog.directory import Reservation
from prefixdb.catalog.entities import DEFAULT_NAMESPACE_ID, NamespaceRecord
from prefixdb.catalog.grants import Grants
from prefixdb.catalog.incoming import Incoming
from prefixdb.catalog.names import check_name
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import Session, check_clone, check_target
from prefixdb.catalog.staging import check_source
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, bad_field, error
from prefixdb.limits import NAMESPACE_ID_MAX, TRANSFER_PATIENCE_MS_MAX
from prefixdb.service.administration import Administration
from prefixdb.service.calls import Call, Wire, parse
from prefixdb.service.import_jobs import FOLDER
from prefixdb.service.messages import describe, find_namespace, known, namespace_message
from prefixdb.service.streams import OpenStreams
from prefixdb.service.workers import Workers
from prefixdb.store.base import Store
from prefixdb.v1 import transfer_pb2 as pb

BUILDING_MAX = 8
"""Namespaces that may be in the making at a time, uploads included. Each has a thread, a spool or an old view."""

RETRY_MS = 5_000
"""When to come again beyond it."""

TOLD_S = 0.25
"""Pause between two messages about how far it is, and the longest time until a client hears that it was cut."""

_SPOOL_NAME = "restore-{}.spool"
"""Not the name of an upload, so whoever resumes imports at the next start removes what a killed server left."""

_POOL = 0
_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Making:
    """One namespace that is not there yet: all that has to be let go of when it is, or never will be."""

    builder: Builder
    reservation: Reservation | None = None
    spool: Spool | None = None
    rows_received: int = 0
    is_act: bool = False
    """The act has begun: it lets go at its end, whatever becomes of the call."""


class Staging:
    """RestoreNamespace and CloneNamespace. Belongs to the event loop's thread.

    Args:
        store, registry, clock: of the server.
        grants: tell who is kept out of what.
        administration: the audit around acts; finishes what was begun.
        streams: where a source is held while it is read.
        data_dir: of the server.
        room: what spools may take of the disk.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        clock: Clock,
        *,
        grants: Grants,
        administration: Administration,
        streams: OpenStreams,
        data_dir: Path,
        room: SpoolRoom,
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._grants = grants
        self._administration = administration
        self._streams = streams
        self._spools = data_dir / FOLDER
        self._room = room
        self._workers = Workers(2 * BUILDING_MAX, "staging")
        self._building = 0

    def close(self) -> None:
        """Take no more work."""
        self._workers.close()

    # --- clone -----------------------------------------------------------------------------------------------------

    async def clone(self, call: Call, request: pb.CloneNamespaceRequest, wire: Wire) -> None:
        """Make a new namespace with the rows another one has at one instant.

        Raises:
            InvalidArgumentError: BAD_NAME, BAD_FIELD (source, id).
            NotFoundError: NAMESPACE_NOT_FOUND, of the source.
            AlreadyExistsError: NAMESPACE_EXISTS.
            FailedPreconditionError: NAMESPACE_NOT_EMPTY, of the number; NAMESPACE_STATE, the source is banned, or
                either of them was meanwhile.
            PermissionDeniedError: NOT_PERMITTED.
            ResourceExhaustedError: RATE_LIMITED.
        """
        name, chosen, source = check_name(request.name), _chosen_id(request), self._source(call, request)
        wire.patience_ms = TRANSFER_PATIENCE_MS_MAX
        async with self._making() as making:
            reservation = await self._reserve(making, name, chosen)
            progress = making.builder.progress

            def content() -> Content:
                target_id = reservation.namespace_id
                incoming = Incoming(target_id, self._clock.now_ms()) if request.members else None
                return CloneContent(self._store, source.id, target_id, incoming=incoming, progress=progress)

            def message(phase: pb.TransferPhase, record: NamespaceRecord | None) -> pb.CloneNamespaceResponse:
                return pb.CloneNamespaceResponse(
                    phase=phase,
                    rows_done=progress.rows_done,
                    rows_estimate=max(progress.rows_estimate, progress.rows_done),
                    members=progress.members,
                    groups=progress.groups,
                    namespace=self._message(record),
                )

            reason = f"being cloned from namespace {source.id}"
            plan = Plan(reservation, _who(call), reason, source.labels, source=source)
            target = f"namespace {reservation.namespace_id} {name}, a clone of {describe(source)}"
            await self._follow(call, wire, self._act(call, target, making, plan, content), making, message)

    def _source(self, call: Call, request: pb.CloneNamespaceRequest) -> NamespaceRecord:
        """Return the namespace to clone, when the caller may have another one like it."""
        if not request.HasField("source"):
            raise bad_field("source", "must have an id or a name.")
        found = find_namespace(self._registry, request.source)
        check_target(call.session, call.method.capability, found.id if found else None)
        source = known(found)

        def check(session: Session) -> None:
            check_clone(session, source.id, held_back=self._grants.is_held_back(session.subject, source))

        check(call.session)
        call.needs = check  # A clone takes its time, and what was said can change.
        check_source(source, source)
        return source

    # --- restore ---------------------------------------------------------------------------------------------------

    async def restore(self, call: Call, wire: Wire) -> None:
        """Make a new namespace from an archive.

        Raises:
            InvalidArgumentError: BAD_NAME, BAD_FIELD (begin, frame, id), ARCHIVE_INVALID.
            AlreadyExistsError: NAMESPACE_EXISTS.
            FailedPreconditionError: NAMESPACE_NOT_EMPTY, of the number; FORMAT_TOO_NEW; NAMESPACE_STATE, it was banned
                meanwhile.
            ResourceExhaustedError: RATE_LIMITED, DISK_FULL.
        """
        wire.patience_ms = wire.idle_ms = TRANSFER_PATIENCE_MS_MAX
        begin = await _begin_of(wire)
        name, chosen = check_name(begin.name) if begin.name else "", _chosen_id(begin)
        async with self._making() as making:
            path = self._spools / _SPOOL_NAME.format(secrets.token_hex(16))
            spool = making.spool = await self._thread(
                lambda: Spool.create(path, self._room.share(DEFAULT_NAMESPACE_ID), self._store.rows_scanner)
            )
            arrival = Arrival(spool, self._clock, members=begin.members)
            await wire.send(pb.RestoreNamespaceResponse(phase=pb.TRANSFER_PHASE_READY))
            await self._take(call, wire, arrival)
            header = arrival.header
            reservation = await self._reserve(making, check_name(name or header.namespace), chosen)
            await self._take(call, wire, arrival, until_whole=True)
            progress, making.rows_received = making.builder.progress, arrival.rows

            def content() -> Content:
                return RestoreContent(
                    spool,
                    self._store,
                    self._clock,
                    reservation.namespace_id,
                    members=begin.members,
                    progress=progress,
                    check=making.builder.check,
                )

            def message(phase: pb.TransferPhase, record: NamespaceRecord | None) -> pb.RestoreNamespaceResponse:
                return pb.RestoreNamespaceResponse(
                    phase=phase,
                    rows_received=arrival.rows,
                    rows_done=progress.rows_done + progress.rows_expired,
                    rows_expired=progress.rows_expired,
                    members=progress.members,
                    groups=progress.groups,
                    namespace=self._message(record),
                )

            plan = Plan(reservation, _who(call), "being restored from an archive", header.labels)
            archive = f"archive {spool.reader.digest.hex()[:16]} of {arrival.rows} rows"
            target = f"namespace {reservation.namespace_id} {reservation.name}, from {archive}"
            await self._follow(call, wire, self._act(call, target, making, plan, content), making, message)

    async def _take(self, call: Call, wire: Wire, arrival: Arrival, *, until_whole: bool = False) -> None:
        """Take the next frame, or all of them until the client says that there are no more."""
        told_at = self._streams.time()
        while True:
            raw = await wire.receive()
            call.refresh()
            if raw is None:
                arrival.end()  # Raises when the footer has not come.
                return
            request = parse(pb.RestoreNamespaceRequest, raw)
            if request.WhichOneof("request") != "frame":
                raise bad_field("frame", "must be all that comes after begin.")
            await self._thread(partial(arrival.add, request.frame))
            raw = request = None
            if not until_whole:
                return
            if self._streams.time() - told_at >= TOLD_S:
                told_at = self._streams.time()
                received = pb.RestoreNamespaceResponse(phase=pb.TRANSFER_PHASE_RECEIVING, rows_received=arrival.rows)
                await wire.send(received)

    # --- both ------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _making(self) -> AsyncIterator[_Making]:
        """Count one more that is being made, and let go of everything when it does not come to an act.

        Raises:
            ResourceExhaustedError: RATE_LIMITED.
        """
        if self._building >= BUILDING_MAX:
            message = f"{BUILDING_MAX} namespaces are being restored or cloned; wait for one of them."
            raise error(Reason.RATE_LIMITED, message, retry_after_ms=RETRY_MS)
        self._building += 1
        making = _Making(Builder(self._store, self._registry))
        try:
            yield making
        finally:
            if not making.is_act:
                await self._let_go(making)

    async def _let_go(self, making: _Making) -> None:
        """Free what was taken for a namespace that is there by now, or never will be."""

        def let_go() -> None:
            try:
                if making.spool is not None:
                    making.spool.close(delete=True)
            finally:  # A file the disk does not remove must not keep the name taken; the next start removes it.
                if making.reservation is not None:
                    self._registry.staging.abandon(making.reservation, "not begun")

        try:
            await self._thread(let_go)
        finally:
            self._building -= 1

    async def _reserve(self, making: _Making, name: str, namespace_id: int | None) -> Reservation:
        """Have a name and a number promised to what is being made."""

        def reserve() -> Reservation:
            making.reservation = self._registry.staging.reserve(name, namespace_id)
            return making.reservation

        return await self._thread(reserve)

    async def _act(
        self, call: Call, target: str, making: _Making, plan: Plan, content: Callable[[], Content]
    ) -> NamespaceRecord:
        """Do the audited act; it goes on when the call has ended, until the builder has."""
        try:
            async with self._administration.act(call, target):
                with self._held(plan.source, making.builder):
                    return await self._thread(lambda: making.builder.run(plan, content))
        finally:
            await self._let_go(making)

    @contextlib.contextmanager
    def _held(self, source: NamespaceRecord | None, builder: Builder) -> Iterator[None]:
        """Hold the source while it is read; a ban of it ends the building."""
        if source is None:
            yield
            return
        with self._streams.hold(source.id, lambda: check_source(self._registry.get(source.id), source), builder.stop):
            yield

    async def _follow(
        self,
        call: Call,
        wire: Wire,
        act: Coroutine[Any, Any, NamespaceRecord],
        making: _Making,
        message: Callable[[pb.TransferPhase, NamespaceRecord | None], Any],
    ) -> None:
        """Tell the client how far the act is. It comes to nothing with the call, or with the caller's right to it."""
        builder = making.builder
        making.is_act = True
        task = asyncio.create_task(self._administration.finish(act))
        task.add_done_callback(_looked_at)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=TOLD_S)
                if task.done():
                    break
                call.refresh()
                if builder.stopped is not None:
                    raise builder.stopped
                checking = builder.progress.checking
                phase = pb.TRANSFER_PHASE_CHECKING if checking else pb.TRANSFER_PHASE_APPLYING
                await wire.send(message(phase, None))
            record = task.result()
        except PrefixdbError as refusal:
            builder.stop(refusal)
            raise
        except asyncio.CancelledError:
            cut = call.stream.cut_error if call.stream is not None else None
            builder.stop(cut if cut is not None else error(Reason.CANCELLED))
            raise
        await wire.send(message(pb.TRANSFER_PHASE_DONE, record))

    async def _thread(self, function: Callable[[], _Result]) -> _Result:
        """Return what a function returns that runs in a thread. Whoever is cancelled waits for its end all the same:
        it works on what is let go of next."""
        task = asyncio.create_task(self._workers.run(_POOL, function))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            _looked_at(task)
            raise

    def _message(self, record: NamespaceRecord | None) -> Any:
        return None if record is None else namespace_message(record, None)


def _looked_at(task: asyncio.Task[Any]) -> None:
    """Take note of how a task ended; nobody else may."""
    if not task.cancelled():
        task.exception()


async def _begin_of(wire: Wire) -> pb.RestoreNamespaceBegin:
    """Return the client's first message."""
    raw = await wire.receive()
    request = parse(pb.RestoreNamespaceRequest, raw or b"")
    if request.WhichOneof("request") != "begin":
        raise bad_field("begin", "must come first.")
    begin: pb.RestoreNamespaceBegin = request.begin
    return begin


def _chosen_id(request: pb.CloneNamespaceRequest | pb.RestoreNamespaceBegin) -> int | None:
    """Return the number that is asked for, None for any."""
    if not request.HasField("id"):
        return None
    if not 1 <= request.id <= NAMESPACE_ID_MAX:
        raise bad_field("id", "must be between 1 and 2^64-2.")
    return int(request.id)


def _who(call: Call) -> str:
    return f"{call.session.subject}@{call.session.namespace_id}"
