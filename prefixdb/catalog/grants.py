"""Grants and denials: which other namespaces a member of namespace 0 may use, and in which groups.

Said about one namespace, or about all of them but 0. What decides, for a member and a namespace:

1. A denial of the namespace or of all: not covered, whatever else is granted.
2. A grant of the namespace: its groups, looked up in that namespace.
3. A grant of all: its groups.
4. Nothing said: not covered.

The nearer grant replaces the wider one, so that somebody who reads everywhere can write here, and somebody who writes
everywhere can be held to reading here. What is said about one namespace is said about one issue of its number: it
counts for nothing once the number has been issued again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prefixdb import limits
from prefixdb.catalog import schema
from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    GrantEffect,
    GrantRecord,
    NamespaceIssue,
    NamespaceRecord,
    NamespaceState,
)
from prefixdb.catalog.guarded import Changes
from prefixdb.catalog.member_records import (
    decode_grant,
    grant_key,
    grant_put,
    grant_record_key,
    grants_span,
    member_key,
)
from prefixdb.catalog.names import check_group_names, is_member_name
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import GUARDIANS_GROUP
from prefixdb.catalog.room import count_rows, full
from prefixdb.clock import Clock
from prefixdb.errors import Reason, bad_field, error
from prefixdb.keycodec import RowKey
from prefixdb.store.base import Delete, Exists, Mutation, Row, Store

__all__ = ["Grants", "grant_deletes", "grants_about", "judge"]


class Grants:
    """All grants and denials. Thread-safe; what changes them blocks on a commit."""

    def __init__(self, store: Store, clock: Clock, registry: Registry, changes: Changes) -> None:
        self._store = store
        self._clock = clock
        self._registry = registry
        self._changes = changes

    def set(
        self, member: str, target: NamespaceRecord | None, effect: GrantEffect, groups: Sequence[str] = ()
    ) -> GrantRecord:
        """Say something about a member and a namespace (None: all but 0), instead of what was said before.

        Args:
            member: of namespace 0.
            target: a live namespace other than 0.
            effect: ALLOW or DENY.
            groups: with ALLOW 1 to TOKEN_GROUPS_MAX, not ``guardians``; with DENY none. They need not exist.

        Raises:
            InvalidArgumentError: BAD_FIELD (namespace, groups).
            NotFoundError: MEMBER_NOT_FOUND.
            FailedPreconditionError: NAMESPACE_STATE, the target was dropped.
            ResourceExhaustedError: QUOTA_EXCEEDED.
        """
        record = GrantRecord(member, _issue_of(target), effect, _check_groups(effect, groups), self._clock.now_ms())
        with self._changes.of(DEFAULT_NAMESPACE_ID) as change:
            if not is_member_name(member) or self._store.get(member_key(DEFAULT_NAMESPACE_ID, member)) is None:
                raise error(Reason.MEMBER_NOT_FOUND)
            put = grant_put(record)
            room = [] if self._store.get(put.key) is not None else self._make_room(member)
            exists = Exists(member_key(DEFAULT_NAMESPACE_ID, member))
            change.commit_all([*room, put], guards=(exists,))
        return record

    def delete(self, member: str, target_id: int | None) -> None:
        """Take back what was said about a member and a namespace, or about all of them (None).

        Raises:
            NotFoundError: GRANT_NOT_FOUND.
        """
        with self._changes.of(DEFAULT_NAMESPACE_ID) as change:
            row = self._store.get(grant_key(member, target_id)) if is_member_name(member) else None
            if row is None:
                raise error(Reason.GRANT_NOT_FOUND)
            change.commit_all([Delete(row.key)])

    def page(self, member: str = "", after: bytes = b"", limit: int = 100) -> list[GrantRecord]:
        """Return up to ``limit`` grants and denials of a member, or of every member, by member and number.

        Args:
            member: empty for every member.
            after: ``position`` of the last one of the page before; empty for the first page.
            limit: at least 1.
        """
        if member and not is_member_name(member):
            return []
        rows = schema.page_of(self._store, grants_span(member), after, limit)
        return [decode_grant(record_key, row) for record_key, row in rows]

    @staticmethod
    def position(grant: GrantRecord) -> bytes:
        """Return what ``page`` takes to go on after this grant."""
        return grant_record_key(grant.member, None if grant.target is None else grant.target.namespace_id)

    def decide(self, member: str, record: NamespaceRecord) -> tuple[str, ...] | None:
        """Return the groups the member is in while it uses the namespace; None when nothing covers it. Two reads.

        Namespace 0 is never granted: its members are at home there. Whether the namespace is live is not looked at.
        """
        return judge(record, self._store.get_many(grants_about(member, record.id)))

    def is_held_back(self, member: str, record: NamespaceRecord) -> bool:
        """Return whether the member may less in the namespace than in one nothing was said about: it is denied, or
        granted other groups than everywhere. Two reads."""
        if not is_member_name(member):
            return False
        rows = self._store.get_many(grants_about(member, record.id))
        said = [decode_grant(schema.record_key_of(row), row) for row in rows if row is not None]
        about = [grant for grant in said if _is_about(grant, record)]
        if any(grant.effect is not GrantEffect.ALLOW for grant in about):
            return True
        elsewhere = {group for grant in about if grant.target is None for group in grant.groups}
        here = _verdict(about)
        return here is not None and not elsewhere.issubset(here)

    def usable(self, member: str) -> Callable[[NamespaceRecord], bool]:
        """Return a function that tells whether ``decide`` would find a namespace covered, from all of the member's
        grants as they are now, read once."""
        said = self._all(member)
        by_id = {grant.target.namespace_id: grant for grant in said if grant.target is not None}
        about_all = [grant for grant in said if grant.target is None]

        def covers(record: NamespaceRecord) -> bool:
            if record.id == DEFAULT_NAMESPACE_ID:
                return False
            near = by_id.get(record.id)
            about = [near, *about_all] if near is not None and _is_about(near, record) else about_all
            return _verdict(about) is not None

        return covers

    def _all(self, member: str) -> list[GrantRecord]:
        return [decode_grant(record_key, row) for record_key, row in schema.rows_of(self._store, grants_span(member))]

    def _make_room(self, member: str) -> list[Mutation]:
        """Return the deletes of what counts for nothing any more, when the member has too many grants.

        Raises:
            ResourceExhaustedError: QUOTA_EXCEEDED, all of them count.
        """
        limit = limits.GRANTS_PER_MEMBER_MAX
        if count_rows(self._store, grants_span(member), limit) < limit:
            return []
        dead: list[Mutation] = []
        for grant in self._all(member):
            target = grant.target
            record = None if target is None else self._registry.get(target.namespace_id)
            if target is not None and (
                record is None or record.incarnation != target.incarnation or record.state is NamespaceState.RECLAIMED
            ):
                dead.append(Delete(grant_key(member, target.namespace_id)))
        if not dead:
            raise full("grants and denials of the member", limit)
        return dead


def grants_about(member: str, namespace_id: int) -> list[RowKey]:
    """Return the keys of the two rows that decide about a member and a namespace, for ``judge``."""
    return [grant_key(member, namespace_id), grant_key(member, None)]


def judge(record: NamespaceRecord, rows: Sequence[Row | None]) -> tuple[str, ...] | None:
    """Return the groups that the rows of ``grants_about`` give in the namespace; None when they do not cover it."""
    if record.id == DEFAULT_NAMESPACE_ID:
        return None
    said = [decode_grant(schema.record_key_of(row), row) for row in rows if row is not None]
    return _verdict([grant for grant in said if _is_about(grant, record)])


def grant_deletes(store: Store, member: str) -> list[Mutation]:
    """Return the deletes of everything that was said about a member."""
    return [Delete(row.key) for _, row in schema.rows_of(store, grants_span(member), keys_only=True)]


def _verdict(said: Sequence[GrantRecord]) -> tuple[str, ...] | None:
    """Decide by what was said about one namespace: the nearer first, at most two."""
    if any(grant.effect is not GrantEffect.ALLOW for grant in said):
        return None
    return said[0].groups if said else None


def _is_about(grant: GrantRecord, record: NamespaceRecord) -> bool:
    return grant.target is None or grant.target == NamespaceIssue(record.id, record.incarnation)


def _issue_of(target: NamespaceRecord | None) -> NamespaceIssue | None:
    if target is None:
        return None
    if target.id == DEFAULT_NAMESPACE_ID:
        raise bad_field("namespace", "must not be namespace 0: its members are at home there.")
    if not target.state.is_live:
        raise error(Reason.NAMESPACE_STATE, "The namespace was dropped.", metadata={"state": target.state.name})
    return NamespaceIssue(target.id, target.incarnation)


def _check_groups(effect: GrantEffect, groups: Sequence[str]) -> tuple[str, ...]:
    checked = check_group_names(groups)
    if effect is GrantEffect.DENY and checked:
        raise bad_field("groups", "must be empty with DENY.")
    if effect is GrantEffect.ALLOW and not checked:
        raise bad_field("groups", f"must name 1 to {limits.TOKEN_GROUPS_MAX} groups with ALLOW.")
    if GUARDIANS_GROUP in checked:
        raise bad_field("groups", f"must not name {GUARDIANS_GROUP}: a guest is never a guardian.")
    return checked
