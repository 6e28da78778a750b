"""Goal: groups are what their guardians made them, and a group that is deleted leaves no right behind, however many
members it had and wherever the deletion is cut off.

Method: acts over the model store, refusals one by one. Deletions run with small pages, are cut off at every commit by a
failing store and repeated; after each step nobody may hold a right that a group of the same name would give back.
"""

from __future__ import annotations

import pytest

from prefixdb import limits
from prefixdb.catalog import groups as groups_module
from prefixdb.catalog import schema
from prefixdb.catalog.entities import GrantEffect, Group, Rule
from prefixdb.catalog.groups import check_rules
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.store.base import Commit
from tests.support.catalog import reason_of
from tests.support.people import People, Spy, picture

RULES = (Rule(None, b"a", read=True, write=False), Rule(7, b"", read=False, write=True))
BUILT_IN = ["guardians", "readers", "writers"]


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def acme(people: People) -> int:
    return people.registry.create("acme").id


def test_a_group_reads_back_as_it_was_made(people, acme):
    assert people.groups.create(acme, "half", RULES) == Group("half", RULES)
    assert people.groups.get(acme, "half") == Group("half", RULES)
    people.reopen()
    assert people.groups.get(acme, "half") == Group("half", RULES)
    assert people.groups.get(0, "half") is None


def test_a_group_without_rules_permits_nothing_and_is_a_group(people, acme):
    people.groups.create(acme, "empty", ())
    people.members.create(acme, "ann", groups=("empty",))
    assert people.identities.rules_of(acme, ("empty",)) == ()


def test_repeated_rules_are_kept_once(people, acme):
    assert people.groups.create(acme, "g", RULES + RULES).rules == RULES


GOOD_RULES = {
    "the lowest database": Rule(0, b"", read=True, write=True),
    "the highest database": Rule(65_535, b"", read=True, write=True),
    "the longest prefix": Rule(None, b"x" * limits.KEY_BYTES_MAX, read=False, write=True),
}
BAD_RULES = {
    "a database below": Rule(-1, b"", read=True, write=True),
    "a database above": Rule(65_536, b"", read=True, write=True),
    "a prefix too long": Rule(None, b"x" * (limits.KEY_BYTES_MAX + 1), read=True, write=True),
    "nothing permitted": Rule(None, b"a", read=False, write=False),
}


@pytest.mark.parametrize("what", GOOD_RULES)
def test_rules_up_to_the_limits_are_taken(people, acme, what):
    people.groups.create(acme, "g", (GOOD_RULES[what],))
    assert people.groups.get(acme, "g").rules == (GOOD_RULES[what],)


@pytest.mark.parametrize("what", BAD_RULES)
def test_rules_beyond_the_limits_are_refused_and_nothing_changes(people, acme, what):
    people.groups.create(acme, "g", ())
    before = picture(people, acme)
    for act in (lambda: people.groups.create(acme, "new", (BAD_RULES[what],)), lambda: update(people, acme, what)):
        with pytest.raises(PrefixdbError) as caught:
            act()
        assert (caught.value.reason, caught.value.metadata) == (Reason.BAD_FIELD, {"field": "rules"})
    assert picture(people, acme) == before


def update(people: People, namespace_id: int, what: str) -> None:
    people.groups.update(namespace_id, "g", (BAD_RULES[what],))


def test_a_group_has_at_most_so_many_rules():
    rules = [Rule(None, b"%d" % number, read=True, write=False) for number in range(limits.GROUP_RULES_MAX + 1)]
    assert len(check_rules(rules[:-1])) == limits.GROUP_RULES_MAX
    assert reason_of(check_rules, rules) is Reason.BAD_FIELD


def test_the_prefixes_of_a_group_have_a_limit_together():
    """Each token's holder has the rules of its groups in memory: 32 groups of 64 prefixes of 4 KiB were 8 MiB."""
    most = limits.GROUP_PREFIX_BYTES_MAX // limits.KEY_BYTES_MAX
    rules = [Rule(None, bytes([n]) * limits.KEY_BYTES_MAX, read=True, write=False) for n in range(most)]
    assert len(check_rules(rules)) == len(check_rules([*rules, *rules])) == most
    assert reason_of(check_rules, [*rules, Rule(None, b"z", read=True, write=False)]) is Reason.BAD_FIELD


