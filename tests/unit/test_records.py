"""Goal: stored bytes keep their meaning; bytes that cannot be understood are never guessed at.

Method: frozen vectors in ``tests/data/records.json``, round trips over random values, every head byte and truncation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixdb import records
from prefixdb.errors import DataLossError, FailedPreconditionError, PrefixdbError, Reason

VECTORS = json.loads((Path(__file__).parent.parent / "data" / "records.json").read_text(encoding="utf-8"))
versions = st.integers(1, 2**64 - 1)


@pytest.mark.parametrize("vector", VECTORS["values"], ids=lambda v: v["stored"][:20])
def test_stored_values_have_the_frozen_bytes(vector: dict[str, str]) -> None:
    parts = (bytes.fromhex(vector["payload"]), int(vector["version"]), int(vector["expires_at_ms"]))
    assert records.encode_value(*parts).hex() == vector["stored"]
    assert records.decode_value(bytes.fromhex(vector["stored"])) == parts


@pytest.mark.parametrize("vector", VECTORS["records"], ids=lambda v: v["payload"][:20])
def test_system_records_have_the_frozen_bytes(vector: dict[str, Any]) -> None:
    assert records.encode_record(vector["fields"]).hex() == vector["payload"]
    assert records.decode_record(bytes.fromhex(vector["payload"])) == vector["fields"]


@given(st.binary(max_size=64), versions, st.one_of(st.just(0), versions))
def test_a_value_comes_back_as_it_was_stored(payload: bytes, version: int, expires_at_ms: int) -> None:
    stored = records.encode_value(payload, version, expires_at_ms)
    assert records.decode_value(stored) == (payload, version, expires_at_ms)


def test_only_the_two_known_heads_are_read() -> None:
    body = bytes(24)
    readable = set()
    for head in range(256):
        try:
            records.decode_value(bytes([head]) + body)
        except DataLossError as damage:
            assert damage.reason is Reason.CORRUPTION
        else:
            readable.add(head)
    assert readable == {0x10, 0x11}


@pytest.mark.parametrize(
    "stored", [records.encode_value(b"", 7), records.encode_value(b"", 7, 9)], ids=["plain", "ttl"]
)
def test_every_truncation_of_the_head_is_damage(stored: bytes) -> None:
    for size in range(len(stored)):
        with pytest.raises(DataLossError):
            records.decode_value(stored[:size])


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b"", DataLossError),
        (b"\x00\x80", DataLossError),
        (b"\x01", DataLossError),
        (b"\x01\xc1", DataLossError),
        (b"\x01\x80\x00", DataLossError),
        (b"\x01\x90", DataLossError),
        (b"\x01\x81\x01\x01", DataLossError),
        (b"\x01\x81\xc4\x01a\x01", DataLossError),
        (b"\x01\xa1\xff", DataLossError),
        (b"\x02\x80", FailedPreconditionError),
        (b"\xff", FailedPreconditionError),
    ],
)
def test_a_record_that_cannot_be_read_says_why(payload: bytes, error: type[PrefixdbError]) -> None:
    with pytest.raises(error) as refusal:
        records.decode_record(payload)
    if error is FailedPreconditionError:
        assert f"format {payload[0]}" in str(refusal.value)
        assert f"up to {records.RECORD_FORMAT}" in str(refusal.value)
