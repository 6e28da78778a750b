"""Goal: the frozen failures are what Python sends today, of every reason there is.

Method: the file is built again and compared; each status and each error is read back as a client reads it. That C++
makes the same bytes ``tests/native/front_failure_test.cc`` holds against the same file.
"""

from __future__ import annotations

import json

import pytest

from prefixdb.errors import Reason
from prefixdb.rpcstatus import from_message, from_status
from prefixdb.v1 import error_pb2
from tests.support import failure_vectors

FROZEN = json.loads(failure_vectors.PATH.read_text(encoding="utf-8"))["cases"]


def test_the_frozen_failures_are_those_of_today():
    assert failure_vectors.PATH.read_text(encoding="utf-8") == failure_vectors.text()
    assert {case["name"] for case in FROZEN if case["how"] == "reason"} == set(Reason.__members__)


@pytest.mark.parametrize("case", FROZEN, ids=[f"{index}-{case['name']}" for index, case in enumerate(FROZEN)])
def test_a_client_reads_what_was_said(case):
    for found in (
        from_status(case["code"], case["message"], bytes.fromhex(case["status"])),
        from_message(error_pb2.Error.FromString(bytes.fromhex(case["error"]))),
    ):
        assert found.reason is Reason[case["name"]] and found.message == case["message"]
        assert sorted(found.metadata.items()) == [tuple(entry) for entry in case["metadata"]]
        assert str(found.retry_after_ms) == str(case["retry_after_ms"])