@pytest.mark.parametrize("name", ["", "a b", "a@b", "-a", "a" * 129, "a\0b"])
def test_a_malformed_name_names_no_group(people, acme, name):
    assert reason_of(people.groups.create, acme, name, ()) is Reason.BAD_NAME
    assert people.groups.get(acme, name) is None
    assert reason_of(people.groups.update, acme, name, ()) is Reason.GROUP_NOT_FOUND
    assert reason_of(people.groups.delete, acme, name) is Reason.GROUP_NOT_FOUND


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_groups_stay_as_they_are(people, acme, name):
    before = picture(people, acme)
    assert reason_of(people.groups.create, acme, name, ()) is Reason.GROUP_EXISTS
    assert reason_of(people.groups.update, acme, name, RULES) is Reason.GROUP_BUILT_IN
    assert reason_of(people.groups.delete, acme, name) is Reason.GROUP_BUILT_IN
    assert picture(people, acme) == before


def test_a_taken_name_is_refused_and_an_unknown_one_not_found(people, acme):
    people.groups.create(acme, "half", RULES)
    assert reason_of(people.groups.create, acme, "half", ()) is Reason.GROUP_EXISTS
    assert people.groups.get(acme, "half").rules == RULES
    assert reason_of(people.groups.update, acme, "other", ()) is Reason.GROUP_NOT_FOUND
    assert reason_of(people.groups.delete, acme, "other") is Reason.GROUP_NOT_FOUND


def test_an_update_replaces_all_rules_and_the_same_rules_write_nothing(people, acme):
    people.groups.create(acme, "half", RULES)
    assert people.groups.update(acme, "half", RULES[:1]) == people.groups.get(acme, "half") == Group("half", RULES[:1])
    version, epoch = people.store.status().last_version, people.epochs.of(acme)
    people.groups.update(acme, "half", RULES[:1])
    assert (people.store.status().last_version, people.epochs.of(acme)) == (version, epoch)


def test_pages_follow_each_other_with_the_built_in_groups_among_them(people, acme):
    for name in ("zoo", "a", "h"):
        people.groups.create(acme, name, ())
    seen: list[str] = []
    while page := people.groups.page(acme, seen[-1] if seen else "", 2):
        assert len(page) <= 2
        seen += [group.name for group in page]
    assert seen == sorted([*BUILT_IN, "zoo", "a", "h"])


def test_a_page_is_no_longer_than_asked_for_however_large_its_groups_are(people, acme, monkeypatch):
    monkeypatch.setattr(schema, "_SCAN_BYTES", 40_000)
    for letter in "abcdefgh":
        long = [Rule(None, bytes([n]) * 256, read=True, write=False) for n in range(64)]
        people.groups.create(acme, letter, long)
    assert [group.name for group in people.groups.page(acme, "", 5)] == list("abcde")
    assert [group.name for group in people.groups.page(acme, "e", 5)] == ["f", "g", "guardians", "h", "readers"]


def test_the_last_group_that_fits_is_taken_and_the_next_is_not(people, acme, monkeypatch):
    assert people.groups._room._limit == limits.GROUPS_PER_NAMESPACE_MAX
    monkeypatch.setattr(people.groups._room, "_limit", 5)
    people.groups.create(acme, "a", ())
    people.groups.create(acme, "b", ())
    assert reason_of(people.groups.create, acme, "c", ()) is Reason.QUOTA_EXCEEDED
    people.groups.delete(acme, "a")
    people.groups.create(acme, "c", ())


# --- deleting --------------------------------------------------------------------------------------------------------


def name_of(number: int) -> str:
    """Each name is the beginning of the next: whoever skips a little at the end of a page skips somebody."""
    return "m" + "x" * number


def crowd(people: People, namespace_id: int, size: int) -> None:
    """Make a group and members of which every second is in it, one in a group whose name only looks like it."""
    people.groups.create(namespace_id, "team", RULES)
    people.groups.create(namespace_id, "team.b", RULES)
    for number in range(size):
        groups = ("readers", "team", "writers") if number % 2 == 0 else ("team.b",)
        people.members.create(namespace_id, name_of(number), groups=groups)


