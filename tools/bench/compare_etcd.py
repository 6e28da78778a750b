"""Measure prefixdb against etcd in one run on this machine, fsync on both sides, one load generator for both.

    tools/bench/compare_etcd.py [--seconds 3] [--repetitions 3] [--store auto] [--json] [--no-install]

Method: h2load replays one framed gRPC request with 64 in flight, prefixdb and etcd in turn, several times; the table
shows medians. 10,000 keys of 100-byte values are loaded before. Every request is proven by an ordinary call of the same
bytes before and after, and every run by the size of its responses. etcd's reads are serializable, its cheapest; where
it has no call of a kind, the nearest is used: a transaction of a hundred operations. Targets compare rows per second,
and are marked met or missed; a missed one is no failure of the tool. It ends with 1 only when something broke.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.bench import load, servers
from tools.bench.cases import Case, EtcdSide, PrefixdbSide
from tools.lab.process import ServerFailedError


@dataclass(frozen=True, slots=True)
class Goal:
    """prefixdb's rows/s of ``case`` must be at least ``factor`` times etcd's rows/s of ``against``."""

    case: str
    factor: float
    against: str
    text: str


GOALS = (
    Goal("Get", 0.35, "Get", "Get >= 0.35 x etcd serializable range"),
    Goal("Put", 0.15, "Put", "Put >= 0.15 x etcd put"),
    Goal("BatchGet", 8.0, "Get", "BatchGet(100) keys/s >= 8 x etcd single get keys/s"),
    Goal("Write", 3.0, "Put", "Write(100) rows/s >= 3 x etcd put rows/s"),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians of one side's runs of one case."""

    label: str
    requests_per_s: float
    rows_per_s: float
    p50_ms: float
    p99_ms: float
    runs: tuple[float, ...]


def main() -> int:
    """Run the comparison and print it; return the exit status."""
    arguments = _arguments()
    try:
        servers.ensure_tools(install=not arguments.no_install)
        report = _compare(arguments)
    except (ServerFailedError, load.BadResponsesError) as failure:
        print(f"bench: FAILED: {failure}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=2) if arguments.json else "\n".join(_markdown(report)))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run (default 3)")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds before each run that do not count (1)")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each case on each side (default 3)")
    parser.add_argument("--store", default="auto", choices=("auto", "native", "rocksdict"), help="prefixdb's store")
    parser.add_argument("--case", action="append", help="measure this case only, for example Get; may be repeated")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of Markdown")
    parser.add_argument("--no-install", action="store_true", help="never call apt-get")
    return parser.parse_args()


def _compare(arguments: argparse.Namespace) -> dict[str, object]:
    """Measure both sides; return everything that is shown."""
    with servers.etcd() as etcd_address, servers.prefixdb(arguments.store) as (address, data_dir):
        etcd, ours = EtcdSide(etcd_address), PrefixdbSide(address, data_dir)
        try:
            etcd.preload()
            ours.preload()
            pairs = list(zip(ours.cases(), etcd.cases(), strict=True))
            if arguments.case:
                unknown = set(arguments.case) - {pair[0].name for pair in pairs}
                if unknown:
                    names = ", ".join(pair[0].name for pair in pairs)
                    raise SystemExit(f"no such case: {', '.join(sorted(unknown))}; there are {names}")
                pairs = [pair for pair in pairs if pair[0].name in arguments.case]
            measured = {mine.name: _measure(mine, theirs, arguments) for mine, theirs in pairs}
            facts = {"prefixdb": ours.facts(), "etcd": servers.etcd_version(), **_machine()}
        finally:
            etcd.close()
            ours.close()
    cases = {
        name: {"prefixdb": dataclasses.asdict(mine), "etcd": dataclasses.asdict(theirs)}
        for name, (mine, theirs) in measured.items()
    }
    return {"facts": facts, "settings": vars(arguments), "cases": cases, "goals": list(_judged(measured))}


def _measure(mine: Case, theirs: Case, arguments: argparse.Namespace) -> tuple[Measured, Measured]:
    """Run one case on both sides in turn; return the medians of each."""
    samples: tuple[list[load.Sample], list[load.Sample]] = ([], [])
    for repetition in range(arguments.repetitions):
        print(f"measuring {mine.name} {repetition + 1}/{arguments.repetitions}", file=sys.stderr)
        for case, kept in zip((mine, theirs), samples, strict=True):
            kept.append(load.run(case.target, arguments.seconds, arguments.warm_up))
    return _median(mine, samples[0]), _median(theirs, samples[1])


def _median(case: Case, samples: list[load.Sample]) -> Measured:
    rate = statistics.median(sample.rate for sample in samples)
    p50_ms = statistics.median(sample.p50_ms for sample in samples)
    p99_ms = statistics.median(sample.p99_ms for sample in samples)
    return Measured(case.label, rate, rate * case.rows, p50_ms, p99_ms, tuple(sample.rate for sample in samples))


def _judged(measured: dict[str, tuple[Measured, Measured]]) -> Iterator[dict[str, object]]:
    """Yield every goal whose cases were measured, with what was reached."""
    for goal in GOALS:
        if goal.case in measured and goal.against in measured:
            reached = measured[goal.case][0].rows_per_s / measured[goal.against][1].rows_per_s
            yield {"goal": goal.text, "target": goal.factor, "reached": reached, "met": reached >= goal.factor}


def _machine() -> dict[str, object]:
    """Return what the figures depend on: processors, and the time of one small synced write."""
    times = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(200):
            file.write(b"x" * 128)
            file.flush()
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return {"processors": os.cpu_count(), "fdatasync_us": round(statistics.median(times) * 1e6)}


def _markdown(report: dict[str, object]) -> Iterator[str]:
    """Yield the lines of the report."""
    facts: dict[str, object] = report["facts"]  # type: ignore[assignment]
    settings: dict[str, object] = report["settings"]  # type: ignore[assignment]
    yield f"## prefixdb ({facts['prefixdb']}) and etcd {facts['etcd']}, same machine, same run"
    yield ""
    yield (
        f"{facts['processors']} processors shared by server and load generator, fdatasync {facts['fdatasync_us']} µs, "
        f"fsync on both sides, 64 requests in flight, 10,000 keys of 100-byte values; medians of "
        f"{settings['repetitions']} runs of {settings['seconds']:g} s, sides in turn."
    )
    yield ""
    yield "| case | side | requests/s | rows/s | p50 ms | p99 ms | rows/s, prefixdb : etcd |"
    yield "|---|---|--:|--:|--:|--:|--:|"
    cases: dict[str, dict[str, dict[str, float]]] = report["cases"]  # type: ignore[assignment]
    for name, sides in cases.items():
        ratio = sides["prefixdb"]["rows_per_s"] / sides["etcd"]["rows_per_s"]
        for side, shown in (("prefixdb", f"{ratio:.2f}"), ("etcd", "")):
            one = sides[side]
            yield (
                f"| {name if shown else ''} | {side}: {one['label']} | {one['requests_per_s']:,.0f} "
                f"| {one['rows_per_s']:,.0f} | {one['p50_ms']:.2f} | {one['p99_ms']:.2f} | {shown} |"
            )
    yield ""
    yield "| target | reached | |"
    yield "|---|--:|---|"
    goals: list[dict[str, object]] = report["goals"]  # type: ignore[assignment]
    for goal in goals:
        yield f"| {goal['goal']} | {goal['reached']:.2f} | {'met' if goal['met'] else 'MISSED'} |"


if __name__ == "__main__":
    sys.exit(main())
