"""The sweep of expired rows, for stores whose compactions do not drop them. They are hidden at once; sweeping only
gives their bytes back, so it is done in small steps with pauses, and a ban never waits for it."""

from __future__ import annotations

import logging

from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError
from prefixdb.keycodec import RowKey
from prefixdb.reclaim.board import BACKOFF_MS_FIRST, BACKOFF_MS_MAX
from prefixdb.store.base import Store

SWEEP_ROWS = 1_000
"""Rows one step looks at: about a millisecond of work."""

SWEEP_STEP_MS = 20
"""Pause between two steps, so that a sweep takes a twentieth of the time at most."""

SWEEP_PASS_MS = 600_000
"""Pause after a whole pass."""

_log = logging.getLogger(__name__)


class Sweeper:
    """Goes round and round the store. Belongs to one thread."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._after = RowKey(b"")
        self._at_ms = 0
        self._failures = 0

    def step(self) -> None:
        """Remove some expired rows, unless the last step or pass ended a short while ago."""
        now_ms = self._clock.now_ms()
        if now_ms < self._at_ms:
            return
        try:
            self._after = self._store.sweep_expired(self._after, SWEEP_ROWS)
        except PrefixdbError as failure:
            wait_ms = min(BACKOFF_MS_FIRST << min(self._failures, 16), BACKOFF_MS_MAX)
            self._failures += 1
            self._at_ms = now_ms + wait_ms
            _log.warning("removing expired rows failed with %s; next try in %d ms", failure.reason.name, wait_ms)
            return
        self._failures = 0
        self._at_ms = now_ms + (SWEEP_STEP_MS if self._after else SWEEP_PASS_MS)

    def idle_ms(self) -> int:
        """Return how long there is nothing to do."""
        return max(self._at_ms - self._clock.now_ms(), SWEEP_STEP_MS)
