"""A gRPC server that plays a script: the failures a real server cannot be made to show at the right moment.

    server.script(methods.GET, Refuse(Reason.DRAINING), Answer(GetResponse(found=True)))

Each call of a method takes the next step of its script; the last step stays. It runs in threads of its own, so both
clients can be tested against it, and remembers every call.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import grpc

from prefixdb.client.methods import Method
from prefixdb.errors import Reason, error
from prefixdb.rpcstatus import DETAILS_KEY, to_status


@dataclass(frozen=True)
class Answer:
    """Answer with these messages; then, for a stream, go on with ``then`` if there is one."""

    messages: tuple[Any, ...]
    then: Refuse | Lose | Hang | None = None

    def __init__(self, *messages: Any, then: Refuse | Lose | Hang | None = None) -> None:
        object.__setattr__(self, "messages", messages)
        object.__setattr__(self, "then", then)


@dataclass(frozen=True)
class Refuse:
    """Fail with a reason, as the real server does."""

    reason: Reason
    retry_after_ms: int | None = None


@dataclass(frozen=True)
class Lose:
    """Fail as a lost connection does: UNAVAILABLE without a reason, after the request was taken."""

    text: str = "Socket closed"


@dataclass(frozen=True)
class Hang:
    """Answer nothing until the caller gives up."""


Step = Answer | Refuse | Lose | Hang


@dataclass
class Call:
    """One call as it arrived."""

    path: str
    requests: list[bytes]
    token: str | None


@dataclass
class ScriptedServer:
    """See the module's docstring. Use it as a context manager."""

    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._scripts: dict[str, list[Step]] = defaultdict(list)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._streaming: set[str] = set()
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self,))  # type: ignore[arg-type]  # has the one method that is needed
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.stop(None).wait()

    def script(self, method: Method[Any, Any], *steps: Step, stream: bool = False) -> None:
        """Set what the calls of a method meet, one step after the other; the last one stays."""
        self._scripts[method.path] = list(steps)
        if stream:
            self._streaming.add(method.path)

    def calls_of(self, method: Method[Any, Any]) -> list[Call]:
        """Return the calls of one method so far."""
        return [call for call in self.calls if call.path == method.path]

    def requests_of(self, method: Method[Any, Any]) -> list[Any]:
        """Return the first request of each call of a method, parsed."""
        return [method.request.FromString(call.requests[0]) for call in self.calls_of(method)]

    def service(self, details: Any) -> Any:
        """Return the handler of a call; gRPC asks for it."""
        path = details.method
        metadata = dict(details.invocation_metadata)
        with self._lock:
            steps = self._scripts[path]
            if not steps:
                return None
            step = steps.pop(0) if len(steps) > 1 else steps[0]
            call = Call(path, [], metadata.get("authorization"))
            self.calls.append(call)
        if path in self._streaming:
            return grpc.unary_stream_rpc_method_handler(
                lambda request, context: self._stream(call, step, request, context)
            )
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._unary(call, step, request, context))

    def _unary(self, call: Call, step: Step, request: bytes, context: grpc.ServicerContext) -> bytes:
        call.requests.append(request)
        if isinstance(step, Answer):
            serialized: bytes = step.messages[0].SerializeToString()
            return serialized
        self._fail(step, context)
        return b""

    def _stream(self, call: Call, step: Step, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        call.requests.append(request)
        if isinstance(step, Answer):
            for message in step.messages:
                yield message.SerializeToString()
            if step.then is not None:
                self._fail(step.then, context)
            return
        self._fail(step, context)

    def _fail(self, step: Step, context: grpc.ServicerContext) -> None:
        if isinstance(step, Hang):
            over = threading.Event()
            context.add_callback(over.set)
            while not over.wait(0.05) and not self._ended.is_set():
                pass
        elif isinstance(step, Refuse):
            status = to_status(error(step.reason, retry_after_ms=step.retry_after_ms))
            context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
            code = {code.value[0]: code for code in grpc.StatusCode}[status.code]
            context.abort(code, status.message)
        elif isinstance(step, Lose):
            context.abort(grpc.StatusCode.UNAVAILABLE, step.text)
