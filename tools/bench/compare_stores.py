"""Measure the native store against the rocksdict store in one run on this machine, taking turns.

    tools/bench/compare_stores.py [--rounds 9] [--reclaim-rounds 3] [--rows 2000000] [--bans 100000] [--only WORD]
                                  [--directory D] [--json]

Method: both stores hold the same rows and are open in one process. Each case runs in slices of fractions of a second,
the stores in turn and in changing order; the ratio is the median of the rounds' ratios, with the smallest and the
largest beside it. Writes are synced on the disk under ``--directory``. "From files" means that the block cache holds
next to nothing, so rows come out of the files, through the operating system's cache. Reclaiming works on fresh copies
of one directory (store_reclaim.py); the cost of a large ban manifest is measured by bans.py, whose table follows.

Demands are marked met or missed; a missed one is no failure of the tool. It ends with 1 only when something broke.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from prefixdb.errors import PrefixdbError
from tools.bench import store_cases, store_reclaim
from tools.bench.store_cases import Case, WrongAnswerError

KINDS = ("rocksdict", "native")
RECLAIM_AT_LEAST = 1.5
P99_AT_MOST = 2.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report: medians of both stores, and native's figure in multiples of the other one.

    demand: ``None`` when nothing is demanded of ``ratio``; positive: at least, negative: at most so much.
    """

    name: str
    unit: str
    rocksdict: float
    native: float
    ratio: float
    ratio_min: float
    ratio_max: float
    demand: float | None

    @property
    def verdict(self) -> str:
        """Whether the demand is met, in words."""
        if self.demand is None:
            return ""
        met = self.ratio >= self.demand if self.demand > 0 else self.ratio <= -self.demand
        wanted = f">= {self.demand:g}" if self.demand > 0 else f"<= {-self.demand:g}"
        return f"{wanted}: {'met' if met else 'MISSED'}"


