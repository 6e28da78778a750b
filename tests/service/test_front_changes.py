"""Goal: whoever changes anything that an admission depends on is answered only after the front was told, and the front
is told only after the change is in force; changes that concern nobody disturb nobody.

Method: tokens of every kind are admitted by ``Answers`` into a front that keeps what it was given. Then something is
changed. The one property: whatever the front would still serve is word for word what a look at the token from scratch
finds now. It is asked in the moment the change returns to its maker, and in the moment the front is told. The table of
changes has every method of the catalog that writes; at the end they are made in random order.
"""

from __future__ import annotations

import inspect
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prefixdb.catalog.entities import GrantEffect, Guardian, NamespaceState, Privilege, Rule
from prefixdb.catalog.grants import Grants
from prefixdb.catalog.groups import Groups
from prefixdb.catalog.issuers import Issuers
from prefixdb.catalog.keyring import Keyring
from prefixdb.catalog.logins import Logins
from prefixdb.catalog.members import Members
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.staging import Staging
from prefixdb.catalog.tokens import TokenAuthority, TokenRequest
from prefixdb.errors import OutcomeUnknownError, PrefixdbError, Reason
from prefixdb.service.answers import AnswerParts, Answers, watch
from prefixdb.service.sessions import Sessions
from tests.security.forging_issuers import make_key, published
from tests.security.forging_kinds import HASH, Crowd
from tests.support.catalog import reclaim_by_hand
from tests.support.fake_front import FakeFront
from tests.support.people import Spy

READ_A = (Rule(None, b"a", read=True, write=False),)


