"""Members, groups, grants and logins as a few dicts: what the catalog is compared with, sharing no code with it.

Every act returns the reason for which it must be refused, or None after it was done to the dicts.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from prefixdb.errors import Reason

BUILT_IN = {
    "guardians": ((None, b"", True, True),),
    "writers": ((None, b"", True, True),),
    "readers": ((None, b"", True, False),),
}
Rules = tuple[tuple[int | None, bytes, bool, bool], ...]


@dataclass
class Person:
    """A member and its logins: family to (unspent refresh token, where it landed)."""

    groups: tuple[str, ...]
    password: str
    disabled: bool = False
    logins: dict[str, str] = field(default_factory=dict)

    @property
    def guards(self) -> bool:
        return "guardians" in self.groups and bool(self.password) and not self.disabled


@dataclass
class Model:
    """Namespaces by number; namespace 0 and two others."""

    people: dict[int, dict[str, Person]] = field(default_factory=lambda: {0: {}, 1: {}, 2: {}})
    groups: dict[int, dict[str, Rules]] = field(default_factory=lambda: {n: dict(BUILT_IN) for n in (0, 1, 2)})
    grants: dict[tuple[str, int | None], tuple[bool, tuple[str, ...]]] = field(default_factory=dict)

    def copy(self) -> Model:
        return copy.deepcopy(self)

    # --- members ---------------------------------------------------------------------------------------------------

    def create(self, home: int, name: str, groups: tuple[str, ...], password: str) -> Reason | None:
        if name in self.people[home]:
            return Reason.MEMBER_EXISTS
        if not self._known(home, groups):
            return Reason.GROUP_NOT_FOUND
        self.people[home][name] = Person(groups, password)
        return None

    def update(self, home: int, name: str, groups: tuple[str, ...] | None, disabled: bool | None) -> Reason | None:
        person = self.people[home].get(name)
        if person is None:
            return Reason.MEMBER_NOT_FOUND
        after = Person(
            person.groups if groups is None else groups,
            person.password,
            person.disabled if disabled is None else disabled,
        )
        if (after.groups, after.disabled) == (person.groups, person.disabled):
            return None
        if person.guards and not after.guards and not self._others(home, name):
            return Reason.LAST_GUARDIAN
        if groups is not None and not self._known(home, groups):
            return Reason.GROUP_NOT_FOUND
        after.logins = {} if after.disabled else person.logins
        self.people[home][name] = after
        return None

    def set_password(self, home: int, name: str, password: str) -> Reason | None:
        person = self.people[home].get(name)
        if person is None:
            return Reason.MEMBER_NOT_FOUND
        person.password, person.logins = password, {}
        return None

    def delete(self, home: int, name: str) -> Reason | None:
        person = self.people[home].get(name)
        if person is None:
            return Reason.MEMBER_NOT_FOUND
        if person.guards and not self._others(home, name):
            return Reason.LAST_GUARDIAN
        del self.people[home][name]
        if home == 0:
            self.grants = {key: said for key, said in self.grants.items() if key[0] != name}
        return None

    # --- groups and grants -----------------------------------------------------------------------------------------

    def make_group(self, home: int, name: str, rules: Rules) -> Reason | None:
        if name in self.groups[home]:
            return Reason.GROUP_EXISTS
        self.groups[home][name] = rules
        return None

    def change_group(self, home: int, name: str, rules: Rules) -> Reason | None:
        if name in BUILT_IN:
            return Reason.GROUP_BUILT_IN
        if name not in self.groups[home]:
            return Reason.GROUP_NOT_FOUND
        self.groups[home][name] = rules
        return None

    def drop_group(self, home: int, name: str) -> Reason | None:
        if name in BUILT_IN:
            return Reason.GROUP_BUILT_IN
        if self.groups[home].pop(name, None) is None:
            return Reason.GROUP_NOT_FOUND
        for person in self.people[home].values():
            person.groups = tuple(group for group in person.groups if group != name)
        return None

    def grant(self, name: str, target: int | None, allow: bool, groups: tuple[str, ...]) -> Reason | None:
        if "guardians" in groups or bool(groups) != allow:
            return Reason.BAD_FIELD
        if name not in self.people[0]:
            return Reason.MEMBER_NOT_FOUND
        self.grants[name, target] = (allow, groups)
        return None

    def take_back(self, name: str, target: int | None) -> Reason | None:
        return Reason.GRANT_NOT_FOUND if self.grants.pop((name, target), None) is None else None

    # --- logins ----------------------------------------------------------------------------------------------------

    def begin(self, home: int, name: str) -> Reason | None:
        person = self.people[home][name]
        return None if person.password and not person.disabled else Reason.BAD_CREDENTIALS

    def rotate(self, home: int, name: str, family: str, presented: str) -> Reason | None:
        person = self.people[home].get(name)
        if person is None or family not in person.logins:
            return Reason.TOKEN_REVOKED
        if person.logins[family] != presented:
            del person.logins[family]
            return Reason.TOKEN_REVOKED
        return None

    def end(self, home: int, name: str, family: str) -> None:
        person = self.people[home].get(name)
        if person is not None:
            person.logins.pop(family, None)

    def end_all(self, home: int, name: str) -> None:
        person = self.people[home].get(name)
        if person is not None:
            person.logins.clear()

    # --- what somebody may do --------------------------------------------------------------------------------------

    def standing(self, home: int, name: str, family: str, place: int) -> Reason | tuple:
        """Return groups, whether a guardian, and the set of rules; or the refusal."""
        person = self.people[home].get(name)
        if person is None or person.disabled or family not in person.logins:
            return Reason.TOKEN_REVOKED
        groups, guardian = person.groups, "guardians" in person.groups
        if place != home:
            said = [self.grants[key] for key in ((name, place), (name, None)) if key in self.grants]
            if not said or not all(allow for allow, _ in said):
                return Reason.NOT_PERMITTED
            groups, guardian = said[0][1], False
        held = self.groups[place]
        return groups, guardian, {rule for group in groups for rule in held.get(group, ())}

    def _known(self, home: int, groups: tuple[str, ...]) -> bool:
        return all(group in self.groups[home] for group in groups)

    def _others(self, home: int, name: str) -> bool:
        return any(person.guards for other, person in self.people[home].items() if other != name)
