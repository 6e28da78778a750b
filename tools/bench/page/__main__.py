"""Measure prefixdb beside etcd, redis, RocksDB and a bare HTTP/2 server, and write the page about it.

    make bench                                    everything, about half an hour
    make bench ARGS="--quick"                     two minutes, for a first look
    make bench ARGS="--op get-uniform --op put"   some operations only
    make bench ARGS="--publish"                   and put the page and the picture into docs/

Markdown, JSON and PNG are written to build/bench. docs/performance.md says how to read them. Missed targets are no
failure of the tool; it ends with 1 only when something broke.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc

from tools.bench.page import chart, generators, measure, meters, operations, report, servers
from tools.bench.page.operations import OPERATIONS, Operation
from tools.bench.page.samples import BadResponsesError, Sample, Timing
from tools.bench.page.side import Side
from tools.bench.page.side_bare import NghttpdSide, RocksdbSide
from tools.bench.page.side_etcd import EtcdSide
from tools.bench.page.side_prefixdb import PrefixdbSide
from tools.bench.page.side_redis import RedisSide
from tools.lab.process import ROOT, ServerFailedError
from tools.lab.rpc import RpcError

BROKEN = (ServerFailedError, BadResponsesError, RpcError, grpc.RpcError, subprocess.CalledProcessError)
FRONTS = {operations.NATIVE: "native", operations.PYTHON: "python"}


def main() -> int:
    """Measure and write; return the exit status."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    measured: dict[str, dict[str, list[Sample]]] = {}
    facts: dict[str, object] = {}
    interrupted = False
    try:
        servers.ensure_tools(install=not arguments.no_install)
        generators.build()
        with tempfile.TemporaryDirectory(prefix="prefixdb-bench-", dir=arguments.directory) as scratch:
            facts |= meters.facts(Path(scratch))
            with all_sides(Path(scratch), arguments.side) as (sides, versions):
                facts["versions"] = versions
                timing = Timing(arguments.seconds, arguments.warm_up)
                measure.measure(sides, _chosen(arguments), arguments.rounds, timing, measured)
    except KeyboardInterrupt:
        interrupted = True
        print("bench: interrupted; what was measured is written", file=sys.stderr)
    except BROKEN as failure:
        print(f"bench: FAILED: {failure}", file=sys.stderr)
        return 1
    if any(measured.values()):
        settings = vars(arguments) | {"interrupted": interrupted}
        _write(arguments, facts, settings, measured)
    return 130 if interrupted else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two rounds of half a second")
    parser.add_argument("--seconds", type=float, help="length of one run (default 3)")
    parser.add_argument("--warm-up", type=float, help="seconds before each run that do not count (default 1)")
    parser.add_argument("--rounds", type=int, help="runs of each operation on each side (default 5)")
    names = ", ".join(operation.name for operation in OPERATIONS)
    parser.add_argument("--op", action="append", help=f"measure this operation only; again for more. One of: {names}")
    parser.add_argument(
        "--side", action="append", choices=operations.SIDES, help="measure this side only; again for more"
    )
    parser.add_argument(
        "--directory", type=Path, help="where servers keep their data (default: the temporary directory)"
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build" / "bench", help="where the results go (build/bench)"
    )
    parser.add_argument("--publish", action="store_true", help="put page and picture into docs/, too")
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


def _chosen(arguments: argparse.Namespace) -> list[Operation]:
    if arguments.op:
        return [operation for operation in OPERATIONS if operation.name in arguments.op]
    return [operation for operation in OPERATIONS if operation.quick or not arguments.quick]


@contextmanager
def all_sides(scratch: Path, wanted: list[str] | None) -> Iterator[tuple[list[Side], dict[str, str]]]:
    """Start every server that is wanted and write its rows; yield them with everyone's version."""
    names = wanted or list(operations.SIDES)
    with ExitStack() as stack:
        sides: list[Side] = []
        versions = servers.versions()
        ours = list(_prefixdb_sides(stack, scratch, names))
        sides += ours
        if operations.ETCD in names:
            sides.append(EtcdSide(stack.enter_context(servers.etcd(scratch)), scratch))
        for name, appendfsync in ((operations.REDIS, "everysec"), (operations.REDIS_ALWAYS, "always")):
            if name in names:
                running = stack.enter_context(servers.redis(scratch, appendfsync))
                sides.append(RedisSide(name, running, reads=name == operations.REDIS))
        if operations.ROCKSDB in names:
            sides.append(RocksdbSide(scratch))
        for side in sides:
            stack.callback(side.close)
            print(f"writing the rows of {side.name}", file=sys.stderr)
            side.prepare()
        if ours:
            versions = {"prefixdb": ours[0].facts(), **versions}
            sides += _nghttpd_sides(stack, scratch, names, ours[0])
        yield sides, versions


def _prefixdb_sides(stack: ExitStack, scratch: Path, names: list[str]) -> Iterator[PrefixdbSide]:
    fronted = servers.has_front()
    for name, front in FRONTS.items():
        if name not in names:
            continue
        if not fronted and name == operations.NATIVE:
            print("this prefixdb takes no --front: it is measured as prefixdb Python", file=sys.stderr)
            continue
        arguments = ["--front", front] if fronted else []
        yield PrefixdbSide(name, stack.enter_context(servers.prefixdb(scratch, arguments)), scratch)


def _nghttpd_sides(stack: ExitStack, scratch: Path, names: list[str], ours: PrefixdbSide) -> Iterator[Side]:
    """nghttpd answers with a file as large as prefixdb's answer to a Get."""
    content = bytes(ours.answer_bytes())
    for name, request in ((operations.NGHTTPD, ours.get_request()), (operations.NGHTTPD_GET, None)):
        if name in names:
            yield NghttpdSide(name, stack.enter_context(servers.nghttpd(scratch, content)), content, request)


def _write(
    arguments: argparse.Namespace,
    facts: dict[str, object],
    settings: dict[str, Any],
    measured: dict[str, dict[str, list[Sample]]],
) -> None:
    """Write Markdown, JSON and PNG, and print the first."""
    verdicts = list(operations.judge(measured))
    text = report.page(facts, settings, measured, verdicts)
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    raw = {
        "facts": facts,
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()},
        "targets": [asdict(verdict) | {"met": verdict.met} for verdict in verdicts],
        "samples": measure.as_json(measured),
    }
    (output / "page.json").write_text(json.dumps(raw, indent=1), encoding="utf-8")
    (output / "page.md").write_text(text, encoding="utf-8")
    subtitle = (
        f"{facts['processors']} processors shared with the load generator, {settings['rounds']} rounds of "
        f"{settings['seconds']:g} s, medians; a thin line spans the rounds, a red mark is what prefixdb native "
        f"must reach. {facts['date']}, {facts['commit']}"
    )
    chart.draw(measured, output / "page.png", "prefixdb and others: one machine, one run", subtitle)
    print(text)
    if arguments.publish:
        report.publish(ROOT / "docs" / "performance.md", text)
        shutil.copyfile(output / "page.png", ROOT / "docs" / "performance.png")
    print(f"written: {output}/page.md, page.json, page.png", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
