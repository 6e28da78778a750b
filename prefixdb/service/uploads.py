"""Uploads: the archives that are on their way in, from their first frame to the end of their import.

An upload belongs to one subject in one issue of one namespace: nobody else can see, go on with or end it, whatever ids
they try. While one exists its namespace is held (see ``streams``), for there is a file with its rows; a ban ends the
work, removes the file, and only then lets go.

    coming ──► (client gone: kept for an hour, goes on by its id) ──► whole ──► applied ──► gone, its record stays
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from prefixdb.archive import Content, Rows, RowsFacts, ScannedRows, facts_of
from prefixdb.backup.import_ledger import Target
from prefixdb.backup.import_record import ImportPhase, ImportRecord, OnConflict, import_key, subject_digest
from prefixdb.backup.importing import Importer
from prefixdb.backup.spool import Spool
from prefixdb.catalog.policy import (
    Session,
    check_read,
    check_read_range,
    check_write,
    check_write_range,
    may_read_between,
)
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import TTL_MS_MAX
from prefixdb.service.streams import Stream
from prefixdb.service.workers import Workers

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the client asked for."""

    on_conflict: OnConflict
    dry_run: bool = False
    keep_order: bool = False

    @property
    def needs_reading(self) -> bool:
        """True when the outcome tells which keys exist, so that whoever imports has to be allowed to read them."""
        return self.dry_run or self.on_conflict is not OnConflict.OVERWRITE


@dataclass(frozen=True, slots=True)
class UploadKey:
    """Whose upload it is. ``subject`` is a digest, ``upload`` 16 bytes."""

    namespace_id: int
    incarnation: int
    subject: bytes
    upload: bytes

    @classmethod
    def of(cls, session: Session, upload: str) -> UploadKey:
        """Return the key of an upload of the caller's."""
        # A guest and a member of the namespace may have one name.
        subject = subject_digest(f"{session.home_id}/{session.subject}")
        return cls(session.namespace_id, session.incarnation, subject, bytes.fromhex(upload))

    @property
    def target(self) -> Target:
        """Where its import goes."""
        return Target(self.namespace_id, self.incarnation, import_key(self.namespace_id, self.subject, self.upload))

    @property
    def file_name(self) -> str:
        """The spool's name."""
        return f"{self.namespace_id:016x}-{self.incarnation:016x}-{self.subject.hex()}-{self.upload.hex()}.import"

    @classmethod
    def of_file(cls, name: str) -> UploadKey | None:
        """Return the key a spool's name stands for; None when it is no such name."""
        parts = name.removesuffix(".import").split("-")
        if [len(part) for part in parts] != [16, 16, 32, 32]:
            return None
        with contextlib.suppress(ValueError):
            found = cls(int(parts[0], 16), int(parts[1], 16), bytes.fromhex(parts[2]), bytes.fromhex(parts[3]))
            return found if found.file_name == name else None
        return None


