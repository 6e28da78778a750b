"""The Namespaces service: the life of namespaces, in the hands of cluster guardians.

Every act is checked (fields, capability, target), written into the audit, done in a worker thread because the registry
waits for the disk, and audited again with its outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable

from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    GrantEffect,
    MemberRecord,
    NamespaceRecord,
    NamespaceState,
    ReclaimPhase,
)
from prefixdb.catalog.members import first_guardian
from prefixdb.catalog.names import check_labels, check_member_name, check_name, check_reason
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.passwords import check_new_password
from prefixdb.catalog.policy import Session, check_target, may_switch, sees_every_namespace
from prefixdb.catalog.tokens import TokenAuthority
from prefixdb.clock import Clock
from prefixdb.errors import bad_field
from prefixdb.keycodec import namespace_span
from prefixdb.limits import BAN_GRACE_MS_MAX, GRANTS_PER_MEMBER_MAX, NAMESPACE_ID_MAX
from prefixdb.service.administration import Administration
from prefixdb.service.calls import Call, Wire
from prefixdb.service.hashing import Hashing
from prefixdb.service.messages import (
    check_mask,
    decode_page_token,
    describe,
    duration_ms,
    encode_page_token,
    find_namespace,
    glimpse_message,
    known,
    namespace_message,
    page_size,
    reclaim_message,
    whole_seconds,
)
from prefixdb.service.notices import Notices
from prefixdb.service.ports import ReclaimReports
from prefixdb.service.workers import Workers
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
        hashing: for a first guardian's password.
        clock: time of its record.
        workers: threads for what blocks.
    """

    def __init__(
        self,
        registry: Registry,
        authority: TokenAuthority,
        store: Store,
        reports: ReclaimReports,
        administration: Administration,
        *,
        hashing: Hashing,
        clock: Clock,
        workers: Workers,
    ) -> None:
        self._registry = registry
        self._hashing = hashing
        self._workers = workers
        self._clock = clock
        self._authority = authority
        self._store = store
        self._reports = reports
        self._administration = administration
        self._notices = Notices(asyncio.get_running_loop())
        reports.add_listener(self._notices.notify)

    async def CreateNamespace(self, call: Call, request: pb.CreateNamespaceRequest) -> pb.CreateNamespaceResponse:
        """Create a namespace, with its first guardian, as a member or as a token, when asked for."""
        name, labels = check_name(request.name), check_labels(request.labels)
        namespace_id = request.id if request.HasField("id") else None
        if namespace_id is not None and not 1 <= namespace_id <= NAMESPACE_ID_MAX:
            raise bad_field("id", "must be between 1 and 2^64-2.")
        ttl = request.guardian_token_ttl
        ttl_s = whole_seconds(ttl, "guardian_token_ttl") if request.HasField("guardian_token_ttl") else None
        member = await self._first_guardian(call, request.guardian) if request.HasField("guardian") else None
        session = call.refresh()

        def create() -> tuple[NamespaceRecord, str]:
            first = None if ttl_s is None else self._authority.prepare_guardian(ttl_s, session)
            record = self._registry.create(
                name, namespace_id=namespace_id, labels=labels, first_token=first, first_member=member
            )
            return record, "" if first is None else self._authority.sign(first, record)

        async with self._administration.act(call, f"namespace {name}") as act:
            record, token = await self._workers.run(call.session.namespace_id, create)
            act.target = describe(record) + (f", guardian {member.name}" if member else "")
        return pb.CreateNamespaceResponse(namespace=self._message(record), guardian_token=token)

    async def _first_guardian(self, call: Call, asked: pb.FirstGuardian) -> MemberRecord:
        """Return the member a namespace begins with, its password hashed."""
        name, password = check_member_name(asked.name), check_new_password(asked.password)
        hashed = await self._hashing.hash(password, namespace_id=call.session.namespace_id)
        return first_guardian(name, hashed, self._clock.now_ms())

    async def GetNamespace(self, call: Call, request: pb.GetNamespaceRequest) -> pb.GetNamespaceResponse:
        """Show one namespace, the caller's own when none is named, with its approximate size."""
        found: NamespaceRecord | None = call.record
        if request.HasField("namespace"):
            found = find_namespace(self._registry, request.namespace)
        check_target(call.session, call.method.capability, found.id if found else None)
        record = known(found)
        message = self._message(record)
        size = await self._workers.run(call.session.home_id, lambda: self._size(record.id))
        message.approximate_bytes, message.approximate_rows = size.bytes, size.rows
        return pb.GetNamespaceResponse(namespace=message)

    def _size(self, namespace_id: int) -> SpanSize:
        """Return the approximate size. Young rows are in memory, where files know nothing of them: they are walked."""
        span = namespace_span(namespace_id)
        size = self._store.span_size(span, exact_rows_max=_ROWS_GLANCED)
        return self._store.span_size(span, exact_rows_max=_ROWS_WALKED) if size.rows == _ROWS_GLANCED else size

    async def ListNamespaces(self, call: Call, request: pb.ListNamespacesRequest) -> pb.ListNamespacesResponse:
        """Return a page of namespaces by id: whole and all of them, or in brief those that the caller may use."""
        limit = page_size(request.page_size)
        position = decode_page_token(_PAGE_KIND, request.page_token)
        if position is not None and len(position) != _ID.size:
            raise bad_field("page_token", "is not a page token of this list.")
        after = None if position is None else int(_ID.unpack(position)[0])
        if sees_every_namespace(call.session):
            records = self._registry.page(after, limit + 1, request.include_dropped)
            messages = [self._message(record) for record in records[:limit]]
        else:
            session = call.session
            records = await self._workers.run(session.home_id, lambda: self._usable(session, after, limit + 1))
            messages = [glimpse_message(record) for record in records[:limit]]
        more = encode_page_token(_PAGE_KIND, _ID.pack(records[limit - 1].id)) if len(records) > limit else ""
        return pb.ListNamespacesResponse(namespaces=messages, next_page_token=more)

    def _usable(self, session: Session, after: int | None, count: int) -> list[NamespaceRecord]:
        """Return up to ``count`` live namespaces above ``after`` that the session's holder may use, by id.

        The work is bounded by what was said about the member, not by how many namespaces there are: its grants are
        walked, and only one for all namespaces makes the namespaces themselves be walked, of which at most as many are
        left out as there are denials. Blocks.
        """
        own = {session.namespace_id, session.home_id}
        lowest = 0 if after is None else after + 1
        grants = self._authority.identities.grants
        if not (may_switch(session) and session.family and session.home_id == DEFAULT_NAMESPACE_ID):
            return self._live(sorted(own), lowest)[:count]
        usable = grants.usable(session.subject)
        said = grants.page(session.subject, limit=GRANTS_PER_MEMBER_MAX)
        if not any(grant.target is None and grant.effect is GrantEffect.ALLOW for grant in said):
            named = {grant.target.namespace_id for grant in said if grant.target is not None}
            return [record for record in self._live(sorted(own | named), lowest) if record.id in own or usable(record)][
                :count
            ]
        found: list[NamespaceRecord] = []
        while len(found) < count:
            page = self._registry.page(after, count)
            found += [record for record in page if record.id in own or usable(record)]
            if len(page) < count:
                break
            after = page[-1].id
        return found[:count]

    def _live(self, ids: list[int], lowest: int) -> list[NamespaceRecord]:
        records = (self._registry.get(namespace_id) for namespace_id in ids if namespace_id >= lowest)
        return [record for record in records if record is not None and record.state.is_live]

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
        report = await self._workers.run(call.session.namespace_id, lambda: self._reports.report(record.id))
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
            return await self._workers.run(call.session.namespace_id, lambda: change(target.id))

    def _target(self, call: Call, ref: pb.NamespaceRef) -> NamespaceRecord:
        """Return the namespace a request names, when the caller may act on it."""
        found = find_namespace(self._registry, ref)
        check_target(call.session, call.method.capability, found.id if found else None)
        return known(found)

    def _message(self, record: NamespaceRecord) -> pb.Namespace:
        return namespace_message(record, self._registry.ban_of(record.id))
