"""Goal: a member's record is right at every moment, and what must change with it changes in the same commit.

Method: each act is done over the model store and looked at as a whole: record, rows left, marks, epochs, number of
commits. Refusals are tried one by one with nothing changed. Races and unknown outcomes are made by hand at the commit.
"""

from __future__ import annotations

import pytest

from prefixdb import limits
from prefixdb.catalog.entities import (
    GrantEffect,
    MemberRecord,
    NamespaceIssue,
    Privilege,
)
from prefixdb.catalog.member_records import member_key
from prefixdb.catalog.members import UNCHANGED, first_guardian
from prefixdb.catalog.schema import Tag
from prefixdb.errors import Reason
from tests.support.catalog import reason_of
from tests.support.people import HASH, OTHER_HASH, People, Spy, add_token, issue, picture, service_token


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def acme(people: People) -> int:
    return people.registry.create("acme").id


# --- creating and reading --------------------------------------------------------------------------------------------


def test_a_created_member_reads_back_as_it_was_returned(people, acme):
    made = people.members.create(acme, "ann@example.com", password_hash=HASH, groups=("readers", "writers"))
    now_ms = people.clock.now_ms()
    assert made == MemberRecord(
        "ann@example.com", ("readers", "writers"), HASH, False, now_ms, now_ms, now_ms, (), None, made.row_version
    )
    assert made.row_version == people.store.get(member_key(acme, made.name)).version
    assert people.members.get(acme, made.name) == made
    people.reopen()
    assert people.members.get(acme, made.name) == made


def test_a_member_without_a_password_cannot_log_in_and_says_so(people, acme):
    made = people.members.create(acme, "ann")
    assert not made.can_log_in and made.password_changed_at_ms == 0
    assert reason_of(people.logins.begin, acme, made, issue(people.registry.get(acme))) is Reason.BAD_CREDENTIALS


def test_the_same_name_in_two_namespaces_is_two_members(people, acme):
    other = people.registry.create("other").id
    people.members.create(acme, "ann", groups=("readers",))
    people.members.create(other, "ann", groups=("writers",))
    people.members.delete(acme, "ann")
    assert people.members.get(acme, "ann") is None
    assert people.members.get(other, "ann").groups == ("writers",)


def test_a_record_shows_no_hash(people):
    assert "argon2" not in repr(people.guardian())


BAD_CREATES = {
    "empty name": ({"name": ""}, Reason.BAD_NAME),
    "name of a space": ({"name": "a b"}, Reason.BAD_NAME),
    "name with a NUL": ({"name": "a\0b"}, Reason.BAD_NAME),
    "name that begins with a sign": ({"name": "@ann"}, Reason.BAD_NAME),
    "name with an umlaut": ({"name": "jürgen"}, Reason.BAD_NAME),
    "name that is too long": ({"name": "a" * 129}, Reason.BAD_NAME),
    "name with a newline": ({"name": "ann\n"}, Reason.BAD_NAME),
    "unknown group": ({"groups": ("nobody",)}, Reason.GROUP_NOT_FOUND),
    "a group twice": ({"groups": ("readers", "readers")}, Reason.BAD_FIELD),
    "malformed group": ({"groups": ("a b",)}, Reason.BAD_FIELD),
    "too many groups": ({"groups": tuple(f"g{n}" for n in range(33))}, Reason.BAD_FIELD),
    "privileges outside namespace 0": ({"privileges": (Privilege.AUDIT,)}, Reason.BAD_FIELD),
    "main namespace outside namespace 0": ({"main_namespace": NamespaceIssue(0, 1)}, Reason.BAD_FIELD),
    "taken name": ({"name": "taken"}, Reason.MEMBER_EXISTS),
}


@pytest.mark.parametrize("what", BAD_CREATES)
def test_a_member_that_may_not_be_is_refused_and_nothing_changes(people, acme, what):
    people.members.create(acme, "taken")
    fields, expected = BAD_CREATES[what]
    before = picture(people, acme)
    assert reason_of(people.members.create, acme, **{"name": "ann", **fields}) is expected
    assert picture(people, acme) == before


@pytest.mark.parametrize("name", ["a", "7", "a" * 128, "A.b_c@d+e-f", "0x"])
def test_names_up_to_the_limit_are_taken(people, acme, name):
    people.members.create(acme, name)
    assert people.members.get(acme, name).name == name


def test_privileges_and_a_main_namespace_are_for_members_of_namespace_zero(people):
    target = people.registry.create("acme")
    made = people.members.create(
        0, "ann", privileges=(Privilege.AUDIT, Privilege.NAMESPACES_USE), main_namespace=issue(target)
    )
    assert made.privileges == (Privilege.NAMESPACES_USE, Privilege.AUDIT)
    assert people.members.get(0, "ann") == made and made.main_namespace == issue(target)
    assert reason_of(people.members.create, 0, "bob", privileges=(Privilege.AUDIT,) * 2) is Reason.BAD_FIELD


