"""Rows, namespaces and the server itself as calls return them. No ``repr`` shows a key, a value or a secret."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from prefixdb.v1 import key_value_pb2, maintenance_pb2, namespaces_pb2


class NamespaceState(enum.IntEnum):
    """Where a namespace is in its life; numbers equal ``prefixdb.v1.NamespaceState``."""

    UNSPECIFIED = 0
    ACTIVE = 1
    READ_ONLY = 2
    SUSPENDED = 3
    BANNED = 4
    RECLAIMED = 5

    @classmethod
    def _missing_(cls, value: object) -> NamespaceState:
        """A state that only a newer server knows is UNSPECIFIED here, not a crash."""
        return cls.UNSPECIFIED


class ReclaimPhase(enum.IntEnum):
    """How far a reclaim is; numbers equal ``prefixdb.v1.ReclaimPhase``."""

    UNSPECIFIED = 0
    GRACE = 1
    PENDING = 2
    RECLAIMING = 3
    PROVING = 4
    DONE = 5

    @classmethod
    def _missing_(cls, value: object) -> ReclaimPhase:
        """As for states: newer servers may know more phases."""
        return cls.UNSPECIFIED


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """One row: its version goes into conditions; ``ttl`` is what is left of its lifetime in seconds, None for ever."""

    key: bytes
    value: bytes
    version: int
    ttl: float | None = None

    def __repr__(self) -> str:
        return f"Row({len(self.key)}-byte key, {len(self.value)}-byte value, version={self.version}, ttl={self.ttl})"


@dataclass(frozen=True, slots=True)
class Namespace:
    """One namespace's record. Sizes are approximate and only set by ``namespaces.get``."""

    id: int
    name: str
    state: NamespaceState
    incarnation: int
    labels: Mapping[str, str]
    created_at: datetime | None
    updated_at: datetime | None
    state_reason: str
    banned_at: datetime | None
    reclaim_after: datetime | None
    approximate_bytes: int
    approximate_rows: int


@dataclass(frozen=True, slots=True)
class CreatedNamespace:
    """A new namespace and, when one was asked for, its first guardian's token: shown once, kept nowhere."""

    namespace: Namespace
    guardian_token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReclaimReport:
    """How far the reclaim of a banned namespace is; ``finished_at`` is only set after the proof of emptiness."""

    namespace_id: int
    name: str
    incarnation: int
    phase: ReclaimPhase
    banned_at: datetime | None
    banned_by: str
    reason: str
    reclaim_after: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    bytes_total: int
    bytes_done: int
    bytes_freed: int
    rows_dropped: int
    proof_rows_found: int
    proof_bytes_found: int

    @property
    def done(self) -> bool:
        """True when the range was proven empty."""
        return self.phase is ReclaimPhase.DONE

    @property
    def fraction_done(self) -> float:
        """Share of the work that is done, 0.0 .. 1.0; 1.0 only after the proof."""
        if self.done:
            return 1.0
        return min(0.99, self.bytes_done / self.bytes_total) if self.bytes_total else 0.0


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The server's facts at one moment.

    alarms: what an operator should look at, a sentence each; empty when all is well.
    front: what answers the port, "native" or "python"; empty when the server is older than the choice.
    """

    version: str
    store: str
    engine: str
    durability: str
    writable: bool
    last_version: int
    disk_bytes: int
    memory_bytes: int
    rows_estimate: int
    started_at: datetime | None
    uptime: timedelta
    namespaces_live: int
    namespaces_banned: int
    namespaces_reclaimed: int
    streams_open: int
    sessions_cached: int
    data_dir: str
    store_facts: Mapping[str, str]
    alarms: tuple[str, ...] = ()
    front: str = ""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction changed on disk."""

    disk_bytes_before: int
    disk_bytes_after: int


def ttl_from_ms(ttl_ms: int) -> float | None:
    """Return seconds, or None for a row that does not expire."""
    return ttl_ms / 1000 if ttl_ms else None


def row_of(message: key_value_pb2.Row) -> Row:
    """Return a row of a scan."""
    return Row(message.key, message.value, message.version, ttl_from_ms(message.ttl_ms))


def namespace_of(message: namespaces_pb2.Namespace) -> Namespace:
    """Return a namespace's record."""
    return Namespace(
        id=message.id,
        name=message.name,
        state=NamespaceState(message.state),
        incarnation=message.incarnation,
        labels=dict(message.labels),
        created_at=instant(message, "created_at"),
        updated_at=instant(message, "updated_at"),
        state_reason=message.state_reason,
        banned_at=instant(message, "banned_at"),
        reclaim_after=instant(message, "reclaim_after"),
        approximate_bytes=message.approximate_bytes,
        approximate_rows=message.approximate_rows,
    )


def report_of(message: namespaces_pb2.Reclaim) -> ReclaimReport:
    """Return a reclaim's report."""
    return ReclaimReport(
        namespace_id=message.namespace_id,
        name=message.name,
        incarnation=message.incarnation,
        phase=ReclaimPhase(message.phase),
        banned_at=instant(message, "banned_at"),
        banned_by=message.banned_by,
        reason=message.reason,
        reclaim_after=instant(message, "reclaim_after"),
        started_at=instant(message, "started_at"),
        finished_at=instant(message, "finished_at"),
        bytes_total=message.bytes_total,
        bytes_done=message.bytes_done,
        bytes_freed=message.bytes_freed,
        rows_dropped=message.rows_dropped,
        proof_rows_found=message.proof_rows_found,
        proof_bytes_found=message.proof_bytes_found,
    )


def status_of(message: maintenance_pb2.StatusResponse) -> ServerStatus:
    """Return the server's facts."""
    return ServerStatus(
        version=message.version,
        store=message.store,
        engine=message.engine,
        durability=message.durability,
        writable=message.writable,
        last_version=message.last_version,
        disk_bytes=message.disk_bytes,
        memory_bytes=message.memory_bytes,
        rows_estimate=message.rows_estimate,
        started_at=instant(message, "started_at"),
        uptime=message.uptime.ToTimedelta(),
        namespaces_live=message.namespaces_live,
        namespaces_banned=message.namespaces_banned,
        namespaces_reclaimed=message.namespaces_reclaimed,
        streams_open=message.streams_open,
        sessions_cached=message.sessions_cached,
        data_dir=message.data_dir,
        store_facts=dict(message.store_facts),
        alarms=tuple(message.alarms),
        front=message.front,
    )


def instant(message: Message, name: str) -> datetime | None:
    """Return a timestamp field in UTC, or None when it is not set."""
    if not message.HasField(name):
        return None
    stamp: Timestamp = getattr(message, name)
    return stamp.ToDatetime(tzinfo=UTC)
