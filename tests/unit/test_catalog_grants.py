"""Goal: a member of namespace 0 uses exactly the namespaces that its grants cover, and deciding one by one agrees with
listing them.

Method: the decision is written down here as a table of what can be said about one namespace and about all, every cell
of it tried. Random grants over random namespaces, some dropped and issued again, compare ``decide`` with ``usable`` and
with a model of a few lines.
"""

from __future__ import annotations

import random

import pytest

from prefixdb import limits
from prefixdb.catalog.entities import GrantEffect, GrantRecord, NamespaceIssue
from prefixdb.catalog.schema import Tag
from prefixdb.errors import PrefixdbError, Reason
from tests.support.catalog import reason_of, reclaim_by_hand
from tests.support.people import People, Spy, issue

ALLOW, DENY = GrantEffect.ALLOW, GrantEffect.DENY


@pytest.fixture
def people() -> People:
    made = People()
    made.member("ann")
    return made


def test_a_grant_reads_back_as_it_was_returned(people):
    target = people.registry.create("acme")
    made = people.grants.set("ann", target, ALLOW, ("readers", "later"))
    assert made == GrantRecord("ann", issue(target), ALLOW, ("readers", "later"), people.clock.now_ms())
    wide = people.grants.set("ann", None, DENY)
    assert wide == GrantRecord("ann", None, DENY, (), people.clock.now_ms())
    people.reopen()
    assert people.grants.page("ann") == [made, wide]


# --- deciding --------------------------------------------------------------------------------------------------------

NEAR, WIDE = ("readers",), ("writers",)
SAID = {
    # (about the namespace, about all): groups, None when it is not covered
    (None, None): None,
    (ALLOW, None): NEAR,
    (DENY, None): None,
    (None, ALLOW): WIDE,
    (None, DENY): None,
    (ALLOW, ALLOW): NEAR,
    (ALLOW, DENY): None,
    (DENY, ALLOW): None,
    (DENY, DENY): None,
}


def say(people: People, target, near, wide) -> None:
    if near is not None:
        people.grants.set("ann", target, near, NEAR if near is ALLOW else ())
    if wide is not None:
        people.grants.set("ann", None, wide, WIDE if wide is ALLOW else ())


@pytest.mark.parametrize("said", SAID)
def test_what_is_said_decides_as_the_table_has_it(people, said):
    target, other = people.registry.create("acme"), people.registry.create("other")
    people.member("bob")
    say(people, target, *said)
    usable = people.grants.usable("ann")
    assert people.grants.decide("ann", target) == SAID[said]
    assert usable(target) == (SAID[said] is not None)
    assert people.grants.decide("ann", other) == SAID[None, said[1]]
    assert usable(other) == (SAID[None, said[1]] is not None)
    assert people.grants.decide("bob", target) is None and not people.grants.usable("bob")(target)


@pytest.mark.parametrize("said", SAID)
def test_what_was_said_about_an_earlier_issue_of_the_number_counts_for_nothing(people, said):
    target = people.registry.create("acme")
    say(people, target, *said)
    people.registry.ban(target.id, by="x")
    reclaim_by_hand(people.registry, people.store, people.clock, target.id)
    again = people.registry.create("acme", namespace_id=target.id)
    assert people.grants.decide("ann", again) == SAID[None, said[1]]
    assert people.grants.usable("ann")(again) == (SAID[None, said[1]] is not None)


@pytest.mark.parametrize("said", SAID)
def test_namespace_zero_is_never_granted(people, said):
    home = people.registry.get(0)
    say(people, people.registry.create("acme"), *said)
    assert people.grants.decide("ann", home) is None and not people.grants.usable("ann")(home)


def test_a_namespace_that_comes_back_from_a_ban_is_granted_as_before(people):
    target = people.registry.create("acme")
    people.grants.set("ann", target, ALLOW, NEAR)
    people.registry.ban(target.id, by="x", grace_ms=1000)
    assert people.grants.decide("ann", people.registry.unban(target.id)) == NEAR


def test_a_renamed_namespace_is_granted_as_before(people):
    target = people.registry.create("acme")
    people.grants.set("ann", target, ALLOW, NEAR)
    assert people.grants.decide("ann", people.registry.update(target.id, name="beta")) == NEAR


def test_members_whose_names_begin_alike_have_their_own_grants(people):
    target = people.registry.create("acme")
    for name in ("an", "ann.b", "ann+"):
        people.member(name)
        people.grants.set(name, target, DENY)
    people.grants.set("ann", target, ALLOW, NEAR)
    assert people.grants.decide("ann", target) == NEAR
    assert [grant.member for grant in people.grants.page("ann")] == ["ann"]


