"""Goal: the benchmark's load generator counts what happened: no failure passes for an answer, no answer is lost.

Method: it is built by its own Makefile and sent against a gRPC server that does as it is told and counts the calls it
answered. What the generator says must be what that server knows.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.native.test_native_units import BUILD_TIMEOUT_S, skip_without_the_compiled_part
from tools.bench.page import calls, keys
from tools.bench.page.generators import NATIVE

MESSAGES = [b"one", b"two", b"three"]
METADATA = "x-word"


class Answers(grpc.GenericRpcHandler):
    """Serves every path with one method and counts what it was asked."""

    def __init__(self, make: Callable[..., Any], behaviour: Callable[..., Any]) -> None:
        self.asked: list[bytes] = []
        self.words: set[str] = set()
        self._handler = make(self._wrap(behaviour))

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        self.words.update(value for name, value in details.invocation_metadata if name == METADATA)
        return self._handler

    def _wrap(self, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            if isinstance(request, bytes):
                self.asked.append(request)
                return behaviour(request, context)
            return (behaviour(each, context) for each in self._counted(request))

        return answer

    def _counted(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        for request in requests:
            self.asked.append(request)
            yield request


@pytest.fixture(scope="module")
def generator() -> Path:
    """The program, built when it is not current."""
    skip_without_the_compiled_part()
    (NATIVE / "build").mkdir(exist_ok=True)
    with (NATIVE / "build" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Test processes share the objects.
        built = subprocess.run(
            ["make", "--no-print-directory", "-C", str(NATIVE), "build/grpc_load"],
            capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False,
        )  # fmt: skip
    assert built.returncode == 0, f"{built.stdout}\n{built.stderr}"
    return NATIVE / "build" / "grpc_load"


def run(generator: Path, answers: Answers, tmp_path: Path, **arguments: object) -> subprocess.CompletedProcess[str]:
    """Serve, let the generator work for a moment, and return how it ended."""
    replay = keys.write_replay(tmp_path / "r", [calls.frame(each) for each in MESSAGES], [0, 1, 2, 1])
    headers = tmp_path / "headers"
    headers.write_text(f"{METADATA}: hello: there\n", encoding="utf-8")
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[answers])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        chosen = {"seconds": 0.3, "warm-up": 0.1, "connections": 2, "in-flight": 3} | arguments
        words = [word for name, value in chosen.items() for word in (f"--{name}", str(value))]
        fixed = ["--port", str(port), "--path", "/a.B/C", "--replay", str(replay), "--headers", str(headers)]
        return subprocess.run([str(generator), *fixed, *words], capture_output=True, text=True, timeout=60, check=False)
    finally:
        server.stop(None).wait()


def test_calls_that_are_answered_are_counted_once_each(generator: Path, tmp_path: Path) -> None:
    answers = Answers(grpc.unary_unary_rpc_method_handler, lambda request, _context: request * 2)
    done = run(generator, answers, tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["calls_all"] == found["messages_all"] == len(answers.asked)
    assert 0 < found["calls"] <= found["calls_all"]
    assert set(answers.asked) == set(MESSAGES)
    assert answers.asked.count(b"two") > answers.asked.count(b"one"), "drawn twice as often"
    assert (found["smallest"], found["largest"]) == (5 + 6, 5 + 10)
    assert found["bytes_all"] == sum(5 + 2 * len(each) for each in answers.asked)
    assert 0 < found["p50_us"] <= found["p99_us"] <= found["p999_us"] < 60e6
    assert answers.words == {"hello: there"}


def test_a_status_that_is_not_ok_ends_the_run_with_its_words(generator: Path, tmp_path: Path) -> None:
    def refuse(_request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "not you")
        raise AssertionError("abort raises")

    done = run(generator, Answers(grpc.unary_unary_rpc_method_handler, refuse), tmp_path)
    assert done.returncode == 2
    assert "6 calls failed" in done.stderr, "each of the calls in flight, and none anew"
    assert "grpc-status 16: not you" in done.stderr


def test_one_failure_among_many_answers_is_noticed(generator: Path, tmp_path: Path) -> None:
    def mostly(request: bytes, context: grpc.ServicerContext) -> bytes:
        if len(answers.asked) == 50:
            context.abort(grpc.StatusCode.INTERNAL, "once")
        return request

    answers = Answers(grpc.unary_unary_rpc_method_handler, mostly)
    done = run(generator, answers, tmp_path)
    assert done.returncode == 2
    assert "1 calls failed" in done.stderr and "once" in done.stderr


def test_all_messages_of_a_stream_are_one_answer(generator: Path, tmp_path: Path) -> None:
    answers = Answers(
        grpc.unary_stream_rpc_method_handler, lambda request, _context: iter([request, b"", b"x" * 70_000])
    )
    done = run(generator, answers, tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["calls_all"] == len(answers.asked)
    assert found["messages_all"] == 3 * len(answers.asked)
    assert (found["smallest"], found["largest"]) == (3 * 5 + 3 + 70_000, 3 * 5 + 5 + 70_000)


def test_a_stream_that_breaks_off_is_a_failure(generator: Path, tmp_path: Path) -> None:
    def broken(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield request
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")

    done = run(generator, Answers(grpc.unary_stream_rpc_method_handler, broken), tmp_path)
    assert done.returncode == 2
    assert "grpc-status 8: enough" in done.stderr


def test_each_message_of_a_long_stream_is_a_call(generator: Path, tmp_path: Path) -> None:
    answers = Answers(grpc.stream_stream_rpc_method_handler, lambda request, _context: request)
    done = run(generator, answers, tmp_path, bidirectional=1)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["calls_all"] == found["messages_all"] == len(answers.asked) > 6
    assert (found["smallest"], found["largest"]) == (5 + 3, 5 + 5)


def test_a_server_that_is_not_there_is_an_error(generator: Path, tmp_path: Path) -> None:
    replay = keys.write_replay(tmp_path / "r", [b"m"], [0])
    done = subprocess.run(
        [str(generator), "--port", "1", "--path", "/a.B/C", "--replay", str(replay)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "cannot connect to port 1\n")


@pytest.mark.parametrize("content", [b"", b"PFXREPL1", b"PFXREPL2" + bytes(8), b"PFXREPL1" + bytes(8)])
def test_a_file_that_is_no_replay_file_is_refused(generator: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r").write_bytes(content)
    done = subprocess.run(
        [str(generator), "--port", "1", "--path", "/a.B/C", "--replay", str(tmp_path / "r")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "replay file" in done.stderr or "draws nothing" in done.stderr
