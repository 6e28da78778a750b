"""The load generator: h2load replays one framed request; its rate and latencies are read back and checked.

h2load counts every HTTP 200 as a success, and a gRPC error is an HTTP 200 too. An error has no message, though, so
the bytes of data per response give it away: a run is refused when they are not between those of a good response before
the run and after it.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.bench import wire

CONNECTIONS = 8
IN_FLIGHT = 64
DATA_BYTES_SLACK = 4
"""The check's own call and the run may fall on either side of a varint's growth."""


class BadResponsesError(RuntimeError):
    """The server answered, but not with what was asked for; the rate would mean nothing."""


@dataclass(frozen=True, slots=True)
class Target:
    """One request as it goes over the wire, again and again.

    check: makes the very same call once, raises BadResponsesError on a wrong answer, and returns the size of all
        messages of the good one, their frames included.
    """

    address: str
    method: str
    request: bytes
    check: Callable[[], int]
    token: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run measured: requests per second and latencies in milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float


def run(target: Target, duration_s: float, warm_up_s: float) -> Sample:
    """Replay a request for ``duration_s`` with 64 in flight after a warm-up that does not count.

    Raises:
        BadResponsesError: a request failed, or the responses are not of the size of a good one.
    """
    if warm_up_s > 0:
        _h2load(target, warm_up_s, Path("/dev/null"))
    smallest = target.check()
    with tempfile.TemporaryDirectory(prefix="prefixdb-bench-log-") as directory:
        log = Path(directory) / "requests"
        shown = _h2load(target, duration_s, log)
        latencies = sorted(int(line.split(b"\t")[2]) for line in log.read_bytes().splitlines())
    largest = target.check()
    rate = float(_number(r"finished in [\d.]+\w+, ([\d.]+) req/s", shown))
    done = int(_number(r"(\d+) succeeded", shown))
    failed = int(_number(r"(\d+) failed", shown))
    data_bytes = int(_number(r"\((\d+)\) data", shown))
    if failed or not done or not latencies:
        raise BadResponsesError(f"{target.method}: {failed} requests failed, {done} succeeded\n{shown}")
    # Responses in flight when the time is up count as data but not as done: hence the spare.
    per_response, spare = data_bytes / done, IN_FLIGHT * largest / done
    if not smallest - DATA_BYTES_SLACK <= per_response <= largest + DATA_BYTES_SLACK + spare:
        raise BadResponsesError(
            f"{target.method}: {per_response:.1f} bytes of data per response, a good one has {smallest} to {largest}"
        )
    return Sample(rate, _quantile(latencies, 0.50), _quantile(latencies, 0.99))


def _h2load(target: Target, duration_s: float, log: Path) -> str:
    """Run h2load once; return what it printed."""
    with tempfile.NamedTemporaryFile(prefix="prefixdb-bench-", suffix=".bin") as body:
        body.write(wire.frame(target.request))
        body.flush()
        command = ["h2load", "-t", "1", "-c", str(CONNECTIONS), "-m", str(IN_FLIGHT // CONNECTIONS)]
        command += ["-D", f"{round(duration_s * 1000)}ms", "--log-file", str(log), "-d", body.name]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        if target.token:  # Of a server that lives for this run only.
            command += ["-H", f"authorization: Bearer {target.token}"]
        command.append(f"http://{target.address}{target.method}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadResponsesError(f"h2load ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _number(pattern: str, shown: str) -> str:
    found = re.search(pattern, shown)
    if found is None:
        raise BadResponsesError(f"h2load's output lacks {pattern!r}:\n{shown}")
    return found.group(1)


def _quantile(ordered_us: list[int], share: float) -> float:
    return ordered_us[min(len(ordered_us) - 1, int(len(ordered_us) * share))] / 1000
