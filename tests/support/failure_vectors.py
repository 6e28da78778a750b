"""Failures and the bytes they travel as, for ``tests/data/failures.json``: what Python sends, and C++ has to send, too.

    python -m tests.support.failure_vectors     writes the file anew, when a reason or a text was added or changed

``how`` says how a failure is made: by its reason alone (``reason``), with a message and metadata (``message``), by one
of two helpers (``bad_field``, ``too_many``), or field by field, as answers of Python arrive in the front (``whole``).
Metadata is in the order of its names, as protobuf's deterministic serialization writes maps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.rpc.error_details_pb2 import ErrorInfo

from prefixdb.errors import PrefixdbError, Reason, bad_field, error
from prefixdb.rpcstatus import retry_after_ms, to_message, to_status

PATH = Path(__file__).parent.parent / "data" / "failures.json"

ABOUT = (
    "Failures as google.rpc.Status (status) and prefixdb.v1.Error (error), in hex; tests/support/failure_vectors.py."
)

_WAITS_MS = (0, 1, 100, 999, 1_000, 1_001, 60_000, 2**32, 315_576_000_000_000)


def vectors() -> dict[str, Any]:
    """Return what the file holds."""
    cases = [_case("reason", error(reason)) for reason in Reason]
    for message, metadata in (
        ("", {}),
        ("Größer als erlaubt – 大きすぎる.", {}),
        ("x" * 3_000, {"limit": "16"}),
        ("A message.", {"empty": "", "limit": "1048576", "size": "1048577"}),
    ):
        cases.append(_case("message", error(Reason.VALUE_TOO_LARGE, message, metadata=metadata)))
        cases.append(_case("message", error(Reason.RATE_LIMITED, message, metadata=metadata)))
    cases.append(
        _case("bad_field", bad_field("database", "must be 0 to 65535."), field="database", what="must be 0 to 65535.")
    )
    cases += [_too_many(what, size, limit) for what, size, limit in (("keys", 10_001, 10_000), ("mutations", 2**63, 1))]
    cases += [_case("whole", error(Reason.DISK_FULL, "Full.", retry_after_ms=wait)) for wait in _WAITS_MS]
    return {"about": ABOUT, "cases": cases}


def text() -> str:
    """Return the file's text: a line for each case."""
    found = vectors()
    lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in found["cases"])
    return f'{{\n "about": {json.dumps(found["about"])},\n "cases": [\n{lines}\n ]\n}}\n'


def _too_many(what: str, size: int, limit: int) -> dict[str, Any]:
    message = f"The request has {size} {what}; the limit is {limit}."
    failure = error(Reason.BATCH_TOO_LARGE, message, metadata={"limit": str(limit), "size": str(size)})
    return _case("too_many", failure, what=what, size=str(size), limit=str(limit))


def _case(how: str, failure: PrefixdbError, **made_of: str) -> dict[str, Any]:
    wait_ms = retry_after_ms(failure)
    return {
        "how": how,
        "code": int(failure.code),
        "reason": failure.reason.value.number,
        "name": failure.reason.name,
        "message": failure.message,
        "metadata": [list(entry) for entry in sorted(failure.metadata.items())],
        "retry_after_ms": None if wait_ms is None else str(wait_ms),
        **made_of,
        "status": _status(failure).hex(),
        "error": to_message(failure).SerializeToString(deterministic=True).hex(),
    }


def _status(failure: PrefixdbError) -> bytes:
    """Return the status with every map in order, which ``Any.Pack`` does not see to by itself."""
    status = to_status(failure)
    info = ErrorInfo()
    status.details[0].Unpack(info)
    status.details[0].value = info.SerializeToString(deterministic=True)
    return status.SerializeToString(deterministic=True)


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
