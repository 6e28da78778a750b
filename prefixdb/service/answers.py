"""Answers to the native front: it asks, Python decides, as it would have decided about the same call itself.

    front ──admit──► closed? ► token ► namespace ► certificate ──► a finished session, or a refusal
          ──translate──► which error the store's failure is, noted where it has to be
          ──ready──────► a store to use, and writes taken, or why not; this may wait
          ──halt───────► everything stops

What was let in is believed by the front until something it depends on changes. ``watch`` has it told of every change
before the change's author is: that a session holds no longer must be known where it is used.

The order in which a token is judged is the gate's. What the front does with an answer is said in
``_native/front/upcalls.h`` and ``sessions.h``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from prefixdb.catalog.entities import NamespaceState
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.tokens import TokenAuthority
from prefixdb.errors import PrefixdbError
from prefixdb.limits import TOKEN_LEEWAY_S
from prefixdb.rpcstatus import retry_after_ms
from prefixdb.service.calls import internal_error
from prefixdb.service.ports import PeerCheck, any_peer
from prefixdb.service.sessions import Sessions

_LEEWAY_MS = TOKEN_LEEWAY_S * 1000

Doing = Literal["read", "write"]

AdmitQuestion = tuple[Literal["admit"], int, str | None, str]
"""Number, token (None: the call brought no entry at all), PEM of the client's certificate (empty for none)."""

TranslateQuestion = tuple[Literal["translate"], int, Doing, Exception]
"""Number, what was done, and what the engine would have raised."""

ReadyQuestion = tuple[Literal["ready"], int, Doing, bool]
"""Number, what is to be done, and whether it puts no rows."""

HaltQuestion = tuple[Literal["halt"], int, str]
"""Number, and the method that was about to send a row of another namespace."""

Question = AdmitQuestion | TranslateQuestion | ReadyQuestion | HaltQuestion


FailureFields = tuple[int, int, str, str, Sequence[tuple[str, str]], int | None]
"""Of an error: status code, number and name of its reason, message, metadata, and after how long to try again."""


class FrontPort(Protocol):
    """The front as it is asked and answered. Thread-safe; nothing here waits but ``changed``, and that for moments."""

    def questions(self) -> Sequence[Question]:
        """Return some of what was asked and not returned before."""

    def admitted(
        self,
        number: int,
        namespace_id: int,
        rules: Sequence[tuple[int | None, bytes, bool, bool]],
        *,
        read_only: bool,
        ends_at_ms: int,
        guard_key: bytes,
        guard_version: int,
        home_counts: bool,
    ) -> None:
        """Let a token in.

        Args:
            number: of the question.
            namespace_id: whose rows.
            rules: database or None for all, prefix, read, write.
            read_only: the namespace takes deletes only.
            ends_at_ms: the first moment at which the token is not good any more.
            guard_key, guard_version: every write is committed under the condition that this row has this version.
            home_counts: a change in namespace 0 may change this, too.
        """

    def ready(self, number: int) -> None:
        """Answer that there is a store to use, and that it takes what was asked about."""

    def failed(self, number: int, *failure: *FailureFields) -> None:
        """Answer with a failure."""

    def changed(self, namespace_id: int | None) -> None:
        """Take note of a change that is durable and visible, of one namespace or of everyone (None).

        When it returns, no row leaves that was looked at before.
        """


class Gatekeeper(Protocol):
    """What the gate says about all calls; ``prefixdb.service.gate.Gate`` is one."""

    @property
    def closed(self) -> PrefixdbError | None:
        """What new calls are refused with; None while they are let in."""

    def halt(self, path: str) -> None:
        """Stop serving: isolation is broken."""


