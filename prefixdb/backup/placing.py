"""Placing rows: sorted rows into a span without any, past the log where the store can, else in batches.

    pages ──► Store.open_ingest ──► finish, all at once        "files"
        └───► commits of a thousand rows, one after another    "batches"; for a namespace that nobody sees yet

Rows keep the versions they bring (``Put.version``; 0 stands for the commit's own). Neighbours are served by the same
interpreter and the same disk, so the work is cut into small pieces: between two of them everybody else has a turn, and
it is looked whether to go on. Blocks; run it in a thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from prefixdb.archive import Rows, ScannedRows
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import FAMILY_DATA, RowKey, Span, data_key, family_span
from prefixdb.limits import KIB
from prefixdb.store.base import Commit, CommitResult, Condition, Ingest, Put, Store
from prefixdb.store.version_rule import VersionRule

PIECE_ROWS = 500
"""Rows between two turns of the others: about half a millisecond of the interpreter."""

PIECE_BYTES = 256 * KIB
"""Keys and payloads of a piece, but for a single larger row."""

TURN_EVERY_S = 0.002
"""Work between two turns: what the others' waits for the interpreter grow by, at most."""

TURN_S = 0.0002
"""A turn. Letting go of the interpreter's lock is not enough: whoever waits for it has to be woken, and
without a pause this thread would have taken it back before."""

STALLED_S = 0.05
"""Pause before a batch that met a write stall is tried again."""

_Result = TypeVar("_Result")

_RETRIED = frozenset({Reason.WRITE_STALL})


