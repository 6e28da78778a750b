"""Goal: a guarded commit gets into the namespace it was meant for or not at all, and changes of one namespace take
turns.

Method: the namespace is renamed, dropped and issued again between the look at its record and the commit; the registry
is held when a change is durable and not yet visible. Turns are watched with threads that wait on conditions.
"""

from __future__ import annotations

import threading

import pytest

from prefixdb.catalog import guarded
from prefixdb.catalog.entities import NamespaceState
from prefixdb.catalog.guarded import Changes, commit_guarded
from prefixdb.catalog.room import Room
from prefixdb.catalog.schema import Tag
from prefixdb.errors import Reason, error
from prefixdb.keycodec import system_key
from prefixdb.store.base import Absent, Commit, Delete, Exists, Put
from tests.support.catalog import reason_of, reclaim_by_hand
from tests.support.people import People, Spy


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def acme(people: People) -> int:
    return people.registry.create("acme").id


def put(namespace_id: int, name: bytes = b"k") -> Put:
    return Put(system_key(namespace_id, Tag.LOGIN, name), b"v")


def guarded_put(people: People, namespace_id: int, **more: object):
    return commit_guarded(people.store, people.registry, namespace_id, [put(namespace_id)], **more)  # type: ignore[arg-type]


def test_a_commit_says_what_became_of_it_counting_only_the_callers_guards(people, acme):
    absent, there = Absent(put(acme).key), Exists(put(acme).key)
    done = guarded_put(people, acme, guards=[absent], conditions=[absent])
    assert done.applied and (done.failed_guard, done.failed_condition) == (-1, -1)
    assert done.version == people.store.get(put(acme).key).version
    assert guarded_put(people, acme, guards=[there, absent]).failed_guard == 1
    assert guarded_put(people, acme, guards=[absent, there]).failed_guard == 0
    refused = guarded_put(people, acme, guards=[there], conditions=[there, absent])
    assert (refused.applied, refused.failed_guard, refused.failed_condition) == (False, -1, 1)


@pytest.mark.parametrize(
    ("state", "live", "expected"),
    [
        (NamespaceState.ACTIVE, True, None),
        (NamespaceState.READ_ONLY, True, None),
        (NamespaceState.SUSPENDED, True, None),
        (NamespaceState.BANNED, True, Reason.NAMESPACE_STATE),
        (NamespaceState.BANNED, False, None),
        (NamespaceState.RECLAIMED, True, Reason.NAMESPACE_STATE),
        (NamespaceState.RECLAIMED, False, Reason.NAMESPACE_STATE),
    ],
)
def test_which_states_let_a_commit_in(people, acme, state, live, expected):
    if state in (NamespaceState.READ_ONLY, NamespaceState.SUSPENDED):
        people.registry.suspend(acme, state, "r")
    elif not state.is_live:
        people.registry.ban(acme, by="x")
        if state is NamespaceState.RECLAIMED:
            reclaim_by_hand(people.registry, people.store, people.clock, acme)
    assert reason_of(guarded_put, people, acme, live=live) is expected
    assert (people.store.get(put(acme).key) is not None) == (expected is None)


def test_an_unknown_namespace_is_not_found(people):
    assert reason_of(guarded_put, people, 12345) is Reason.NAMESPACE_NOT_FOUND


def test_a_commit_never_gets_into_another_issue_of_the_number(people, acme):
    done = threading.Event()

    def reissue(_commit: Commit) -> None:
        if not done.is_set():
            done.set()
            people.registry.ban(acme, by="x")
            reclaim_by_hand(people.registry, people.store, people.clock, acme)
            people.registry.create("acme", namespace_id=acme)

    Spy(people.store, reissue)
    assert reason_of(guarded_put, people, acme, live=False) is Reason.NAMESPACE_STATE
    assert people.registry.get(acme).state is NamespaceState.ACTIVE
    assert people.store.get(put(acme).key) is None


def test_a_record_that_changes_without_end_is_an_error_and_not_a_loop(people, acme):
    changes = []

    def relabel(commit: Commit) -> None:
        if commit.mutations == (put(acme),):
            changes.append(commit)
            people.registry.update(acme, labels={"n": str(len(changes))})

    Spy(people.store, relabel)
    assert reason_of(guarded_put, people, acme) is Reason.INTERNAL
    assert len(changes) == guarded._TRIES_MAX


