"""What must be on disk: one dict per lane, and the effect of every call on it.

A lane is the share of one worker in one issue of one namespace. A worker has one call in flight, so after a crash at
most one call of a lane is neither acknowledged nor refused. The lane then holds exactly what it held before that call,
or exactly that plus the whole call: anything else is a lost write, a torn batch or a resurrected row.

Nothing here knows prefixdb: keys are (database, key), values are bytes, times are the wall clock of this machine. A row
with a lifetime expires between ``sent + ttl`` and ``acknowledged + ttl``; in between it may be seen or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

Place = tuple[int, bytes]
"""Database and key."""


class Cell(NamedTuple):
    """A row that must be there; with a lifetime until ``expires_from_ms``, and from ``expires_by_ms`` on no more."""

    value: bytes
    expires_from_ms: int = 0
    expires_by_ms: int = 0


class Put(NamedTuple):
    """Write a row; ``ttl_ms`` 0 for no lifetime."""

    place: Place
    value: bytes
    ttl_ms: int = 0


class Delete(NamedTuple):
    """Remove a row."""

    place: Place


class DeleteRange(NamedTuple):
    """Remove every row of a database with ``start <= key < end``."""

    database: int
    start: bytes
    end: bytes


Change = Put | Delete | DeleteRange


@dataclass(frozen=True, slots=True)
class Operation:
    """One call that writes. ``must_exist`` is its condition: (place, whether there must be a row)."""

    changes: tuple[Change, ...]
    must_exist: tuple[Place, bool] | None = None


@dataclass(slots=True)
class Pending:
    """A call whose reply never came: sent at ``sent_ms``, and at ``ended_ms`` the server was surely gone."""

    operation: Operation
    sent_ms: int
    ended_ms: int


@dataclass(slots=True)
class Lane:
    """The rows of one worker in one namespace, and the one call that may or may not have been applied."""

    cells: dict[Place, Cell] = field(default_factory=dict)
    pending: Pending | None = None

    def holds(self, operation: Operation) -> bool:
        """True when the operation's condition holds; its place never has a lifetime."""
        if operation.must_exist is None:
            return True
        place, wanted = operation.must_exist
        return (place in self.cells) == wanted

    def apply(self, operation: Operation, sent_ms: int, ended_ms: int) -> None:
        """Do what an applied call does."""
        _apply(self.cells, operation, sent_ms, ended_ms)

    def settle(self, found: Mapping[Place, bytes], begin_ms: int, end_ms: int) -> list[str]:
        """Compare with what a complete scan found between two instants, and decide about the pending call.

        Returns:
            Differences for a person; empty when the rows are exactly as they must be.
        """
        before = list(_differences(self.cells, found, begin_ms, end_ms))
        pending, self.pending = self.pending, None
        if pending is not None and self.holds(pending.operation):
            applied = dict(self.cells)
            _apply(applied, pending.operation, pending.sent_ms, pending.ended_ms)
            # Both may fit, when the call changes nothing that shows; a lifetime of the newer one is then the wider.
            after = list(_differences(applied, found, begin_ms, end_ms))
            if not after:
                self.cells = applied
                return []
            if before:
                both = [
                    f"neither before nor after the call without a reply ({len(pending.operation.changes)} changes):"
                ]
                return both + [f"before: {one}" for one in before] + [f"after: {one}" for one in after]
        return before


def _apply(cells: dict[Place, Cell], operation: Operation, sent_ms: int, ended_ms: int) -> None:
    for change in operation.changes:
        if isinstance(change, Put):
            ttl_ms = change.ttl_ms
            expiry = (sent_ms + ttl_ms, ended_ms + ttl_ms) if ttl_ms else (0, 0)
            cells[change.place] = Cell(change.value, *expiry)
        elif isinstance(change, Delete):
            cells.pop(change.place, None)
        else:
            for place in [place for place in cells if _inside(place, change)]:
                del cells[place]


def _inside(place: Place, change: DeleteRange) -> bool:
    return place[0] == change.database and change.start <= place[1] < change.end


def _differences(
    cells: Mapping[Place, Cell], found: Mapping[Place, bytes], begin_ms: int, end_ms: int
) -> Iterator[str]:
    """Yield what is wrong with ``found``, in a fixed order."""
    for place in sorted(cells.keys() | found.keys()):
        cell, value = cells.get(place), found.get(place)
        if cell is None:
            yield f"{place}: found {value!r}, there must be none"
        elif value is None:
            if not cell.expires_from_ms or end_ms < cell.expires_from_ms:
                yield f"{place}: missing, must be {cell.value[:60]!r}"
        elif value != cell.value:
            yield f"{place}: found {value[:60]!r}, must be {cell.value[:60]!r}"
        elif cell.expires_by_ms and begin_ms > cell.expires_by_ms:
            yield f"{place}: found, but it expired {begin_ms - cell.expires_by_ms} ms before"