@dataclass(eq=False, slots=True)
class Upload:
    """One archive on its way in. Belongs to the event loop's thread but for what ``take`` and the importer do.

    spool: while frames may come; None for one that was found whole after a restart.
    record: once the archive is whole and its import has begun.
    owner: the call that is attached to it.
    working: the last thing that was begun in a thread.
    result: what became of it.
    gone: set when nothing of it is left.
    """

    key: UploadKey
    settings: Settings
    path: Path
    importer: Importer
    result: asyncio.Future[ImportRecord]
    spool: Spool | None = None
    record: ImportRecord | None = None
    owner: Stream | None = None
    detached: asyncio.Event = field(default_factory=asyncio.Event)
    kept_until_ms: int = 0
    working: asyncio.Future[Any] | None = None
    job: asyncio.Task[None] | None = None
    dropping: asyncio.Task[None] | None = None
    keep: bool = False
    """Its import is not over: the next start needs the spool."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    view: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    rights: Session | None = None
    """Whose rules all rows so far were checked against; None when different ones were."""
    readable: bool = True
    """The importer may read all it writes."""
    failure: PrefixdbError | None = None
    """Why no more of it is taken."""
    first: bytes = b""
    last: bytes = b""
    rows: int = 0
    row_bytes: int = 0

    @property
    def is_idle(self) -> bool:
        """True when nobody is attached and nothing is being applied: it is only kept."""
        return self.owner is None and self.job is None and self.dropping is None

    async def work(self, workers: Workers, function: Callable[[], T]) -> T:
        """Run ``function`` in a thread. Whoever stops waiting does not stop it; ``settle`` waits for it."""
        work = asyncio.ensure_future(workers.run(self.key.namespace_id, function))
        work.add_done_callback(_taken_note_of)
        self.working = work
        return await asyncio.shield(work)

    async def settle(self) -> None:
        """Return when no thread is at work on it."""
        while self.working is not None and not self.working.done():
            await asyncio.wait([self.working])

    def take(self, frame: bytes, session: Session, *, value_bytes_max: int, now_ms: int) -> Content:
        """Check and keep a frame. Blocks; in a thread.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID, VALUE_TOO_LARGE.
            PermissionDeniedError: NOT_PERMITTED, a row's key is not the caller's to write.
            PrefixdbError: as ``Spool.add``.
        """
        if self.spool is None:
            raise RuntimeError("no frames come any more")
        if self.failure is not None:
            raise self.failure
        try:
            return self._take(self.spool, frame, session, value_bytes_max=value_bytes_max, now_ms=now_ms)
        except PrefixdbError as failure:
            # Whoever sent it may have gone by now; what comes next must not go on behind it.
            self.failure = failure
            raise

    def _take(self, spool: Spool, frame: bytes, session: Session, *, value_bytes_max: int, now_ms: int) -> Content:
        content = spool.add(frame)
        if not isinstance(content, Rows | ScannedRows):
            return content
        facts = facts_of(content)
        self.readable &= check_rows(content, session, self.settings)
        _check_limits(facts, value_bytes_max, now_ms, spool.reader.frames)
        if not self.rows:
            self.rights = session
            self.first = _bound(facts, facts.first_key)
        elif not self.was_checked_against(session):
            self.rights = None
        if spool.reader.sorted:
            self.last = _bound(facts, facts.last_key)
        else:
            self.first = b""
        self.rows += facts.rows
        self.row_bytes += facts.bytes
        return content

    def was_checked_against(self, session: Session) -> bool:
        """Return whether all rows so far were held against the rules that the session has. A session is made anew by
        every change among its namespace's people; what it may do is mostly what it could."""
        if self.rights is not None and self.rights is not session and self.rights.rules == session.rules:
            self.rights = session
        return self.rights is session

    def _sees_its_span(self) -> bool:
        """Return whether the importer may know if there are rows between its first and its last one."""
        if not self.first or self.rights is None:
            return False
        first, last = ((int.from_bytes(bound[:2]), bound[2:]) for bound in (self.first, self.last))
        return may_read_between(self.rights, first, last)

    def received(self) -> ImportRecord:
        """Make the archive, all of which has come, durable, and return the record its import begins with. Blocks.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID, it is cut short.
            PrefixdbError: as ``Spool.sync``.
        """
        if self.spool is None:
            raise RuntimeError("no frames come any more")
        if self.failure is not None:
            raise self.failure
        footer = self.spool.finish()
        if footer.rows != self.rows:
            raise RuntimeError("rows were kept that were not looked at")
        self.spool.sync()
        # Rows come in as files where there are none, and the outcome tells which way they came, as does the time it
        # takes. So for whoever may not know they come in batches.
        span = (self.first, self.last) if self._sees_its_span() else (b"", b"")
        return ImportRecord(
            phase=ImportPhase.RECEIVED,
            on_conflict=self.settings.on_conflict,
            keep_order=self.settings.keep_order,
            counts=self.readable,
            frames=self.spool.reader.frames,
            digest=self.spool.reader.digest,
            rows=self.rows,
            row_bytes=self.row_bytes,
            first=span[0],
            last=span[1],
        )

    def recheck(self, session: Session) -> None:
        """Check all rows against the caller's rights as they are now. Blocks; in a thread.

        Raises:
            PermissionDeniedError: NOT_PERMITTED.
        """
        if self.spool is None:
            raise RuntimeError("no frames come any more")
        readable = True
        for content in self.spool.contents():
            if isinstance(content, Rows | ScannedRows):
                readable &= check_rows(content, session, self.settings)
        self.readable, self.rights = readable, session


def check_rows(content: Rows | ScannedRows, session: Session, settings: Settings) -> bool:
    """Check that the caller may write every row; return whether it may read every one.

    Raises:
        PermissionDeniedError: NOT_PERMITTED; also for a row it may not read when the import would tell of it.
    """
    database = content.database
    try:
        check_write_range(session, database, b"", b"")
    except PrefixdbError:
        for row in content.rows:
            check_write(session, database, row[0])
    try:
        check_read_range(session, database, b"", b"")
    except PrefixdbError:
        try:
            for row in content.rows:
                check_read(session, database, row[0])
        except PrefixdbError:
            if settings.needs_reading:
                raise
            return False
    return True


def _check_limits(facts: RowsFacts, value_bytes_max: int, now_ms: int, frame: int) -> None:
    """Raise when a row is more than this server takes."""
    largest = facts.value_bytes_max
    if largest > value_bytes_max:
        raise error(
            Reason.VALUE_TOO_LARGE,
            f"A value in the archive has {largest} bytes; the limit of this server is {value_bytes_max}.",
            metadata={"size": str(largest), "limit": str(value_bytes_max)},
        )
    if facts.expires_at_ms_max > now_ms + TTL_MS_MAX:
        place = f"frame {frame}"
        message = f"The archive is invalid at {place}: a row's lifetime ends in more than a hundred years."
        raise error(Reason.ARCHIVE_INVALID, message, metadata={"place": place})


def _bound(facts: RowsFacts, key: bytes) -> bytes:
    """Return database and key of a row, as an import's record has them."""
    return facts.database.to_bytes(2) + key


def _taken_note_of(work: asyncio.Future[Any]) -> None:
    if not work.cancelled():
        work.exception()  # Raised where it is waited for; when the caller has gone, its upload is found spoiled later.
