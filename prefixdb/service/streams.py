"""Open streams: who has one, how many, and how each is ended from outside within a second.

A stream is a call that lives longer than one request: Scan, Pipeline, Watch, and Count, which holds a cursor across
waits. It is cut when its token or namespace is no longer good (told by listeners, and looked for by a sweep that also
finds expiry), when its client takes no message for ``SLOW_READER_MS_MAX``, and when the server drains.

Cutting cancels the handler's task, so it works while the handler is blocked in a write to a client that does not read.
Two counts are kept apart: a stream *views* its namespace until its handler has closed the cursor (the reclaimer waits
for this one), and it holds a *slot* until the transport has let go of the call, so that clients that never read cannot
pile up buffers by opening stream after stream.

Work on a namespace that is not a stream of it (an export or a clone by somebody of another namespace, an import that
goes on when its client has gone) *holds* it: counted as a view, and cut as a stream is, but without a slot.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import STREAMS_MAX, STREAMS_PER_NAMESPACE_MAX

_LOG = logging.getLogger("prefixdb.streams")

SWEEP_S = 0.2
"""Pause between two looks at all open streams; a fifth of the second within which a stream must end."""


class Stream:
    """One open stream, from admission to the end of its handler.

    namespace_id: whose rows it may see; None for a public method.
    cut_error: why it was cut; the gate ends the call with it.
    """

    __slots__ = (
        "_check", "_registry", "_task", "cut_error", "idle", "namespace_id", "patience", "viewing", "waiting_until",
    )  # fmt: skip

    def __init__(self, registry: OpenStreams, namespace_id: int | None, check: Callable[[], object]) -> None:
        self._registry = registry
        self._check = check
        self._task = asyncio.current_task()
        self.namespace_id = namespace_id
        self.cut_error: PrefixdbError | None = None
        self.viewing = True
        self.idle = False
        """True while nothing is under way that an ending server should let finish."""
        self.waiting_until = 0.0
        """Loop time until which the client has to move; 0 while it is not the client who is waited for."""
        self.patience = ""
        """What to tell a client that did not move in time."""

    def time(self) -> float:
        """Return the loop's time in seconds."""
        return self._registry.time()

    def wait_for_client(self, patience_ms: int, failure: str) -> None:
        """Let the sweep cut the stream with ``failure`` unless ``client_moved`` is called in time."""
        self.waiting_until = self._registry.time() + patience_ms / 1000
        self.patience = failure

    def wait_for_message(self, patience_ms: int, failure: str) -> None:
        """As ``wait_for_client``, for the next message: nothing is under way, so a draining server ends the stream.

        Raises:
            UnavailableError: DRAINING.
        """
        self._registry.check_draining()
        self.idle = True
        self.wait_for_client(patience_ms, failure)

    def client_moved(self) -> None:
        """Stop the clock that was started."""
        self.idle = False
        self.waiting_until = 0.0

    def cut(self, reason: PrefixdbError) -> None:
        """End the stream with ``reason``; nothing happens when it is ending already."""
        if self.viewing and self.cut_error is None:
            self.cut_error = reason
            if self._task is not None:
                self._task.cancel()

    def recheck(self) -> None:
        """Cut the stream unless its token and namespace are still good."""
        try:
            self._check()
        except PrefixdbError as refusal:
            self.cut(refusal)

    def closed(self) -> None:
        """Tell that the handler holds no cursor any more. Harmless when called again."""
        if self.viewing:
            self.viewing = False
            self._registry.view_closed(self)

    def ended(self) -> None:
        """Tell that the call is over, and give its slot back. Call it once."""
        self.closed()
        self._registry.slot_freed(self)


class _Hold:
    """A view of a namespace by work that is no stream of it."""

    __slots__ = ("_check", "_cut", "_is_cut", "namespace_id")

    def __init__(self, namespace_id: int, check: Callable[[], object], cut: Callable[[PrefixdbError], object]) -> None:
        self._check = check
        self._cut = cut
        self._is_cut = False
        self.namespace_id = namespace_id

    def recheck(self) -> None:
        """Have the work end unless it is still allowed; it is told once."""
        if self._is_cut:
            return
        try:
            self._check()
        except PrefixdbError as refusal:
            self._is_cut = True
            self._cut(refusal)


