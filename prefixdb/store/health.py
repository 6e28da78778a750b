"""What happens after a write error: refuse writes, keep reading, and come back without an operator.

After ENOSPC or EIO on its log the engine writes nothing until it is reopened, whatever happens to the disk. Reopening
costs the open cursors and needs space itself (the log is replayed into table files), so it is tried at most once a
second and only when a probe shows that the disk takes bytes again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import KIB, MIB
from prefixdb.store.faults import DISK_RETRY_MS, disk_full
from prefixdb.store.opening import OpenDirectory

log = logging.getLogger("prefixdb.store")

RECOVERY_SECONDS_MIN = 1.0
"""Time between two attempts to reopen."""

PROBE_MARGIN_BYTES = 16 * MIB
"""Space a reopening needs beyond the logs it turns into table files: a new MANIFEST, a new log, room to breathe."""


class WriteHealth:
    """Whether writes are accepted. Everything but reading ``failure`` happens under the store's commit lock."""

    def __init__(self, directory: OpenDirectory[Any]) -> None:
        self._directory = directory
        self._tried_at = 0.0
        self.failure: PrefixdbError | None = None
        """The first write error since the engine was opened, or None."""

    def fail(self, failure: PrefixdbError) -> None:
        """Refuse writes from now on."""
        if self.failure is None:
            self.failure = failure
            self._tried_at = time.monotonic()

    def refusal(self) -> PrefixdbError:
        """Return the error for a write that was not tried."""
        if self.failure is not None and self.failure.reason is Reason.DISK_FULL:
            return disk_full()
        return error(Reason.READ_ONLY_STORE, retry_after_ms=DISK_RETRY_MS)

    def try_recover(self, reopen: Callable[[], None]) -> bool:
        """Return whether writes are possible again; tries at most once a second."""
        if self.failure is None:
            return True
        now = time.monotonic()
        if now - self._tried_at < RECOVERY_SECONDS_MIN:
            return False
        self._tried_at = now
        try:
            self._probe()
            reopen()
        except (OSError, PrefixdbError) as obstacle:
            log.warning("the store still refuses writes: %s", obstacle)
            return False
        self.failure = None
        log.warning("the store accepts writes again")
        return True

    def _probe(self) -> None:
        """Raise OSError unless the disk takes what a reopening needs."""
        path = self._directory.data_dir / "space-probe"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, self._directory.log_bytes() + PROBE_MARGIN_BYTES)
            os.pwrite(handle, bytes(64 * KIB), 0)
            os.fsync(handle)
        finally:
            os.close(handle)
            path.unlink()
