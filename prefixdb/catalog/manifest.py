"""The ban manifest in memory: which namespaces were dropped, and which of them still wait for their reclaim.

The truth is the BAN records of namespace 0; this is their image, loaded at start and changed only by the registry after
a commit. A ban stays in the manifest after its reclaim, until its number is issued again: backups carry it, so that a
restore never brings a dropped namespace back.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from prefixdb.catalog.entities import Ban, NamespaceRecord, ReclaimPhase, ReclaimReport

__all__ = ["Ban", "BanManifest", "ReclaimPhase", "ReclaimReport", "waiting_report"]


class BanManifest:
    """Bans by namespace id.

    An undone ban is in one of three places, so that whoever looks for work pays for what there is to do and not for
    the manifest's size: a heap while its grace runs, ``_due`` when that is over, ``_begun`` once the reclaim has begun.
    Entries of the heap that are outdated are met and dropped when their time comes.

    A ban that is held back is due only when it is let go: its namespace is in the making (see ``staging``).

    Not thread-safe: the registry holds its view lock around every call and hands out copies.
    """

    def __init__(self, bans: Sequence[Ban] = ()) -> None:
        undone = [ban for ban in bans if not ban.reclaimed_at_ms]
        begun = sorted((ban for ban in undone if ban.reclaim_started_at_ms), key=_turn)
        self._bans = {ban.namespace_id: ban for ban in bans}
        self._held: set[int] = set()
        self._due: dict[int, Ban] = {}
        self._begun = {ban.namespace_id: ban for ban in begun}
        self._graces = [(ban.reclaim_after_ms, ban.namespace_id) for ban in undone if not ban.reclaim_started_at_ms]
        heapq.heapify(self._graces)

    def get(self, namespace_id: int) -> Ban | None:
        """Return the namespace's ban, done or not."""
        return self._bans.get(namespace_id)

    def put(self, ban: Ban) -> None:
        """Add or replace a ban."""
        self.remove(ban.namespace_id)
        self._bans[ban.namespace_id] = ban
        if ban.reclaimed_at_ms:
            return
        if ban.reclaim_started_at_ms:
            self._begun[ban.namespace_id] = ban
        else:
            heapq.heappush(self._graces, (ban.reclaim_after_ms, ban.namespace_id))

    def remove(self, namespace_id: int) -> None:
        """Forget a ban: it was taken back, or its number was issued again."""
        self._bans.pop(namespace_id, None)
        self._due.pop(namespace_id, None)
        self._begun.pop(namespace_id, None)

    def hold_back(self, namespace_id: int) -> None:
        """Have no ban of the number be due until it is let go. Called while it has none that waits."""
        self._held.add(namespace_id)

    def let_go(self, namespace_id: int) -> None:
        """Have the number's ban be due again when its time comes; harmless when it was not held back."""
        self._held.discard(namespace_id)
        ban = self._bans.get(namespace_id)
        if ban is not None:
            self.put(ban)

    def due(self, now_ms: int) -> list[Ban]:
        """Return the bans whose grace is over and whose reclaim has not begun, by the end of their grace."""
        while self._graces and self._graces[0][0] <= now_ms:
            grace_end_ms, namespace_id = heapq.heappop(self._graces)
            ban = self._in_grace(grace_end_ms, namespace_id)
            if ban is not None:
                self._due[namespace_id] = ban
        return list(self._due.values())

    def next_grace_end_ms(self, now_ms: int) -> int | None:
        """Return when the next grace ends that still runs; None when there is none."""
        self.due(now_ms)
        while self._graces:
            if self._in_grace(*self._graces[0]) is not None:
                return self._graces[0][0]
            heapq.heappop(self._graces)
        return None

    def begun(self) -> list[Ban]:
        """Return the undone bans whose reclaim has begun, the first begun first."""
        return list(self._begun.values())

    def undone(self) -> list[Ban]:
        """Return the bans that are not reclaimed: those whose reclaim has begun, then by the end of their grace."""
        return sorted((ban for ban in self._bans.values() if not ban.reclaimed_at_ms), key=_turn)

    def all(self) -> list[Ban]:
        """Return every ban by namespace id, reclaimed ones too."""
        return [self._bans[namespace_id] for namespace_id in sorted(self._bans)]

    def _in_grace(self, grace_end_ms: int, namespace_id: int) -> Ban | None:
        """Return the ban that an entry of the heap stands for, or None when it is outdated."""
        ban = self._bans.get(namespace_id)
        if ban is None or ban.reclaim_started_at_ms or ban.reclaim_after_ms != grace_end_ms:
            return None
        if namespace_id in self._held:
            return None
        return ban


def waiting_report(ban: Ban, record: NamespaceRecord, now_ms: int) -> ReclaimReport:
    """Return the report of a ban nobody works on: GRACE while that runs, PENDING after."""
    grace = now_ms < ban.reclaim_after_ms and not ban.reclaim_started_at_ms
    return ReclaimReport(
        namespace_id=ban.namespace_id,
        name=record.name,
        incarnation=ban.incarnation,
        phase=ReclaimPhase.GRACE if grace else ReclaimPhase.PENDING,
        banned_at_ms=ban.banned_at_ms,
        banned_by=ban.by,
        reason=ban.reason,
        reclaim_after_ms=ban.reclaim_after_ms,
        started_at_ms=ban.reclaim_started_at_ms,
    )


def _turn(ban: Ban) -> tuple[bool, int, int, int]:
    begun = bool(ban.reclaim_started_at_ms)
    return (not begun, ban.reclaim_started_at_ms, ban.reclaim_after_ms, ban.namespace_id)
