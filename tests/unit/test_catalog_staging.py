"""Goal: a staged namespace is nobody's before it lives, and due for its reclaim from the moment nobody makes it.

Method: the registry over the model store, restarted wherever that could matter, with the clock set back where a grace
would be looked at. Every act that names a namespace is tried; what the reclaimer would see is compared at each step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from prefixdb.backup.building import Builder, Plan
from prefixdb.backup.cloning import CloneContent
from prefixdb.backup.placing import PIECE_BYTES, PIECE_ROWS, PlacingRefused, pieces_of, place_batches, place_rows
from prefixdb.catalog import schema
from prefixdb.catalog.entities import NamespaceState
from prefixdb.catalog.namespaces import Registry
from prefixdb.errors import OutcomeUnknownError, PrefixdbError, Reason, error
from prefixdb.keycodec import FAMILY_DATA, data_key, family_span
from prefixdb.store.base import Commit, Put, SpanSize
from tests.service.staging import rows_of
from tests.support.catalog import assert_reload_is_equal, begin, reason_of, reclaim_by_hand
from tests.support.clocks import HeldClock
from tests.support.memory_store import MemoryStore

S = NamespaceState


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def store(clock: HeldClock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def registry(store: MemoryStore, clock: HeldClock) -> Registry:
    return Registry(store, clock)


def test_a_staged_namespace_is_banned_and_not_due_and_lives_in_one_commit(
    registry: Registry, store: MemoryStore, clock: HeldClock
) -> None:
    told: list[int] = []
    registry.add_listener(told.append)
    reservation = registry.staging.reserve("acme", 7)
    assert registry.get(7) is None
    staged = registry.staging.stage(reservation, by="me@0", reason="being cloned", labels={"a": "b"})
    assert (staged.state, staged.name, staged.incarnation) == (S.BANNED, "acme", staged.row_version)
    assert registry.find("acme") is None
    assert registry.page(None, 10) == [registry.get(0)]
    clock.advance(10**9)
    assert registry.due_bans(clock.now_ms()) == []
    assert registry.next_grace_end_ms(clock.now_ms()) is None
    assert reason_of(begin, registry, 7, SpanSize(1, 1)) is Reason.NAMESPACE_STATE
    living = registry.staging.finish(reservation, staged)
    assert (living.state, living.incarnation, living.labels) == (S.ACTIVE, staged.incarnation, {"a": "b"})
    assert registry.find("acme") is registry.get(7)
    assert (registry.ban_of(7), registry.bans(), registry.due_bans(clock.now_ms())) == (None, [], [])
    assert not registry.staging.is_building(7)
    assert told == [7, 7]
    assert_reload_is_equal(registry, store, clock)
    assert registry.ban(7, by="me").state is S.BANNED
    assert [ban.namespace_id for ban in registry.due_bans(clock.now_ms())] == [7]


def test_a_restart_makes_it_due_whatever_the_clock_says_and_nothing_brings_it_back(
    registry: Registry, store: MemoryStore, clock: HeldClock
) -> None:
    staged = registry.staging.stage(registry.staging.reserve("acme", 7), by="me@0", reason="being cloned")
    again = Registry(store, clock)
    assert again.get(7) == staged
    (ban,) = again.due_bans(clock.now_ms())
    assert (ban.incarnation, ban.staged) == (staged.incarnation, True)
    assert reason_of(again.unban, 7) is Reason.NAMESPACE_STATE
    set_back = Registry(store, HeldClock(now_ms=clock.now_ms() - 10_000))
    assert reason_of(set_back.unban, 7) is Reason.NAMESPACE_STATE
    again.create("acme")
    reclaim_by_hand(again, store, clock, 7)
    assert again.get(7).state is S.RECLAIMED
    assert_reload_is_equal(again, store, clock)
    assert again.create("other", namespace_id=7).incarnation > staged.incarnation


def test_names_and_numbers_are_promised_until_the_end(registry: Registry) -> None:
    staging = registry.staging
    first = staging.reserve("acme", 7)
    for refused in (
        lambda: staging.reserve("acme"),
        lambda: staging.reserve("other", 7),
        lambda: registry.create("acme"),
        lambda: registry.create("other", namespace_id=7),
        lambda: registry.update(registry.create("b").id, name="acme"),
    ):
        assert reason_of(refused) is Reason.NAMESPACE_EXISTS
    staging.abandon(first, "why")
    second = staging.reserve("acme", 7)
    with pytest.raises(ValueError, match="ended"):
        staging.stage(first, by="me", reason="")
    staged = staging.stage(second, by="me", reason="")
    staging.abandon(first, "why")
    registry._directory.release(first)
    assert staging.is_building(7), "an ended reservation must not end the next one of its number"
    assert staging.finish(second, staged).state is S.ACTIVE
    third = staging.reserve("more", 8)
    staging.abandon(third, "why")
    assert registry.get(8) is None
    registry.create("more", namespace_id=8)


def test_what_is_given_up_is_due_and_its_guard_fails(registry: Registry, store: MemoryStore, clock: HeldClock) -> None:
    reservation = registry.staging.reserve("acme", 7)
    staged = registry.staging.stage(reservation, by="me@0", reason="being cloned")
    guard = registry.guard(staged)
    clock.advance(50)
    registry.staging.abandon(reservation, "not finished: CANCELLED")
    assert not store.commit(Commit((Put(data_key(7, 0, b"k"), b"v"),), guards=(guard,))).applied
    (ban,) = registry.due_bans(clock.now_ms())
    assert (ban.reason, ban.by, ban.banned_at_ms) == ("not finished: CANCELLED", "me@0", clock.now_ms())
    assert reason_of(registry.staging.finish, reservation, staged) is Reason.NAMESPACE_STATE
    assert reason_of(registry.unban, 7) is Reason.NAMESPACE_STATE
    assert_reload_is_equal(registry, store, clock)


def test_a_ban_of_one_in_the_making_stands_and_is_due_when_its_maker_has_let_go(
    registry: Registry, store: MemoryStore, clock: HeldClock
) -> None:
    reservation = registry.staging.reserve("acme", 7)
    staged = registry.staging.stage(reservation, by="me@0", reason="being cloned")
    guard = registry.guard(staged)
    banned = registry.ban(7, by="root@0", reason="stop that", grace_ms=60_000)
    assert (banned.state, banned.state_reason) == (S.BANNED, "stop that")
    assert registry.ban(7, by="else@0", reason="again") == banned
    assert not store.commit(Commit((Put(data_key(7, 0, b"k"), b"v"),), guards=(guard,))).applied
    assert registry.due_bans(clock.now_ms()) == []
    assert reason_of(registry.staging.finish, reservation, staged) is Reason.NAMESPACE_STATE
    registry.staging.abandon(reservation, "not finished")
    (ban,) = registry.due_bans(clock.now_ms())
    assert (ban.by, ban.reason) == ("root@0", "stop that")


def test_its_name_finds_the_one_that_lived(registry: Registry, store: MemoryStore, clock: HeldClock) -> None:
    old = registry.create("acme")
    registry.ban(old.id, by="me", grace_ms=60_000)
    assert registry.find("acme").id == old.id
    reservation = registry.staging.reserve("acme", 7)
    staged = registry.staging.stage(reservation, by="me@0", reason="")
    assert registry.find("acme").id == old.id
    assert Registry(store, clock).find("acme").id == old.id
    registry.unban(old.id)
    assert reason_of(registry.staging.finish, reservation, staged) is Reason.NAMESPACE_EXISTS
    registry.staging.abandon(reservation, "why")
    registry.ban(old.id, by="me")
    reclaim_by_hand(registry, store, clock, 7)
    assert registry.find("acme").id == old.id
    assert_reload_is_equal(registry, store, clock)


def test_it_does_not_live_when_its_source_was_banned_or_is_another_by_now(registry: Registry) -> None:
    source = registry.create("source")
    for name in ("one", "two"):
        reservation = registry.staging.reserve(name)
        staged = registry.staging.stage(reservation, by="me@0", reason="")
        if name == "one":
            registry.suspend(source.id, S.SUSPENDED, "late")
            assert registry.staging.finish(reservation, staged, source=source).state is S.ACTIVE
        else:
            registry.ban(source.id, by="me")
            assert reason_of(registry.staging.finish, reservation, staged, source=source) is Reason.NAMESPACE_STATE


@pytest.mark.parametrize("applied", [False, True])
def test_after_an_unknown_outcome_it_is_what_the_store_says(
    registry: Registry, store: MemoryStore, clock: HeldClock, monkeypatch: pytest.MonkeyPatch, applied: bool
) -> None:
    reservation = registry.staging.reserve("acme", 7)
    staged = registry.staging.stage(reservation, by="me@0", reason="")
    honest = store.commit

    def commit(commit: Commit) -> Any:
        if applied:
            honest(commit)
        raise error(Reason.OUTCOME_UNKNOWN)

    monkeypatch.setattr(store, "commit", commit)
    with pytest.raises(OutcomeUnknownError):
        registry.staging.finish(reservation, staged)
    with pytest.raises(OutcomeUnknownError) if not applied else contextlib.nullcontext():
        registry.staging.abandon(reservation, "why")
    monkeypatch.undo()
    assert not registry.staging.is_building(7)
    assert registry.get(7).state is (S.ACTIVE if applied else S.BANNED)
    assert [ban.namespace_id for ban in registry.due_bans(clock.now_ms())] == ([] if applied else [7])
    assert_reload_is_equal(registry, store, clock)


def test_a_ban_without_incarnation_is_damage_unless_it_is_staged(
    registry: Registry, store: MemoryStore, clock: HeldClock
) -> None:
    record = registry.create("acme")
    registry.ban(record.id, by="me")
    ban = registry.ban_of(record.id)
    store.commit(Commit((Put(schema.ban_key(record.id), schema.encode_ban(ban, creating=True)),)))
    assert reason_of(schema.decode_ban, record.id, store.get(schema.ban_key(record.id))) is Reason.CORRUPTION
    assert reason_of(Registry, store, clock) is Reason.CORRUPTION


# --- building ------------------------------------------------------------------------------------------------------


def fill(store: MemoryStore, namespace_id: int, count: int) -> None:
    puts = tuple(Put(data_key(namespace_id, 0, b"k%05d" % n), b"v%d" % n) for n in range(count))
    assert store.commit(Commit(puts)).applied


def build(store: MemoryStore, registry: Registry, source: Any, tamper: Callable[[Builder], None]) -> Any:
    builder = Builder(store, registry)
    reservation = registry.staging.reserve("copy", 7)

    def content() -> CloneContent:
        tamper(builder)
        return CloneContent(store, source.id, 7, incoming=None, progress=builder.progress)

    return builder.run(Plan(reservation, "me@0", "being cloned", {}, source=source), content)


def test_a_store_that_takes_no_files_is_filled_in_batches(
    registry: Registry, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "open_ingest", lambda span: None)
    source = registry.create("source")
    fill(store, source.id, 3 * PIECE_ROWS + 1)
    record = build(store, registry, source, lambda _: None)
    assert rows_of(store, record.id) == rows_of(store, source.id)


def test_whatever_ends_a_building_leaves_a_due_ban(registry: Registry, store: MemoryStore, clock: HeldClock) -> None:
    source = registry.create("source")
    fill(store, source.id, 10)

    def fail(_: Builder) -> None:
        raise RuntimeError("a bug")

    def stop(builder: Builder) -> None:
        builder.stop(error(Reason.CANCELLED))
        builder.stop(error(Reason.DRAINING))

    def ban(_: Builder) -> None:
        registry.ban(7, by="root@0", reason="no")

    for tamper, wanted, why in (
        (fail, RuntimeError, "not finished: internal error"),
        (stop, PrefixdbError, "not finished: CANCELLED"),
        (ban, PrefixdbError, "no"),
    ):
        with pytest.raises(wanted):
            build(store, registry, source, tamper)
        assert registry.ban_of(7).reason == why
        assert not registry.staging.is_building(7)
        reclaim_by_hand(registry, store, clock, 7)
    build(store, registry, source, lambda _: None)


def test_what_slips_between_a_look_and_a_write_meets_the_guard(registry: Registry, store: MemoryStore) -> None:
    source = registry.create("source")
    fill(store, source.id, 10)

    def ban_unseen(builder: Builder) -> None:
        registry.ban(7, by="root@0", reason="no")
        builder.check = lambda: None  # type: ignore[method-assign]

    assert reason_of(build, store, registry, source, ban_unseen) is Reason.NAMESPACE_STATE
    assert rows_of(store, 7) == []


def test_what_rows_were_read_from_is_closed_before_anybody_could_think_it_is_over(
    registry: Registry, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = registry.create("source")
    fill(store, source.id, 10)
    seen: list[str] = []
    for name in ("close", "finish", "abandon"):
        owner: Any = CloneContent if name == "close" else type(registry.staging)
        honest = getattr(owner, name)

        def noted(*arguments: Any, _honest: Any = honest, _name: str = name, **more: Any) -> Any:
            seen.append(_name)
            return _honest(*arguments, **more)

        monkeypatch.setattr(owner, name, noted)

    def fail(builder: Builder) -> None:
        monkeypatch.setattr(CloneContent, "pages", lambda _: iter([[Put(data_key(8, 0, b"k"), b"v")]]))

    with pytest.raises(ValueError, match="outside"):
        build(store, registry, source, fail)
    assert seen == ["close", "abandon"]


def test_rows_are_placed_under_their_guards_in_order_and_inside(registry: Registry, store: MemoryStore) -> None:
    staged = registry.staging.stage(registry.staging.reserve("copy", 7), by="me", reason="")
    guards = (registry.guard(staged),)
    span = family_span(7, FAMILY_DATA)
    for bad in ([data_key(8, 0, b"a")], [data_key(7, 0, b"b"), data_key(7, 0, b"a")], [data_key(7, 0, b"a")] * 2):
        with pytest.raises(ValueError, match="outside the span or not above"):
            place_batches(store, span, [[Put(key, b"v") for key in bad]], guards=guards)
    registry.ban(7, by="root")
    with pytest.raises(PlacingRefused):
        place_rows(store, 7, [[Put(data_key(7, 0, b"a"), b"v")]], guards=guards)
    assert rows_of(store, 7) == []


def test_a_write_stall_is_waited_out(registry: Registry, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, stalls = store.commit, [error(Reason.WRITE_STALL), error(Reason.WRITE_STALL)]

    def commit(commit: Commit) -> Any:
        if stalls:
            raise stalls.pop()
        return honest(commit)

    monkeypatch.setattr(store, "commit", commit)
    monkeypatch.setattr(store, "open_ingest", lambda span: None)
    placed = place_rows(store, 7, [[Put(data_key(7, 0, b"a"), b"v")]], guards=())
    assert (placed.way, placed.rows, stalls) == ("batches", 1, [])


def test_pieces_have_their_size_and_lose_nothing() -> None:
    small = [Put(data_key(7, 0, b"k%05d" % n), b"") for n in range(2 * PIECE_ROWS + 3)]
    large = [Put(data_key(7, 1, b"k%05d" % n), b"v" * (PIECE_BYTES // 3)) for n in range(7)]
    huge = [Put(data_key(7, 2, b"k"), b"v" * (2 * PIECE_BYTES)), Put(data_key(7, 2, b"l"), b"")]
    pieces = list(pieces_of([small, [], large, huge]))
    assert [put for piece in pieces for put in piece] == [*small, *large, *huge]
    assert all(pieces)
    for piece in pieces:
        size = sum(len(put.key) + len(put.payload) for put in piece)
        assert len(piece) == 1 or (len(piece) <= PIECE_ROWS and size <= PIECE_BYTES)
