"""Calls whose answers are compared with the model's, and the report when one differs."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Protocol

from prefixdb.v1 import error_pb2
from prefixdb.v1 import key_value_pb2 as pb
from tools.crash.expect import Issue, Refused, commits
from tools.lab.rpc import Rpc, RpcError

HISTORY = 30
NOTE_CHARS_MAX = 300
VALUE_CHARS_MAX = 1_500


class Host(Protocol):
    """A server under the walk's control: restarted on the same directory, with a clock that the walk holds."""

    @property
    def address(self) -> str:
        """Where it listens."""

    @property
    def guardian_token(self) -> str:
        """The cluster guardian's token."""

    def now_ms(self) -> int:
        """Return the held time."""

    def advance(self, ms: int) -> None:
        """Move the held time on, and let the server see it."""

    def restart(self) -> None:
        """Stop the server in good order and start it again on its directory."""


class MismatchError(Exception):
    """The server's answer is not the model's. The message tells both, and the steps before."""


class Comparer:
    """Makes calls of KeyValue for an issue and holds them against the model.

    Args:
        host: the server; it must be new.
    """

    def __init__(self, host: Host) -> None:
        self.counts: Counter[str] = Counter()
        self._host = host
        self._rpc = Rpc(host.address, channels_apart=True)
        self._version = 0
        self._history: deque[str] = deque(maxlen=HISTORY)

    @property
    def operations(self) -> int:
        """How many operations were compared; each one of a Pipeline counts."""
        return self.counts["operations"]

    def close(self) -> None:
        """Close the connection."""
        self._rpc.close()

    def _compare_call(self, issue: Issue, name: str, request: Any) -> None:
        """Make a call and compare its outcome."""
        self.counts["operations"] += 1
        self.counts[name] += 1
        self._note(f"{issue.id} {name} {shown(request)}")
        now_ms = self._host.now_ms()
        try:
            if name == "scan":
                pages = self._rpc.stream("KeyValue/Scan", request, issue.token)
                answer: Any = [row for page in pages for row in page.rows]
            else:
                method = "".join(part.title() for part in name.split("_"))
                answer = self._rpc.call(f"KeyValue/{method}", request, issue.token)
        except RpcError as failure:
            answer = failure
        self._compare(issue, name, request, answer, now_ms)

    def _compare_pipeline(self, issue: Issue, messages: list[pb.PipelineRequest]) -> None:
        """Send messages on one Pipeline stream and compare every result."""
        self._note(f"{issue.id} pipeline of {[len(message.operations) for message in messages]}")
        now_ms = self._host.now_ms()
        try:
            answers = self._rpc.exchange("KeyValue/Pipeline", messages, issue.token)
        except RpcError as failure:
            self._expect_refusal(issue.admit, failure)
            return
        if [answer.id for answer in answers] != [message.id for message in messages]:
            raise self.mismatch("pipeline", [message.id for message in messages], [answer.id for answer in answers])
        for message, answer in zip(messages, answers, strict=True):
            if len(answer.results) != len(message.operations):
                raise self.mismatch("pipeline results", len(message.operations), len(answer.results))
            for operation, result in zip(message.operations, answer.results, strict=True):
                self._compare_operation(issue, operation, result, now_ms)

    def _compare_operation(
        self, issue: Issue, operation: pb.Operation, result: pb.OperationResult, now_ms: int
    ) -> None:
        name = operation.WhichOneof("operation")
        which = result.WhichOneof("result")
        if name is None or which not in {name, "error"}:
            raise self.mismatch(f"pipeline {name}", name, which)
        self.counts["operations"] += 1
        self.counts[f"pipelined {name}"] += 1
        request = getattr(operation, name)
        self._note(f"{issue.id} pipelined {name} {shown(request)}")
        answer: Any = getattr(result, which)
        if which == "error":
            reason = error_pb2.Reason.Name(result.error.reason).removeprefix("REASON_")
            answer = RpcError(name, str(result.error.code), reason, result.error.message)
        self._compare(issue, name, request, answer, now_ms)

    def _compare(self, issue: Issue, name: str, request: Any, answer: Any, now_ms: int) -> None:
        """Compare an answer, or the refusal in its place, with the model's; the model does what was answered."""
        versions = () if isinstance(answer, RpcError | list) else tuple(commits(answer))
        for version in versions:
            if version <= self._version:
                raise self.mismatch(name, f"a version above {self._version}", version)
            self._version = version
        try:
            issue.admit()
            if name in {"put", "delete", "write"}:
                expected = getattr(issue, name)(request, now_ms, self._version)
            else:
                expected = getattr(issue, name)(request, now_ms)
        except Refused as refusal:
            if not isinstance(answer, RpcError) or answer.reason not in refusal.reasons:
                raise self.mismatch(name, f"a refusal: {refusal}", answer) from None
            self.counts[f"refused {answer.reason}"] += 1
            return
        if answer != expected:
            raise self.mismatch(name, expected, answer)

    def _expect_refusal(self, check: Callable[[], None], failure: RpcError) -> None:
        try:
            check()
        except Refused as refusal:
            if failure.reason in refusal.reasons:
                self.counts[f"refused {failure.reason}"] += 1
                return
            raise self.mismatch("refusal", refusal, failure) from None
        raise self.mismatch("call", "no refusal", failure)

    def _note(self, text: str) -> None:
        self._history.append(f"#{self.operations} t={self._host.now_ms()} {_cut(text, NOTE_CHARS_MAX)}")

    def mismatch(self, what: str, expected: object, found: object) -> MismatchError:
        recent = "\n  ".join(self._history)
        return MismatchError(f"{what}\nexpected: {shown(expected)}\nfound:    {shown(found)}\nsteps:\n  {recent}")


def shown(value: object) -> str:
    """Return a value as one line, cut when it is long."""
    return _cut(str(value).replace("\n", " ").replace("\\000", ""), VALUE_CHARS_MAX)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
