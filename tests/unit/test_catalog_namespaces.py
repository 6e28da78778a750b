"""Goal: a namespace's life goes exactly along the arrows of the state table, durably, and a dropped one stays dropped.

Method: every act is tried in every state and compared with a table written here; after each, a registry loaded from the
store must equal the one in memory. Random sequences of acts run against a model of a few lines. Damage, a newer format
and unknown outcomes are made by hand in the store.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

import msgspec
import pytest

from prefixdb import limits
from prefixdb.catalog import schema
from prefixdb.catalog.entities import NamespaceState, ReclaimPhase, ServiceTokenRecord
from prefixdb.catalog.manifest import waiting_report
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import Guardian
from prefixdb.errors import Reason, error
from prefixdb.keycodec import data_key
from prefixdb.store.base import Commit, Put, SpanSize
from tests.support.catalog import (
    assert_reload_is_equal,
    begin,
    drop_rows,
    finish,
    picture,
    put_into,
    reason_of,
    reclaim_by_hand,
)
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


def in_state(registry: Registry, store: MemoryStore, clock: HeldClock, state: S) -> int:
    record = registry.create("acme")
    if state is S.RECLAIMED:
        registry.ban(record.id, by="root@0")
        reclaim_by_hand(registry, store, clock, record.id)
    else:
        put_into(registry, record, state)
    return record.id


ACTS = {
    "make read-only": lambda r, n: r.suspend(n, S.READ_ONLY, "why"),
    "suspend": lambda r, n: r.suspend(n, S.SUSPENDED, "why"),
    "resume": lambda r, n: r.resume(n),
    "ban": lambda r, n: r.ban(n, by="root@0", reason="r", grace_ms=5),
    "unban": lambda r, n: r.unban(n),
    "rename": lambda r, n: r.update(n, name="other"),
    "relabel": lambda r, n: r.update(n, labels={"a": "b"}),
    "begin reclaim": lambda r, n: begin(r, n, SpanSize(1, 1)),
    "create again": lambda r, n: r.create("fresh", namespace_id=n),
}
DROPPED = Reason.NAMESPACE_STATE
TABLE = {
    # state before: act -> state after, or the refusal
    S.ACTIVE: [S.READ_ONLY, S.SUSPENDED, S.ACTIVE, S.BANNED, DROPPED, S.ACTIVE, S.ACTIVE, DROPPED],
    S.READ_ONLY: [S.READ_ONLY, S.SUSPENDED, S.ACTIVE, S.BANNED, DROPPED, S.READ_ONLY, S.READ_ONLY, DROPPED],
    S.SUSPENDED: [S.READ_ONLY, S.SUSPENDED, S.ACTIVE, S.BANNED, DROPPED, S.SUSPENDED, S.SUSPENDED, DROPPED],
    S.BANNED: [DROPPED, DROPPED, DROPPED, S.BANNED, S.ACTIVE, DROPPED, DROPPED, DROPPED],
    S.RECLAIMED: [DROPPED, DROPPED, DROPPED, S.RECLAIMED, Reason.RECLAIM_STARTED, DROPPED, DROPPED, DROPPED],
}
CREATE_AGAIN = {
    S.ACTIVE: Reason.NAMESPACE_EXISTS,
    S.READ_ONLY: Reason.NAMESPACE_EXISTS,
    S.SUSPENDED: Reason.NAMESPACE_EXISTS,
    S.BANNED: Reason.NAMESPACE_NOT_EMPTY,
    S.RECLAIMED: S.ACTIVE,
}
CASES = [
    (state, act, outcome)
    for state in S
    for act, outcome in zip(ACTS, [*TABLE[state], CREATE_AGAIN[state]], strict=True)
]


@pytest.mark.parametrize(("state", "act", "expected"), CASES)
def test_every_act_in_every_state_does_what_the_table_says(registry, store, clock, state, act, expected):
    namespace_id = in_state(registry, store, clock, state)
    before = picture(registry)
    if isinstance(expected, Reason):
        assert reason_of(ACTS[act], registry, namespace_id) is expected
        assert picture(registry) == before
    else:
        ACTS[act](registry, namespace_id)
        assert registry.get(namespace_id).state is expected
    assert_reload_is_equal(registry, store, clock)


@pytest.mark.parametrize("act", ACTS)
def test_every_act_on_an_unknown_namespace_is_not_found(registry, act):
    expected = None if act == "create again" else Reason.NAMESPACE_NOT_FOUND
    assert reason_of(ACTS[act], registry, 12345) is expected


@pytest.mark.parametrize("act", ["make read-only", "suspend", "ban", "rename"])
def test_namespace_zero_is_protected(registry, act):
    assert reason_of(ACTS[act], registry, 0) is Reason.NAMESPACE_PROTECTED
    assert registry.get(0).state is S.ACTIVE and registry.get(0).name == "default"


def test_namespace_zero_is_made_by_the_first_commit_with_its_groups(registry, store):
    record = registry.get(0)
    # One commit: each of its six rows takes a number, and all of them have the last.
    assert (record.name, record.state, record.incarnation) == ("default", S.ACTIVE, 6)
    for group in ("guardians", "writers", "readers"):
        assert store.get(schema.group_key(0, group)).version == record.incarnation == store.status().last_version
    assert reason_of(registry.create, "x", namespace_id=0) is Reason.BAD_FIELD


def test_loading_writes_nothing(registry, store, clock):
    version = store.status().last_version
    Registry(store, clock)
    assert store.status().last_version == version


def test_a_namespace_is_created_by_one_commit_with_its_groups_and_first_token(registry, store):
    token = ServiceTokenRecord("ab" * 16, "guardian", ("guardians",), Guardian.NAMESPACE, 1, 2**33, "root@0")
    before = store.status().last_version
    record = registry.create("acme", labels={"tier": "gold"}, first_token=token)
    assert record.incarnation == record.row_version == before + 7 == store.status().last_version
    assert record.labels == {"tier": "gold"}
    assert {store.get(schema.group_key(record.id, name)).version for name in ("guardians", "writers", "readers")} == {
        record.incarnation
    }
    assert schema.decode_service_token(token.jti, store.get(schema.service_token_key(record.id, token.jti))) == token


def test_the_incarnation_stays_when_the_row_is_rewritten(registry, store, clock):
    record = registry.create("acme")
    changed = registry.update(record.id, labels={"a": "b"})
    assert changed.incarnation == record.incarnation and changed.row_version > record.row_version
    assert_reload_is_equal(registry, store, clock)


@pytest.mark.parametrize("name", ["a", "A1._-", "9", "x" * 128])
def test_good_names_are_taken(registry, name):
    assert registry.find(registry.create(name).name).name == name


@pytest.mark.parametrize("name", ["", "x" * 129, "-a", ".a", "_a", "a b", "a/b", "ä", "a\n", "a\0", "１"])
def test_bad_names_are_refused(registry, name):
    assert reason_of(registry.create, name) is Reason.BAD_NAME
    assert reason_of(registry.update, registry.create("ok").id, name=name) is Reason.BAD_NAME


def test_labels_have_limits(registry):
    full = {f"k{n}": "v" * limits.LABEL_CHARS_MAX for n in range(limits.LABELS_MAX)}
    assert registry.create("ok", labels=full).labels == full
    for labels in ({**full, "more": ""}, {"k": "v" * 257}, {"k" * 257: ""}, {"": "v"}, {"k": "a\nb"}):
        assert reason_of(registry.create, "bad", labels=labels) is Reason.BAD_FIELD
    assert registry.find("bad") is None


@pytest.mark.parametrize("reason", ["x" * 513, "a\nb", "\x1b[31m"])
def test_a_reason_that_would_forge_a_log_line_or_is_too_long_is_refused(registry, reason):
    namespace_id = registry.create("acme").id
    assert reason_of(registry.ban, namespace_id, by="x", reason=reason) is Reason.BAD_FIELD
    assert reason_of(registry.suspend, namespace_id, S.SUSPENDED, reason) is Reason.BAD_FIELD


@pytest.mark.parametrize("grace_ms", [-1, limits.BAN_GRACE_MS_MAX + 1])
def test_a_grace_beyond_its_limit_is_refused(registry, grace_ms):
    assert reason_of(registry.ban, registry.create("acme").id, by="x", grace_ms=grace_ms) is Reason.BAD_FIELD


@pytest.mark.parametrize("state", [S.ACTIVE, S.BANNED, S.RECLAIMED])
def test_suspending_into_another_state_is_refused(registry, state):
    assert reason_of(registry.suspend, registry.create("acme").id, state, "") is Reason.BAD_FIELD


@pytest.mark.parametrize("namespace_id", [-1, 0, 2**64 - 1, 2**64])
def test_an_id_outside_its_range_is_refused(registry, namespace_id):
    assert reason_of(registry.create, "acme", namespace_id=namespace_id) is Reason.BAD_FIELD


@pytest.mark.parametrize("namespace_id", [1, limits.NAMESPACE_ID_MAX])
def test_the_smallest_and_the_largest_id_can_be_chosen(registry, store, clock, namespace_id):
    assert registry.create("acme", namespace_id=namespace_id).id == namespace_id
    assert_reload_is_equal(registry, store, clock)


def test_a_random_id_is_drawn_again_when_it_is_reserved_taken_or_not_empty(registry, store, monkeypatch):
    taken = registry.create("taken", namespace_id=5).id
    store.commit(Commit((Put(data_key(6, 0, b"k"), b"v"),)))
    draws = iter([0, 2**64 - 1, taken, 6, 77])
    monkeypatch.setattr(secrets, "randbits", lambda bits: next(draws) if bits == 64 else None)
    assert registry.create("acme").id == 77


@pytest.mark.parametrize("expires_at_ms", [0, 1])
def test_a_number_whose_range_holds_any_row_even_an_expired_one_is_refused(registry, store, expires_at_ms):
    store.commit(Commit((Put(data_key(9, 3, b"k"), b"v", expires_at_ms),)))
    assert reason_of(registry.create, "acme", namespace_id=9) is Reason.NAMESPACE_NOT_EMPTY
    assert registry.find("acme") is None


def test_a_banned_number_is_refused_even_when_its_rows_are_gone_already(registry, store):
    namespace_id = registry.create("acme").id
    registry.ban(namespace_id, by="x")
    drop_rows(store, namespace_id)
    assert reason_of(registry.create, "beta", namespace_id=namespace_id) is Reason.NAMESPACE_NOT_EMPTY


def test_a_row_that_something_else_changed_is_never_overwritten(registry, store):
    record = registry.create("acme")
    key = schema.namespace_key(record.id)
    foreign = schema.encode_namespace(msgspec.structs.replace(record, labels={"by": "another"}))
    store.commit(Commit((Put(key, foreign),)))
    assert reason_of(registry.ban, record.id, by="x") is Reason.INTERNAL
    assert store.get(key).payload == foreign and registry.get(record.id) == record


def test_two_live_namespaces_cannot_share_a_name(registry):
    first, second = registry.create("acme"), registry.create("beta")
    assert reason_of(registry.create, "acme") is Reason.NAMESPACE_EXISTS
    assert reason_of(registry.update, second.id, name="acme") is Reason.NAMESPACE_EXISTS
    assert registry.find("acme").id == first.id


def test_a_rename_frees_the_old_name_and_keeps_the_data(registry, store, clock):
    record = registry.create("acme")
    registry.update(record.id, name="beta")
    assert registry.find("acme") is None and registry.find("beta").id == record.id
    assert registry.create("acme").id != record.id
    assert registry.get(record.id).incarnation == record.incarnation
    assert_reload_is_equal(registry, store, clock)


def test_a_ban_frees_the_name_at_once_and_a_look_up_prefers_the_living(registry, clock):
    first = registry.create("acme")
    registry.ban(first.id, by="x", grace_ms=1000)
    assert registry.find("acme").id == first.id
    second = registry.create("acme")
    assert registry.find("acme").id == second.id
    clock.advance(1)
    registry.ban(second.id, by="x")
    assert registry.find("acme").id == second.id  # The last dropped of the two.


def test_a_ban_is_one_commit_that_changes_record_manifest_and_name_index(registry, store):
    record = registry.create("acme")
    banned = registry.ban(record.id, by="root@0", reason="unpaid", grace_ms=1000)
    version = store.status().last_version
    assert version == record.row_version + 3 == banned.row_version
    assert store.get(schema.namespace_key(record.id)).version == version
    assert store.get(schema.ban_key(record.id)).version == version
    assert store.get(schema.name_key("acme")) is None


def test_a_second_ban_changes_nothing(registry, store, clock):
    record = registry.create("acme")
    first = registry.ban(record.id, by="one", reason="a", grace_ms=1000)
    ban, version = registry.ban_of(record.id), store.status().last_version
    clock.advance(10)
    assert registry.ban(record.id, by="two", reason="b", grace_ms=0) == first
    assert registry.ban_of(record.id) == ban and store.status().last_version == version


@pytest.mark.parametrize("state", [S.ACTIVE, S.READ_ONLY, S.SUSPENDED])
def test_an_unban_gives_back_the_state_and_reason_there_were(registry, store, clock, state):
    record = put_into(registry, registry.create("acme"), state)
    registry.ban(record.id, by="x", reason="mistake", grace_ms=1000)
    restored = registry.unban(record.id)
    assert (restored.state, restored.state_reason) == (state, record.state_reason)
    assert restored.incarnation == record.incarnation and registry.ban_of(record.id) is None
    assert registry.find("acme").id == record.id
    assert_reload_is_equal(registry, store, clock)


def test_an_unban_is_refused_when_the_name_is_taken_and_works_after_the_other_is_renamed(registry):
    record = registry.create("acme")
    registry.ban(record.id, by="x", grace_ms=1000)
    other = registry.create("acme")
    assert reason_of(registry.unban, record.id) is Reason.NAMESPACE_STATE
    registry.update(other.id, name="beta")
    assert registry.unban(record.id).state is S.ACTIVE


def test_an_unban_is_possible_up_to_the_last_millisecond_of_the_grace(registry, clock):
    record = registry.create("acme")
    registry.ban(record.id, by="x", grace_ms=1000)
    clock.advance(999)
    registry.unban(record.id)
    registry.ban(record.id, by="x", grace_ms=1000)
    clock.advance(1000)
    assert reason_of(registry.unban, record.id) is Reason.RECLAIM_STARTED


def test_once_the_reclaim_has_begun_no_clock_brings_the_namespace_back(registry, store, clock):
    record = registry.create("acme")
    registry.ban(record.id, by="x", grace_ms=1000)
    clock.advance(1000)
    begin(registry, record.id, SpanSize(5, 1))
    earlier = Registry(store, HeldClock(clock.now_ms() - 900))
    assert reason_of(earlier.unban, record.id) is Reason.RECLAIM_STARTED


def test_a_reclaim_begins_only_after_the_grace_and_only_once(registry, store, clock):
    record = registry.create("acme")
    registry.ban(record.id, by="x", grace_ms=1000)
    assert reason_of(begin, registry, record.id, SpanSize(5, 1)) is Reason.NAMESPACE_STATE
    clock.advance(1000)
    first = begin(registry, record.id, SpanSize(5, 1))
    clock.advance(1)
    assert begin(registry, record.id, SpanSize(0, 0)) == first
    assert (first.bytes_before, first.rows_before) == (5, 1)
    assert_reload_is_equal(registry, store, clock)


def test_a_final_report_without_begin_without_proof_or_of_another_ban_is_refused(registry, clock):
    record = registry.create("acme")
    registry.ban(record.id, by="x")
    report = waiting_report(registry.ban_of(record.id), registry.get(record.id), clock.now_ms())
    done = replace(report, phase=ReclaimPhase.DONE, finished_at_ms=clock.now_ms())
    assert reason_of(finish, registry, done) is Reason.NAMESPACE_STATE
    begin(registry, record.id, SpanSize(5, 1))
    for wrong in (report, replace(done, proof_rows_found=1), replace(done, proof_bytes_found=1)):
        with pytest.raises(ValueError, match="proof"):
            finish(registry, wrong)
    assert reason_of(finish, registry, replace(done, incarnation=1)) is Reason.NAMESPACE_STATE
    assert registry.get(record.id).state is S.BANNED


def test_a_reclaimed_number_is_issued_again_with_a_new_incarnation_and_its_old_report_stays(registry, store, clock):
    old = in_state(registry, store, clock, S.RECLAIMED)
    first = registry.get(old)
    again = registry.create("acme", namespace_id=old)
    assert again.incarnation > first.incarnation and again.state is S.ACTIVE
    assert registry.ban_of(old) is None
    assert registry.last_report(old).incarnation == first.incarnation
    assert_reload_is_equal(registry, store, clock)


def test_a_random_number_is_never_one_that_was_issued_before(registry, store, clock, monkeypatch):
    old = in_state(registry, store, clock, S.RECLAIMED)
    draws = iter([old, 4])
    monkeypatch.setattr(secrets, "randbits", lambda bits: next(draws))
    assert registry.create("fresh").id == 4


def test_every_change_fails_the_guard_of_the_record_before(registry, store):
    record = registry.create("acme")
    write = Commit((Put(data_key(record.id, 0, b"k"), b"v"),), guards=(registry.guard(record),))
    assert store.commit(write).applied
    banned = registry.ban(record.id, by="x", grace_ms=1000)
    result = store.commit(write)
    assert not result.applied and result.failed_guard == 0
    unbanned = registry.unban(record.id)
    assert not store.commit(write).applied
    assert len({registry.guard(state).version for state in (record, banned, unbanned)}) == 3


def test_listeners_hear_of_a_change_after_it_is_durable_and_visible(registry, store):
    heard = []
    registry.add_listener(
        lambda namespace_id: heard.append(
            (namespace_id, registry.get(namespace_id).state, store.get(schema.namespace_key(namespace_id)).version)
        )
    )
    record = registry.create("acme")
    banned = registry.ban(record.id, by="x", grace_ms=1000)
    registry.ban(record.id, by="x")  # Changes nothing.
    assert heard == [(record.id, S.ACTIVE, record.row_version), (record.id, S.BANNED, banned.row_version)]


def test_a_listener_may_change_the_registry_and_a_broken_one_hides_nothing(registry, caplog):
    def broken(_namespace_id: int) -> None:
        raise RuntimeError("deaf")

    heard = []
    registry.add_listener(broken)
    registry.add_listener(heard.append)
    registry.add_listener(lambda n: registry.ban(n, by="x") if registry.get(n).name == "doomed" else None)
    record = registry.create("doomed")
    assert registry.get(record.id).state is S.BANNED
    assert heard.count(record.id) == 2
    assert "deaf" in caplog.text


@pytest.mark.parametrize("reason", [Reason.DISK_FULL, Reason.READ_ONLY_STORE, Reason.WRITE_STALL])
def test_a_refused_commit_changes_nothing_in_memory(registry, store, clock, reason):
    record = registry.create("acme")
    before = picture(registry)
    store.fail_commits_with = error(reason)
    for act in (lambda: registry.ban(record.id, by="x"), lambda: registry.create("b"), lambda: registry.resume(0)):
        assert reason_of(act) in (reason, None)
    assert picture(registry) == before
    store.fail_commits_with = None
    assert_reload_is_equal(registry, store, clock)


@pytest.mark.parametrize("reached_the_disk", [True, False])
def test_after_an_unknown_outcome_memory_says_what_the_store_says(
    registry, store, clock, monkeypatch, reached_the_disk
):
    record = registry.create("acme")
    heard = []
    registry.add_listener(heard.append)
    honest = store.commit

    def unsure(commit: Commit):
        if reached_the_disk:
            honest(commit)
        raise error(Reason.OUTCOME_UNKNOWN)

    monkeypatch.setattr(store, "commit", unsure)
    assert reason_of(registry.ban, record.id, by="x") is Reason.OUTCOME_UNKNOWN
    assert reason_of(registry.create, "beta", namespace_id=4) is Reason.OUTCOME_UNKNOWN
    monkeypatch.setattr(store, "commit", honest)
    assert registry.get(record.id).state is (S.BANNED if reached_the_disk else S.ACTIVE)
    assert (registry.get(4) is not None) == reached_the_disk
    assert heard == ([record.id, 4] if reached_the_disk else [record.id])
    assert_reload_is_equal(registry, store, clock)


def test_pages_follow_each_other_without_gap_or_repeat(registry):
    for number in (9, 3, 200, 7, 50):
        registry.create(f"n{number}", namespace_id=number)
    registry.ban(7, by="x", grace_ms=1)
    seen: list[int] = []
    while page := registry.page(seen[-1] if seen else None, 2):
        assert len(page) <= 2
        seen += [record.id for record in page]
    assert seen == [0, 3, 9, 50, 200]
    assert [record.id for record in registry.page(3, 2, include_dropped=True)] == [7, 9]
    assert registry.counts() == {S.ACTIVE: 5, S.READ_ONLY: 0, S.SUSPENDED: 0, S.BANNED: 1, S.RECLAIMED: 0}
