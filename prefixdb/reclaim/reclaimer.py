"""From a ban to the proof that nothing is left: two threads, resumable at every point.

    GRACE ──grace over──► PENDING ──────────────────────────► RECLAIMING ──► PROVING ──found nothing──► DONE
                          last stream ended: measured,           ▲             │
                          begun (durable), published, queued     └─ retry ─────┘ found something, or an error

    publisher   due → begun → published → queue      (``publisher``; short, never waits for a reclaim)
    reclaimer   queue → reclaimed → proven → done    (``batches``), and the sweep of expired rows (``sweeper``)

Nothing is remembered here that a restart would need: the manifest says which bans are undone and which have begun, and
``Store.reclaim`` goes on where it stopped. "Begun" is durable before the id is published, because what is published may
be dropped by any compaction, and an unban would give back half a namespace. In which order ids are published,
withdrawn and issued again is the matter of ``published``.

Threads: ``report``, ``wake``, ``stop`` and ``add_listener`` may be called from anywhere. Listeners are called from
either thread and must not block. Tests drive ``run_once`` by hand instead of ``start``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from prefixdb.catalog.entities import NamespaceState, ReclaimReport
from prefixdb.catalog.manifest import waiting_report
from prefixdb.catalog.namespaces import Registry
from prefixdb.clock import Clock
from prefixdb.errors import Reason, error
from prefixdb.reclaim.batches import Batches
from prefixdb.reclaim.board import BACKOFF_MS_MAX, Board, Listener
from prefixdb.reclaim.published import Published
from prefixdb.reclaim.publisher import Publisher
from prefixdb.reclaim.sweeper import Sweeper
from prefixdb.store.base import Store

IDLE_MS_MAX = 60_000
"""A thread without anything to do looks again after so long at most, should the clock have been set forward."""

PUBLISH_PAUSE_S = 0.2
"""Pause between two rounds of the publisher. Each round costs a flush; bans that arrive meanwhile share the next."""

_log = logging.getLogger(__name__)


class _Alarm:
    """Lets a thread sleep until somebody calls."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._rung = False

    def ring(self) -> None:
        with self._condition:
            self._rung = True
            self._condition.notify_all()

    def wait(self, at_most_ms: int) -> None:
        with self._condition:
            if not self._rung:
                self._condition.wait(at_most_ms / 1000)
            self._rung = False


