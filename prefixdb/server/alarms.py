"""What an operator should look at, gathered in one place: for the metrics, the status and ``prefixdb doctor``.

A part that has trouble of a kind that does not stop the server says so in ``problems``: sentences, none when all is
well. It logs them itself, once. Here they are only shown, for as long as they last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

_LOG = logging.getLogger("prefixdb.server")

Problems = Callable[[], Iterable[str]]
Look = Callable[[], object]

CERTIFICATES_LOOK_S = 0.5
"""How often the files of TLS are looked at: a few calls of stat."""

ISSUERS_LOOK_S = 2.0
"""How often the files of other issuers are read: a key that was taken out is refused soon; reading costs more."""


class Alarms:
    """All present problems by where they come from.

    Args:
        sources: a fixed short word, which becomes a label of the metric, and what tells the problems. Called from the
            event loop, so each must be cheap.
    """

    def __init__(self, sources: Mapping[str, Problems]) -> None:
        self._sources = dict(sources)

    def texts(self) -> tuple[str, ...]:
        """Return every problem as a sentence, in the order of the sources."""
        return tuple(text for problems in self._sources.values() for text in problems())

    def counts(self) -> dict[str, int]:
        """Return how many problems each source has now."""
        return {name: sum(1 for _ in problems()) for name, problems in self._sources.items()}


async def keep_looking(look: Look, every_s: float) -> None:
    """Call ``look`` in a thread, again and again, until cancelled.

    Should it fail, that is a mistake of ours: it is logged, once until it works again, and the next look may work.
    """
    failing = False
    while True:
        try:
            await asyncio.to_thread(look)
            failing = False
        except Exception as failure:  # noqa: BLE001 - logged
            if not failing:
                _LOG.error("looking for changed files failed", exc_info=failure)
            failing = True
        await asyncio.sleep(every_s)
