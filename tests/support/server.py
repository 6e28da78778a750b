"""A real server for tests: real socket, real store in a temporary directory, and callers of every kind.

``running`` starts it in the test's own event loop, where the test can look inside and hold the clock;
``subprocess_server`` starts ``python -m prefixdb serve`` for what only a process can show (signals, exit status, kill).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from prefixdb import limits
from prefixdb.catalog import schema
from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    Group,
    Guardian,
    MemberRecord,
    NamespaceRecord,
    Rule,
    ServiceTokenRecord,
)
from prefixdb.catalog.passwords import hash_password
from prefixdb.catalog.tokens import TokenRequest
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError
from prefixdb.rpcstatus import DETAILS_KEY, from_status
from prefixdb.server.app import App
from prefixdb.server.config import load_config
from prefixdb.store.base import Commit, Put
from prefixdb.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    key_value_pb2_grpc,
    maintenance_pb2_grpc,
    members_pb2_grpc,
    namespaces_pb2,
    namespaces_pb2_grpc,
)

store_kind = "auto"
"""The store of servers started here; ``tests.support.server_stores`` says which."""

front_kind = "auto"
"""What answers their port; as above."""

PASSWORD = "correct horse battery staple"
"""The password of members whose test does not care."""

WAIT_S = 10.0
"""Longest wait for a condition that has to come true."""


class Caller:
    """The services as one token's holder sees them; failures are raised as the errors they stand for.

    tokens: what the login gave, for somebody who logged in.
    """

    def __init__(self, channel: grpc.aio.Channel, token: str | None, tokens: auth_pb2.Tokens | None = None) -> None:
        self.channel = channel
        self.token = token
        self.tokens = tokens if tokens is not None else auth_pb2.Tokens()
        self.metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self.key_value: Any = key_value_pb2_grpc.KeyValueStub(channel)
        self.namespaces: Any = namespaces_pb2_grpc.NamespacesStub(channel)
        self.auth: Any = auth_pb2_grpc.AuthStub(channel)
        self.members: Any = members_pb2_grpc.MembersStub(channel)
        self.maintenance: Any = maintenance_pb2_grpc.MaintenanceStub(channel)

    async def call(self, method: Any, request: Any, **options: Any) -> Any:
        """Make a unary call and return its answer.

        Raises:
            PrefixdbError: what the status stands for.
        """
        with translated():
            return await method(request, metadata=self.metadata, timeout=options.pop("timeout", WAIT_S), **options)

    async def exchanged(self, namespace: NamespaceRecord | int | str) -> Caller:
        """Return the same member in another namespace."""
        answer = await self.call(self.auth.Exchange, auth_pb2.ExchangeRequest(namespace=reference(namespace)))
        return Caller(self.channel, answer.tokens.access_token, answer.tokens)

    async def refreshed(self) -> Caller:
        """Return the same member with the next pair of tokens."""
        answer = await self.call(self.auth.Refresh, auth_pb2.RefreshRequest(refresh_token=self.tokens.refresh_token))
        return Caller(self.channel, answer.tokens.access_token, answer.tokens)

    def get(self, request: Any) -> Any:
        """Start a Get."""
        return self.call(self.key_value.Get, request)

    async def pages(self, method: Any, request: Any) -> list[Any]:
        """Read a server stream to its end."""
        with translated():
            return [page async for page in method(request, metadata=self.metadata, timeout=WAIT_S)]


def reference(namespace: NamespaceRecord | int | str) -> namespaces_pb2.NamespaceRef:
    """Return what names a namespace in a request."""
    if isinstance(namespace, str):
        return namespaces_pb2.NamespaceRef(name=namespace)
    return namespaces_pb2.NamespaceRef(id=namespace if isinstance(namespace, int) else namespace.id)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise gRPC errors as the errors they stand for."""
    try:
        yield
    except grpc.aio.AioRpcError as failure:
        raise error_of(failure) from failure


def error_of(failure: grpc.aio.AioRpcError) -> PrefixdbError:
    """Return the error a failed call stands for."""
    details = dict(failure.trailing_metadata() or ()).get(DETAILS_KEY)
    return from_status(failure.code().value[0], failure.details() or "", details)


