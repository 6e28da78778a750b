"""What it costs to look a session up and check its rules: the front beside itself with the check compiled out.

The second server runs a copy of this tree whose extension is built with ``PREFIXDB_BENCH_NO_SESSION_CHECK``. It must
never serve anyone, so it is built in a temporary directory and only the macro's name is known here. A twentieth is less
than the machine's noise: rounds are short and many, and the processor time of a call is compared beside the rate.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tools.bench.page import measure, servers
from tools.bench.page.operations import BY_NAME
from tools.bench.page.report import Section
from tools.bench.page.samples import Sample, Timing, paired
from tools.bench.page.side_all import front_arguments
from tools.bench.page.side_prefixdb import PrefixdbSide
from tools.lab.process import ROOT, ServerFailedError

MACRO = "PREFIXDB_BENCH_NO_SESSION_CHECK"
COST_MAX = 0.05
OPERATIONS = ("get-uniform", "batch-get", "pipeline-get", "put")
WITH, WITHOUT = "prefixdb native", "without the check"
ROUNDS_MIN = 15


def run(scratch: Path, timing: Timing, rounds: int) -> Section:
    """Measure both and return what is to be told.

    Raises:
        ServerFailedError: the front has no such switch.
        subprocess.CalledProcessError: it does not build.
    """
    tree = _build(scratch / "tree")
    rounds = max(rounds, ROUNDS_MIN)
    measured: dict[str, dict[str, list[Sample]]] = {}
    with ExitStack() as stack:
        sides = []
        for name, place in ((WITH, ROOT), (WITHOUT, tree)):
            server = stack.enter_context(servers.prefixdb(scratch, front_arguments("native"), tree=place))
            side = PrefixdbSide(name, server, scratch)
            stack.callback(side.close)
            side.prepare()
            sides.append(side)
        measure.measure(sides, [BY_NAME[name] for name in OPERATIONS], rounds, timing, measured)
    return Section("session-check", _table(measured, rounds), {"samples": measure.as_json(measured)})


def _build(tree: Path) -> Path:
    """Copy the package and compile its extension without the check."""
    native = ROOT / "prefixdb" / "_native"
    if not any(MACRO in path.read_text(encoding="utf-8") for path in native.rglob("*.[ch]*") if path.suffix != ".so"):
        raise ServerFailedError(f"nothing in {native.relative_to(ROOT)} knows {MACRO}")
    print("building the extension without the session check; this takes minutes", file=sys.stderr)
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "prefixdb", tree / "prefixdb", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    flags = f"{os.environ.get('CPPFLAGS', '')} -D{MACRO}".strip()
    environment = {**os.environ, "CPPFLAGS": flags, "PREFIXDB_NATIVE": "require", "PYTHONPATH": ""}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
    return tree


def _table(measured: dict[str, dict[str, list[Sample]]], rounds: int) -> str:
    lines = [
        f"{rounds} rounds by turns. The cost is the median of the rounds; at most {COST_MAX:.0%} is asked of the rate.",
        "",
        "| | rate lost to the check | of all rounds | processor time added | |",
        "|---|---:|---|---:|---|",
    ]
    for name, sides in measured.items():
        rate = paired(sides[WITH], sides[WITHOUT], "rows_per_s")
        cpu = paired(sides[WITH], sides[WITHOUT], "cpu_us_per_row")
        verdict = "reached" if 1 - rate.middle <= COST_MAX else "**missed**"
        lines.append(
            f"| {BY_NAME[name].title} | {1 - rate.middle:.1%} | {1 - rate.high:.1%} to {1 - rate.low:.1%} | "
            f"{cpu.middle - 1:+.1%} | {verdict} |"
        )
    return "\n".join(lines)
