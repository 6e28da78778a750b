"""What one run measured, and what several say together: medians, ratios of the same round, and how far they lie apart.

A ratio is taken between runs of the same round, which lie seconds apart, and the median of the rounds counts: what
else the machine was doing then hit both.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


class BadResponsesError(RuntimeError):
    """A server answered, but not with what was asked for; its rate would mean nothing."""


class NothingAnsweredError(BadResponsesError):
    """Not one request was answered within the time of a run."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one run lasts, in seconds; what happens while it warms up does not count."""

    seconds: float
    warm_up_s: float


@dataclass(frozen=True, slots=True)
class Counted:
    """What a load generator saw.

    rows: read or written while it measured; ``rows_all``: the warm-up's too, and for the rest as ``rows``.
    p50_ms, p99_ms, p999_ms: of a call's time; None when no call ended while it measured.
    cpu_s, memory_mib: of the server, when it is the generator itself (RocksDB alone).
    generator_cpu_s: processor time of the generator over all of its run, warm-up included.
    """

    seconds: float
    calls: int
    rows: int
    rows_all: int
    p50_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    cpu_s: float | None = None
    memory_mib: float | None = None
    generator_cpu_s: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one operation on one side.

    cpu_us_per_row: processor time of the server for one row, in microseconds; of a single-row call, for one call.
    memory_mib: resident memory of the server at the end of the run.
    """

    calls_per_s: float
    rows_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    cpu_us_per_row: float
    memory_mib: float
    generator_cpu_share: float | None


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of the ratios of the rounds, with the smallest and the largest."""

    middle: float
    low: float
    high: float


def sample_of(counted: Counted, cpu_s: float, memory_mib: float) -> Sample:
    """Return the sample of a run during which the server used ``cpu_s`` of processor time.

    Raises:
        NothingAnsweredError: nothing was done.
    """
    if not counted.rows or not counted.rows_all or counted.seconds <= 0:
        raise NothingAnsweredError("nothing was answered within the time of a run")
    whole_s = counted.seconds * counted.rows_all / counted.rows
    share = None if counted.generator_cpu_s is None else counted.generator_cpu_s / whole_s
    return Sample(
        calls_per_s=counted.calls / counted.seconds,
        rows_per_s=counted.rows / counted.seconds,
        p50_ms=counted.p50_ms,
        p99_ms=counted.p99_ms,
        p999_ms=counted.p999_ms,
        cpu_us_per_row=cpu_s / counted.rows_all * 1e6,
        memory_mib=memory_mib,
        generator_cpu_share=share,
    )


def median(samples: Sequence[Sample], field: str) -> float | None:
    """Return the median of a field, None when no sample has it."""
    values = [found for sample in samples if (found := getattr(sample, field)) is not None]
    return statistics.median(values) if values else None


def spread(samples: Sequence[Sample]) -> float:
    """Return how far the rates lie apart: (largest - smallest) / median."""
    rates = [sample.rows_per_s for sample in samples]
    return (max(rates) - min(rates)) / statistics.median(rates)


def paired(ours: Sequence[Sample], theirs: Sequence[Sample], field: str) -> Ratio:
    """Return a field of ours in multiples of theirs, round by round; a round that only one has is left out."""
    ratios = [getattr(mine, field) / getattr(other, field) for mine, other in zip(ours, theirs, strict=False)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> Ratio:
    """Return rows a second of ours in multiples of theirs; see ``paired``."""
    return paired(ours, theirs, "rows_per_s")


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value of that rank in an ascending sequence that is not empty."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
