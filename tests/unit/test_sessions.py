"""Goal: a cached session is looked at again exactly when something it depends on has changed: never late, and never for
a change that is another tenant's. Without an entry there is nobody, or the anonymous where the operator has said so.

Method: the cache over a real catalog on the model store; the authority's looks are counted. A change that comes while a
session is being made is put in by hand at the worst moment.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from prefixdb import limits
from prefixdb.catalog.entities import GrantEffect, NamespaceState, Rule
from prefixdb.catalog.policy import Capability, Guardian, check_capability, check_read, check_write
from prefixdb.catalog.tokens import TokenRequest
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.service import sessions as sessions_module
from prefixdb.service.sessions import Sessions, bearer_token
from tests.security.forging_issuers import make_key, published
from tests.security.forging_kinds import HASH, Crowd
from tests.support.catalog import reason_of


class Scene(Crowd):
    """Everybody's tokens, a cache, and how often the authority was asked."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.looks = 0
        self.authority = self.world.authority
        self._honest = self.authority.session
        self.authority.session = self._counted  # type: ignore[method-assign]
        self.sessions = Sessions(self.authority, self.world.registry, self.world.clock)
        self.tokens = {name: kind.token for name, kind in self.kinds().items() if name != "refresh"}
        self.tokens["beta"] = self.world.local(8, groups=("readers",))

    def _counted(self, claims):
        self.looks += 1
        return self._honest(claims)

    def admit(self, name: str):
        return self.sessions.admit(entry(self.tokens[name]))

    def look_again(self, act, *arguments, **keywords) -> set[str]:
        """Admit everybody, do something, admit everybody again; return whom the authority was asked about."""
        for name in self.tokens:
            self.admit(name)
        act(*arguments, **keywords)
        asked = set()
        for name in self.tokens:
            before = self.looks
            if self.reason(name) is not None or self.looks > before:
                asked.add(name)
        return asked

    def reason(self, name: str) -> Reason | None:
        return reason_of(self.admit, name)


