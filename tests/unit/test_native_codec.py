"""Goal: the C++ codecs of keys and values make and take the same bytes as the Python ones.

Method: the frozen vectors of ``tests/data`` through both, and random arguments, in and out of range, compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixdb import keycodec, records
from prefixdb.errors import PrefixdbError
from prefixdb.limits import DATABASE_MAX, KEY_BYTES_MAX, NAMESPACE_ID_MAX

native = pytest.importorskip("prefixdb._native.module", reason="the native store is not built in", exc_type=ImportError)

DATA = Path(__file__).parent.parent / "data"
KEYS = json.loads((DATA / "keycodec.json").read_text(encoding="utf-8"))
VALUES = json.loads((DATA / "records.json").read_text(encoding="utf-8"))["values"]

namespaces = st.one_of(st.sampled_from([0, 1, 255, 2**63, NAMESPACE_ID_MAX, 2**64 - 1]), st.integers(0, 2**64 - 1))
databases = st.one_of(st.sampled_from([0, 255, 256, DATABASE_MAX]), st.integers(0, DATABASE_MAX))
short = st.one_of(st.binary(max_size=8), st.text("\x00\xff", max_size=6).map(lambda t: t.encode("latin-1")))
long = st.integers(KEY_BYTES_MAX - 1, KEY_BYTES_MAX + 2).map(lambda size: b"\xff" * size)
user_keys = st.one_of(short, short, long)
u64 = st.one_of(st.sampled_from([0, 1, 2**63, 2**64 - 1]), st.integers(0, 2**64 - 1))


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a codec gives, a span as a pair, or "refused"; the two languages refuse with their own words."""
    try:
        result = call()
    except (ValueError, PrefixdbError, native.DamagedRowError):
        return "refused"
    return (result.begin, result.end) if isinstance(result, keycodec.Span) else result


@pytest.mark.parametrize("vector", KEYS["data_keys"], ids=lambda v: v["row_key"][:24])
def test_data_keys_have_the_frozen_bytes(vector: dict[str, str]) -> None:
    parts = int(vector["namespace"]), int(vector["database"]), bytes.fromhex(vector["user_key"])
    assert native.data_key(*parts).hex() == vector["row_key"]
    assert native.split_data_key(bytes.fromhex(vector["row_key"])) == parts


@pytest.mark.parametrize("vector", KEYS["system_keys"], ids=lambda v: v["row_key"][:24])
def test_system_keys_have_the_frozen_bytes(vector: dict[str, str]) -> None:
    record_key = bytes.fromhex(vector["record_key"])
    assert native.system_key(int(vector["namespace"]), int(vector["tag"]), record_key).hex() == vector["row_key"]


@pytest.mark.parametrize("vector", KEYS["prefix_spans"], ids=lambda v: v["begin"][:24])
def test_prefix_spans_have_the_frozen_bytes(vector: dict[str, str]) -> None:
    prefix = bytes.fromhex(vector["prefix"])
    begin, end = native.prefix_span(int(vector["namespace"]), int(vector["database"]), prefix)
    assert (begin.hex(), end.hex()) == (vector["begin"], vector["end"])


@pytest.mark.parametrize("vector", KEYS["namespace_spans"], ids=lambda v: v["namespace"])
def test_namespace_spans_have_the_frozen_bytes(vector: dict[str, str]) -> None:
    begin, end = native.namespace_span(int(vector["namespace"]))
    assert (begin.hex(), end.hex()) == (vector["begin"], vector["end"])


@pytest.mark.parametrize("vector", VALUES, ids=lambda v: v["stored"][:24])
def test_stored_values_have_the_frozen_bytes(vector: dict[str, str]) -> None:
    parts = bytes.fromhex(vector["payload"]), int(vector["version"]), int(vector["expires_at_ms"])
    assert native.encode_value(*parts).hex() == vector["stored"]
    assert native.decode_value(bytes.fromhex(vector["stored"])) == parts


@given(namespaces, databases, user_keys, st.integers(0, 255))
def test_random_keys_and_prefixes_are_equal(namespace_id: int, database: int, key: bytes, tag: int) -> None:
    for call in ("data_key", "prefix_span"):
        python, cpp = getattr(keycodec, call), getattr(native, call)
        assert outcome(lambda f=cpp: f(namespace_id, database, key)) == outcome(
            lambda f=python: f(namespace_id, database, key)
        ), call
    assert outcome(lambda: native.system_key(namespace_id, tag, key)) == outcome(
        lambda: keycodec.system_key(namespace_id, tag, key)
    )
    assert outcome(lambda: native.namespace_span(namespace_id)) == outcome(
        lambda: keycodec.namespace_span(namespace_id)
    )


@given(namespaces, databases, user_keys, user_keys)
def test_random_ranges_are_equal(namespace_id: int, database: int, start: bytes, end: bytes) -> None:
    assert outcome(lambda: native.range_span(namespace_id, database, start, end)) == outcome(
        lambda: keycodec.range_span(namespace_id, database, start, end)
    )


@given(st.one_of(st.binary(max_size=20), st.builds(lambda n, rest: n.to_bytes(8, "big") + b"\x01" + rest, u64, short)))
def test_any_bytes_are_the_same_row_key_or_none(row_key: bytes) -> None:
    assert outcome(lambda: native.split_data_key(row_key)) == outcome(lambda: keycodec.split_data_key(row_key))


@given(st.binary(max_size=64), u64, u64)
def test_random_values_are_equal_and_come_back(payload: bytes, version: int, expires_at_ms: int) -> None:
    stored = native.encode_value(payload, version, expires_at_ms)
    assert stored == records.encode_value(payload, version, expires_at_ms)
    assert native.decode_value(stored) == (payload, version, expires_at_ms)


@given(
    st.one_of(st.binary(max_size=24), st.builds(lambda head, rest: bytes([head]) + rest, st.integers(15, 35), short))
)
def test_any_bytes_are_the_same_stored_value_or_damage(stored: bytes) -> None:
    assert outcome(lambda: native.decode_value(stored)) == outcome(lambda: tuple(records.decode_value(stored)))
