"""The storage contract: rows and atomic commits. It knows nothing of gRPC, users, tokens or policy.

Every implementation passes ``tests/store/conformance.py``. The promises, in short:

- A row is (row key, payload, version, expires_at_ms). The store writes and reads the stored form of
  ``prefixdb.records``; callers never see it.
- An expired row is absent for every read, condition, count and scan from ``expires_at_ms`` on, by the store's clock.
- ``commit_many`` applies commits one after the other, each all or nothing, all in one synced batch. A commit sees
  the effects of the ones before it in the same call. When it returns, the batch is as durable as ``durability`` says.
- Versions grow with every commit and are never reused, across restarts too. All mutations of a commit share one, and a
  commit of n mutations takes n of them: its own and the n - 1 below, which are nobody else's (``versions`` uses that).
- A cursor is a point-in-time view from the moment it was opened. Every key it returns was checked against its span.
- Damage is DataLossError at the point of damage, never a short answer.

Threads: every method may be called from any thread unless it says otherwise; a cursor belongs to one thread at a time.
Nothing here may be used in a forked child; every call there raises RuntimeError.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from prefixdb.archive import PackedRows, RowsScanner, ScannedRows
from prefixdb.keycodec import RowKey, Span
from prefixdb.store.version_rule import VersionRule


class Row(NamedTuple):
    """One live row. ``expires_at_ms`` is 0 when it has no lifetime."""

    key: RowKey
    payload: bytes
    version: int
    expires_at_ms: int


class Put(NamedTuple):
    """Write a row, replacing what was there.

    ``version`` is for rows that move and keep the one they had: 0 stands for the commit's own, anything else must be
    below that, or whoever gets that number later would share it. Whoever gives one answers for conditions that compare
    versions: no row may get a version under which its readers have seen another value.
    """

    key: RowKey
    payload: bytes
    expires_at_ms: int = 0
    version: int = 0


class Delete(NamedTuple):
    """Remove a row; nothing happens when it is absent."""

    key: RowKey


class DeleteSpan(NamedTuple):
    """Remove every row of a span. Mutations of a commit apply in order: later ones of the same commit survive it."""

    span: Span


Mutation = Put | Delete | DeleteSpan


class VersionIs(NamedTuple):
    """Holds when the row exists and has exactly this version."""

    key: RowKey
    version: int


class Absent(NamedTuple):
    """Holds when there is no live row."""

    key: RowKey


class Exists(NamedTuple):
    """Holds when there is a live row."""

    key: RowKey


class ValueIs(NamedTuple):
    """Holds when the row exists and has exactly this payload."""

    key: RowKey
    payload: bytes


Condition = VersionIs | Absent | Exists | ValueIs


@dataclass(frozen=True, slots=True)
class Commit:
    """Mutations that become visible together, if every guard and condition holds at that moment.

    Guards are conditions of the server's own (for example: the namespace record is still the one the caller was
    admitted under). They are checked first and a failed one is told apart, because it is not the client's answer.
    Conditions are checked in order against the state before the commit's own mutations.
    """

    mutations: tuple[Mutation, ...] = ()
    conditions: tuple[Condition, ...] = ()
    guards: tuple[Condition, ...] = ()


class CommitResult(NamedTuple):
    """What became of one commit.

    applied: true when all of it is in the store.
    version: the commit's version when applied; 0 when it was not, and for a commit that mutates nothing: no mutations,
        or none but deletes of empty spans.
    failed_guard: index of the first guard that did not hold, or -1.
    failed_condition: index of the first condition that did not hold, or -1.
    current_version: version of the row the failed guard or condition named; 0 when the row is absent.
    """

    applied: bool
    version: int = 0
    failed_guard: int = -1
    failed_condition: int = -1
    current_version: int = 0


class SpanSize(NamedTuple):
    """An estimate from file metadata: bytes on disk and rows of a span. What is still in memory counts in ``rows`` only
    where the store can tell; both are exact zeros when no file and no memtable holds anything of the span."""

    bytes: int
    rows: int


class Cursor(Protocol):
    """A walk over one span on one consistent view. Close it: it pins memory and files.

    Not thread-safe. After ``close`` every method raises RuntimeError.
    """

    def fetch(self, max_rows: int, max_bytes: int) -> list[Row]:
        """Return the next rows, in key order of the cursor's direction.

        Args:
            max_rows: at most so many, at least 1.
            max_bytes: stop after the row that brings keys and payloads to so many bytes; at least one row is returned.

        Returns:
            Rows; empty exactly when the walk is done. With ``keys_only`` payloads are empty. To bound the time of one
            call the store may return fewer than asked for; only an empty list means the end.

        Raises:
            DataLossError: CORRUPTION, at the point of damage.
            InternalError: a key outside the span came back from the engine; the store refuses all work afterwards.
        """

    def count(self, max_rows: int) -> int:
        """Advance over at most ``max_rows`` live rows and return how many; less than ``max_rows`` only at the end."""

    def close(self) -> None:
        """Release the view; harmless when called again."""


@runtime_checkable
class PackingCursor(Cursor, Protocol):
    """A cursor that also makes the contents of an archive's frames itself, with no object for each row.

    Optional: a store whose cursors fetch only is complete. Ask with ``isinstance``; ``prefixdb.backup.packing`` does,
    and has the other way for those that do not.
    """

    def pack(self, head: bytes, max_rows: int, max_bytes: int) -> PackedRows | None:
        """Return the next rows of one database as the content of a frame; None when the walk is done.

        It is the content that ``archive.encode_rows`` makes of the rows that ``fetch`` returns, cut as
        ``archive.row_batches`` cuts them. Other threads go on meanwhile, however long it takes; ``close`` ends it.

        Args:
            head: what each row key has to begin with, at least namespace and family; looked at besides the span.
            max_rows: at most so many, at least 1.
            max_bytes: at most so many of keys, payloads and what stands beside them, but for a single larger row.

        Raises:
            ValueError: the cursor goes in reverse, or without payloads.
            DataLossError: CORRUPTION, at the point of damage.
            InternalError: a key is outside the span, does not begin with ``head`` or is not above the one before; the
                store refuses all work afterwards.
        """


@dataclass(slots=True)
class ReclaimProgress:
    """How far the reclaim of one namespace has come, in bytes of the files that held it when the reclaim began."""

    bytes_total: int = 0
    bytes_done: int = 0
    phase: str = "deleting"
    """``deleting``, ``flushing``, ``compacting``, ``waiting`` (for open readers to release old files) or ``done``."""


@dataclass(frozen=True, slots=True)
class Emptiness:
    """The finding of ``prove_empty``. ``empty`` is true only when all three looked-at places hold nothing.

    rows_found: 1 when the raw span, expired rows included, still has any row; the check stops at the first.
    bytes_found: approximate bytes of the span in live files and memtables.
    files_pinned: files that held rows of the span when its reclaim began and are still on disk, and files of open
        snapshots that may hold some, with their folder.
    """

    rows_found: int
    bytes_found: int
    files_pinned: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """True when nothing of the span is left anywhere in the store's directory."""
        return not (self.rows_found or self.bytes_found or self.files_pinned)