def entry(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


OF_ACME = {"member", "guest", "service", "minted", "foreign"}
HANGING_ON_0 = {"guest", "minted"}
"""Sessions of acme whose subject, or maker, belongs to namespace 0."""


# --- whom a change concerns ----------------------------------------------------------------------------------------


def test_without_a_change_nobody_is_looked_at_again(scene):
    assert scene.look_again(lambda: None) == set()
    scene.world.clock.advance(60_000)
    before = scene.looks
    assert [scene.reason(name) for name in scene.tokens] == [None] * len(scene.tokens)
    assert scene.looks == before


def test_a_change_in_one_namespace_concerns_its_sessions_only(scene):
    authority, identities = scene.authority, scene.authority.identities
    for act in (
        lambda: identities.groups.create(7, "g", (Rule(None, b"a", read=True, write=False),)),
        lambda: identities.groups.update(7, "g", (Rule(None, b"b", read=True, write=False),)),
        lambda: identities.members.update(7, "ann", groups=("writers",)),
        lambda: authority.revoke_subject(7, "nobody"),
    ):
        assert scene.look_again(act) == OF_ACME
    assert scene.look_again(authority.revoke_subject, 8, "nobody") == {"beta"}
    assert scene.look_again(identities.members.create, 8, "bea", password_hash=HASH) <= {"beta"}


def test_a_change_in_namespace_0_concerns_its_guests_and_what_was_minted_and_no_tenant(scene):
    authority, identities = scene.authority, scene.authority.identities
    assert scene.look_again(identities.grants.set, "gus", scene.beta, GrantEffect.DENY) == HANGING_ON_0
    assert scene.look_again(authority.revoke_subject, 0, "nobody") == HANGING_ON_0
    assert scene.look_again(identities.members.update, 0, "gus", groups=("readers",)) == HANGING_ON_0


def test_keys_issuers_and_a_revocation_of_everyone_concern_everybody(scene):
    everybody = set(scene.tokens)
    old = scene.world.keyring.signing_kid
    assert scene.look_again(scene.world.keyring.rotate) == everybody
    scene.issuer.publish(published(scene.issuer.key), published(make_key("ES256", "another")))
    assert scene.look_again(scene.world.issuers.reload) == everybody
    assert scene.look_again(scene.world.keyring.remove, old) == everybody
    assert [scene.reason(name) for name in scene.tokens] == [
        None if name == "foreign" else Reason.TOKEN_INVALID for name in scene.tokens
    ]


def test_a_change_of_a_namespaces_record_concerns_its_sessions_only(scene):
    assert scene.look_again(scene.world.registry.update, 7, labels={"a": "b"}) == OF_ACME
    assert scene.look_again(scene.world.registry.suspend, 8, NamespaceState.SUSPENDED) == {"beta"}
    assert scene.reason("beta") is Reason.NAMESPACE_SUSPENDED
    scene.world.registry.ban(7, by="x", grace_ms=10**6)
    assert {scene.reason(name) for name in OF_ACME} == {Reason.NAMESPACE_BANNED}


def test_one_look_serves_all_calls_until_the_next_change(scene):
    scene.admit("member")
    before = scene.looks
    scene.authority.revoke_subject(7, "nobody")
    first = scene.admit("member")
    assert [scene.admit("member") for _ in range(5)] == [first] * 5
    assert scene.looks == before + 1


# --- what is found then --------------------------------------------------------------------------------------------


def test_rights_that_change_count_for_the_next_call_of_the_same_token(scene):
    identities = scene.authority.identities
    admission = scene.admit("member")
    check_read(admission.session, 0, b"k")
    assert reason_of(check_write, admission.session, 0, b"k") is Reason.NOT_PERMITTED
    identities.members.update(7, "ann", groups=("writers",))
    check_write(scene.sessions.refresh(admission), 0, b"k")
    identities.members.update(7, "ann", groups=())
    session = scene.admit("member").session
    assert reason_of(check_read, session, 0, b"k") is Reason.NOT_PERMITTED
    identities.members.update(7, "ann", groups=("guardians",))
    assert scene.admit("member").session.guardian is Guardian.NAMESPACE


@pytest.mark.parametrize("how", ["disabled", "deleted", "logged out", "password"])
def test_a_member_that_is_gone_is_refused_with_its_cached_session_and_nobody_else_is(scene, how):
    identities, admission = scene.authority.identities, scene.admit("member")
    {
        "disabled": lambda: identities.members.update(7, "ann", disabled=True),
        "deleted": lambda: identities.members.delete(7, "ann"),
        "logged out": lambda: identities.logins.end(7, "ann", scene.ann_login.family),
        "password": lambda: identities.members.set_password(7, "ann", HASH + "x"),
    }[how]()
    assert reason_of(scene.sessions.refresh, admission) is Reason.TOKEN_REVOKED
    assert scene.reason("member") is Reason.TOKEN_REVOKED
    assert [scene.reason(name) for name in scene.tokens if name != "member"] == [None] * (len(scene.tokens) - 1)


def test_a_guest_without_its_grant_is_refused_with_its_cached_session_and_comes_back_with_it(scene):
    grants, admission = scene.authority.identities.grants, scene.admit("guest")
    grants.delete("gus", 7)
    assert reason_of(scene.sessions.refresh, admission) is Reason.NOT_PERMITTED
    assert scene.reason("guest") is Reason.NOT_PERMITTED
    grants.set("gus", scene.acme, GrantEffect.ALLOW, ("writers",))
    check_write(scene.admit("guest").session, 0, b"k")


def test_a_key_that_is_taken_from_an_issuer_ends_what_was_admitted_with_it(scene):
    admission = scene.admit("foreign")
    scene.issuer.publish(published(make_key("EdDSA", "okta-2")))
    assert scene.sessions.refresh(admission) is admission.session
    scene.world.issuers.reload()
    assert reason_of(scene.sessions.refresh, admission) is Reason.TOKEN_INVALID
    assert scene.reason("foreign") is Reason.TOKEN_INVALID
    assert scene.reason("member") is None


def test_an_expired_token_is_refused_without_any_change(scene):
    admission = scene.admit("member")
    scene.world.clock.advance((limits.ACCESS_TOKEN_S + limits.TOKEN_LEEWAY_S) * 1000 - 1)
    assert scene.sessions.refresh(admission) is admission.session
    scene.world.clock.advance(1)
    assert reason_of(scene.sessions.refresh, admission) is Reason.TOKEN_EXPIRED


def test_a_refused_token_is_not_kept_and_a_refresh_token_never_is(scene):
    for name in scene.tokens:
        scene.admit(name)
    kept = len(scene.sessions)
    refresh = scene.authority.refresh_token(scene.ann_login, scene.acme).token
    assert reason_of(scene.sessions.admit, entry(refresh)) is Reason.TOKEN_INVALID
    assert len(scene.sessions) == kept
    scene.authority.revoke_subject(7, "ann")
    assert scene.reason("member") is Reason.TOKEN_REVOKED
    assert len(scene.sessions) == kept - 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("first", [True, False])
def test_a_change_while_a_session_is_made_is_met_at_the_next_call_at_the_latest(scene, monkeypatch, when, first):
    honest, members = scene.authority.session, scene.authority.identities.members
    if not first:
        scene.admit("member")
        scene.authority.revoke_subject(7, "nobody")

    def meanwhile(claims):
        monkeypatch.setattr(scene.authority, "session", honest)
        made = honest(claims) if when == "after" else None
        members.update(7, "ann", groups=("writers",))
        return made or honest(claims)

    monkeypatch.setattr(scene.authority, "session", meanwhile)
    scene.admit("member")
    check_write(scene.admit("member").session, 0, b"k")


@pytest.mark.parametrize("first", [True, False])
def test_a_revocation_while_a_session_is_made_is_met_at_the_next_call_at_the_latest(scene, monkeypatch, first):
    honest = scene.authority.check_still_valid
    if not first:
        scene.admit("service")
        scene.authority.revoke_subject(7, "nobody")

    def meanwhile(claims):
        monkeypatch.setattr(scene.authority, "check_still_valid", honest)
        honest(claims)
        scene.authority.revoke_subject(7, "robot")

    monkeypatch.setattr(scene.authority, "check_still_valid", meanwhile)
    reason_of(scene.admit, "service")
    assert scene.reason("service") is Reason.TOKEN_REVOKED


@pytest.mark.parametrize("first", [True, False])
def test_a_rename_while_a_session_is_made_is_met_at_the_next_call_at_the_latest(scene, monkeypatch, first):
    """What another issuer may make tokens for goes by the name that a namespace has now."""
    honest = scene.authority.session
    if not first:
        scene.admit("foreign")
        scene.authority.revoke_subject(7, "nobody")

    def meanwhile(claims):
        monkeypatch.setattr(scene.authority, "session", honest)
        scene.world.registry.update(7, name="sold")
        return honest(claims)

    monkeypatch.setattr(scene.authority, "session", meanwhile)
    reason_of(scene.admit, "foreign")
    assert scene.reason("foreign") is Reason.TOKEN_INVALID


def test_the_cache_is_bounded_and_forgets_the_least_recently_used(scene, monkeypatch):
    monkeypatch.setattr(sessions_module, "SESSIONS_CACHED_MAX", 2)
    for name in ("member", "service", "member", "minted"):
        scene.admit(name)
    before = scene.looks
    scene.admit("member")
    assert (len(scene.sessions), scene.looks) == (2, before)
    scene.admit("service")
    assert (len(scene.sessions), scene.looks) == (2, before + 1)


def test_the_cache_is_bounded_by_what_its_rules_take_too(scene, monkeypatch):
    """A tenant makes tokens in groups of many long rules: ten thousand of them must not fill the memory."""
    scene.admit("member")
    one = scene.sessions._weight
    assert one > 0
    monkeypatch.setattr(sessions_module, "SESSION_RULE_BYTES_MAX", 2 * one)
    for name in ("service", "minted", "guest"):
        scene.admit(name)
        assert scene.sessions._weight <= 2 * one
        assert scene.sessions._weight == sum(kept.weight for kept in scene.sessions._admitted.values())
    assert 0 < len(scene.sessions) <= 2


def test_what_a_session_takes_is_counted_anew_when_its_rules_change(scene, monkeypatch):
    admission = scene.admit("member")
    before, lean = scene.sessions._weight, admission.weight
    wide = tuple(Rule(None, b"%d" % number * 99, read=True, write=False) for number in range(50))
    session = scene.authority.session
    monkeypatch.setattr(scene.authority, "session", lambda claims: dataclasses.replace(session(claims), rules=wide))
    scene.authority.epochs.move(None)
    scene.sessions.refresh(admission)
    assert admission.weight > lean + 50 * 99 and scene.sessions._weight == before - lean + admission.weight
    monkeypatch.setattr(sessions_module, "SESSION_RULE_BYTES_MAX", 1)
    scene.admit("member")
    assert (len(scene.sessions), scene.sessions._weight, admission.weight) == (0, 0, 0)
    scene.sessions.refresh(admission)
    assert scene.sessions._weight == 0, "one that is not kept is not counted"


# --- the anonymous -------------------------------------------------------------------------------------------------


def anonymous(scene: Scene, setting: str) -> Sessions:
    return Sessions(scene.authority, scene.world.registry, scene.world.clock, setting)


BROKEN = [
    [("authorization", "")],
    [("authorization", "Bearer")],
    [("authorization", "Bearer ")],
    [("authorization", "Basic YTpi")],
    [("authorization", "bearer x")],
    [("authorization", b"Bearer x")],
    [("authorization", "Bearer x"), ("authorization", "Bearer x")],
    [("authorization", ""), ("authorization", "")],
    [("x-other", "1"), ("authorization", "Bearer a.b.c")],
    [("authorization", "Bearer " + "x" * (limits.TOKEN_BYTES_MAX + 1))],
]


@pytest.mark.parametrize("setting", ["off", "reader", "writer"])
@pytest.mark.parametrize("metadata", BROKEN)
def test_an_entry_however_broken_is_judged_as_if_there_were_no_anonymous(scene, setting, metadata):
    found = reason_of(anonymous(scene, setting).admit, metadata)
    assert found is reason_of(scene.sessions.admit, metadata)
    assert found in (Reason.TOKEN_MISSING, Reason.TOKEN_INVALID)


def test_two_entries_are_refused_though_each_of_them_is_good(scene):
    for names in (("member", "member"), ("member", "service"), ("service", "beta")):
        metadata = [*entry(scene.tokens[names[0]]), *entry(scene.tokens[names[1]])]
        assert reason_of(anonymous(scene, "writer").admit, metadata) is Reason.TOKEN_MISSING


def test_without_an_entry_there_is_nobody_unless_the_operator_has_said_so(scene):
    for metadata in ([], [("x-other", "1")], [("authorization-bin", b"Bearer x")]):
        assert bearer_token(metadata) is None
        assert reason_of(scene.sessions.admit, metadata) is Reason.TOKEN_MISSING
        assert anonymous(scene, "reader").admit(metadata).session.subject == "anonymous"


@pytest.mark.parametrize(("setting", "writes"), [("reader", False), ("writer", True)])
def test_the_anonymous_is_a_member_of_nothing_but_one_group_of_namespace_0(scene, setting, writes):
    sessions = anonymous(scene, setting)
    session = sessions.admit([]).session
    assert (session.namespace_id, session.home_id, session.groups) == (0, 0, (f"{setting}s",))
    assert (session.guardian, session.family, session.guest, session.privileges) == (
        Guardian.NONE,
        "",
        False,
        frozenset(),
    )
    check_read(session, 0, b"k")
    assert reason_of(check_write, session, 0, b"k") is (None if writes else Reason.NOT_PERMITTED)
    may = {capability for capability in Capability if reason_of(check_capability, session, capability) is None}
    assert may == {
        Capability.PUBLIC,
        Capability.CREDENTIALS,
        Capability.ANY_TOKEN,
        Capability.NAMESPACES_LIST,
        Capability.ROWS_READ,
        Capability.ROWS,
        Capability.EXPORT,
        *([Capability.ROWS_WRITE] if writes else []),
    }
    assert len(sessions) == 0


def test_the_anonymous_lasts_and_keeps_to_the_record_of_namespace_0(scene):
    sessions = anonymous(scene, "reader")
    admission = sessions.admit([])
    assert sessions.admit([]) is admission
    scene.world.clock.advance(10 * 365 * 24 * 3600 * 1000)
    assert sessions.refresh(admission).subject == "anonymous"
    scene.world.registry.update(0, labels={"a": "b"})
    scene.authority.revoke_everyone()
    assert sessions.refresh(admission).rules == sessions.admit([]).session.rules
    tenant = sessions.admit(entry(scene.world.local(8))).session
    assert tenant.namespace_id == 8


def test_no_setting_makes_a_guardian_of_nobody(scene):
    for group in ("guardians", "g", "", "anonymous"):
        assert reason_of(scene.authority.anonymous_session, group) is Reason.TOKEN_MISSING
    with pytest.raises(KeyError):
        anonymous(scene, "guardian")


def test_no_repr_shows_a_token_or_a_session(scene):
    admission = scene.admit("member")
    assert scene.tokens["member"][-20:] not in repr((scene.sessions, admission, admission.claims, admission.session))


def test_a_token_of_a_helper_hangs_on_the_guardian_behind_it(scene):
    world = scene.world
    helper = world.admit(scene.tokens["minted"])
    boss = world.authority.issue(TokenRequest(7, "boss", guardian=Guardian.NAMESPACE), world.cluster_guardian())[0]
    scene.tokens["child"] = world.authority.issue(TokenRequest(7, "child"), world.admit(boss))[0]
    scene.admit("child")
    assert helper.minted_by == "guardian"
    world.authority.revoke_subject(0, "guardian")
    assert scene.reason("child") is Reason.TOKEN_REVOKED


def test_errors_of_the_cache_are_the_authoritys(scene, monkeypatch):
    def broken(_claims):
        raise PrefixdbError(Reason.CORRUPTION)

    scene.admit("member")
    scene.authority.revoke_subject(7, "nobody")
    monkeypatch.setattr(scene.authority, "session", broken)
    assert scene.reason("member") is Reason.CORRUPTION
    monkeypatch.undo()
    assert scene.reason("member") is None
