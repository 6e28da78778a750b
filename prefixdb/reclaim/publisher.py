"""The publisher: takes bans whose grace is over to the point where the store may drop their rows.

For each, when no stream of the namespace is open any more: measure it for the report, say durably that its reclaim has
begun, publish it, queue it. Thousands at once are normal, so they share a flush, and chunks of them a synced batch. It
has a thread of its own because a reclaim may take hours, and what is published early is dropped for nothing by the
compactions that happen anyway.

Belongs to one thread at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from prefixdb.catalog.entities import Ban, ReclaimPhase
from prefixdb.errors import DataLossError, PrefixdbError
from prefixdb.keycodec import namespace_span
from prefixdb.reclaim.board import BACKOFF_MS_MAX, Board, Work
from prefixdb.reclaim.published import Published
from prefixdb.store.base import SpanSize, Store

STREAMS_RECHECK_MS = 1_000
"""How often a namespace with open streams is looked at when nobody calls ``wake``. They are cut within a second."""

EXACT_ROWS_MAX = 1_000_000
"""Rows of dropped namespaces that one round counts for the reports, two or three seconds of paced work; of a larger
one, and of those that come after it, the report says "about"."""

EXACT_ROWS_LEAST = 1_000
"""Rows that are counted of every namespace, however many there are: two milliseconds."""

CHUNK = 1_000
"""Bans that share a synced batch, and are published together; the first of many thousand do not wait for the last."""

_log = logging.getLogger(__name__)


class Publisher:
    """See the module's docstring."""

    def __init__(
        self,
        store: Store,
        published: Published,
        board: Board,
        streams_open: Callable[[int], int],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._store = store
        self._published = published
        self._board = board
        self._streams_open = streams_open
        self._is_stopping = is_stopping
        self._resumed: list[Ban] = []
        self._rows_left = 0

    def publish_begun(self) -> int:
        """Publish every ban whose reclaim had begun at an earlier start, and return how many there are.

        They are queued by the next round, for that takes time, and whoever waits for the server's start does not.
        """
        self._resumed = self._published.publish(self._board.registry.begun_bans())
        return len(self._resumed)

    def publish_due(self) -> int:
        """Take every due ban as far as it goes now; return how many were queued."""
        resumed, self._resumed = self._resumed, []
        for ban in resumed:
            self._board.enqueue(self._board.work_of(ban))
        ready = self._ready()
        if not ready:
            return len(resumed)
        try:
            self._store.flush()  # Only files can say what rows take on disk.
        except PrefixdbError as failure:
            self._put_off(ready, failure)
            return len(resumed)
        self._rows_left = EXACT_ROWS_MAX
        queued = len(resumed)
        for first in range(0, len(ready), CHUNK):
            queued += self._publish_chunk(ready[first : first + CHUNK])
        return queued

    def idle_ms(self) -> int:
        """Return how long there is nothing to do unless somebody wakes us."""
        now_ms = self._board.clock.now_ms()
        waits = [BACKOFF_MS_MAX]
        for ban in self._board.registry.due_bans(now_ms):
            work = self._board.find(ban)
            waits.append(work.not_before_ms - now_ms if work is not None else 0)
        next_ms = self._board.registry.next_grace_end_ms(now_ms)
        if next_ms is not None:
            waits.append(next_ms - now_ms)
        return max(min(waits), 1)

    def _ready(self) -> list[Work]:
        """Return the due bans that have no open stream and are not put off."""
        now_ms = self._board.clock.now_ms()
        ready = []
        for ban in self._board.registry.due_bans(now_ms):
            work = self._board.work_of(ban)
            if now_ms < work.not_before_ms:
                continue
            open_now = self._streams_open(ban.namespace_id)
            if open_now:
                work.not_before_ms = now_ms + STREAMS_RECHECK_MS
                detail = f"waiting for {open_now} open calls to end"
                self._board.show(work, phase=ReclaimPhase.PENDING, detail=detail)
                continue
            ready.append(work)
        return ready

    def _publish_chunk(self, works: Sequence[Work]) -> int:
        """Measure, begin and publish; return how many."""
        works_by_id = {work.ban.namespace_id: work for work in works}
        sizes = self._measure(works)
        if not sizes:
            return 0
        try:
            outcomes = self._board.registry.mark_reclaims_started(sizes)
        except PrefixdbError as failure:
            self._put_off([works_by_id[namespace_id] for namespace_id in sizes], failure)
            return 0
        begun = []
        for namespace_id, outcome in outcomes.items():
            if isinstance(outcome, Ban):
                begun.append(outcome)
            elif self._board.registry.ban_of(namespace_id) is None:
                # It was taken back in the last moment of its grace.
                self._board.forget(namespace_id, works_by_id[namespace_id].ban.incarnation)
            else:
                self._put_off([works_by_id[namespace_id]], outcome)
        try:
            self._published.publish(begun)
        finally:
            # Begun is begun: whatever happened here, each is published before its reclaim at the latest.
            for ban in begun:
                self._queue(works_by_id[ban.namespace_id], ban)
        return len(begun)

    def _measure(self, works: Sequence[Work]) -> dict[int, SpanSize]:
        """Return the sizes of those that could be measured; the others are put off."""
        sizes: dict[int, SpanSize] = {}
        for work in works:
            namespace_id = work.ban.namespace_id
            at_most = max(self._rows_left, EXACT_ROWS_LEAST)
            try:
                size = self._store.span_size(
                    namespace_span(namespace_id), exact_rows_max=at_most, stop=self._is_stopping
                )
            except DataLossError:
                # Its rows are to go, so that some cannot be read is no reason to keep them.
                _log.warning("namespace %d is damaged; it is reclaimed without having been measured", namespace_id)
                size = SpanSize(0, 0)
            except PrefixdbError as failure:
                self._put_off([work], failure)
                continue
            except Exception:  # noqa: BLE001  # one namespace's trouble must not keep the others from their reclaim
                wait_ms = self._board.retry_later(work, "internal error; it is in the log")
                _log.exception("namespace %d was not measured; next try in %d ms", namespace_id, wait_ms)
                continue
            if self._is_stopping():
                break
            self._rows_left -= min(size.rows, at_most)
            sizes[namespace_id] = size
        return sizes

    def _queue(self, work: Work, ban: Ban) -> None:
        work.ban = ban
        work.failures = work.not_before_ms = 0
        self._board.show(
            work,
            phase=ReclaimPhase.PENDING,
            detail="waiting for its turn",
            started_at_ms=ban.reclaim_started_at_ms,
            bytes_total=max(work.report.bytes_total, ban.bytes_before),
        )
        self._board.enqueue(work)

    def _put_off(self, works: Sequence[Work], failure: PrefixdbError) -> None:
        """Try these again later; told in one line, for a full disk concerns all of them."""
        for work in works:
            wait_ms = self._board.retry_later(work, f"the store refused: {failure.reason.name}")
        first, reason = works[0].ban.namespace_id, failure.reason.name
        _log.warning("%d bans, the first of namespace %d: %s; next try in %d ms", len(works), first, reason, wait_ms)