class Dropped(NamedTuple):
    """What background work has dropped of a banned namespace, old versions of rows included; zeros after a restart."""

    rows: int
    bytes: int


class Committer(Protocol):
    """Commits of an event loop's tasks, many sharing one durable batch. Not thread-safe: one loop uses it.

    A task that is cancelled while it waits does not take its commit back.
    """

    async def commit(self, commit: Commit) -> CommitResult:
        """Apply one commit durably. Raises as ``Store.commit_many``."""

    async def commit_all(self, commits: Sequence[Commit]) -> list[CommitResult]:
        """Apply commits in order, each all or nothing, all in one batch that others may share.

        Returns:
            One result for each, in order.

        Raises:
            PrefixdbError: as ``Store.commit_many``; it then holds for all of ``commits``.
        """

    async def close(self) -> None:
        """Refuse new commits and wait for those that were accepted. Harmless when called again."""


class Ingest(Protocol):
    """Sorted rows on their way into an empty span; invisible until ``finish``. Not thread-safe."""

    def add(self, rows: Sequence[Put]) -> None:
        """Append rows of the span in strictly ascending key order, over all calls.

        Raises:
            ValueError: a key outside the span or not above the one before, or a version that was not given out before
                the ingest began.
        """

    def add_frame(self, frame: ScannedRows, *, namespace_id: int, now_ms: int, versions: VersionRule) -> int | None:
        """Append the rows of an archive's frame, but for those that have outlived themselves by ``now_ms``.

        Returns:
            How many rows were appended; None when the store has no such way: ``add`` is the other one.

        Raises:
            ValueError: as ``add``.
        """

    def finish(self, guards: Sequence[Condition] = (), *, marker: Put | None = None) -> CommitResult | None:
        """Make all rows visible at once, durably; those that bring no version of their own share one.

        Args:
            guards: must hold at that moment.
            marker: a row outside the span that becomes visible with them, or neither does: what tells, after a crash,
                that this ingest has been finished. Its key must be one that was never written before, else the store
                has to flush its memtable first.

        Returns:
            The result, ``applied`` false when a guard did not hold; None when the span has rows by now. Nothing was
            ingested then.

        Raises:
            UnavailableError: WRITE_STALL, nothing was tried: call it again with the same marker. After any other
                failure the ingest is over.
        """

    def abort(self) -> None:
        """Drop what was added; harmless after ``finish``."""


