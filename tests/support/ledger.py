"""Numbered commits and what became of each: the oracle of disk faults, and the functions that a store's host runs.

Commit ``n`` puts row ``n`` into two databases at once. Afterwards an acknowledged commit must be there, a refused one
must not, and one whose outcome is unknown may be either, but never half. What a row must hold follows from its number.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from prefixdb.errors import PrefixdbError
from prefixdb.keycodec import RowKey, data_key, namespace_span
from prefixdb.store.base import Commit, Cursor, Put, Store

NS = 42
DATABASES = (0, 7)
VALUE_BYTES = 400
ACKNOWLEDGED = ""
UNKNOWN = "OUTCOME_UNKNOWN"
READ_S_MAX = 0.25
"""Longest a read may take while writers are told to retry."""

_held: dict[int, Cursor] = {}


def key_of(number: int, database: int = DATABASES[0]) -> RowKey:
    """Return the key of a numbered row."""
    return data_key(NS, database, b"row %08d" % number)


def payload_of(number: int) -> bytes:
    """Return the bytes a row must hold; they do not compress."""
    return random.Random(number).randbytes(VALUE_BYTES)


def commit_of(number: int) -> Commit:
    """Return the numbered commit."""
    payload = payload_of(number)
    return Commit(tuple(Put(key_of(number, database), payload) for database in DATABASES))


# --- what a host runs ----------------------------------------------------------------------------------------------


def attempt(store: Store, first: int, count: int = 1) -> list[str]:
    """Try commits one after the other; return "" for each acknowledged one, else the reason it was refused for."""
    return [_outcome(store, number) for number in range(first, first + count)]


def attempt_until_refused(store: Store, first: int, limit: int) -> list[str]:
    """Try commits until one is refused or ``limit`` were made; return what became of each."""
    outcomes: list[str] = []
    while len(outcomes) < limit and not (outcomes and outcomes[-1]):
        outcomes.append(_outcome(store, first + len(outcomes)))
    return outcomes


def attempt_until_reason(store: Store, first: int, reason: str, seconds: float) -> list[str]:
    """Try commits until one is refused for ``reason``, whatever others meet; return what became of each."""
    deadline = time.monotonic() + seconds
    outcomes: list[str] = []
    while time.monotonic() < deadline and not (outcomes and outcomes[-1] == reason):
        outcomes.append(_outcome(store, first + len(outcomes)))
        if outcomes[-1]:
            threading.Event().wait(0.01)
    return outcomes


def load(store: Store, first: int, count: int) -> None:
    """Make commits in one batch; raises when they are refused."""
    store.commit_many([commit_of(number) for number in range(first, first + count)])


def flush(store: Store) -> str:
    """Flush; return "" or the reason it failed for."""
    return _reason(store.flush)


def compact(store: Store) -> str:
    """Compact everything; return "" or the reason it failed for."""
    return _reason(store.compact)


def writable(store: Store) -> bool:
    """Return what the status says."""
    return store.status().writable


def present(store: Store, numbers: Sequence[int]) -> list[tuple[bool, ...]]:
    """Return for each commit which of its rows are there; a row that holds anything else is an error."""
    found = []
    for number in numbers:
        rows = store.get_many([key_of(number, database) for database in DATABASES])
        if any(row is not None and row.payload != payload_of(number) for row in rows):
            raise RuntimeError(f"row {number} does not hold what was written")
        found.append(tuple(row is not None for row in rows))
    return found


def counted(store: Store) -> int:
    """Count all rows by a cursor."""
    cursor = store.open_cursor(namespace_span(NS), keys_only=True)
    try:
        return cursor.count(1 << 40)
    finally:
        cursor.close()


def open_walk(store: Store) -> None:
    """Open a cursor that stays open."""
    _held[id(store)] = store.open_cursor(namespace_span(NS))


def end_walk(store: Store) -> int | str:
    """Count what the open cursor still has, or return the reason it refuses; close it."""
    cursor = _held.pop(id(store))
    try:
        return cursor.count(1 << 40)
    except PrefixdbError as refusal:
        return refusal.reason.name
    finally:
        cursor.close()


def slowest_read(store: Store, numbers: Sequence[int], seconds: float) -> tuple[float, int]:
    """Read rows again and again for so long; return the slowest read's seconds and how many there were."""
    end, slowest, reads = time.monotonic() + seconds, 0.0, 0
    while (begin := time.monotonic()) < end:
        if store.get(key_of(numbers[reads % len(numbers)])) is None:
            raise RuntimeError("a row is gone")
        slowest, reads = max(slowest, time.monotonic() - begin), reads + 1
    return slowest, reads


def _outcome(store: Store, number: int) -> str:
    return _reason(lambda: store.commit(commit_of(number)))


def _reason(work: Callable[[], object]) -> str:
    try:
        work()
    except PrefixdbError as refusal:
        if (refusal.retry_after_ms is not None) != refusal.reason.value.retryable:
            raise RuntimeError(f"{refusal.reason.name} with retry_after_ms {refusal.retry_after_ms}") from refusal
        return refusal.reason.name
    return ACKNOWLEDGED


# --- what the parent keeps -----------------------------------------------------------------------------------------


@dataclass
class Ledger:
    """What became of every commit. Numbers are given out in order."""

    acknowledged: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    next_number: int = 0

    def note(self, outcomes: Iterable[str]) -> None:
        """Enter what became of the next commits."""
        for outcome in outcomes:
            kept = {ACKNOWLEDGED: self.acknowledged, UNKNOWN: self.unknown}.get(outcome, self.refused)
            kept.append(self.next_number)
            self.next_number += 1

    def note_loaded(self, count: int) -> None:
        """Enter commits that were acknowledged together."""
        self.note([ACKNOWLEDGED] * count)

    def verdict(self, found: dict[int, tuple[bool, ...]]) -> list[str]:
        """Return what is wrong with the commits found in a store."""
        acknowledged, refused = set(self.acknowledged), set(self.refused)
        wrong = []
        for number, rows in found.items():
            if any(rows) and not all(rows):
                wrong.append(f"commit {number} is torn: {rows}")
            elif number in acknowledged and not all(rows):
                wrong.append(f"acknowledged commit {number} is lost")
            elif number in refused and any(rows):
                wrong.append(f"refused commit {number} is there")
        return wrong

    def wrong_in(self, run: Callable[..., list[tuple[bool, ...]]]) -> list[str]:
        """Return what is wrong in the store that ``run`` (of a host) runs functions on."""
        numbers = range(self.next_number)
        return self.verdict(dict(zip(numbers, run(present, numbers), strict=True)))
