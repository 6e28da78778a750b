"""The random walk of identities: one act after the other over gRPC, and after each a sample of tokens is tried.

Every act is done by somebody who may do it; what it answers, and what every token may afterwards, comes from
``members_model.py``. The walk depends on its seed alone, as long as the answers are the right ones.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from prefixdb.catalog.entities import Guardian, NamespaceState
from prefixdb.errors import PrefixdbError
from prefixdb.service.throttle import Throttle
from prefixdb.v1 import auth_pb2 as auth
from prefixdb.v1 import key_value_pb2 as kv
from prefixdb.v1 import members_pb2 as people
from prefixdb.v1 import namespaces_pb2 as spaces
from tests.model import members_model as m
from tests.model.members_model import Family, Model, Person, Rule, Space, Token
from tests.support.clocks import HeldClock
from tests.support.server import Caller, RunningServer, eventually

NAMES = ("ada", "bob", "cy", "dee")
PASSWORDS = ("correct horse", "battery staple")
GROUPS = ("g1", "g2", "g3")
KEYS = (b"a", b"a/1", b"a/2", b"a0", b"b/1")
RULES: tuple[Rule, ...] = (
    (None, b"", "r"),
    (None, b"", "w"),
    (0, b"a/", "rw"),
    (0, b"a/", "r"),
    (1, b"", "rw"),
    (1, b"a/1", "w"),
    (None, b"b", "rw"),
)
CLOCK_STEPS_MS = {1: 10, 1_000: 10, 30_000: 10, 240_000: 10, 931_000: 2, 86_400_000: 1, 7 * 86_400_000: 1}
"""Steps of the clock and how often each is taken."""

TOKENS_MAX = 150
TURNED_MAX, GOOD_MAX, ANY_MAX = 8, 3, 1
"""Tokens tried after each act: of those that the act turned good or bad, of those that are good, of all."""

ACTS = {
    "login": 24,
    "wrong_login": 4,
    "refresh": 12,
    "spent_refresh": 3,
    "logout": 4,
    "exchange": 10,
    "change_password": 4,
    "create_member": 10,
    "update_member": 12,
    "delete_member": 4,
    "set_password": 3,
    "create_group": 4,
    "update_group": 6,
    "delete_group": 3,
    "set_grant": 10,
    "delete_grant": 4,
    "issue": 10,
    "revoke": 5,
    "change_state": 8,
    "issue_again": 1,
    "rotate_key": 1,
    "clock": 5,
}


class WrongAnswerError(AssertionError):
    """The server and the model differ."""


class Walk:
    """Acts and tries on one running server.

    Args:
        server: the server, new.
        clock: its clock.
        seed: of the walk.
        first_password: of the member ``guardian`` of namespace 0.
    """

    def __init__(self, server: RunningServer, clock: HeldClock, seed: int, first_password: str) -> None:
        self.server = server
        self.clock = clock
        self.seed = seed
        self.random = random.Random(seed)
        self.model = Model(clock.now_ms())
        self.model.zero.people["guardian"] = Person("guardian", ["guardians"], first_password)
        self.tokens: list[Token] = []
        self.counts: Counter[str] = Counter()
        self.story: deque[str] = deque(maxlen=25)
        self._values = 0
        for number in (1, 2, 3):
            self._new_space(server.create(f"space-{number}", number).id)

    async def run(self, steps: int) -> None:
        """Act and try so many times.

        Raises:
            WrongAnswerError: an answer is wrong; the message has the seed and the acts before.
        """
        names, weights = list(ACTS), list(ACTS.values())
        begin = ["create_group"] * 4 + ["create_member"] * 10 + ["set_grant"] * 6 + ["login"] * 6
        for number in range(steps):
            act = begin[number] if number < len(begin) else self.random.choices(names, weights)[0]
            self.model.step += 1
            self.counts[act] += 1
            await getattr(self, f"_{act}")()
            self.model.step += 1
            await self._try_some()
            if len(self.tokens) > TOKENS_MAX:
                self._drop_some()

    # --- trying tokens ---------------------------------------------------------------------------------------------

    async def _try_some(self) -> None:
        refused = {token: self.model.refusals(token) for token in self.tokens}
        turned = [token for token in self.tokens if token.was_good is bool(refused[token])]
        good = [token for token in self.tokens if not refused[token]]
        chosen = self._sample(turned, TURNED_MAX) + self._sample(good, GOOD_MAX) + self._sample(self.tokens, ANY_MAX)
        for token in chosen:
            refusals = refused[token]
            token.was_good = not refusals
            kind = self.random.choice(("get", "put", "delete", "scan", "who"))
            who = f"{token.subject} of {token.home.id} in {token.space.id}, {kind}"
            found = await getattr(self, f"_try_{kind}")(token, refusals, who)
            self.counts["tried"] += 1
            self.counts["tried and accepted" if found is None else f"tried and {found}"] += 1

    async def _tried(self, token: Token, method: str, request: Any, refusals: set[str], who: str) -> Any:
        """Make a call and compare how it ends; return (reason, answer)."""
        caller = self.server.nobody(token.text)
        try:
            if method == "Scan":
                answer = await caller.pages(caller.key_value.Scan, request)
            else:
                stub = caller.auth if method == "WhoAmI" else caller.key_value
                answer = await caller.call(getattr(stub, method), request)
        except PrefixdbError as failure:
            self._require(failure.reason.name in refusals, who, sorted(refusals) or "an answer", failure.reason.name)
            return failure.reason.name, None
        self._require(not refusals, who, sorted(refusals), "an answer")
        return None, answer

    def _denied(self, token: Token, refusals: set[str], right: str, key: tuple[int, bytes]) -> set[str]:
        """Return why a call for one key is refused."""
        if refusals:
            return refusals
        return set() if self.model.standing(token).may(right, *key) else {"NOT_PERMITTED"}

    async def _try_get(self, token: Token, refusals: set[str], who: str) -> str | None:
        database, key = self._key()
        denied = self._denied(token, refusals, "r", (database, key))
        found, answer = await self._tried(token, "Get", kv.GetRequest(database=database, key=key), denied, who)
        if found is None:
            wanted = token.space.rows.get((database, key))
            self._require(answer.found is (wanted is not None) and answer.value == (wanted or b""), who, wanted, answer)
        return found

    async def _try_put(self, token: Token, refusals: set[str], who: str) -> str | None:
        database, key = self._key()
        denied = self._denied(token, refusals, "w", (database, key))
        if token.space.state == m.READ_ONLY and not refusals:
            denied = denied | {"READ_ONLY"}
        self._values += 1
        value = b"%d of %d" % (self._values, token.space.id)
        request = kv.PutRequest(database=database, key=key, value=value)
        found, _ = await self._tried(token, "Put", request, denied, who)
        if found is None:
            token.space.rows[database, key] = value
        return found

    async def _try_delete(self, token: Token, refusals: set[str], who: str) -> str | None:
        database, key = self._key()
        denied = self._denied(token, refusals, "w", (database, key))
        found, _ = await self._tried(token, "Delete", kv.DeleteRequest(database=database, key=key), denied, who)
        if found is None:
            token.space.rows.pop((database, key), None)
        return found

    async def _try_scan(self, token: Token, refusals: set[str], who: str) -> str | None:
        database, prefix = self.random.choice((0, 1)), self.random.choice((b"", b"a/", b"b"))
        denied = self._denied(token, refusals, "r", (database, prefix))
        request = kv.ScanRequest(database=database, range=kv.KeyRange(prefix=prefix))
        found, pages = await self._tried(token, "Scan", request, denied, who)
        if found is None:
            rows = {row.key: row.value for page in pages for row in page.rows}
            held = token.space.rows.items()
            wanted = {key: value for (at, key), value in held if at == database and key.startswith(prefix)}
            self._require(rows == wanted, who, wanted, rows)
        return found

    async def _try_who(self, token: Token, refusals: set[str], who: str) -> str | None:
        found, answer = await self._tried(token, "WhoAmI", auth.WhoAmIRequest(), refusals, who)
        if found is None:
            standing = self.model.standing(token)
            told = (list(answer.groups), int(answer.guardian), set(answer.privileges), answer.home_namespace_id)
            wanted = (standing.groups, standing.guardian, standing.privileges, token.home.id)
            self._require(told == wanted, who, wanted, told)
        return found

    def _key(self) -> tuple[int, bytes]:
        return self.random.choice((0, 1)), self.random.choice(KEYS)

    # --- logins ----------------------------------------------------------------------------------------------------

    async def _login(self) -> None:
        home = self._space()
        person = self._pick([person for person in home.people.values() if person.password])
        if person is None:
            return
        wanted = self.random.choice([None, None, *self.model.spaces.values()]) if home.id == 0 else None
        outcome = self.model.login(home, person.name, person.password, wanted, wanted is not None)
        request = auth.LoginRequest(namespace=_ref(home), user=person.name, password=person.password)
        if wanted is not None:
            request.into.CopyFrom(_ref(wanted))
        expected = outcome if isinstance(outcome, str) else None
        what = f"login of {person.name} of {home.id} into {wanted and wanted.id}"
        answer = await self._act(what, None, "auth.Login", request, expected)
        if answer is not None and isinstance(outcome, Space):
            self._take(answer.tokens, self.model.begin(home, person, outcome), outcome)

    async def _wrong_login(self) -> None:
        home = self._space()
        name = self.random.choice(NAMES)
        person = home.people.get(name)
        password = "no such password" if person is None or self.random.random() < 0.5 else PASSWORDS[0]
        if person is not None and person.password == password and not person.disabled:
            return
        request = auth.LoginRequest(namespace=_ref(home), user=name, password=password)
        await self._act(f"wrong login of {name} of {home.id}", None, "auth.Login", request, "BAD_CREDENTIALS")
        Throttle.__init__(self.server.app.throttle)  # How often one may try has tests of its own.

    def _take(self, tokens: Any, family: Family, into: Space) -> None:
        """Keep the pair that a login or a refresh gave."""
        access = self._token(tokens.access_token, into, family.person.name, family.home, m.ACCESS_S)
        access.family = family
        access.expires_ms = min(access.expires_ms, family.expires_ms // 1000 * 1000)
        if tokens.refresh_token:
            if family.refresh is not None:
                family.spent.append(family.refresh)
            home = family.home
            family.refresh = self._token(tokens.refresh_token, home, family.person.name, home, m.REFRESH_S, keep=False)

    async def _refresh(self) -> None:
        alive = [family for family in self.model.families if family.alive]
        family = self._pick(alive if self.random.random() < 0.8 else self.model.families)
        if family is not None and family.refresh is not None:
            await self._present(family, family.refresh, "refresh")

    async def _spent_refresh(self) -> None:
        families = [family for family in self.model.families[-60:] if family.spent]
        family = self._pick([family for family in families if family.alive] or families)
        if family is not None:
            await self._present(family, self.random.choice(family.spent), "spent refresh")

    async def _present(self, family: Family, token: Token, what: str) -> None:
        refusals = self.model.refresh(family, token)
        what = f"{what} of {family.person.name} of {family.home.id} into {family.into.id}"
        request = auth.RefreshRequest(refresh_token=token.text)
        answer = await self._act(what, None, "auth.Refresh", request, refusals or None)
        if answer is not None:
            family.expires_ms = self.model.now_ms + m.REFRESH_S * 1000
            self._take(answer.tokens, family, family.into)

    async def _logout(self) -> None:
        family = self._pick([family for family in self.model.families[-40:] if family.alive])
        if family is None or family.refresh is None or self.model.bearing(family.refresh):
            return
        everywhere = self.random.random() < 0.3
        request = auth.LogoutRequest(refresh_token=family.refresh.text, everywhere=everywhere)
        expected = "NAMESPACE_BANNED" if family.home.state == m.BANNED else None
        what = f"logout of {family.person.name} of {family.home.id}, everywhere: {everywhere}"
        await self._act(what, None, "auth.Logout", request, expected)
        if expected is None:
            family.alive = False
            if everywhere:
                self.model.end_logins(family.person)

    async def _exchange(self) -> None:
        logged_in = [token for token in self.tokens if token.family and token.home.id == 0]
        good = [token for token in logged_in if not self.model.refusals(token)]
        token = self._pick(good if self.random.random() < 0.8 else logged_in)
        if token is None or token.family is None:
            return
        target = self.random.choice([*self.model.spaces.values(), None])
        expected: set[str] = self.model.refusals(token)
        if not expected and target is None:
            expected = {"NOT_PERMITTED"}
        elif not expected and target is not None and target.id != 0:
            covered = self.model.decide(token.subject, target) is not None
            if not covered or not self.model.may_switch(self.model.standing(token)):
                expected = {"NOT_PERMITTED"}
            elif target.state in m.OPEN:
                expected = {m.OPEN[target.state]}
        ref = spaces.NamespaceRef(id=999) if target is None else _ref(target)
        what = f"exchange of {token.subject} from {token.space.id} to {target and target.id}"
        answer = await self._act(what, token.text, "auth.Exchange", auth.ExchangeRequest(namespace=ref), expected)
        if answer is not None and target is not None:
            self._take(answer.tokens, token.family, target)

    async def _change_password(self) -> None:
        token = self._pick([token for token in self.tokens if token.family and not self.model.refusals(token)])
        if token is None or token.family is None:
            return
        person, landed = token.family.person, token.family.into
        request = auth.ChangePasswordRequest(old_password=person.password, new_password=PASSWORDS[1])
        answer = await self._act(f"{person.name}'s new password", token.text, "auth.ChangePassword", request, None)
        person.password = PASSWORDS[1]
        self.model.end_logins(person)
        self._take(answer.tokens, self.model.begin(token.home, person, landed), token.space)

    # --- members, groups, grants -----------------------------------------------------------------------------------

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
            main_namespace=None if main is None else _ref(main), update_mask=FieldMask(paths=paths),
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

    # --- tokens, states, time --------------------------------------------------------------------------------------

    async def _issue(self) -> None:
        """A service token, by a guardian of the table or by the cluster's; a minted one into another namespace."""
        issuers = [token for token in self.tokens if not self.model.refusals(token)]
        issuer = self._pick([token for token in issuers if self.model.standing(token).guardian != m.NONE])
        if issuer is None:
            return
        cluster = issuer.space.id == 0 and self.model.standing(issuer).guardian == m.CLUSTER
        target = self.random.choice(self._live()) if cluster else issuer.space
        guardian = self.random.choice((m.NONE, m.NONE, m.NAMESPACE))
        groups = self.random.sample(sorted(target.groups), self.random.choice((0, 1, 2)))
        subject, ttl_s = self.random.choice(NAMES), self.random.choice((60, 600, 3600))
        if issuer.minted_by:
            ttl_s = 30
            if issuer.expires_ms - self.model.now_ms < 31_000:
                return
        request = auth.IssueTokenRequest(
            subject=subject, groups=groups, guardian=guardian, ttl=Duration(seconds=ttl_s), namespace=_ref(target)
        )
        minted_by = issuer.minted_by or (issuer.subject if target is not issuer.space else "")
        what = f"{issuer.subject} of {issuer.home.id} issues {subject} in {target.id} {groups} {guardian} {minted_by}"
        answer = await self._act(what, issuer.text, "auth.IssueToken", request, None)
        made = self._token(answer.token, target, subject, target, ttl_s)
        made.groups, made.guardian, made.minted_by, made.jti = groups, guardian, minted_by, answer.info.jti

    async def _revoke(self) -> None:
        space = self._pick([space for space in self.model.spaces.values() if space.state != m.BANNED])
        assert space is not None
        kind = self.random.choices(("jti", "subject", "all", "everyone"), (12, 12, 3, 1))[0]
        request = auth.RevokeTokensRequest(namespace=_ref(space))
        whom: tuple[object, ...] = (space.id,)
        if kind == "jti":
            token = self._pick([token for token in self.tokens if token.jti and token.space is space])
            if token is None or token.expires_ms <= self.model.now_ms:
                return
            request.jti = token.jti
            self.model.revoked.add(token.jti)
        elif kind == "subject":
            request.subject = self.random.choice([*NAMES, *space.people])
            whom = (space.id, request.subject)
        elif kind == "all":
            request.all = True
        else:
            request = auth.RevokeTokensRequest(everyone=True)
            whom = ("everyone",)
        await self._as_guardian(self.model.zero, f"revoke {kind} {whom}", "auth.RevokeTokens", request, None)
        if kind != "jti":
            self.model.mark(*whom)

    async def _change_state(self) -> None:
        space = self._pick([space for space in self.model.spaces.values() if space.id])
        assert space is not None
        registry = self.server.app.registry
        if space.state == m.BANNED:
            registry.unban(space.id)
            space.state = space.before_ban
        elif space.state == m.ACTIVE:
            state = self.random.choice((m.READ_ONLY, m.SUSPENDED, m.BANNED))
            if state == m.BANNED:
                registry.ban(space.id, by="walk", grace_ms=300 * 86_400_000)
                space.before_ban = space.state
            else:
                registry.suspend(space.id, NamespaceState(state), "")
            space.state = state
        else:
            registry.resume(space.id)
            space.state = m.ACTIVE
        self.story.append(f"namespace {space.id} is now {NamespaceState(space.state).name}")

    async def _issue_again(self) -> None:
        """A namespace is dropped, its bytes go, and its number and name are issued again."""
        space = self._pick([space for space in self.model.spaces.values() if space.id and space.state != m.BANNED])
        if space is None:
            return
        registry = self.server.app.registry
        registry.ban(space.id, by="walk", grace_ms=0)
        self.server.app.reclaimer.wake()
        await eventually(lambda: registry.get(space.id).state is NamespaceState.RECLAIMED, "the reclaim is done")
        self._new_space(registry.create(space.name, namespace_id=space.id).id)
        self.story.append(f"namespace {space.id} is issued again")

    async def _rotate_key(self) -> None:
        keyring = self.server.app.authority.keyring
        old = keyring.signing_kid
        await self._as_guardian(self.model.zero, "rotate the key", "auth.RotateKey", auth.RotateKeyRequest(), None)
        if self.random.random() < 0.3:
            request = auth.RemoveKeyRequest(kid=old)
            await self._as_guardian(self.model.zero, "remove the key", "auth.RemoveKey", request, None)
            self.model.removed_keys.add(old)

    async def _clock(self) -> None:
        (ms,) = self.random.choices(list(CLOCK_STEPS_MS), list(CLOCK_STEPS_MS.values()))
        self.clock.advance(ms)
        self.model.now_ms += ms
        self.story.append(f"{ms} ms pass")

    # --- private ---------------------------------------------------------------------------------------------------

    async def _act(self, what: str, token: str | None, method: str, request: Any, expected: Any) -> Any:
        """Make a call and compare how it ends; ``expected`` is a reason, a set of them, or nothing for well."""
        wanted = {expected} if isinstance(expected, str) else set(expected or ())
        service, name = method.split(".")
        caller: Caller = self.server.nobody(token)
        self.story.append(what)
        try:
            answer = await caller.call(getattr(getattr(caller, service), name), request)
        except PrefixdbError as failure:
            self._require(failure.reason.name in wanted, what, sorted(wanted) or "an answer", failure.reason.name)
            self.counts[f"{name} {failure.reason.name}"] += 1
            return None
        self._require(not wanted, what, sorted(wanted), "an answer")
        return answer

    async def _as_guardian(self, home: Space, what: str, method: str, request: Any, expected: Any) -> Any:
        """Have a guardian act whose token was just made."""
        guardian = Guardian.CLUSTER if home.id == 0 else Guardian.NAMESPACE
        token = self.server.token(home.id, subject="operator", groups=(), guardian=guardian)
        return await self._act(f"in {home.id}: {what}", token, method, request, expected)

    def _require(self, right: bool, what: str, wanted: object, found: object) -> None:
        if not right:
            story = "\n  ".join(self.story)
            raise WrongAnswerError(f"seed {self.seed}: {what}: expected {wanted}, was {found}; before:\n  {story}")

    def _token(self, text: str, space: Space, subject: str, home: Space, ttl_s: int, *, keep: bool = True) -> Token:
        expires_ms = (self.model.now_ms // 1000 + ttl_s) * 1000
        kid = self.server.app.authority.keyring.signing_kid
        token = Token(text, space, subject, home, self.model.step, kid, expires_ms)
        if keep:
            self.tokens.append(token)
        return token

    def _drop_some(self) -> None:
        """Forget most of the dead tokens, and the oldest of the others."""
        good = [token for token in self.tokens if not self.model.refusals(token)]
        dead = [token for token in self.tokens if self.model.refusals(token)]
        self.tokens = dead[-TOKENS_MAX // 4 :] + good[-TOKENS_MAX // 2 :]
        self.model.families = self.model.families[-200:]

    def _new_space(self, number: int) -> None:
        self.model.spaces[number] = Space(number, f"space-{number}")

    def _sample(self, among: list[Any], count: int) -> list[Any]:
        return self.random.sample(among, min(count, len(among)))

    def _pick(self, among: list[Any]) -> Any:
        return self.random.choice(among) if among else None

    def _space(self) -> Space:
        """Return a namespace, often namespace 0."""
        return self.random.choice([self.model.zero, *self.model.spaces.values()])

    def _live(self) -> list[Space]:
        return [space for space in self.model.spaces.values() if space.state != m.BANNED]

    def _open_space(self) -> Space:
        """Return a namespace whose guardians can act."""
        space = self._space()
        return self.model.zero if space.state in m.OPEN else space

    def _some_groups(self, space: Space) -> list[str]:
        among = sorted(space.groups)
        return self.random.sample(among, self.random.choice((0, 1, 1, 2)))

    def _some_rules(self) -> list[Rule]:
        return self.random.sample(RULES, self.random.choice((1, 1, 2)))

    def _some_privileges(self, space: Space) -> list[int]:
        return self.random.sample((m.USE, m.EDIT, m.AUDIT), self.random.choice((0, 1, 1))) if space.id == 0 else []


def _ref(space: Space) -> spaces.NamespaceRef:
    return spaces.NamespaceRef(id=space.id)


def _target(space: Space | None) -> dict[str, Any]:
    return {"all": True} if space is None else {"namespace": _ref(space)}


def _rules(rules: list[Rule]) -> list[auth.Rule]:
    return [
        auth.Rule(database=database, prefix=prefix, read="r" in rights, write="w" in rights)
        for database, prefix, rights in rules
    ]
