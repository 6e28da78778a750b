"""Groups and members on their way into a namespace that is being made from another one, or from an archive.

They are judged by the rules by which the catalog would have made them one by one, for an archive is anybody's file.
What would be more than a tenant's own affair does not come along: no privileges, no main namespace. The built-in groups
are those of every namespace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prefixdb import limits
from prefixdb.catalog import schema
from prefixdb.catalog.entities import Group, MemberRecord, Rule
from prefixdb.catalog.groups import check_rules
from prefixdb.catalog.member_records import member_put
from prefixdb.catalog.names import check_group_names, check_member_name, check_name
from prefixdb.catalog.passwords import is_stored_hash
from prefixdb.catalog.policy import BUILTIN_GROUP_NAMES
from prefixdb.catalog.room import full
from prefixdb.errors import Reason, bad_field, error
from prefixdb.store.base import Put


class Incoming:
    """Judges groups, then members, each in the ascending order of their names, and counts them.

    Args:
        namespace_id: where they go.
        now_ms: the time; nothing has happened after it.
    """

    def __init__(self, namespace_id: int, now_ms: int) -> None:
        self._namespace_id = namespace_id
        self._now_ms = now_ms
        self._groups = set(BUILTIN_GROUP_NAMES)
        self._last_member = ""
        self.groups = 0
        self.members = 0

    def group(self, name: str, rules: Sequence[Rule]) -> Put:
        """Return the write of a group.

        Raises:
            InvalidArgumentError: BAD_NAME, BAD_FIELD (rules).
            AlreadyExistsError: GROUP_EXISTS, it came before or is built in.
            ResourceExhaustedError: QUOTA_EXCEEDED.
        """
        group = Group(check_name(name), check_rules(rules))
        if name in self._groups:
            raise error(Reason.GROUP_EXISTS)
        if len(self._groups) >= limits.GROUPS_PER_NAMESPACE_MAX:
            raise full("groups", limits.GROUPS_PER_NAMESPACE_MAX)
        self._groups.add(name)
        self.groups += 1
        return Put(schema.group_key(self._namespace_id, name), schema.encode_group(group))

    def member(self, record: MemberRecord) -> Put:
        """Return the write of a member.

        Raises:
            InvalidArgumentError: BAD_NAME, BAD_FIELD (groups, password_hash).
            AlreadyExistsError: MEMBER_EXISTS, it came before.
            NotFoundError: GROUP_NOT_FOUND.
            ResourceExhaustedError: QUOTA_EXCEEDED.
        """
        name = check_member_name(record.name)
        groups = check_group_names(record.groups)
        if self._last_member and name <= self._last_member:
            raise error(Reason.MEMBER_EXISTS)
        if not self._groups.issuperset(groups):
            raise error(Reason.GROUP_NOT_FOUND)
        if record.password_hash and not is_stored_hash(record.password_hash):
            raise bad_field("password_hash", "must be one that was made here.")
        if self.members >= limits.MEMBERS_PER_NAMESPACE_MAX:
            raise full("members", limits.MEMBERS_PER_NAMESPACE_MAX)
        self._last_member = name
        self.members += 1
        kept = replace(
            record,
            groups=groups,
            created_at_ms=self._past(record.created_at_ms),
            updated_at_ms=self._past(record.updated_at_ms),
            password_changed_at_ms=self._past(record.password_changed_at_ms),
            privileges=(),
            main_namespace=None,
        )
        return member_put(self._namespace_id, kept)

    def _past(self, at_ms: int) -> int:
        """Return a time of another clock, which may be ahead of ours, as one that has been."""
        return max(0, min(at_ms, self._now_ms))
