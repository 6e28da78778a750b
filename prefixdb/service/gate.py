"""The gate in front of every service: default deny.

    path ── exact look-up ──► none: UNIMPLEMENTED
                              public (health, reflection): through, without a session
                              credentials (login, refresh, logout): to the service, which judges the message itself
                              token ──► admission ──► capability ──► state ──► the service

The token is looked at when the call's headers arrive, before its message is read: whoever has none is answered at once
and cannot keep a half-open call. Requests are parsed here, after admission. Nothing an implementation raises reaches a
client but a PrefixdbError; everything else becomes INTERNAL with an id that is in the log.

When a row of one namespace was about to reach another, the gate halts: every later call is INTERNAL until an operator
has looked. Serving on with a broken isolation would be worse than not serving.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NoReturn

import grpc

from prefixdb.catalog.policy import METHODS, Capability
from prefixdb.errors import Code, InternalError, PrefixdbError, Reason, error
from prefixdb.service.arrivals import ADMINISTRATIVE_BYTES_MAX, CREDENTIALS_BYTES_MAX, SMALL_REPLY_BYTES
from prefixdb.service.calls import Call, IsolationError, Visitor, Wire, abort, internal_error, parse
from prefixdb.service.methods import GenericHandler, Handler, Method
from prefixdb.service.ports import any_peer
from prefixdb.service.public import GateParts, contain
from prefixdb.service.sessions import Admission

_LOG = logging.getLogger("prefixdb.gate")

UNKNOWN_METHOD = "unknown"
"""What a call of a method that does not exist is counted as; its own text is the caller's."""


