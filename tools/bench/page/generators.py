"""The load generators: our own for gRPC calls, h2load, redis-benchmark, and RocksDB driving itself.

Each is a process of its own with one thread that keeps a number of requests in flight; here their words are read.
h2load counts every HTTP 200 as a success, and a gRPC error is an HTTP 200 too. An error has no message, though, so
the bytes of data of an answer give it away. redis-benchmark ends at the first error.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.bench.page import calls, keys
from tools.bench.page.calls import Call, Kind, Sizes
from tools.bench.page.samples import BadResponsesError, Counted, Timing, quantile

NATIVE = Path(__file__).resolve().parents[1] / "native"
REDIS_FIRST_REQUESTS = 20_000


def build() -> None:
    """Compile our own generators where they are not current.

    Raises:
        subprocess.CalledProcessError: they do not compile; the compiler has said why.
    """
    subprocess.run(["make", "--silent", "--no-print-directory", "-C", str(NATIVE), "-j2", "page"], check=True)


def prepare(call: Call, directory: Path, name: str) -> Path:
    """Write the replay file of a call and return its path."""
    framed = [calls.frame(message) for message in call.messages]
    return keys.write_replay(directory / f"{name}.replay", framed, call.draws)


def run_grpc(call: Call, port: int, replay: Path, sizes: Sizes, *, token: str, timing: Timing) -> Counted:
    """Replay a gRPC call.

    Raises:
        BadResponsesError: a call failed, or an answer is not of the size of a good one.
    """
    with tempfile.NamedTemporaryFile("w", prefix="prefixdb-bench-", suffix=".headers") as headers:
        headers.writelines(f"{name}: {value}\n" for name, value in calls.bearer(token))
        headers.flush()
        found = _json(
            [
                str(NATIVE / "build" / "grpc_load"), "--port", str(port), "--path", call.path,
                "--replay", str(replay), "--headers", headers.name,
                "--connections", str(call.connections), "--in-flight", str(call.in_flight),
                "--seconds", f"{timing.seconds:.3f}", "--warm-up", f"{timing.warm_up_s:.3f}",
                "--bidirectional", "1" if call.kind is Kind.BOTH_WAYS else "0",
            ]
        )  # fmt: skip
    if found["calls_all"] and not sizes.accept(found["smallest"], found["largest"], call.rows):
        raise BadResponsesError(
            f"{call.path}: answers of {found['smallest']} to {found['largest']} bytes; good ones have "
            f"{sizes.smallest} to {sizes.largest}"
        )
    ended = bool(found["calls"])
    return Counted(
        seconds=found["seconds"],
        calls=found["calls"],
        rows=_rows(call, sizes, found["messages"], found["bytes"]),
        rows_all=_rows(call, sizes, found["messages_all"], found["bytes_all"]),
        p50_ms=found["p50_us"] / 1e3 if ended else None,
        p99_ms=found["p99_us"] / 1e3 if ended else None,
        p999_ms=found["p999_us"] / 1e3 if ended else None,
        generator_cpu_s=found["generator_cpu_s"],
    )


def _rows(call: Call, sizes: Sizes, messages: int, data_bytes: int) -> int:
    """Return how many rows these messages stand for.

    An answer of many messages takes long, and its pages have as many rows as the server was quick enough to gather; all
    rows are equally large, though, so the bytes tell how many there were.
    """
    if call.kind is Kind.ANSWERS:
        return round(data_bytes / ((sizes.smallest + sizes.largest) / 2) * call.rows)
    return messages * call.rows


@dataclass(frozen=True, slots=True)
class Replayed:
    """One request of h2load. ``body``: what is posted, b"" for a GET. ``answer``: sizes of good answers' data."""

    url: str
    body: bytes
    headers: Sequence[str]
    answer: tuple[int, int]


def run_h2load(request: Replayed, timing: Timing, connections: int = 8, in_flight: int = 8) -> Counted:
    """Send one request again and again.

    Raises:
        BadResponsesError: a request failed, or the answers are not of the size of a good one.
    """
    warm_done = 0
    if timing.warm_up_s > 0:
        warm_done = _h2load(request, timing.warm_up_s, (connections, in_flight), Path("/dev/null"))[1]
    with tempfile.TemporaryDirectory(prefix="prefixdb-bench-log-") as directory:
        log = Path(directory) / "requests"
        seconds, done, data_bytes = _h2load(request, timing.seconds, (connections, in_flight), log)
        latencies_ms = sorted(int(line.rpartition(b"\t")[2]) / 1e3 for line in log.read_bytes().splitlines())
    smallest, largest = request.answer
    # Answers in flight when the time is up count as data but not as done: hence the spare.
    per_answer, spare = data_bytes / done, connections * in_flight * largest / done
    if not smallest - calls.VERSION_BYTES_SLACK <= per_answer <= largest + calls.VERSION_BYTES_SLACK + spare:
        raise BadResponsesError(f"{per_answer:.1f} bytes of data per answer; a good one has {smallest} to {largest}")
    return Counted(
        seconds=seconds,
        calls=done,
        rows=done,
        rows_all=done + warm_done,
        p50_ms=quantile(latencies_ms, 0.50),
        p99_ms=quantile(latencies_ms, 0.99),
        p999_ms=quantile(latencies_ms, 0.999),
    )


