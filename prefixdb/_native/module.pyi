"""The extension as Python sees it. The contract of each call stands in the C++ header that implements it.

Every call that enters RocksDB releases the interpreter's lock. Times are milliseconds since the epoch; keys are row
keys. ``EngineError`` carries RocksDB's own status text, which ``prefixdb.store.faults`` translates.
"""

from array import array
from collections.abc import Callable, Sequence
from typing import Literal, final

from prefixdb.store.base import Commit, CommitResult, Condition, Row

ROCKSDB_VERSION: str

class EngineError(Exception):
    """A RocksDB status that is not OK; the text is the status's own."""

    attempted: bool
    """False for a write that was refused unseen because an earlier one had failed: certainly not applied."""

class SpanViolationError(Exception):
    """A key outside the span a cursor was opened for came back from the engine."""

class DamagedRowError(Exception):
    """A stored value is cut short or of an unknown format."""

class EngineClosedError(RuntimeError):
    """The engine was closed, or is being closed."""

def set_types(types: dict[str, type]) -> None:
    """Name the classes of ``prefixdb.store.base`` that go in and out: Row, CommitResult, Put, Delete, DeleteSpan,
    VersionIs, Absent, Exists, ValueIs. Called once, when ``prefixdb.store.native`` is imported."""

# key_codec.h and value_codec.h, for the vectors that pin both implementations.
def data_key(namespace_id: int, database: int, user_key: bytes) -> bytes: ...
def system_key(namespace_id: int, tag: int, record_key: bytes) -> bytes: ...
def namespace_span(namespace_id: int) -> tuple[bytes, bytes]: ...
def prefix_span(namespace_id: int, database: int, prefix: bytes) -> tuple[bytes, bytes]: ...
def range_span(namespace_id: int, database: int, start: bytes, end: bytes) -> tuple[bytes, bytes]: ...
def split_data_key(row_key: bytes) -> tuple[int, int, bytes]: ...
def encode_value(payload: bytes, version: int, expires_at_ms: int) -> bytes: ...
def decode_value(stored: bytes) -> tuple[bytes, int, int]: ...

# table_check.h
def check_table(path: str) -> None:
    """Compare every checksum inside a table file with its bytes."""

def check_manifest(directory: str) -> None:
    """The same for the MANIFEST of an engine's directory."""

# rows_reader.h
def scan_rows(content: bytes) -> tuple[int, int, bytes, bytes, bool, int, int, int, int, int] | None:
    """Return ``prefixdb.archive.scanned.RowsFacts``; None when the content is not plainly rows."""

def row_versions(content: bytes) -> bytes | None:
    """Return the distinct versions of the rows, ascending, eight bytes each in the machine's order; None as above."""

@final
class Cursor:
    def fetch(self, max_rows: int, max_bytes: int, now_ms: int) -> list[Row]:
        """``prefixdb.store.base.Cursor.fetch``; ``now_ms`` 0 returns expired rows too. Rows in front of damage are
        returned, and the next call raises."""
    def pack(
        self, head: bytes, max_rows: int, max_bytes: int, now_ms: int
    ) -> tuple[bytes, int, int, bytes, bytes, int, int, int, int, int] | None:
        """The fields of ``prefixdb.archive.PackedRows``; None at the end. ``max_bytes`` bounds keys, values and what
        stands beside them. It takes as long as it takes, without the interpreter's lock; ``close`` ends it. A key that
        does not begin with ``head`` or does not ascend is a SpanViolationError."""
    def count(self, max_rows: int, now_ms: int) -> int: ...
    def close(self) -> None: ...

@final
class TableWriter:
    """Writes one sorted file for ``Engine.ingest``."""

    def add(self, rows: Sequence[tuple[bytes, bytes, int, int]], version: int) -> None:
        """Append (key, payload, expires_at_ms, version) in strictly ascending key order. A row's version is below
        ``version``; where it is 0 the row gets that one."""
    def add_frame(
        self,
        content: bytes,
        *,
        namespace_id: int,
        span: tuple[bytes, bytes],
        after: bytes,
        version: int,
        now_ms: int,
        versions: tuple[array[int], ...] | None,
    ) -> tuple[int, int, bytes] | None:
        """Append the rows in the content of an archive's frame; ``prefixdb.store.engine.TableWriter.add_frame``."""
    def finish(self) -> int:
        """Close the file and return its size in bytes."""

