"""Identities as plain Python: what a token may do after any sequence of changes.

Nothing here is shared with the server. There are no epochs, caches, versions or records: a token is looked at from
scratch every time, and what came before what is told by one counter of steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ACTIVE, READ_ONLY, SUSPENDED, BANNED = 1, 2, 3, 4
NONE, NAMESPACE, CLUSTER = 0, 1, 2
USE, EDIT, AUDIT = 1, 2, 3

ACCESS_S, REFRESH_S, LEEWAY_S = 900, 7 * 86_400, 30
LOGINS_MAX = 64

Rule = tuple[int | None, bytes, str]
"""Database or None for all, prefix, rights: some of "rw"."""

BUILT_IN: dict[str, list[Rule]] = {
    "guardians": [(None, b"", "rw")],
    "writers": [(None, b"", "rw")],
    "readers": [(None, b"", "r")],
}

OPEN = {SUSPENDED: "NAMESPACE_SUSPENDED", BANNED: "NAMESPACE_BANNED"}
"""Why nobody gets into a namespace."""


@dataclass(eq=False)
class Person:
    """A member. Another one of the same name, made after it was removed, is another object."""

    name: str
    groups: list[str]
    password: str = ""
    disabled: bool = False
    privileges: set[int] = field(default_factory=set)
    main: Space | None = None

    @property
    def guards(self) -> bool:
        """True for a guardian who can log in."""
        return bool(self.password) and not self.disabled and "guardians" in self.groups


@dataclass(eq=False)
class Space:
    """One issue of a namespace's number."""

    id: int
    name: str
    state: int = ACTIVE
    before_ban: int = ACTIVE
    groups: dict[str, list[Rule]] = field(default_factory=lambda: dict(BUILT_IN))
    people: dict[str, Person] = field(default_factory=dict)
    rows: dict[tuple[int, bytes], bytes] = field(default_factory=dict)


@dataclass(eq=False)
class Family:
    """One login."""

    home: Space
    person: Person
    into: Space
    began_ms: int
    expires_ms: int
    refresh: Token | None = None
    spent: list[Token] = field(default_factory=list)
    alive: bool = True


@dataclass(eq=False)
class Token:
    """A token of any kind.

    step: when it was made. key: which key signed it. was_good: when it was last tried.
    """

    text: str
    space: Space
    subject: str
    home: Space
    step: int
    key: str
    expires_ms: int
    family: Family | None = None
    groups: list[str] = field(default_factory=list)
    guardian: int = NONE
    minted_by: str = ""
    jti: str = ""
    was_good: bool = False


@dataclass
class Standing:
    """What a good token's holder is."""

    groups: list[str]
    guardian: int
    privileges: set[int]
    rules: list[Rule]

    def may(self, right: str, database: int, key: bytes) -> bool:
        """True when a rule permits it. For ranges with a prefix the prefix stands for all of it."""
        return any(
            right in rights and ruled in (None, database) and key.startswith(prefix)
            for ruled, prefix, rights in self.rules
        )

    @property
    def rights(self) -> str:
        """What it may do anywhere."""
        return "".join(rights for _, _, rights in self.rules)