class Reclaimer:
    """Reclaims what is banned. See the module's docstring."""

    def __init__(self, store: Store, registry: Registry, clock: Clock, streams_open: Callable[[int], int]) -> None:
        """Publish the bans whose reclaim had begun when the store was last closed; make it before anybody is served.

        Nothing else runs before ``start`` or ``run_once``.

        Args:
            store: the store.
            registry: the namespaces and their bans.
            clock: the time, for graces and waits.
            streams_open: how many calls of a namespace still hold a cursor or could write. After a ban is visible in
                the registry no new one may be admitted; the ban is published when the answer is 0.
        """
        self._store = store
        self._registry = registry
        self._clock = clock
        self._stopping = threading.Event()
        self._board = Board(registry, clock)
        published = Published(store, registry)
        self._publisher = Publisher(store, published, self._board, streams_open, self._stopping.is_set)
        self._batches = Batches(store, published, self._board, self._stopping.is_set)
        self._sweeper = Sweeper(store, clock)
        self._publish_alarm = _Alarm()
        self._reclaim_alarm = _Alarm()
        self._threads: list[threading.Thread] = []
        begun = self._publisher.publish_begun()
        if begun:
            _log.info("the reclaim of %d banned namespaces goes on", begun)
        registry.add_listener(self._on_change)

    def start(self) -> None:
        """Start the threads; bans that were undone at the last stop go on."""
        if self._threads:
            raise RuntimeError("the reclaimer runs already")
        for name, work in (("prefixdb-publisher", self._publish), ("prefixdb-reclaimer", self._reclaim)):
            self._threads.append(threading.Thread(target=work, name=name, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Have the work interrupted at its next step and wait for the threads' end. Harmless when called again.

        Raises:
            TimeoutError: a thread still works after ``timeout_s``; the store must not be closed yet.
        """
        self._stopping.set()
        self.wake()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise TimeoutError("the reclaimer did not stop in time")

    def wake(self) -> None:
        """Have the threads look for work now: a ban, the end of a stream, a moved clock."""
        self._publish_alarm.ring()
        self._reclaim_alarm.ring()

    def add_listener(self, listener: Listener) -> None:
        """Have ``listener(namespace_id)`` called on every new phase and, not too often, on progress."""
        self._board.add_listener(listener)

    def report(self, namespace_id: int) -> ReclaimReport:
        """Return how far the reclaim of the namespace's ban is; of a number issued again, the last final report.

        Raises:
            NotFoundError: NAMESPACE_NOT_FOUND, the number was never issued; REPORT_NOT_FOUND, it was never banned.
        """
        record = self._registry.get(namespace_id)
        if record is None:
            raise error(Reason.NAMESPACE_NOT_FOUND)
        ban = self._registry.ban_of(namespace_id)
        # A namespace in the making is not being dropped; a report of it would never come to an end.
        if ban is not None and not ban.reclaimed_at_ms and not self._registry.staging.is_building(namespace_id):
            work = self._board.find(ban)
            report = work.report if work is not None else waiting_report(ban, record, self._clock.now_ms())
            # Where ordinary compactions drop rows too, their work shows before the reclaim's own begins.
            dropped = self._store.dropped(namespace_id)
            return replace(report, rows_dropped=min(max(report.rows_dropped, dropped.rows), ban.rows_before))
        final = self._registry.last_report(namespace_id)
        if final is None:
            raise error(Reason.REPORT_NOT_FOUND)
        return final

    def run_once(self) -> bool:
        """Take every undone ban as far as it goes now, then do one step of the sweep.

        Returns:
            Whether a namespace was reclaimed completely.
        """
        self._publisher.publish_due()
        return self._reclaim_all()

    # --- the threads -----------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        while not self._stopping.is_set():
            wait_ms = BACKOFF_MS_MAX
            try:
                if self._publisher.publish_due():
                    self._reclaim_alarm.ring()
                    self._stopping.wait(PUBLISH_PAUSE_S)
                wait_ms = self._publisher.idle_ms()
            except Exception:  # noqa: BLE001  # whatever it was, the next ban must still be published
                _log.exception("the publisher of bans failed and goes on")
            self._publish_alarm.wait(min(wait_ms, IDLE_MS_MAX))

    def _reclaim(self) -> None:
        while not self._stopping.is_set():
            wait_ms = BACKOFF_MS_MAX
            try:
                self._reclaim_all()
                wait_ms = min(self._batches.idle_ms(), self._sweeper.idle_ms())
            except Exception:  # noqa: BLE001  # whatever it was, the next ban must still be reclaimed
                _log.exception("the reclaimer failed and goes on")
            self._reclaim_alarm.wait(min(wait_ms, IDLE_MS_MAX))

    def _reclaim_all(self) -> bool:
        """Reclaim batch after batch until none is ready, sweeping a step in between; True when one was finished."""
        finished = False
        while not self._stopping.is_set():
            done = self._batches.run_next()
            if done is None:
                break
            finished = finished or done > 0
            self._step_sweep()
        self._step_sweep()
        return finished

    def _step_sweep(self) -> None:
        if not self._stopping.is_set():
            self._sweeper.step()

    def _on_change(self, namespace_id: int) -> None:
        record = self._registry.get(namespace_id)
        if record is None:
            return
        if record.state is NamespaceState.BANNED:
            self._publish_alarm.ring()
        elif record.state.is_live:  # Taken back: a later ban starts afresh.
            self._board.forget(namespace_id, record.incarnation)
