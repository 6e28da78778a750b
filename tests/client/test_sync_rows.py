# Generated from tests/client/test_aio_rows.py by tools/async_to_sync.py; do not edit.
"""Goal: single rows and many of them are read and written as the interface promises, types and errors included.

Method: a real server in a process of its own; every test has a namespace of its own.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from prefixdb.errors import (
    ConflictError,
    InvalidArgumentError,
    KeyNotFoundError,
    Reason,
)
from prefixdb.limits import BATCH_KEYS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX
from prefixdb.testing import Namespace
from tests.client.harness import sync_test

pytestmark = pytest.mark.usefixtures("way")
"""Every test runs with calls that are gathered, and with calls that are not."""


@sync_test
def test_what_was_put_is_read_back_byte_for_byte(place: Namespace) -> None:
    with place.connect() as db:
        for key, value in [
            (b"k", b""),
            (b"\x00\xff", bytes(range(256))),
            ("schlüssel", b"v"),
            (b"z" * KEY_BYTES_MAX, b"1"),
        ]:
            db.put(key, value)
            assert db.get(key) == value
        assert db.get("schlüssel".encode()) == b"v", "text keys are their UTF-8 bytes"


@sync_test
def test_a_missing_key_is_none_or_a_key_error_but_never_empty(place: Namespace) -> None:
    with place.connect() as db:
        assert db.get("absent") is None
        assert db.get_row("absent") is None
        assert not db.exists("absent")
        with pytest.raises(KeyNotFoundError) as caught:
            db["absent"]
        assert isinstance(caught.value, KeyError)
        assert "absent" not in str(caught.value), "a key is in no message"
        db.put("there", b"")
        assert db["there"] == b""
        assert db.exists("there")


@sync_test
def test_a_row_carries_version_and_remaining_lifetime(place: Namespace) -> None:
    with place.connect() as db:
        version = db.put("a", b"1", ttl=timedelta(minutes=1))
        row = db.get_row("a")
        assert row is not None
        assert (row.key, row.value, row.version) == (b"a", b"1", version)
        assert row.ttl is not None
        assert 30 < row.ttl <= 60
        assert db.put("a", b"2") > version
        again = db.get_row("a")
        assert again is not None
        assert again.ttl is None, "a put without a lifetime takes the old one away"
        assert "'1'" not in repr(row) and "b'a'" not in repr(row)


@sync_test
def test_a_lifetime_ends(place: Namespace) -> None:
    with place.connect() as db:
        db.put("short", b"1", ttl=0.001)
        while db.get("short") is not None:
            pass
        assert db.count() == 0


@sync_test
def test_conditions_hold_or_refuse_and_tell_the_present_version(place: Namespace) -> None:
    with place.connect() as db:
        first = db.put("a", b"1", if_absent=True)
        for refused in (
            {"if_absent": True},
            {"if_version": first + 1000},
            {"if_value": b"other"},
        ):
            with pytest.raises(ConflictError) as caught:
                db.put("a", b"x", **refused)
            assert caught.value.metadata["current_version"] == str(first)
        with pytest.raises(ConflictError) as caught:
            db.put("b", b"x", if_exists=True)
        assert caught.value.metadata["current_version"] == "0"
        assert db.get("a") == b"1"
        second = db.put("a", b"2", if_version=first)
        third = db.put("a", b"3", if_value=b"2")
        fourth = db.put("a", b"4", if_exists=True)
        assert first < second < third < fourth
        with pytest.raises(ConflictError):
            db.delete("a", if_version=first)
        assert db.exists("a")
        db.delete("a", if_version=fourth)
        assert not db.exists("a")
        db.delete("a")


@sync_test
def test_get_many_returns_what_exists_under_the_keys_as_they_were_passed(place: Namespace) -> None:
    with place.connect() as db:
        db.put("a", b"1")
        db.put("b", b"2")
        assert db.get_many(["a", "missing", "b", "a"]) == {"a": b"1", "b": b"2"}
        assert db.get_many([b"a"]) == {b"a": b"1"}
        assert db.get_many([]) == {}


@sync_test
def test_get_many_goes_beyond_what_one_call_carries(place: Namespace) -> None:
    """Both limits: more keys than a call may name, and values of more bytes than an answer may carry."""
    with place.connect(deadline_s=30) as db:
        count = BATCH_KEYS_MAX + 1
        db.put_many((f"n{number}", b"%d" % number) for number in range(count))
        found = db.get_many([f"n{number}" for number in range(count)])
        assert found == {f"n{number}": b"%d" % number for number in range(count)}
        large = bytes(VALUE_BYTES_MAX)
        db.put_many((f"big{number}", large) for number in range(20))
        found = db.get_many([f"big{number}" for number in range(20)])
        assert len(found) == 20
        assert set(found.values()) == {large}


@sync_test
def test_numbered_databases_are_apart_and_share_the_connection(place: Namespace) -> None:
    with place.connect() as db:
        db.put("k", b"zero")
        db.database(3).put("k", b"three")
        assert db.get("k") == b"zero"
        assert db.database(3).get("k") == b"three"
        assert db.database(65535).get("k") is None
        for wrong in (-1, 65536):
            with pytest.raises(InvalidArgumentError):
                db.database(wrong)


@sync_test
def test_wrong_types_are_refused_with_advice_before_anything_is_sent(place: Namespace) -> None:
    with place.connect() as db:
        with pytest.raises(TypeError, match=r"encode\(\)"):
            db.put("k", "text")
        with pytest.raises(TypeError, match="str or bytes"):
            db.put(7, b"v")
        with pytest.raises(TypeError, match="seconds"):
            db.put("k", b"v", ttl="1h")
        for lifetime in (0, -1, float("nan"), float("inf"), timedelta(0)):
            with pytest.raises(InvalidArgumentError) as caught:
                db.put("k", b"v", ttl=lifetime)
            assert caught.value.reason is Reason.BAD_FIELD
        with pytest.raises(InvalidArgumentError, match="one condition"):
            db.put("k", b"v", if_absent=True, if_version=1)
        with pytest.raises(InvalidArgumentError):
            db.put("k", b"v", if_version=0)
        assert not db.exists("k")


@sync_test
def test_what_the_server_refuses_is_typed_and_keeps_the_grpc_error(place: Namespace, way: str) -> None:
    with place.connect() as db:
        for reason, key, value in [
            (Reason.KEY_EMPTY, b"", b"v"),
            (Reason.KEY_TOO_LARGE, b"k" * (KEY_BYTES_MAX + 1), b"v"),
            (Reason.VALUE_TOO_LARGE, b"k", bytes(VALUE_BYTES_MAX + 1)),
        ]:
            with pytest.raises(InvalidArgumentError) as caught:
                db.put(key, value)
            assert caught.value.reason is reason
            assert isinstance(caught.value, ValueError)
            assert caught.value.__cause__ is not None or way == "gathered", "one operation's failure is not a call's"


@sync_test
def test_no_repr_shows_a_token(place: Namespace) -> None:
    token = place.token_file.read_text()
    with place.connect() as db:
        db.put("k", b"v")
        shown = " ".join(map(repr, [db, db.options, db.batch(), db.pipeline(), vars(db)]))
        assert token not in shown
        assert place.server.endpoint in repr(db)