def test_a_main_namespace_must_be_there_and_be_that_issue(people):
    target = people.registry.create("acme")
    for wrong in (NamespaceIssue(12345, 1), NamespaceIssue(target.id, target.incarnation + 1)):
        assert reason_of(people.members.create, 0, "ann", main_namespace=wrong) is Reason.NAMESPACE_NOT_FOUND
    people.registry.ban(target.id, by="x", grace_ms=1000)
    assert reason_of(people.members.create, 0, "ann", main_namespace=issue(target)) is Reason.NAMESPACE_NOT_FOUND


def test_namespace_zero_as_main_namespace_is_the_same_as_none(people):
    made = people.members.create(0, "ann", main_namespace=issue(people.registry.get(0)))
    assert made.main_namespace is None


@pytest.mark.parametrize("text", ["", "x" * 5000, "a\0b", "ann\udcff", "/"])
def test_any_text_may_be_asked_for(people, text):
    assert people.members.get(0, text) is None


def test_pages_follow_each_other_without_gap_or_repeat(people, acme):
    names = sorted(["b", "a", "a+", "a-b", "aa", "B", "z@z", "0", "a.b"])
    for name in names:
        people.members.create(acme, name)
    people.members.create(people.registry.create("next").id, "not-mine")
    for limit in (1, 2, 3, 100):
        seen: list[str] = []
        while page := people.members.page(acme, seen[-1] if seen else "", limit):
            assert len(page) <= limit
            seen += [member.name for member in page]
        assert seen == names
    assert people.members.page(acme, "zzz", 10) == []


# --- limits ----------------------------------------------------------------------------------------------------------


def test_the_last_member_that_fits_is_taken_and_the_next_is_not(people, acme, monkeypatch):
    monkeypatch.setattr(people.members._room, "_limit", 5)
    for number in range(5):
        people.members.create(acme, f"m{number}")
    assert reason_of(people.members.create, acme, "one-more") is Reason.QUOTA_EXCEEDED
    assert reason_of(people.members.create, acme, "m0") is Reason.MEMBER_EXISTS
    people.members.create(people.registry.create("other").id, "elsewhere")
    people.members.delete(acme, "m3")
    people.members.create(acme, "one-more")
    assert reason_of(people.members.create, acme, "yet-another") is Reason.QUOTA_EXCEEDED


def test_members_are_not_counted_for_each_new_one(people, acme, monkeypatch):
    opened = []
    honest = people.store.open_cursor
    monkeypatch.setattr(people.store, "open_cursor", lambda *a, **k: opened.append(a) or honest(*a, **k))
    for number in range(20):
        people.members.create(acme, f"m{number}")
    assert len(opened) == 1


def test_the_limit_of_members_is_the_published_one(people):
    assert people.members._room._limit == limits.MEMBERS_PER_NAMESPACE_MAX


# --- updating --------------------------------------------------------------------------------------------------------


def test_an_update_changes_what_it_names_and_nothing_else(people):
    target = people.registry.create("acme")
    made = people.member("ann", groups=("readers",), privileges=(Privilege.AUDIT,), main_namespace=issue(target))
    people.clock.advance(5)
    changed = people.members.update(0, "ann", groups=("writers",))
    assert changed == MemberRecord(
        "ann",
        ("writers",),
        HASH,
        False,
        made.created_at_ms,
        made.created_at_ms + 5,
        made.password_changed_at_ms,
        (Privilege.AUDIT,),
        issue(target),
        changed.row_version,
    )
    assert people.members.get(0, "ann") == changed
    assert people.members.update(0, "ann", privileges=()).privileges == ()
    assert people.members.update(0, "ann", main_namespace=None).main_namespace is None
    assert people.members.update(0, "ann", main_namespace=UNCHANGED).groups == ("writers",)
    assert people.members.update(0, "ann", groups=()).groups == ()


def test_an_update_that_changes_nothing_writes_nothing(people):
    made = people.member("ann", groups=("readers",))
    version, epoch = people.store.status().last_version, people.epochs.of(0)
    assert people.members.update(0, "ann", groups=("readers",), disabled=False, main_namespace=None) == made
    assert (people.store.status().last_version, people.epochs.of(0)) == (version, epoch)


BAD_UPDATES = {
    "unknown member": ({"name": "nobody", "groups": ()}, Reason.MEMBER_NOT_FOUND),
    "malformed name": ({"name": "a\0b", "groups": ()}, Reason.MEMBER_NOT_FOUND),
    "unknown group": ({"groups": ("nobody",)}, Reason.GROUP_NOT_FOUND),
    "privileges": ({"privileges": (Privilege.AUDIT,)}, Reason.BAD_FIELD),
    "main namespace": ({"main_namespace": NamespaceIssue(5, 5)}, Reason.BAD_FIELD),
}


