"""From a ban to the proof that nothing is left: one thread, one namespace at a time, resumable at every point.

    GRACE ──grace over──► PENDING ──last stream ended──► RECLAIMING ──► PROVING ──found nothing──► DONE
                             ▲ store error, stop, restart      ▲            │
                             └─────────────────────────────────┴────────────┘ found something: again, a little later

Nothing is remembered here that a restart would need: the manifest says which bans are undone and which have begun, and
``Store.reclaim_span`` goes on where it stopped. "Begun" is durable before the first row goes, because from then on an
unban would give back half a namespace. The final report is written only after ``Store.prove_empty`` found no row, no
byte and no file; while old files are still held by readers the proof is simply repeated.

In between the thread removes expired rows of living namespaces, in small steps, so that a ban never waits for a sweep.

Threads: ``report``, ``wake``, ``stop`` and ``add_listener`` may be called from anywhere. Listeners are called from the
reclaimer's thread and must not block. Tests drive ``run_once`` by hand instead of ``start``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from prefixdb.catalog.entities import Ban, NamespaceState, ReclaimPhase, ReclaimReport
from prefixdb.catalog.manifest import waiting_report
from prefixdb.catalog.namespaces import Registry
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import RowKey, namespace_span
from prefixdb.store.base import Emptiness, ReclaimProgress, Store

Listener = Callable[[int], None]

BACKOFF_MS_FIRST = 1_000
"""Wait after a first failure or an unsuccessful proof; doubles up to ``BACKOFF_MS_MAX``."""

BACKOFF_MS_MAX = 60_000
"""Longest wait. A full disk is looked at once a minute."""

STREAMS_RECHECK_MS = 1_000
"""How often a namespace with open streams is looked at when nobody calls ``wake``. They are cut within a second."""

PROGRESS_INTERVAL_MS = 200
"""Listeners hear of progress at most so often; of a new phase always."""

EXACT_ROWS_MAX = 1_000_000
"""Rows of a dropped namespace that are counted for its report, two or three seconds of paced work; of a larger one the
report says "about"."""

SWEEP_ROWS = 1_000
"""Rows one sweep step looks at: about a millisecond of work."""

SWEEP_STEP_MS = 20
"""Pause between two steps, so that a sweep takes a twentieth of the time at most."""

SWEEP_PASS_MS = 600_000
"""Pause after a whole pass. Expired rows are hidden at once; sweeping only gives their bytes back."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Work:
    """What is known in memory of one undone ban."""

    report: ReclaimReport
    failures: int = 0
    not_before_ms: int = 0
    told_at_ms: int = field(default=-PROGRESS_INTERVAL_MS)


