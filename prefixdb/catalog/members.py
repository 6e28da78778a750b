"""Members: who belongs to a namespace, with what groups, password and privileges.

Every change is one commit with all that follows from it: a new password, disabling and removal end the member's logins,
removal takes its grants, and where tokens have to die with it the mark that kills them is in that commit. All changes
of one namespace's members, groups and logins happen one at a time (``guarded.Changes``), so that two guardians who
disable each other at once do not both succeed: the last guardian who can log in stays.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from prefixdb import limits
from prefixdb.catalog import schema
from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    MemberRecord,
    NamespaceIssue,
    Privilege,
)
from prefixdb.catalog.grants import grant_deletes
from prefixdb.catalog.guarded import Change, Changes
from prefixdb.catalog.logins import login_deletes
from prefixdb.catalog.member_records import decode_member, member_key, member_put, members_span
from prefixdb.catalog.names import check_group_names, check_member_name, is_member_name
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import GUARDIANS_GROUP
from prefixdb.catalog.room import Room
from prefixdb.catalog.schema import Tag
from prefixdb.clock import Clock
from prefixdb.errors import Reason, bad_field, error
from prefixdb.keycodec import system_span
from prefixdb.store.base import Absent, Condition, Delete, Exists, Mutation, Put, Store, VersionIs

__all__ = ["UNCHANGED", "Members", "RevokeWith", "Unchanged", "first_guardian"]

RevokeWith = Callable[[int, str, Callable[[Put], int]], None]
"""Revokes every token of a subject of a home namespace in a commit of somebody else's: it calls its last argument with
the write of the mark, gets the commit's version back, and has the mark in force when it returns. After an unknown
outcome it believes what the store holds, and raises on."""


class Unchanged(enum.Enum):
    """The type of ``UNCHANGED``."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED
"""Leaves the main namespace as it is, for None means none."""


