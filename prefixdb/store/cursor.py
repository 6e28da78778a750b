"""The cursor of LSM stores: one live iterator, distrusted at every key.

A live iterator is the only true point-in-time view the binding has (iterators of its snapshots ignore the snapshot).
Its upper bound is a bare pointer, so the bound is kept alive here **and** every key that comes back is compared with
the span: a key outside would be another tenant's row, and one such key stops the whole store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from prefixdb.clock import Clock, Moment
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import Span
from prefixdb.records import split_value
from prefixdb.store.base import Row
from prefixdb.store.directory import leak
from prefixdb.store.engine import EngineIterator, IteratorHandle
from prefixdb.store.faults import Doing, translate

FETCH_SECONDS_MAX = 0.010
"""One fetch that has at least one row ends after so long: it holds the interpreter's lock most of that time."""

_LOOK_AT_TIME_EVERY = 128


class LsmCursor:
    """``prefixdb.store.base.Cursor`` over an engine's iterator.

    Args:
        handle: a fresh iterator with what it borrows; the cursor owns both from here on.
        span: what the cursor may return.
        clock: decides what is expired; None returns expired rows too.
        check: raises when the store refuses all work.
        on_violation: told when the engine returned a key outside ``span``; returns the error to raise.
        keys_only, reverse: as for ``Store.open_cursor``.
    """

    def __init__(
        self,
        handle: IteratorHandle,
        span: Span,
        clock: Clock | None,
        *,
        check: Callable[[], None],
        on_violation: Callable[[], PrefixdbError],
        reverse: bool = False,
        keys_only: bool = False,
    ) -> None:
        self._handle: IteratorHandle | None = handle
        self._span = span
        self._clock = clock
        self._check = check
        self._on_violation = on_violation
        self._reverse = reverse
        self._keys_only = keys_only
        self._started = False
        self._done = span.is_empty
        self._ended_by: Callable[[], BaseException] | None = None
        # A cursor belongs to one thread, but the store may close it from another one at any moment.
        self._lock = threading.Lock()

    def fetch(self, max_rows: int, max_bytes: int) -> list[Row]:
        if max_rows < 1:
            raise ValueError("max_rows must be at least 1")
        rows: list[Row] = []
        self._check()
        with self._lock:
            if self._handle is None:
                raise self._ended_by() if self._ended_by is not None else RuntimeError("the cursor is closed")
            if self._done:
                return rows
            try:
                self._fill(self._handle.iterator, rows, max_rows, max_bytes)
            except Exception as failure:  # noqa: BLE001 - raised below, or met again by the next fetch
                # The frames below hold the iterator, and a live iterator keeps the engine from closing, for as long as
                # somebody holds the exception.
                failure.__traceback__ = None
                damage = translate(failure, Doing.READ)
                # The rows in front of the damage are good; the next fetch meets it again, with nothing to return.
                if not rows or damage.reason is not Reason.CORRUPTION:
                    raise damage from (None if damage is failure else failure)
        return rows

    def count(self, max_rows: int) -> int:
        counted = 0
        while counted < max_rows:
            rows = self.fetch(min(max_rows - counted, 4 * _LOOK_AT_TIME_EVERY), 1 << 62)
            if not rows:
                break
            counted += len(rows)
        return counted

    def close(self) -> None:
        self.end(lambda: RuntimeError("the cursor is closed"))

    def end(self, reason: Callable[[], BaseException]) -> None:
        """Release the iterator; later calls raise ``reason()``. The first reason stays. Thread-safe."""
        with self._lock:
            if self._ended_by is None:
                self._ended_by = reason
            self._handle = None

    def abandon(self) -> None:
        """Make sure the iterator's destructor never runs: in a forked child it would enter the parent's engine."""
        self._lock = threading.Lock()
        leak(self._handle)

    def _fill(self, iterator: EngineIterator, rows: list[Row], max_rows: int, max_bytes: int) -> None:
        """Append rows; ``rows`` stays empty only at the end of the walk."""
        if not self._started:
            self._started = True
            if self._reverse:
                iterator.seek_for_prev(self._span.end)
            else:
                iterator.seek(self._span.begin)
        valid, key_of, value_of = iterator.valid, iterator.key, iterator.value
        step = iterator.prev if self._reverse else iterator.next
        begin, end, keys_only = self._span.begin, self._span.end, self._keys_only
        now_ms = self._clock.now_ms() if self._clock is not None else 0
        deadline = time.monotonic() + FETCH_SECONDS_MAX
        append, new_row = rows.append, tuple.__new__  # What Row(...) does, without the function in between.
        size = looked_at = 0
        while True:
            if not valid():
                # Damage ends a walk exactly like the end of the data does; only the status tells them apart.
                iterator.status()
                self._done = True
                return
            key = key_of()
            if not begin <= key < end:
                if self._reverse and key < begin:
                    self._done = True
                    return
                raise self._on_violation()
            payload, version, expires_at_ms = split_value(value_of())
            step()
            looked_at += 1
            if now_ms and 0 < expires_at_ms <= now_ms:
                continue
            if keys_only:
                payload = b""
            append(new_row(Row, (key, payload, version, expires_at_ms)))
            size += len(key) + len(payload)
            if len(rows) >= max_rows or size >= max_bytes:
                return
            if looked_at % _LOOK_AT_TIME_EVERY == 0 and time.monotonic() > deadline:
                return


def cursor_clock(clock: Clock, *, raw: bool, one_instant: bool) -> Clock | None:
    """Return what decides for a cursor what is expired; asked before its view is opened, so that no row is missing in
    it that was there all the time, because its lifetime was renewed."""
    if raw:
        return None
    return Moment(clock.now_ms()) if one_instant else clock


def violation() -> PrefixdbError:
    """Return the error for a key outside its span."""
    return error(
        Reason.INTERNAL,
        "The storage engine returned a row outside the range it was asked for. The store has stopped serving.",
    )
