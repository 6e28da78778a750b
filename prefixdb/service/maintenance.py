"""The Maintenance service: the server as a whole, for cluster guardians, and its audit for who holds that privilege."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prefixdb import __version__
from prefixdb.catalog.entities import NamespaceState
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import check_target
from prefixdb.clock import Clock
from prefixdb.errors import Reason, error
from prefixdb.keycodec import namespace_span
from prefixdb.limits import DEADLINE_MS_MAX
from prefixdb.service.administration import Administration
from prefixdb.service.calls import Call, Wire
from prefixdb.service.messages import duration, find_namespace, timestamp
from prefixdb.service.ports import AuditReader
from prefixdb.store.base import Store
from prefixdb.v1 import maintenance_pb2 as pb


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the status tells beside what store and registry know.

    front: what answers the port.
    """

    data_dir: str
    started_at_ms: int
    streams_open: Callable[[], int]
    sessions_cached: Callable[[], int]
    audit: AuditReader
    alarms: Callable[[], Sequence[str]] = tuple
    front: Callable[[], str] = str


class Maintenance:
    """Implementation of ``prefixdb.v1.Maintenance``. Belongs to the event loop's thread.

    Args:
        store: what is looked after.
        registry: the namespaces.
        clock: for the uptime.
        facts: of the server.
        administration: the audit around acts.
    """

    def __init__(
        self, store: Store, registry: Registry, clock: Clock, facts: ServerFacts, administration: Administration
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._facts = facts
        self._administration = administration
        self._compacting = asyncio.Lock()

    async def Status(self, call: Call, request: pb.StatusRequest) -> pb.StatusResponse:
        """Tell versions, sizes, counts and health."""
        status = await asyncio.to_thread(self._store.status)
        counts = self._registry.counts()
        return pb.StatusResponse(
            version=__version__,
            store=status.name,
            engine=status.engine,
            durability=status.durability,
            writable=status.writable,
            last_version=status.last_version,
            disk_bytes=status.disk_bytes,
            memory_bytes=status.memory_bytes,
            rows_estimate=status.rows_estimate,
            started_at=timestamp(self._facts.started_at_ms),
            uptime=duration(max(0, self._clock.now_ms() - self._facts.started_at_ms)),
            namespaces_live=sum(count for state, count in counts.items() if state.is_live),
            namespaces_banned=counts[NamespaceState.BANNED],
            namespaces_reclaimed=counts[NamespaceState.RECLAIMED],
            streams_open=self._facts.streams_open(),
            sessions_cached=self._facts.sessions_cached(),
            data_dir=self._facts.data_dir,
            store_facts=status.extra,
            alarms=self._facts.alarms(),
            front=self._facts.front(),
        )

    async def Compact(self, call: Call, request: pb.CompactRequest) -> pb.CompactResponse:
        """Compact one namespace or everything; one compaction at a time."""
        span, what = None, "everything"
        if request.HasField("namespace"):
            found = find_namespace(self._registry, request.namespace)
            check_target(call.session, call.method.capability, found.id if found else None)
            if found is None:  # ``check_target`` refuses None; should it ever not, nothing is found.
                raise error(Reason.NAMESPACE_NOT_FOUND)
            span, what = namespace_span(found.id), f"namespace {found.id} {found.name}"
        async with self._administration.act(call, what):
            try:
                async with asyncio.timeout(DEADLINE_MS_MAX / 1000), self._compacting:
                    before = await asyncio.to_thread(self._store.status)
                    await asyncio.to_thread(self._store.compact, span)
                    after = await asyncio.to_thread(self._store.status)
            except TimeoutError:
                raise error(Reason.DEADLINE) from None
        return pb.CompactResponse(disk_bytes_before=before.disk_bytes, disk_bytes_after=after.disk_bytes)

    async def ReadAudit(self, call: Call, request: pb.ReadAuditRequest, wire: Wire) -> None:
        """Stream the lines of the audit, oldest first."""
        audit = self._facts.audit
        position, end = await asyncio.to_thread(audit.newest, request.newest)
        while position < end:
            lines, position = await asyncio.to_thread(audit.page, position, end)
            call.refresh()
            await wire.send(pb.ReadAuditResponse(lines=lines))