class Members:
    """The members of all namespaces. Thread-safe; what changes them blocks on a commit."""

    def __init__(
        self, store: Store, clock: Clock, registry: Registry, changes: Changes, revoke_with: RevokeWith | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._registry = registry
        self._changes = changes
        self._revoke_with = revoke_with
        self._room = Room(store, registry, Tag.MEMBER, limits.MEMBERS_PER_NAMESPACE_MAX, "members")

    # --- reading ---------------------------------------------------------------------------------------------------

    def get(self, namespace_id: int, name: str) -> MemberRecord | None:
        """Return a member, or None; any text may be asked for."""
        if not is_member_name(name):
            return None
        row = self._store.get(member_key(namespace_id, name))
        return None if row is None else decode_member(name, row)

    def page(self, namespace_id: int, after: str = "", limit: int = 100) -> list[MemberRecord]:
        """Return up to ``limit`` members with names above ``after``, by name."""
        rows = schema.page_of(self._store, members_span(namespace_id), after.encode(), limit)
        return [decode_member(schema.text_of(record_key), row) for record_key, row in rows]

    # --- changing --------------------------------------------------------------------------------------------------

    def create(
        self,
        namespace_id: int,
        name: str,
        *,
        password_hash: str = "",
        groups: Sequence[str] = (),
        privileges: Sequence[Privilege] = (),
        main_namespace: NamespaceIssue | None = None,
    ) -> MemberRecord:
        """Add a member.

        Args:
            namespace_id: its home.
            name: unique there.
            password_hash: of ``passwords.hash_password``; empty when nobody is to log in as it yet.
            groups: of the namespace, at most TOKEN_GROUPS_MAX.
            privileges: in namespace 0 only.
            main_namespace: in namespace 0 only; namespace 0 itself is the same as None.

        Raises:
            InvalidArgumentError: BAD_NAME, BAD_FIELD (groups, privileges, main_namespace).
            AlreadyExistsError: MEMBER_EXISTS.
            NotFoundError: GROUP_NOT_FOUND; NAMESPACE_NOT_FOUND, of the home or the main namespace.
            ResourceExhaustedError: QUOTA_EXCEEDED.
            FailedPreconditionError: NAMESPACE_STATE, the namespace was dropped.
        """
        now_ms = self._clock.now_ms()
        record = MemberRecord(
            name=check_member_name(name),
            groups=check_group_names(groups),
            password_hash=password_hash,
            disabled=False,
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            password_changed_at_ms=now_ms if password_hash else 0,
            privileges=_check_privileges(namespace_id, privileges),
            main_namespace=self._check_main(namespace_id, main_namespace),
        )
        key = member_key(namespace_id, name)
        with self._changes.of(namespace_id) as change:
            if self._store.get(key) is not None:
                raise error(Reason.MEMBER_EXISTS)
            self._room.take(namespace_id)
            return self._write(change, namespace_id, record, unchanged=Absent(key), groups=record.groups)

    def update(
        self,
        namespace_id: int,
        name: str,
        *,
        groups: Sequence[str] | None = None,
        disabled: bool | None = None,
        privileges: Sequence[Privilege] | None = None,
        main_namespace: NamespaceIssue | Unchanged | None = UNCHANGED,
    ) -> MemberRecord:
        """Change what is not None; disabling ends the member's logins.

        Taking a cluster guardian out of ``guardians``, or disabling one, revokes the tokens of its name: what it made
        for other namespaces must not outlive its office.

        Raises:
            InvalidArgumentError: BAD_FIELD (groups, privileges, main_namespace).
            NotFoundError: MEMBER_NOT_FOUND, GROUP_NOT_FOUND, NAMESPACE_NOT_FOUND.
            FailedPreconditionError: LAST_GUARDIAN, NAMESPACE_STATE.
            ResourceExhaustedError: QUOTA_EXCEEDED, there are marks for too many subjects.
        """
        named = None if groups is None else check_group_names(groups)
        held = None if privileges is None else _check_privileges(namespace_id, privileges)
        main: NamespaceIssue | Unchanged | None = main_namespace
        if not isinstance(main, Unchanged):
            main = self._check_main(namespace_id, main)
        with self._changes.of(namespace_id) as change:
            before = self._known(namespace_id, name)
            after = replace(
                before,
                groups=before.groups if named is None else named,
                disabled=before.disabled if disabled is None else disabled,
                privileges=before.privileges if held is None else held,
                main_namespace=before.main_namespace if isinstance(main, Unchanged) else main,
            )
            if after == before:
                return before
            self._check_guardian_left(namespace_id, before, after)
            after = replace(after, updated_at_ms=self._clock.now_ms())
            ended = login_deletes(self._store, namespace_id, name) if after.disabled else []
            return self._write(
                change,
                namespace_id,
                after,
                unchanged=_unchanged(namespace_id, before),
                groups=named or (),
                more=ended,
                revoke=_loses_office(namespace_id, before, after),
            )

    def set_password(
        self, namespace_id: int, name: str, password_hash: str, *, instead_of: str | None = None
    ) -> MemberRecord:
        """Set a new password and end every login of the member, in one commit.

        Args:
            namespace_id: the member's home.
            name: the member.
            password_hash: of ``passwords.hash_password``.
            instead_of: the hash that the old password was compared with; the change is refused when another one has
                been set since. None for whoever need not know the old one.

        Raises:
            NotFoundError: MEMBER_NOT_FOUND, NAMESPACE_NOT_FOUND.
            UnauthenticatedError: BAD_CREDENTIALS, the password is another one by now.
            FailedPreconditionError: NAMESPACE_STATE.
        """
        if not password_hash:
            raise ValueError("a password cannot be taken away; disable the member")
        with self._changes.of(namespace_id) as change:
            before = self._known(namespace_id, name)
            if instead_of is not None and instead_of != before.password_hash:
                raise error(Reason.BAD_CREDENTIALS)
            now_ms = self._clock.now_ms()
            after = replace(before, password_hash=password_hash, password_changed_at_ms=now_ms, updated_at_ms=now_ms)
            ended = login_deletes(self._store, namespace_id, name)
            return self._write(change, namespace_id, after, unchanged=_unchanged(namespace_id, before), more=ended)

    def rehash(self, namespace_id: int, name: str, *, old_hash: str, new_hash: str) -> None:
        """Replace the hash of the same password, made at a newer cost; logins go on. Harmless when it changed since."""
        with self._changes.of(namespace_id) as change:
            before = self.get(namespace_id, name)
            if before is not None and before.password_hash == old_hash and old_hash:
                after = replace(before, password_hash=new_hash)
                self._write(change, namespace_id, after, unchanged=_unchanged(namespace_id, before), felt=False)

    def delete(self, namespace_id: int, name: str) -> None:
        """Remove a member with its logins and grants, in one commit.

        The tokens of its name are revoked in the same commit when there is a live service token of that subject, or
        when it was a cluster guardian, who may have made tokens for other namespaces.

        Raises:
            NotFoundError: MEMBER_NOT_FOUND, NAMESPACE_NOT_FOUND.
            FailedPreconditionError: LAST_GUARDIAN, NAMESPACE_STATE.
            ResourceExhaustedError: QUOTA_EXCEEDED, there are marks for too many subjects.
        """
        with self._changes.of(namespace_id) as change:
            before = self._known(namespace_id, name)
            self._check_guardian_left(namespace_id, before, None)
            deletes: list[Mutation] = [
                Delete(member_key(namespace_id, name)),
                *login_deletes(self._store, namespace_id, name),
            ]
            if namespace_id == DEFAULT_NAMESPACE_ID:
                deletes += grant_deletes(self._store, name)
            revoke = _loses_office(namespace_id, before, None) or self._has_service_token(namespace_id, name)
            guards = (_unchanged(namespace_id, before),)
            self._commit(change, namespace_id, deletes, guards=guards, revoke=name if revoke else "")

    # --- private ---------------------------------------------------------------------------------------------------

    def _write(
        self,
        change: Change,
        namespace_id: int,
        record: MemberRecord,
        *,
        unchanged: Condition,
        groups: Sequence[str] = (),
        more: Sequence[Mutation] = (),
        revoke: bool = False,
        felt: bool = True,
    ) -> MemberRecord:
        """Write a member if its row is as it was and ``groups`` exist; return it as it is now."""
        for group in groups:
            if self._store.get(schema.group_key(namespace_id, group)) is None:
                raise error(Reason.GROUP_NOT_FOUND)
        exist = [Exists(schema.group_key(namespace_id, group)) for group in groups]
        writes = [*more, member_put(namespace_id, record)]
        version = self._commit(
            change,
            namespace_id,
            writes,
            guards=(unchanged, *exist),
            revoke=record.name if revoke else "",
            felt=felt,
        )
        return replace(record, row_version=version)

    def _commit(
        self,
        change: Change,
        namespace_id: int,
        writes: Sequence[Mutation],
        *,
        guards: Sequence[Condition],
        revoke: str,
        felt: bool = True,
    ) -> int:
        """Commit, with the mark that revokes the tokens of the subject ``revoke`` unless that is empty."""
        if not revoke:
            return change.commit_all(writes, guards=guards, felt=felt)
        if self._revoke_with is None:
            raise error(Reason.INTERNAL, "Members were set up without a way to revoke tokens.")
        versions: list[int] = []

        def commit(mark: Put) -> int:
            versions.append(change.commit_all([*writes, mark], guards=guards))
            return versions[0]

        self._revoke_with(namespace_id, revoke, commit)
        return versions[0]

    def _known(self, namespace_id: int, name: str) -> MemberRecord:
        record = self.get(namespace_id, name)
        if record is None:
            raise error(Reason.MEMBER_NOT_FOUND)
        return record

    def _check_main(self, namespace_id: int, main: NamespaceIssue | None) -> NamespaceIssue | None:
        """Return the main namespace of a member as it is kept."""
        if main is None:
            return None
        if namespace_id != DEFAULT_NAMESPACE_ID:
            raise bad_field("main_namespace", "is for members of namespace 0.")
        if main.namespace_id == DEFAULT_NAMESPACE_ID:
            return None
        record = self._registry.get(main.namespace_id)
        if record is None or not record.state.is_live or record.incarnation != main.incarnation:
            raise error(Reason.NAMESPACE_NOT_FOUND)
        return main

    def _check_guardian_left(self, namespace_id: int, before: MemberRecord, after: MemberRecord | None) -> None:
        """Refuse when the change takes the namespace's last guardian who can log in."""
        if not _guards(before) or (after is not None and _guards(after)):
            return
        mention = GUARDIANS_GROUP.encode()
        for record_key, row in schema.rows_of(self._store, members_span(namespace_id)):
            if mention in row.payload:
                other = decode_member(schema.text_of(record_key), row)
                if other.name != before.name and _guards(other):
                    return
        raise error(Reason.LAST_GUARDIAN)

    def _has_service_token(self, namespace_id: int, subject: str) -> bool:
        """Return whether a service token of the subject is alive. One that is issued at this moment counts as later."""
        mention = subject.encode()
        for record_key, row in schema.rows_of(self._store, system_span(namespace_id, Tag.SERVICE_TOKEN)):
            if mention in row.payload:
                token = schema.decode_service_token(schema.text_of(record_key), row)
                if token.subject == subject and not token.revoked:
                    return True
        return False


def first_guardian(name: str, password_hash: str, now_ms: int) -> MemberRecord:
    """Return the record of a namespace's first guardian, for ``Registry.create(first_member=...)``.

    Raises:
        InvalidArgumentError: BAD_NAME.
    """
    return MemberRecord(
        name=check_member_name(name),
        groups=(GUARDIANS_GROUP,),
        password_hash=password_hash,
        disabled=False,
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
        password_changed_at_ms=now_ms if password_hash else 0,
    )


def _guards(record: MemberRecord) -> bool:
    """True for a guardian who can log in."""
    return record.can_log_in and GUARDIANS_GROUP in record.groups


def _loses_office(namespace_id: int, before: MemberRecord, after: MemberRecord | None) -> bool:
    """True when somebody who could administer the cluster no longer can."""
    if namespace_id != DEFAULT_NAMESPACE_ID or before.disabled or GUARDIANS_GROUP not in before.groups:
        return False
    return after is None or after.disabled or GUARDIANS_GROUP not in after.groups


def _unchanged(namespace_id: int, record: MemberRecord) -> VersionIs:
    return VersionIs(member_key(namespace_id, record.name), record.row_version)


def _check_privileges(namespace_id: int, privileges: Sequence[Privilege]) -> tuple[Privilege, ...]:
    if privileges and namespace_id != DEFAULT_NAMESPACE_ID:
        raise bad_field("privileges", "are for members of namespace 0.")
    if len(set(privileges)) != len(privileges):
        raise bad_field("privileges", "must be different.")
    return tuple(sorted(Privilege(privilege) for privilege in privileges))