class Scene(Crowd):
    """Everybody has a token that the front has; see ``check``."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        world = self.world
        self.registry, self.authority, self.clock = world.registry, world.authority, world.clock
        self.identities = self.authority.identities
        self.gina = self.identities.members.create(0, "gina", password_hash=HASH, groups=("guardians",))
        self.gina_login = self.login(0, self.gina)
        self.identities.members.create(0, "greta", password_hash=HASH, groups=("guardians",))
        self.identities.groups.create(7, "some", READ_A)
        self.identities.groups.create(8, "some", READ_A)
        self.tokens = {name: kind.token for name, kind in self.kinds().items() if name != "refresh"}
        self.tokens |= {
            "beta": world.local(8, "bea", groups=("writers", "some")),
            "root": world.operator_token(),
            "gina": self.authority.access_token(self.gina_login, self.gina, self.home, self.home).token,
            "grouped": world.local(7, "gert", groups=("some",)),
        }
        self.front = FakeFront()
        watch(self.front, self.registry, self.authority)
        gate = SimpleNamespace(closed=None)
        sessions = Sessions(self.authority, self.registry, self.clock)
        self.answers = Answers(self.front, AnswerParts(sessions, self.registry, gate, lambda *_: None, lambda *_: None))
        self.numbers: dict[str, int] = {}

    def admit_all(self) -> None:
        for name, token in self.tokens.items():
            self.numbers[name] = self.front.ask("admit", token, "")
        self.answers.answer()

    def from_scratch(self, name: str) -> dict[str, Any] | str:
        """Look at a token as if for the first time: what the front would be given, or why not."""
        front = FakeFront()
        sessions = Sessions(self.authority, self.registry, self.clock)
        answers = Answers(front, AnswerParts(sessions, self.registry, SimpleNamespace(closed=None), None, None))
        number = front.ask("admit", self.tokens[name], "")
        answers.answer()
        return front.held[number].said if number in front.held else front.refused[number]["name"]

    def served(self) -> set[str]:
        """Whom the front would still serve."""
        return {name for name, number in self.numbers.items() if self.front.holds(number)}

    def check(self) -> None:
        """What the front would still serve is what is true now."""
        for name in self.served():
            assert self.front.held[self.numbers[name]].said == self.from_scratch(name), name


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@dataclass(frozen=True)
class Change:
    """act: what is done. stale: whose sessions must not be served afterwards; None when it is told of everyone.
    before: what has to be done first, before tokens are admitted."""

    act: Callable[[Scene], object]
    stale: frozenset[str] | None
    before: Callable[[Scene], object] = lambda _scene: None


OF_ACME = frozenset({"member", "guest", "service", "minted", "foreign", "grouped"})
OF_BETA = frozenset({"beta"})
ON_0 = frozenset({"guest", "minted", "root", "gina"})
NOBODY: frozenset[str] = frozenset()


def remove_old_key(s: Scene) -> None:
    s.world.keyring.remove(next(key.kid for key in s.world.keyring.verifying_keys() if key.verify_until_ms))


def spend_twice(s: Scene) -> None:
    spent = s.ann_login.refresh_jti
    s.identities.logins.rotate(7, "ann", s.ann_login.family, spent)
    with pytest.raises(PrefixdbError):
        s.identities.logins.rotate(7, "ann", s.ann_login.family, spent)


def begin_too_many(s: Scene) -> None:
    for _ in range(64):
        s.login(7, s.ann)


def jti_of(s: Scene, subject: str) -> str:
    return next(record.jti for record in s.authority.list(7) if record.subject == subject)


def settings(s: Scene, **changed: Any) -> None:
    s.issuer.settings |= changed
    from tests.security.forging_issuers import write_issuers

    write_issuers(s.world.issuers_file, s.issuer)
    assert s.world.issuers.reload()


def stage_one(s: Scene) -> None:
    s.reservation = s.registry.staging.reserve("gamma", 9)
    s.staged = s.registry.staging.stage(s.reservation, by="root", reason="restore")


CHANGES: dict[str, Change] = {
    # namespaces
    "Registry.create": Change(lambda s: s.registry.create("delta", namespace_id=10), NOBODY),
    "Registry.update, name": Change(lambda s: s.registry.update(7, name="acme2"), OF_ACME),
    "Registry.update, labels": Change(lambda s: s.registry.update(7, labels={"a": "b"}), OF_ACME),
    "Registry.update, labels of namespace 0": Change(lambda s: s.registry.update(0, labels={"a": "b"}), ON_0),
    "Registry.suspend": Change(lambda s: s.registry.suspend(7, NamespaceState.SUSPENDED), OF_ACME),
    "Registry.suspend, read only": Change(lambda s: s.registry.suspend(8, NamespaceState.READ_ONLY), OF_BETA),
    "Registry.resume": Change(
        lambda s: s.registry.resume(8), OF_BETA, lambda s: s.registry.suspend(8, NamespaceState.READ_ONLY)
    ),
    "Registry.ban": Change(lambda s: s.registry.ban(7, by="root", grace_ms=1000), OF_ACME),
    "Registry.unban": Change(
        lambda s: s.registry.unban(7), OF_ACME, lambda s: s.registry.ban(7, by="root", grace_ms=1000)
    ),
    "Registry.mark_reclaims_started, mark_reclaimed": Change(
        lambda s: reclaim_by_hand(s.registry, s.world.store, s.clock, 7),
        OF_ACME,
        lambda s: s.registry.ban(7, by="root"),
    ),
    "Staging.reserve, stage": Change(stage_one, NOBODY),
    "Staging.finish": Change(lambda s: s.registry.staging.finish(s.reservation, s.staged), NOBODY, stage_one),
    "Staging.abandon": Change(lambda s: s.registry.staging.abandon(s.reservation, "no"), NOBODY, stage_one),
    # members
    "Members.create": Change(lambda s: s.identities.members.create(7, "bob", password_hash=HASH), OF_ACME),
    "Members.update, groups": Change(lambda s: s.identities.members.update(7, "ann", groups=("writers",)), OF_ACME),
    "Members.update, disabled": Change(lambda s: s.identities.members.update(7, "ann", disabled=True), OF_ACME),
    "Members.update, a guest disabled": Change(lambda s: s.identities.members.update(0, "gus", disabled=True), ON_0),
    "Members.update, out of office": Change(lambda s: s.identities.members.update(0, "gina", groups=()), ON_0),
    "Members.update, privileges": Change(
        lambda s: s.identities.members.update(0, "gus", privileges=(Privilege.BACKUP,)), ON_0
    ),
    "Members.set_password": Change(lambda s: s.identities.members.set_password(7, "ann", HASH + "2"), OF_ACME),
    "Members.set_password, of a guest": Change(lambda s: s.identities.members.set_password(0, "gus", HASH + "2"), ON_0),
    "Members.rehash": Change(
        lambda s: s.identities.members.rehash(7, "ann", old_hash=HASH, new_hash=HASH + "2"), NOBODY
    ),
    "Members.delete": Change(lambda s: s.identities.members.delete(7, "ann"), OF_ACME),
    "Members.delete, a guest": Change(lambda s: s.identities.members.delete(0, "gus"), ON_0),
    # groups
    "Groups.create": Change(lambda s: s.identities.groups.create(8, "others", READ_A), OF_BETA),
    "Groups.update": Change(
        lambda s: s.identities.groups.update(7, "some", (Rule(3, b"", read=True, write=True),)), OF_ACME
    ),
    "Groups.delete": Change(lambda s: s.identities.groups.delete(7, "some"), OF_ACME),
    # grants
    "Grants.set, wider": Change(
        lambda s: s.identities.grants.set("gus", s.acme, GrantEffect.ALLOW, ("writers",)), ON_0
    ),
    "Grants.set, denied": Change(lambda s: s.identities.grants.set("gus", None, GrantEffect.DENY), ON_0),
    "Grants.delete": Change(lambda s: s.identities.grants.delete("gus", 7), ON_0),
    # logins
    "Logins.begin": Change(lambda s: s.login(7, s.ann), NOBODY),
    "Logins.begin, one too many": Change(begin_too_many, OF_ACME),
    "Logins.rotate": Change(
        lambda s: s.identities.logins.rotate(7, "ann", s.ann_login.family, s.ann_login.refresh_jti), NOBODY
    ),
    "Logins.rotate, a spent one": Change(spend_twice, OF_ACME),
    "Logins.end": Change(lambda s: s.identities.logins.end(7, "ann", s.ann_login.family), OF_ACME),
    "Logins.end, of a guest": Change(lambda s: s.identities.logins.end(0, "gus", s.gus_login.family), ON_0),
    "Logins.end_all": Change(lambda s: s.identities.logins.end_all(7, "ann"), OF_ACME),
    # tokens
    "TokenAuthority.issue_locally": Change(lambda s: s.world.local(7, "x"), NOBODY),
    "TokenAuthority.issue": Change(
        lambda s: s.authority.issue(TokenRequest(7, "y", (), ttl_s=60), s.world.admit(s.tokens["root"])), NOBODY
    ),
    "TokenAuthority.revoke_jti": Change(lambda s: s.authority.revoke_jti(7, jti_of(s, "robot")), OF_ACME),
    "TokenAuthority.revoke_subject": Change(lambda s: s.authority.revoke_subject(7, "ann"), OF_ACME),
    "TokenAuthority.revoke_subject, who minted": Change(lambda s: s.authority.revoke_subject(0, "guardian"), ON_0),
    "TokenAuthority.revoke_namespace": Change(lambda s: s.authority.revoke_namespace(8), OF_BETA),
    "TokenAuthority.revoke_everyone": Change(lambda s: s.authority.revoke_everyone(), None),
    # keys
    "Keyring.rotate": Change(lambda s: s.world.keyring.rotate(), None),
    "Keyring.remove": Change(remove_old_key, None, lambda s: s.world.keyring.rotate()),
    "Issuers.reload, another key": Change(
        lambda s: (s.issuer.publish(published(make_key("ES256", "new"))), s.world.issuers.reload()), None
    ),
    "Issuers.reload, other groups": Change(lambda s: settings(s, groups=["writers"]), None),
    "Issuers.reload, other namespaces": Change(lambda s: settings(s, namespaces=["beta"]), None),
}

READS = {
    Registry: {"get", "find", "page", "counts", "ban_of", "undone_bans", "due_bans", "begun_bans", "bans", "guard",
               "next_grace_end_ms", "last_report", "settle", "held", "add_listener", "add_exact_listener"},
    Staging: {"is_building", "is_whole", "dropped"},
    Members: {"get", "page"},
    Groups: {"get", "page"},
    Grants: {"page", "position", "decide", "is_held_back", "usable"},
    Logins: {"get"},
    Keyring: {"add_listener", "signing_kid", "verifying_keys", "find", "sign"},
    Issuers: {"version", "problems", "add_listener", "get", "find", "vouches"},
    TokenAuthority: {"keyring", "add_listener", "epoch_of", "verify", "read_refresh", "session", "anonymous_session",
                     "check_still_valid", "access_token", "refresh_token", "prepare_guardian", "sign", "list"},
}  # fmt: skip
"""What changes nothing that is kept, of every part of the catalog that keeps what admissions are made from."""


def test_every_method_that_changes_something_is_in_the_table():
    for part, reads in READS.items():
        public = {name for name, _ in inspect.getmembers(part) if not name.startswith("_")}
        writes = {f"{part.__name__}.{name}" for name in public - reads}
        said = {
            f"{entry.split('.')[0]}.{name.strip()}"
            for entry in CHANGES
            for name in entry.split(".")[1].split(",")[: 2 if "mark_" in entry or "stage" in entry else 1]
        }
        assert writes <= said, writes - said
        assert reads <= public, reads - public


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_who_changes_something_is_answered_after_the_front_was_told_what_is_in_force(scene, change):
    change.before(scene)
    scene.admit_all()
    assert scene.served() == {name for name in scene.tokens if not isinstance(scene.from_scratch(name), str)}
    served = scene.served()
    scene.front.told.clear()
    scene.numbers = {name: number for name, number in scene.numbers.items() if name in served}
    for held in scene.front.held.values():
        held.stamp = 0
    at_that_moment: dict[str, Any] = {}

    def look(_namespace_id: int | None) -> None:
        at_that_moment.update({name: scene.from_scratch(name) for name in scene.tokens})

    scene.front.on_change = look
    change.act(scene)
    scene.check()
    assert scene.served() == served - (set(scene.tokens) if change.stale is None else change.stale)
    if at_that_moment:
        assert at_that_moment == {name: scene.from_scratch(name) for name in scene.tokens}
    else:
        assert not change.stale and change.stale is not None


def test_whatever_is_done_in_whatever_order_nothing_old_is_served(scene):
    random_ = random.Random(20_240_229)
    done = 0
    for _ in range(150):
        change = random_.choice([*CHANGES.values()])
        for name in random_.sample(sorted(scene.tokens), 4):  # Some are old, some are new.
            scene.numbers[name] = scene.front.ask("admit", scene.tokens[name], "")
        scene.answers.answer()
        for act in (change.before, change.act):
            try:
                act(scene)
                done += 1
            except (PrefixdbError, AttributeError, StopIteration, AssertionError):
                pass  # Nothing to do it to by now.
            scene.check()
        if random_.random() < 0.1:
            scene.clock.advance(60_000)
    assert done > 50


# --- the moment ----------------------------------------------------------------------------------------------------


SECONDS: dict[str, Callable[[Scene], object]] = {
    "a ban": lambda s: s.registry.ban(7, by="root", grace_ms=1000),
    "a suspension": lambda s: s.registry.suspend(7, NamespaceState.SUSPENDED),
    "a member is disabled": lambda s: s.identities.members.update(7, "ann", disabled=True),
    "a group is changed": lambda s: s.identities.groups.update(7, "some", ()),
    "a member goes": lambda s: s.identities.members.delete(7, "ann"),
    "a login ends": lambda s: s.identities.logins.end_all(7, "ann"),
    "a token is revoked": lambda s: s.authority.revoke_jti(7, jti_of(s, "robot")),
    "a namespace's tokens are revoked": lambda s: s.authority.revoke_namespace(7),
}


@pytest.mark.parametrize("act", SECONDS.values(), ids=SECONDS.keys())
def test_who_comes_second_with_the_same_change_is_not_answered_before_the_front_was_told(scene, act):
    """The first one's change is in force already, and the second one need change nothing; still both are promised the
    same."""
    scene.admit_all()
    told, answered = threading.Event(), threading.Event()
    seconds: list[threading.Thread] = []
    mistakes: list[str] = []

    def second() -> None:
        try:
            act(scene)
        except PrefixdbError as refusal:
            assert refusal.reason in (Reason.MEMBER_NOT_FOUND,)
        if scene.served() & OF_ACME:
            mistakes.append("served after the second was answered")
        answered.set()

    def slow(_namespace_id: int | None) -> None:
        if not seconds:
            del scene.front.told[-1]  # As if it were still on its way to the loops.
            seconds.append(threading.Thread(target=second))
            seconds[0].start()
            answered.wait(0.2)
            scene.front.told.append(7)
            told.set()

    scene.front.on_change = slow
    act(scene)
    assert told.is_set()
    seconds[0].join(10)
    assert answered.is_set() and mistakes == []


@pytest.mark.parametrize("reached_the_disk", [True, False])
@pytest.mark.parametrize(
    "act",
    [
        lambda s: s.registry.ban(7, by="root"),
        lambda s: s.identities.members.update(7, "ann", disabled=True),
        lambda s: s.authority.revoke_subject(7, "robot"),
        lambda s: s.world.keyring.rotate(),
        remove_old_key,
    ],
    ids=["ban", "member", "revoke", "rotate", "remove key"],
)
def test_a_change_of_which_nobody_knows_whether_it_was_made_is_told_when_it_was(scene, act, reached_the_disk):
    scene.world.keyring.rotate()
    scene.admit_all()
    spy = Spy(scene.world.store)

    def lose(_commit: object) -> None:
        raise OutcomeUnknownError(Reason.OUTCOME_UNKNOWN)

    if reached_the_disk:
        spy.after = lose
    else:
        spy.before = lose
    with pytest.raises(OutcomeUnknownError):
        act(scene)
    spy.stop()
    scene.check()


@pytest.mark.parametrize("act", [remove_old_key, lambda s: s.world.keyring.rotate()], ids=["remove", "rotate"])
def test_a_disk_that_fails_after_the_change_of_keys_hides_it_from_nobody(scene, act, monkeypatch):
    scene.world.keyring.rotate()
    scene.admit_all()

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "unlink", broken)
    with pytest.raises(OSError, match="Input/output"):
        act(scene)
    assert scene.served() == set()
    scene.check()


def test_guests_in_many_namespaces_cost_nobody_else_a_second_look(scene):
    """A change in namespace 0 is nothing to a tenant's own members: the exact listener says 0, not everyone."""
    scene.admit_all()
    scene.identities.members.create(0, "new", password_hash=HASH)
    assert scene.served() == set(scene.tokens) - ON_0
    assert scene.front.told[-1] == 0


def test_a_second_guardian_of_a_minted_token_is_told(scene):
    """What a minted token issued hangs on the same guardian."""
    minted = scene.world.admit(scene.tokens["minted"])
    assert minted.minted and minted.guardian is Guardian.NONE
    scene.admit_all()
    scene.authority.revoke_namespace(0)
    assert not scene.served() & ON_0
    assert scene.from_scratch("minted") == "TOKEN_REVOKED"
