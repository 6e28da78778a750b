"""Backup and ListBans: the whole store out of the server.

    client                          server
    BackupBegin            ──►      audit
                           ◄──      BackupHashing* while files are read for their sums, before and after the snapshot
                           ◄──      BackupFacts, BackupFiles+
    BackupWanted           ──►
                           ◄──      BackupChunk*, and OK

One at a time: a snapshot keeps files on the disk that compaction has replaced, and the bytes of dropped namespaces with
them. It is closed whatever becomes of the client: a thread that reads is told to stop, waited for, and then it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from prefixdb.backup.bans import banned_issues
from prefixdb.backup.snapshot import Facts, ListedFile, StoreBackup
from prefixdb.backup.sums import OnProgress, Sums
from prefixdb.catalog.namespaces import Registry
from prefixdb.clock import Clock
from prefixdb.errors import Reason, bad_field, error
from prefixdb.limits import BACKUP_CHUNK_BYTES, TRANSFER_MS_MAX, TRANSFER_PATIENCE_MS_MAX
from prefixdb.repository.bans import BannedIssue
from prefixdb.service.administration import Act, Administration
from prefixdb.service.calls import Call, Wire, parse
from prefixdb.service.messages import timestamp
from prefixdb.store.base import Store
from prefixdb.v1 import transfer_pb2 as pb

FILES_PAGE = 1_000
"""Files in one message of the list."""

BANS_PAGE = 1_000
"""Bans in one message."""

HASHING_TOLD_S = 0.2
"""Pause between two messages about how far the reading is."""

_LOOK_S = 0.01

_Result = TypeVar("_Result")


class Backups:
    """Backup and ListBans. Belongs to the event loop's thread.

    Args:
        store, registry, clock: of the server.
        administration: the audit around acts.
        data_dir: of the server.
    """

    def __init__(
        self, store: Store, registry: Registry, clock: Clock, *, administration: Administration, data_dir: Path
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._administration = administration
        self._data_dir = data_dir
        self._sums = Sums()
        self._one = asyncio.Lock()

    async def take(self, call: Call, wire: Wire) -> None:
        """Show the files of the whole store at one instant and send those the client wants.

        Raises:
            InvalidArgumentError: BAD_FIELD, the client's messages are not a BackupBegin and a BackupWanted.
            FailedPreconditionError: BACKUP_RUNNING.
            UnavailableError: AUDIT_UNAVAILABLE; the disk refuses.
        """
        wire.patience_ms = wire.idle_ms = TRANSFER_PATIENCE_MS_MAX
        wire.end_within(TRANSFER_MS_MAX)
        await _receive(wire, "begin")
        call.refresh()
        if self._one.locked():
            raise error(Reason.BACKUP_RUNNING)
        async with self._one, self._administration.act(call, "the whole store") as act:
            backup = StoreBackup(self._store, self._registry, self._clock, self._data_dir, self._sums)
            try:
                await self._run(call, wire, backup, act)
            finally:
                await _in_thread(backup.close, lambda: None)

    async def list_bans(self, call: Call, wire: Wire) -> None:
        """Stream every ban there ever was."""
        await self._administration.done(call, "the list of all bans")
        bans = await asyncio.to_thread(banned_issues, self._registry, self._store)
        for begin in range(0, len(bans), BANS_PAGE):
            call.refresh()
            await wire.send(pb.ListBansResponse(bans=map(_ban_message, bans[begin : begin + BANS_PAGE])))

    async def drain(self) -> None:
        """Return when no backup has a snapshot any more; the calls were cut before."""
        async with self._one:
            pass

    async def _run(self, call: Call, wire: Wire, backup: StoreBackup, act: Act) -> None:
        begun = self._clock.now_ms() // 1_000
        await self._reading(call, wire, backup, backup.read_ahead)
        await self._leave_second(begun)
        facts = await _in_thread(backup.open, backup.stop)
        act.target = f"the whole store at version {facts.last_version}"
        files: list[ListedFile] = await self._reading(call, wire, backup, backup.read_sums)
        call.refresh()
        await wire.send(pb.BackupResponse(facts=_facts_message(facts)))
        for begin in range(0, len(files), FILES_PAGE):
            page = files[begin : begin + FILES_PAGE]
            last = begin + FILES_PAGE >= len(files)
            call.refresh()
            await wire.send(pb.BackupResponse(files=pb.BackupFiles(files=map(_file_message, page), last=last)))
        wanted = _checked((await _receive(wire, "wanted")).wanted.files, len(files))
        act.target += f": {len(wanted)} of {len(files)} files"
        call.refresh()
        async with contextlib.aclosing(_ahead(backup, wanted)) as chunks:
            async for position, data in chunks:
                call.refresh()
                await wire.send(_chunk_message(position, data))

    async def _leave_second(self, begun: int) -> None:
        """Wait until the second is over in which the call came: a token tells its time in whole ones, and a restored
        store believes those of the seconds that were over at the backup's instant. So nobody's token of before is lost.
        Most often that has happened while files were read."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + 1  # A clock may stand still.
        while loop.time() < latest:
            if self._clock.now_ms() // 1_000 > begun:
                return
            await asyncio.sleep(_LOOK_S)

    async def _reading(
        self, call: Call, wire: Wire, backup: StoreBackup, read: Callable[[OnProgress], _Result]
    ) -> _Result:
        """Read files in a thread and tell the client how far that is."""
        progress = (0, 0)

        def remember(done: int, total: int) -> None:
            nonlocal progress
            progress = (done, total)

        reading = asyncio.create_task(asyncio.to_thread(read, remember))
        try:
            while not (await asyncio.wait((reading,), timeout=HASHING_TOLD_S))[0]:
                call.refresh()
                done, total = progress
                hashing = pb.BackupHashing(bytes_done=done, bytes_total=total)
                await wire.send(pb.BackupResponse(hashing=hashing))
            return await reading
        finally:
            if not reading.done():
                backup.stop()
                await _settled(reading)


