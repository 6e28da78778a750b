"""A gRPC server that plays a script: the failures a real server cannot be made to show at the right moment.

    server.script(methods.GET, Refuse(Reason.DRAINING), Answer(GetResponse(found=True)))

Each call of a method takes the next step of its script; the last step stays. It runs in threads of its own, so both
clients can be tested against it, and remembers every call.

A Pipeline that has no script of its own, or whose step is ``Serve``, is taken apart: each operation takes the next step
of its method's script and counts as a call of it. What the real server says to a stream, it says to the stream; the
rest to the operation alone.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import grpc

from prefixdb.client import methods
from prefixdb.client.methods import Method
from prefixdb.errors import Code, Reason, error
from prefixdb.rpcstatus import DETAILS_KEY, to_message, to_status
from prefixdb.v1 import key_value_pb2


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


@dataclass(frozen=True)
class Hold:
    """Answer, but not before the test says so. What comes behind it on the same stream waits too."""

    until: threading.Event
    answer: Answer


@dataclass(frozen=True)
class Serve:
    """Take a Pipeline apart; after so many messages with operations go on with ``then``, which may be the end."""

    messages: int
    then: Refuse | Lose | None = None


Step = Answer | Refuse | Lose | Hang | Hold | Serve

SINGLE = {"get": methods.GET, "put": methods.PUT, "delete": methods.DELETE}
"""The method that an operation of a Pipeline stands for."""

TO_THE_STREAM = {Reason.STARTING, Reason.DRAINING, Reason.INTERNAL}
"""What the real server refuses a stream with, and not an operation; besides whatever is wrong with the token."""


@dataclass
class Call:
    """One call as it arrived."""

    path: str
    requests: list[bytes]
    token: str | None


@dataclass
class ScriptedServer:
    """See the module's docstring. Use it as a context manager.

    Attributes:
        calls: every call, and every operation of a Pipeline that was taken apart.
        streams: Pipelines that were taken apart.
        ended: those of them that the client has ended.
        messages: the number of operations of each of their messages.
        spoil: changes their answers on the way.
    """

    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._scripts: dict[str, list[Step]] = defaultdict(list)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._streaming: set[str] = set()
        self.streams = 0
        self.ended = 0
        self.spoil: Callable[[Any], None] | None = None
        self.messages: list[int] = []
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
            token = metadata.get("authorization")
            if path == methods.PIPELINE.path:
                self.streams += 1
                serve = self._begin(path, token)[1] if self._scripts[path] else None
                return grpc.stream_stream_rpc_method_handler(
                    lambda requests, context: self._pipeline(token, serve, requests, context)
                )
            if not self._scripts[path]:
                return None
            call, step = self._begin(path, token)
        if path in self._streaming:
            return grpc.unary_stream_rpc_method_handler(
                lambda request, context: self._stream(call, step, request, context)
            )
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._unary(call, step, request, context))

    def _begin(self, path: str, token: str | None) -> tuple[Call, Step]:
        """Note a call and take its step."""
        steps = self._scripts[path]
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        self.calls.append(Call(path, [], token))
        return self.calls[-1], step

    def _pipeline(
        self, token: str | None, serve: Step | None, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        if serve is not None and not isinstance(serve, Serve):
            self._fail(serve, context)
            return
        left = serve.messages if serve is not None else float("inf")
        for raw in requests:
            request = key_value_pb2.PipelineRequest.FromString(raw)
            answer = key_value_pb2.PipelineResponse(id=request.id)
            self.messages.append(len(request.operations))
            for operation in request.operations:
                self._operate(token, operation, answer.results.add(), context)
            if self.spoil is not None:
                self.spoil(answer)
            yield answer.SerializeToString()
            left -= bool(request.operations)
            if left <= 0 and serve is not None:
                if serve.then is not None:
                    self._fail(serve.then, context)
                return
        self.ended += context.is_active()  # Not when it was cancelled.

    def _operate(self, token: str | None, operation: Any, result: Any, context: grpc.ServicerContext) -> None:
        """Let one operation of a message take its step."""
        part = operation.WhichOneof("operation")
        request = getattr(operation, part)
        with self._lock:
            call, step = self._begin(SINGLE[part].path, token)
        call.requests.append(request.SerializeToString())
        if isinstance(step, Hold):
            step = self._held(step)
        if isinstance(step, Answer):
            getattr(result, part).CopyFrom(step.messages[0])
        elif isinstance(step, Refuse) and not _is_told_to_stream(step.reason):
            result.error.CopyFrom(to_message(error(step.reason, retry_after_ms=step.retry_after_ms)))
        else:
            self._fail(step, context)

    def _held(self, step: Hold) -> Answer:
        while not step.until.wait(0.05) and not self._ended.is_set():
            pass
        return step.answer

    def _unary(self, call: Call, step: Step, request: bytes, context: grpc.ServicerContext) -> bytes:
        call.requests.append(request)
        if isinstance(step, Hold):
            step = self._held(step)
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


def _is_told_to_stream(reason: Reason) -> bool:
    return reason in TO_THE_STREAM or reason.value.code is Code.UNAUTHENTICATED