class RunningServer:
    """A server under test and those who call it."""

    def __init__(self, app: App, channel: grpc.aio.Channel) -> None:
        self.app = app
        self.channel = channel
        self.guardian = Caller(channel, self.token(DEFAULT_NAMESPACE_ID, guardian=Guardian.CLUSTER))

    # --- what the server waits for, whoever answers its port -------------------------------------------------------

    @property
    def has_native_front(self) -> bool:
        """True when the port is answered by the native front."""
        return self.app.front_name == "native"

    def waiting_for_clients(self) -> int:
        """Streams whose client has not taken what it was sent."""
        ours = sum(1 for each in self.app.streams._streams if each.waiting_until and not each.idle)
        return ours + self._front_waits("for_taking")

    def waiting_for_messages(self) -> int:
        """Calls with one message whose message has not come."""
        return len(self.app.arrivals) + self._front_waits("for_messages")

    def unread_bytes(self) -> int:
        """Bytes of large answers that clients have not taken."""
        return self.app.replies.unread_bytes + self._front_waits("unread_bytes")

    def _front_waits(self, what: str) -> int:
        return 0 if self.app.front is None else self.app.front.waiting().get(what, 0)

    @contextlib.contextmanager
    def handing_over(self) -> Iterator[None]:
        """Let Python answer all unary calls meanwhile: the native front finds no store, and hands them over."""
        if not self.has_native_front:
            yield
            return
        front: Any = self.app.front
        store: Any = self.app.store
        front._front.set_store(None)
        try:
            yield
        finally:
            with store._slot.use() as engine:
                front._front.set_store(engine.handle)

    # --- who calls ---------------------------------------------------------------------------------------------------

    def create(self, name: str, namespace_id: int | None = None) -> NamespaceRecord:
        """Create a namespace, behind the server's back but for its registry."""
        return self.app.registry.create(name, namespace_id=namespace_id)

    def token(
        self,
        namespace_id: int,
        *,
        subject: str = "somebody",
        groups: tuple[str, ...] = ("guardians",),
        guardian: Guardian = Guardian.NONE,
        ttl_s: int = 3600,
    ) -> str:
        """Issue a token."""
        request = TokenRequest(namespace_id, subject, groups, guardian, ttl_s)
        return self.app.authority.issue_locally(request)[0]

    def caller(self, namespace: NamespaceRecord | int, **wishes: Any) -> Caller:
        """Return somebody with a new token for a namespace."""
        namespace_id = namespace if isinstance(namespace, int) else namespace.id
        return Caller(self.channel, self.token(namespace_id, **wishes))

    def member(
        self,
        namespace: NamespaceRecord | int,
        name: str,
        password: str = PASSWORD,
        groups: tuple[str, ...] = ("writers",),
        **more: Any,
    ) -> MemberRecord:
        """Add a member, behind the server's back but for its catalog; an empty password for none."""
        namespace_id = namespace if isinstance(namespace, int) else namespace.id
        hashed = hash_password(password) if password else ""
        return self.app.authority.identities.members.create(
            namespace_id, name, password_hash=hashed, groups=groups, **more
        )

    async def login(
        self,
        user: str,
        password: str = PASSWORD,
        *,
        home: NamespaceRecord | int | str | None = None,
        into: NamespaceRecord | int | str | None = None,
        channel: grpc.aio.Channel | None = None,
    ) -> Caller:
        """Log a member in over the wire and return it as a caller.

        Raises:
            PrefixdbError: why not.
        """
        caller = Caller(channel or self.channel, None)
        request = auth_pb2.LoginRequest(user=user, password=password)
        if home is not None:
            request.namespace.CopyFrom(reference(home))
        if into is not None:
            request.into.CopyFrom(reference(into))
        tokens = (await caller.call(caller.auth.Login, request)).tokens
        return Caller(caller.channel, tokens.access_token, tokens)

    def forgive(self) -> None:
        """Forget every failed login, for a test that needs more of them than a person would make."""
        for table in (self.app.throttle._members, self.app.throttle._addresses):
            table._entries.clear()

    def nobody(self, token: str | None = None) -> Caller:
        """Return somebody without a token, or with this one."""
        return Caller(self.channel, token)

    def add_group(self, namespace_id: int, name: str, *rules: Rule) -> None:
        """Write a group into a namespace."""
        put = Put(schema.group_key(namespace_id, name), schema.encode_group(Group(name, rules)))
        assert self.app.store.commit(Commit((put,))).applied

    def expired_token(self, namespace: NamespaceRecord) -> str:
        """Return a token that was good until a day ago."""
        day_s = 24 * 3600
        now_s = self.app.clock.now_ms() // 1000
        return self.app.authority.sign(_record(issued_at_s=now_s - 2 * day_s, expires_at_s=now_s - day_s), namespace)

    def forged_token(self, namespace: NamespaceRecord, guardian: Guardian = Guardian.NONE) -> str:
        """Return a perfect token but for the signature, which another key made."""
        now_s = self.app.clock.now_ms() // 1000
        record = _record(issued_at_s=now_s, expires_at_s=now_s + 3600)
        keyring = self.app.authority._keyring
        kid, private = keyring._signer()
        try:
            keyring._signing = (kid, Ed25519PrivateKey.generate())
            return self.app.authority.sign(dataclasses.replace(record, guardian=guardian), namespace)
        finally:
            keyring._signing = (kid, private)


