"""One call on its way through the server, and the one place where a failure becomes a gRPC status."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from prefixdb.catalog.entities import NamespaceRecord
from prefixdb.catalog.policy import Access, Session, check_capability, check_state
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import PIPELINE_IDLE_MS_MAX, SLOW_READER_MS_MAX
from prefixdb.rpcstatus import DETAILS_KEY, to_status
from prefixdb.service.methods import Method
from prefixdb.service.peers import Peers
from prefixdb.service.sessions import Admission, Sessions
from prefixdb.service.streams import Stream

_LOG = logging.getLogger("prefixdb.calls")

_TOO_SLOW = "The client took no message for {} s."
_TOO_LONG = "The call took longer than one may."
_TOO_IDLE = "The client sent nothing for {} s."
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class IsolationError(Exception):
    """A row outside the caller's namespace was about to be sent. The gate halts on it."""


class Call:
    """An admitted call. Cheap: one is made for every request.

    session: who is calling; ``refresh`` brings it up to date.
    record: the caller's namespace at the last refresh.
    act_started: an audit line says that the call's act has begun; its outcome has a line of its own.
    stream: set while the call is registered as a stream.
    peer: where the call comes from, as gRPC says it; known for administrative calls only, and asked for while the call
        is alive, see ``Peers``.
    needs: what a call that lives on has to be permitted again and again, raised when it is not; None for nothing but
        the method's capability.
    """

    __slots__ = (
        "_admission", "_request_id", "_sessions", "act_started", "context", "method", "needs", "peer", "record",
        "session", "stream",
    )  # fmt: skip

    def __init__(self, method: Method, admission: Admission, sessions: Sessions, context: Any, peers: Peers) -> None:
        self.method = method
        self.context = context
        self.session: Session = admission.session
        self.record: NamespaceRecord = admission.record
        self.act_started = False
        self.stream: Stream | None = None
        self.peer = peers.address(context) if method.administrative else ""
        self.needs: Callable[[Session], None] | None = None
        self._admission = admission
        self._sessions = sessions
        self._request_id = ""

    @property
    def request_id(self) -> str:
        """Sixteen hex digits that name this call in the log, the audit and an INTERNAL error."""
        if not self._request_id:
            self._request_id = secrets.token_hex(8)
        return self._request_id

    def refresh(self, access: Access = Access.READ) -> Session:
        """Return the session if token, namespace and capability still allow the call; cheap when nothing changed.

        Call it first, and again after every wait before rows are read or sent.

        Raises:
            UnauthenticatedError, PermissionDeniedError: as ``Sessions.admit``; NOT_PERMITTED, also by ``needs``.
            FailedPreconditionError: READ_ONLY, when ``access`` is a write.
        """
        session = self._sessions.refresh(self._admission)
        record = self.record = self._admission.record
        check_capability(session, self.method.capability)
        if session is not self.session:  # A group, a grant or a member was changed while the call was under way.
            self.session = session
            if self.needs is not None:
                self.needs(session)
        if access is not Access.READ:
            check_state(record, session, access)
        return session

    def __repr__(self) -> str:
        return f"Call({self.method.path})"


class Visitor:
    """A call by somebody who has no token yet, or whose message is the proof: a login, a refresh, a logout.

    peer: where the call comes from, as gRPC says it.
    certificate: the client's, as PEM; empty when it has none.
    context: for the gate only. The work on such a call may outlive it, and asking the library about a call that is over
        ends the process (grpcio 1.85.1, segmentation fault); so what is needed of it is read here.
    """

    __slots__ = ("certificate", "context", "method", "peer", "request_id")

    stream = None

    def __init__(self, method: Method, context: Any, peers: Peers) -> None:
        self.method = method
        self.context = context
        self.peer = peers.address(context)
        self.certificate = peers.certificate(context)
        self.request_id = secrets.token_hex(8)

    def __repr__(self) -> str:
        return f"Visitor({self.method.path})"


