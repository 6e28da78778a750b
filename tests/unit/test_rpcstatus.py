"""Goal: an error survives the trip over gRPC whole; foreign statuses never raise.

Method: every reason there and back, the wire enum compared with the table, random bytes as details.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.rpc.error_details_pb2 import RetryInfo
from hypothesis import given
from hypothesis import strategies as st

from prefixdb import rpcstatus
from prefixdb.errors import Code, PrefixdbError, Reason, UnavailableError, error
from prefixdb.v1 import error_pb2


@pytest.mark.parametrize("reason", Reason, ids=lambda r: r.name)
def test_every_reason_survives_the_trip(reason: Reason) -> None:
    sent = error(reason, "what happened", metadata={"limit": "7"}, retry_after_ms=250)
    status = rpcstatus.to_status(sent)
    for got in (
        rpcstatus.from_status(status.code, status.message, status.SerializeToString()),
        rpcstatus.from_message(rpcstatus.to_message(sent)),
    ):
        assert type(got) is type(sent) is reason.value.error
        assert (got.reason, str(got), got.metadata, got.code) == (reason, "what happened", {"limit": "7"}, sent.code)
        assert got.retry_after_ms == (250 if reason.value.retryable else None)


@pytest.mark.parametrize("reason", Reason, ids=lambda r: r.name)
def test_retry_info_is_there_exactly_when_a_retry_can_help(reason: Reason) -> None:
    kinds = [detail.Is(RetryInfo.DESCRIPTOR) for detail in rpcstatus.to_status(error(reason)).details]
    assert any(kinds) == reason.value.retryable


def test_the_wire_enum_and_the_table_are_the_same() -> None:
    wire = {name.removeprefix("REASON_"): number for name, number in error_pb2.Reason.items() if number}
    assert wire == {reason.name: reason.value.number for reason in Reason}


def test_the_comment_of_every_wire_reason_tells_its_code() -> None:
    proto = (Path(__file__).parents[2] / "proto/prefixdb/v1/error.proto").read_text(encoding="utf-8")
    told = {name: comment for comment, name in re.findall(r"// ([^\n]*)\n  REASON_(\w+) =", proto)}
    for reason in Reason:
        if "Never sent by a server" in told.get(reason.name, ""):
            continue
        assert told[reason.name].startswith(reason.value.code.name), reason.name


@given(st.integers(-5, 300), st.text(max_size=20), st.one_of(st.none(), st.binary(max_size=80)))
def test_a_foreign_status_becomes_an_error_and_never_raises(code: int, message: str, details: bytes | None) -> None:
    assert isinstance(rpcstatus.from_status(code, message, details), PrefixdbError)


def test_a_reason_of_a_newer_server_falls_back_to_its_code() -> None:
    status = rpcstatus.to_status(error(Reason.DRAINING))
    info = status.details[0]
    info.value = info.value.replace(b"DRAINING", b"TOMORROW")
    got = rpcstatus.from_status(int(Code.UNAVAILABLE), "later", status.SerializeToString())
    assert isinstance(got, UnavailableError)
    assert got.metadata["reason"] == "TOMORROW"


def test_errors_are_the_builtins_people_catch() -> None:
    pairs = [
        (Reason.KEY_EMPTY, ValueError),
        (Reason.TOKEN_INVALID, PermissionError),
        (Reason.NAMESPACE_BANNED, PermissionError),
        (Reason.KEY_NOT_FOUND, KeyError),
        (Reason.DEADLINE, TimeoutError),
        (Reason.DRAINING, ConnectionError),
        (Reason.METHOD_UNKNOWN, NotImplementedError),
    ]
    for reason, builtin in pairs:
        assert isinstance(error(reason), builtin), reason
        assert str(error(reason, "plain words")) == "plain words"
