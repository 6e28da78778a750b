"""Rounds: every side in turn does the same thing for a moment, again and again.

The machine is never quiet. Sides that follow each other within seconds meet the same noise, and the median of several
rounds forgets a bad one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence

from tools.bench.page import meters
from tools.bench.page.operations import BY_NAME, Operation
from tools.bench.page.samples import NothingAnsweredError, Sample, Timing, sample_of
from tools.bench.page.side import Load, Side

PATIENCE = 6


class Progress:
    """One line for every run, with what is left to do."""

    def __init__(self, runs: int) -> None:
        self._runs = runs
        self._done = 0
        self._begin = time.monotonic()

    def tell(self, what: str, sample: Sample, unit: str) -> None:
        """Count a run that is done and say what it found."""
        self._done += 1
        left_s = (time.monotonic() - self._begin) / self._done * (self._runs - self._done)
        minutes, seconds = divmod(round(left_s), 60)
        print(
            f"[{self._done}/{self._runs}, {minutes}:{seconds:02d} left] {what}: {sample.rows_per_s:,.0f} {unit}",
            file=sys.stderr,
        )


def measure(
    sides: Sequence[Side],
    operations: Sequence[Operation],
    rounds: int,
    timing: Timing,
    measured: dict[str, dict[str, list[Sample]]],
) -> None:
    """Measure every operation on every side that can do it.

    Args:
        measured: is filled as it goes, operation -> side -> samples, so that an interrupted run keeps what it has.
    """
    able = {side.name: side.loads() for side in sides}
    progress = Progress(rounds * sum(operation.name in able[side.name] for operation in operations for side in sides))
    for operation in operations:
        found = measured.setdefault(operation.name, {})
        for number in range(1, rounds + 1):
            for side in sides:
                if (load := able[side.name].get(operation.name)) is None:
                    continue
                sample = run_once(side, load, timing)
                found.setdefault(side.name, []).append(sample)
                what = f"{operation.title}, {side.name}, round {number} of {rounds}"
                progress.tell(what, sample, BY_NAME[operation.name].unit)


def run_once(side: Side, load: Load, timing: Timing) -> Sample:
    """Run a load once; once more and for longer when the machine was too busy for a single answer.

    Raises:
        NothingAnsweredError: it was so the second time, too.
    """
    try:
        return _metered(side, load, timing)
    except NothingAnsweredError:
        return _metered(side, load, Timing(timing.seconds * PATIENCE, timing.warm_up_s))


def _metered(side: Side, load: Load, timing: Timing) -> Sample:
    """Run a load, looking at the processor time and the memory of its server."""
    if side.pid is None:
        counted = load(timing)
        return sample_of(counted, counted.cpu_s or 0.0, counted.memory_mib or 0.0)
    before_s = meters.cpu_seconds(side.pid)
    counted = load(timing)
    # The few calls that prove the answers are in it, too: a handful among thousands.
    return sample_of(counted, meters.cpu_seconds(side.pid) - before_s, meters.memory_mib(side.pid))


def as_json(measured: Mapping[str, Mapping[str, Sequence[Sample]]]) -> dict[str, object]:
    """Return every sample of every run."""
    return {
        operation: {
            side: [{name: getattr(sample, name) for name in Sample.__slots__} for sample in samples]
            for side, samples in sides.items()
        }
        for operation, sides in measured.items()
    }
