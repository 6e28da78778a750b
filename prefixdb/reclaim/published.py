"""Which bans the store knows, and the order in which it learns and forgets them.

A published id may lose its rows in any compaction from that moment on, so it must never name living rows:

1. *Nothing that can come back is published.* An id is published only while the registry holds a ban of it that is
   begun and not reclaimed. Begun is durable, and no unban is possible from then on.
2. *A number is issued again only after it was withdrawn.* A create needs the state RECLAIMED, which ``finish`` alone
   writes, and it withdraws first. When the withdrawal fails nothing is marked. When the mark fails, or a crash comes
   between, the ban is as undone as before: it is published again, reclaimed again and proven again.
3. *Nothing is published in between.* Publishing looks at the registry under the same lock under which ``finish``
   withdraws and marks. It sees a ban either before the withdrawal, when publishing changes nothing, or after the mark,
   when it is reclaimed and left out, or after a mark that failed, when publishing it again is right. An unknown outcome
   of the mark is no exception: the registry then believes the store, and both see the same registry.

A compaction that began before the withdrawal keeps the older set, and reads only files that are older than any row of
the number's next owner.

Thread-safe. Lock order: this one, then the registry's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from prefixdb.catalog.entities import Ban, NamespaceRecord, ReclaimReport
from prefixdb.catalog.namespaces import Registry
from prefixdb.errors import PrefixdbError
from prefixdb.store.base import Store


class Published:
    """The only caller of ``publish_bans`` and ``withdraw_bans``."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._lock = threading.Lock()

    def publish(self, bans: Iterable[Ban]) -> list[Ban]:
        """Publish those that are begun and not reclaimed at this moment, and return them as the registry has them.

        That no stream of them is open any more the caller has seen.
        """
        with self._lock:
            current = [found for ban in bans if (found := self._begun(ban)) is not None]
            if current:
                self._store.publish_bans([ban.namespace_id for ban in current])
            return current

    def finish(self, reports: Sequence[ReclaimReport]) -> dict[int, NamespaceRecord | PrefixdbError]:
        """Withdraw namespaces that were proven empty, then write their final reports.

        Returns:
            As ``Registry.mark_reclaimed``. Whatever is not reclaimed afterwards is not published any more either.

        Raises:
            Exception: as ``Registry.mark_reclaimed`` and ``Store.withdraw_bans``, for all of them.
        """
        with self._lock:
            self._store.withdraw_bans([report.namespace_id for report in reports])
            return self._registry.mark_reclaimed(reports)

    def _begun(self, ban: Ban) -> Ban | None:
        """Return the ban as it is now, if it may be published."""
        found = self._registry.ban_of(ban.namespace_id)
        if found is None or found.incarnation != ban.incarnation:
            return None
        return found if found.reclaim_started_at_ms and not found.reclaimed_at_ms else None
