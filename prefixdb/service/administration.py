"""What administrative calls share: the audit around an act, the audit of refusals, and finishing what was begun.

Lines of the audit are for ever, on everybody's disk. So the people of a namespace may cause so many and no more: acts
beyond that have to wait, refusals beyond that are counted instead of written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from prefixdb import limits
from prefixdb.catalog.entities import DEFAULT_NAMESPACE_NAME, Guardian, NamespaceRecord
from prefixdb.catalog.policy import Session
from prefixdb.clock import Clock
from prefixdb.errors import Code, PrefixdbError, Reason, error
from prefixdb.service.calls import Call, Visitor
from prefixdb.service.ports import RESULT_OK, RESULT_STARTED, AuditEntry, AuditLog

_LOG = logging.getLogger("prefixdb.administration")

REFUSALS_BURST = 200
"""Audited refusals that may come at once from one namespace, or from callers without a token."""

REFUSALS_PER_S = 0.1
"""Audited refusals a second after that. Each costs a sync, a line for ever, and time at every start, when the chain is
checked: ten a second were eight seconds more for each day. What is left out is counted in the next line's target."""

_NOBODY, _PROOFS = -1, -2
"""The buckets of callers without a token, and of refused passwords and spent refresh tokens: no namespace's numbers."""

_REFUSED = frozenset({Code.PERMISSION_DENIED, Code.UNAUTHENTICATED})


@dataclass(slots=True)
class Act:
    """An act that is being done. ``target`` may be completed once it is known; no secrets."""

    target: str


@dataclass(slots=True)
class _Bucket:
    """Lines that may still be caused; ``suppressed`` counts those that were not written."""

    size: float
    per_s: float
    lines: float
    filled_at_ms: int
    suppressed: int = 0

    def take(self, now_ms: int) -> bool:
        """Take one line if there is one."""
        self.lines = min(self.size, self.lines + max(0, now_ms - self.filled_at_ms) * self.per_s / 1000)
        self.filled_at_ms = now_ms
        if self.lines < 1:
            return False
        self.lines -= 1
        return True

    def wait_ms(self) -> int:
        """Return when there will be one again."""
        return math.ceil((1 - self.lines) / self.per_s * 1000)


