"""The registry's picture of all namespaces in memory: by id, by name, in order, and counted.

Look-ups by id are one dict access without a lock, for they happen on every call. Everything that reads more than one
structure takes the lock for a moment; nothing here ever waits for the disk, so the lock may be taken on an event loop.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from prefixdb.catalog.entities import Ban, NamespaceRecord, NamespaceState
from prefixdb.catalog.manifest import BanManifest


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """A number and a name, promised to a namespace in the making. Each is one of its kind."""

    namespace_id: int
    name: str


class Directory:
    """Namespaces and bans as they are now. Thread-safe; ``apply`` makes one change visible as a whole."""

    def __init__(self, records: Sequence[NamespaceRecord] = (), bans: Sequence[Ban] = ()) -> None:
        self._lock = threading.Lock()
        self._records = {record.id: record for record in records}
        self._ids = sorted(self._records)
        live = [self._records[namespace_id] for namespace_id in self._ids if self._records[namespace_id].state.is_live]
        self._live_ids = [record.id for record in live]
        self._live_names = {record.name: record.id for record in live}
        # Ids of dropped namespaces by name; made when somebody first asks for one, for there may be very many.
        self._dropped_names: dict[str, set[int]] | None = None
        self._counts = dict.fromkeys(NamespaceState, 0)
        for record in self._records.values():
            self._counts[record.state] += 1
        self._bans = BanManifest(bans)
        # Names by the numbers that are promised to namespaces in the making; see ``staging``.
        self._reserved: dict[int, Reservation] = {}

    def get(self, namespace_id: int) -> NamespaceRecord | None:
        """Return the record, or None. One dict look-up, no lock."""
        return self._records.get(namespace_id)

    def find(self, ref: int | str) -> NamespaceRecord | None:
        """Return the namespace of an id or name; the live one of a name first, else the one dropped last."""
        if isinstance(ref, int):
            return self._records.get(ref)
        with self._lock:
            live = self._live_names.get(ref)
            if live is not None:
                return self._records[live]
            dropped = self._dropped_by_name().get(ref)
            if not dropped:
                return None
            return self._records[max(dropped, key=self._dropped_at)]

    def page(self, after_id: int | None, limit: int, include_dropped: bool) -> list[NamespaceRecord]:
        """Return up to ``limit`` records with ids above ``after_id`` (None: from the first), in the order of ids."""
        with self._lock:
            ids = self._ids if include_dropped else self._live_ids
            first = 0 if after_id is None else bisect.bisect_right(ids, after_id)
            return [self._records[namespace_id] for namespace_id in ids[first : first + limit]]

    def counts(self) -> dict[NamespaceState, int]:
        """Return how many namespaces are in each state."""
        with self._lock:
            return dict(self._counts)

    def ban_of(self, namespace_id: int) -> Ban | None:
        """Return the ban of the current issue of the id, or None."""
        with self._lock:
            return self._bans.get(namespace_id)

    def undone_bans(self) -> list[Ban]:
        """Return the bans that wait for their reclaim: those already begun, then by the end of their grace."""
        with self._lock:
            return self._bans.undone()

    def due_bans(self, now_ms: int) -> list[Ban]:
        """Return the bans whose grace is over and whose reclaim has not begun, by the end of their grace."""
        with self._lock:
            return self._bans.due(now_ms)

    def begun_bans(self) -> list[Ban]:
        """Return the undone bans whose reclaim has begun, the first begun first."""
        with self._lock:
            return self._bans.begun()

    def next_grace_end_ms(self, now_ms: int) -> int | None:
        """Return when the next grace ends that still runs; None when there is none."""
        with self._lock:
            return self._bans.next_grace_end_ms(now_ms)

    def bans(self) -> list[Ban]:
        """Return every ban, by id."""
        with self._lock:
            return self._bans.all()

    def reserve(self, reservation: Reservation) -> None:
        """Promise a number and a name, and hold back the number's ban until ``release``."""
        with self._lock:
            self._reserved[reservation.namespace_id] = reservation
            self._bans.hold_back(reservation.namespace_id)

    def release(self, reservation: Reservation) -> None:
        """End a reservation; harmless when it has ended."""
        with self._lock:
            if self.holds(reservation):
                del self._reserved[reservation.namespace_id]
                self._bans.let_go(reservation.namespace_id)

    def holds(self, reservation: Reservation) -> bool:
        """Return whether this very reservation stands, not a later one of the same number."""
        return self._reserved.get(reservation.namespace_id) is reservation

    def is_reserved(self, namespace_id: int) -> bool:
        """Return whether the number is promised. One dict look-up, no lock."""
        return namespace_id in self._reserved

    def is_name_reserved(self, name: str) -> bool:
        """Return whether the name is promised."""
        with self._lock:
            return any(reservation.name == name for reservation in self._reserved.values())

    def apply(self, record: NamespaceRecord, ban: Ban | None) -> None:
        """Replace a namespace's record and its ban (None: it has none) in one step."""
        with self._lock:
            old = self._records.get(record.id)
            if old is not None:
                self._unname(old)
            if ban is None:
                self._bans.remove(record.id)
            else:
                self._bans.put(ban)
            self._put(record, old)

    def _put(self, record: NamespaceRecord, old: NamespaceRecord | None) -> None:
        if old is None:
            bisect.insort(self._ids, record.id)
        else:
            self._counts[old.state] -= 1
        self._counts[record.state] += 1
        self._index_live(record, was_live=old is not None and old.state.is_live)
        self._records[record.id] = record
        if record.state.is_live:
            self._live_names[record.name] = record.id
        elif self._dropped_names is not None and not self._never_lived(record):
            self._dropped_names.setdefault(record.name, set()).add(record.id)

    def _index_live(self, record: NamespaceRecord, *, was_live: bool) -> None:
        if record.state.is_live and not was_live:
            bisect.insort(self._live_ids, record.id)
        elif was_live and not record.state.is_live:
            del self._live_ids[bisect.bisect_left(self._live_ids, record.id)]

    def _unname(self, record: NamespaceRecord) -> None:
        if record.state.is_live:
            # A name may have gone to another namespace only after this one was dropped, so this entry is its own.
            self._live_names.pop(record.name, None)
            return
        if self._dropped_names is None or self._never_lived(record):
            return
        dropped = self._dropped_names[record.name]
        dropped.discard(record.id)
        if not dropped:
            del self._dropped_names[record.name]

    def _dropped_by_name(self) -> dict[str, set[int]]:
        if self._dropped_names is None:
            self._dropped_names = {}
            for record in self._records.values():
                if not record.state.is_live and not self._never_lived(record):
                    self._dropped_names.setdefault(record.name, set()).add(record.id)
        return self._dropped_names

    def _never_lived(self, record: NamespaceRecord) -> bool:
        """Return whether a dropped namespace was only ever staged: no name finds it."""
        ban = self._bans.get(record.id)
        return ban is not None and ban.staged

    def _dropped_at(self, namespace_id: int) -> tuple[int, int]:
        ban = self._bans.get(namespace_id)
        return (ban.banned_at_ms if ban else 0, self._records[namespace_id].row_version)
