"""Waiting for what has to come true, without a sleep whose length somebody guessed."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE_S = 0.005


def wait_for(condition: Callable[[], bool], what: str = "the condition", timeout_s: float = 30.0) -> None:
    """Return when ``condition()`` is true; fail when that takes longer than ``timeout_s``. Blocks."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(PAUSE_S)