@final
class Engine:
    def __init__(
        self,
        path: str,
        *,
        create: bool,
        read_only: bool,
        sync: bool,
        cache_bytes: int,
        write_buffer_bytes: int,
        max_open_files: int,
        compaction_bytes_per_second: int,
        range_deletes_max: int,
    ) -> None: ...

    # Reads. ``get`` returns expired rows too; the caller looks at ``expires_at_ms``.
    def get(self, key: bytes) -> Row | None: ...
    def get_many(self, keys: Sequence[bytes], now_ms: int) -> list[Row | None]: ...
    def open_cursor(
        self, begin: bytes, end: bytes, *, reverse: bool, keys_only: bool, bound: bytes, bulk: bool = False
    ) -> Cursor:
        """``bound`` is the engine's upper bound, ``end`` but for the self-test."""

    # Commits: one committer thread in the engine gathers whatever is waiting into one batch and one sync.
    def commit(self, commits: Sequence[Commit], now_ms: int) -> list[CommitResult]: ...
    def submit(self, commits: Sequence[Commit], now_ms: int) -> int:
        """Queue commits without waiting; returns a ticket."""
    def completions_fd(self) -> int:
        """An eventfd that becomes readable when tickets are done."""
    def completions(self) -> list[tuple[int, list[CommitResult] | Exception]]:
        """Return what is done and was not returned before; resets the eventfd."""
    def put_raw(self, key: bytes, value: bytes) -> None:
        """Write one stored value, synced: the first row of a new directory."""
    def unflushed_range_deletes(self) -> int: ...
    def failure(self) -> str | None:
        """The status text of the first error since which writes are refused, one of a background flush included.

        Only a reopening helps; write_health.h says why.
        """

    # Bans and expiry.
    def publish_bans(self, namespace_ids: Sequence[int]) -> None: ...
    def withdraw_bans(self, namespace_ids: Sequence[int]) -> None: ...
    def set_expiry_horizon(self, expires_before_ms: int) -> None:
        """Rows with a lifetime that ended at or before this may be dropped by compactions; never falls."""
    def dropped(self, namespace_id: int) -> tuple[int, int]:
        """Rows and bytes dropped of a published namespace since it was published."""
    def filter_counts(self) -> dict[str, int]:
        """``malformed_kept``, ``expired_dropped``, ``namespaces_skipped``, ``banned``."""

    # Space.
    def delete_files(self, spans: Sequence[tuple[bytes, bytes]]) -> int:
        """Drop the table files below level 0 that lie wholly inside a span; returns their bytes."""
    def compact(self, begin: bytes | None, end: bytes | None, stop: Callable[[], bool] | None) -> bool:
        """Rewrite what overlaps, bottommost level included; false when ``stop`` said so."""
    def live_files(self) -> list[tuple[str, int, int, bytes, bytes, int, int]]:
        """(name, size, level, first key, last key, entries, deletions) of each table file."""
    def namespace_size(self, namespace_id: int) -> tuple[int, int, bool]:
        """Rows and bytes of raw data in table files by their own bookkeeping; true when every file had it."""
    def approximate_bytes(self, begin: bytes, end: bytes) -> int:
        """Files and memtables."""
    def has_any_version(self, begin: bytes, end: bytes) -> bool:
        """Whether anything with a key in the half-open span is stored, deleted and overwritten rows and tombstones
        of single rows included."""
    def range_deletes(self, begin: bytes, end: bytes) -> int:
        """Range tombstones in table files that overlap the span."""
    def flush(self) -> None: ...
    def last_sequence(self) -> int: ...
    def property_int(self, name: str) -> int: ...
    def checkpoint(self, target: str) -> None: ...
    def table_writer(self, path: str) -> TableWriter: ...
    def ingest(
        self, paths: Sequence[str], begin: bytes, end: bytes, guards: Sequence[Condition], now_ms: int
    ) -> CommitResult | None:
        """Add finished files atomically, between two batches of the committer; None when the span has rows. The result
        has no version: the rows have those their writer gave them."""

    # Life.
    def cancel_background(self) -> None: ...
    def close(self) -> None:
        """End cursors, answer waiting commits with EngineClosedError, wait for running calls, close. Idempotent."""
    def abandon(self) -> None:
        """In a forked child: never run a destructor."""

# front/rules.h, for the vectors that pin both implementations, and for the comparison at the start of a server.
def rules_permit(
    rules: Sequence[tuple[int | None, bytes, bool, bool]], write: bool, database: int, start: bytes, end: bytes | None
) -> bool:
    """Whether rules (database or None for all, prefix, read, write) permit a key, or with ``end`` a whole range; an
    empty ``end`` is the end of the database."""

