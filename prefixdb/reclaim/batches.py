"""Batches: several published namespaces reclaimed in one go, each with its own progress, proof and final report.

Small ones share the rewriting of the files they share. A large one is a batch of its own, and after each step it
lets smaller ones that wait go first: then it goes to the end of the queue and goes on where it stopped. Whoever is at
the head of the queue is taken, and a turn ends after a whole step at the earliest, so nobody waits for ever and no work
is done twice.

When a batch fails it is halved again and again until the failing namespace stands alone; the others go on.

Belongs to one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from prefixdb.catalog.entities import NamespaceRecord, ReclaimPhase, ReclaimReport
from prefixdb.errors import PrefixdbError
from prefixdb.keycodec import namespace_span
from prefixdb.limits import MIB
from prefixdb.reclaim.board import BACKOFF_MS_MAX, Board, Work
from prefixdb.reclaim.published import Published
from prefixdb.store.base import Emptiness, ReclaimProgress, Store

BATCH_NAMESPACES = 1_000
"""Namespaces in a batch at most: their proofs take a few seconds, after which the first of them are told."""

BATCH_BYTES = 1024 * MIB
"""Bytes of a batch, as measured before: ten to twenty seconds of rewriting, which is what a small namespace waits for
the batch before it. One that is larger is a batch of its own."""

FAILURES_IN_A_ROW_MAX = 16
"""Failures after which a batch is not halved any further: one bad namespace among a thousand is alone after ten, so
that many in a row mean that the store cannot do it for anybody now."""

PROOFS_IN_A_ROW = 4
"""Proofs in a row that wait for readers of old files only; before the next the namespace is reclaimed again."""

_log = logging.getLogger(__name__)


class Batches:
    """Reclaims what is queued on the board. See the module's docstring."""

    def __init__(self, store: Store, published: Published, board: Board, is_stopping: Callable[[], bool]) -> None:
        self._store = store
        self._published = published
        self._board = board
        self._is_stopping = is_stopping

    def run_next(self) -> int | None:
        """Take the next batch as far as it goes; return how many namespaces are done, None when no batch is ready."""
        batch = self._choose()
        if not batch:
            return None
        pieces, done, failures = [batch], 0, 0
        while pieces and not self._is_stopping():
            piece = pieces.pop()
            failure = self._reclaim(piece)
            if failure is None:
                failures = 0
                done += self._prove([work for work in piece if not work.interrupted])
                continue
            failures += 1
            if len(piece) == 1 or failures > FAILURES_IN_A_ROW_MAX:
                piece[0].alone = len(piece) == 1
                self._put_off(piece, failure)
            else:
                _log.info("%d namespaces could not be reclaimed together; trying each half", len(piece))
                middle = len(piece) // 2
                pieces += [piece[middle:], piece[:middle]]
        return done

    def idle_ms(self) -> int:
        """Return how long nothing is ready unless something is queued."""
        now_ms = self._board.clock.now_ms()
        return max(min((work.not_before_ms - now_ms for work in self._board.queued()), default=BACKOFF_MS_MAX), 1)

    def _choose(self) -> list[Work]:
        """Return the next batch: the first that is ready, and those after it that fit."""
        now_ms = self._board.clock.now_ms()
        batch: list[Work] = []
        size = 0
        for work in self._board.queued():
            if now_ms < work.not_before_ms:
                continue
            if batch and (work.alone or size + work.ban.bytes_before > BATCH_BYTES):
                continue
            batch.append(work)
            size += work.ban.bytes_before
            if work.alone or size > BATCH_BYTES or len(batch) >= BATCH_NAMESPACES:
                break
        return batch

    def _reclaim(self, piece: list[Work]) -> Exception | None:
        """Publish, and have the store remove what is left; return why that failed, or None."""
        piece[:] = self._current(piece)
        works = [work for work in piece if not work.removed]
        turn = _Turn(self._board, works, self._is_stopping)
        try:
            self._published.publish([work.ban for work in piece])
            for work in works:
                self._board.show(work, phase=ReclaimPhase.RECLAIMING, detail="")
            if len(works) < len(piece):
                self._store.flush()  # After such work the engine looks for old files that nobody reads any more.
            if works:
                ids = [work.ban.namespace_id for work in works]
                self._store.reclaim(ids, on_progress=turn.on_progress, stop=turn.stop)
        except Exception as failure:  # noqa: BLE001  # handed to the caller, who logs it with what it is about
            return failure
        for work in works:  # After a stop nothing is looked at any more.
            work.interrupted = turn.yielded
            work.removed = not turn.yielded
        if turn.yielded:
            turn.give_way()
        return None

    def _current(self, works: Sequence[Work]) -> list[Work]:
        """Return those that are still to be reclaimed; of an unknown outcome it may turn out later that it was good."""
        current = []
        for work in works:
            ban = self._board.registry.ban_of(work.ban.namespace_id)
            if ban is None or ban.incarnation != work.ban.incarnation or ban.reclaimed_at_ms:
                self._end(work)
            else:
                work.interrupted = False
                current.append(work)
        return current

    def _prove(self, works: Sequence[Work]) -> int:
        """Prove each, write the final reports of those that are empty, and return how many these are."""
        proven: list[Work] = []
        for work in works:
            if self._is_stopping():
                return 0
            self._board.show(work, phase=ReclaimPhase.PROVING, detail="")
            try:
                found = self._store.prove_empty(namespace_span(work.ban.namespace_id))
            except Exception as failure:  # noqa: BLE001  # one namespace's trouble must not keep the others
                self._put_off([work], failure)
                continue
            if found.empty:
                proven.append(work)
            else:
                self._not_empty(work, found)
        return self._finish(proven) if proven else 0

    def _finish(self, works: Sequence[Work]) -> int:
        now_ms = self._board.clock.now_ms()
        try:
            outcomes = self._published.finish([_final(work, now_ms) for work in works])
        except Exception as failure:  # noqa: BLE001  # logged; all of them are tried again
            self._put_off(works, failure)
            return 0
        done = 0
        for work in works:
            outcome = outcomes[work.ban.namespace_id]
            if isinstance(outcome, NamespaceRecord):
                done += 1
                _log.info("namespace %d is reclaimed and proven empty", work.ban.namespace_id)
                self._end(work)
            else:
                self._put_off([work], outcome)
        return done

    def _end(self, work: Work) -> None:
        self._board.forget(work.ban.namespace_id, work.ban.incarnation)
        self._board.tell(work.ban.namespace_id)

    def _not_empty(self, work: Work, found: Emptiness) -> None:
        if found.rows_found or found.bytes_found:
            work.removed = False
            waits_for = "the proof still found data; reclaiming again"
            _log.warning("namespace %d is not empty after a reclaim; it is reclaimed again", work.ban.namespace_id)
        else:
            # Should the engine have overlooked a file, the work on it is done again now and then.
            work.removed = (work.failures + 1) % PROOFS_IN_A_ROW != 0
            waits_for = f"waiting for readers of {len(found.files_pinned)} old files"
            _log.info("namespace %d: %s, %s", work.ban.namespace_id, waits_for, ", ".join(found.files_pinned[:3]))
        self._board.retry_later(work, waits_for, found)

    def _put_off(self, works: Sequence[Work], failure: Exception) -> None:
        """Try these again later, from the start; told in one line, for a full disk concerns all of them."""
        refusal = failure.reason.name if isinstance(failure, PrefixdbError) else ""
        detail = f"the store refused: {refusal}" if refusal else "internal error; it is in the log"
        for work in works:
            work.removed = False
            wait_ms = self._board.retry_later(work, detail)
        what = f"reclaim of {len(works)} namespaces, the first {works[0].ban.namespace_id}"
        if refusal:
            _log.warning("%s: %s; next try in %d ms", what, refusal, wait_ms)
        else:
            _log.error("%s failed; next try in %d ms", what, wait_ms, exc_info=failure)