@pytest.mark.parametrize("what", BAD_UPDATES)
def test_an_update_that_may_not_be_changes_nothing(people, acme, what):
    people.member("ann", acme)
    fields, expected = BAD_UPDATES[what]
    before = picture(people, acme)
    assert reason_of(people.members.update, acme, **{"name": "ann", **fields}) is expected
    assert picture(people, acme) == before


def test_disabling_ends_the_logins_and_enabling_does_not_bring_them_back(people, acme):
    ann = people.member("ann", acme)
    bob = people.member("bob", acme)
    claims = people.login(ann, acme)
    others = people.login(bob, acme)
    people.members.update(acme, "ann", disabled=True)
    assert reason_of(people.identities.standing, claims) is Reason.TOKEN_REVOKED
    people.members.update(acme, "ann", disabled=False)
    assert reason_of(people.identities.standing, claims) is Reason.TOKEN_REVOKED
    assert people.identities.standing(others).groups == ()


# --- passwords -------------------------------------------------------------------------------------------------------


def test_a_new_password_ends_every_login_of_the_member_in_the_same_commit(people, acme):
    ann = people.member("ann", acme)
    bob = people.member("bob", acme)
    anns = [people.login(ann, acme) for _ in range(3)]
    bobs = people.login(bob, acme)
    people.clock.advance(7)
    version = people.store.status().last_version
    changed = people.members.set_password(acme, "ann", OTHER_HASH)
    # One commit: a number for the member's record and one for each of the three logins.
    assert changed.row_version == people.store.status().last_version == version + 1 + len(anns)
    assert (changed.password_hash, changed.password_changed_at_ms) == (OTHER_HASH, people.clock.now_ms())
    for claims in anns:
        assert reason_of(people.identities.standing, claims) is Reason.TOKEN_REVOKED
    people.identities.standing(bobs)


def test_a_password_is_changed_only_in_place_of_the_one_that_was_proven(people, acme):
    people.member("ann", acme)
    people.members.set_password(acme, "ann", OTHER_HASH)
    assert reason_of(people.members.set_password, acme, "ann", "three", instead_of=HASH) is Reason.BAD_CREDENTIALS
    assert people.members.get(acme, "ann").password_hash == OTHER_HASH
    assert people.members.set_password(acme, "ann", "three", instead_of=OTHER_HASH).password_hash == "three"
    assert reason_of(people.members.set_password, acme, "nobody", "x") is Reason.MEMBER_NOT_FOUND
    with pytest.raises(ValueError, match="taken away"):
        people.members.set_password(acme, "ann", "")


def test_the_same_password_hashed_anew_keeps_the_logins(people, acme):
    claims = people.login(people.member("ann", acme), acme)
    before = people.members.get(acme, "ann")
    people.members.rehash(acme, "ann", old_hash=HASH, new_hash=OTHER_HASH)
    after = people.members.get(acme, "ann")
    assert after.password_hash == OTHER_HASH
    assert after.password_changed_at_ms == before.password_changed_at_ms
    people.identities.standing(claims)
    people.members.rehash(acme, "ann", old_hash=HASH, new_hash="late")
    people.members.rehash(acme, "nobody", old_hash=HASH, new_hash="late")
    assert people.members.get(acme, "ann") == after


# --- deleting --------------------------------------------------------------------------------------------------------


def test_a_removal_takes_logins_and_grants_in_one_commit_and_leaves_others_alone(people):
    target = people.registry.create("acme")
    people.guardian()
    names = ["ann", "ann.b", "anna", "an"]
    for name in names:
        people.login(people.member(name))
        people.grants.set(name, target, GrantEffect.ALLOW, ("readers",))
        people.grants.set(name, None, GrantEffect.DENY)
    spy = Spy(people.store)
    people.members.delete(0, "ann")
    assert len(spy.commits) == 1 and people.marks == []
    assert people.members.get(0, "ann") is None
    assert {key.split(b"\0")[0] for key in people.rows(0, Tag.LOGIN)} == {b"an", b"ann.b", b"anna"}
    assert sorted(grant.member for grant in people.grants.page()) == ["an", "an", "ann.b", "ann.b", "anna", "anna"]
    assert reason_of(people.members.delete, 0, "ann") is Reason.MEMBER_NOT_FOUND