def main() -> int:
    """Run the comparison and print it; return the exit status."""
    arguments = _arguments()
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="prefixdb-stores-", dir=arguments.directory) as directory:
        try:
            lines += _calls(Path(directory), arguments)
            lines += _reclaims(Path(directory), arguments)
        except (PrefixdbError, WrongAnswerError) as failure:
            print(f"bench: FAILED: {failure}", file=sys.stderr)
            return 1
    bans = _bans(arguments)
    if arguments.json:
        report = {"cases": [_as_json(line) for line in lines], "bans": bans, "cores": os.cpu_count()}
        print(json.dumps(report, indent=2))
    else:
        print(*_table(lines), sep="\n")
        if bans:
            print("", *_bans_table(bans), sep="\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="slices of each case and store (default 9)")
    parser.add_argument(
        "--reclaim-rounds", type=int, default=3, help="reclaims with each store; 0 for none (default 3)"
    )
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the store that is half reclaimed")
    parser.add_argument("--bans", type=int, default=100_000, help="bans in the manifest; 0 leaves this part out")
    parser.add_argument("--only", default="", help="only cases whose name has this word; leaves the other parts out")
    parser.add_argument("--directory", type=Path, help="where to put the stores (default: the temporary directory)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of Markdown")
    return parser.parse_args()


def _calls(directory: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    """Compare the calls of the store."""
    cases = [case for case in store_cases.CASES if arguments.only in case.name]
    if not cases:
        return
    for kind in KINDS:
        print(f"writing rows with {kind}", file=sys.stderr)
        store_cases.build(kind, directory / kind)
    for cold in (False, True):
        chosen = [case for case in cases if case.cold == cold]
        with ExitStack() as opened:
            stores = {}
            for kind in KINDS if chosen else ():
                stores[kind] = opened.enter_context(closing(store_cases.open_for(kind, directory / kind, cold=cold)))
            for case in chosen:
                print(f"measuring {case.name}", file=sys.stderr)
                yield _turns(case, stores, arguments.rounds)


def _turns(case: Case, stores: dict[str, Any], rounds: int) -> Line:
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(-1, rounds):  # The first of each warms up.
        for kind in random.sample(KINDS, len(KINDS)):
            measured = store_cases.rate(case, stores[kind], number)
            if number >= 0:
                rates[kind].append(measured)
    return _line(case.name, f"{case.unit}/s", rates["rocksdict"], rates["native"], case.at_least)


def _reclaims(directory: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    """Compare the reclaim of half of a store."""
    if not arguments.reclaim_rounds or (arguments.only and arguments.only not in "reclaim"):
        return
    for kind in KINDS:
        print(f"writing {arguments.rows:,d} rows with {kind}", file=sys.stderr)
        store_reclaim.build(kind, directory / f"half-{kind}", arguments.rows)
    found: dict[str, list[store_reclaim.Reclaimed]] = {kind: [] for kind in KINDS}
    for number in range(arguments.reclaim_rounds):
        for kind in random.sample(KINDS, len(KINDS)):
            print(f"reclaiming with {kind} {number + 1}/{arguments.reclaim_rounds}", file=sys.stderr)
            half = directory / f"half-{kind}"
            found[kind].append(store_reclaim.run(kind, half, directory / "scratch", arguments.rows))
    name = f"reclaim of half of {arguments.rows:,d} rows, {store_reclaim.NAMESPACES} namespaces"
    # In reclaims per second, so that more is better as everywhere.
    speeds = [[1 / each.seconds for each in found[kind]] for kind in KINDS]
    line = _line(name, "s", speeds[0], speeds[1], RECLAIM_AT_LEAST)
    yield Line(name, "s", 1 / line.rocksdict, 1 / line.native, *_rest(line))
    for kind in KINDS:
        before = [each.p99_before_ms for each in found[kind]]
        during = [each.p99_during_ms for each in found[kind]]
        ratios = [late / early for early, late in zip(before, during, strict=True)]
        yield Line(
            f"{kind}: others' get p99, before and during", "ms", statistics.median(before), statistics.median(during),
            statistics.median(ratios), min(ratios), max(ratios), -P99_AT_MOST if kind == "native" else None,
        )  # fmt: skip


def _bans(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what bans.py measures: opening and point reads with a large manifest."""
    if not arguments.bans or arguments.only:
        return {}
    print(f"measuring {arguments.bans:,d} bans", file=sys.stderr)
    command = [sys.executable, str(Path(__file__).with_name("bans.py")), "--bans", str(arguments.bans), "--json"]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    report: dict[str, Any] = json.loads(run.stdout)
    return report


def _line(name: str, unit: str, rocksdict: Sequence[float], native: Sequence[float], demand: float | None) -> Line:
    ratios = [mine / theirs for mine, theirs in zip(native, rocksdict, strict=True)]
    return Line(
        name, unit, statistics.median(rocksdict), statistics.median(native), statistics.median(ratios), min(ratios),
        max(ratios), demand,
    )  # fmt: skip


def _rest(line: Line) -> tuple[float, float, float, float | None]:
    return line.ratio, line.ratio_min, line.ratio_max, line.demand


def _as_json(line: Line) -> dict[str, object]:
    return {name: getattr(line, name) for name in Line.__slots__} | {"verdict": line.verdict}


def _table(lines: Sequence[Line]) -> Iterator[str]:
    yield "| case | unit | rocksdict | native | ratio | of all rounds | demand |"
    yield "|---|---|---:|---:|---:|---|---|"
    for line in lines:
        figure = ",.0f" if line.rocksdict > 100 else ".3g"
        yield (
            f"| {line.name} | {line.unit} | {line.rocksdict:{figure}} | {line.native:{figure}} | {line.ratio:.2f} | "
            f"{line.ratio_min:.2f} to {line.ratio_max:.2f} | {line.verdict} |"
        )


def _bans_table(bans: dict[str, Any]) -> Iterator[str]:
    yield "| store | bans | opening, s | more than without, s | point reads in multiples of without |"
    yield "|---|---|---:|---:|---:|"
    for store, kinds in bans.items():
        for kind, found in kinds.items():
            yield (
                f"| {store} | {kind} | {found['open_s']:.2f} | {found['open_s_more']:+.2f} | "
                f"{found['reads_ratio']:.3f} |"
            )


if __name__ == "__main__":
    sys.exit(main())
