"""Groups: named lists of rules inside one namespace.

The three built-in groups stay as they are. A group is deleted in an order that never leaves a right behind: first the
name is taken from the members, a page at a time, and with the last page the group goes. Cut off in between, some have
lost the group and it still exists; a repeat goes on. So when a group of the same name is made later, no member is in
it. In a namespace with less than a page of members it is one commit.

Service tokens and grants that name the group keep the name, which permits nothing while there is no such group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prefixdb import limits
from prefixdb.catalog import schema
from prefixdb.catalog.entities import Group, Rule
from prefixdb.catalog.guarded import Changes
from prefixdb.catalog.member_records import decode_member, member_put, members_span
from prefixdb.catalog.names import check_name, is_name
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import BUILTIN_GROUP_NAMES
from prefixdb.catalog.room import Room
from prefixdb.catalog.schema import Tag
from prefixdb.clock import Clock
from prefixdb.errors import Reason, bad_field, error
from prefixdb.keycodec import system_span
from prefixdb.store.base import Absent, Delete, Mutation, Put, Row, Store, VersionIs

__all__ = ["Groups", "check_rules"]

MEMBERS_PER_COMMIT = 1_000
"""Members whose groups are rewritten in one commit, some hundred KiB."""


class Groups:
    """The groups of all namespaces. Thread-safe; what changes them blocks on a commit."""

    def __init__(self, store: Store, clock: Clock, registry: Registry, changes: Changes) -> None:
        self._store = store
        self._clock = clock
        self._changes = changes
        self._room = Room(store, registry, Tag.GROUP, limits.GROUPS_PER_NAMESPACE_MAX, "groups")

    def get(self, namespace_id: int, name: str) -> Group | None:
        """Return a group, or None; any text may be asked for."""
        if not is_name(name):
            return None
        row = self._store.get(schema.group_key(namespace_id, name))
        return None if row is None else schema.decode_group(name, row)

    def page(self, namespace_id: int, after: str = "", limit: int = 100) -> list[Group]:
        """Return up to ``limit`` groups with names above ``after``, by name."""
        rows = schema.page_of(self._store, system_span(namespace_id, Tag.GROUP), after.encode(), limit)
        return [schema.decode_group(schema.text_of(record_key), row) for record_key, row in rows]

    def create(self, namespace_id: int, name: str, rules: Sequence[Rule]) -> Group:
        """Create a group.

        Raises:
            InvalidArgumentError: BAD_NAME, BAD_FIELD (rules).
            AlreadyExistsError: GROUP_EXISTS.
            ResourceExhaustedError: QUOTA_EXCEEDED.
            NotFoundError, FailedPreconditionError: NAMESPACE_NOT_FOUND, NAMESPACE_STATE.
        """
        group = Group(check_name(name), check_rules(rules))
        with self._changes.of(namespace_id) as change:
            put = _put(namespace_id, group)
            if self._store.get(put.key) is not None:
                raise error(Reason.GROUP_EXISTS)
            self._room.take(namespace_id)
            change.commit_all([put], guards=(Absent(put.key),))
        return group

    def update(self, namespace_id: int, name: str, rules: Sequence[Rule]) -> Group:
        """Replace the rules of a group.

        Raises:
            InvalidArgumentError: BAD_FIELD (rules).
            NotFoundError: GROUP_NOT_FOUND, NAMESPACE_NOT_FOUND.
            FailedPreconditionError: GROUP_BUILT_IN, NAMESPACE_STATE.
        """
        group = Group(_changeable(name), check_rules(rules))
        with self._changes.of(namespace_id) as change:
            row = self._known(namespace_id, name)
            if schema.decode_group(name, row) != group:
                change.commit_all([_put(namespace_id, group)], guards=(VersionIs(row.key, row.version),))
        return group

    def delete(self, namespace_id: int, name: str) -> None:
        """Take a group from its members, then delete it. Takes about 10 µs for each member of the namespace.

        Raises:
            NotFoundError: GROUP_NOT_FOUND, NAMESPACE_NOT_FOUND.
            FailedPreconditionError: GROUP_BUILT_IN, NAMESPACE_STATE.
        """
        _changeable(name)
        after = b""
        with self._changes.of(namespace_id) as change:
            group = self._known(namespace_id, name)
            unchanged = VersionIs(group.key, group.version)
            while True:
                page = schema.page_of(self._store, members_span(namespace_id), after, MEMBERS_PER_COMMIT)
                writes = self._without(namespace_id, name, page)
                if len(page) < MEMBERS_PER_COMMIT:
                    break
                if writes:
                    change.commit_all(writes, guards=(unchanged,))
                after = page[-1][0]
            change.commit_all([*writes, Delete(group.key)], guards=(unchanged,))

    def _without(self, namespace_id: int, name: str, page: list[tuple[bytes, Row]]) -> list[Mutation]:
        """Return the writes that take the group from those members of a page who are in it."""
        mention = name.encode()
        now_ms = self._clock.now_ms()
        writes: list[Mutation] = []
        for record_key, row in page:
            if mention not in row.payload:
                continue
            member = decode_member(schema.text_of(record_key), row)
            if name in member.groups:
                left = tuple(held for held in member.groups if held != name)
                writes.append(member_put(namespace_id, replace(member, groups=left, updated_at_ms=now_ms)))
        return writes

    def _known(self, namespace_id: int, name: str) -> Row:
        row = self._store.get(schema.group_key(namespace_id, name)) if is_name(name) else None
        if row is None:
            raise error(Reason.GROUP_NOT_FOUND)
        return row


def check_rules(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return the rules of a group, each once and in their order, else raise InvalidArgumentError BAD_FIELD (rules)."""
    if len(rules) > limits.GROUP_RULES_MAX:
        raise bad_field("rules", f"may be at most {limits.GROUP_RULES_MAX}.")
    for rule in rules:
        if rule.database is not None and not 0 <= rule.database <= limits.DATABASE_MAX:
            raise bad_field("rules", f"need a database between 0 and {limits.DATABASE_MAX}, or none.")
        if len(rule.prefix) > limits.KEY_BYTES_MAX:
            raise bad_field("rules", f"need prefixes of at most {limits.KEY_BYTES_MAX} bytes.")
        if not (rule.read or rule.write):
            raise bad_field("rules", "must permit reading, writing or both.")
    distinct = tuple(dict.fromkeys(rules))
    if sum(len(rule.prefix) for rule in distinct) > limits.GROUP_PREFIX_BYTES_MAX:
        raise bad_field("rules", f"may have prefixes of {limits.GROUP_PREFIX_BYTES_MAX} bytes together.")
    return distinct


def _put(namespace_id: int, group: Group) -> Put:
    return Put(schema.group_key(namespace_id, group.name), schema.encode_group(group))


def _changeable(name: str) -> str:
    if name in BUILTIN_GROUP_NAMES:
        raise error(Reason.GROUP_BUILT_IN)
    return name
