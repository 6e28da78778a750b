"""The four steps of dropping a namespace, as plain values: what a step changes, and when it is refused.

    drop ──► BANNED ──begin──► (no way back) ──finish──► RECLAIMED
                │ take_back, while the grace runs and nothing has begun
                ▼ the state before

Nothing here reads or writes the store; the registry commits a ``Change`` under its lock and shows it in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from prefixdb.catalog import load, schema
from prefixdb.catalog.entities import Ban, NamespaceRecord, NamespaceState, ReclaimPhase, ReclaimReport
from prefixdb.catalog.schema import Tag
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.store.base import Absent, Commit, Delete, Mutation, Put, SpanSize, VersionIs


@dataclass(frozen=True, slots=True)
class Change:
    """One atomic change of a namespace's record, with its ban afterwards (None: it has none) and what goes with it."""

    old: NamespaceRecord
    new: NamespaceRecord
    ban: Ban | None = None
    mutations: tuple[Mutation, ...] = ()

    def commit(self) -> Commit:
        """Return the commit: guarded by the record as it was, and overwriting no entry of the name index."""
        record_put = Put(schema.namespace_key(self.new.id), schema.encode_namespace(self.new))
        writes: list[Mutation] = [*self.mutations, record_put]
        if self.ban is not None:
            writes.append(Put(schema.ban_key(self.new.id), schema.encode_ban(self.ban)))
        return Commit(tuple(writes), name_conditions(writes), (guard_of(self.old),))


def drop(record: NamespaceRecord, *, now_ms: int, by: str, reason: str, grace_ms: int) -> Change:
    """Ban a live namespace; its name is free at once."""
    ban = Ban(
        namespace_id=record.id,
        incarnation=record.incarnation,
        name=record.name,
        banned_at_ms=now_ms,
        by=by,
        reason=reason,
        reclaim_after_ms=now_ms + grace_ms,
        prior_state=record.state,
        prior_reason=record.state_reason,
    )
    banned = replace(record, state=NamespaceState.BANNED, state_reason=reason, updated_at_ms=now_ms)
    return Change(record, banned, ban, (Delete(schema.name_key(record.name)),))


def take_back(record: NamespaceRecord, ban: Ban | None, now_ms: int) -> Change:
    """Undo a ban. That its name is free the caller has looked at.

    Raises:
        FailedPreconditionError: NAMESPACE_STATE when it is not banned, or never lived; RECLAIM_STARTED when the grace
            is over or the reclaim was begun: its number may be published to the store, and what is published is
            dropped.
    """
    if ban is None:
        raise state_error(record, "The namespace is not banned.")
    if ban.staged:
        raise state_error(record, "The namespace was never finished; it cannot come back.")
    if ban.reclaim_started_at_ms or now_ms >= ban.reclaim_after_ms:
        raise error(Reason.RECLAIM_STARTED, "The grace is over; the namespace cannot come back.")
    restored = replace(record, state=ban.prior_state, state_reason=ban.prior_reason, updated_at_ms=now_ms)
    return Change(record, restored, None, (Delete(schema.ban_key(record.id)), load.name_put(record)))


def begin(record: NamespaceRecord, ban: Ban | None, now_ms: int, size: SpanSize) -> Change | None:
    """Say that the reclaim begins, with the size at this moment; None when that was said before.

    Raises:
        FailedPreconditionError: NAMESPACE_STATE when it is not banned or its grace still runs.
    """
    if record.state is not NamespaceState.BANNED or ban is None:
        raise state_error(record, "The namespace is not banned.")
    if ban.reclaim_started_at_ms:
        return None
    if now_ms < ban.reclaim_after_ms:
        raise state_error(record, "The grace still runs.")
    begun = replace(ban, reclaim_started_at_ms=now_ms, bytes_before=size.bytes, rows_before=size.rows)
    return Change(record, record, begun)


def finish(record: NamespaceRecord, ban: Ban | None, report: ReclaimReport, forget: list[Mutation]) -> Change | None:
    """Write the final report; None when that was done before.

    Args:
        record: the namespace.
        ban: its ban.
        report: of phase DONE.
        forget: deletes of what the dropped incarnation leaves in the catalog.

    Raises:
        ValueError: the report is not a final one with a proof that found nothing.
        FailedPreconditionError: NAMESPACE_STATE when that ban is not being reclaimed.
    """
    if report.phase is not ReclaimPhase.DONE or report.proof_rows_found or report.proof_bytes_found:
        raise ValueError("a final report needs a proof of emptiness")
    if ban is None or not ban.reclaim_started_at_ms or ban.incarnation != report.incarnation:
        raise state_error(record, "The namespace is not being reclaimed.")
    if ban.reclaimed_at_ms:
        return None
    put = Put(schema.report_key(report.namespace_id, report.incarnation), schema.encode_report(report))
    gone = replace(record, state=NamespaceState.RECLAIMED, updated_at_ms=report.finished_at_ms)
    return Change(record, gone, replace(ban, reclaimed_at_ms=report.finished_at_ms), (put, *forget))


def guard_of(record: NamespaceRecord) -> VersionIs:
    """Return the guard that a namespace's record is as ``record`` says."""
    return VersionIs(schema.namespace_key(record.id), record.row_version)


def name_conditions(writes: list[Mutation]) -> tuple[Absent, ...]:
    """Return the conditions that no entry of the name index is overwritten."""
    span = schema.catalog_span(Tag.NAME)
    return tuple(Absent(write.key) for write in writes if isinstance(write, Put) and write.key in span)


def state_error(record: NamespaceRecord, message: str) -> PrefixdbError:
    """Return the refusal of what the namespace's state does not allow."""
    return error(Reason.NAMESPACE_STATE, message, metadata={"state": record.state.name})
