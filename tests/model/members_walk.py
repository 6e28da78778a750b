"""The random walk of identities: one act after the other over gRPC, and after each a sample of tokens is tried.

Every act is done by somebody who may do it; what it answers, and what every token may afterwards, comes from
``members_model.py``. The walk depends on its seed alone, as long as the answers are the right ones.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from prefixdb.catalog.entities import NamespaceState
from prefixdb.v1 import auth_pb2 as auth
from prefixdb.v1 import namespaces_pb2 as spaces
from tests.model import members_model as m
from tests.model.members_acts import PASSWORDS, MemberActs
from tests.model.members_model import Family, Space, Token
from tests.model.members_tries import NAMES, TOKENS_MAX, ref
from tests.support.server import eventually

CLOCK_STEPS_MS = {1: 10, 1_000: 10, 30_000: 10, 240_000: 10, 931_000: 2, 86_400_000: 1, 7 * 86_400_000: 1}
"""Steps of the clock and how often each is taken."""

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
    "issue": 14,
    "revoke": 8,
    "change_state": 8,
    "issue_again": 3,
    "rotate_key": 1,
    "clock": 5,
}


class Walk(MemberActs):
    """All acts, in random order."""

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

    # --- logins ----------------------------------------------------------------------------------------------------

    async def _login(self) -> None:
        home = self._space()
        person = self._pick([person for person in home.people.values() if person.password])
        if person is None:
            return
        wanted = self.random.choice([None, None, *self.model.spaces.values()]) if home.id == 0 else None
        outcome = self.model.login(home, person.name, person.password, wanted, wanted is not None)
        request = auth.LoginRequest(namespace=ref(home), user=person.name, password=person.password)
        if wanted is not None:
            request.into.CopyFrom(ref(wanted))
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
        request = auth.LoginRequest(namespace=ref(home), user=name, password=password)
        await self._act(f"wrong login of {name} of {home.id}", None, "auth.Login", request, "BAD_CREDENTIALS")

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
        where = spaces.NamespaceRef(id=999) if target is None else ref(target)
        what = f"exchange of {token.subject} from {token.space.id} to {target and target.id}"
        answer = await self._act(what, token.text, "auth.Exchange", auth.ExchangeRequest(namespace=where), expected)
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

    # --- tokens, states, time --------------------------------------------------------------------------------------

    async def _issue(self) -> None:
        """A service token, by a guardian of the table or by the cluster's; a minted one into another namespace."""
        issuers = [token for token in self.tokens if not self.model.refusals(token)]
        guardians = [token for token in issuers if self.model.standing(token).guardian != m.NONE]
        minted = [token for token in guardians if token.minted_by]
        issuer = self._pick(minted if minted and self.random.random() < 0.4 else guardians)
        if issuer is None:
            return
        cluster = issuer.space.id == 0 and self.model.standing(issuer).guardian == m.CLUSTER
        target = self.random.choice(self._live()) if cluster else issuer.space
        guardian = self.random.choice((m.NONE, m.NONE, m.NAMESPACE))
        groups = self.random.sample(sorted(target.groups), self.random.choice((0, 1, 2)))
        subject, ttl_s = self.random.choice(NAMES), self.random.choice((60, 3600, 3600))
        if issuer.minted_by:
            ttl_s = 30
            if issuer.expires_ms - self.model.now_ms < 31_000:
                return
        request = auth.IssueTokenRequest(
            subject=subject, groups=groups, guardian=guardian, ttl=Duration(seconds=ttl_s), namespace=ref(target)
        )
        minted_by = issuer.minted_by or (issuer.subject if target is not issuer.space else "")
        what = f"{issuer.subject} of {issuer.home.id} issues {subject} in {target.id} {groups} {guardian} {minted_by}"
        answer = await self._act(what, issuer.text, "auth.IssueToken", request, None)
        made = self._token(answer.token, target, subject, target, ttl_s)
        made.groups, made.guardian, made.minted_by, made.jti = groups, guardian, minted_by, answer.info.jti

    async def _revoke(self) -> None:
        space = self._pick([self.model.zero, *self._live()])
        kind = self.random.choices(("jti", "subject", "all", "everyone"), (10, 10, 6, 1))[0]
        request = auth.RevokeTokensRequest(namespace=ref(space))
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
