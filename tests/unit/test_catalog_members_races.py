"""Goal: what is said about members holds when two act at once, when the namespace is dropped in that moment, and when
the store cannot say whether it wrote.

Method: the moment is the commit. A spy stands there and bans, relabels, refuses, loses the outcome or lets another
thread arrive, for every act that writes; then members, epochs and locks are looked at.
"""

from __future__ import annotations

import threading

import pytest

from prefixdb.catalog.entities import NamespaceState, Rule
from prefixdb.catalog.member_records import member_put
from prefixdb.catalog.schema import Tag
from prefixdb.errors import Reason, error
from prefixdb.store.base import Commit
from tests.support.catalog import reason_of
from tests.support.people import HASH, OTHER_HASH, People, Spy, add_token, issue, picture, service_token

RULE = Rule(None, b"a", read=True, write=False)


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def acme(people: People) -> int:
    return people.registry.create("acme").id


# --- the last guardian -----------------------------------------------------------------------------------------------


ENDS = {
    "removal": lambda m, n, name: m.delete(n, name),
    "disabling": lambda m, n, name: m.update(n, name, disabled=True),
    "out of guardians": lambda m, n, name: m.update(n, name, groups=("writers",)),
    "everything at once": lambda m, n, name: m.update(n, name, groups=(), disabled=True),
}


@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("home", ["default", "acme"])
def test_the_last_guardian_who_can_log_in_stays(people, acme, what, home):
    namespace_id = 0 if home == "default" else acme
    people.guardian(namespace_id, "gina")
    people.members.create(namespace_id, "no-password", groups=("guardians",))
    people.guardian(namespace_id, "disabled")
    people.members.update(namespace_id, "disabled", disabled=True)
    people.member("no-guardian", namespace_id, groups=("writers",))
    people.guardian(acme if namespace_id == 0 else 0, "of-another-namespace")
    before = picture(people, namespace_id)
    assert reason_of(ENDS[what], people.members, namespace_id, "gina") is Reason.LAST_GUARDIAN
    assert picture(people, namespace_id) == before
    people.guardian(namespace_id, "second")
    ENDS[what](people.members, namespace_id, "gina")
    assert reason_of(ENDS[what], people.members, namespace_id, "second") is Reason.LAST_GUARDIAN


@pytest.mark.parametrize("name", ["no-password", "disabled"])
def test_a_guardian_who_cannot_log_in_is_nobodys_last(people, acme, name):
    people.members.create(acme, "no-password", groups=("guardians",))
    people.guardian(acme, "disabled")
    people.guardian(acme, "gina")
    people.members.update(acme, "disabled", disabled=True)
    people.members.delete(acme, name)
    assert people.members.get(acme, name) is None


def test_what_leaves_the_guardian_a_guardian_is_always_allowed(people, acme):
    people.guardian(acme)
    people.members.update(acme, "gina", groups=("writers", "guardians"))
    people.members.set_password(acme, "gina", OTHER_HASH)
    assert people.members.get(acme, "gina").groups == ("writers", "guardians")


def test_two_guardians_who_disable_each_other_at_once_do_not_both_succeed(people, acme):
    people.guardian(acme, "ann")
    people.guardian(acme, "bob")
    first_is_in, go_on = threading.Event(), threading.Event()

    def wait(_commit: Commit) -> None:
        if not first_is_in.is_set():
            first_is_in.set()
            assert go_on.wait(30)

    spy = Spy(people.store, wait)
    found: dict[str, Reason | None] = {}

    def disable(name: str) -> None:
        found[name] = reason_of(people.members.update, acme, name, disabled=True)

    one = threading.Thread(target=disable, args=("ann",))
    two = threading.Thread(target=disable, args=("bob",))
    one.start()
    assert first_is_in.wait(30)
    two.start()
    while people.members._changes._turns[acme].wanted < 2:  # Until the second waits for its turn.
        threading.Event().wait(0.001)
    go_on.set()
    one.join(30)
    two.join(30)
    spy.stop()
    assert found == {"ann": None, "bob": Reason.LAST_GUARDIAN}
    assert people.members._changes._turns == {}


# --- the namespace around them ---------------------------------------------------------------------------------------


ACTS = {
    "create": lambda p, n: p.members.create(n, "new"),
    "update": lambda p, n: p.members.update(n, "ann", groups=("writers",)),
    "set password": lambda p, n: p.members.set_password(n, "ann", OTHER_HASH),
    "rehash": lambda p, n: p.members.rehash(n, "ann", old_hash=HASH, new_hash=OTHER_HASH),
    "delete": lambda p, n: p.members.delete(n, "ann"),
    "begin login": lambda p, n: p.logins.begin(n, p.members.get(n, "ann"), issue(p.registry.get(n))),
    "end logins": lambda p, n: p.logins.end_all(n, "ann"),
    "create group": lambda p, n: p.groups.create(n, "new", ()),
    "update group": lambda p, n: p.groups.update(n, "own", (RULE,)),
    "delete group": lambda p, n: p.groups.delete(n, "own"),
}


