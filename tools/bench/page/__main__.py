"""Measure prefixdb beside etcd, redis, RocksDB and a bare HTTP/2 server, and write the page about it.

    make bench                                    everything, about half an hour
    make bench ARGS="--quick"                     a few minutes, for a first look
    make bench ARGS="--op get-uniform --op put"   some operations only
    make bench ARGS="--session-check"             what it costs to check a session (builds the extension anew)
    make bench ARGS="--memory"                    what namespaces and sessions cost in memory
    make bench ARGS="--mixed 10"                  ten minutes of everything at once: does memory grow?
    make bench ARGS="--profile --op get-uniform"  where the server's time goes (needs perf)
    make bench ARGS="--publish"                   with any of them: put what was found into docs/, too

Markdown, JSON and the picture are written to build/bench; docs/performance.md says how to read them. A missed target is
no failure of the tool; it ends with 1 only when something broke.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc

from tools.bench.page import (
    chart,
    generators,
    measure,
    memory,
    meters,
    mixed,
    operations,
    profile,
    report,
    servers,
    session_check,
)
from tools.bench.page.operations import OPERATIONS, Operation
from tools.bench.page.report import Section
from tools.bench.page.samples import BadResponsesError, Sample, Timing
from tools.bench.page.side_all import all_sides, front_arguments
from tools.lab.process import ROOT, ServerFailedError
from tools.lab.rpc import RpcError

BROKEN = (ServerFailedError, BadResponsesError, RpcError, grpc.RpcError, subprocess.CalledProcessError)
TITLE = "prefixdb and others: one machine, one run"
PROFILED = ("get-uniform", "put", "scan")


def main() -> int:
    """Measure and write; return the exit status."""
    chosen = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        servers.ensure_tools(install=not chosen.no_install)
        generators.build()
        with tempfile.TemporaryDirectory(prefix="prefixdb-bench-", dir=chosen.directory) as scratch:
            section, picture = _measure(Path(scratch), chosen)
            _write(section, picture, chosen)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    except BROKEN as failure:
        print(f"bench: FAILED: {failure}", file=sys.stderr)
        return 1
    return 130 if section.raw.get("interrupted") else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--session-check", action="store_true", help="the front beside itself without the check")
    kinds.add_argument("--memory", action="store_true", help="memory of 100,000 namespaces and 10,000 sessions")
    kinds.add_argument("--mixed", type=float, metavar="MINUTES", help="memory over so long a mixed load")
    kinds.add_argument("--profile", action="store_true", help=f"perf; without --op of {', '.join(PROFILED)}")
    parser.add_argument("--quick", action="store_true", help="two rounds of half a second")
    parser.add_argument("--seconds", type=float, help="length of one run (default 3)")
    parser.add_argument("--warm-up", type=float, help="seconds before each run that do not count (default 1)")
    parser.add_argument("--rounds", type=int, help="runs of each operation on each side (default 5)")
    names = ", ".join(operation.name for operation in OPERATIONS)
    parser.add_argument("--op", action="append", metavar="NAME", help=f"this operation only; again for more: {names}")
    parser.add_argument("--side", action="append", choices=operations.SIDES, help="this side only; again for more")
    parser.add_argument(
        "--front", default="native", choices=("native", "python"), help="of --memory, --mixed, --profile"
    )
    parser.add_argument(
        "--directory", type=Path, help="where servers keep their data (default: the temporary directory)"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench", help="where results go (build/bench)")
    parser.add_argument("--publish", action="store_true", help="put what was found into docs/, too")
    parser.add_argument("--no-install", action="store_true", help="never call apt-get")
    chosen = parser.parse_args()
    for name, whole, quick in (("seconds", 3.0, 0.5), ("warm_up", 1.0, 0.2), ("rounds", 5, 2)):
        if getattr(chosen, name) is None:
            setattr(chosen, name, quick if chosen.quick else whole)
    unknown = set(chosen.op or ()) - set(operations.BY_NAME)
    if unknown:
        parser.error(f"no such operation: {', '.join(sorted(unknown))}; there are {names}")
    return chosen


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _measure(scratch: Path, chosen: argparse.Namespace) -> tuple[Section, Path | None]:
    """Measure what was asked for; return what is to be told and the picture, if there is one."""
    timing = Timing(chosen.seconds, chosen.warm_up)
    front = front_arguments(chosen.front)
    if chosen.session_check:
        return session_check.run(scratch, timing, chosen.rounds), None
    if chosen.memory:
        return memory.run(scratch, front), None
    if chosen.mixed:
        return mixed.run(scratch, front, chosen.mixed), None
    if chosen.profile:
        return profile.run(scratch, front, chosen.op or PROFILED, chosen.seconds), None
    return _page(scratch, timing, chosen)


def _page(scratch: Path, timing: Timing, chosen: argparse.Namespace) -> tuple[Section, Path]:
    """Measure everyone. What is there when it is interrupted is told all the same."""
    wanted = [operation for operation in OPERATIONS if _is_wanted(operation, chosen)]
    facts = meters.facts(scratch)
    measured: dict[str, dict[str, list[Sample]]] = {}
    interrupted = False
    with all_sides(scratch, chosen.side) as (sides, versions):
        facts["versions"] = versions
        try:
            measure.measure(sides, wanted, chosen.rounds, timing, measured)
        except KeyboardInterrupt:
            if not any(measured.values()):
                raise
            interrupted = True
            print("bench: interrupted; what was measured is written", file=sys.stderr)
    settings = {"seconds": timing.seconds, "warm_up": timing.warm_up_s, "rounds": chosen.rounds}
    verdicts = list(operations.judge(measured))
    raw = {
        "facts": facts,
        "settings": settings,
        "interrupted": interrupted,
        "targets": [dataclasses.asdict(verdict) | {"met": verdict.met} for verdict in verdicts],
        "samples": measure.as_json(measured),
    }
    picture = scratch / "page.png"
    chart.draw(measured, picture, TITLE, chart.subtitle(facts, settings))
    return Section(
        "page", report.page(facts, settings | {"interrupted": interrupted}, measured, verdicts), raw
    ), picture


def _is_wanted(operation: Operation, chosen: argparse.Namespace) -> bool:
    return operation.name in chosen.op if chosen.op else operation.quick or not chosen.quick


def _write(section: Section, picture: Path | None, chosen: argparse.Namespace) -> None:
    """Write Markdown, JSON and the picture, and print the first."""
    output: Path = chosen.output
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{section.name}.json").write_text(json.dumps(section.raw, indent=1), encoding="utf-8")
    (output / f"{section.name}.md").write_text(section.text, encoding="utf-8")
    if picture is not None:
        shutil.copyfile(picture, output / picture.name)
    print(section.text)
    if chosen.publish:
        if picture is not None:
            shutil.copyfile(picture, ROOT / "docs" / "performance.png")
            section = dataclasses.replace(section, text=f"![{TITLE}](performance.png)\n\n{section.text}")
        report.publish(ROOT / "docs" / "performance.md", section)
    print(f"written to {output}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
