"""What is known in memory of undone bans: their reports, their places in the queue, when each is tried again.

Thread-safe as a whole. A ``Work`` is changed by one thread at a time: the publisher's until it is queued, the
reclaimer's from then on. Anybody may read its report, which is replaced as a whole.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from prefixdb.catalog.entities import Ban, ReclaimPhase, ReclaimReport
from prefixdb.catalog.manifest import waiting_report
from prefixdb.catalog.namespaces import Registry
from prefixdb.clock import Clock
from prefixdb.errors import Reason, error
from prefixdb.store.base import Emptiness

Listener = Callable[[int], None]

BACKOFF_MS_FIRST = 1_000
"""Wait after a first failure or an unsuccessful proof; doubles up to ``BACKOFF_MS_MAX``."""

BACKOFF_MS_MAX = 60_000
"""Longest wait. A full disk is looked at once a minute."""

PROGRESS_INTERVAL_MS = 200
"""Listeners hear of progress at most so often; of a new phase always."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Work:
    """What is known of one undone ban.

    done_before: bytes that earlier turns of this process have dealt with.
    removed: a reclaim has finished, so only the proof is missing.
    interrupted: the last reclaim ended before it was finished.
    alone: it failed by itself, so it does not share a batch.
    """

    ban: Ban
    report: ReclaimReport
    done_before: int = 0
    removed: bool = False
    interrupted: bool = False
    alone: bool = False
    failures: int = 0
    not_before_ms: int = 0
    told_at_ms: int = field(default=-PROGRESS_INTERVAL_MS)


class Board:
    """Work by ban, the queue of what is published, and those who want to hear of it."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self.registry = registry
        self.clock = clock
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()
        self._work: dict[tuple[int, int], Work] = {}
        self._queue: dict[tuple[int, int], Work] = {}

    def add_listener(self, listener: Listener) -> None:
        """Have ``listener(namespace_id)`` called on every new phase and, not too often, on progress."""
        self._listeners.append(listener)

    def find(self, ban: Ban) -> Work | None:
        """Return the work of a ban, or None when there is none yet."""
        with self._lock:
            return self._work.get((ban.namespace_id, ban.incarnation))

    def work_of(self, ban: Ban) -> Work:
        """Return the work of a ban, made when there is none yet."""
        with self._lock:
            work = self._work.get((ban.namespace_id, ban.incarnation))
            if work is None:
                record = self.registry.get(ban.namespace_id)
                if record is None:
                    raise error(Reason.INTERNAL, "A ban without a namespace record.")
                work = Work(ban, waiting_report(ban, record, self.clock.now_ms()))
                self._work[ban.namespace_id, ban.incarnation] = work
            return work

    def enqueue(self, work: Work) -> None:
        """Put work at the end of the queue; also when it is in the queue already."""
        key = (work.ban.namespace_id, work.ban.incarnation)
        with self._lock:
            self._queue.pop(key, None)
            self._queue[key] = work

    def queued(self) -> list[Work]:
        """Return what is queued, in order."""
        with self._lock:
            return list(self._queue.values())

    def forget(self, namespace_id: int, incarnation: int) -> None:
        """Drop the work of a ban that is done or was taken back."""
        with self._lock:
            self._work.pop((namespace_id, incarnation), None)
            self._queue.pop((namespace_id, incarnation), None)

    def show(self, work: Work, **changes: object) -> None:
        """Change the visible report and tell the listeners: of a new phase at once, of mere progress now and then."""
        before = work.report
        work.report = replace(before, **changes)  # type: ignore[arg-type]  # names and types are those of the report
        now_ms = self.clock.now_ms()
        if work.report.phase is before.phase and now_ms - work.told_at_ms < PROGRESS_INTERVAL_MS:
            return
        work.told_at_ms = now_ms
        self.tell(work.ban.namespace_id)

    def tell(self, namespace_id: int) -> None:
        """Tell the listeners of a namespace."""
        for listener in self._listeners:
            try:
                listener(namespace_id)
            except Exception:  # noqa: BLE001  # a watcher's mistake must not stop the reclaim
                _log.exception("a listener failed on the reclaim of namespace %d", namespace_id)

    def retry_later(self, work: Work, detail: str, found: Emptiness | None = None) -> int:
        """Put the ban off, longer every time, say why in the report, and return for how many milliseconds."""
        wait_ms = min(BACKOFF_MS_FIRST << min(work.failures, 16), BACKOFF_MS_MAX)
        work.failures += 1
        work.not_before_ms = self.clock.now_ms() + wait_ms
        self.show(
            work,
            phase=ReclaimPhase.PENDING if found is None else ReclaimPhase.PROVING,
            detail=detail,
            proof_rows_found=found.rows_found if found else work.report.proof_rows_found,
            proof_bytes_found=found.bytes_found if found else work.report.proof_bytes_found,
        )
        return wait_ms