class _Turn:
    """One call of ``Store.reclaim``: notes how far each namespace is, and says when the call has to end.

    yielded: it ended because others go first.
    """

    def __init__(self, board: Board, works: Sequence[Work], is_stopping: Callable[[], bool]) -> None:
        self._board = board
        self._works = {work.ban.namespace_id: work for work in works}
        self._is_stopping = is_stopping
        self._large = len(works) == 1 and works[0].ban.bytes_before > BATCH_BYTES
        self._steps_done = 0
        self._step_ended = False
        self.yielded = False

    def on_progress(self, namespace_id: int, progress: ReclaimProgress) -> None:
        """See ``Store.reclaim``."""
        work = self._works[namespace_id]
        total = max(work.report.bytes_total, work.done_before + progress.bytes_total)
        done = min(max(work.report.bytes_done, work.done_before + progress.bytes_done), total)
        if progress.bytes_done > self._steps_done:
            self._steps_done, self._step_ended = progress.bytes_done, True
        self._board.show(work, bytes_total=total, bytes_done=done, detail=progress.phase)

    def stop(self) -> bool:
        """See ``Store.reclaim``. Only right after a step can the call be ended without losing work."""
        if self._is_stopping():
            return True
        if self._step_ended and self._large:
            self._step_ended = False
            self.yielded = self._others_wait()
        return self.yielded

    def give_way(self) -> None:
        """Put the namespace at the end of the queue."""
        for work in self._works.values():
            work.done_before = work.report.bytes_done
            self._board.show(work, detail="smaller namespaces go first")
            self._board.enqueue(work)

    def _others_wait(self) -> bool:
        now_ms = self._board.clock.now_ms()
        return any(
            work.not_before_ms <= now_ms and work.ban.bytes_before <= BATCH_BYTES
            for work in self._board.queued()
            if work.ban.namespace_id not in self._works
        )


def _final(work: Work, now_ms: int) -> ReclaimReport:
    return replace(
        work.report,
        phase=ReclaimPhase.DONE,
        finished_at_ms=now_ms,
        bytes_done=work.report.bytes_total,
        bytes_freed=work.ban.bytes_before,
        rows_dropped=work.ban.rows_before,
        proof_rows_found=0,
        proof_bytes_found=0,
        detail="",
    )
