"""Goal: a restart brings back exactly what was, and a catalog that contradicts itself is never served.

Method: a registry loaded from the store is compared with the one in memory after random sequences of acts, which also
run against a model of a few lines; damage and a newer format are written into the store by hand.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixdb.catalog import schema
from prefixdb.catalog.entities import NamespaceState
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.schema import Tag
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import RowKey
from prefixdb.records import encode_record
from prefixdb.store.base import Commit, Delete, Put
from tests.support.catalog import assert_reload_is_equal, reason_of, reclaim_by_hand
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


def test_a_catalog_of_ten_thousand_namespaces_and_bans_loads_and_answers(store, clock, registry):
    rows = []
    for number in range(1, 10_001):
        record = replace(registry.get(0), id=number, name=f"n{number}", labels={})
        rows.append(Put(schema.namespace_key(number), schema.encode_namespace(record)))
        rows.append(Put(schema.name_key(record.name), encode_record({"id": number})))
    store.commit(Commit(tuple(rows)))
    loaded = Registry(store, clock)
    assert loaded.counts()[S.ACTIVE] == 10_001
    assert loaded.find("n9999").id == 9999
    assert [record.id for record in loaded.page(9998, 5)] == [9999, 10_000]


def test_a_newer_catalog_is_refused_with_both_numbers(registry, store, clock):
    meta = {"format": 99, "created_at_ms": 1, "guardian_token_at_ms": 0}
    store.commit(Commit((Put(schema.catalog_key(Tag.META), encode_record(meta)),)))
    with pytest.raises(PrefixdbError) as caught:
        Registry(store, clock)
    assert caught.value.reason is Reason.FORMAT_TOO_NEW
    assert "99" in str(caught.value) and str(schema.CATALOG_FORMAT) in str(caught.value)


def damage_no_meta(record):
    return [Delete(schema.catalog_key(Tag.META))]


def damage_no_default(record):
    return [Delete(schema.namespace_key(0))]


def damage_ban_lost(record):
    return [Delete(schema.ban_key(record.id))]


def damage_record_says_active(record):
    return [Put(schema.namespace_key(record.id), schema.encode_namespace(replace(record, state=S.ACTIVE)))]


def damage_record_lost(record):
    return [Delete(schema.namespace_key(record.id))]


def damage_name_of_another(record):
    return [Put(schema.name_key("default"), encode_record({"id": 5}))]


def damage_name_lost(record):
    return [Delete(schema.name_key("default"))]


def damage_dead_name(record):
    return [Put(schema.name_key("ghost"), encode_record({"id": record.id}))]


def damage_other_incarnation(record):
    return [Put(schema.namespace_key(record.id), schema.encode_namespace(replace(record, incarnation=999)))]


def damage_short_key(record):
    default = replace(record, id=0, name="default", state=S.ACTIVE)
    return [Put(RowKey(schema.namespace_key(0)[:-1]), schema.encode_namespace(default))]


def damage_unknown_state(record):
    fields = {"name": "n", "state": 9, "labels": {}, "created_at_ms": 1, "updated_at_ms": 1, "reason": ""}
    return [Put(schema.namespace_key(record.id), encode_record(fields))]


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_catalog_that_contradicts_itself_is_refused_at_start(registry, store, clock, damage):
    record = registry.create("acme")
    banned = registry.ban(record.id, by="x", grace_ms=1000)
    store.commit(Commit(tuple(damage(banned))))
    assert reason_of(Registry, store, clock) is Reason.CORRUPTION


acts = st.lists(
    st.tuples(st.sampled_from(["create", "ban", "unban", "rename", "reclaim", "reuse"]), st.integers(0, 4)),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(acts)
def test_random_lives_agree_with_a_model_and_survive_a_reload(steps):
    clock = HeldClock()
    store = MemoryStore(clock)
    registry, live, grace, gone = Registry(store, clock), {}, {}, []
    for act, pick in steps:
        name = f"n{pick}"
        if act == "create":
            refused = reason_of(registry.create, name)
            assert refused is (Reason.NAMESPACE_EXISTS if name in live else None)
            if refused is None:
                live[name] = registry.find(name).id
        elif act == "ban" and name in live:
            grace[registry.ban(live[name], by="x", grace_ms=10**6).id] = name
            del live[name]
        elif act == "unban" and grace:
            namespace_id = sorted(grace)[pick % len(grace)]
            refused = reason_of(registry.unban, namespace_id)
            assert refused is (Reason.NAMESPACE_STATE if grace[namespace_id] in live else None)
            if refused is None:
                live[grace.pop(namespace_id)] = namespace_id
        elif act == "rename" and name in live:
            free = f"n{pick}x"
            if free not in live:
                live[free] = registry.update(live.pop(name), name=free).id
        elif act == "reclaim" and grace:
            namespace_id = sorted(grace)[0]
            reclaim_by_hand(registry, store, clock, namespace_id)
            gone.append(namespace_id)
            # Time has passed, so the graces of the earlier bans are over too.
            for over in [n for n in grace if n != namespace_id]:
                if registry.ban_of(over).reclaim_after_ms <= clock.now_ms():
                    reclaim_by_hand(registry, store, clock, over)
                    gone.append(over)
                    del grace[over]
            del grace[namespace_id]
        elif act == "reuse" and gone and name not in live:
            live[name] = registry.create(name, namespace_id=gone.pop()).id
        assert {record.name: record.id for record in registry.page(None, 100)} == {"default": 0, **live}
        assert {ban.namespace_id for ban in registry.undone_bans()} == set(grace)
    assert_reload_is_equal(registry, store, clock)