class Model:
    """Every namespace, and what was granted and revoked."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.step = 0
        self.spaces: dict[int, Space] = {0: Space(0, "default")}
        self.grants: dict[tuple[str, int | None], tuple[Space | None, bool, list[str]]] = {}
        self.families: list[Family] = []
        self.marks: dict[tuple[object, ...], int] = {}
        self.revoked: set[str] = set()
        self.removed_keys: set[str] = set()

    @property
    def zero(self) -> Space:
        """Namespace 0."""
        return self.spaces[0]

    # --- what a token may ------------------------------------------------------------------------------------------

    def refusals(self, token: Token) -> set[str]:
        """Return every reason for which an access token is refused now; empty when it is good.

        Which of several is told first is not laid down, as long as it is one of them.
        """
        found = self.bearing(token)
        if token.space.state in OPEN:
            found.add(OPEN[token.space.state])
        if token.family is not None:
            if not self._goes_on(token.family):
                found.add("TOKEN_REVOKED")
            elif token.home is not token.space and self.decide(token.subject, token.space) is None:
                found.add("NOT_PERMITTED")
        return found

    def bearing(self, token: Token) -> set[str]:
        """Return what is wrong with the token itself, of whatever kind."""
        found = set()
        if token.key in self.removed_keys or self.spaces.get(token.space.id) is not token.space:
            found.add("TOKEN_INVALID")
        if self.now_ms >= token.expires_ms + LEEWAY_S * 1000:
            found.add("TOKEN_EXPIRED")
        marks = [("everyone",), (token.space.id,), (token.home.id,), (token.home.id, token.subject)]
        if token.minted_by:
            marks += [(0,), (0, token.minted_by)]
        if token.jti in self.revoked or any(token.step < self.marks.get(mark, 0) for mark in marks):
            found.add("TOKEN_REVOKED")
        return found

    def _goes_on(self, family: Family) -> bool:
        person = family.home.people.get(family.person.name)
        return family.alive and family.expires_ms > self.now_ms and person is family.person and not person.disabled

    def standing(self, token: Token) -> Standing:
        """Return what a good token's holder is now."""
        if token.family is None:
            groups, guardian, privileges = token.groups, token.guardian, set()
        else:
            person = token.family.person
            privileges = person.privileges
            if token.home is token.space:
                groups = person.groups
                guardian = NONE if "guardians" not in groups else CLUSTER if token.home.id == 0 else NAMESPACE
            else:
                groups, guardian = self.decide(token.subject, token.space) or [], NONE
        rules = [rule for name in groups for rule in token.space.groups.get(name, [])]
        return Standing(list(groups), guardian, set(privileges), rules)

    def decide(self, name: str, space: Space) -> list[str] | None:
        """Return the groups a member of namespace 0 has in another one, None when nothing covers it."""
        near, wide = self.grants.get((name, space.id)), self.grants.get((name, None))
        said = [near] if near is not None and near[0] is space else []
        said += [wide] if wide is not None else []
        if not said or space.id == 0 or not all(allowed for _, allowed, _ in said):
            return None
        return said[0][2]

    def may_switch(self, standing: Standing) -> bool:
        """True when grants count for an exchange."""
        return USE in standing.privileges or standing.guardian == CLUSTER

    # --- outcomes of acts; None is done ----------------------------------------------------------------------------

    def login(self, home: Space | None, name: str, password: str, into: Space | None, asked: bool) -> str | Space:
        """Return where a login lands, or why it does not."""
        person = home.people.get(name) if home is not None else None
        if home is None or person is None or person.disabled or not person.password or person.password != password:
            return "BAD_CREDENTIALS"
        if home.state in OPEN:
            return OPEN[home.state]
        if asked:
            if into is None or (into is not home and (home.id != 0 or not self._lands(name, into))):
                return "NOT_PERMITTED"
            target = into
        else:
            target = person.main or home
            if target is not home and not (
                self.spaces.get(target.id) is target and target.state != BANNED and self._lands(name, target)
            ):
                return "MAIN_NAMESPACE_GONE"
        return OPEN.get(target.state, target)

    def begin(self, home: Space, person: Person, into: Space) -> Family:
        """Note a login; one too many ends the oldest."""
        open_now = [family for family in self.families if family.person is person and self._goes_on(family)]
        if len(open_now) >= LOGINS_MAX:
            min(open_now, key=lambda family: family.began_ms).alive = False
        family = Family(home, person, into, self.now_ms, self.now_ms + REFRESH_S * 1000)
        self.families.append(family)
        return family

    def _lands(self, name: str, space: Space) -> bool:
        return space.state != BANNED and self.decide(name, space) is not None

    def refresh(self, family: Family, token: Token) -> set[str]:
        """Return why a refresh token gives nothing, empty when it gives a new pair; one that comes again ends all."""
        found = self.bearing(token)
        shut = {OPEN[family.home.state]} if family.home.state in OPEN else set()
        if found or not self._goes_on(family):
            return (found or {"TOKEN_REVOKED"}) | shut
        if token is not family.refresh and family.home.state != BANNED:
            family.alive = False
            return {"TOKEN_REVOKED"}
        if shut:
            return shut
        into = family.into
        if into is not family.home:
            if self.spaces.get(into.id) is not into or not self._lands(family.person.name, into):
                return {"NOT_PERMITTED"}
            if into.state in OPEN:
                return {OPEN[into.state]}
        return set()

    def takes_last_guardian(self, space: Space, person: Person, after: Person | None) -> bool:
        """True when nobody would be left who can log in and administer the namespace."""
        if not person.guards or (after is not None and after.guards):
            return False
        return not any(other.guards for other in space.people.values() if other is not person)

    def end_logins(self, person: Person) -> None:
        """End every login of somebody."""
        for family in self.families:
            if family.person is person:
                family.alive = False

    def mark(self, *whom: object) -> None:
        """Revoke what there is until now."""
        self.step += 1
        self.marks[whom] = self.step
        self.step += 1

    def leaves_office(self, space: Space, before: Person, after: Person | None) -> None:
        """A cluster guardian who is one no longer takes along what it made for others."""
        still = after is not None and not after.disabled and "guardians" in after.groups
        if space.id == 0 and "guardians" in before.groups and not before.disabled and not still:
            self.mark(0, before.name)
