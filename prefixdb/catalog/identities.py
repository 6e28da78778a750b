"""What somebody may do now: from the claims of a token to groups, rules, guardian and privileges.

    claims with a family ──► LOGIN row ──► MEMBER row ──┬─ at home ──► the member's groups ─────────────────┐
                             (gone: revoked)            └─ guest ────► its grant: groups of the target ─────┤
    claims without ─────────────────────────────────────────────────► the groups in the token ─────────────┴─► rules

All of it is read from the store, some forty rows at most, and nothing is remembered here: who asks keeps the answer
while the epochs it depends on have not moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from prefixdb.catalog import schema
from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    Guardian,
    MemberRecord,
    NamespaceRecord,
    NamespaceState,
    Privilege,
    Rule,
)
from prefixdb.catalog.epochs import Epochs
from prefixdb.catalog.grants import Grants, grants_about, judge
from prefixdb.catalog.groups import Groups
from prefixdb.catalog.guarded import Changes
from prefixdb.catalog.logins import Logins
from prefixdb.catalog.member_records import decode_member, login_key, member_key
from prefixdb.catalog.members import Members, RevokeWith
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import GUARDIANS_GROUP
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.store.base import Row, Store

__all__ = ["Bearer", "Identities", "Standing"]

USABLE_NAMED_MAX = 100
"""Namespaces that a member whose main one is gone is told of."""

_PAGE = 1_000
_VIEWS_MAX = 20
_OPEN = (NamespaceState.ACTIVE, NamespaceState.READ_ONLY)


class Bearer(Protocol):
    """What is needed of a token's claims.

    family: the login it came from; empty for a service token or one of another issuer.
    guest: the subject is a member of namespace 0, the namespace another one.
    """

    @property
    def namespace_id(self) -> int: ...
    @property
    def subject(self) -> str: ...
    @property
    def groups(self) -> tuple[str, ...]: ...
    @property
    def guardian(self) -> Guardian: ...
    @property
    def family(self) -> str: ...
    @property
    def guest(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """What a token's holder is in the token's namespace at this moment.

    groups: of that namespace; a name that no group has permits nothing.
    rules: what the groups permit, each rule once.
    """

    groups: tuple[str, ...]
    guardian: Guardian
    privileges: frozenset[Privilege]
    rules: tuple[Rule, ...]


class Identities:
    """Members, groups, grants and logins of all namespaces, and what they add up to. Thread-safe."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        registry: Registry,
        epochs: Epochs,
        revoke_with: RevokeWith | None = None,
    ) -> None:
        """Put the parts together; reads nothing.

        Args:
            store: the store.
            clock: the time.
            registry: the namespaces.
            epochs: moved after every change.
            revoke_with: how the tokens of a subject are revoked in a member's own commit, for removals. Without it
                what would need it fails.
        """
        self._store = store
        self._registry = registry
        changes = Changes(store, registry, epochs)
        self.members = Members(store, clock, registry, changes, revoke_with)
        self.groups = Groups(store, clock, registry, changes)
        self.grants = Grants(store, clock, registry, changes)
        self.logins = Logins(store, clock, changes)

    def standing(self, claims: Bearer) -> Standing:
        """Return what the holder of a verified token may do now.

        Raises:
            UnauthenticatedError: TOKEN_REVOKED, the login has ended, or the member is gone or disabled.
            PermissionDeniedError: NOT_PERMITTED, a guest whom no grant covers.
        """
        if not claims.family:
            rules = self.rules_of(claims.namespace_id, claims.groups)
            return Standing(claims.groups, claims.guardian, frozenset(), rules)
        # Everything is taken from one view: somebody who was put out of a group before its rules were widened must not
        # be seen in the old group with the new rules. Which groups to read is known only afterwards; the token says
        # which they were when it was made, and if that is no longer so they are read again.
        names = claims.groups
        for _ in range(_VIEWS_MAX):
            standing, names = self._look(claims, names)
            if standing is not None:
                return standing
        raise error(Reason.INTERNAL, "The member's groups kept changing.")

    def rules_of(self, namespace_id: int, groups: Sequence[str]) -> tuple[Rule, ...]:
        """Return what groups of a namespace permit now, each rule once; a group that is not there permits nothing."""
        rows = self._store.get_many([schema.group_key(namespace_id, name) for name in groups])
        return _rules_of(zip(groups, rows, strict=True))

    def landing(
        self, member: MemberRecord, home: NamespaceRecord, into: NamespaceRecord | None = None
    ) -> NamespaceRecord:
        """Return the namespace that a login of the member is for.

        A suspended one is landed in like any other: its refusal says why it cannot be used.

        Args:
            member: of ``home``.
            home: where it belongs.
            into: what was asked for by name; None for the member's main namespace. Who was asked for one that does
                not exist refuses with the same NOT_PERMITTED.

        Raises:
            PermissionDeniedError: NOT_PERMITTED, no grant covers ``into``, or it was dropped.
            FailedPreconditionError: MAIN_NAMESPACE_GONE, with up to 100 names of ``usable`` ones, separated by commas.
        """
        if into is not None:
            if into.id == home.id or (home.id == DEFAULT_NAMESPACE_ID and self._covers(member.name, into)):
                return into
            raise error(Reason.NOT_PERMITTED)
        main = member.main_namespace
        if main is None or home.id != DEFAULT_NAMESPACE_ID:
            return home
        record = self._registry.get(main.namespace_id)
        if record is None or record.incarnation != main.incarnation or not self._covers(member.name, record):
            raise self._main_gone(member.name, home)
        return record

    # --- private ---------------------------------------------------------------------------------------------------

    def _look(self, claims: Bearer, expected: Sequence[str]) -> tuple[Standing | None, tuple[str, ...]]:
        """Look once at all that makes the standing of a member who logged in.

        Args:
            claims: with a family.
            expected: the groups whose rules are read along.

        Returns:
            The standing, None when other groups than those would be needed; and the member's groups.
        """
        home_id = DEFAULT_NAMESPACE_ID if claims.guest else claims.namespace_id
        keys = [login_key(home_id, claims.subject, claims.family), member_key(home_id, claims.subject)]
        if claims.guest:
            keys += grants_about(claims.subject, claims.namespace_id)
        facts = len(keys)
        keys += [schema.group_key(claims.namespace_id, name) for name in expected]
        rows = self._store.get_many(keys)
        login, row = rows[:2]
        member = decode_member(claims.subject, row) if row is not None else None
        if login is None or member is None or member.disabled:
            raise error(Reason.TOKEN_REVOKED)
        guardian, groups = _guardian_of(home_id, member), member.groups
        if claims.guest:
            guardian, groups = Guardian.NONE, self._granted(claims.namespace_id, rows[2:facts])
        found = dict(zip(expected, rows[facts:], strict=True))
        if not found.keys() >= set(groups):
            return None, groups
        rules = _rules_of((name, found[name]) for name in groups)
        return Standing(groups, guardian, frozenset(member.privileges), rules), groups

    def _granted(self, namespace_id: int, said: Sequence[Row | None]) -> tuple[str, ...]:
        """Return the groups that a guest's grants give it in the namespace."""
        record = self._registry.get(namespace_id)
        groups = None if record is None else judge(record, said)
        if groups is None:
            raise error(Reason.NOT_PERMITTED)
        return groups

    def _covers(self, member: str, record: NamespaceRecord) -> bool:
        return record.state.is_live and self.grants.decide(member, record) is not None

    def _main_gone(self, member: str, home: NamespaceRecord) -> PrefixdbError:
        usable = self.grants.usable(member)
        names = islice((record.name for record in self._open() if usable(record)), USABLE_NAMED_MAX - 1)
        return error(Reason.MAIN_NAMESPACE_GONE, metadata={"usable": ",".join([home.name, *names])})

    def _open(self) -> Iterator[NamespaceRecord]:
        """Yield every namespace that can be read now, by id."""
        page: Iterable[NamespaceRecord] = ()
        after: int | None = None
        while page := self._registry.page(after, _PAGE):
            yield from (record for record in page if record.state in _OPEN)
            after = page[-1].id


def _rules_of(groups: Iterable[tuple[str, Row | None]]) -> tuple[Rule, ...]:
    """Return the rules of groups, by name and row, each rule once; an absent group permits nothing."""
    rules: list[Rule] = []
    for name, row in groups:
        if row is not None:
            rules += schema.decode_group(name, row).rules
    return tuple(dict.fromkeys(rules))


def _guardian_of(home_id: int, member: MemberRecord) -> Guardian:
    if GUARDIANS_GROUP not in member.groups:
        return Guardian.NONE
    return Guardian.CLUSTER if home_id == DEFAULT_NAMESPACE_ID else Guardian.NAMESPACE