@pytest.mark.parametrize("seed", range(8))
def test_random_grants_are_decided_as_listed_and_as_the_model_says(people, seed):
    rng = random.Random(seed)
    print("seed", seed)
    records = [people.registry.create(f"n{number}") for number in range(6)]
    names = ["ann", "bob"]
    people.member("bob")
    model: dict[tuple[str, NamespaceIssue | None], tuple[GrantEffect, tuple[str, ...]]] = {}
    for _ in range(60):
        name, act = rng.choice(names), rng.random()
        place = rng.randrange(7)
        target = records[place] if place < 6 else None
        key = (name, None if target is None else issue(target))
        if act < 0.6:
            effect = rng.choice([ALLOW, ALLOW, DENY])
            groups = tuple(rng.sample(["readers", "writers", "team"], rng.randint(1, 3))) if effect is ALLOW else ()
            people.grants.set(name, target, effect, groups)
            model = {k: v for k, v in model.items() if not same_place(k, key)} | {key: (effect, groups)}
        elif act < 0.8:
            expected = None if any(same_place(k, key) for k in model) else Reason.GRANT_NOT_FOUND
            assert reason_of(people.grants.delete, name, None if target is None else target.id) is expected
            model = {k: v for k, v in model.items() if not same_place(k, key)}
        elif act < 0.9 and target is not None:
            people.registry.ban(target.id, by="x")
            reclaim_by_hand(people.registry, people.store, people.clock, target.id)
            records[place] = people.registry.create(target.name, namespace_id=target.id)
        else:
            people.reopen()
        for name in names:
            usable = people.grants.usable(name)
            for record in records:
                near, wide = model.get((name, issue(record))), model.get((name, None))
                said = [each for each in (near, wide) if each is not None]
                denied = any(effect is DENY for effect, _ in said)
                expected = said[0][1] if said and not denied else None
                assert people.grants.decide(name, record) == expected
                assert usable(record) == (expected is not None)


def same_place(one: tuple[str, NamespaceIssue | None], two: tuple[str, NamespaceIssue | None]) -> bool:
    """Of two issues of a number only one is on record: the newer takes the row of the older."""
    ids = [None if each[1] is None else each[1].namespace_id for each in (one, two)]
    return one[0] == two[0] and ids[0] == ids[1]


# --- saying ----------------------------------------------------------------------------------------------------------


def test_what_is_said_replaces_what_was_said_about_the_same(people):
    target = people.registry.create("acme")
    people.grants.set("ann", target, ALLOW, NEAR)
    people.clock.advance(1)
    denied = people.grants.set("ann", target, DENY)
    assert people.grants.page("ann") == [denied]
    people.grants.set("ann", target, ALLOW, WIDE)
    assert people.grants.decide("ann", target) == WIDE


