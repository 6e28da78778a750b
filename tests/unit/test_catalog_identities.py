"""Goal: what a token's holder may do is exactly what the records say at one single moment.

Method: every kind of holder (member, guardian, guest, service token) is asked about after every kind of change. Races
are made between two reads of the store: whatever changes there, the answer must be one that was right at some moment.
Where a login lands is walked through as a table.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from prefixdb.catalog import identities as identities_module
from prefixdb.catalog import schema
from prefixdb.catalog.entities import GrantEffect, Guardian, NamespaceState, Privilege, Rule
from prefixdb.catalog.identities import Standing
from prefixdb.catalog.member_records import member_put
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.store.base import Commit, Put
from tests.support.catalog import reason_of, reclaim_by_hand
from tests.support.people import HASH, Bearer, People, issue

ALLOW, DENY = GrantEffect.ALLOW, GrantEffect.DENY
ALL_RW = Rule(None, b"", read=True, write=True)
ALL_R = Rule(None, b"", read=True, write=False)
SOME = Rule(3, b"a/", read=True, write=True)


@pytest.fixture
def people() -> People:
    return People()


def standing(people: People, claims: Bearer) -> Standing:
    return people.identities.standing(claims)


# --- at home ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("home", "groups", "guardian", "rules"),
    [
        ("acme", (), Guardian.NONE, ()),
        ("acme", ("readers",), Guardian.NONE, (ALL_R,)),
        ("acme", ("writers", "readers"), Guardian.NONE, (ALL_RW, ALL_R)),
        ("acme", ("team", "readers"), Guardian.NONE, (SOME, ALL_R)),
        ("acme", ("guardians",), Guardian.NAMESPACE, (ALL_RW,)),
        ("acme", ("guardians", "writers"), Guardian.NAMESPACE, (ALL_RW,)),
        ("default", ("guardians",), Guardian.CLUSTER, (ALL_RW,)),
        ("default", ("writers",), Guardian.NONE, (ALL_RW,)),
    ],
)
def test_a_member_is_what_its_record_says_whatever_the_token_says(people, home, groups, guardian, rules):
    people.registry.create("acme")
    home_id = people.registry.find(home).id
    people.groups.create(home_id, "team", (SOME,))
    claims = people.login(people.member("ann", home_id, groups=groups), home_id)
    for said in (groups, (), ("guardians", "gone"), ("writers",)):
        token = Bearer(home_id, "ann", claims.family, groups=said, guardian=Guardian.CLUSTER)
        assert standing(people, token) == Standing(groups, guardian, frozenset(), rules)


def test_a_change_counts_at_once(people):
    home_id = people.registry.create("acme").id
    people.guardian(home_id)
    claims = people.login(people.member("ann", home_id, groups=("readers",)), home_id)
    people.members.update(home_id, "ann", groups=("guardians",))
    assert standing(people, claims) == Standing(("guardians",), Guardian.NAMESPACE, frozenset(), (ALL_RW,))
    people.groups.create(home_id, "team", (SOME,))
    people.members.update(home_id, "ann", groups=("team",))
    assert standing(people, claims).rules == (SOME,)
    people.groups.update(home_id, "team", (ALL_R,))
    assert standing(people, claims).rules == (ALL_R,)
    people.groups.delete(home_id, "team")
    assert standing(people, claims) == Standing((), Guardian.NONE, frozenset(), ())
    people.members.delete(home_id, "ann")
    assert reason_of(standing, people, claims) is Reason.TOKEN_REVOKED


def test_privileges_are_the_members_own(people):
    claims = people.login(people.member("ann", privileges=(Privilege.AUDIT, Privilege.NAMESPACES_USE)))
    assert standing(people, claims).privileges == {Privilege.AUDIT, Privilege.NAMESPACES_USE}
    people.members.update(0, "ann", privileges=())
    assert standing(people, claims).privileges == frozenset()


def test_a_disabled_member_has_no_standing_even_if_a_login_were_left(people):
    member = people.member("ann", groups=("writers",))
    claims = people.login(member)
    people.store.commit(Commit((member_put(0, replace(member, disabled=True)),)))
    assert reason_of(standing, people, claims) is Reason.TOKEN_REVOKED


@pytest.mark.parametrize("what", ["another family", "another member's", "another namespace's", "a guest's"])
def test_a_login_is_good_for_its_own_member_and_home_alone(people, what):
    one, two = people.registry.create("one").id, people.registry.create("two").id
    for namespace_id in (0, one, two):
        for name in ("ann", "bob"):
            people.member(name, namespace_id)
    claims = people.login(people.members.get(one, "ann"), one)
    wrong = {
        "another family": Bearer(one, "ann", "f" * 32),
        "another member's": Bearer(one, "bob", claims.family),
        "another namespace's": Bearer(two, "ann", claims.family),
        "a guest's": Bearer(one, "ann", claims.family, guest=True),
    }
    standing(people, claims)
    assert reason_of(standing, people, wrong[what]) is Reason.TOKEN_REVOKED


# --- service tokens --------------------------------------------------------------------------------------------------


def test_a_service_token_is_what_it_says_with_what_its_groups_mean_now(people):
    home_id = people.registry.create("acme").id
    people.groups.create(home_id, "team", (SOME, ALL_R))
    token = Bearer(home_id, "robot", groups=("team", "later", "readers"), guardian=Guardian.NAMESPACE)
    expected = Standing(token.groups, Guardian.NAMESPACE, frozenset(), (SOME, ALL_R))
    assert standing(people, token) == expected
    people.groups.create(home_id, "later", (ALL_RW,))
    assert standing(people, token).rules == (SOME, ALL_R, ALL_RW)


def test_a_service_token_has_nothing_of_a_member_of_its_name(people):
    people.member("ann", groups=("guardians",), privileges=(Privilege.AUDIT,))
    people.guardian()
    assert standing(people, Bearer(0, "ann")) == Standing((), Guardian.NONE, frozenset(), ())
    people.members.update(0, "ann", disabled=True)
    assert standing(people, Bearer(0, "ann", groups=("readers",))).rules == (ALL_R,)


# --- guests ----------------------------------------------------------------------------------------------------------


def guest(people: People, target_id: int, name: str = "ann", **fields: object) -> Bearer:
    member = people.members.get(0, name) or people.member(name, **fields)
    return Bearer(target_id, name, people.login(member).family, guest=True)


def test_a_guest_is_what_its_grant_says_in_the_groups_of_the_target(people):
    target = people.registry.create("acme")
    people.groups.create(target.id, "team", (SOME,))
    people.groups.create(0, "team", (ALL_RW,))
    claims = guest(people, target.id, groups=("guardians",), privileges=(Privilege.NAMESPACES_USE,))
    people.guardian()
    assert reason_of(standing, people, claims) is Reason.NOT_PERMITTED
    people.grants.set("ann", target, ALLOW, ("team", "gone"))
    expected = Standing(("team", "gone"), Guardian.NONE, frozenset({Privilege.NAMESPACES_USE}), (SOME,))
    assert standing(people, claims) == expected
    people.grants.set("ann", None, ALLOW, ("readers",))
    assert standing(people, claims) == expected
    people.grants.delete("ann", target.id)
    assert standing(people, claims).rules == (ALL_R,)
    people.grants.set("ann", target, DENY)
    assert reason_of(standing, people, claims) is Reason.NOT_PERMITTED


def test_a_guest_of_a_namespace_that_is_not_or_is_another_issue_is_refused(people):
    target = people.registry.create("acme")
    claims = guest(people, target.id)
    people.grants.set("ann", target, ALLOW, ("readers",))
    people.registry.ban(target.id, by="x")
    reclaim_by_hand(people.registry, people.store, people.clock, target.id)
    people.registry.create("acme", namespace_id=target.id)
    assert reason_of(standing, people, claims) is Reason.NOT_PERMITTED
    assert reason_of(standing, people, guest(people, 12345)) is Reason.NOT_PERMITTED


@pytest.mark.parametrize("end", ["logout", "disabling", "removal"])
def test_a_guests_tokens_end_with_its_login_at_home(people, end):
    people.guardian()
    target = people.registry.create("acme")
    claims = guest(people, target.id)
    people.grants.set("ann", None, ALLOW, ("readers",))
    standing(people, claims)
    {
        "logout": lambda: people.logins.end(0, "ann", claims.family),
        "disabling": lambda: people.members.update(0, "ann", disabled=True),
        "removal": lambda: people.members.delete(0, "ann"),
    }[end]()
    assert reason_of(standing, people, claims) is Reason.TOKEN_REVOKED


def test_a_member_of_the_target_with_the_guests_name_lends_it_nothing(people):
    target = people.registry.create("acme")
    people.guardian(target.id, "ann")
    claims = guest(people, target.id)
    assert reason_of(standing, people, claims) is Reason.NOT_PERMITTED
    people.grants.set("ann", target, ALLOW, ("readers",))
    assert standing(people, claims) == Standing(("readers",), Guardian.NONE, frozenset(), (ALL_R,))


# --- one view --------------------------------------------------------------------------------------------------------


def test_who_was_put_out_of_a_group_before_its_rules_were_widened_never_has_the_wider_rules(people, monkeypatch):
    home_id = people.registry.create("acme").id
    people.groups.create(home_id, "team", (SOME,))
    claims = people.login(people.member("ann", home_id, groups=("team",)), home_id)
    token = Bearer(home_id, "ann", claims.family)  # It does not say which groups to read.
    honest, reads = people.store.get_many, []

    def meddle(keys):
        rows = honest(keys)
        reads.append(keys)
        if len(reads) == 1:
            people.members.update(home_id, "ann", groups=("readers",))
            people.groups.update(home_id, "team", (ALL_RW,))
        return rows

    monkeypatch.setattr(people.store, "get_many", meddle)
    assert standing(people, token) == Standing(("readers",), Guardian.NONE, frozenset(), (ALL_R,))


def test_a_token_that_names_the_members_groups_costs_one_read(people, monkeypatch):
    target = people.registry.create("acme")
    claims = people.login(people.member("ann"))
    people.grants.set("ann", target, ALLOW, ("readers", "writers"))
    honest, reads = people.store.get_many, []
    monkeypatch.setattr(people.store, "get_many", lambda keys: reads.append(len(keys)) or honest(keys))
    standing(people, claims)
    standing(people, Bearer(target.id, "ann", claims.family, guest=True, groups=("writers", "readers")))
    assert reads == [2, 6]


def test_groups_that_change_without_end_are_an_error_and_not_a_loop(people, monkeypatch):
    home_id = people.registry.create("acme").id
    for number in range(40):
        people.groups.create(home_id, f"g{number}", ())
    claims = people.login(people.member("ann", home_id, groups=("g0",)), home_id)
    honest, reads = people.store.get_many, []

    def meddle(keys):
        reads.append(keys)
        rows = honest(keys)
        people.members.update(home_id, "ann", groups=(f"g{len(reads)}",))
        return rows

    monkeypatch.setattr(people.store, "get_many", meddle)
    assert reason_of(standing, people, Bearer(home_id, "ann", claims.family)) is Reason.INTERNAL
    assert len(reads) == identities_module._VIEWS_MAX


def test_a_damaged_record_is_damage_and_nothing_is_made_of_it(people):
    target = people.registry.create("acme")
    claims = guest(people, target.id)
    people.grants.set("ann", target, ALLOW, ("readers",))
    standing(people, claims)
    keys = [
        key
        for tag in (schema.Tag.MEMBER, schema.Tag.GRANT)
        for key in (row.key for _, row in schema.rows_of(people.store, schema.catalog_span(tag)))
    ]
    keys.append(schema.group_key(target.id, "readers"))
    for key in keys:
        whole = people.store.get(key)
        people.store.commit(Commit((Put(key, b"\x01\x80"),)))
        assert reason_of(standing, people, claims) is Reason.CORRUPTION
        people.store.commit(Commit((Put(key, whole.payload),)))
    standing(people, claims)


# --- landing ---------------------------------------------------------------------------------------------------------


def land(people: People, name: str = "ann", home_id: int = 0, into=None):
    return people.identities.landing(people.members.get(home_id, name), people.registry.get(home_id), into)


def test_a_member_lands_at_home_when_nothing_else_is_said(people):
    home = people.registry.create("acme")
    people.member("ann", home.id)
    people.member("bob")
    assert land(people, "ann", home.id) == land(people, "ann", home.id, home) == home
    assert land(people, "bob") == people.registry.get(0)


def test_a_member_of_another_namespace_lands_nowhere_else(people):
    home, other = people.registry.create("acme"), people.registry.create("other")
    people.member("ann", home.id)
    people.member("ann")
    people.grants.set("ann", None, ALLOW, ("readers",))
    for into in (other, people.registry.get(0)):
        assert reason_of(land, people, "ann", home.id, into) is Reason.NOT_PERMITTED


def test_a_member_lands_in_its_main_namespace_or_where_it_asks_as_far_as_grants_go(people):
    main, other, denied = (people.registry.create(name) for name in ("main", "other", "denied"))
    people.member("ann", main_namespace=issue(main))
    people.grants.set("ann", None, ALLOW, ("readers",))
    people.grants.set("ann", denied, DENY)
    assert land(people) == main
    assert land(people, into=other) == other
    assert land(people, into=people.registry.get(0)) == people.registry.get(0)
    assert reason_of(land, people, "ann", 0, denied) is Reason.NOT_PERMITTED
    renamed = people.registry.update(main.id, name="renamed")
    assert land(people) == renamed


@pytest.mark.parametrize("state", [NamespaceState.READ_ONLY, NamespaceState.SUSPENDED])
def test_a_suspended_namespace_is_landed_in_for_its_refusal_says_why(people, state):
    main = people.registry.create("main")
    people.member("ann", main_namespace=issue(main))
    people.grants.set("ann", main, ALLOW, ("readers",))
    people.registry.suspend(main.id, state, "r")
    assert land(people).state is state and land(people, into=people.registry.get(main.id)).state is state


GONE = {
    "banned": lambda p, main: p.registry.ban(main.id, by="x", grace_ms=1000),
    "denied": lambda p, main: p.grants.set("ann", main, DENY),
    "denied everywhere": lambda p, main: p.grants.set("ann", None, DENY),
    "no longer granted": lambda p, main: p.grants.delete("ann", main.id),
    "issued again": lambda p, main: (
        p.registry.ban(main.id, by="x"),
        reclaim_by_hand(p.registry, p.store, p.clock, main.id),
        p.grants.set("ann", p.registry.create("main", namespace_id=main.id), ALLOW, ("readers",)),
    ),
}
LEFT = {
    "banned": "default,b,read-only",
    "denied": "default,b,read-only",
    "denied everywhere": "default",
    "no longer granted": "default,b,read-only",
    "issued again": "default,main,b,read-only",
}


@pytest.mark.parametrize("what", GONE)
def test_a_member_whose_main_namespace_is_gone_is_told_which_ones_are_left(people, what):
    main, *others = (
        people.registry.create(name, namespace_id=number)
        for number, name in enumerate(["main", "b", "hidden", "read-only", "suspended", "dropped"], 1)
    )
    people.member("ann", main_namespace=issue(main))
    people.grants.set("ann", main, ALLOW, ("readers",))
    for other in others:
        if other.name != "hidden":
            people.grants.set("ann", other, ALLOW, ("readers",))
    people.registry.suspend(4, NamespaceState.READ_ONLY)
    people.registry.suspend(5, NamespaceState.SUSPENDED)
    people.registry.ban(6, by="x", grace_ms=1000)
    GONE[what](people, main)
    with pytest.raises(PrefixdbError) as caught:
        land(people)
    assert caught.value.reason is Reason.MAIN_NAMESPACE_GONE
    assert caught.value.metadata == {"usable": LEFT[what]}
    # Asking for it by name is refused like asking for any other that is not granted; unless it is there and granted.
    if what != "issued again":
        assert reason_of(land, people, "ann", 0, people.registry.get(1)) is Reason.NOT_PERMITTED


def test_at_most_a_hundred_names_are_told(people):
    people.member("ann", main_namespace=issue(people.registry.create("main", namespace_id=2**63)))
    people.grants.set("ann", None, ALLOW, ("readers",))
    for number in range(1, 150):
        people.registry.create(f"n{number}", namespace_id=number)
    people.registry.ban(2**63, by="x", grace_ms=1000)
    with pytest.raises(PrefixdbError) as caught:
        land(people)
    names = caught.value.metadata["usable"].split(",")
    assert names == ["default", *(f"n{number}" for number in range(1, 100))]


def test_other_errors_name_no_namespace(people):
    target = people.registry.create("secret-name")
    people.member("ann")
    for act in (
        lambda: land(people, into=target),
        lambda: standing(people, guest(people, target.id)),
        lambda: people.grants.delete("ann", target.id),
    ):
        with pytest.raises(PrefixdbError) as caught:
            act()
        assert "secret" not in str(caught.value) + str(caught.value.metadata)


# --- time ------------------------------------------------------------------------------------------------------------


def test_a_member_of_32_groups_is_admitted_in_well_under_a_millisecond(people):
    home_id = people.registry.create("acme").id
    names = tuple(f"g{number}" for number in range(32))
    for name in names:
        people.groups.create(home_id, name, (Rule(None, name.encode(), read=True, write=True), SOME))
    claims = people.login(people.member("ann", home_id, groups=names), home_id)
    token = Bearer(home_id, "ann", claims.family, groups=names)
    best = min(timed(people, token) for _ in range(20))
    assert len(standing(people, token).rules) == 33
    assert best < 0.001


def timed(people: People, token: Bearer) -> float:
    started = time.perf_counter()
    standing(people, token)
    return time.perf_counter() - started


def test_a_hash_is_in_no_standing(people):
    claims = people.login(people.member("ann"))
    assert HASH not in repr(standing(people, claims))
