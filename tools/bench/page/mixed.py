"""Ten minutes of everything at once, and whether the server's memory grows.

Several generators run beside each other, each with its own operation for a few seconds at a time, then anew with new
connections and a new token. Caches and memtables are made small, though not so small that compactions fall behind and
writes are refused; they fill up in the first part of the run, which is not judged. After that nothing has a reason to
grow, for the rows stay the same.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.bench.page import meters, servers
from tools.bench.page.report import Section
from tools.bench.page.samples import Timing
from tools.bench.page.side import Load
from tools.bench.page.side_prefixdb import PrefixdbSide

SETTINGS = {"PREFIXDB_STORE__CACHE": "32MiB", "PREFIXDB_STORE__WRITE_BUFFER": "16MiB"}
LANES: Sequence[Sequence[str]] = (
    ("get-uniform", "get-zipfian", "batch-get", "pipeline-get"),
    ("put", "write", "pipeline-put"),
    ("scan", "count", "scan-one"),
)
SLICE_S = 5.0
CONNECTIONS, IN_FLIGHT = 2, 4
SETTLING_SHARE = 0.3
WINDOW_SHARE = 0.1
GROWTH_MIB_MAX = 8.0
TELL_EVERY_S = 30.0


@dataclass(slots=True)
class Lane:
    """A thread that runs its operations in turn until it is told to stop."""

    loads: Sequence[tuple[str, Load]]
    side: PrefixdbSide
    stopping: threading.Event
    rows: dict[str, int] = field(default_factory=dict)
    failure: BaseException | None = None

    def run(self) -> None:
        """Run; what goes wrong is kept for whoever joins."""
        try:
            for name, load in itertools.cycle(self.loads):
                if self.stopping.is_set():
                    return
                self.side.renew_token()
                self.rows[name] = self.rows.get(name, 0) + load(Timing(SLICE_S, 0.0)).rows_all
        except BaseException as failure:  # noqa: BLE001 - raised again by the one who waits
            self.failure = failure
            self.stopping.set()


@dataclass(frozen=True, slots=True)
class Growth:
    """Resident memory in MiB: medians of a window after the settling and of the last one."""

    settled: float
    end: float

    @property
    def more(self) -> float:
        """How much came on top."""
        return self.end - self.settled


def run(scratch: Path, front: Sequence[str], minutes: float) -> Section:
    """Run the mixed load and return what is to be told."""
    series: list[tuple[float, float]] = []
    with servers.prefixdb(scratch, front, SETTINGS) as server:
        side = PrefixdbSide("prefixdb native", server, scratch)
        try:
            side.prepare()
            lanes = _start(side)
            try:
                _watch(server.pid, lanes[0][1].stopping, minutes * 60, series)
            finally:
                lanes[0][1].stopping.set()
                for thread, _ in lanes:
                    thread.join()
            for _, lane in lanes:
                if lane.failure is not None:
                    raise lane.failure
        finally:
            side.close()
    rows = {name: count for _, lane in lanes for name, count in lane.rows.items()}
    growth = growth_of([mib for _, mib in series])
    raw = {"minutes": minutes, "rows": rows, "memory_mib": series, "settled": growth.settled, "end": growth.end}
    return Section("mixed", _text(growth, rows, minutes), raw)


def growth_of(series: Sequence[float]) -> Growth:
    """Return the growth of an evenly sampled series.

    Raises:
        ValueError: it has less than ten samples.
    """
    if len(series) < 10:
        raise ValueError("too few samples to tell growth from noise")
    window = max(1, int(len(series) * WINDOW_SHARE))
    first = int(len(series) * SETTLING_SHARE)
    return Growth(statistics.median(series[first : first + window]), statistics.median(series[-window:]))


def _start(side: PrefixdbSide) -> list[tuple[threading.Thread, Lane]]:
    stopping = threading.Event()
    found = []
    for names in LANES:
        loads = []
        for name in names:
            call, runner = side.call(name)
            small = dataclasses.replace(call, connections=CONNECTIONS, in_flight=min(call.in_flight, IN_FLIGHT))
            loads.append((name, runner.load(name, small)))
        lane = Lane(loads, side, stopping)
        thread = threading.Thread(target=lane.run, name=f"lane of {names[0]}")
        thread.start()
        found.append((thread, lane))
    return found


def _watch(pid: int, stopping: threading.Event, seconds: float, series: list[tuple[float, float]]) -> None:
    """Sample the memory once a second until the time is up or a lane has failed."""
    begin = time.monotonic()
    told = 0.0
    while (now := time.monotonic() - begin) < seconds and not stopping.wait(1.0):
        series.append((round(now, 1), round(meters.memory_mib(pid), 1)))
        if now - told >= TELL_EVERY_S:
            told = now
            print(f"[{now / 60:.1f} of {seconds / 60:.1f} minutes] {series[-1][1]:,.0f} MiB", file=sys.stderr)


def _text(growth: Growth, rows: dict[str, int], minutes: float) -> str:
    verdict = "reached" if growth.more <= GROWTH_MIB_MAX else "**missed**"
    done = ", ".join(f"{name} {count:,d}" for name, count in sorted(rows.items()))
    return (
        f"{minutes:g} minutes of mixed load: {growth.settled:,.0f} MiB after the first {SETTLING_SHARE:.0%} of it, "
        f"{growth.end:,.0f} MiB at the end, {growth.more:+,.1f} MiB; at most {GROWTH_MIB_MAX:g} MiB is noise: "
        f"{verdict}.\n\nRows meanwhile: {done}."
    )