BAD = {
    "unknown member": (("nobody", "acme", ALLOW, NEAR), Reason.MEMBER_NOT_FOUND, None),
    "malformed member": (("a\0b", "acme", ALLOW, NEAR), Reason.MEMBER_NOT_FOUND, None),
    "namespace 0": (("ann", "default", ALLOW, NEAR), Reason.BAD_FIELD, "namespace"),
    "a dropped namespace": (("ann", "dropped", ALLOW, NEAR), Reason.NAMESPACE_STATE, None),
    "to permit nothing": (("ann", "acme", ALLOW, ()), Reason.BAD_FIELD, "groups"),
    "to permit nothing anywhere": (("ann", None, ALLOW, ()), Reason.BAD_FIELD, "groups"),
    "guardians": (("ann", "acme", ALLOW, ("readers", "guardians")), Reason.BAD_FIELD, "groups"),
    "guardians everywhere": (("ann", None, ALLOW, ("guardians",)), Reason.BAD_FIELD, "groups"),
    "a denial of groups": (("ann", "acme", DENY, NEAR), Reason.BAD_FIELD, "groups"),
    "too many groups": (("ann", "acme", ALLOW, tuple(f"g{n}" for n in range(33))), Reason.BAD_FIELD, "groups"),
    "a malformed group": (("ann", "acme", ALLOW, ("a b",)), Reason.BAD_FIELD, "groups"),
    "a group twice": (("ann", "acme", ALLOW, ("a", "a")), Reason.BAD_FIELD, "groups"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_grant_that_may_not_be_is_refused_and_nothing_changes(people, what):
    dropped = people.registry.create("dropped")
    places = {
        None: None,
        "acme": people.registry.create("acme"),
        "default": people.registry.get(0),
        "dropped": people.registry.ban(dropped.id, by="x", grace_ms=1000),
    }
    (member, place, effect, groups), expected, field = BAD[what]
    version = people.store.status().last_version
    with pytest.raises(PrefixdbError) as caught:
        people.grants.set(member, places[place], effect, groups)
    assert caught.value.reason is expected and caught.value.metadata.get("field") == field
    assert people.store.status().last_version == version


def test_a_grant_that_is_not_there_cannot_be_taken_back(people):
    target = people.registry.create("acme")
    people.grants.set("ann", target, ALLOW, NEAR)
    for member, target_id in (("ann", None), ("bob", target.id), ("ann", 5), ("a\0b", None)):
        assert reason_of(people.grants.delete, member, target_id) is Reason.GRANT_NOT_FOUND
    people.grants.delete("ann", target.id)
    assert people.grants.decide("ann", target) is None


def test_a_grant_for_a_dropped_namespace_can_be_taken_back(people):
    target = people.registry.create("acme")
    people.grants.set("ann", target, ALLOW, NEAR)
    people.registry.ban(target.id, by="x")
    people.grants.delete("ann", target.id)
    assert people.rows(0, Tag.GRANT) == []


@pytest.mark.parametrize("act", ["set", "replace", "delete"])
def test_every_change_moves_the_epoch_of_namespace_zero_on_which_every_guest_depends(people, act):
    target = people.registry.create("acme")
    if act != "set":
        people.grants.set("ann", target, ALLOW, NEAR)
    epochs = people.epochs.of(0), people.epochs.of(target.id), people.epochs.of(target.id, guest=True)
    if act == "delete":
        people.grants.delete("ann", target.id)
    else:
        people.grants.set("ann", target, DENY)
    found = people.epochs.of(0), people.epochs.of(target.id), people.epochs.of(target.id, guest=True)
    assert found == (epochs[0] + 1, epochs[1], epochs[2] + 1)


def test_a_member_that_is_removed_in_this_moment_gets_no_grant(people):
    people.guardian()
    people.members.delete(0, "ann")
    assert reason_of(people.grants.set, "ann", None, DENY) is Reason.MEMBER_NOT_FOUND
    assert people.rows(0, Tag.GRANT) == []


def test_pages_follow_each_other_over_members_and_targets(people):
    targets = [people.registry.create(f"n{number}", namespace_id=number) for number in (3, 300, 2**64 - 2)]
    for name in ("bob", "ann.b", "zoe"):
        people.member(name)
    expected = []
    for name in ("ann", "ann.b", "bob"):
        for target in targets:
            expected.append(people.grants.set(name, target, DENY))
        expected.append(people.grants.set(name, None, DENY))
    for limit in (1, 2, 5, 100):
        for member in ("", "ann", "ann.b", "zoe"):
            seen: list[GrantRecord] = []
            while page := people.grants.page(member, people.grants.position(seen[-1]) if seen else b"", limit):
                assert len(page) <= limit
                seen += page
            assert seen == [grant for grant in expected if not member or grant.member == member]
    assert people.grants.page("a\0b") == []
    # A position of somebody else's leads nowhere but into the asked member's own.
    assert people.grants.page("bob", people.grants.position(expected[0])) == expected[8:]
    assert people.grants.page("ann", people.grants.position(expected[-1])) == []


# --- limits ----------------------------------------------------------------------------------------------------------


def test_the_last_grant_that_fits_is_taken_and_the_next_is_not(people, monkeypatch):
    monkeypatch.setattr(limits, "GRANTS_PER_MEMBER_MAX", 3)
    people.member("bob")
    targets = [people.registry.create(f"n{number}") for number in range(5)]
    for target in targets[:3]:
        people.grants.set("ann", target, ALLOW, NEAR)
    assert reason_of(people.grants.set, "ann", targets[3], ALLOW, NEAR) is Reason.QUOTA_EXCEEDED
    assert reason_of(people.grants.set, "ann", None, DENY) is Reason.QUOTA_EXCEEDED
    people.grants.set("ann", targets[0], DENY)
    people.grants.set("bob", targets[3], ALLOW, NEAR)
    people.grants.delete("ann", targets[1].id)
    people.grants.set("ann", None, DENY)
    assert len(people.grants.page("ann")) == 3


def test_what_counts_for_nothing_any_more_makes_room(people, monkeypatch):
    monkeypatch.setattr(limits, "GRANTS_PER_MEMBER_MAX", 4)
    kept, banned, reclaimed, again, new = (people.registry.create(f"n{number}") for number in range(5))
    for target in (kept, banned, reclaimed, again):
        people.grants.set("ann", target, ALLOW, NEAR)
    people.registry.ban(banned.id, by="x", grace_ms=limits.BAN_GRACE_MS_MAX)
    for target in (reclaimed, again):
        people.registry.ban(target.id, by="x")
        reclaim_by_hand(people.registry, people.store, people.clock, target.id)
    people.registry.create("again", namespace_id=again.id)
    spy = Spy(people.store)
    people.grants.set("ann", new, ALLOW, NEAR)
    assert len(spy.commits) == 1
    # The banned one may come back, and its grant with it.
    assert {grant.target for grant in people.grants.page("ann")} == {issue(kept), issue(banned), issue(new)}
