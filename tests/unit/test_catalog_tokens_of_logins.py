"""Goal: tokens of a login say what they must and end with it; a revocation reaches a subject wherever it is a guest,
and whatever a cluster guardian has minted; nothing revives what was dead once.

Method: real members, grants and logins over the model store with a held clock; marks set before, after and in between.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from prefixdb import limits
from prefixdb.catalog.entities import GrantEffect, Guardian, NamespaceIssue, Privilege
from prefixdb.catalog.tokens import TokenRequest
from prefixdb.errors import PrefixdbError, Reason
from tests.security.forging import unb64
from tests.security.forging_kinds import Crowd
from tests.support.catalog import World, reason_of


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    return Crowd(tmp_path)


def said(token: str) -> dict:
    return json.loads(unb64(token.split(".")[1]))


def ann(crowd: Crowd) -> str:
    return crowd.world.authority.access_token(crowd.ann_login, crowd.ann, crowd.acme, crowd.acme).token


def guest(crowd: Crowd) -> str:
    return crowd.world.authority.access_token(crowd.gus_login, crowd.gus, crowd.home, crowd.acme).token


def at_home(crowd: Crowd) -> str:
    return crowd.world.authority.access_token(crowd.gus_login, crowd.gus, crowd.home, crowd.home).token


def refresh(crowd: Crowd) -> str:
    return crowd.world.authority.refresh_token(crowd.gus_login, crowd.home).token


def verdict(world: World, token: str) -> Reason | None:
    if said(token)["typ"] == "refresh":
        return reason_of(world.authority.read_refresh, token)
    return reason_of(world.admit, token)


# --- what they say -------------------------------------------------------------------------------------------------


def test_an_access_token_names_the_login_and_lives_fifteen_minutes(crowd):
    signed = crowd.world.authority.access_token(crowd.ann_login, crowd.ann, crowd.acme, crowd.acme)
    claims, now_s = said(signed.token), crowd.world.clock.now_ms() // 1000
    assert signed.expires_at_ms == (now_s + limits.ACCESS_TOKEN_S) * 1000 == claims["exp"] * 1000
    assert (claims["typ"], claims["sub"], claims["fam"]) == ("access", "ann", crowd.ann_login.family)
    assert (claims["ns"], claims["inc"]) == ("7", str(crowd.acme.incarnation))
    assert claims["groups"] == ["readers"] and claims.keys().isdisjoint({"home", "mint", "guardian"})


def test_a_guests_token_names_its_home_and_claims_no_groups(crowd):
    claims = said(guest(crowd))
    assert (claims["ns"], claims["home"], claims["groups"], claims["sub"]) == ("7", "0", [], "gus")
    assert "guardian" not in claims and "home" not in said(at_home(crowd))


def test_a_refresh_token_opens_nothing_and_lives_as_long_as_its_login(crowd):
    signed = crowd.world.authority.refresh_token(crowd.gus_login, crowd.home)
    claims = said(signed.token)
    assert signed.expires_at_ms // 1000 == crowd.gus_login.expires_at_ms // 1000 == claims["exp"]
    assert (claims["typ"], claims["groups"], claims["jti"]) == ("refresh", [], crowd.gus_login.refresh_jti)
    assert claims.keys().isdisjoint({"home", "mint", "guardian"})
    assert crowd.world.authority.read_refresh(signed.token).jti == crowd.gus_login.refresh_jti


@pytest.mark.parametrize(("home_id", "expected"), [(0, "cluster"), (7, "namespace")])
def test_a_guardians_token_says_so_and_its_record_decides(crowd, home_id, expected):
    world, home = crowd.world, crowd.world.registry.get(home_id)
    identities = world.authority.identities
    boss = identities.members.create(home_id, "boss", password_hash="x", groups=("guardians",))
    identities.members.create(home_id, "deputy", password_hash="x", groups=("guardians",))
    token = world.authority.access_token(crowd.login(home_id, boss), boss, home, home).token
    assert said(token)["guardian"] == expected
    assert world.admit(token).guardian is (Guardian.NAMESPACE if home_id else Guardian.CLUSTER)
    identities.members.update(home_id, "boss", groups=("readers",))
    if home_id == 0:  # With the office goes what was made by its power.
        assert verdict(world, token) is Reason.TOKEN_REVOKED
    else:
        session = world.admit(token)
        assert (session.guardian, session.groups) == (Guardian.NONE, ("readers",))


def test_a_member_with_more_groups_than_a_token_holds_gets_one_all_the_same(crowd):
    long = tuple(f"{n:0>126}" for n in range(limits.TOKEN_GROUPS_MAX))
    many = tuple(f"g{n}" for n in range(limits.TOKEN_GROUPS_MAX + 1))
    for groups in (long, many):
        member = replace(crowd.ann, groups=groups)
        token = crowd.world.authority.access_token(crowd.ann_login, member, crowd.acme, crowd.acme).token
        assert len(token) < 1000 and said(token)["groups"] == []
        assert crowd.world.admit(token).groups == ("readers",)


def test_a_tenants_member_gets_no_token_for_another_namespace(crowd):
    access = crowd.world.authority.access_token
    assert reason_of(access, crowd.ann_login, crowd.ann, crowd.acme, crowd.beta) is Reason.NOT_PERMITTED
    assert reason_of(access, crowd.ann_login, crowd.ann, crowd.acme, crowd.home) is Reason.NOT_PERMITTED


def test_no_token_outlives_the_record_of_its_login(crowd):
    world, login = crowd.world, crowd.gus_login
    world.clock.advance(login.expires_at_ms - world.clock.now_ms() - 10_000)
    signed = world.authority.access_token(login, crowd.gus, crowd.home, crowd.acme)
    assert signed.expires_at_ms <= login.expires_at_ms
    world.clock.advance(10_000)
    for call in (world.authority.access_token, world.authority.refresh_token):
        arguments = (login, crowd.gus, crowd.home, crowd.acme) if call == world.authority.access_token else ()
        assert reason_of(call, *(arguments or (login, crowd.home))) is Reason.TOKEN_EXPIRED


def test_no_repr_shows_a_token(crowd):
    signed = crowd.world.authority.refresh_token(crowd.gus_login, crowd.home)
    read = crowd.world.authority.read_refresh(signed.token)
    claims = crowd.world.authority.verify(guest(crowd))
    assert signed.token not in repr((signed, read, claims)) and signed.token[-20:] not in repr((signed, read, claims))


# --- what ends them ------------------------------------------------------------------------------------------------


def test_an_ended_login_ends_its_tokens_at_once_and_no_others(crowd):
    world, other = crowd.world, crowd.login(0, crowd.gus)
    tokens = [guest(crowd), at_home(crowd)]
    spared = world.authority.access_token(other, crowd.gus, crowd.home, crowd.acme).token
    assert [verdict(world, token) for token in (*tokens, spared)] == [None] * 3
    world.authority.identities.logins.end(0, "gus", crowd.gus_login.family)
    assert [verdict(world, token) for token in tokens] == [Reason.TOKEN_REVOKED] * 2
    assert verdict(world, spared) is None


def test_a_guests_rights_are_its_grants_now(crowd):
    world, grants, token = crowd.world, crowd.world.authority.identities.grants, guest(crowd)
    session = world.admit(token)
    assert (session.namespace_id, session.guest, session.home_id, session.groups) == (7, True, 0, ("readers",))
    grants.set("gus", crowd.acme, GrantEffect.ALLOW, ("writers",))
    assert world.admit(token).groups == ("writers",)
    grants.set("gus", crowd.acme, GrantEffect.DENY)
    assert verdict(world, token) is Reason.NOT_PERMITTED
    grants.delete("gus", 7)
    assert verdict(world, token) is Reason.NOT_PERMITTED


def test_privileges_come_from_the_record(crowd):
    world, token = crowd.world, guest(crowd)
    assert world.admit(token).privileges == frozenset()
    world.authority.identities.members.update(0, "gus", privileges=(Privilege.NAMESPACES_USE,))
    assert world.admit(token).privileges == {Privilege.NAMESPACES_USE}


# --- revocations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True])
def test_a_subject_is_revoked_where_it_belongs_and_so_everywhere(crowd, restart):
    world = crowd.world
    tokens = [guest(crowd), at_home(crowd), refresh(crowd)]
    world.authority.revoke_subject(7, "gus")  # Somebody else of the same name, who belongs to acme.
    assert [verdict(world, token) for token in tokens] == [None] * 3
    world.authority.revoke_subject(0, "gus")
    if restart:
        world.reopen()
    assert [verdict(world, token) for token in tokens] == [Reason.TOKEN_REVOKED] * 3
    assert verdict(world, ann(crowd)) is None


@pytest.mark.parametrize("restart", [False, True])
def test_revoking_all_of_namespace_0_revives_no_guest_and_no_minted_token(crowd, restart):
    world = crowd.world
    root = world.cluster_guardian()
    minted = world.authority.issue(TokenRequest(7, "help"), root)[0]
    dead = [guest(crowd), refresh(crowd), minted]
    world.authority.revoke_subject(0, "gus")
    world.authority.revoke_subject(0, "guardian")
    assert [verdict(world, token) for token in dead] == [Reason.TOKEN_REVOKED] * 3
    world.authority.revoke_namespace(0)  # The mark of the whole takes the place of its subjects' marks.
    if restart:
        world.reopen()
    assert [verdict(world, token) for token in dead] == [Reason.TOKEN_REVOKED] * 3
    assert verdict(world, ann(crowd)) is None


def test_all_of_a_namespace_takes_its_guests_with_it_and_leaves_them_their_home(crowd):
    world = crowd.world
    tokens = [ann(crowd), guest(crowd), at_home(crowd), refresh(crowd)]
    world.authority.revoke_namespace(7)
    assert [verdict(world, token) for token in tokens] == [Reason.TOKEN_REVOKED, Reason.TOKEN_REVOKED, None, None]


@pytest.mark.parametrize("restart", [False, True])
def test_what_a_cluster_guardian_minted_dies_with_its_own_tokens(crowd, restart):
    world = crowd.world
    helper, other = world.cluster_guardian(), world.admit(world.local(0, "deputy", guardian=Guardian.CLUSTER))
    minted = world.authority.issue(TokenRequest(7, "help", guardian=Guardian.NAMESPACE), helper)[0]
    child = world.authority.issue(TokenRequest(7, "bob"), world.admit(minted))[0]
    spared = world.authority.issue(TokenRequest(7, "help2"), other)[0]
    epoch = world.authority.epoch_of(world.admit(minted))
    world.authority.revoke_subject(0, "guardian")
    assert world.authority.epoch_of(world.authority.session(world.authority.verify(spared))) > epoch
    if restart:
        world.reopen()
    assert verdict(world, minted) is Reason.TOKEN_REVOKED
    assert verdict(world, spared) is None
    assert verdict(world, child) is Reason.TOKEN_REVOKED
    assert {record.subject: record.revoked for record in world.authority.list(7)} == {
        "help": True,
        "bob": True,
        "help2": False,
    }


def test_a_login_that_began_before_a_revocation_gives_no_more_tokens(crowd):
    world, login = crowd.world, crowd.gus_login
    presented = refresh(crowd)
    world.authority.read_refresh(presented)  # The refresh is under way.
    world.clock.advance(1)
    world.authority.revoke_subject(0, "gus")
    login = world.authority.identities.logins.rotate(0, "gus", login.family, login.refresh_jti)
    assert reason_of(world.authority.refresh_token, login, crowd.home) is Reason.TOKEN_REVOKED
    for target in (crowd.home, crowd.acme):
        found = reason_of(world.authority.access_token, login, crowd.gus, crowd.home, target)
        assert found is Reason.TOKEN_REVOKED
    fresh = crowd.login(0, crowd.gus)
    assert verdict(world, world.authority.refresh_token(fresh, crowd.home).token) is None


@pytest.mark.parametrize("whose", ["target", "home", "everyone"])
def test_any_mark_that_concerns_a_login_ends_it(crowd, whose):
    world = crowd.world
    world.clock.advance(1)
    act = {"target": lambda: world.authority.revoke_namespace(7), "home": lambda: world.authority.revoke_namespace(0)}
    act.get(whose, world.authority.revoke_everyone)()
    access = world.authority.access_token
    assert reason_of(access, crowd.gus_login, crowd.gus, crowd.home, crowd.acme) is Reason.TOKEN_REVOKED
    found = reason_of(world.authority.refresh_token, crowd.gus_login, crowd.home)
    assert found is (None if whose == "target" else Reason.TOKEN_REVOKED)


def test_a_revocation_right_after_the_one_that_a_token_knows_kills_it(crowd):
    crowd.world.authority.revoke_subject(8, "nobody")
    token = ann(crowd)  # Signed without a commit: the next one is the revocation.
    crowd.world.authority.revoke_subject(7, "ann")
    assert verdict(crowd.world, token) is Reason.TOKEN_REVOKED
    assert verdict(crowd.world, ann(crowd)) is None


def test_a_revocation_right_after_the_look_at_the_marks_is_not_outrun(crowd, monkeypatch):
    revocations = crowd.world.authority._revocations
    honest = revocations.newest_mark

    def late(*arguments, **keywords):
        monkeypatch.setattr(revocations, "newest_mark", honest)
        found = honest(*arguments, **keywords)
        crowd.world.authority.revoke_subject(0, "gus")
        return found

    monkeypatch.setattr(revocations, "newest_mark", late)
    assert verdict(crowd.world, guest(crowd)) is Reason.TOKEN_REVOKED


def test_a_revocation_between_the_look_and_the_signature_is_not_outrun(crowd, monkeypatch):
    world, honest = crowd.world, crowd.world.keyring.sign

    def late(payload: bytes) -> str:
        monkeypatch.setattr(world.keyring, "sign", honest)
        world.authority.revoke_subject(0, "gus")
        return honest(payload)

    monkeypatch.setattr(world.keyring, "sign", late)
    assert verdict(world, guest(crowd)) is Reason.TOKEN_REVOKED


def test_a_login_in_the_millisecond_of_a_revocation_counts_as_after_it(crowd):
    crowd.world.authority.revoke_subject(0, "gus")
    fresh = crowd.login(0, crowd.gus)
    token = crowd.world.authority.access_token(fresh, crowd.gus, crowd.home, crowd.acme).token
    assert verdict(crowd.world, token) is None


# --- refresh tokens ------------------------------------------------------------------------------------------------


def test_a_refresh_token_expires_and_its_namespace_can_go(crowd):
    world, token = crowd.world, crowd.world.authority.refresh_token(crowd.ann_login, crowd.acme).token
    world.clock.advance((limits.REFRESH_TOKEN_S + limits.TOKEN_LEEWAY_S) * 1000 - 1)
    assert verdict(world, token) is None
    world.clock.advance(1)
    assert verdict(world, token) is Reason.TOKEN_EXPIRED


def test_a_refresh_token_of_an_earlier_issue_of_the_number_is_worthless(crowd, monkeypatch):
    world, token = crowd.world, crowd.world.authority.refresh_token(crowd.ann_login, crowd.acme).token
    later = msgspec.structs.replace(crowd.acme, incarnation=crowd.acme.incarnation + 1)
    monkeypatch.setattr(world.registry, "get", lambda namespace_id: later)
    assert verdict(world, token) is Reason.TOKEN_INVALID


def test_reading_a_refresh_token_spends_nothing_and_rotation_makes_the_old_one_fatal(crowd):
    world, login = crowd.world, crowd.gus_login
    logins = world.authority.identities.logins
    read = [world.authority.read_refresh(refresh(crowd)) for _ in range(3)]
    assert {one.jti for one in read} == {login.refresh_jti}
    second = logins.rotate(0, read[0].member, read[0].family, read[0].jti)
    assert world.authority.read_refresh(world.authority.refresh_token(second, crowd.home).token).jti != read[0].jti
    token = world.authority.access_token(second, crowd.gus, crowd.home, crowd.acme).token
    assert verdict(world, token) is None
    with pytest.raises(PrefixdbError) as caught:
        logins.rotate(0, read[0].member, read[0].family, read[0].jti)
    assert caught.value.reason is Reason.TOKEN_REVOKED
    assert verdict(world, token) is Reason.TOKEN_REVOKED


def test_where_a_login_landed_is_not_in_its_tokens(crowd):
    into = NamespaceIssue(crowd.acme.id, crowd.acme.incarnation)
    login = crowd.world.authority.identities.logins.begin(0, crowd.gus, into)
    assert said(crowd.world.authority.refresh_token(login, crowd.home).token)["ns"] == "0"