class OpenStreams:
    """The registry of open streams. Belongs to the event loop's thread, but for ``views`` and ``poke``.

    Args:
        loop: the serving loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._streams: set[Stream] = set()
        self._views: Counter[int] = Counter()
        self._slots: dict[int | None, set[Stream]] = {}
        self._holds: dict[int, set[_Hold]] = {}
        self._draining: PrefixdbError | None = None
        self._views_elsewhere: Callable[[int], int] = lambda _: 0
        self._open_elsewhere: Callable[[], int] = lambda: 0

    def __len__(self) -> int:
        return len(self._streams) + self._open_elsewhere()

    def count_with(self, views: Callable[[int], int], open_streams: Callable[[], int]) -> None:
        """Count streams of another keeper too, which admits and cuts them itself: the native front.

        Args:
            views: as ``views``. Thread-safe.
            open_streams: how many there are.
        """
        self._views_elsewhere = views
        self._open_elsewhere = open_streams

    def open(self, namespace_id: int | None, check: Callable[[], object]) -> Stream:
        """Register the running task as a stream.

        Args:
            namespace_id: of the session; None for a public method.
            check: raises PrefixdbError when the stream may not go on. The caller runs it once itself *after* opening:
                a ban between an earlier check and this registration would otherwise let the reclaimer find no stream.

        Raises:
            ResourceExhaustedError: TOO_MANY_STREAMS, of the namespace or of the server.
            UnavailableError: DRAINING.
        """
        self.check_draining()
        if len(self._slots.get(namespace_id, ())) >= STREAMS_PER_NAMESPACE_MAX or len(self._streams) >= STREAMS_MAX:
            raise error(Reason.TOO_MANY_STREAMS)
        stream = Stream(self, namespace_id, check)
        self._streams.add(stream)
        self._slots.setdefault(namespace_id, set()).add(stream)
        if namespace_id is not None:
            self._views[namespace_id] += 1
        return stream

    @contextmanager
    def hold(
        self, namespace_id: int, check: Callable[[], object], cut: Callable[[PrefixdbError], object]
    ) -> Iterator[None]:
        """Count as a view of a namespace while inside, for work on it that is not a stream of it.

        A ban of the namespace is not published before the last hold has ended. So leave only when every cursor over it
        is closed, every thread that could write into it has returned, and every file with rows of it is gone; also
        when the waiting task is cancelled.

        Args:
            namespace_id: the namespace.
            check: raises PrefixdbError when the work may not go on: the namespace is banned by now. Called at once,
                with the view counted already, after every change of the namespace, and by the sweep.
            cut: told why, once, on the loop's thread; it has the work end within a second. ``Stream.cut`` of the call
                that does the work, or what sets a flag that a thread looks at.

        Raises:
            PrefixdbError: ``check`` raised it at once.
        """
        held = _Hold(namespace_id, check, cut)
        self._views[namespace_id] += 1
        self._holds.setdefault(namespace_id, set()).add(held)
        try:
            check()
            yield
        finally:
            holds = self._holds[namespace_id]
            holds.discard(held)
            if not holds:
                del self._holds[namespace_id]
            self._view_gone(namespace_id)

    def views(self, namespace_id: int) -> int:
        """Return how many streams, and how much other work, may still hold a cursor over the namespace. Thread-safe."""
        return self._views.get(namespace_id, 0) + self._views_elsewhere(namespace_id)

    def time(self) -> float:
        """Return the loop's time in seconds."""
        return self._loop.time()

    def poke(self, namespace_id: int | None = None) -> None:
        """Check the streams of a namespace, or all, soon. Thread-safe; for the listeners of registry and authority."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._recheck, namespace_id)

    def check_draining(self) -> None:
        """Raise what ``drain`` was called with, once it was."""
        if self._draining is not None:
            raise self._draining

    def drain(self, reason: PrefixdbError, *, idle_only: bool = False) -> None:
        """Open no more streams and cut those that are open; with ``idle_only`` what is under way may finish."""
        self._draining = reason
        for stream in list(self._streams):
            if stream.idle or not idle_only:
                stream.cut(reason)

    def look(self) -> None:
        """Cut the streams whose token has expired or whose client is slow; called by the sweep."""
        self._recheck(None)
        self._cut_slow()

    def view_closed(self, stream: Stream) -> None:
        """Called by the stream."""
        if stream.namespace_id is not None:
            self._view_gone(stream.namespace_id)

    def slot_freed(self, stream: Stream) -> None:
        """Called by the stream."""
        self._streams.discard(stream)
        slots = self._slots[stream.namespace_id]
        slots.discard(stream)
        if not slots:
            del self._slots[stream.namespace_id]

    def _view_gone(self, namespace_id: int) -> None:
        self._views[namespace_id] -= 1
        if self._views[namespace_id] <= 0:  # The counter must not grow with every namespace seen.
            del self._views[namespace_id]

    def _recheck(self, namespace_id: int | None) -> None:
        # Thousands of namespaces may change in one moment, so only their own streams are looked at.
        for stream in list(self._streams if namespace_id is None else self._slots.get(namespace_id, ())):
            stream.recheck()
        groups = list(self._holds.values()) if namespace_id is None else [self._holds.get(namespace_id, set())]
        for holds in groups:
            for held in list(holds):
                held.recheck()

    def _cut_slow(self) -> None:
        now = self._loop.time()
        for stream in list(self._streams):
            if 0 < stream.waiting_until < now:
                stream.cut(error(Reason.DEADLINE, stream.patience))


async def sweep(*looks: Callable[[], None]) -> None:
    """Call ``looks`` again and again, until cancelled."""
    while True:
        await asyncio.sleep(SWEEP_S)
        for look in looks:
            try:
                look()
            except Exception:  # noqa: BLE001 - logged
                # The sweep is the safety net of every call; it must outlive a mistake about one of them.
                _LOG.exception("looking at open calls failed")