class Snapshot(Protocol):
    """An openable copy of one instant: a data directory of its own whose table files are hard links to live ones.

    While it is open its rows are on disk, those of a banned namespace too: ``prove_empty`` names its files.
    Thread-safe.
    """

    @property
    def path(self) -> Path:
        """The directory: ``db/`` and ``store-state.json``. Nobody may write into it."""

    @property
    def last_version(self) -> int:
        """Every commit up to this version is in it, and perhaps some of the next."""

    def close(self) -> None:
        """Remove the directory; harmless when called again. Closing the store does the same.

        Raises:
            UnavailableError: READ_ONLY_STORE, something of it could not be removed; call again.
        """


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """Facts for ``Maintenance.Status``.

    writable: false after a write error, until the store has recovered, and while the disk is nearly full.
    last_version: version of the newest commit.
    """

    name: str
    engine: str
    durability: str
    writable: bool
    last_version: int
    disk_bytes: int
    memory_bytes: int
    rows_estimate: int
    extra: dict[str, str] = field(default_factory=dict)


class Store(Protocol):
    """The seam between prefixdb and an engine. Errors are those of ``prefixdb.errors``:

    DataLossError CORRUPTION; UnavailableError WRITE_STALL (not applied, retry), READ_ONLY_STORE (after a write error);
    ResourceExhaustedError DISK_FULL; OutcomeUnknownError (a sync failed: the commit may be found after a restart).
    """

    @property
    def rows_scanner(self) -> RowsScanner | None:
        """What looks through frames of rows faster than Python can, when the store has it."""

    def get(self, key: RowKey) -> Row | None:
        """Return the live row, or None. Microseconds from memory; one disk read at worst."""

    def get_many(self, keys: Sequence[RowKey]) -> list[Row | None]:
        """Return the live rows in the order of ``keys``, all from one consistent view; None where absent."""

    def open_cursor(
        self,
        span: Span,
        *,
        reverse: bool = False,
        keys_only: bool = False,
        raw: bool = False,
        one_instant: bool = False,
    ) -> Cursor:
        """Open a walk over ``span``.

        Args:
            span: what is walked over.
            reverse: from its end.
            keys_only: without payloads.
            raw: also returns expired rows; for proofs and repairs only.
            one_instant: a row is expired when it was at the moment of opening, however long the walk takes; else
                when it is at the moment it is fetched.
        """

    def commit_many(self, commits: Sequence[Commit]) -> list[CommitResult]:
        """Apply commits in order, each all or nothing, in one durable batch. Blocks; returns one result for each.

        Raises:
            ValueError: a put names a version that is not below its commit's; none of the batch was applied.
            UnavailableError, ResourceExhaustedError: none of the batch was applied.
            OutcomeUnknownError: the batch may or may not have been applied, but each commit wholly or not at all.
        """

    def commit(self, commit: Commit) -> CommitResult:
        """``commit_many`` of one."""

    def span_size(
        self, span: Span, *, exact_rows_max: int = 1_000, stop: Callable[[], bool] = lambda: False
    ) -> SpanSize:
        """Return the approximate size of a span.

        A span of up to ``exact_rows_max`` rows is counted by walking it, about 2 µs a row; of a larger one at least so
        many are known, and file metadata may tell of more. Bytes are those on disk: a file shared with others counts
        by its share of rows. The walk ends early when ``stop()`` is true.
        """

    def publish_bans(self, namespace_ids: Collection[int]) -> None:
        """Let the store drop every row of these namespaces from now on, whenever it rewrites a file.

        It is for good: a published ban must never be taken back. The caller guarantees that no cursor over one of the
        namespaces is open and that no commit writes into it any more. Nothing of this is durable: publish again after
        each opening, before serving. Harmless for those published already.

        Raises:
            ValueError: namespace 0, or an id that is never issued; nothing was published.
        """

    def withdraw_bans(self, namespace_ids: Collection[int]) -> None:
        """Forget published bans whose spans were proven empty, before their numbers may be issued again."""

    def dropped(self, namespace_id: int) -> Dropped:
        """Return what was dropped of a published namespace since it was published, as far as the store counts it."""

    def reclaim(
        self,
        namespace_ids: Sequence[int],
        *,
        on_progress: Callable[[int, ReclaimProgress], None],
        stop: Callable[[], bool],
    ) -> None:
        """Remove every row of published namespaces and give their bytes back to the disk.

        Blocks for as long as it takes; run it in a thread. It works in steps, calls ``on_progress(namespace id, how
        far)`` after each, and returns early when ``stop()`` is true. Calling it again, also after a crash, goes on
        where it stopped. Many namespaces at once cost less than one by one: files they share are rewritten once. It
        claims nothing: emptiness is proven by ``prove_empty`` alone.

        Raises:
            ValueError: a namespace was not published.
        """

    def prove_empty(self, span: Span) -> Emptiness:
        """Look for anything of ``span``, hiding nothing: rows, expired rows, sizes, obsolete files still on disk.

        It never claims emptiness in doubt. A whole namespace is settled once ``reclaim`` has finished in this
        process; without that, files in which deleted rows may still hide count with their size.
        """

    def sweep_expired(self, after: RowKey, max_rows: int) -> RowKey:
        """Look at up to ``max_rows`` rows from ``after`` on and remove those that are expired, if they still are.

        Returns:
            Where to go on; ``b""`` when the end was reached. A store whose compaction drops expired rows by itself
            returns ``b""`` at once.
        """

    def new_committer(self) -> Committer:
        """Return a committer for the running event loop; close it before the store."""

    def open_ingest(self, span: Span) -> Ingest | None:
        """Begin to load sorted rows into a span without rows, past the log and the memtable; None when the store has
        no such way: commit large batches then."""

    def compact(self, span: Span | None = None) -> None:
        """Compact a span, or everything. Blocks; run it in a thread."""

    def flush(self) -> None:
        """Write memtables to files."""

    def checkpoint(self, target: Path) -> None:
        """Write an openable copy of this instant into ``target``, which must not exist. Files are hard links to live
        ones where possible: copy them before handing them out."""

    def open_snapshot(self) -> Snapshot:
        """Make an openable copy of this instant inside the data directory; close it soon. Blocks; run it in a thread.

        Writers go on meanwhile. It costs a flush and a hard link for each table file, and the space of whatever
        compactions rewrite until it is closed. One that is left behind by a crash is removed by the next opening.

        Raises:
            ResourceExhaustedError: DISK_FULL. UnavailableError: READ_ONLY_STORE.
        """

    def status(self) -> StoreStatus:
        """Return facts and sizes."""

    def close(self) -> None:
        """Stop background work and release the directory. Open cursors are closed. Harmless when called again."""
