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
from prefixdb.catalog.grants import Grants
from prefixdb.catalog.groups import Groups
from prefixdb.catalog.guarded import Changes
from prefixdb.catalog.logins import Logins
from prefixdb.catalog.member_records import decode_member, login_key, member_key
from prefixdb.catalog.members import Members, RevokeWith
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import GUARDIANS_GROUP
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.store.base import Store

__all__ = ["Bearer", "Identities", "Standing"]

USABLE_NAMED_MAX = 100
"""Namespaces that a member whose main one is gone is told of."""

_PAGE = 1_000
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
        home_id = DEFAULT_NAMESPACE_ID if claims.guest else claims.namespace_id
        member = self._logged_in(home_id, claims.subject, claims.family)
        if claims.guest:
            record = self._registry.get(claims.namespace_id)
            granted = None if record is None else self.grants.decide(member.name, record)
            if granted is None:
                raise error(Reason.NOT_PERMITTED)
            groups, guardian = granted, Guardian.NONE
        else:
            groups, guardian = member.groups, _guardian_of(home_id, member)
        rules = self.rules_of(claims.namespace_id, groups)
        return Standing(groups, guardian, frozenset(member.privileges), rules)

    def rules_of(self, namespace_id: int, groups: Sequence[str]) -> tuple[Rule, ...]:
        """Return what groups of a namespace permit now, each rule once; a group that is not there permits nothing."""
        rows = self._store.get_many([schema.group_key(namespace_id, name) for name in groups])
        rules: list[Rule] = []
        for name, row in zip(groups, rows, strict=True):
            if row is not None:
                rules += schema.decode_group(name, row).rules
        return tuple(dict.fromkeys(rules))

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

    def _logged_in(self, home_id: int, name: str, family: str) -> MemberRecord:
        keys = [login_key(home_id, name, family), member_key(home_id, name)]
        login, row = self._store.get_many(keys)
        if login is None or row is None:
            raise error(Reason.TOKEN_REVOKED)
        member = decode_member(name, row)
        if member.disabled:
            raise error(Reason.TOKEN_REVOKED)
        return member

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


def _guardian_of(home_id: int, member: MemberRecord) -> Guardian:
    if GUARDIANS_GROUP not in member.groups:
        return Guardian.NONE
    return Guardian.CLUSTER if home_id == DEFAULT_NAMESPACE_ID else Guardian.NAMESPACE
