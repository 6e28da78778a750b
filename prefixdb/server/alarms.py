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

LOOK_S = 0.5
"""How often files that may be exchanged while the server runs are looked at: a few calls of stat."""


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


async def keep_looking(looks: Iterable[Look]) -> None:
    """Call each function every ``LOOK_S``, in a thread, until cancelled.

    One that fails is a mistake of ours: it is logged, once until it works again, and the others go on.
    """
    failing: set[Look] = set()
    functions = tuple(looks)
    while functions:
        for look in functions:
            try:
                await asyncio.to_thread(look)
                failing.discard(look)
            except Exception as failure:  # noqa: BLE001 - logged; the next look may work
                if look not in failing:
                    _LOG.error("looking for changed files failed", exc_info=failure)
                failing.add(look)
        await asyncio.sleep(LOOK_S)
