"""What becomes of uploads: who is attached, how many there may be, how long they are kept, and their imports.

An import's job is a task of the server, not of a call. It ends with the namespace's ban, with the server's end (another
start goes on with it) and when it is done. Spools are in DATA/imports; what is found there at a start is either the
archive of an import that has begun, which goes on, or nobody's, and removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from prefixdb.backup.import_ledger import ImportParkedError, ImportStoppedError, live_record
from prefixdb.backup.import_record import ImportRecord, decode_import
from prefixdb.backup.importing import Importer
from prefixdb.backup.spool import Spool
from prefixdb.backup.spool_room import SpoolRoom, SpoolShare
from prefixdb.catalog.namespaces import Registry
from prefixdb.clock import Clock
from prefixdb.disk import sync_directory
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import IMPORT_KEPT_MS, IMPORTS_MAX, IMPORTS_PER_NAMESPACE_MAX
from prefixdb.service.calls import internal_error
from prefixdb.service.streams import OpenStreams, Stream
from prefixdb.service.uploads import Settings, Upload, UploadKey
from prefixdb.service.workers import Workers
from prefixdb.store.base import Store

FOLDER = "imports"
"""Where spools are, in the data directory."""

REMOVED_AGAIN_S = 1.0
"""Pause before a spool that the disk did not remove is removed again."""

PARKED_LOOK_S = 0.2
"""Pause between two looks whether a namespace takes rows again."""

_LOG = logging.getLogger("prefixdb.imports")


class ImportJobs:
    """The uploads of all namespaces. Belongs to the event loop's thread.

    Making it removes what an earlier process has left and is nobody's, and goes on with what it has left undone; so it
    is made before bans are published.

    Args:
        folder: of the spools.
        room: what spools may take of the disk.
        workers: threads that an import keeps for as long as it takes; others than those of calls.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        clock: Clock,
        *,
        folder: Path,
        room: SpoolRoom,
        streams: OpenStreams,
        workers: Workers,
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._folder = folder
        self._room = room
        self._streams = streams
        self._workers = workers
        self._uploads: dict[UploadKey, Upload] = {}
        self._closing = False
        self._stopped = asyncio.Event()
        self._resume()

    def __len__(self) -> int:
        return len(self._uploads)

    async def find(self, key: UploadKey) -> Upload | None:
        """Return the upload of this key, None when there is none; waits for one that is just being removed."""
        while (upload := self._uploads.get(key)) is not None:
            if upload.dropping is None:
                return upload
            await upload.gone.wait()
        return None

    def open(self, key: UploadKey, settings: Settings) -> Upload:
        """Begin an upload.

        Raises:
            ResourceExhaustedError: TOO_MANY_STREAMS, there are too many; DISK_FULL.
            NamespaceBannedError: NAMESPACE_BANNED.
            UnavailableError: DRAINING; READ_ONLY_STORE.
        """
        self._streams.check_draining()
        self._make_room(key)
        upload = self._new(key, settings)
        try:
            upload.spool = Spool.create(upload.path, self._share(upload), self._store.rows_scanner)
        except PrefixdbError:
            self._forget(upload)
            raise
        return upload

    @contextlib.asynccontextmanager
    async def attached(self, upload: Upload, stream: Stream) -> AsyncIterator[None]:
        """Belong to the call of ``stream`` while inside. The call that was attached before is ended: its client has
        come again, because for it that call is over."""
        while upload.owner is not None:
            upload.owner.cut(error(Reason.CANCELLED, "The upload goes on in another call."))
            await upload.detached.wait()
        upload.owner = stream
        upload.detached.clear()
        try:
            await upload.settle()
            # What is over is only told; what was given up meanwhile is not there to go on with.
            if upload.dropping is not None and not upload.result.done():
                raise upload.failure or error(Reason.CANCELLED, "The upload was given up meanwhile.")
            yield
        finally:
            upload.owner = None
            upload.detached.set()
            upload.kept_until_ms = self._clock.now_ms() + IMPORT_KEPT_MS
            if upload.settings.dry_run and upload.job is not None:
                self.drop(upload)

    def begin(self, upload: Upload) -> None:
        """Begin the import of an upload that is whole."""
        upload.job = asyncio.create_task(self._import(upload))

    def drop(self, upload: Upload) -> None:
        """Remove an upload with its spool; what of it is at work is told to end. Harmless when called again."""
        if upload.dropping is None:
            upload.importer.stop()
            upload.dropping = asyncio.create_task(self._drop(upload))

    def look(self) -> None:
        """Remove uploads that were kept long enough; called by the sweep."""
        now_ms = self._clock.now_ms()
        for upload in list(self._uploads.values()):
            if upload.is_idle and upload.kept_until_ms <= now_ms:
                self.drop(upload)

    async def close(self) -> None:
        """Stop everything. Imports that have begun leave their spools to the next start."""
        self._closing = True
        self._stopped.set()
        for upload in list(self._uploads.values()):
            self.drop(upload)
        while self._uploads:
            await asyncio.wait([asyncio.ensure_future(each.gone.wait()) for each in self._uploads.values()])

    # --- one import --------------------------------------------------------------------------------------------------

    async def _import(self, upload: Upload) -> None:
        """Do one import to its end. Never raises: its outcome is the upload's."""
        try:
            record = await self._outcome(upload)
        except ImportStoppedError:
            upload.keep = self._closing and upload.record is not None
            _settle(upload, upload.failure or error(Reason.DRAINING))
        except Exception as failure:  # noqa: BLE001 - logged with an id; the job is nobody's call
            known = isinstance(failure, PrefixdbError) and failure.reason is not Reason.INTERNAL
            _settle(upload, failure if known else internal_error("import", failure))
            if upload.record is not None and not _is_ban(failure):
                # It has begun, so it will be finished: by the next start. Until then its namespace is held.
                upload.keep = True
                return
        else:
            upload.result.set_result(record)
        self.drop(upload)

    async def _outcome(self, upload: Upload) -> ImportRecord:
        """Run an import until it is over, without a thread while its namespace takes no rows."""
        while True:
            try:
                return await upload.work(self._workers, lambda: self._run(upload))
            except ImportParkedError:
                while not upload.importer.is_open:
                    await self._closed_within(PARKED_LOOK_S)

    def _run(self, upload: Upload) -> ImportRecord:
        """Do the import in a thread."""
        if upload.record is None:
            record = upload.received()
            if upload.settings.dry_run:
                return upload.importer.rehearse(record)
            upload.importer.begin(record)
            upload.record = record
        return upload.importer.run()

    # --- the table ---------------------------------------------------------------------------------------------------

    def _new(self, key: UploadKey, settings: Settings) -> Upload:
        """Enter an upload into the table, and hold its namespace."""
        path = self._folder / key.file_name
        importer = Importer(self._store, self._registry, self._clock, target=key.target, path=path)
        result: asyncio.Future[ImportRecord] = asyncio.get_running_loop().create_future()
        upload = Upload(key, settings, path, importer, result)
        upload.kept_until_ms = self._clock.now_ms() + IMPORT_KEPT_MS

        def check() -> None:
            live_record(self._registry, key.namespace_id, key.incarnation)

        def cut(refusal: PrefixdbError) -> None:
            upload.failure = refusal
            self.drop(upload)

        upload.view.enter_context(self._streams.hold(key.namespace_id, check, cut))
        self._uploads[key] = upload
        return upload

    def _share(self, upload: Upload) -> SpoolShare:
        """Return what the upload's spool takes of the disk; it is given back when nothing of the upload is left."""
        share = self._room.share(upload.key.namespace_id)
        upload.view.callback(share.close)
        return share

    def _make_room(self, key: UploadKey) -> None:
        """Raise unless one more may be begun; the oldest that is only kept gives way, the caller's own first."""
        idle = sorted((each for each in self._uploads.values() if each.is_idle), key=lambda each: each.kept_until_ms)
        here = [each for each in self._uploads.values() if each.key.namespace_id == key.namespace_id]
        own = [each for each in idle if each.key.namespace_id == key.namespace_id and each.key.subject == key.subject]
        # Whose client was told already is gone in a moment, and keeps nobody out; but for a disk that removes nothing.
        leaving = min(sum(each.dropping is not None for each in here), IMPORTS_PER_NAMESPACE_MAX)
        if own and self._room.is_tight(key.namespace_id):
            # Whoever begins anew has given the old one up, which would keep the new one out for an hour.
            self.drop(own[0])
        elif len(here) - leaving >= IMPORTS_PER_NAMESPACE_MAX:
            self._give_way(own, "The namespace has", IMPORTS_PER_NAMESPACE_MAX)
        elif len(self._uploads) >= IMPORTS_MAX:
            self._give_way(idle, "The server has", IMPORTS_MAX)

    def _give_way(self, idle: list[Upload], whose: str, limit: int) -> None:
        if not idle:
            message = f"{whose} {limit} imports under way already; let one of them end."
            raise error(Reason.TOO_MANY_STREAMS, message, metadata={"limit": str(limit)})
        self.drop(idle[0])

    async def _drop(self, upload: Upload) -> None:
        """Remove an upload once no thread is at work on it: file first, then the hold on its namespace."""
        await upload.settle()
        if upload.job is not None:
            await asyncio.wait([upload.job])
        while not await asyncio.to_thread(self._remove, upload, keep=upload.keep and self._closing):
            # It has rows of the namespace, which must not be proven empty meanwhile.
            if await self._closed_within(REMOVED_AGAIN_S):
                break
        self._forget(upload)

    def _remove(self, upload: Upload, *, keep: bool) -> bool:
        """Remove the spool, or keep it for the next start; return whether that was done. Blocks."""
        try:
            if upload.spool is not None:
                upload.spool.close(delete=not keep)
            elif not keep and upload.path.exists():
                upload.path.unlink()
                sync_directory(upload.path.parent)
        except OSError:
            _LOG.exception("the spool of an import cannot be removed; it is tried again")
            return False
        return True

    async def _closed_within(self, seconds: float) -> bool:
        """Wait so long, or until everything is to stop; return whether it is."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)
        return self._closing

    def _forget(self, upload: Upload) -> None:
        if self._uploads.get(upload.key) is upload:
            del self._uploads[upload.key]
        upload.view.close()
        if not upload.result.done():
            _settle(upload, upload.failure or error(Reason.CANCELLED))
        upload.gone.set()

    def _resume(self) -> None:
        """Go on with the imports whose archives are in the folder; remove every other file."""
        if not self._folder.exists():
            return
        removed = False
        for path in sorted(self._folder.iterdir()):
            key = UploadKey.of_file(path.name)
            record = None if key is None else self._unfinished(key)
            if key is None or record is None:
                path.unlink()
                removed = True
                continue
            upload = self._new(key, Settings(record.on_conflict, keep_order=record.keep_order))
            upload.record = record
            self._share(upload).adopt(path.stat().st_size)
            self.begin(upload)
        if removed:  # Before any namespace is proven to be gone.
            sync_directory(self._folder)

    def _unfinished(self, key: UploadKey) -> ImportRecord | None:
        """Return the record of an import that has begun and is not over, in a namespace that lives."""
        try:
            live_record(self._registry, key.namespace_id, key.incarnation)
        except PrefixdbError:
            return None
        row = self._store.get(key.target.record_key)
        record = None if row is None else decode_import(row)
        return None if record is None or record.is_over else record


def _is_ban(failure: BaseException) -> bool:
    return isinstance(failure, PrefixdbError) and failure.reason is Reason.NAMESPACE_BANNED


def _settle(upload: Upload, failure: BaseException) -> None:
    upload.result.set_exception(failure)
    upload.result.exception()  # Raised to whoever is attached; when nobody is, that is no error.
