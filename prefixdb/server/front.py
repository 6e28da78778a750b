"""The native front: the public port answered in C++, with this process's Python server behind it.

    clients ──► front (C++, _native/front/) ──── KeyValue over the native store
                   │        ▲ questions: who is this token, what does this failure mean
                   ▼        │
                unix socket, mode 0600 ──► gRPC (Python): everything else, and whatever the front hands over

Python decides, here as everywhere: the front is given finished answers and is told of every change before whoever made
it is answered. This module brings the parts together; what each promises is said in ``_native/module.pyi``,
``service/answers.py``, ``service/peers.py`` and ``store/following.py``.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prefixdb import limits
from prefixdb._native import module
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.rules_twin import check_rules_twin
from prefixdb.catalog.tokens import TokenAuthority
from prefixdb.clock import Clock, HeldTime, SystemClock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.rpcstatus import retry_after_ms
from prefixdb.server.behind import ServerBehind
from prefixdb.server.config import ServerConfig
from prefixdb.server.tls import Certificates
from prefixdb.server.tls_files import TlsFiles
from prefixdb.server.transport import bind_socket, connections_max
from prefixdb.server.unix_socket import PREFIX
from prefixdb.service.answers import AnswerParts, Answers, watch
from prefixdb.service.calls import internal_error
from prefixdb.service.gate import Gate
from prefixdb.service.ports import PeerCheck
from prefixdb.service.sessions import Sessions
from prefixdb.store.native import NativeStore

if TYPE_CHECKING:
    from prefixdb.store.base import Store

_LOG = logging.getLogger("prefixdb.front")

THREADS_MAX = 4
"""Loops of the front. Each keeps a core busy when it can; the store and Python want some, too."""

COUNT_STEP_ROWS = 16_384
"""Rows that a Count walks over before others have their turn: a few milliseconds."""

FAREWELL_S = 0.5
"""How long connections have to take their last answers and go, at the end."""


@dataclass(frozen=True, slots=True)
class FrontParts:
    """Who stands behind the front."""

    store: Store
    registry: Registry
    authority: TokenAuthority
    sessions: Sessions
    gate: Gate
    check_peer: PeerCheck
    clock: Clock
    certificates: Certificates | None


class NativeFront:
    """The public port and the server behind it. Belongs to the event loop's thread, but for ``views``.

    Args:
        config: of the server.
        parts: who stands behind.

    Raises:
        TypeError: the store in use is another one.
    """

    name = "native"

    def __init__(self, config: ServerConfig, parts: FrontParts) -> None:
        if not isinstance(parts.store, NativeStore):
            raise TypeError("the front needs the native store")
        self._config = config
        self._parts = parts
        self._store = parts.store
        self._front: module.Front | None = None
        self._behind = ServerBehind(parts.gate, config.data_dir)
        self._answers: Answers | None = None
        self._sockets: list[Path] = []
        self.address = ""

    async def start(self) -> None:
        """Open the port; from here on calls are answered.

        Raises:
            PrefixdbError: BAD_FIELD, an address cannot be used; INTERNAL, both sides read rules differently. What was
                started is ended by ``stop``.
            RuntimeError: the clock is one that the front cannot follow.
        """
        check_rules_twin(module.rules_permit)
        listening, address = bind_socket(self._config)
        try:
            if address.startswith(PREFIX):
                self._sockets.append(Path(address.removeprefix(PREFIX)))
            upstream = await self._behind.start()
            parts, config = self._parts, self._config
            self._front = module.Front(
                upstream_path=upstream,
                threads=max(1, min(THREADS_MAX, len(os.sched_getaffinity(0)))),
                value_bytes_max=config.store.value_bytes_max,
                tied=config.tls.subject == "token",
                anonymous=config.auth.anonymous != "off",
                connections_max=connections_max(),
                clock_ms=parts.clock.now_ms(),
                bounds=_bounds(),
                listen_fd=listening.detach(),  # The front's from now on, also when it cannot be made; so it is last.
            )
        except BaseException:
            listening.close()
            raise
        self._connect(self._front)
        self._front.start()
        self.address = address

    def _connect(self, front: module.Front) -> None:
        """Tell the front what it has to know, and have it told of what changes."""
        parts = self._parts
        _follow(parts.clock, front)
        self._store.follow(front)
        watch(front, parts.registry, parts.authority)
        if parts.certificates is not None:
            parts.certificates.use_with(lambda files: _use(front, files))
        self._answers = Answers(
            front,
            AnswerParts(
                parts.sessions, parts.registry, parts.gate, self._translate, self._ready, check_peer=parts.check_peer
            ),
        )
        asyncio.get_running_loop().add_reader(front.questions_fd(), self._answers.answer)

    def _translate(self, doing: Literal["read", "write"], failure: Exception) -> PrefixdbError:
        translated = self._store.translated(doing, failure)
        if isinstance(translated, PrefixdbError):
            return translated
        return internal_error(f"front {doing}", translated)

    async def _ready(self, doing: Literal["read", "write"], only_deletes: bool) -> None:
        await asyncio.to_thread(self._store.check_ready, doing, only_deletes=only_deletes)

    # --- what goes on ------------------------------------------------------------------------------------------------

    def views(self, namespace_id: int) -> int:
        """Return how many native calls may hold a cursor over the namespace. Thread-safe."""
        return 0 if self._front is None else self._front.views(namespace_id)

    def facts(self) -> Mapping[str, int]:
        """Return ``connections``, ``sessions``, ``streams``, ``forwarded`` and ``punted``."""
        return {} if self._front is None else self._front.facts()

    def waiting(self) -> Mapping[str, int]:
        """Return what waits for clients: ``for_taking``, ``for_messages``, ``unread_bytes``; see ``module.pyi``."""
        return {} if self._front is None else self._front.waiting()

    def calls(self) -> Mapping[str, Any]:
        """Return the calls that were answered natively; see ``module.pyi``."""
        return {} if self._front is None else self._front.calls()

    @property
    def running(self) -> int:
        """Native calls that are open."""
        return 0 if self._front is None else self._front.running()

    # --- the end -----------------------------------------------------------------------------------------------------

    def halt(self) -> None:
        """Let no row leave any more."""
        if self._front is not None:
            self._front.halt()

    def drain(self, reason: PrefixdbError) -> None:
        """Refuse new calls with ``reason`` and tell connections to go."""
        if self._front is not None:
            self._front.drain(*_fields(reason))

    def cut(self, reason: PrefixdbError) -> None:
        """End what still runs natively."""
        if self._front is not None:
            self._front.cut(*_fields(reason))

    async def stop(self, grace_s: float | None) -> None:
        """Give calls that Python answers ``grace_s``, and close the port; call ``cut`` before. Idempotent."""
        await self._behind.stop(grace_s)
        front, self._front = self._front, None
        if front is not None:
            await _empty(front)
        for path in self._sockets:
            path.unlink(missing_ok=True)  # While the port is open: nobody else can have taken the place.
        if front is not None:
            asyncio.get_running_loop().remove_reader(front.questions_fd())
            if self._answers is not None:
                self._answers.close()
            await asyncio.to_thread(front.stop)
        self._behind.close()


async def _empty(front: module.Front) -> None:
    """Wait, not for long, until every connection has taken what it was sent and is gone."""
    loop = asyncio.get_running_loop()
    end = loop.time() + FAREWELL_S
    while front.facts()["connections"] and loop.time() < end:  # noqa: ASYNC110 - a few times, at the end
        await asyncio.sleep(0.005)


def _bounds() -> dict[str, int]:
    """Return what a client of the front may hold on to: what a client of Python's may."""
    return {
        "arrival_ms": limits.REQUEST_ARRIVAL_MS_MAX,
        "slow_reader_ms": limits.SLOW_READER_MS_MAX,
        "pipeline_idle_ms": limits.PIPELINE_IDLE_MS_MAX,
        "streams_per_namespace": limits.STREAMS_PER_NAMESPACE_MAX,
        "streams": limits.STREAMS_MAX,
        "unread_bytes_per_namespace": limits.UNREAD_BYTES_PER_NAMESPACE_MAX,
        "unread_bytes": limits.UNREAD_BYTES_MAX,
        "count_step_rows": COUNT_STEP_ROWS,
    }


def _follow(clock: Clock, front: module.Front) -> None:
    """Have the front know the time as ``clock`` tells it."""
    if isinstance(clock, HeldTime):
        clock.follow(front.hold_clock)
        return
    if isinstance(clock, SystemClock):
        return  # It is the machine's, too, and was told the floor.
    raise RuntimeError(f"the front cannot follow a {type(clock).__name__}; say --front python")


def _use(front: module.Front, files: TlsFiles) -> None:
    try:
        front.set_tls(files.chain, files.key, files.client_ca)
    except ValueError as failure:
        message = f"tls.cert: OpenSSL does not take it: {failure}."
        raise error(Reason.BAD_FIELD, message, metadata={"field": "tls.cert"}) from failure


def _fields(failure: PrefixdbError) -> tuple[int, int, str, str, int | None]:
    return (
        int(failure.code),
        failure.reason.value.number,
        failure.reason.name,
        failure.message,
        retry_after_ms(failure),
    )


def is_built() -> bool:
    """Return whether the extension that is installed has the front."""
    return hasattr(module, "Front")
