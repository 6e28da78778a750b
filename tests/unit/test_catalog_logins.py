"""Goal: a refresh token works once, a login ends for good, and no login begins with a password that is none any more.

Method: logins over the model store with a held clock; races are made at the commit, and the table of what a presented
token does is walked through for every way a login can have gone.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from prefixdb import limits
from prefixdb.catalog.logins import RefreshReusedError
from prefixdb.catalog.member_records import login_key
from prefixdb.catalog.schema import Tag
from prefixdb.errors import PrefixdbError, Reason, UnauthenticatedError
from prefixdb.rpcstatus import to_status
from prefixdb.store.base import Commit
from tests.support.catalog import reason_of
from tests.support.people import HASH, OTHER_HASH, People, Spy, issue

LIFE_MS = limits.REFRESH_TOKEN_S * 1000
LEEWAY_MS = limits.TOKEN_LEEWAY_S * 1000


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def acme(people: People) -> int:
    return people.registry.create("acme").id


def begin(people: People, namespace_id: int, name: str = "ann"):
    member = people.members.get(namespace_id, name) or people.member(name, namespace_id)
    return people.logins.begin(namespace_id, member, issue(people.registry.get(namespace_id)))


def test_a_login_reads_back_as_it_was_returned(people, acme):
    made = begin(people, acme)
    now_ms = people.clock.now_ms()
    assert (made.member, made.into, made.created_at_ms) == ("ann", issue(people.registry.get(acme)), now_ms)
    assert made.expires_at_ms == now_ms + LIFE_MS
    people.reopen()
    assert people.logins.get(acme, "ann", made.family) == made
    assert people.logins.get(acme, "bob", made.family) is None and people.logins.get(0, "ann", made.family) is None


def test_every_login_has_ids_of_its_own(people, acme):
    made = [begin(people, acme) for _ in range(20)]
    assert len({login.family for login in made} | {login.refresh_jti for login in made}) == 40
    assert all(len(login.family) >= 32 for login in made)


# --- beginning -------------------------------------------------------------------------------------------------------

CHANGES = {
    "a removal": lambda p, n: p.members.delete(n, "ann"),
    "disabling": lambda p, n: p.members.update(n, "ann", disabled=True),
    "a new password": lambda p, n: p.members.set_password(n, "ann", OTHER_HASH),
    "a removal and another of the name": lambda p, n: (
        p.members.delete(n, "ann"),
        p.members.create(n, "ann", password_hash=OTHER_HASH),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_no_login_begins_with_a_password_that_is_none_any_more(people, acme, what):
    proven = people.member("ann", acme)
    CHANGES[what](people, acme)
    into = issue(people.registry.get(acme))
    assert reason_of(people.logins.begin, acme, proven, into) is Reason.BAD_CREDENTIALS
    assert people.rows(acme, Tag.LOGIN) == []


def test_what_does_not_touch_the_password_does_not_touch_a_login_that_begins(people, acme):
    proven = people.member("ann", acme)
    people.members.update(acme, "ann", groups=("writers",))
    assert people.logins.begin(acme, proven, issue(people.registry.get(acme))).member == "ann"


def test_a_member_of_that_name_elsewhere_proves_nothing(people, acme):
    proven = people.member("ann", 0)
    assert reason_of(people.logins.begin, acme, proven, issue(people.registry.get(acme))) is Reason.BAD_CREDENTIALS


def test_the_oldest_login_ends_for_one_too_many_in_the_same_commit(people, acme, monkeypatch):
    monkeypatch.setattr(limits, "LOGINS_PER_MEMBER_MAX", 3)
    made = []
    for _ in range(3):
        made.append(begin(people, acme))
        people.clock.advance(1)
    bobs = begin(people, acme, "bob")
    people.logins.rotate(acme, "ann", made[0].family, made[0].refresh_jti)
    epoch = people.epochs.of(acme)
    spy = Spy(people.store)
    made.append(begin(people, acme))
    assert len(spy.commits) == 1 and people.epochs.of(acme) == epoch + 1
    alive = [login for login in made if people.logins.get(acme, "ann", login.family)]
    assert alive == made[1:]
    assert people.logins.get(acme, "bob", bobs.family) == bobs


def test_the_limit_of_logins_is_the_published_one(people, acme):
    for _ in range(limits.LOGINS_PER_MEMBER_MAX + 5):
        begin(people, acme)
        people.clock.advance(1)
    assert len(people.rows(acme, Tag.LOGIN)) == limits.LOGINS_PER_MEMBER_MAX


# --- rotating --------------------------------------------------------------------------------------------------------


def test_a_refresh_gives_the_next_token_and_a_new_life(people, acme):
    first = begin(people, acme)
    people.clock.advance(LIFE_MS - 1)
    second = people.logins.rotate(acme, "ann", first.family, first.refresh_jti)
    assert second == replace(first, refresh_jti=second.refresh_jti, expires_at_ms=people.clock.now_ms() + LIFE_MS)
    assert second.refresh_jti != first.refresh_jti
    assert people.logins.get(acme, "ann", first.family) == second
    people.clock.advance(LIFE_MS - 1)
    people.logins.rotate(acme, "ann", first.family, second.refresh_jti)


def test_a_refresh_makes_nobody_look_again(people, acme):
    first = begin(people, acme)
    epoch = people.epochs.of(acme)
    people.logins.rotate(acme, "ann", first.family, first.refresh_jti)
    assert people.epochs.of(acme) == epoch


def test_a_spent_token_that_comes_again_ends_the_login_for_both_who_have_it(people, acme):
    first = begin(people, acme)
    other = begin(people, acme)
    claims = people.login(people.members.get(acme, "ann"), acme)
    second = people.logins.rotate(acme, "ann", first.family, first.refresh_jti)
    epoch = people.epochs.of(acme)
    with pytest.raises(RefreshReusedError):
        people.logins.rotate(acme, "ann", first.family, first.refresh_jti)
    assert people.epochs.of(acme) == epoch + 1
    assert people.logins.get(acme, "ann", first.family) is None
    with pytest.raises(UnauthenticatedError) as caught:
        people.logins.rotate(acme, "ann", first.family, second.refresh_jti)
    assert not isinstance(caught.value, RefreshReusedError)
    assert people.logins.get(acme, "ann", other.family) == other
    people.identities.standing(claims)


def test_who_presents_a_spent_token_learns_no_more_than_who_presents_a_dead_one(people, acme):
    first = begin(people, acme)
    people.logins.rotate(acme, "ann", first.family, first.refresh_jti)
    answers = []
    for _ in range(2):
        with pytest.raises(PrefixdbError) as caught:
            people.logins.rotate(acme, "ann", first.family, first.refresh_jti)
        answers.append(to_status(caught.value))
    assert answers[0] == answers[1]


def test_of_two_refreshes_at_once_one_spends_and_the_other_is_reuse(people, acme):
    first = begin(people, acme)
    inside, go_on = threading.Event(), threading.Event()
    found: list[object] = []

    def wait(_commit: Commit) -> None:
        if not inside.is_set():
            inside.set()
            assert go_on.wait(30)

    def refresh() -> None:
        try:
            found.append(people.logins.rotate(acme, "ann", first.family, first.refresh_jti))
        except PrefixdbError as refusal:
            found.append(refusal)

    Spy(people.store, wait)
    threads = [threading.Thread(target=refresh) for _ in range(2)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert sorted(type(each).__name__ for each in found) == ["LoginRecord", "RefreshReusedError"]
    assert people.logins.get(acme, "ann", first.family) is None


ENDS = {
    "logout": lambda p, n, login: p.logins.end(n, "ann", login.family),
    "logout everywhere": lambda p, n, login: p.logins.end_all(n, "ann"),
    "a new password": lambda p, n, login: p.members.set_password(n, "ann", OTHER_HASH),
    "disabling": lambda p, n, login: p.members.update(n, "ann", disabled=True),
    "a removal": lambda p, n, login: p.members.delete(n, "ann"),
    "time": lambda p, n, login: p.clock.advance(LIFE_MS + LEEWAY_MS),
    "reuse": lambda p, n, login: reason_of(p.logins.rotate, n, "ann", login.family, "another"),
}


@pytest.mark.parametrize("what", ENDS)
def test_an_ended_login_is_gone_with_its_tokens_and_takes_no_other_members(people, acme, what):
    people.member("bob", acme)
    bobs = people.login(people.members.get(acme, "bob"), acme)
    claims = people.login(people.member("ann", acme), acme)
    login = people.logins.get(acme, "ann", claims.family)
    people.identities.standing(claims)
    epoch = people.epochs.of(acme)
    ENDS[what](people, acme, login)
    assert people.logins.get(acme, "ann", login.family) is None
    assert reason_of(people.identities.standing, claims) is Reason.TOKEN_REVOKED
    assert reason_of(people.logins.rotate, acme, "ann", login.family, login.refresh_jti) is Reason.TOKEN_REVOKED
    if what != "time":
        assert people.epochs.of(acme) == epoch + 1
        people.identities.standing(bobs)


def test_a_login_lives_up_to_the_last_millisecond_of_its_refresh_token_and_the_leeway(people, acme):
    login = begin(people, acme)
    people.clock.advance(LIFE_MS + LEEWAY_MS - 1)
    assert people.logins.get(acme, "ann", login.family) == login
    people.clock.advance(1)
    assert people.logins.get(acme, "ann", login.family) is None


def test_logging_out_twice_or_of_nothing_is_harmless(people, acme):
    login = begin(people, acme)
    others = begin(people, acme)
    people.logins.end(acme, "ann", login.family)
    version = people.store.status().last_version
    people.logins.end(acme, "ann", login.family)
    people.logins.end(acme, "nobody", login.family)
    people.logins.end_all(acme, "nobody")
    assert people.store.status().last_version == version
    assert people.logins.get(acme, "ann", others.family) == others


def test_logging_out_everywhere_ends_the_members_own_logins_only(people, acme):
    names = ["ann", "an", "ann.b", "ann+"]
    made = {name: [begin(people, acme, name) for _ in range(2)] for name in names}
    people.logins.end_all(acme, "ann")
    for name in names:
        alive = [people.logins.get(acme, name, login.family) is not None for login in made[name]]
        assert alive == [name != "ann"] * 2


def test_a_login_holds_no_secret_of_the_member(people, acme):
    login = begin(people, acme)
    assert HASH.encode() not in people.store.get(login_key(acme, "ann", login.family)).payload