def _record(issued_at_s: int, expires_at_s: int) -> ServiceTokenRecord:
    return ServiceTokenRecord(
        jti="0123456789abcdef0123456789abcdef",
        subject="somebody",
        groups=("guardians",),
        guardian=Guardian.NONE,
        issued_at_s=issued_at_s,
        expires_at_s=expires_at_s,
        issued_by="test",
    )


@contextlib.asynccontextmanager
async def running(
    data_dir: Path, *, clock: Clock | None = None, settings: Mapping[str, object] | None = None
) -> AsyncIterator[RunningServer]:
    """Start a server in the running event loop and stop it at the end.

    Args:
        data_dir: the data directory; kept, so that a test may start again on it.
        clock: the server's time, the machine's when None.
        settings: by path, over what suits a test: free ports on loopback, small buffers, short drain.
    """
    overrides: dict[str, object] = {
        "server.data_dir": str(data_dir),
        "server.listen": "127.0.0.1:0",
        "server.http": "127.0.0.1:0",
        "server.drain": "2s",
        "store.kind": store_kind,
        "server.front": front_kind,
        "store.cache": "8MiB",
        "store.write_buffer": "8MiB",
    }
    app = await App.start(load_config(None, {}, overrides | dict(settings or {})), clock)
    try:
        async with grpc.aio.insecure_channel(
            app.address, options=(("grpc.max_receive_message_length", -1),)
        ) as channel:
            yield RunningServer(app, channel)
    finally:
        await app.stop(0.0)


def change(monkeypatch: pytest.MonkeyPatch, where: object, limit: str, value: int) -> None:
    """Change a limit for servers that are started later: where Python has it, and what the native front is told."""
    monkeypatch.setattr(where, limit, value)
    monkeypatch.setattr(limits, limit, value)


async def eventually(condition: Any, what: str, timeout_s: float = WAIT_S) -> None:
    """Return when ``condition()`` is true; fail when that takes longer than ``timeout_s``."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        assert loop.time() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.005)


class ServerProcess:
    """``python -m prefixdb serve`` as a child; ``address`` is where it listens."""

    def __init__(self, process: subprocess.Popen[str], address: str, data_dir: Path) -> None:
        self.process = process
        self.address = address
        self.data_dir = data_dir

    @property
    def guardian_token(self) -> str:
        """The first guardian's token."""
        return (self.data_dir / "guardian.token").read_text(encoding="ascii").strip()


@contextlib.contextmanager
def subprocess_server(data_dir: Path, *flags: str) -> Iterator[ServerProcess]:
    """Start a server process on a free port and wait for its ready line; kill it at the end if it still runs."""
    command = [sys.executable, "-m", "prefixdb", "serve", "--data-dir", str(data_dir), "--listen", "127.0.0.1:0"]
    command += ["--store", store_kind, "--front", front_kind]
    log = data_dir.parent / f"{data_dir.name}.log"
    with log.open("a") as errors:
        process = subprocess.Popen(
            [*command, "--http", "", *flags], stdout=subprocess.PIPE, stderr=errors, text=True, stdin=subprocess.DEVNULL
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("prefixdb ") and " listening on " in line, f"{line!r}\n{log.read_text()}"
        yield ServerProcess(process, line.split(" listening on ")[1].split(" ")[0], data_dir)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
