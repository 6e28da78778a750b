"""Where the server's time goes under one load: perf's samples by library and by function.

Needs Debian's linux-perf, and the right to use it: root, or kernel.perf_event_paranoid at most 1. In a virtual machine
without hardware counters perf falls back to a clock by itself, which is as good here.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.bench.page import servers
from tools.bench.page.operations import BY_NAME
from tools.bench.page.report import Section
from tools.bench.page.samples import Counted, Timing
from tools.bench.page.side_prefixdb import PrefixdbSide
from tools.lab.process import ServerFailedError

FREQUENCY_HZ = 997
LINES = 25


def run(scratch: Path, front: Sequence[str], operations: Sequence[str], seconds: float) -> Section:
    """Profile the server under each operation and return what is to be told.

    Raises:
        ServerFailedError: perf is missing or not permitted.
    """
    if shutil.which("perf") is None:
        raise ServerFailedError("profiling needs perf: apt-get install linux-perf")
    texts, raw = [], {}
    with servers.prefixdb(scratch, front) as server:
        side = PrefixdbSide("prefixdb native", server, scratch)
        try:
            side.prepare()
            for name in operations:
                counted, by_library, by_function = _profile(side, name, seconds, scratch / f"{name}.perf")
                rate = counted.rows / counted.seconds
                title = f"{BY_NAME[name].title}: {rate:,.0f} {BY_NAME[name].unit} while perf looked on"
                texts.append("\n".join(_text(title, by_library, by_function)))
                raw[name] = {"rate": rate, "by_library": by_library, "by_function": by_function}
        finally:
            side.close()
    return Section("profile", "\n\n".join(texts), raw)


Shares = list[tuple[float, str]]


def _profile(side: PrefixdbSide, name: str, seconds: float, data: Path) -> tuple[Counted, Shares, Shares]:
    """Load the server, watch the middle of it, and return the shares in percent."""
    found: list[Counted] = []
    load = side.loads()[name]
    thread = threading.Thread(target=lambda: found.append(load(Timing(seconds, 1.0))))
    thread.start()
    command = ["perf", "record", "-q", "-F", str(FREQUENCY_HZ), "-p", str(side.pid), "-o", str(data)]
    done = subprocess.run([*command, "--", "sleep", f"{seconds:.1f}"], capture_output=True, text=True, check=False)
    thread.join()
    if done.returncode or not found:
        raise ServerFailedError(f"perf did not work: {done.stderr.strip()[-500:] or 'the load failed'}")
    return found[0], shares(_report(data, "dso")), shares(_report(data, "dso,symbol"))[:LINES]


def _report(data: Path, sort: str) -> str:
    command = ["perf", "report", "-i", str(data), "--stdio", "--no-children", "-g", "none", "--sort", sort]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def shares(shown: str) -> Shares:
    """Return the (percent, name) lines of ``perf report --stdio``, in its order."""
    found = []
    for line in shown.splitlines():
        percent, _, name = line.strip().partition("%")
        if name and not line.startswith("#"):
            # A function's name is followed by columns that need a processor's counters: dashes.
            found.append((float(percent), " ".join(name.split()).removesuffix(" - -")))
    return found


def _text(title: str, by_library: Shares, by_function: Shares) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    yield "| share | of the processor time spent in |"
    yield "|---:|---|"
    for percent, name in by_library:
        if percent >= 1:
            yield f"| {percent:.0f} % | {name} |"
    yield ""
    yield "| share | function |"
    yield "|---:|---|"
    for percent, name in by_function:
        yield f"| {percent:.1f} % | `{name}` |"
