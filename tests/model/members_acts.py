"""Acts of guardians on members, groups and grants."""

from __future__ import annotations

from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from prefixdb.v1 import auth_pb2 as auth
from prefixdb.v1 import members_pb2 as people
from tests.model import members_model as m
from tests.model.members_model import Person, Rule, Space
from tests.model.members_tries import NAMES, Tries, ref

PASSWORDS = ("correct horse", "battery staple")
GROUPS = ("g1", "g2", "g3")
RULES: tuple[Rule, ...] = (
    (None, b"", "r"),
    (None, b"", "w"),
    (0, b"a/", "rw"),
    (0, b"a/", "r"),
    (1, b"", "rw"),
    (1, b"a/1", "w"),
    (None, b"b", "rw"),
)


class MemberActs(Tries):
    """Creates, changes and removes who there is."""

    async def _create_member(self) -> None:
        home = self._open_space()
        name, groups = self.random.choice(NAMES), self._some_groups(home)
        password = self.random.choice(("", PASSWORDS[0], PASSWORDS[0]))
        privileges = self._some_privileges(home)
        expected = "MEMBER_EXISTS" if name in home.people else None
        request = people.CreateMemberRequest(name=name, password=password, groups=groups, privileges=privileges)
        await self._as_guardian(home, f"create {name}, {groups}", "members.CreateMember", request, expected)
        if expected is None:
            home.people[name] = Person(name, groups, password, privileges=set(privileges))

    async def _update_member(self) -> None:
        home = self._open_space()
        name = self.random.choice([*NAMES, *home.people])
        before = home.people.get(name)
        main = self.random.choice([None, *self._live()]) if home.id == 0 else None
        after = Person(name, self._some_groups(home), before.password if before else "", self.random.random() < 0.2)
        after.privileges = set(self._some_privileges(home))
        paths = self.random.sample(
            ["groups", "disabled", "privileges", "main_namespace"][: 4 if home.id == 0 else 2], 2
        )
        if before is not None:
            after.groups = after.groups if "groups" in paths else before.groups
            after.disabled = after.disabled if "disabled" in paths else before.disabled
            after.privileges = after.privileges if "privileges" in paths else before.privileges
            after.main = (None if main is self.model.zero else main) if "main_namespace" in paths else before.main
        expected = "MEMBER_NOT_FOUND" if before is None else None
        if before is not None and self.model.takes_last_guardian(home, before, after):
            expected = "LAST_GUARDIAN"
        request = people.UpdateMemberRequest(
            name=name, groups=after.groups, disabled=after.disabled, privileges=sorted(after.privileges),
            main_namespace=None if main is None else ref(main), update_mask=FieldMask(paths=paths),
        )  # fmt: skip
        what = f"update {name}: {paths}, {after.groups}, disabled {after.disabled}, main {main and main.id}"
        await self._as_guardian(home, what, "members.UpdateMember", request, expected)
        if expected is None and before is not None:
            self.model.leaves_office(home, before, after)
            before.groups, before.disabled, before.privileges = after.groups, after.disabled, after.privileges
            before.main = after.main
            if before.disabled:
                self.model.end_logins(before)

    async def _delete_member(self) -> None:
        home = self._open_space()
        name = self.random.choice([*NAMES, *home.people])
        person = home.people.get(name)
        expected = "MEMBER_NOT_FOUND" if person is None else None
        if person is not None and self.model.takes_last_guardian(home, person, None):
            expected = "LAST_GUARDIAN"
        request = people.DeleteMemberRequest(name=name)
        await self._as_guardian(home, f"delete {name}", "members.DeleteMember", request, expected)
        if expected is None and person is not None:
            self.model.leaves_office(home, person, None)
            self.model.mark(home.id, name)
            self.model.end_logins(person)
            del home.people[name]
            if home.id == 0:
                self.model.grants = {key: said for key, said in self.model.grants.items() if key[0] != name}

    async def _set_password(self) -> None:
        home = self._open_space()
        person = self._pick(list(home.people.values()))
        if person is None:
            return
        request = people.SetPasswordRequest(name=person.name, password=PASSWORDS[0])
        await self._as_guardian(home, f"set password of {person.name}", "members.SetPassword", request, None)
        person.password = PASSWORDS[0]
        self.model.end_logins(person)

    async def _create_group(self) -> None:
        home, name, rules = self._open_space(), self.random.choice(GROUPS), self._some_rules()
        expected = "GROUP_EXISTS" if name in home.groups else None
        request = people.CreateGroupRequest(name=name, rules=_rules(rules))
        await self._as_guardian(home, f"create group {name} {rules}", "members.CreateGroup", request, expected)
        if expected is None:
            home.groups[name] = rules

    async def _update_group(self) -> None:
        home, name, rules = self._open_space(), self.random.choice((*GROUPS, "readers")), self._some_rules()
        expected = "GROUP_BUILT_IN" if name == "readers" else None if name in home.groups else "GROUP_NOT_FOUND"
        request = people.UpdateGroupRequest(name=name, rules=_rules(rules))
        await self._as_guardian(home, f"update group {name} {rules}", "members.UpdateGroup", request, expected)
        if expected is None:
            home.groups[name] = rules

    async def _delete_group(self) -> None:
        home, name = self._open_space(), self.random.choice(GROUPS)
        expected = None if name in home.groups else "GROUP_NOT_FOUND"
        request = people.DeleteGroupRequest(name=name)
        await self._as_guardian(home, f"delete group {name}", "members.DeleteGroup", request, expected)
        if expected is None:
            del home.groups[name]
            for person in home.people.values():
                person.groups = [group for group in person.groups if group != name]

    async def _set_grant(self) -> None:
        name = self.random.choice([*NAMES, *self.model.zero.people])
        target = self.random.choice([None, *(space for space in self._live() if space.id)])
        allowed = self.random.random() < 0.75
        groups = self.random.sample(("readers", "writers", *GROUPS), self.random.choice((1, 2))) if allowed else []
        request = people.SetGrantRequest(
            member=name, groups=groups,
            effect=people.GRANT_EFFECT_ALLOW if allowed else people.GRANT_EFFECT_DENY, **_target(target),
        )  # fmt: skip
        expected = None if name in self.model.zero.people else "MEMBER_NOT_FOUND"
        what = f"grant {name} {target and target.id} {groups or 'nothing'}"
        await self._as_guardian(self.model.zero, what, "members.SetGrant", request, expected)
        if expected is None:
            self.model.grants[name, target.id if target else None] = (target, allowed, groups)

    async def _delete_grant(self) -> None:
        name = self.random.choice([*NAMES, *self.model.zero.people])
        target = self.random.choice([None, *(space for space in self._live() if space.id)])
        key = (name, target.id if target else None)
        expected = None if key in self.model.grants else "GRANT_NOT_FOUND"
        request = people.DeleteGrantRequest(member=name, **_target(target))
        what = f"take back {name} {target and target.id}"
        await self._as_guardian(self.model.zero, what, "members.DeleteGrant", request, expected)
        self.model.grants.pop(key, None)

    # --- private ---------------------------------------------------------------------------------------------------

    def _some_groups(self, space: Space) -> list[str]:
        among = sorted(space.groups)
        return self.random.sample(among, self.random.choice((0, 1, 1, 2)))

    def _some_rules(self) -> list[Rule]:
        return self.random.sample(RULES, self.random.choice((1, 1, 2)))

    def _some_privileges(self, space: Space) -> list[int]:
        return self.random.sample((m.USE, m.EDIT, m.AUDIT), self.random.choice((0, 1, 1))) if space.id == 0 else []


def _target(space: Space | None) -> dict[str, Any]:
    return {"all": True} if space is None else {"namespace": ref(space)}


def _rules(rules: list[Rule]) -> list[auth.Rule]:
    return [
        auth.Rule(database=database, prefix=prefix, read="r" in rights, write="w" in rights)
        for database, prefix, rights in rules
    ]