AdmitQuestion = tuple[Literal["admit"], int, str | None, str]
"""Number, the token (None: the call brought no authorization entry at all; what is no UTF-8 in it becomes
surrogates), and the PEM of the client's certificate, empty for none or when tokens are not tied to certificates."""
TranslateQuestion = tuple[Literal["translate"], int, Literal["read", "write"], Exception]
"""Number, what was done, and what the engine would have raised."""
ReadyQuestion = tuple[Literal["ready"], int, Literal["read", "write"], bool]
"""Number, what is to be done, and whether it puts no rows: a stream that met a closed store, or whose writes are
handed to Python at present, wants to go on. Answered with ``ready`` when it may, else with ``failed``."""
HaltQuestion = tuple[Literal["halt"], int, str]
"""Number, the method that was about to send a row of another namespace. It is not answered."""

@final
class Front:
    """front/front.h: the public port, answered in C++. Questions to Python are in front/upcalls.h, what sessions are
    in front/sessions.h. Everything is thread-safe; no thread of the front ever takes the interpreter's lock."""

    def __init__(
        self,
        *,
        listen_fd: int,
        upstream_path: str,
        threads: int,
        value_bytes_max: int,
        tied: bool,
        anonymous: bool,
        connections_max: int,
        clock_ms: int,
        bounds: dict[str, int],
    ) -> None:
        """``listen_fd`` is bound, listening and non-blocking; the front's from now on, also when it cannot be made.
        ``clock_ms``: no earlier time is ever taken for the present. ``tied``: tokens are tied to certificates.
        ``anonymous``: calls without an entry are asked about. ``bounds``: every field of ``front::Bounds``, times with
        ``_ms`` at their ends."""

    # Before the start, and later.
    def set_store(self, engine: Engine | None) -> None: ...
    def set_tls(self, chain: bytes, key: bytes, client_ca: bytes) -> None:
        """PEM, for connections that come from now on; ValueError when OpenSSL does not take it."""
    def hold_clock(self, now_ms: int) -> None:
        """The time, until the next call: the machine's clock is not looked at any more."""
    def punt_writes(self, punt: bool) -> None:
        """While true every write is handed to Python."""
    def start(self) -> None: ...

    # Questions.
    def questions_fd(self) -> int:
        """An eventfd that becomes readable when questions wait."""
    def questions(self) -> list[AdmitQuestion | TranslateQuestion | ReadyQuestion | HaltQuestion]:
        """Return some of what was asked and not returned before; the eventfd stays readable while there is more."""
    def admitted(
        self,
        number: int,
        namespace_id: int,
        rules: Sequence[tuple[int | None, bytes, bool, bool]],
        *,
        read_only: bool,
        ends_at_ms: int,
        guard_key: bytes,
        guard_version: int,
        home_counts: bool,
    ) -> None:
        """Let a token in; ``front::Session``. ``home_counts``: it depends on namespace 0 as well as on its own. When it
        has changed since the question was taken the front asks again."""
    def ready(self, number: int) -> None:
        """Answer a question of readiness: the store is there and takes what was asked about."""
    def failed(
        self,
        number: int,
        code: int,
        reason: int,
        name: str,
        message: str,
        metadata: Sequence[tuple[str, str]],
        retry_after_ms: int | None,
    ) -> None:
        """Answer a question with a failure: a token that is not let in, or what the store's failure means."""

    # What changes.
    def changed(self, namespace_id: int | None) -> None:
        """Something that sessions depend on has changed, of one namespace or of everyone; call it before the change is
        answered. When it returns no row leaves under an old answer. Never on a thread that the front waits for."""

    # What goes on.
    def views(self, namespace_id: int) -> int:
        """Open cursors over the namespace's rows, or calls that may be about to open one."""
    def facts(self) -> dict[str, int]:
        """``connections``, ``sessions``, ``streams``, ``forwarded``, ``punted``."""
    def waiting(self) -> dict[str, int]:
        """``for_taking``: native calls whose clients have not taken what was sent; ``for_messages``: those whose
        message has not come; ``unread_bytes`` of large answers. Asks every loop."""
    def calls(self) -> dict[str, tuple[dict[int, int], list[int], int]]:
        """By the method's path: calls by status code, calls by time (not cumulative; metrics.h has the bounds), and the
        sum of the times in microseconds. Methods that were not called are left out."""
    def running(self) -> int:
        """Native calls that are open. Waits for each loop's pass."""

    # The end.
    def halt(self) -> None:
        """Isolation cannot be vouched for: when it returns no row leaves any more, and native calls are refused."""
    def drain(self, code: int, reason: int, name: str, message: str, retry_after_ms: int | None) -> None:
        """Refuse native calls from now on; tell every connection to go."""
    def cut(self, code: int, reason: int, name: str, message: str, retry_after_ms: int | None) -> None:
        """End what still runs."""
    def stop(self) -> None:
        """End every connection and thread; questions are not asked any more. Idempotent."""
    def abandon(self) -> None:
        """In a forked child: never run a destructor."""