def groups_of(people: People, namespace_id: int) -> dict[str, tuple[str, ...]]:
    return {member.name: member.groups for member in people.members.page(namespace_id, "", 1_000)}


@pytest.mark.parametrize("size", [0, 1, 4, 5, 6, 7, 10, 11, 23])
def test_a_deleted_group_is_taken_from_all_its_members_and_from_no_other(people, acme, monkeypatch, size):
    monkeypatch.setattr(groups_module, "MEMBERS_PER_COMMIT", 5)
    crowd(people, acme, size)
    other = people.registry.create("other").id
    crowd(people, other, 3)
    people.clock.advance(9)
    people.groups.delete(acme, "team")
    assert people.groups.get(acme, "team") is None
    assert groups_of(people, acme) == {
        name_of(number): ("readers", "writers") if number % 2 == 0 else ("team.b",) for number in range(size)
    }
    changed = [member.name for member in people.members.page(acme) if member.updated_at_ms == people.clock.now_ms()]
    assert changed == [name_of(number) for number in range(0, size, 2)]
    assert groups_of(people, other)["m"] == ("readers", "team", "writers")
    people.groups.create(acme, "team", RULES)
    assert not any("team" in groups for groups in groups_of(people, acme).values())


@pytest.mark.parametrize(("size", "commits"), [(0, 1), (4, 1), (5, 2), (9, 2), (10, 3)])
def test_up_to_a_page_of_members_it_is_one_commit(people, acme, monkeypatch, size, commits):
    monkeypatch.setattr(groups_module, "MEMBERS_PER_COMMIT", 5)
    crowd(people, acme, size)
    spy = Spy(people.store)
    people.groups.delete(acme, "team")
    assert len(spy.commits) == commits


@pytest.mark.parametrize("cut_at", range(4))
@pytest.mark.parametrize("reason", [Reason.DISK_FULL, Reason.OUTCOME_UNKNOWN])
def test_a_deletion_that_is_cut_off_leaves_the_group_and_a_repeat_ends_it(people, acme, monkeypatch, cut_at, reason):
    monkeypatch.setattr(groups_module, "MEMBERS_PER_COMMIT", 5)
    crowd(people, acme, 17)

    def cut(_commit: Commit) -> None:
        if len(spy.commits) > cut_at:
            raise error(reason)

    spy = Spy(people.store, cut)
    epoch = people.epochs.of(acme)
    assert reason_of(people.groups.delete, acme, "team") is reason
    spy.stop()
    assert people.epochs.of(acme) == epoch + (cut_at > 0 or reason is Reason.OUTCOME_UNKNOWN)
    people.reopen()
    assert people.groups.get(acme, "team").rules == RULES
    # While it lasts the group cannot be made anew, so nobody who is still in it is in a new one.
    assert reason_of(people.groups.create, acme, "team", ()) is Reason.GROUP_EXISTS
    people.groups.delete(acme, "team")
    assert people.groups.get(acme, "team") is None
    assert not any("team" in groups for groups in groups_of(people, acme).values())


def test_a_member_cannot_be_put_into_a_group_while_it_goes(people, acme):
    people.groups.create(acme, "team", RULES)
    people.members.create(acme, "ann")
    people.groups.delete(acme, "team")
    assert reason_of(people.members.update, acme, "ann", groups=("team",)) is Reason.GROUP_NOT_FOUND
    assert reason_of(people.members.create, acme, "bob", groups=("team",)) is Reason.GROUP_NOT_FOUND


def test_grants_keep_the_name_which_permits_nothing_while_there_is_no_such_group(people):
    target = people.registry.create("acme")
    people.member("ann")
    people.groups.create(target.id, "team", RULES)
    people.grants.set("ann", target, GrantEffect.ALLOW, ("team",))
    people.groups.delete(target.id, "team")
    assert people.grants.decide("ann", target) == ("team",)
    assert people.identities.rules_of(target.id, ("team",)) == ()