def _h2load(request: Replayed, seconds: float, shape: tuple[int, int], log: Path) -> tuple[float, int, int]:
    """Run h2load once; return seconds, requests done and bytes of data."""
    connections, in_flight = shape
    with tempfile.NamedTemporaryFile(prefix="prefixdb-bench-", suffix=".bin") as body:
        body.write(request.body)
        body.flush()
        command = ["h2load", "-t", "1", "-c", str(connections), "-m", str(in_flight), "--log-file", str(log)]
        command += ["-D", f"{round(seconds * 1000)}ms", *(["-d", body.name] if request.body else [])]
        for header in request.headers:  # A token among them is of a server that lives for this run only.
            command += ["-H", header]
        shown = _output([*command, request.url])
    done, failed = int(_number(r"(\d+) succeeded", shown)), int(_number(r"(\d+) failed", shown))
    if failed or not done:
        raise BadResponsesError(f"h2load: {failed} requests failed, {done} succeeded\n{shown}")
    return done / float(_number(r", ([\d.]+) req/s", shown)), done, int(_number(r"\((\d+)\) data", shown))


class RedisBenchmark:
    """One command of redis-benchmark, whose number of requests follows the rate of the run before.

    rows: keys that one command reads or writes. ``pipeline``: commands in flight on each connection.
    """

    def __init__(self, port: int, command: Sequence[str], *, rows: int, clients: int, pipeline: int = 1) -> None:
        self._start = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-r", str(keys.ROWS), "--precision", "3"]
        self._start += ["-c", str(clients), "-P", str(pipeline)]
        self._command = list(command)
        self._rows = rows
        self._least = 20 * clients * pipeline
        self._rate = 0.0

    def run(self, timing: Timing) -> Counted:
        """Run for about ``timing``; redis-benchmark takes a number of requests, not a time.

        Raises:
            BadResponsesError: redis answered with an error.
        """
        warm = self._run(max(self._least, int(timing.warm_up_s * self._rate) or REDIS_FIRST_REQUESTS))
        found = self._run(max(self._least, int(timing.seconds * self._rate)))
        rows = found.calls * self._rows
        return Counted(
            found.seconds, found.calls, rows, rows + warm.calls * self._rows, found.p50_ms, found.p99_ms, found.p999_ms
        )

    def _run(self, requests: int) -> Counted:
        shown = _output([*self._start, "-n", str(requests), *self._command])
        if "Error from server" in shown:
            raise BadResponsesError(f"redis-benchmark: {shown.strip()[:300]}")
        found = read_redis_benchmark(shown)
        self._rate = found.calls / found.seconds
        return found


def read_redis_benchmark(shown: str) -> Counted:
    """Return what redis-benchmark printed; ``rows`` are its requests."""
    rate = float(_number(r"throughput summary: ([\d.]+) requests per second", shown))
    done = int(_number(r"(\d+) requests completed", shown))
    p50, p99 = _number(r"p99\s+max\s+[\d.]+\s+[\d.]+\s+([\d.]+)\s+[\d.]+\s+([\d.]+)", shown, groups=2)
    # The spectrum has steps of its own; the first one at or above 99.9 % is the nearest that does not flatter.
    spectrum = re.findall(r"^([\d.]+)% <= ([\d.]+) milliseconds", shown.partition("Cumulative")[0], re.MULTILINE)
    p999 = next(float(ms) for percent, ms in spectrum if float(percent) >= 99.9)
    return Counted(done / rate, done, done, done, float(p50), float(p99), p999)


def run_rocksdb(command: Sequence[str], timing: Timing) -> Counted:
    """Let RocksDB do what a command of ``rocksdb_alone`` says."""
    found = _json(
        [
            *command,
            "--seconds", f"{timing.seconds:.3f}", "--warm-up", f"{timing.warm_up_s:.3f}",
        ]
    )  # fmt: skip
    return Counted(
        seconds=found["seconds"],
        calls=found["calls"],
        rows=found["rows"],
        rows_all=found["rows_all"],
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
        p999_ms=found["p999_us"] / 1e3,
        cpu_s=found["cpu_s"],
        memory_mib=found["rss_bytes"] / 2**20,
    )


def rocksdb_alone(
    operation: str, directory: Path, replay: Path, *, threads: int = 1, batch: int = keys.BATCH
) -> list[str]:
    """Return the command of ``rocksdb_alone`` for an operation, ``fill`` among them."""
    return [
        str(NATIVE / "build" / "rocksdb_alone"), "--operation", operation, "--directory", str(directory),
        "--replay", str(replay), "--threads", str(threads), "--batch", str(batch),
    ]  # fmt: skip


def _json(command: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_output(command))
    return found


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        # Not the whole command line: h2load's has the token.
        raise BadResponsesError(f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr.strip()[:500]}")
    return done.stdout


def _number(pattern: str, shown: str, groups: int = 1) -> Any:
    found = re.search(pattern, shown)
    if found is None:
        raise BadResponsesError(f"the output lacks {pattern!r}:\n{shown[-2000:]}")
    return found.group(1) if groups == 1 else found.groups()
