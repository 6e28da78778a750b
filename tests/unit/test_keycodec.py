"""Goal: physical keys are injective, ordered and stay inside their namespace; the bytes never change.

Method: frozen vectors in ``tests/data/keycodec.json`` (any implementation can be checked against them), and random
keys compared with an oracle that orders tuples instead of bytes.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixdb import keycodec
from prefixdb.errors import InvalidArgumentError, Reason
from prefixdb.keycodec import RowKey, Span
from prefixdb.limits import DATABASE_MAX, KEY_BYTES_MAX, NAMESPACE_ID_MAX

VECTORS = json.loads((Path(__file__).parent.parent / "data" / "keycodec.json").read_text(encoding="utf-8"))

edge_bytes = st.one_of(st.binary(max_size=6), st.text("\x00\xff", max_size=6).map(lambda t: t.encode("latin-1")))
namespaces = st.one_of(st.sampled_from([0, 1, 255, 256, 2**63, NAMESPACE_ID_MAX]), st.integers(0, NAMESPACE_ID_MAX))
databases = st.one_of(st.sampled_from([0, 1, 255, 256, DATABASE_MAX]), st.integers(0, DATABASE_MAX))
user_keys = edge_bytes.filter(bool)


@pytest.mark.parametrize("vector", VECTORS["data_keys"], ids=lambda v: v["row_key"][:24])
def test_data_keys_have_the_frozen_bytes(vector: dict[str, str]) -> None:
    namespace_id, database, key = int(vector["namespace"]), int(vector["database"]), bytes.fromhex(vector["user_key"])
    assert keycodec.data_key(namespace_id, database, key).hex() == vector["row_key"]
    assert keycodec.split_data_key(bytes.fromhex(vector["row_key"])) == (namespace_id, database, key)


@pytest.mark.parametrize("vector", VECTORS["system_keys"], ids=lambda v: v["row_key"][:24])
def test_system_keys_have_the_frozen_bytes(vector: dict[str, str]) -> None:
    namespace_id, tag, record = int(vector["namespace"]), int(vector["tag"]), bytes.fromhex(vector["record_key"])
    assert keycodec.system_key(namespace_id, tag, record).hex() == vector["row_key"]
    assert keycodec.split_system_key(bytes.fromhex(vector["row_key"])) == (namespace_id, tag, record)


@pytest.mark.parametrize("vector", VECTORS["prefix_spans"], ids=lambda v: v["begin"][:24])
def test_prefix_spans_have_the_frozen_bytes(vector: dict[str, str]) -> None:
    span = keycodec.prefix_span(int(vector["namespace"]), int(vector["database"]), bytes.fromhex(vector["prefix"]))
    assert (span.begin.hex(), span.end.hex()) == (vector["begin"], vector["end"])


@pytest.mark.parametrize("vector", VECTORS["namespace_spans"], ids=lambda v: v["namespace"])
def test_namespace_spans_have_the_frozen_bytes(vector: dict[str, str]) -> None:
    span = keycodec.namespace_span(int(vector["namespace"]))
    assert (span.begin.hex(), span.end.hex()) == (vector["begin"], vector["end"])


@given(st.tuples(namespaces, databases, user_keys), st.tuples(namespaces, databases, user_keys))
def test_row_keys_order_like_their_parts(one: tuple[int, int, bytes], two: tuple[int, int, bytes]) -> None:
    first, second = keycodec.data_key(*one), keycodec.data_key(*two)
    assert (first < second, first == second) == (one < two, one == two)


@given(namespaces, namespaces, databases, user_keys)
def test_a_row_lies_in_the_span_of_its_own_namespace_only(one: int, two: int, database: int, key: bytes) -> None:
    row_key = keycodec.data_key(one, database, key)
    assert (row_key in keycodec.namespace_span(two)) == (one == two)
    assert row_key not in keycodec.family_span(one, keycodec.FAMILY_SYSTEM)


@given(namespaces, databases, databases, user_keys, edge_bytes)
def test_a_prefix_span_holds_exactly_the_keys_with_the_prefix(
    namespace_id: int, database: int, other: int, key: bytes, prefix: bytes
) -> None:
    span = keycodec.prefix_span(namespace_id, database, prefix)
    inside = keycodec.data_key(namespace_id, other, key) in span
    assert inside == (other == database and key.startswith(prefix))


@given(namespaces, databases, user_keys, edge_bytes, edge_bytes)
def test_a_range_span_holds_exactly_the_keys_between_its_bounds(
    namespace_id: int, database: int, key: bytes, start: bytes, end: bytes
) -> None:
    if end and start > end:
        with pytest.raises(InvalidArgumentError) as refusal:
            keycodec.range_span(namespace_id, database, start, end)
        assert refusal.value.reason is Reason.BAD_RANGE
        return
    span = keycodec.range_span(namespace_id, database, start, end)
    inside = keycodec.data_key(namespace_id, database, key) in span
    assert inside == (start <= key and (not end or key < end))
    assert keycodec.namespace_span(namespace_id).begin <= span.begin
    assert span.end <= keycodec.namespace_span(namespace_id).end


@given(namespaces, st.integers(0, 255), edge_bytes, namespaces, databases, user_keys)
def test_no_user_row_shares_a_key_with_a_system_record(
    namespace_id: int, tag: int, record: bytes, other: int, database: int, key: bytes
) -> None:
    system = keycodec.system_key(namespace_id, tag, record)
    data = keycodec.data_key(other, database, key)
    assert system != data
    assert system in keycodec.system_span(namespace_id, tag)
    assert data not in keycodec.system_span(namespace_id, tag)
    with pytest.raises(ValueError):
        keycodec.split_data_key(system)
    with pytest.raises(ValueError):
        keycodec.split_system_key(data)


@pytest.mark.parametrize(
    ("key", "reason"),
    [(b"", Reason.KEY_EMPTY), (b"k" * (KEY_BYTES_MAX + 1), Reason.KEY_TOO_LARGE)],
    ids=["empty", "one byte too long"],
)
def test_a_key_beyond_the_limit_is_refused_with_size_and_limit(key: bytes, reason: Reason) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        keycodec.data_key(1, 0, key)
    assert refusal.value.reason is reason
    if key:
        assert refusal.value.metadata == {"size": str(len(key)), "limit": str(KEY_BYTES_MAX)}


def test_the_longest_key_and_the_bound_after_it_are_accepted() -> None:
    longest = b"\xff" * KEY_BYTES_MAX
    row_key = keycodec.data_key(NAMESPACE_ID_MAX, DATABASE_MAX, longest)
    assert keycodec.split_data_key(row_key) == (NAMESPACE_ID_MAX, DATABASE_MAX, longest)
    assert row_key in keycodec.database_span(NAMESPACE_ID_MAX, DATABASE_MAX)
    assert row_key not in keycodec.range_span(NAMESPACE_ID_MAX, DATABASE_MAX, longest + b"\0", b"")
    with pytest.raises(InvalidArgumentError):
        keycodec.range_span(0, 0, longest + b"\0\0", b"")
    with pytest.raises(InvalidArgumentError):
        keycodec.prefix_span(0, 0, longest + b"\0")


@pytest.mark.parametrize("database", [-1, DATABASE_MAX + 1])
def test_a_database_out_of_range_is_refused_by_name(database: int) -> None:
    for build in (
        lambda: keycodec.data_key(1, database, b"k"),
        lambda: keycodec.database_span(1, database),
        lambda: keycodec.range_span(1, database, b"a", b"b"),
    ):
        with pytest.raises(InvalidArgumentError) as refusal:
            build()
        assert refusal.value.metadata == {"field": "database"}


@pytest.mark.parametrize("namespace_id", [-1, NAMESPACE_ID_MAX + 1, 2**64])
def test_an_id_that_is_never_issued_builds_no_key(namespace_id: int) -> None:
    for build in (
        lambda: keycodec.data_key(namespace_id, 0, b"k"),
        lambda: keycodec.namespace_span(namespace_id),
        lambda: keycodec.system_key(namespace_id, 0),
        lambda: keycodec.prefix_span(namespace_id, 0, b""),
    ):
        with pytest.raises(ValueError):
            build()


def test_a_span_cannot_be_inverted_and_shows_no_key() -> None:
    with pytest.raises(InvalidArgumentError):
        Span(RowKey(b"b"), RowKey(b"a"))
    assert Span(RowKey(b"a"), RowKey(b"a")).is_empty
    assert "secret" not in repr(Span(RowKey(b"secret"), RowKey(b"secret2")))


@pytest.mark.parametrize(
    "row_key", [b"", b"\0" * 7, b"\0" * 8 + b"\1\0\0", b"\0" * 8 + b"\2\0\0k", b"\0" * 8 + b"\0\0\0k"]
)
def test_bytes_that_are_no_data_key_are_not_taken_apart(row_key: bytes) -> None:
    with pytest.raises(ValueError):
        keycodec.split_data_key(row_key)