@dataclass(frozen=True, slots=True)
class AnswerParts:
    """Who knows the answers.

    translate: returns which error a failure of the store is, and notes it where it has to be noted.
    ready: returns when there is a store to use that takes what is to be done (``doing``, ``only_deletes``), or raises
        PrefixdbError; may wait.
    check_peer: whether a connection is the subject's own.
    """

    sessions: Sessions
    registry: Registry
    gate: Gatekeeper
    translate: Callable[[Doing, Exception], PrefixdbError]
    ready: Callable[[Doing, bool], Awaitable[None]]
    check_peer: PeerCheck = any_peer


class Answers:
    """Answers the questions of one front. Belongs to the event loop's thread.

    Args:
        front: who asks.
        parts: who knows.
    """

    def __init__(self, front: FrontPort, parts: AnswerParts) -> None:
        self._front = front
        self._parts = parts
        self._check_peer = None if parts.check_peer is any_peer else parts.check_peer
        self._waiting: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Answers({len(self._waiting)} waiting)"

    def answer(self) -> None:
        """Answer what waits now; for ``loop.add_reader`` on the front's descriptor. Never raises."""
        for question in self._front.questions():
            try:
                self._answer(question)
            except Exception as failure:  # noqa: BLE001 - whoever asked must hear something, and the others too
                self._failed(question[1], _known(failure, question[0]))

    def close(self) -> None:
        """Let go of questions that wait for the store; the front answers them itself when it is closed."""
        for task in list(self._waiting):
            task.cancel()

    def _answer(self, question: Question) -> None:
        if question[0] == "admit":
            self._admit(question)
        elif question[0] == "translate":
            self._failed(question[1], self._parts.translate(question[2], question[3]))
        elif question[0] == "ready":
            task = asyncio.ensure_future(self._make_ready(question))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        else:
            self._parts.gate.halt(question[2])

    def _admit(self, question: AdmitQuestion) -> None:
        """Look at a token as ``Gate.service`` does, and hand over what was found. Raises the refusal."""
        _, number, token, certificate = question
        closed = self._parts.gate.closed
        if closed is not None:
            raise closed
        admission = self._parts.sessions.admit_token(token)
        session, record = admission.session, admission.record
        if self._check_peer is not None:
            self._check_peer(certificate.encode("utf-8", "surrogateescape"), session.subject)
        guard = self._parts.registry.guard(record)
        self._front.admitted(
            number,
            session.namespace_id,
            [(rule.database, rule.prefix, rule.read, rule.write) for rule in session.rules],
            read_only=record.state is NamespaceState.READ_ONLY,
            ends_at_ms=session.expires_at_ms + _LEEWAY_MS,
            guard_key=guard.key,
            guard_version=guard.version,
            home_counts=session.guest or session.minted,
        )

    async def _make_ready(self, question: ReadyQuestion) -> None:
        _, number, doing, only_deletes = question
        try:
            await self._parts.ready(doing, only_deletes)
        except Exception as failure:  # noqa: BLE001 - as in ``answer``
            self._failed(number, _known(failure, question[0]))
        else:
            self._front.ready(number)

    def _failed(self, number: int, failure: PrefixdbError) -> None:
        self._front.failed(number, *_fields(failure))


def watch(front: FrontPort, registry: Registry, authority: TokenAuthority) -> None:
    """Have the front told of every change that an answer can depend on, each before its author is answered.

    Once and before the front serves; there is no way to stop it, for a front that is not told may serve nobody.
    """
    registry.add_exact_listener(front.changed)
    authority.epochs.add_exact_listener(front.changed)


def _fields(failure: PrefixdbError) -> FailureFields:
    reason = failure.reason
    metadata = tuple(failure.metadata.items())
    return int(failure.code), reason.value.number, reason.name, failure.message, metadata, retry_after_ms(failure)


def _known(failure: Exception, about: Any) -> PrefixdbError:
    """Return what the caller may know of a failure: it, when it is ours, else an id that is in the log."""
    if isinstance(failure, PrefixdbError):
        return failure
    return internal_error(f"answer to the front: {about}", failure)