class Reclaimer:
    """Reclaims what is banned. See the module's docstring."""

    def __init__(self, store: Store, registry: Registry, clock: Clock, streams_open: Callable[[int], int]) -> None:
        """Prepare; nothing runs before ``start`` or ``run_once``.

        Args:
            store: the store.
            registry: the namespaces and their bans.
            clock: the time, for graces and waits.
            streams_open: how many calls of a namespace still hold a cursor or could write. After a ban is visible in
                the registry no new one may be admitted; the reclaim begins when the answer is 0.
        """
        self._store = store
        self._registry = registry
        self._clock = clock
        self._streams_open = streams_open
        self._listeners: list[Listener] = []
        self._wakeup = threading.Condition()
        self._woken = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._work: dict[tuple[int, int], _Work] = {}
        self._work_lock = threading.Lock()
        self._sweep_after = RowKey(b"")
        self._sweep_at_ms = 0
        self._sweep_failures = 0
        registry.add_listener(self._on_change)

    # --- for everyone ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread; bans that were undone at the last stop go on."""
        if self._thread is not None:
            raise RuntimeError("the reclaimer runs already")
        undone = len(self._registry.undone_bans())
        if undone:
            _log.info("%d banned namespaces are to be reclaimed", undone)
        self._thread = threading.Thread(target=self._run, name="prefixdb-reclaimer", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Have the work interrupted at its next step and wait for the thread's end. Harmless when called again.

        Raises:
            TimeoutError: the thread still works after ``timeout_s``; the store must not be closed yet.
        """
        with self._wakeup:
            self._stopping = True
            self._wakeup.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                raise TimeoutError("the reclaimer did not stop in time")

    def wake(self) -> None:
        """Have the thread look for work now: a ban, the end of a stream, a moved clock."""
        with self._wakeup:
            self._woken = True
            self._wakeup.notify_all()

    def add_listener(self, listener: Listener) -> None:
        """Have ``listener(namespace_id)`` called on every new phase and, not too often, on progress."""
        self._listeners.append(listener)

    def report(self, namespace_id: int) -> ReclaimReport:
        """Return how far the reclaim of the namespace's ban is; of a number issued again, the last final report.

        Raises:
            NotFoundError: NAMESPACE_NOT_FOUND, the number was never issued; REPORT_NOT_FOUND, it was never banned.
        """
        record = self._registry.get(namespace_id)
        if record is None:
            raise error(Reason.NAMESPACE_NOT_FOUND)
        ban = self._registry.ban_of(namespace_id)
        if ban is not None and not ban.reclaimed_at_ms:
            with self._work_lock:
                work = self._work.get((namespace_id, ban.incarnation))
            return work.report if work is not None else waiting_report(ban, record, self._clock.now_ms())
        final = self._registry.last_report(namespace_id)
        if final is None:
            raise error(Reason.REPORT_NOT_FOUND)
        return final

    def run_once(self) -> bool:
        """Take every undone ban as far as it goes now, then do one step of the sweep.

        Returns:
            Whether a namespace was reclaimed completely.
        """
        finished = False
        for ban in self._registry.undone_bans():
            if self._is_stopping():
                return finished
            if self._clock.now_ms() < ban.reclaim_after_ms and not ban.reclaim_started_at_ms:
                break  # Those that have begun come first, then the others by the end of their grace.
            finished = self._attempt(ban) or finished
            self._sweep_step()
        self._sweep_step()
        return finished

    # --- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_stopping():
            try:
                self.run_once()
            except Exception:  # noqa: BLE001  # whatever it was, the next ban must still be reclaimed
                _log.exception("the reclaimer failed and goes on")
                self._sleep(BACKOFF_MS_MAX)
                continue
            self._sleep(self._idle_ms())

    def _sleep(self, at_most_ms: int) -> None:
        with self._wakeup:
            if not self._woken and not self._stopping:
                self._wakeup.wait(at_most_ms / 1000)
            self._woken = False

    def _idle_ms(self) -> int:
        """Return how long there is nothing to do."""
        now_ms = self._clock.now_ms()
        wait_ms = max(self._sweep_at_ms - now_ms, SWEEP_STEP_MS)
        for ban in self._registry.undone_bans():
            due_ms = 0 if ban.reclaim_started_at_ms else ban.reclaim_after_ms
            if due_ms - now_ms >= wait_ms:
                break
            with self._work_lock:
                work = self._work.get((ban.namespace_id, ban.incarnation))
            if work is not None:
                due_ms = max(due_ms, work.not_before_ms)
            wait_ms = min(wait_ms, max(due_ms - now_ms, 1))
        return wait_ms

    def _is_stopping(self) -> bool:
        return self._stopping

    def _on_change(self, namespace_id: int) -> None:
        record = self._registry.get(namespace_id)
        if record is None:
            return
        if record.state is NamespaceState.BANNED:
            self.wake()
        elif record.state.is_live:  # Taken back: a later ban starts afresh.
            with self._work_lock:
                self._work.pop((namespace_id, record.incarnation), None)

    # --- one ban ---------------------------------------------------------------------------------------------------

    def _attempt(self, ban: Ban) -> bool:
        """Take one ban as far as it goes now; return whether it is done."""
        work = self._work_of(ban)
        now_ms = self._clock.now_ms()
        if now_ms < work.not_before_ms:
            return False
        open_now = self._streams_open(ban.namespace_id)
        if open_now:
            work.not_before_ms = now_ms + STREAMS_RECHECK_MS
            self._show(work, phase=ReclaimPhase.PENDING, detail=f"waiting for {open_now} open calls to end")
            return False
        try:
            return self._reclaim(ban, work)
        except PrefixdbError as failure:
            if self._registry.ban_of(ban.namespace_id) is None:
                self._forget(ban)  # It was taken back in the last moment of its grace.
                return False
            wait_ms = self._retry_later(work, f"the store refused: {failure.reason.name}")
            reason = failure.reason.name
            _log.warning("reclaim of namespace %d: %s; next try in %d ms", ban.namespace_id, reason, wait_ms)
        except Exception:  # noqa: BLE001  # one namespace's trouble must not keep the others from their reclaim
            wait_ms = self._retry_later(work, "internal error; it is in the log")
            _log.exception("reclaim of namespace %d failed; next try in %d ms", ban.namespace_id, wait_ms)
        return False

    def _reclaim(self, ban: Ban, work: _Work) -> bool:
        span = namespace_span(ban.namespace_id)
        if not ban.reclaim_started_at_ms:
            self._store.flush()  # Only files can say what rows take on disk.
            size = self._store.span_size(span, exact_rows_max=EXACT_ROWS_MAX, stop=self._is_stopping)
            if self._is_stopping():
                return False
            ban = self._registry.mark_reclaim_started(ban.namespace_id, size.bytes, size.rows)
        self._show(
            work,
            phase=ReclaimPhase.RECLAIMING,
            detail="",
            started_at_ms=ban.reclaim_started_at_ms,
            bytes_total=max(work.report.bytes_total, ban.bytes_before),
        )

        def on_progress(progress: ReclaimProgress) -> None:
            total = max(work.report.bytes_total, progress.bytes_total)
            done = min(max(work.report.bytes_done, progress.bytes_done), total)
            self._show(work, bytes_total=total, bytes_done=done, detail=progress.phase)

        self._store.reclaim_span(span, on_progress=on_progress, stop=self._is_stopping)
        if self._is_stopping():
            return False
        self._show(work, phase=ReclaimPhase.PROVING, detail="")
        found = self._store.prove_empty(span)
        if not found.empty:
            self._not_empty(ban, work, found)
            return False
        self._finish(ban, work)
        return True

    def _finish(self, ban: Ban, work: _Work) -> None:
        now_ms = self._clock.now_ms()
        final = replace(
            work.report,
            phase=ReclaimPhase.DONE,
            finished_at_ms=now_ms,
            bytes_done=work.report.bytes_total,
            bytes_freed=ban.bytes_before,
            rows_dropped=ban.rows_before,
            proof_rows_found=0,
            proof_bytes_found=0,
            detail="",
        )
        self._registry.mark_reclaimed(final)
        self._forget(ban)
        _log.info("namespace %d is reclaimed and proven empty", ban.namespace_id)
        self._tell(ban.namespace_id)

    def _not_empty(self, ban: Ban, work: _Work, found: Emptiness) -> None:
        if found.rows_found or found.bytes_found:
            waits_for = "the proof still found data; reclaiming again"
            _log.warning("namespace %d is not empty after a reclaim; it is reclaimed again", ban.namespace_id)
        else:
            waits_for = f"waiting for readers of {len(found.files_pinned)} old files"
        self._retry_later(work, waits_for, found)

    def _retry_later(self, work: _Work, detail: str, found: Emptiness | None = None) -> int:
        """Put the ban off, longer every time, say why in the report, and return for how many milliseconds."""
        wait_ms = min(BACKOFF_MS_FIRST << min(work.failures, 16), BACKOFF_MS_MAX)
        work.failures += 1
        work.not_before_ms = self._clock.now_ms() + wait_ms
        self._show(
            work,
            phase=ReclaimPhase.PENDING if found is None else ReclaimPhase.PROVING,
            detail=detail,
            proof_rows_found=found.rows_found if found else work.report.proof_rows_found,
            proof_bytes_found=found.bytes_found if found else work.report.proof_bytes_found,
        )
        return wait_ms

    def _work_of(self, ban: Ban) -> _Work:
        key = (ban.namespace_id, ban.incarnation)
        with self._work_lock:
            work = self._work.get(key)
            if work is None:
                record = self._registry.get(ban.namespace_id)
                if record is None:
                    raise error(Reason.INTERNAL, "A ban without a namespace record.")
                work = self._work[key] = _Work(waiting_report(ban, record, self._clock.now_ms()))
            return work

    def _forget(self, ban: Ban) -> None:
        with self._work_lock:
            self._work.pop((ban.namespace_id, ban.incarnation), None)

    def _show(self, work: _Work, **changes: object) -> None:
        """Change the visible report and tell the listeners: of a new phase at once, of mere progress now and then."""
        before = work.report
        work.report = replace(before, **changes)  # type: ignore[arg-type]  # names and types are those of the report
        now_ms = self._clock.now_ms()
        if work.report.phase is before.phase and now_ms - work.told_at_ms < PROGRESS_INTERVAL_MS:
            return
        work.told_at_ms = now_ms
        self._tell(work.report.namespace_id)

    def _tell(self, namespace_id: int) -> None:
        for listener in self._listeners:
            try:
                listener(namespace_id)
            except Exception:  # noqa: BLE001  # a watcher's mistake must not stop the reclaim
                _log.exception("a listener failed on the reclaim of namespace %d", namespace_id)

    # --- expired rows ----------------------------------------------------------------------------------------------

    def _sweep_step(self) -> None:
        """Remove some expired rows, unless the last pass ended a short while ago."""
        now_ms = self._clock.now_ms()
        if now_ms < self._sweep_at_ms or self._is_stopping():
            return
        try:
            self._sweep_after = self._store.sweep_expired(self._sweep_after, SWEEP_ROWS)
        except PrefixdbError as failure:
            wait_ms = min(BACKOFF_MS_FIRST << min(self._sweep_failures, 16), BACKOFF_MS_MAX)
            self._sweep_failures += 1
            self._sweep_at_ms = now_ms + wait_ms
            _log.warning("removing expired rows failed with %s; next try in %d ms", failure.reason.name, wait_ms)
            return
        self._sweep_failures = 0
        self._sweep_at_ms = now_ms + (SWEEP_STEP_MS if self._sweep_after else SWEEP_PASS_MS)
