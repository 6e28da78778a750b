"""Goal: the native front and the Python server are equally patient.

Method: the numbers of ``transport_limits.h`` are read from its text and compared with those of ``server/transport.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prefixdb.server import transport

HEADER = Path(__file__).parents[2] / "prefixdb" / "_native" / "front" / "transport_limits.h"

LIMITS = {
    "handshake": transport.HANDSHAKE_MS_MAX,
    "idle": transport.IDLE_MS_MAX,
    "age": transport.AGE_MS_MAX,
    "age_grace": transport.AGE_GRACE_MS,
    "keepalive": transport.KEEPALIVE_MS,
    "keepalive_answer": transport.KEEPALIVE_ANSWER_MS,
    "ping": transport.CLIENT_PING_MS_MIN,
}


def _number(text: str) -> int:
    """Return a product of numbers as C++ writes them."""
    product = 1
    for factor in text.split("*"):
        product *= int(factor.strip().replace("'", ""))
    return product


@pytest.mark.parametrize("name", LIMITS)
def test_a_time_is_the_same_in_both_servers(name: str) -> None:
    found = re.search(rf"^  Ms {name}{{([0-9'* ]+)}};", HEADER.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"{HEADER.name} has no time {name!r}"
    assert _number(found[1]) == LIMITS[name]


def test_as_many_strikes_are_forgiven() -> None:
    found = re.search(r"^  int ping_strikes = (\d+);", HEADER.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    assert int(found[1]) == dict(transport.CHANNEL_OPTIONS)["grpc.http2.max_ping_strikes"]
