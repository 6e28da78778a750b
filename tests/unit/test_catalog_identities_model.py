"""Goal: whatever guardians do, in whatever order, with restarts and lost outcomes in between, members, groups, grants
and logins are what a model of a few dicts says.

Method: random acts on two tenants and namespace 0 run against the catalog and the model; refusals must be equal, and
every few steps everything that can be read is compared, with the standing of every login there ever was. Now and then
the server restarts, or a commit's outcome is lost: then the store must equal the model either before or after the act,
wholly. Most runs are over the model store, one over each real one. A failing run prints its seed.
"""

from __future__ import annotations

import random

import pytest

from prefixdb.catalog.entities import GrantEffect, Guardian, NamespaceRecord, Rule
from prefixdb.catalog.schema import Tag
from prefixdb.errors import OutcomeUnknownError, PrefixdbError, Reason, error
from prefixdb.store.base import Commit
from tests.store.stores import DURABLE, Harness
from tests.support.people import Bearer, People, Spy, issue
from tests.unit.people_model import Model, Person, Rules

NAMES = ["ann", "an", "ann.b", "bob"]
GROUPS = ["guardians", "writers", "readers", "team", "team.b"]
STEPS = 400


class Run:
    """One random run. ``families``: every login there ever was, as (home, member, family, refresh tokens in order).
    ``admitted``: standings that were found; ``guests``: those of guests among them."""

    def __init__(self, seed: int, harness: Harness) -> None:
        self.rng = random.Random(seed)
        self.harness = harness
        self.world = People(harness.store, harness.clock)
        self.places: list[NamespaceRecord] = [
            self.world.registry.get(0),
            self.world.registry.create("one"),
            self.world.registry.create("two"),
        ]
        self.model = Model()
        self.admitted = self.guests = 0
        self.families: list[tuple[int, str, str, list[str]]] = []

    # --- random things ---------------------------------------------------------------------------------------------

    def home(self) -> int:
        return self.rng.choice([0, 0, 1, 2])

    def some_groups(self) -> tuple[str, ...]:
        return tuple(self.rng.sample(GROUPS, self.rng.randint(0, 3)))

    def some_rules(self) -> Rules:
        rights = [(True, False), (False, True), (True, True)]
        drawn = [
            (self.rng.choice([None, 0, 7]), self.rng.choice([b"", b"a"]), *self.rng.choice(rights))
            for _ in range(self.rng.randint(0, 3))
        ]
        return tuple(dict.fromkeys(drawn))

    # --- acts ------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        weights = {
            self.create: 5,
            self.update: 8,
            self.password: 1,
            self.delete: 1,
            self.group: 6,
            self.grant: 8,
            self.begin: 12,
            self.rotate: 8,
            self.end: 2,
            self.restart: 1,
        }
        self.rng.choices(list(weights), list(weights.values()))[0]()

    def restart(self) -> None:
        self.world.store = self.harness.reopen()
        self.world.reopen()

    def create(self) -> None:
        home, name, groups = self.home(), self.rng.choice(NAMES), self.some_groups()
        password = self.rng.choice(["", "h1", "h1", "h1"])
        self.both(
            lambda model: model.create(home, name, groups, password),
            lambda w: w.members.create(self.id(home), name, groups=groups, password_hash=password),
        )

    def update(self) -> None:
        home, name = self.home(), self.rng.choice(NAMES)
        groups = self.rng.choice([None, self.some_groups()])
        disabled = self.rng.choices([None, False, True], [8, 3, 1])[0]
        self.both(
            lambda model: model.update(home, name, groups, disabled),
            lambda w: w.members.update(self.id(home), name, groups=groups, disabled=disabled),
        )

    def password(self) -> None:
        home, name, password = self.home(), self.rng.choice(NAMES), self.rng.choice(["h1", "h2"])
        self.both(
            lambda model: model.set_password(home, name, password),
            lambda w: w.members.set_password(self.id(home), name, password),
        )

    def delete(self) -> None:
        home, name = self.home(), self.rng.choice(NAMES)
        self.both(lambda model: model.delete(home, name), lambda w: w.members.delete(self.id(home), name))

    def group(self) -> None:
        home, name, rules = self.home(), self.rng.choice(GROUPS), self.some_rules()
        held = tuple(Rule(*rule) for rule in rules)
        kind = self.rng.choice(["make", "make", "change", "drop"])
        if kind == "make":
            self.both(lambda m: m.make_group(home, name, rules), lambda w: w.groups.create(self.id(home), name, held))
        elif kind == "change":
            self.both(lambda m: m.change_group(home, name, rules), lambda w: w.groups.update(self.id(home), name, held))
        else:
            self.both(lambda m: m.drop_group(home, name), lambda w: w.groups.delete(self.id(home), name))

    def grant(self) -> None:
        name, place, groups = self.rng.choice(NAMES), self.rng.choice([1, 1, 2, None]), self.some_groups()
        target = None if place is None else self.places[place]
        if self.rng.random() < 0.25:
            target_id = None if target is None else target.id
            self.both(lambda m: m.take_back(name, place), lambda w: w.grants.delete(name, target_id))
            return
        effect = self.rng.choices([GrantEffect.ALLOW, GrantEffect.DENY], [5, 1])[0]
        groups = groups if self.rng.random() < 0.5 else tuple(g for g in groups if g != "guardians")
        if effect is GrantEffect.DENY and self.rng.random() < 0.9:
            groups = ()
        self.both(
            lambda m: m.grant(name, place, effect is GrantEffect.ALLOW, groups),
            lambda w: w.grants.set(name, target, effect, groups),
        )

    def begin(self) -> None:
        home, name = self.home(), self.rng.choice(NAMES)
        if name not in self.model.people[home]:
            return
        member = self.world.members.get(self.id(home), name)
        expected = self.model.begin(home, name)
        try:
            login = self.world.logins.begin(self.id(home), member, issue(self.places[home]))
        except PrefixdbError as refusal:
            assert refusal.reason is expected
            return
        assert expected is None
        self.model.people[home][name].logins[login.family] = login.refresh_jti
        self.families.append((home, name, login.family, [login.refresh_jti]))

    def rotate(self) -> None:
        if not self.families:
            return
        home, name, family, tokens = self.rng.choice(self.families[-12:])
        presented = tokens[-1] if self.rng.random() < 0.8 else self.rng.choice(tokens)
        expected = self.model.rotate(home, name, family, presented)
        try:
            login = self.world.logins.rotate(self.id(home), name, family, presented)
        except PrefixdbError as refusal:
            assert refusal.reason is expected
            return
        assert expected is None
        self.model.people[home][name].logins[family] = login.refresh_jti
        tokens.append(login.refresh_jti)

    def end(self) -> None:
        if not self.families:
            return
        home, name, family, _ = self.rng.choice(self.families)
        if self.rng.random() < 0.7:
            self.both(lambda m: m.end(home, name, family), lambda w: w.logins.end(self.id(home), name, family))
        else:
            self.both(lambda m: m.end_all(home, name), lambda w: w.logins.end_all(self.id(home), name))

    # --- comparing -------------------------------------------------------------------------------------------------

    def id(self, place: int) -> int:
        return self.places[place].id

    def both(self, on_model, on_world) -> None:
        """Do an act to both; now and then lose the outcome of a commit, applied or not."""
        before = self.model.copy()
        expected = on_model(self.model)
        lost = self.rng.random() < 0.06
        spy = Spy(self.world.store)
        if lost:
            applied = self.rng.random() < 0.5
            setattr(spy, "after" if applied else "before", lose)
        epochs = [self.world.epochs.of(record.id) for record in self.places]
        try:
            on_world(self.world)
            found = None
        except OutcomeUnknownError:
            found = Reason.OUTCOME_UNKNOWN
        except PrefixdbError as refusal:
            found = refusal.reason
        finally:
            spy.stop()
        if found is Reason.OUTCOME_UNKNOWN:
            assert lost and expected is None
            self.model = self.model if applied else before
            self.compare()
            return
        assert found is expected
        moved = [self.world.epochs.of(record.id) for record in self.places] != epochs
        assert moved == (found is None and bool(spy.commits))

    def compare(self) -> None:
        """Compare everything that can be read."""
        for place, record in enumerate(self.places):
            found = {
                member.name: Person(member.groups, member.password_hash, member.disabled)
                for member in self.world.members.page(record.id, "", 1_000)
            }
            expected = {
                name: Person(person.groups, person.password, person.disabled)
                for name, person in self.model.people[place].items()
            }
            assert found == expected
            groups = {group.name: rules_of(group.rules) for group in self.world.groups.page(record.id, "", 1_000)}
            assert groups == self.model.groups[place]
            logins = sum(len(person.logins) for person in self.model.people[place].values())
            assert len(self.world.rows(record.id, Tag.LOGIN)) == logins
        numbers = {None: None} | {record.id: place for place, record in enumerate(self.places)}
        grants = {
            (grant.member, numbers[grant.target.namespace_id if grant.target else None]): (
                grant.effect is GrantEffect.ALLOW,
                grant.groups,
            )
            for grant in self.world.grants.page("", b"", 1_000)
        }
        assert grants == self.model.grants
        for home, name, family, _ in self.families:
            for place in range(3) if home == 0 else [home]:
                assert self.found_standing(home, name, family, place) == self.model.standing(home, name, family, place)

    def found_standing(self, home: int, name: str, family: str, place: int):
        token = Bearer(
            self.id(place), name, family, guest=place != home, groups=self.some_groups(), guardian=Guardian.CLUSTER
        )
        try:
            found = self.world.identities.standing(token)
        except PrefixdbError as refusal:
            return refusal.reason
        self.admitted += 1
        self.guests += place != home
        expected = Guardian.CLUSTER if place == 0 else Guardian.NAMESPACE
        assert found.guardian in (Guardian.NONE, expected)
        return found.groups, found.guardian is not Guardian.NONE, set(rules_of(found.rules))


def lose(_commit: Commit) -> None:
    raise error(Reason.OUTCOME_UNKNOWN)


def rules_of(rules: tuple[Rule, ...]) -> Rules:
    return tuple((rule.database, rule.prefix, rule.read, rule.write) for rule in rules)


RUNS = [("memory", seed) for seed in range(12)] + [(kind, 3) for kind in DURABLE]


@pytest.mark.parametrize(("kind", "seed"), RUNS)
def test_random_acts_end_where_the_model_ends(tmp_path, kind, seed):
    print(f"{kind}, seed {seed}: run this test with these parameters to see it again")
    run = Run(seed, Harness.start(kind, tmp_path))
    for step in range(STEPS):
        run.step()
        if step % 5 == 0:
            run.compare()
    run.compare()
    run.restart()
    run.compare()
    assert run.admitted > 50 and run.guests > 0, "the run was too quiet to show anything"
    run.world.store.close()
