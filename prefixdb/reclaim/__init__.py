"""From a ban to the proof that nothing is left. ``Reclaimer`` is the way in; ``reclaimer`` shows the whole picture."""

from prefixdb.reclaim.reclaimer import Reclaimer

__all__ = ["Reclaimer"]