def test_a_change_that_is_durable_and_not_yet_visible_is_waited_for(people, acme):
    durable, show = threading.Event(), threading.Event()

    def hold(commit: Commit) -> None:
        if commit.mutations != (put(acme),):
            durable.set()
            assert show.wait(30)

    spy = Spy(people.store)
    spy.after = hold
    tries = []
    spy.before = lambda commit: tries.append(1) if commit.mutations == (put(acme),) else None
    renaming = threading.Thread(target=lambda: people.registry.update(acme, name="beta"))
    renaming.start()
    assert durable.wait(30)
    found = []
    writing = threading.Thread(target=lambda: found.append(guarded_put(people, acme)))
    writing.start()
    while not tries:
        threading.Event().wait(0.001)
    show.set()
    renaming.join(30)
    writing.join(30)
    assert found[0].applied and len(tries) == 2


# --- turns -----------------------------------------------------------------------------------------------------------


def test_changes_of_one_namespace_take_turns_and_those_of_others_do_not_wait(people, acme):
    other = people.registry.create("other").id
    changes = Changes(people.store, people.registry, people.epochs)
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with changes.of(acme):
            inside.set()
            assert leave.wait(30)
            order.append("first")

    def second() -> None:
        with changes.of(acme):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    while changes._turns[acme].wanted < 2:
        threading.Event().wait(0.001)
    with changes.of(other):
        order.append("other")
    leave.set()
    for thread in threads:
        thread.join(30)
    assert order == ["other", "first", "second"] and changes._turns == {}


def test_the_epoch_moves_once_before_the_lock_is_free_and_only_when_something_was_changed(people, acme):
    changes = Changes(people.store, people.registry, people.epochs)
    turns = []
    people.epochs.add_listener(lambda namespace_id: turns.append((namespace_id, set(changes._turns))))
    with changes.of(acme):
        pass
    with changes.of(acme) as change:
        change.commit([put(acme)], felt=False)
    with changes.of(acme) as change:
        assert not change.commit([put(acme)], guards=[Absent(put(acme).key)]).applied
    assert turns == []
    with changes.of(acme) as change:
        change.commit([put(acme)])
        change.commit([put(acme, b"two")], felt=False)
        assert turns == []
    assert turns == [(acme, {acme})]
    assert changes._turns == {}


def test_a_change_that_fails_after_it_wrote_moves_the_epoch_too(people, acme):
    changes = Changes(people.store, people.registry, people.epochs)
    epoch = people.epochs.of(acme)

    def change() -> None:
        with changes.of(acme) as held:
            held.commit([put(acme)])
            raise error(Reason.QUOTA_EXCEEDED)

    assert reason_of(change) is Reason.QUOTA_EXCEEDED
    assert people.epochs.of(acme) == epoch + 1 and changes._turns == {}


# --- room ------------------------------------------------------------------------------------------------------------


def test_room_is_never_more_than_there_is_whatever_comes_and_goes(people, acme):
    room = Room(people.store, people.registry, Tag.LOGIN, 4, "things")
    names: list[bytes] = []
    for step in range(200):
        full = len(names) >= 4
        assert reason_of(room.take, acme) is (Reason.QUOTA_EXCEEDED if full else None)
        if not full and step % 5 != 4:  # Every fifth addition fails after its room was taken.
            names.append(b"%d" % step)
            people.store.commit(Commit((put(acme, names[-1]),)))
        elif full:
            for name in names[: 1 + step % 4]:
                people.store.commit(Commit((Delete(put(acme, name).key),)))
            del names[: 1 + step % 4]


def test_room_is_counted_anew_for_another_issue_of_the_number(people, acme):
    room = Room(people.store, people.registry, Tag.LOGIN, 3, "things")
    room.take(acme)
    people.registry.ban(acme, by="x")
    reclaim_by_hand(people.registry, people.store, people.clock, acme)
    people.registry.create("acme", namespace_id=acme)
    people.store.commit(Commit((put(acme, b"1"), put(acme, b"2"), put(acme, b"3"))))
    assert reason_of(room.take, acme) is Reason.QUOTA_EXCEEDED


def test_forgotten_room_is_counted_again(people, acme, monkeypatch):
    monkeypatch.setattr("prefixdb.catalog.room._REMEMBERED_MAX", 2)
    room = Room(people.store, people.registry, Tag.LOGIN, 2, "things")
    ids = [acme, *(people.registry.create(f"n{number}").id for number in range(4))]
    for namespace_id in ids * 2:
        room.take(namespace_id)
        people.store.commit(Commit((put(namespace_id, str(len(room._left)).encode()),)))
        assert len(room._left) <= 2
