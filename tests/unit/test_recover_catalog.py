"""The catalog after damage: whatever contradicts itself is brought to agree, and nobody dropped comes back.

Method: records are encoded as the catalog writes them, judged, written into the model store, and loaded by the
registry, which refuses contradictions.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from prefixdb.backup.recover_catalog import Judge, Judgement
from prefixdb.catalog import load, schema
from prefixdb.catalog.entities import Ban, NamespaceRecord, NamespaceState, ReclaimPhase, ReclaimReport
from prefixdb.catalog.namespaces import Registry
from prefixdb.errors import FailedPreconditionError
from prefixdb.keycodec import RowKey
from prefixdb.records import decode_value, encode_value
from prefixdb.repository.bans import BannedIssue
from prefixdb.store.base import Commit, Put
from tests.support.clocks import HeldClock
from tests.support.memory_store import MemoryStore

VERSION = 10_000
ACTIVE, BANNED, RECLAIMED = NamespaceState.ACTIVE, NamespaceState.BANNED, NamespaceState.RECLAIMED

Stored = dict[bytes, bytes]


def record(
    namespace_id: int, state: NamespaceState = ACTIVE, incarnation: int = 100, name: str = ""
) -> NamespaceRecord:
    return NamespaceRecord(namespace_id, name or f"n{namespace_id}", state, incarnation, {}, 1, 2, "", 0)


def stored(*records: NamespaceRecord, bans: Iterable[Ban] = (), names: dict[str, int] | None = None) -> Stored:
    """Return catalog rows, namespace 0 and the catalog's own record with them."""
    default = NamespaceRecord(0, "default", ACTIVE, 5, {}, 1, 1, "", 0)
    puts = [load.meta_put(1, 1), load.name_put(default)]
    puts += [Put(schema.namespace_key(each.id), schema.encode_namespace(each)) for each in (default, *records)]
    puts += [Put(schema.ban_key(ban.namespace_id), schema.encode_ban(ban)) for ban in bans]
    index = {each.name: each.id for each in records if each.state.is_live} if names is None else names
    puts += [load.name_put(record(number, name=name)) for name, number in index.items()]
    return {put.key: encode_value(put.payload, 50) for put in puts}


def ban(namespace_id: int, incarnation: int = 100, **fields: int) -> Ban:
    return Ban(namespace_id, incarnation, f"n{namespace_id}", 3, "root@0", "why", 4, **fields)  # type: ignore[arg-type]


def judged(rows: Stored, bans: Iterable[BannedIssue] = (), orphans: Iterable[int] = ()) -> tuple[Judgement, Registry]:
    """Judge, write, and load as a server does."""
    result = Judge(sorted(rows.items()), VERSION, 1_000).judge(bans, orphans)
    written = {**result.added, **rows, **result.replaced}
    store = MemoryStore(HeldClock())
    puts = [
        Put(RowKey(key), decode_value(value).payload) for key, value in sorted(written.items()) if value is not None
    ]
    store.commit(Commit(tuple(puts)))
    return result, Registry(store, HeldClock())


def issue(namespace_id: int, incarnation: int, *, reclaimed: bool = False) -> BannedIssue:
    return BannedIssue(namespace_id, incarnation, "x", 7, "root@0", "why", 9, reclaimed)


def report_row(namespace_id: int, incarnation: int) -> Stored:
    report = ReclaimReport(
        namespace_id=namespace_id,
        name="x",
        incarnation=incarnation,
        phase=ReclaimPhase.DONE,
        banned_at_ms=1,
        banned_by="root@0",
        reason="",
        reclaim_after_ms=1,
        started_at_ms=1,
    )
    return {schema.report_key(namespace_id, incarnation): encode_value(schema.encode_report(report), 60)}


def test_a_catalog_that_agrees_is_left_as_it_is() -> None:
    done = ban(9, reclaim_started_at_ms=5, reclaimed_at_ms=6)
    rows = stored(record(7), record(8, BANNED), record(9, RECLAIMED), bans=[ban(8), done])
    result, registry = judged(rows)
    assert (result.replaced, result.added, result.said) == ({}, {}, [])
    assert registry.get(7).state is ACTIVE  # type: ignore[union-attr]


@pytest.mark.parametrize("namespaces", [[], [record(7)], [record(7, ACTIVE, 99)]], ids=["none", "same", "older"])
def test_a_ban_beats_a_record_that_is_missing_or_older(namespaces: list[NamespaceRecord]) -> None:
    result, registry = judged(stored(*namespaces, bans=[ban(7)]))
    assert registry.get(7).state is BANNED  # type: ignore[union-attr]
    assert registry.get(7).incarnation == 100  # type: ignore[union-attr]
    assert "stays dropped" in " ".join(result.said)


def test_a_ban_of_an_earlier_issue_goes_and_the_namespace_stays() -> None:
    _, registry = judged(stored(record(7, ACTIVE, 101), bans=[ban(7)]))
    assert registry.get(7).state is ACTIVE  # type: ignore[union-attr]
    assert registry.ban_of(7) is None