class Administration:
    """Audits administrative calls and keeps them running when their client goes away.

    Args:
        audit: where lines go.
        clock: for the limits of acts and refusals.
    """

    def __init__(self, audit: AuditLog, clock: Clock) -> None:
        self._audit = audit
        self._clock = clock
        self._running: set[asyncio.Task[Any]] = set()
        self._refusals: dict[int, _Bucket] = {}
        self._acts: dict[int, _Bucket] = {}

    @contextlib.asynccontextmanager
    async def act(self, call: Call, target: str) -> AsyncIterator[Act]:
        """Write down that the act begins, let it happen, write down what became of it.

        Raises:
            ResourceExhaustedError: RATE_LIMITED before the act, the namespace's people have done too many.
            UnavailableError: AUDIT_UNAVAILABLE before the act when the audit cannot be written; it is then not done.
        """
        self._pace(call.session)
        act = Act(target)
        entry = replace(_entry(call.session, call.record), method=call.method.path, target=target)
        entry = replace(entry, peer=call.peer, request_id=call.request_id)
        await self._audit.record(replace(entry, result=RESULT_STARTED))
        call.act_started = True
        result = Reason.INTERNAL.name
        try:
            yield act
            result = RESULT_OK
        except PrefixdbError as failure:
            result = failure.reason.name
            raise
        except asyncio.CancelledError:  # A stream that was cut, or whose client has gone.
            cut = call.stream.cut_error if call.stream is not None else None
            result = (cut.reason if cut is not None else Reason.CANCELLED).name
            raise
        finally:
            await self._record_outcome(replace(entry, target=act.target, result=result))

    async def refused(self, call: Call, refusal: PrefixdbError) -> None:
        """Write down that an administrative call was refused; an act that had begun has its line already."""
        if refusal.code in _REFUSED and not call.act_started:
            entry = replace(_entry(call.session, call.record), method=call.method.path, request_id=call.request_id)
            entry = replace(entry, peer=call.peer, result=refusal.reason.name)
            if call.session.guest:
                entry = replace(entry, target=f"as a guest of namespace {call.record.id} {call.record.name}")
            await self._record_refusal(entry, call.session.namespace_id)

    async def refused_unknown(self, method: str, peer: str, refusal: PrefixdbError) -> None:
        """Write down that an administrative call was refused whose caller proved no identity."""
        if refusal.code in _REFUSED:
            await self._record_refusal(AuditEntry(method=method, peer=peer, result=refusal.reason.name), _NOBODY)

    async def note(self, entry: AuditEntry) -> None:
        """Write down something that has been done and is about to be told to its caller.

        Raises:
            UnavailableError: AUDIT_UNAVAILABLE; the caller must not have what it asked for.
        """
        await self._audit.record(entry)

    async def note_done(self, entry: AuditEntry) -> None:
        """Write down something that has taken effect; when that cannot be done, the log says so and nobody else."""
        await self._record_outcome(entry)

    async def done(self, call: Call, target: str) -> None:
        """As ``note``, for a call that changes nothing and gives something away; paced as ``act``."""
        self._pace(call.session)
        entry = replace(_entry(call.session, call.record), method=call.method.path, target=target, result=RESULT_OK)
        await self.note(replace(entry, peer=call.peer, request_id=call.request_id))

    async def proof_refused(self, visitor: Visitor, target: str, reason: Reason) -> None:
        """Write down that a password or a refresh token was refused. They have a bucket of their own, so that refusals
        of callers without a token, which cost nothing to make, cannot keep them out."""
        entry = AuditEntry(method=visitor.method.path, target=target, result=reason.name, peer=visitor.peer)
        await self._record_refusal(replace(entry, request_id=visitor.request_id), _PROOFS)

    async def finish(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await ``work``; when the waiting task is cancelled the work goes on to its end."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Return when no administrative call is running."""
        while self._running:
            await asyncio.wait(self._running)

    def _pace(self, session: Session) -> None:
        """Count an act of the caller's namespace. Cluster guardians are trusted with the disk they look after."""
        if session.guardian is Guardian.CLUSTER:
            return
        now_ms = self._clock.now_ms()
        bucket = self._acts.get(session.home_id)
        if bucket is None:
            most = limits.ACTS_AT_ONCE_MAX
            bucket = self._acts[session.home_id] = _Bucket(most, limits.ACTS_PER_MINUTE_MAX / 60, most, now_ms)
        if not bucket.take(now_ms):
            message = "The namespace's people have done more administrative acts than the audit may grow by; wait."
            raise error(Reason.RATE_LIMITED, message, retry_after_ms=bucket.wait_ms())

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # The waiting call raises it; when the client has gone nobody does, and that is no error.

    async def _record_outcome(self, entry: AuditEntry) -> None:
        try:
            await self._audit.record(entry)
        except PrefixdbError:
            # The act is done, so the caller must hear of its real outcome; the line "started" stands in the audit.
            _LOG.exception("outcome of an act could not be audited", extra={"request_id": entry.request_id})

    async def _record_refusal(self, entry: AuditEntry, bucket_of: int) -> None:
        now_ms = self._clock.now_ms()
        bucket = self._refusals.get(bucket_of)
        if bucket is None:
            bucket = self._refusals[bucket_of] = _Bucket(REFUSALS_BURST, REFUSALS_PER_S, REFUSALS_BURST, now_ms)
        if not bucket.take(now_ms):
            bucket.suppressed += 1
            return
        if bucket.suppressed:
            left_out = f"{bucket.suppressed} refusals before this one were not written"
            entry = replace(entry, target=f"{entry.target}; {left_out}" if entry.target else left_out)
            bucket.suppressed = 0
        try:
            await self._audit.record(entry)
        except PrefixdbError:
            _LOG.exception("a refusal could not be audited", extra={"request_id": entry.request_id})


def _entry(session: Session, record: NamespaceRecord) -> AuditEntry:
    """Return what a line says of the caller: its name and where that name belongs, which for a guest is namespace 0."""
    name = DEFAULT_NAMESPACE_NAME if session.guest else record.name
    return AuditEntry(user=session.subject, namespace_id=session.home_id, namespace=name, jti=session.jti)