class Turns:
    """When the others have their turn; belongs to one thread."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._turn = threading.Event()

    def due(self) -> float:
        """Return how long to pause now: ``TURN_S`` when it is time to, else 0.0."""
        if time.monotonic() - self._since < TURN_EVERY_S:
            return 0.0
        # The pause takes its own time off the next piece of work, which does no harm.
        self._since = time.monotonic() + TURN_S
        return TURN_S

    def take(self) -> None:
        """Pause when it is time to."""
        pause_s = self.due()
        if pause_s:
            self._turn.wait(pause_s)


class Frame:
    """Rows of an archive on their way into a namespace, but for those that have outlived themselves.

    written: how many that were, once they are placed.
    """

    __slots__ = ("_namespace_id", "_now_ms", "_rows", "_versions", "written")

    def __init__(self, rows: Rows | ScannedRows, namespace_id: int, now_ms: int, versions: VersionRule) -> None:
        self._rows = rows
        self._namespace_id = namespace_id
        self._now_ms = now_ms
        self._versions = versions
        self.written = 0

    @property
    def count(self) -> int:
        """How many rows there are, those that have outlived themselves included."""
        return self._rows.facts.rows if isinstance(self._rows, ScannedRows) else len(self._rows.rows)

    def add_to(self, ingest: Ingest) -> bool:
        """Append the rows as they are; false when that cannot be done, and nothing was."""
        if isinstance(self._rows, Rows):
            return False
        written = ingest.add_frame(
            self._rows, namespace_id=self._namespace_id, now_ms=self._now_ms, versions=self._versions
        )
        if written is None:
            return False
        self.written = written
        return True

    def puts(self) -> list[Put]:
        """Return the writes of the rows."""
        head = data_key(self._namespace_id, self._rows.database, b"x")[:-1]
        now_ms, version_of = self._now_ms, self._versions
        puts = [
            Put(RowKey(head + key), value, expires_at_ms, version_of(version))
            for key, value, version, expires_at_ms in self._rows.rows
            if not 0 < expires_at_ms <= now_ms
        ]
        self.written = len(puts)
        return puts


Page = Sequence[Put] | Frame
"""Rows that come together."""


class Placed(NamedTuple):
    """What became of the rows.

    way: "files" or "batches".
    rows: how many there are now.
    """

    way: str
    rows: int


class PlacingRefused(Exception):
    """A guard did not hold any more, or the span has rows of somebody else: nothing more was placed. Whoever placed
    knows what the guard was about, and raises what that means."""


def place_rows(
    store: Store,
    namespace_id: int,
    pages: Iterable[Page],
    *,
    guards: Sequence[Condition],
    on_rows: Callable[[int], None] = lambda rows: None,
    check: Callable[[], object] = lambda: None,
) -> Placed:
    """Put data rows into a namespace that has none and that nobody can see or write.

    Args:
        store: the store.
        namespace_id: the new namespace.
        pages: its rows, keys ascending over all pages. Not read any further once ``check`` raised.
        guards: what must still hold when rows become durable: that the namespace is still the staged one.
        on_rows: told after each piece how many rows have been dealt with so far, in this thread.
        check: called before each piece; raises to end the work.

    Raises:
        PlacingRefused: a guard failed. With batches some rows may be there.
        ValueError: a key outside the data of the namespace or not above the one before.
        PrefixdbError: as the store, and what ``check`` and ``pages`` raise.
    """
    span = family_span(namespace_id, FAMILY_DATA)
    placed = place_files(store, span, pages, guards=guards, on_rows=on_rows, check=check)
    if placed is None:
        placed = place_batches(store, span, pages, guards=guards, on_rows=on_rows, check=check)
    return placed


def place_files(
    store: Store,
    span: Span,
    pages: Iterable[Page],
    *,
    guards: Sequence[Condition],
    on_rows: Callable[[int], None] = lambda rows: None,
    check: Callable[[], object] = lambda: None,
) -> Placed | None:
    """Place all rows at once by sorted files; None, with no page read, when the store has no such way.

    Nothing is there before all of it is: after any failure, a crash too, the span is as it was. See ``place_rows``.
    """
    ingest = patiently(partial(store.open_ingest, span), check)
    if ingest is None:
        return None
    done = 0
    try:
        turns = Turns()
        for page in pages:
            check()
            if isinstance(page, Frame) and page.add_to(ingest):
                done += page.written
                on_rows(done)
                continue
            for piece in pieces_of((page,)):
                check()
                ingest.add(piece)
                done += len(piece)
                on_rows(done)
                turns.take()
        check()
        _insist(patiently(partial(ingest.finish, guards), check))
    finally:
        ingest.abort()
    return Placed("files", done)


def place_batches(
    store: Store,
    span: Span,
    pages: Iterable[Page],
    *,
    guards: Sequence[Condition],
    on_rows: Callable[[int], None] = lambda rows: None,
    check: Callable[[], object] = lambda: None,
) -> Placed:
    """Place rows in commits, one for each piece; what was committed before a failure stays. See ``place_rows``."""
    done = 0
    last = RowKey(b"")
    turns = Turns()
    for piece in pieces_of(pages):
        check()
        for put in piece:
            if put.key not in span or put.key <= last:
                raise ValueError("a key outside the span or not above the one before")
            last = put.key
        commit = Commit(tuple(piece), guards=tuple(guards))
        _insist(patiently(partial(store.commit, commit), check))
        done += len(piece)
        on_rows(done)
        turns.take()
    return Placed("batches", done)


def pieces_of(pages: Iterable[Page]) -> Iterator[Sequence[Put]]:
    """Yield the rows of all pages in pieces of PIECE_ROWS and PIECE_BYTES at most."""
    for page in pages:
        puts = page.puts() if isinstance(page, Frame) else page
        first = size = 0
        for position, put in enumerate(puts):
            more = len(put.key) + len(put.payload)
            if position > first and (position - first >= PIECE_ROWS or size + more > PIECE_BYTES):
                yield puts[first:position]
                first, size = position, 0
            size += more
        if first < len(puts):
            yield puts[first:]


def patiently(write: Callable[[], _Result], check: Callable[[], object]) -> _Result:
    """Write, waiting out a store that is catching up with its writes; ``check`` raises to end the waiting."""
    while True:
        try:
            return write()
        except PrefixdbError as failure:
            if failure.reason not in _RETRIED:
                raise
        time.sleep(STALLED_S)
        check()


def _insist(result: CommitResult | None) -> None:
    if result is None or not result.applied:
        raise PlacingRefused