async def _receive(wire: Wire, which: str) -> pb.BackupRequest:
    """Return the client's next message, which has to be of one kind."""
    raw = await wire.receive()
    if raw is None:
        raise bad_field("request", f"must be a {which}; the client ended its side.")
    request: pb.BackupRequest = parse(pb.BackupRequest, raw)
    if request.WhichOneof("request") != which:
        raise bad_field("request", f"must be a {which} now.")
    return request


def _checked(files: Sequence[int], count: int) -> list[int]:
    """Return the positions a client wants, ascending, each once."""
    if len(files) > count:  # Before they are made objects: a message has room for millions.
        raise bad_field("wanted.files", f"must be below {count}, each position once.")
    wanted = list(files)
    if any(below >= above for below, above in itertools.pairwise(wanted)):
        raise bad_field("wanted.files", "must ascend, each position once.")
    if wanted and wanted[-1] >= count:
        raise bad_field("wanted.files", f"must be below {count}.")
    return wanted


async def _ahead(backup: StoreBackup, wanted: Sequence[int]) -> AsyncGenerator[tuple[int, bytes], None]:
    """Yield the chunks of the wanted files; a thread reads the next one while the client takes the one before."""
    chunks = backup.chunks(wanted, BACKUP_CHUNK_BYTES)
    reading = asyncio.create_task(asyncio.to_thread(next, chunks, None))
    try:
        while (chunk := await asyncio.shield(reading)) is not None:
            reading = asyncio.create_task(asyncio.to_thread(next, chunks, None))
            yield chunk
    finally:
        backup.stop()
        await _settled(reading)
        chunks.close()


async def _in_thread(function: Callable[[], _Result], on_cancel: Callable[[], None]) -> _Result:
    """Return what ``function`` returns, called in a thread. Who is cancelled meanwhile waits until it has returned."""
    work = asyncio.create_task(asyncio.to_thread(function))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        on_cancel()
        await _settled(work)
        raise


async def _settled(work: asyncio.Task[Any]) -> None:
    """Wait for the end of work that nobody wants any more, however often this is cancelled."""
    while not work.done():
        with contextlib.suppress(asyncio.CancelledError):  # The caller is ending already.
            await asyncio.wait((work,))
    if not work.cancelled():
        work.exception()  # Looked at, so that nobody reports it as lost.


def _chunk_message(position: int, data: bytes) -> pb.BackupResponse:
    message = pb.BackupResponse()
    message.chunk.file = position
    message.chunk.data = data  # A chunk that is made first and then put in would be copied once more.
    return message


def _facts_message(facts: Facts) -> pb.BackupFacts:
    return pb.BackupFacts(
        taken_at=timestamp(facts.taken_at_ms),
        server_version=facts.server_version,
        store=facts.store,
        engine=facts.engine,
        last_version=facts.last_version,
        namespaces_live=facts.namespaces_live,
        namespaces_banned=facts.namespaces_banned,
        store_id=facts.store_id,
        restored_from=facts.restored_from,
    )


def _file_message(file: ListedFile) -> pb.BackupFile:
    return pb.BackupFile(path=file.path, size=file.size, sha256=file.sha256)


def _ban_message(ban: BannedIssue) -> pb.BannedIssue:
    return pb.BannedIssue(
        namespace_id=ban.namespace_id,
        incarnation=ban.incarnation,
        name=ban.name,
        banned_at=timestamp(ban.banned_at_ms),
        banned_by=ban.banned_by,
        reason=ban.reason,
        reclaim_after=timestamp(ban.reclaim_after_ms),
        reclaimed=ban.reclaimed,
    )
