"""The Namespaces service: the life of namespaces, in the hands of cluster guardians.

Every act is checked (fields, capability, target), written into the audit, done in a worker thread because the registry
waits for the disk, and audited again with its outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable

from prefixdb.catalog.entities import NamespaceRecord, NamespaceState, ReclaimPhase
from prefixdb.catalog.names import check_labels, check_name, check_reason
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import check_target
from prefixdb.catalog.tokens import TokenAuthority
from prefixdb.errors import Reason, error
from prefixdb.keycodec import namespace_span
from prefixdb.limits import BAN_GRACE_MS_MAX, NAMESPACE_ID_MAX
from prefixdb.service.administration import Administration
from prefixdb.service.calls import Call, Wire
from prefixdb.service.messages import (
    bad_field,
    check_mask,
    decode_page_token,
    duration_ms,
    encode_page_token,
    find_namespace,
    namespace_message,
    page_size,
    reclaim_message,
    whole_seconds,
)
from prefixdb.service.notices import Notices
from prefixdb.service.ports import ReclaimReports
from prefixdb.store.base import SpanSize, Store
from prefixdb.v1 import namespaces_pb2 as pb

_PAGE_KIND = b"N"
_ID = struct.Struct(">Q")
_MASK = frozenset({"name", "labels"})
_SUSPENSIONS = {
    pb.NAMESPACE_STATE_READ_ONLY: NamespaceState.READ_ONLY,
    pb.NAMESPACE_STATE_SUSPENDED: NamespaceState.SUSPENDED,
}
_ROWS_GLANCED = 1_000
_ROWS_WALKED = 100_000
"""Rows counted for GetNamespace when files tell of more than the first number, and when they do not: 0.2 s."""

_LOST_NOTICE_S = 1.0
"""Longest wait of a watch before it looks at the report again by itself: the end of a grace gives no notice."""


class Namespaces:
    """Implementation of ``prefixdb.v1.Namespaces``. Belongs to the event loop's thread.

    Args:
        registry: the namespaces.
        authority: issues the first guardian's token.
        store: for sizes.
        reports: the reclaimer.
        administration: the audit around acts.
    """

    def __init__(
        self,
        registry: Registry,
        authority: TokenAuthority,
        store: Store,
        reports: ReclaimReports,
        administration: Administration,
    ) -> None:
        self._registry = registry
        self._authority = authority
        self._store = store
        self._reports = reports
        self._administration = administration
        self._notices = Notices(asyncio.get_running_loop())
        reports.add_listener(self._notices.notify)

    async def CreateNamespace(self, call: Call, request: pb.CreateNamespaceRequest) -> pb.CreateNamespaceResponse:
        """Create a namespace, with its first guardian's token when asked for."""
        name, labels = check_name(request.name), check_labels(request.labels)
        namespace_id = request.id if request.HasField("id") else None
        if namespace_id is not None and not 1 <= namespace_id <= NAMESPACE_ID_MAX:
            raise bad_field("id", "must be between 1 and 2^64-2.")
        ttl = request.guardian_token_ttl
        ttl_s = whole_seconds(ttl, "guardian_token_ttl") if request.HasField("guardian_token_ttl") else None
        session = call.session

        def create() -> tuple[NamespaceRecord, str]:
            first = None if ttl_s is None else self._authority.prepare_guardian(ttl_s, session)
            record = self._registry.create(name, namespace_id=namespace_id, labels=labels, first_token=first)
            return record, "" if first is None else self._authority.sign(first, record)

        async with self._administration.act(call, f"namespace {name}") as act:
            record, token = await asyncio.to_thread(create)
            act.target = describe(record)
        return pb.CreateNamespaceResponse(namespace=self._message(record), guardian_token=token)

    async def GetNamespace(self, call: Call, request: pb.GetNamespaceRequest) -> pb.GetNamespaceResponse:
        """Show one namespace, the caller's own when none is named, with its approximate size."""
        found: NamespaceRecord | None = call.record
        if request.HasField("namespace"):
            found = find_namespace(self._registry, request.namespace)
        check_target(call.session, call.method.capability, found.id if found else None)
        record = _known(found)
        message = self._message(record)
        size = await asyncio.to_thread(self._size, record.id)
        message.approximate_bytes, message.approximate_rows = size.bytes, size.rows
        return pb.GetNamespaceResponse(namespace=message)

    def _size(self, namespace_id: int) -> SpanSize:
        """Return the approximate size. Young rows are in memory, where files know nothing of them: they are walked."""
        span = namespace_span(namespace_id)
        size = self._store.span_size(span, exact_rows_max=_ROWS_GLANCED)
        return self._store.span_size(span, exact_rows_max=_ROWS_WALKED) if size.rows == _ROWS_GLANCED else size

    async def ListNamespaces(self, call: Call, request: pb.ListNamespacesRequest) -> pb.ListNamespacesResponse:
        """Return a page of namespaces by id."""
        limit = page_size(request.page_size)
        position = decode_page_token(_PAGE_KIND, request.page_token)
        if position is not None and len(position) != _ID.size:
            raise bad_field("page_token", "is not a page token of this list.")
        after = None if position is None else int(_ID.unpack(position)[0])
        records = self._registry.page(after, limit + 1, request.include_dropped)
        more = encode_page_token(_PAGE_KIND, _ID.pack(records[limit - 1].id)) if len(records) > limit else ""
        return pb.ListNamespacesResponse(
            namespaces=[self._message(record) for record in records[:limit]], next_page_token=more
        )

    async def UpdateNamespace(self, call: Call, request: pb.UpdateNamespaceRequest) -> pb.UpdateNamespaceResponse:
        """Rename or relabel."""
        paths = check_mask(request.update_mask, _MASK)
        name = check_name(request.name) if "name" in paths else None
        labels = check_labels(request.labels) if "labels" in paths else None
        record = await self._change(
            call, request.namespace, lambda namespace_id: self._registry.update(namespace_id, name=name, labels=labels)
        )
        return pb.UpdateNamespaceResponse(namespace=self._message(record))

    async def SuspendNamespace(self, call: Call, request: pb.SuspendNamespaceRequest) -> pb.SuspendNamespaceResponse:
        """Make a namespace read-only or suspend it."""
        if request.state not in _SUSPENSIONS:
            raise bad_field("state", "must be NAMESPACE_STATE_READ_ONLY or NAMESPACE_STATE_SUSPENDED.")
        state, reason = _SUSPENSIONS[request.state], check_reason(request.reason)
        record = await self._change(
            call, request.namespace, lambda namespace_id: self._registry.suspend(namespace_id, state, reason)
        )
        return pb.SuspendNamespaceResponse(namespace=self._message(record))

    async def ResumeNamespace(self, call: Call, request: pb.ResumeNamespaceRequest) -> pb.ResumeNamespaceResponse:
        """Make a namespace active again."""
        record = await self._change(call, request.namespace, self._registry.resume)
        return pb.ResumeNamespaceResponse(namespace=self._message(record))

    async def BanNamespace(self, call: Call, request: pb.BanNamespaceRequest) -> pb.BanNamespaceResponse:
        """Drop a namespace."""
        reason, grace_ms = check_reason(request.reason), duration_ms(request.grace, "grace")
        if grace_ms > BAN_GRACE_MS_MAX:
            raise bad_field("grace", "must be at most 365 days.")
        by = f"{call.session.subject}@{call.session.namespace_id}"
        record = await self._change(
            call,
            request.namespace,
            lambda namespace_id: self._registry.ban(namespace_id, by=by, reason=reason, grace_ms=grace_ms),
        )
        self._reports.wake()
        return pb.BanNamespaceResponse(namespace=self._message(record))

    async def UnbanNamespace(self, call: Call, request: pb.UnbanNamespaceRequest) -> pb.UnbanNamespaceResponse:
        """Take a ban back."""
        record = await self._change(call, request.namespace, self._registry.unban)
        return pb.UnbanNamespaceResponse(namespace=self._message(record))

    async def ReclaimReport(self, call: Call, request: pb.ReclaimReportRequest) -> pb.ReclaimReportResponse:
        """Tell how far the reclaim of a banned namespace is."""
        record = self._target(call, request.namespace)
        report = await asyncio.to_thread(self._reports.report, record.id)
        return pb.ReclaimReportResponse(reclaim=reclaim_message(report))

    async def WatchReclaim(self, call: Call, request: pb.WatchReclaimRequest, wire: Wire) -> None:
        """Stream reports until the one that says DONE."""
        record = self._target(call, request.namespace)
        sent = None
        with self._notices.subscribe(record.id) as notice:
            while True:
                notice.clear()
                report = await asyncio.to_thread(self._reports.report, record.id)
                call.refresh()
                if report != sent:
                    await wire.send(pb.WatchReclaimResponse(reclaim=reclaim_message(report)))
                    sent = report
                if report.phase is ReclaimPhase.DONE:
                    return
                with wire.idle(), contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(notice.wait(), _LOST_NOTICE_S)

    async def _change(
        self, call: Call, ref: pb.NamespaceRef, change: Callable[[int], NamespaceRecord]
    ) -> NamespaceRecord:
        """Do one audited change of a named namespace in a worker thread and return its record afterwards."""
        target = self._target(call, ref)
        async with self._administration.act(call, describe(target)):
            return await asyncio.to_thread(change, target.id)

    def _target(self, call: Call, ref: pb.NamespaceRef) -> NamespaceRecord:
        """Return the namespace a request names, when the caller may act on it."""
        found = find_namespace(self._registry, ref)
        check_target(call.session, call.method.capability, found.id if found else None)
        return _known(found)

    def _message(self, record: NamespaceRecord) -> pb.Namespace:
        return namespace_message(record, self._registry.ban_of(record.id))


def describe(record: NamespaceRecord) -> str:
    """Return a namespace as the target of an audit line."""
    return f"namespace {record.id} {record.name}"


def _known(record: NamespaceRecord | None) -> NamespaceRecord:
    if record is None:  # ``check_target`` refuses None; should it ever not, nothing is found.
        raise error(Reason.NAMESPACE_NOT_FOUND)
    return record