@pytest.mark.parametrize("state", [BANNED, RECLAIMED])
def test_a_dropped_record_without_its_ban_gets_one(state: NamespaceState) -> None:
    _, registry = judged(stored(record(7, state)))
    assert registry.get(7).state is state  # type: ignore[union-attr]
    found = registry.ban_of(7)
    assert found is not None and found.incarnation == 100
    assert bool(found.reclaimed_at_ms) == (state is RECLAIMED)


def test_a_reclaimed_record_with_an_older_ban_is_reclaimed_again() -> None:
    _, registry = judged(stored(record(7, RECLAIMED), bans=[ban(7)]))
    assert registry.get(7).state is BANNED  # type: ignore[union-attr]


@pytest.mark.parametrize(("reported", "state"), [(99, ACTIVE), (100, BANNED), (101, BANNED)])
def test_a_report_of_a_reclaim_beats_a_live_record_of_its_issue(reported: int, state: NamespaceState) -> None:
    _, registry = judged(stored(record(7)) | report_row(7, reported))
    assert registry.get(7).state is state  # type: ignore[union-attr]


@pytest.mark.parametrize(("listed", "state"), [(99, ACTIVE), (100, BANNED), (101, BANNED)])
def test_a_list_of_bans_beats_a_live_record_of_its_issue(listed: int, state: NamespaceState) -> None:
    _, registry = judged(stored(record(7)), [issue(7, listed)])
    assert registry.get(7).state is state  # type: ignore[union-attr]
    if state is BANNED:
        assert registry.ban_of(7).reclaim_after_ms == 9  # type: ignore[union-attr]


def test_namespace_0_is_never_dropped() -> None:
    rows = stored() | report_row(0, 500)
    rows |= {schema.ban_key(0): encode_value(schema.encode_ban(ban(0, 500)), 60)}
    _, registry = judged(rows)
    assert registry.get(0).state is ACTIVE  # type: ignore[union-attr]


def test_orphans_are_adopted_suspended_under_a_new_incarnation_unless_they_are_known_to_be_dropped() -> None:
    rows = stored(record(7), record(8, BANNED), bans=[ban(8)])
    result, registry = judged(rows, [issue(9, 1)], orphans=[7, 8, 9, 10])
    adopted = registry.get(10)
    assert adopted is not None
    assert (adopted.state, adopted.incarnation, adopted.name) == (NamespaceState.SUSPENDED, VERSION, "recovered-10")
    assert registry.get(9) is None
    assert registry.get(8).state is BANNED  # type: ignore[union-attr]
    assert any(key.startswith((10).to_bytes(8)) for key in result.added), "the built-in groups"


def test_the_newer_of_two_namespaces_of_one_name_keeps_it() -> None:
    name = "n" * 128
    rows = stored(record(7, ACTIVE, 100, name), record(8, ACTIVE, 200, name), names={name: 7})
    _, registry = judged(rows)
    assert registry.find(name).id == 8  # type: ignore[union-attr]
    assert registry.get(7).name.endswith("-recovered-7")  # type: ignore[union-attr]
    assert len(registry.get(7).name) == 128  # type: ignore[union-attr]


def test_the_name_index_is_made_from_the_records() -> None:
    _, registry = judged(stored(record(7), names={"ghost": 9, "n7": 8}))
    assert registry.find("n7").id == 7  # type: ignore[union-attr]
    assert registry.find("ghost") is None


@pytest.mark.parametrize("lost", ["meta", "namespace 0", "everything"])
def test_what_every_catalog_has_is_made_anew(lost: str) -> None:
    rows = stored(record(7))
    if lost == "meta":
        del rows[schema.catalog_key(schema.Tag.META)]
    elif lost == "namespace 0":
        del rows[schema.namespace_key(0)]
    else:
        rows = {}
    result, registry = judged(rows)
    assert registry.get(0).state is ACTIVE  # type: ignore[union-attr]
    assert (registry.get(0).incarnation == VERSION) == (lost != "meta")  # type: ignore[union-attr]
    assert result.said


@pytest.mark.parametrize("damage", [b"", b"\x10", encode_value(b"\x01\xc1", 1), encode_value(b"", 1)])
def test_a_record_that_cannot_be_understood_is_left_out_and_told(damage: bytes) -> None:
    rows = stored(record(7), record(8)) | {schema.namespace_key(8): damage}
    result, registry = judged(rows)
    assert registry.get(8) is None
    assert registry.get(7) is not None
    assert "could not be understood" in " ".join(result.said)


def test_a_catalog_of_a_newer_prefixdb_is_refused() -> None:
    rows = stored(record(7)) | {schema.namespace_key(7): encode_value(b"\x09\x80", 1)}
    with pytest.raises(FailedPreconditionError):
        judged(rows)
