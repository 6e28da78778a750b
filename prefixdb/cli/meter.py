"""Rows on their way, as progress: how many, how fast, what share of the whole."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefixdb.cli.progress import Advance, progress
from prefixdb.cli.settings import Settings

if TYPE_CHECKING:
    from prefixdb.client.models import TransferProgress

SILENT_S = 2.0
"""Where there is no bar, what takes no longer than this says nothing on its way."""

_STAGES = {
    # Phase: what is said, where its part of the whole begins and ends.
    "READY": ("sending", 0.0, 0.0),
    "RECEIVING": ("sending", 0.0, 0.5),
    "CHECKING": ("checking", 0.5, 0.6),
    "APPLYING": ("writing", 0.6, 1.0),
    "DONE": ("done", 1.0, 1.0),
}


class Meter:
    """Tells people about rows on their way. A bar says how many and how fast, lines say only what is going on."""

    def __init__(self, advance: Advance, *, bar: bool, now_s: Callable[[], float] = time.monotonic) -> None:
        self._advance = advance
        self._bar = bar
        self._now_s = now_s
        self._begun_at = now_s()
        self._said = 0.0

    def rows(self, done: int, estimate: int, doing: str) -> None:
        """Tell that so many rows of about so many are done."""
        self._tell(min(0.99, done / estimate) if estimate else 0.0, doing, done)

    def follow(self, facts: TransferProgress) -> None:
        """Tell how far an import, a restore or a clone is."""
        doing, begins, ends = _STAGES[facts.phase.name]
        if facts.phase.name == "RECEIVING":
            share = facts.share_sent
        else:
            share = facts.rows_done / facts.rows_total if facts.rows_total else 0.0
        rows = facts.rows_received if facts.phase.name == "RECEIVING" else facts.rows_done
        self._tell(begins + (ends - begins) * min(1.0, share), doing, rows)

    def _tell(self, share: float, doing: str, rows: int) -> None:
        took_s = self._now_s() - self._begun_at
        if self._bar:
            rate = f", {rows / took_s:,.0f}/s" if took_s > 1 and rows else ""
            self._advance(share, f"{doing}: {rows:,} rows{rate}" if rows else doing)
        elif took_s > SILENT_S:
            # Estimates change; a line that says less than the one before would be no progress.
            self._said = max(self._said, share)
            self._advance(self._said, doing)


@contextmanager
def meter(settings: Settings, title: str) -> Iterator[Meter]:
    """Yield what shows rows on their way; it shows nothing under ``--quiet``."""
    with progress(settings, title) as advance:
        yield Meter(advance, bar=sys.stderr.isatty())
