"""A side of the comparison: a server with its rows, and how it is loaded for each operation it can do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tools.bench.page import calls, generators
from tools.bench.page.calls import Call
from tools.bench.page.generators import Replayed
from tools.bench.page.samples import BadResponsesError, Counted, Timing
from tools.bench.page.servers import Running
from tools.lab.process import ROOT

Load = Callable[[Timing], Counted]

PYTHON_IN_FLIGHT = (1, 16, 256)
GET_H2LOAD = "get-h2load"


class Side(Protocol):
    """One server. ``pid`` is None when the generator is the server itself."""

    name: str

    @property
    def pid(self) -> int | None:
        """Process whose processor time and memory are looked at."""
        ...

    def prepare(self) -> None:
        """Write the rows; once, before anything is measured."""
        ...

    def loads(self) -> Mapping[str, Load]:
        """Return what it can do: operation name -> the function that runs it once."""
        ...

    def close(self) -> None:
        """Let go of connections; the server itself is stopped by whoever started it."""
        ...


class GrpcLoads:
    """Runs prepared calls against one gRPC server; each run is proven by ordinary calls before and after it.

    Args:
        scratch: where the replay files go.
        token: returns the bearer token; "" for none.
    """

    def __init__(self, server: Running, scratch: Path, token: Callable[[], str] = lambda: "") -> None:
        self.channel = calls.new_channel(server.address)
        self._server = server
        self._scratch = scratch
        self._token = token
        self._replays: dict[str, Path] = {}

    def close(self) -> None:
        """Close the channel of the proofs."""
        self.channel.close()

    def load(self, name: str, call: Call) -> Load:
        """Return the load of a call by our own generator."""

        def run(timing: Timing) -> Counted:
            if name not in self._replays:
                self._replays[name] = generators.prepare(call, self._scratch, name)
            sizes = calls.prove(self.channel, call, self._token())
            counted = generators.run_grpc(
                call, self._server.port, self._replays[name], sizes, token=self._token(), timing=timing
            )
            calls.prove(self.channel, call, self._token())
            return counted

        return run

    def load_by_h2load(self, call: Call) -> Load:
        """Return the load of the first request of a call by h2load."""

        def run(timing: Timing) -> Counted:
            sizes = calls.prove(self.channel, call, self._token())
            headers = grpc_headers(self._token())
            body = calls.frame(call.messages[call.draws[0]])
            url = f"http://{self._server.address}{call.path}"
            return generators.run_h2load(Replayed(url, body, headers, (sizes.smallest, sizes.largest)), timing)

        return run


def grpc_headers(token: str) -> list[str]:
    """Return the headers of a gRPC request as h2load takes them."""
    own = ["content-type: application/grpc", "te: trailers"]
    return own + [f"{name}: {value}" for name, value in calls.bearer(token)]


def python_loads(kind: str, server: Running, token_file: Path | None = None) -> dict[str, Load]:
    """Return the loads that a program in Python makes; ``kind`` names its client."""
    found = {}
    for operation in ("get", "put"):
        for in_flight in PYTHON_IN_FLIGHT:
            words = [
                "--kind",
                kind,
                "--port",
                str(server.port),
                "--operation",
                operation,
                "--in-flight",
                str(in_flight),
            ]
            words += ["--token-file", str(token_file)] if token_file else []
            found[f"python-{operation}-{in_flight}"] = _python_load(words)
    return found


def _python_load(words: Sequence[str]) -> Load:
    def run(timing: Timing) -> Counted:
        command = [sys.executable, "-m", "tools.bench.page.python_client", *words]
        command += ["--seconds", f"{timing.seconds:.3f}", "--warm-up", f"{timing.warm_up_s:.3f}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BadResponsesError(f"the Python client ended with {done.returncode}: {done.stderr.strip()[-800:]}")
        return Counted(**json.loads(done.stdout))

    return run