class Headers:
    """The answer's headers, sent by themselves ahead of the first message.

    grpc would send them together with that message and note it only when flow control has let the message through. A
    call that is cut meanwhile could not be ended: its status would come with the headers a second time, which the core
    refuses, and the client would wait for ever.
    """

    __slots__ = ("_context", "_sending")

    def __init__(self, context: Any) -> None:
        self._context = context
        self._sending: asyncio.Future[None] | None = None

    async def send(self) -> None:
        """Send them, once; flow control does not hold them back."""
        if self._sending is None:
            self._sending = asyncio.ensure_future(self._context.send_initial_metadata(()))
        if not self._sending.done():
            await asyncio.shield(self._sending)  # A cut that comes now must not leave it open whether they went.

    async def settle(self) -> None:
        """Wait for a sending that was under way when the call was cut; then the call can be ended."""
        if self._sending is not None:
            await asyncio.wait([self._sending])


class Wire:
    """The messages of one streaming call, under the eyes of the sweep that ends slow clients.

    patience_ms: a client that takes no message for so long is cut; a method may allow more before it sends.
    idle_ms: the same for one that sends none.
    """

    __slots__ = ("_context", "_ends_at", "_stream", "headers", "idle_ms", "patience_ms")

    def __init__(self, context: Any, stream: Stream) -> None:
        self._context = context
        self._stream = stream
        self.headers = Headers(context)
        self.patience_ms = SLOW_READER_MS_MAX
        self.idle_ms = PIPELINE_IDLE_MS_MAX
        self._ends_at = 0.0

    def end_within(self, longest_ms: int) -> None:
        """Have a call that holds what others wait for end after so long, however steadily its client takes messages."""
        self._ends_at = self._stream.time() + longest_ms / 1000

    async def send(self, message: Any) -> None:
        """Send a message and return when flow control has let it through.

        Raises:
            DeadlineExceededError: DEADLINE, the call has taken longer than ``end_within`` allows.
        """
        if 0 < self._ends_at < self._stream.time():
            raise error(Reason.DEADLINE, _TOO_LONG)
        self._stream.wait_for_client(self.patience_ms, _TOO_SLOW.format(self.patience_ms // 1000))
        await self.headers.send()
        await self._context.write(message.SerializeToString())
        self._stream.client_moved()

    @contextlib.contextmanager
    def idle(self) -> Iterator[None]:
        """Mark a wait for something that may never come, which a draining server need not sit out."""
        self._stream.idle = True
        try:
            yield
        finally:
            self._stream.idle = False

    async def receive(self) -> bytes | None:
        """Return the next message of the client, or None when it has sent its last."""
        self._stream.wait_for_message(self.idle_ms, _TOO_IDLE.format(self.idle_ms // 1000))
        raw = await self._context.read()
        self._stream.client_moved()
        return raw if isinstance(raw, bytes) else None  # At the end grpc gives a marker instead of bytes.


def internal_error(method: str, failure: BaseException, request_id: str = "") -> PrefixdbError:
    """Log an exception nobody expected and return what the client may know of it: an id."""
    request_id = request_id or secrets.token_hex(8)
    _LOG.error("call failed", exc_info=failure, extra={"method": method, "request_id": request_id})
    return error(Reason.INTERNAL, metadata={"request_id": request_id})


def parse(message_type: type[Any], raw: bytes) -> Any:
    """Return the request message in ``raw``.

    Raises:
        InvalidArgumentError: BAD_FIELD when the bytes are not such a message.
    """
    try:
        return message_type.FromString(raw)
    except DecodeError:
        raise error(Reason.BAD_FIELD, "The request is not a message of its type.") from None


async def abort(context: Any, failure: PrefixdbError) -> NoReturn:
    """End the call with the status of ``failure`` and its details."""
    details = to_status(failure).SerializeToString()
    await context.abort(_STATUS_CODES[int(failure.code)], failure.message, ((DETAILS_KEY, details),))
    raise AssertionError("grpc's abort always raises")