class Gate(GenericHandler):
    """Routes calls to methods. Belongs to the event loop's thread.

    Args:
        parts: what it works with.
        methods: every method with an implementation; see ``methods_of``.
        public: handlers of the standard services, by full path. Each must be PUBLIC in the capability table.
        on_halt: called once when isolation was found broken.

    Raises:
        RuntimeError: a public handler has no PUBLIC row.
    """

    def __init__(
        self,
        parts: GateParts,
        methods: Iterable[Method],
        public: Mapping[str, Handler],
        on_halt: Callable[[], None] = lambda: None,
    ) -> None:
        self._parts = parts
        self._sessions = parts.sessions
        self._arrivals = parts.arrivals
        self._replies = parts.replies
        self._observer = parts.observer
        self._peers = parts.peers
        self._check_peer = None if parts.check_peer is any_peer else parts.check_peer
        self._on_halt = on_halt
        self._closed: PrefixdbError | None = None
        self.halted = False
        self.running = 0
        """Unary calls that are being answered."""
        self._makers: dict[str, tuple[Method, Callable[[Method, Admission], Handler]]] = {}
        for method in methods:
            self._makers[method.path] = (method, self._maker(method))
        self._public: dict[str, Handler] = {}
        for path, handler in public.items():
            if METHODS.get(path) is not Capability.PUBLIC:
                raise RuntimeError(f"{path} is not public in the capability table; the server does not start with it")
            self._public[path] = contain(path, handler, parts)

    @property
    def paths(self) -> frozenset[str]:
        """Every path that is answered."""
        return frozenset(self._makers) | frozenset(self._public)

    @property
    def closed(self) -> PrefixdbError | None:
        """What new calls are refused with; None while they are let in."""
        return self._closed

    def halt(self, path: str) -> None:
        """Stop serving: somebody else has found that a row of another namespace was about to leave. Idempotent."""
        if not self.halted:
            self._halt(path, IsolationError("a row outside of the caller's namespace"), secrets.token_hex(8))

    def close(self, reason: PrefixdbError) -> None:
        """Refuse every new call with ``reason``; calls that run go on."""
        self._closed = reason

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """Return the handler of one call. Never raises and never returns None: a refusal is a handler too."""
        path = str(handler_call_details.method)
        metadata = handler_call_details.invocation_metadata or ()
        try:
            self._peers.check(metadata)
            public = self._public.get(path)
            if public is not None:
                return public
            found = self._makers.get(path)
            if found is None:
                return self._refusal(None, error(Reason.METHOD_UNKNOWN))
            if self._closed is not None:
                return self._refusal(found[0], self._closed)
            if found[0].capability is Capability.CREDENTIALS:
                return self._visit(found[0])
            admission = self._sessions.admit(metadata)
            return found[1](found[0], admission)
        except PrefixdbError as refusal:
            return self._refusal(found[0] if (found := self._makers.get(path)) else None, refusal)
        except Exception as failure:  # noqa: BLE001 - logged with an id; nothing may escape into the transport
            return self._refusal(None, internal_error(path if path in self._makers else UNKNOWN_METHOD, failure))

    def _visit(self, method: Method) -> Handler:
        """A method that needs no token, because its message is the proof. Whatever token comes along is not looked at.

        Its work is finished when the client goes away: a refresh token is spent then, and a failure is counted.
        """

        async def handle(_: object, context: Any) -> bytes:
            started = time.perf_counter()
            self.running += 1
            visitor = Visitor(method, context, self._peers)
            raw = work = None
            try:
                raw = await self._arrivals.receive(context, public=True)
                _check_size(len(raw), CREDENTIALS_BYTES_MAX)
                work = method.implementation(visitor, parse(method.request_type, raw))
                body: bytes = (await self._parts.administration.finish(work)).SerializeToString()
            except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001 - as above
                raw = work = None  # See ``_fail``.
                return await self._fail(visitor, failure, started)
            finally:
                self.running -= 1
            self._observer.call_ended(method.path, 0, time.perf_counter() - started)
            return body

        return grpc.stream_unary_rpc_method_handler(handle)

    def _maker(self, method: Method) -> Callable[[Method, Admission], Handler]:
        if method.client_streaming:
            return self._duplex
        if method.server_streaming:
            return self._outgoing
        return self._unary

    def _unary(self, method: Method, admission: Admission) -> Handler:
        """A method with one answer. One that never waits, such as Get, is a plain function and answers at once."""

        async def handle(_: object, context: Any) -> bytes:
            started = time.perf_counter()
            self.running += 1
            call = Call(method, admission, self._sessions, context, self._peers)
            raw = answer = None
            try:
                self._check(call)
                raw = await self._arrivals.receive(context)
                if method.administrative:
                    _check_size(len(raw), ADMINISTRATIVE_BYTES_MAX)
                call.refresh()
                answer = method.implementation(call, parse(method.request_type, raw))
                if inspect.iscoroutine(answer):
                    if method.administrative:  # Its audit line must be written even when the client goes away.
                        answer = self._parts.administration.finish(answer)
                    answer = await answer
                body: bytes = answer.SerializeToString()
                if len(body) > SMALL_REPLY_BYTES:
                    self._replies.hold(call.session.namespace_id, len(body), context)
            except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001 - as above
                raw = answer = None  # See ``_fail``.
                return await self._fail(call, failure, started)
            finally:
                self.running -= 1
            self._observer.call_ended(method.path, 0, time.perf_counter() - started)
            return body

        return grpc.stream_unary_rpc_method_handler(handle)

    def _outgoing(self, method: Method, admission: Admission) -> Handler:
        """A method that streams answers."""

        async def handle(_: object, context: Any) -> None:
            started = time.perf_counter()
            call = Call(method, admission, self._sessions, context, self._peers)
            raw = request = None
            try:
                raw = await self._arrivals.receive(context)
                call.refresh()
                request = parse(method.request_type, raw)
            except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001 - as above
                raw = None  # See ``_fail``.
                await self._fail(call, failure, started)
            raw = None
            try:
                await self._stream(call, lambda wire: method.implementation(call, request, wire))
            finally:
                request = None

        return grpc.stream_stream_rpc_method_handler(handle)

    def _duplex(self, method: Method, admission: Admission) -> Handler:
        """A method that streams both ways."""

        async def handle(_: object, context: Any) -> None:
            call = Call(method, admission, self._sessions, context, self._peers)
            await self._stream(call, lambda wire: method.implementation(call, wire))

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _stream(self, call: Call, run: Callable[[Wire], Awaitable[None]]) -> None:
        """Run a streaming method as a registered stream, which can be cut from outside."""
        started = time.perf_counter()
        try:
            stream = call.stream = self._parts.streams.open(call.session.namespace_id, call.refresh)
        except PrefixdbError as refusal:
            await self._fail(call, refusal, started)
        wire = Wire(call.context, stream)
        try:
            self._check(call)
            call.refresh()
            await run(wire)
        except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001 - as above
            # The view is closed now, but the slot is given back only when the client has taken the status.
            stream.closed()
            await wire.headers.settle()
            await self._fail(call, failure, started)
        finally:
            stream.ended()
        self._observer.call_ended(call.method.path, 0, time.perf_counter() - started)

    def _check(self, call: Call) -> None:
        """Raise when the call's connection is not the caller's own."""
        if self._check_peer is not None:
            self._check_peer(self._peers.certificate(call.context), call.session.subject)

    async def _fail(self, call: Call | Visitor, failure: BaseException, started: float) -> NoReturn:
        """End a call that raised.

        gRPC keeps the exception that ends a call in the call's own state, in a circle that only the garbage collector
        finds, long afterwards. Whatever the frames behind that exception hold lives as long: callers let go of the
        message before, and its way here is forgotten, or each refused message would keep its sixteen megabytes.
        """
        path = call.method.path
        reason = failure
        if isinstance(failure, asyncio.CancelledError):
            cut = call.stream.cut_error if call.stream is not None else None
            if cut is None:
                self._observer.call_ended(path, Code.CANCELLED, time.perf_counter() - started)
                raise failure
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            failure = cut
        if isinstance(failure, IsolationError | InternalError) and not self.halted:
            self._halt(path, failure, call.request_id)
        if not isinstance(failure, PrefixdbError) or failure.reason is Reason.INTERNAL:
            failure = internal_error(path, failure, call.request_id)
        if call.method.administrative and isinstance(call, Call):
            await self._parts.administration.refused(call, failure)
        self._observer.call_ended(path, failure.code, time.perf_counter() - started)
        for known in (reason, failure):
            known.__traceback__ = known.__context__ = known.__cause__ = None
        await abort(call.context, failure)

    def _refusal(self, method: Method | None, refusal: PrefixdbError) -> Handler:
        """Return a handler that ends the call without reading its message. It fits calls of every shape."""

        async def handle(_: object, context: Any) -> None:
            self._observer.call_ended(method.path if method else UNKNOWN_METHOD, int(refusal.code), 0.0)
            if method is not None and method.administrative:
                await self._parts.administration.refused_unknown(method.path, self._peers.address(context), refusal)
            await abort(context, refusal)

        return grpc.stream_stream_rpc_method_handler(handle)

    def _halt(self, path: str, failure: BaseException, request_id: str) -> None:
        """Stop serving: isolation cannot be vouched for any more."""
        self.halted = True
        self._closed = error(Reason.INTERNAL, "Serving was stopped; the server's log says why.")
        facts = {"method": path, "request_id": request_id}
        _LOG.critical("ALARM: isolation is broken; serving stopped", exc_info=failure, extra=facts)
        self._parts.streams.drain(self._closed)
        self._on_halt()


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        message = f"The message has {size} bytes; the limit is {limit}."
        raise error(Reason.REQUEST_TOO_LARGE, message, metadata={"size": str(size), "limit": str(limit)})