def populated(people: People) -> int:
    namespace_id = people.registry.create("busy").id
    people.groups.create(namespace_id, "own", ())
    people.login(people.member("ann", namespace_id, groups=("own",)), namespace_id)
    return namespace_id


@pytest.mark.parametrize("act", ACTS)
def test_nothing_is_written_into_a_namespace_that_is_banned_in_this_moment(people, act):
    namespace_id = populated(people)
    done = threading.Event()

    def ban(commit: Commit) -> None:
        if not done.is_set():
            done.set()
            people.registry.ban(namespace_id, by="x", grace_ms=1000)

    before = people.members.page(namespace_id), people.rows(namespace_id, Tag.LOGIN), people.groups.page(namespace_id)
    Spy(people.store, ban)
    assert reason_of(ACTS[act], people, namespace_id) is Reason.NAMESPACE_STATE
    after = people.members.page(namespace_id), people.rows(namespace_id, Tag.LOGIN), people.groups.page(namespace_id)
    assert done.is_set() and after == before


@pytest.mark.parametrize("act", ACTS)
def test_a_harmless_change_of_the_namespace_in_this_moment_does_no_harm(people, act):
    namespace_id = populated(people)
    done = threading.Event()

    def relabel(commit: Commit) -> None:
        if not done.is_set():
            done.set()
            people.registry.update(namespace_id, labels={"a": "b"})

    Spy(people.store, relabel)
    ACTS[act](people, namespace_id)
    assert done.is_set()


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("state", [NamespaceState.READ_ONLY, NamespaceState.SUSPENDED])
def test_guardians_may_put_things_right_in_a_namespace_that_is_suspended(people, act, state):
    namespace_id = populated(people)
    people.registry.suspend(namespace_id, state, "r")
    ACTS[act](people, namespace_id)


@pytest.mark.parametrize("act", [act for act in ACTS if act not in ("rehash", "end logins")])
def test_every_change_moves_the_epoch_of_its_namespace_and_no_other(people, act):
    namespace_id = populated(people)
    other = people.registry.create("other").id
    epochs = people.epochs.of(namespace_id), people.epochs.of(other), people.epochs.of(0)
    version = people.store.status().last_version
    seen = []
    people.epochs.add_listener(lambda _n: seen.append(people.store.status().last_version))
    ACTS[act](people, namespace_id)
    moved = 0 if act == "begin login" else 1  # Nobody has to look again because somebody came.
    assert people.epochs.of(namespace_id) == epochs[0] + moved
    assert (people.epochs.of(other), people.epochs.of(0)) == epochs[1:]
    assert all(at > version for at in seen)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("reached_the_disk", [True, False])
def test_after_an_unknown_outcome_the_caller_is_told_and_sessions_look_again(people, act, reached_the_disk):
    namespace_id = populated(people)
    epoch = people.epochs.of(namespace_id)

    def lose(_commit: Commit) -> None:
        raise error(Reason.OUTCOME_UNKNOWN)

    spy = Spy(people.store, None if reached_the_disk else lose)
    spy.after = lose
    assert reason_of(ACTS[act], people, namespace_id) is Reason.OUTCOME_UNKNOWN
    spy.stop()
    unfelt = act in ("begin login", "rehash")
    assert people.epochs.of(namespace_id) == epoch + (not unfelt)
    assert people.members._changes._turns == {}


def test_after_an_unknown_outcome_of_a_removal_the_marks_are_read_again(people, acme):
    people.member("ann", acme)
    add_token(people, acme, service_token("ann"))
    epoch = people.epochs.of(acme)

    def lose(_commit: Commit) -> None:
        raise error(Reason.OUTCOME_UNKNOWN)

    Spy(people.store, lose)
    assert reason_of(people.members.delete, acme, "ann") is Reason.OUTCOME_UNKNOWN
    assert people.reloads == 1 and people.marks == [] and people.epochs.of(acme) == epoch + 1


@pytest.mark.parametrize("reason", [Reason.DISK_FULL, Reason.READ_ONLY_STORE, Reason.WRITE_STALL])
@pytest.mark.parametrize("act", ACTS)
def test_a_refused_commit_changes_nothing_and_moves_nothing(people, act, reason):
    namespace_id = populated(people)
    before, epoch = picture(people, namespace_id), people.epochs.of(namespace_id)
    people.store.fail_commits_with = error(reason)
    assert reason_of(ACTS[act], people, namespace_id) is reason
    people.store.fail_commits_with = None
    assert picture(people, namespace_id) == before and people.epochs.of(namespace_id) == epoch


def test_a_write_past_the_lock_is_noticed_and_refused(people, acme):
    made = people.member("ann", acme)
    meddled = threading.Event()

    def meddle(_commit: Commit) -> None:
        if not meddled.is_set():
            meddled.set()
            people.store.commit(Commit((member_put(acme, made),)))

    Spy(people.store, meddle)
    assert reason_of(people.members.update, acme, "ann", groups=("writers",)) is Reason.INTERNAL
    assert people.members.get(acme, "ann").groups == ()
