"""The server, wired together. Which part does what is said where the part is; here stands only who is given to whom.

order of start: directory and lock → store → catalog → audit → begun bans published → services → front → HTTP port
order of end:   no new calls → running calls end or are cut → ports → committer → reclaimer → audit → store
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack

from prefixdb.backup.spool_room import SpoolRoom
from prefixdb.catalog.issuers import Issuers
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.recovery import ensure_first_guardian
from prefixdb.catalog.tokens import Keyring, TokenAuthority
from prefixdb.clock import Clock, SystemClock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.reclaim import Reclaimer
from prefixdb.server import alarms
from prefixdb.server.alarms import Alarms, keep_looking
from prefixdb.server.audit import AUDIT_FILE, AuditFile
from prefixdb.server.config import ServerConfig
from prefixdb.server.exposure import notices
from prefixdb.server.fronts import Front, PythonFront, choose_front
from prefixdb.server.http import HttpServer, Page
from prefixdb.server.metrics import CONTENT_TYPE, Facts, Metrics
from prefixdb.server.standard import Health, reflection_handlers
from prefixdb.server.tls import Certificates
from prefixdb.server.tls_subject import check_certificate
from prefixdb.server.transport import check_exposure, is_local, join_address, split_address
from prefixdb.service.administration import Administration
from prefixdb.service.arrivals import Arrivals, Replies
from prefixdb.service.auth import Auth
from prefixdb.service.backups import Backups
from prefixdb.service.exports import Exports
from prefixdb.service.gate import Gate
from prefixdb.service.hashing import Hashing
from prefixdb.service.import_jobs import FOLDER as IMPORTS_FOLDER
from prefixdb.service.import_jobs import ImportJobs
from prefixdb.service.imports import Imports
from prefixdb.service.key_value import KeyValue
from prefixdb.service.login import Credentials, Door
from prefixdb.service.maintenance import Maintenance, ServerFacts
from prefixdb.service.members import MembersService
from prefixdb.service.methods import Method, methods_of
from prefixdb.service.mutations import WritePlanner
from prefixdb.service.namespaces import Namespaces
from prefixdb.service.peers import DirectPeers, ForwardedPeers
from prefixdb.service.ports import PeerCheck, any_peer
from prefixdb.service.public import GateParts
from prefixdb.service.sessions import Sessions
from prefixdb.service.staging import Staging
from prefixdb.service.streams import OpenStreams
from prefixdb.service.streams import sweep as sweep_calls
from prefixdb.service.throttle import Throttle
from prefixdb.service.transfer import Transfer
from prefixdb.service.workers import (
    ADMINISTRATION_SHARE,
    IMPORT_SHARE,
    READING_SHARE,
    TRANSFER_SHARE,
    WAITING_MAX,
    Workers,
)
from prefixdb.service.writer import Writer
from prefixdb.store import open_store
from prefixdb.store.base import Store
from prefixdb.v1 import auth_pb2, key_value_pb2, maintenance_pb2, members_pb2, namespaces_pb2, transfer_pb2

_LOG = logging.getLogger("prefixdb.server")

CUT_BEFORE_END_S = 1.0
"""Streams that still run are cut so long before the drain is over, so that their clients hear why."""

LAME_DUCK_S = 0.1
"""How long a draining server at least answers DRAINING before it closes the port, so that busy clients hear of it."""

SERVICES = (
    key_value_pb2.DESCRIPTOR.services_by_name["KeyValue"],
    namespaces_pb2.DESCRIPTOR.services_by_name["Namespaces"],
    auth_pb2.DESCRIPTOR.services_by_name["Auth"],
    members_pb2.DESCRIPTOR.services_by_name["Members"],
    maintenance_pb2.DESCRIPTOR.services_by_name["Maintenance"],
    transfer_pb2.DESCRIPTOR.services_by_name["Transfer"],
)
"""The services this server answers, as compiled descriptors."""

_SERVICE_NAMES = tuple(service.full_name for service in SERVICES)


class App:
    """A running server. Make one with ``start``; everything belongs to the running event loop."""

    def __init__(self, config: ServerConfig, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.metrics = Metrics()
        self.health = Health(_SERVICE_NAMES)
        self.certificates = Certificates(config.tls, clock) if config.tls.cert else None
        self.issuers: Issuers | None = None
        self.notices = notices(config)
        self.alarms = Alarms(
            {
                "tls": lambda: self.certificates.problems if self.certificates else (),
                "issuers": lambda: self.issuers.problems if self.issuers else (),
                "exposure": lambda: (notice.text for notice in self.notices),
            }
        )
        self.front: Front | None = None
        self.address = ""
        self.http_address = ""
        self._parts = AsyncExitStack()
        self._stopping: asyncio.Task[None] | None = None
        self._hurried = False

    @classmethod
    async def start(cls, config: ServerConfig, clock: Clock | None = None) -> App:
        """Open the data directory, start everything and listen.

        Raises:
            PrefixdbError: what is wrong with the configuration, the directory or the port, and what to do about it.
                Whatever had been started is stopped again.
        """
        check_exposure(config)
        app = cls(config, clock if clock is not None else SystemClock())
        async with app._parts:
            await app._open_data()
            app._build_services()
            await app._listen()
            for notice in app.notices:
                _LOG.log(logging.ERROR if notice.grave else logging.WARNING, "%s", notice.text)
            app._parts = app._parts.pop_all()
        return app

    @property
    def serving(self) -> bool:
        """True while calls are answered."""
        return self._stopping is None and bool(self.address) and not self.gate.halted

    @property
    def made_of(self) -> str:
        """The parts that were chosen, for the line that says the server is ready."""
        return f"store: {self.store.status().name}, front: {self.front_name}"

    async def stop(self, drain_s: float | None = None) -> None:
        """End within ``drain_s`` (from the configuration when None) and a moment. A second call waits for the first."""
        if self._stopping is None:
            wait_s = self.config.server.drain_ms / 1000 if drain_s is None else drain_s
            self._stopping = asyncio.create_task(self._stop(wait_s))
        await asyncio.shield(self._stopping)

    async def hurry(self) -> None:
        """Cut whatever still runs; for the operator who asked twice."""
        self._hurried = True
        self._cut(error(Reason.DRAINING))
        if self.front is not None:
            await self.front.stop(None)

    async def _open_data(self) -> None:
        """Directory, lock, store, catalog, audit."""
        config, data_dir = self.config, self.config.data_dir
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as failure:
            message = f"server.data_dir: {data_dir} cannot be made: {failure.strerror}."
            raise error(Reason.BAD_FIELD, message, metadata={"field": "server.data_dir"}) from failure
        self.store: Store = await asyncio.to_thread(
            open_store,
            "native" if config.server.front == "native" else config.store.kind,  # Who says one means the other, too.
            data_dir,
            clock=self.clock,
            durability=config.store.durability,
            cache_bytes=config.store.cache_bytes,
            write_buffer_bytes=config.store.write_buffer_bytes,
            compaction_bytes_per_second=config.store.compaction_bytes_per_second,
        )
        self._parts.push_async_callback(asyncio.to_thread, self.store.close)
        self.front_name = choose_front(config, self.store.status().name)
        self.registry = await asyncio.to_thread(Registry, self.store, self.clock)
        keyring = await asyncio.to_thread(Keyring, self.store, self.clock, data_dir)
        self.issuers = await asyncio.to_thread(Issuers, config.issuers_file) if config.issuers_file else None
        self.authority = await asyncio.to_thread(
            TokenAuthority, self.store, self.clock, self.registry, keyring, self.issuers
        )
        self.audit = await asyncio.to_thread(AuditFile, data_dir / AUDIT_FILE, self.clock)
        self._parts.push_async_callback(self.audit.close)
        made = await asyncio.to_thread(ensure_first_guardian, self.authority, self.store, self.clock, data_dir)
        if made is not None:
            _LOG.warning(
                "the first guardian's password is in %s and a token of the same name in %s; keep both safe",
                made.password,
                made.token,
            )

    def _build_services(self) -> None:
        """Sessions, streams, the services behind the gate, and the reclaimer."""
        store, clock, registry = self.store, self.clock, self.registry
        self.sessions = Sessions(self.authority, registry, clock, self.config.auth.anonymous)
        self.streams = OpenStreams(asyncio.get_running_loop())
        self.streams.count_with(self._front_views, lambda: self.front_facts().get("streams", 0))
        self.metrics.count_with(lambda: {} if self.front is None else self.front.calls())
        self.arrivals = Arrivals(asyncio.get_running_loop())
        self.replies = Replies()
        registry.add_listener(self.streams.poke)
        self.authority.add_listener(self.streams.poke)
        self.reclaimer = Reclaimer(store, registry, clock, self.streams.views)
        self.committer = store.new_committer()
        self.administration = Administration(self.audit, clock)
        self.hashing = Hashing()
        self.workers = Workers(ADMINISTRATION_SHARE, "administration", WAITING_MAX)
        self.readers = Workers(READING_SHARE, "reading")
        self.transfers = Workers(TRANSFER_SHARE, "transfer")
        self.importers = Workers(IMPORT_SHARE, "import")
        self.spool_room = SpoolRoom(self.config.data_dir)
        self.imports = ImportJobs(
            store,
            registry,
            clock,
            folder=self.config.data_dir / IMPORTS_FOLDER,
            room=self.spool_room,
            streams=self.streams,
            workers=self.importers,
        )
        self.throttle = Throttle()
        self.gate = Gate(
            GateParts(
                self.sessions,
                self.streams,
                self.arrivals,
                self.replies,
                self.administration,
                self.metrics,
                peers=DirectPeers() if self.front_name == "python" else ForwardedPeers(),
                check_peer=self._check_peer,
            ),
            self._methods(),
            self.health.handlers() | (reflection_handlers(_SERVICE_NAMES) if self._offers_reflection() else {}),
            on_halt=self._halted,
        )
        self._background: set[asyncio.Task[None]] = set()
        self.reclaimer.start()
        self._parts.push_async_callback(asyncio.to_thread, self.reclaimer.stop)
        self._parts.push_async_callback(self.committer.close)
        self._parts.callback(self.hashing.close)
        self._parts.callback(self.workers.close)
        self._parts.callback(self.readers.close)
        self._parts.callback(self.transfers.close)
        self._parts.callback(self.importers.close)
        self._parts.push_async_callback(self.imports.close)
        self._parts.push_async_callback(self.administration.drain)
        sweep = self._spawn(sweep_calls(self.streams.look, self.arrivals.look, self.imports.look))
        self._parts.callback(sweep.cancel)
        if self.certificates is not None:
            looking = keep_looking(self.certificates.look, alarms.CERTIFICATES_LOOK_S)
            self._parts.callback(self._spawn(looking).cancel)
        if self.issuers is not None:
            looking = keep_looking(self.issuers.reload, alarms.ISSUERS_LOOK_S)
            self._parts.callback(self._spawn(looking).cancel)

    @property
    def _check_peer(self) -> PeerCheck:
        """What ties a call's client certificate to its token."""
        return check_certificate if self.config.tls.subject == "token" else any_peer

    def _methods(self) -> list[Method]:
        """Return every method with its implementation; raises RuntimeError when one has no row or no code."""
        store, clock, registry = self.store, self.clock, self.registry
        authority, administration = self.authority, self.administration
        door = Door(self.throttle, self.hashing, self._check_peer, self.workers)
        planner = WritePlanner(clock, self.config.store.value_bytes_max)
        writer = Writer(self.committer, registry)
        facts = ServerFacts(
            str(self.config.data_dir),
            clock.now_ms(),
            lambda: len(self.streams),
            self._sessions_cached,
            self.audit,
            self.alarms.texts,
            lambda: self.front_name,
        )
        credentials = Credentials(registry, authority, administration, door)
        implementations = {
            "KeyValue": KeyValue(store, writer, planner, self.streams, clock, workers=self.readers),
            "Namespaces": Namespaces(
                registry,
                authority,
                store,
                self.reclaimer,
                administration,
                hashing=self.hashing,
                clock=clock,
                workers=self.workers,
            ),
            "Auth": Auth(registry, authority, administration, credentials, self.workers),
            "Members": MembersService(
                registry, authority.identities, self.hashing, administration, workers=self.workers
            ),
            "Maintenance": Maintenance(store, registry, clock, facts, administration),
            "Transfer": self._transfer(),
        }
        return [method for service in SERVICES for method in methods_of(service, implementations[service.name])]

    def _transfer(self) -> Transfer:
        """Return the service that moves data in bulk."""
        store, clock, registry = self.store, self.clock, self.registry
        exports = Exports(
            store,
            registry,
            clock,
            administration=self.administration,
            streams=self.streams,
            workers=self.transfers,
        )
        backups = Backups(store, registry, clock, administration=self.administration, data_dir=self.config.data_dir)
        self._parts.push_async_callback(backups.drain)
        staging = Staging(
            store,
            registry,
            clock,
            grants=self.authority.identities.grants,
            administration=self.administration,
            streams=self.streams,
            data_dir=self.config.data_dir,
            room=self.spool_room,
        )
        self._parts.callback(staging.close)
        imports = Imports(
            store,
            clock,
            jobs=self.imports,
            workers=self.transfers,
            value_bytes_max=self.config.store.value_bytes_max,
        )
        return Transfer(backups, exports, imports, staging)

    async def _listen(self) -> None:
        """Open the ports; from here on calls are answered."""
        front = self.front = self._make_front()
        self._parts.push_async_callback(front.stop, None)
        self.health.set_serving(True)
        await front.start()
        self.address = front.address
        self.metrics.observe(
            Facts(
                store=self.store.status,
                namespaces=lambda: {state.name: count for state, count in self.registry.counts().items()},
                streams_open=lambda: len(self.streams),
                sessions_cached=self._sessions_cached,
                audit_available=lambda: self.audit.available,
                serving=lambda: self.serving,
                alarms=self.alarms.counts,
                front=self.front_facts,
            )
        )
        if self.config.server.http:
            await self._listen_http()

    def _make_front(self) -> Front:
        if self.front_name == "python":
            return PythonFront(self.config, self.gate, self.certificates)
        from prefixdb.server.front import FrontParts, NativeFront

        parts = FrontParts(
            self.store,
            self.registry,
            self.authority,
            self.sessions,
            self.gate,
            self._check_peer,
            self.clock,
            self.certificates,
        )
        return NativeFront(self.config, parts)

    def _front_views(self, namespace_id: int) -> int:
        return 0 if self.front is None else self.front.views(namespace_id)

    def front_facts(self) -> Mapping[str, int]:
        """Return the numbers of the native front; none without it."""
        return {} if self.front is None else self.front.facts()

    def _sessions_cached(self) -> int:
        return len(self.sessions) + self.front_facts().get("sessions", 0)

    def _halted(self) -> None:
        self.health.set_serving(False)
        if self.front is not None:
            self.front.halt()

    def _cut(self, reason: PrefixdbError) -> None:
        """End every stream, and whatever else is not Python's."""
        self.streams.drain(reason)
        if self.front is not None:
            self.front.cut(reason)

    async def _listen_http(self) -> None:
        host, port = split_address(self.config.server.http, "server.http")
        alive = Page(200, b"ok\n")
        http = HttpServer({"/metrics": self._metrics_page, "/livez": lambda: alive, "/readyz": self._ready})
        try:
            self.http_address = join_address(host, await http.start(host, port))
        except OSError as failure:
            why = os.strerror(failure.errno) if failure.errno else str(failure)
            message = (
                f"server.http: {self.config.server.http} cannot be bound: {why}. Choose another port with --http, "
            )
            message += "port 0 for any, or '' for none."
            raise error(Reason.BAD_FIELD, message, metadata={"field": "server.http"}) from failure
        self._parts.push_async_callback(http.stop)

    async def _stop(self, drain_s: float) -> None:
        reason = error(Reason.DRAINING)
        self.gate.close(reason)
        if self.front is not None:
            self.front.drain(reason)
        await self.health.leave()
        self.streams.drain(reason, idle_only=True)
        await self._settle(drain_s)
        self._cut(reason)
        if self.front is not None:
            await self.front.stop(min(drain_s, CUT_BEFORE_END_S))
        await self._parts.aclose()

    async def _settle(self, drain_s: float) -> None:
        """Wait for the calls that run, but not for the last moment of the drain.

        The port stays open meanwhile: once gRPC has been told to stop, a call that is on its way is reset with
        CANCELLED, which tells a writer nothing; the gate answers it DRAINING, which says that nothing was done.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time()
        while not self._hurried and loop.time() < begin + drain_s - CUT_BEFORE_END_S:
            if loop.time() >= begin + LAME_DUCK_S and not self._busy:
                return
            await asyncio.sleep(0.01)

    @property
    def _busy(self) -> bool:
        """Whether calls run."""
        return bool(self.gate.running or len(self.streams) or (self.front is not None and self.front.running))

    def _metrics_page(self) -> Page:
        return Page(200, self.metrics.render(), CONTENT_TYPE)

    def _ready(self) -> Page:
        if not self.serving:
            return Page(503, b"not serving\n")
        return Page(200, b"ok\n") if self.store.status().writable else Page(503, b"the store accepts no writes\n")

    def _offers_reflection(self) -> bool:
        wanted = self.config.server.reflection
        return wanted == "on" or (wanted == "auto" and is_local(self.config))

    def _spawn(self, work: object) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
