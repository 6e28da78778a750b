"""The ban manifest in memory: which namespaces were dropped, and which of them still wait for their reclaim.

The truth is the BAN records of namespace 0; this is their image, loaded at start and changed only by the registry after
a commit. A ban stays in the manifest after its reclaim, until its number is issued again: backups carry it, so that a
restore never brings a dropped namespace back.
"""

from __future__ import annotations

from collections.abc import Iterable

from prefixdb.catalog.entities import Ban, NamespaceRecord, ReclaimPhase, ReclaimReport

__all__ = ["Ban", "BanManifest", "ReclaimPhase", "ReclaimReport", "waiting_report"]


class BanManifest:
    """Bans by namespace id.

    Not thread-safe: the registry holds its view lock around every call and hands out copies.
    """

    def __init__(self, bans: Iterable[Ban] = ()) -> None:
        self._bans: dict[int, Ban] = {}
        self._undone: dict[int, Ban] = {}
        self._queue: list[Ban] | None = None
        for ban in bans:
            self.put(ban)

    def get(self, namespace_id: int) -> Ban | None:
        """Return the namespace's ban, done or not."""
        return self._bans.get(namespace_id)

    def put(self, ban: Ban) -> None:
        """Add or replace a ban."""
        self._bans[ban.namespace_id] = ban
        self._queue = None
        if ban.reclaimed_at_ms:
            self._undone.pop(ban.namespace_id, None)
        else:
            self._undone[ban.namespace_id] = ban

    def remove(self, namespace_id: int) -> None:
        """Forget a ban: it was taken back, or its number was issued again."""
        self._bans.pop(namespace_id, None)
        self._undone.pop(namespace_id, None)
        self._queue = None

    def undone(self) -> list[Ban]:
        """Return the bans that are not reclaimed: those whose reclaim has begun, then by the end of their grace."""
        if self._queue is None:
            self._queue = sorted(self._undone.values(), key=_turn)
        return list(self._queue)

    def all(self) -> list[Ban]:
        """Return every ban by namespace id, reclaimed ones too."""
        return [self._bans[namespace_id] for namespace_id in sorted(self._bans)]


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


def _turn(ban: Ban) -> tuple[int, int]:
    return (0 if ban.reclaim_started_at_ms else ban.reclaim_after_ms, ban.namespace_id)