def test_a_member_that_comes_back_has_nothing_of_the_one_before(people):
    target = people.registry.create("acme")
    people.guardian()
    claims = people.login(people.member("ann", groups=("writers",), privileges=(Privilege.AUDIT,)))
    people.grants.set("ann", target, GrantEffect.ALLOW, ("readers",))
    people.members.delete(0, "ann")
    again = people.member("ann")
    assert (again.groups, again.privileges) == ((), ())
    assert people.grants.decide("ann", target) is None
    assert reason_of(people.identities.standing, claims) is Reason.TOKEN_REVOKED


@pytest.mark.parametrize(
    ("record", "marked"),
    [
        (service_token("ann"), True),
        (service_token("ann.b"), False),
        (service_token("an"), False),
        (service_token("ann", revoked=True), False),
        (service_token("ann", expires_at_s=1), False),
    ],
)
def test_a_removal_revokes_the_subject_exactly_when_a_service_token_of_it_lives(people, acme, record, marked):
    people.member("ann", acme)
    add_token(people, acme, record)
    epoch = people.epochs.of(acme)
    people.members.delete(acme, "ann")
    version = people.store.status().last_version
    # In force before the epoch moves: whoever looks again sees it.
    assert people.marks == ([(acme, "ann", version, epoch)] if marked else [])
    assert people.epochs.of(acme) == epoch + 1
    assert people.rows(0, Tag.WATERMARK) == ([acme.to_bytes(8, "big") + b"ann"] if marked else [])


def test_a_token_of_the_same_subject_elsewhere_is_not_touched(people, acme):
    people.member("ann", acme)
    add_token(people, people.registry.create("other").id, service_token("ann"))
    people.members.delete(acme, "ann")
    assert people.marks == []


LOSSES = {
    "removal": (lambda m: m.delete(0, "ann"), True),
    "disabling": (lambda m: m.update(0, "ann", disabled=True), True),
    "out of guardians": (lambda m: m.update(0, "ann", groups=("writers",)), True),
    "one more group": (lambda m: m.update(0, "ann", groups=("guardians", "writers")), False),
    "a privilege": (lambda m: m.update(0, "ann", privileges=(Privilege.AUDIT,)), False),
    "a password": (lambda m: m.set_password(0, "ann", OTHER_HASH), False),
}


@pytest.mark.parametrize("what", LOSSES)
def test_what_a_cluster_guardian_made_dies_when_it_is_one_no_longer(people, what):
    people.guardian(0, "root")
    people.guardian(0, "ann")
    act, marked = LOSSES[what]
    act(people.members)
    assert [mark[:2] for mark in people.marks] == ([(0, "ann")] if marked else [])
    assert all(mark[2] == people.store.status().last_version for mark in people.marks)


@pytest.mark.parametrize("what", ["removal", "out of guardians"])
def test_what_died_when_a_cluster_guardian_was_disabled_need_not_die_again(people, what):
    people.guardian(0, "root")
    people.guardian(0, "ann")
    people.members.update(0, "ann", disabled=True)
    people.marks.clear()
    LOSSES[what][0](people.members)
    assert people.marks == []


@pytest.mark.parametrize("what", ["removal", "out of guardians"])
def test_a_guardian_of_another_namespace_has_made_nothing_elsewhere(people, acme, what):
    people.guardian(acme, "root")
    people.guardian(acme, "ann")
    if what == "removal":
        people.members.delete(acme, "ann")
    else:
        people.members.update(acme, "ann", groups=())
    assert people.marks == []


def test_without_a_way_to_revoke_a_removal_that_needs_it_fails_whole(people, acme):
    people.member("ann", acme)
    add_token(people, acme, service_token("ann"))
    people.members._revoke_with = None
    assert reason_of(people.members.delete, acme, "ann") is Reason.INTERNAL
    assert people.members.get(acme, "ann") is not None


# --- the first guardian ----------------------------------------------------------------------------------------------


def test_a_namespaces_first_guardian_is_in_the_commit_that_creates_it(people):
    member = first_guardian("gina", HASH, people.clock.now_ms())
    spy = Spy(people.store)
    record = people.registry.create("acme", first_member=member)
    assert len(spy.commits) == 1
    found = people.members.get(record.id, "gina")
    assert found.row_version == record.incarnation
    assert (found.groups, found.password_hash) == (("guardians",), HASH)
    assert reason_of(people.members.delete, record.id, "gina") is Reason.LAST_GUARDIAN


def test_a_first_member_is_a_guardian_and_nothing_else(people):
    now_ms = people.clock.now_ms()
    for groups, privileges in ((("writers",), ()), ((), ()), (("guardians",), (Privilege.AUDIT,))):
        member = MemberRecord("gina", groups, HASH, False, now_ms, now_ms, now_ms, privileges)
        with pytest.raises(ValueError, match="guardian"):
            people.registry.create("acme", first_member=member)
    assert reason_of(first_guardian, "a b", HASH, now_ms) is Reason.BAD_NAME
    assert people.registry.find("acme") is None
