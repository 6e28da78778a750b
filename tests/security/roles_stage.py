"""The world of the table of roles: namespaces with the same rows, a caller of every role, and victims.

Members are created, log in and lose their rights over the wire, as people do it; victims are made in the catalog,
behind the server's back, where only their existence matters.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf import message_factory
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from prefixdb.catalog.entities import GrantEffect, Guardian, NamespaceIssue, NamespaceState, Rule
from prefixdb.catalog.passwords import hash_password
from prefixdb.catalog.tokens import TokenRequest
from prefixdb.errors import Reason
from prefixdb.keycodec import Span, data_key, namespace_of, namespace_span
from prefixdb.limits import NAMESPACE_ID_MAX
from prefixdb.rpcstatus import DETAILS_KEY, from_status
from prefixdb.server.app import SERVICES
from prefixdb.store.base import Commit, Put
from prefixdb.v1 import auth_pb2 as auth
from prefixdb.v1 import members_pb2 as people
from prefixdb.v1 import namespaces_pb2 as spaces
from tests.security.roles import ROLES, ROWS, Role
from tests.support.server import RunningServer, eventually, running

PASSWORD = "the same for everybody here"
OTHER_MEMBER = "ursula-of-umbra"
OTHER_GROUP = "umbrellas"
OTHER_LABEL = "shade"
SECRETS = (b"value of umbra", OTHER_MEMBER.encode(), OTHER_GROUP.encode(), OTHER_LABEL.encode())
"""What only umbra has; who has no business there must never be sent one of these."""

METHODS = {f"{service.name}/{method.name}": method for service in SERVICES for method in service.methods}
HOUR = Duration(seconds=3600)

GROUPS: dict[str, tuple[Rule, ...]] = {
    "droppers": (Rule(None, b"", read=False, write=True),),
    "inner": (Rule(0, b"in/", read=True, write=True),),
    "edges": (Rule(0, b"in0", read=True, write=True),),
    "lobby": (Rule(1, b"in/", read=False, write=True),),
    "doomed": (Rule(None, b"", read=True, write=True),),
}
"""The groups of acme beside the built-in ones."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the messages, or the refusal, bit by bit."""

    reason: Reason | None
    messages: tuple[Any, ...]
    told: tuple[Any, ...]

    @property
    def raw(self) -> bytes:
        """Everything the caller was sent."""
        refusal = b"".join(part if isinstance(part, bytes) else str(part).encode() for part in self.told)
        return refusal + b"".join(message.SerializeToString() for message in self.messages)


async def ask(channel: grpc.aio.Channel, name: str, request: Any, token: str | None) -> Reply:
    """Make one call of "Service/Method" and read what comes back to its end.

    A client that is still writing when its call is refused may not hear why: grpcio then invents an INTERNAL, without
    our details. Such a call is made again; it had been refused, so nothing happens twice.
    """
    while True:
        reply = await _ask_once(channel, name, request, token)
        if reply.told[:1] != ("INTERNAL",) or reply.told[2]:
            return reply


async def _ask_once(channel: grpc.aio.Channel, name: str, request: Any, token: str | None) -> Reply:
    method = METHODS[name]
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    decode = message_factory.GetMessageClass(method.output_type).FromString
    call = getattr(channel, kind)(f"/{method.containing_service.full_name}/{method.name}", response_deserializer=decode)
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    requests = request() if callable(request) else request
    bodies = [each.SerializeToString() for each in (requests if isinstance(requests, list) else [requests])]
    received: list[Any] = []
    try:
        if kind == "unary_unary":
            received.append(await call(bodies[0], metadata=metadata, timeout=20))
        else:
            answered = asyncio.Event()
            sent = _one_by_one(bodies, answered) if method.client_streaming else bodies[0]
            async for message in call(sent, metadata=metadata, timeout=20):
                received.append(message)
                answered.set()
    except grpc.aio.AioRpcError as failure:
        details = dict(failure.trailing_metadata() or ()).get(DETAILS_KEY, b"")
        reason = from_status(failure.code().value[0], failure.details() or "", details or None).reason
        return Reply(reason, tuple(received), (failure.code().name, failure.details(), details))
    return Reply(None, tuple(received), ())


async def _one_by_one(bodies: list[bytes], answered: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield the first message, and the others once there was an answer: a client that is writing when its call is
    refused does not hear why (grpcio invents an INTERNAL)."""
    yield bodies[0]
    for body in bodies[1:]:
        await answered.wait()
        yield body


class Picture:
    """Everything that can be changed: every row of every namespace, system records among them, and the memory's part.

    Two pictures are equal when nothing was committed in between and nobody has to look again.
    """

    def __init__(self, server: RunningServer) -> None:
        cursor = server.app.store.open_cursor(
            Span(namespace_span(0).begin, namespace_span(NAMESPACE_ID_MAX).end), raw=True
        )
        rows = {}
        try:
            while page := cursor.fetch(10_000, 2**30):
                rows.update({row.key: (row.payload, row.version) for row in page})
        finally:
            cursor.close()
        registry, epochs = server.app.registry, server.app.authority.epochs
        records = registry.page(None, 10_000, include_dropped=True)
        self.rows = rows
        self.rest = (records, registry.bans(), [epochs.of(record.id, guest=True) for record in records])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and self.rows == other.rows and self.rest == other.rest

    __hash__ = None  # type: ignore[assignment]

    def changed(self, other: Picture) -> list[bytes]:
        """Return the keys of the rows that differ."""
        keys = self.rows.keys() | other.rows.keys()
        return [key for key in keys if self.rows.get(key) != other.rows.get(key)]


class Stage:
    """Namespaces, callers and victims on one server."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.app = server.app
        self.channel = server.channel
        self.tokens: dict[str, str | None] = {}
        self.spaces: dict[str, tuple[str, int]] = {"zero": ("default", 0), "unknown": ("nobodys", 0x5EC2E7)}
        self.jtis: dict[str, str] = {}
        self._count = 0
        self._identities = server.app.authority.identities
        self._hash = hash_password(PASSWORD)
        self.first_key = server.app.authority.keyring.signing_kid

    # --- building --------------------------------------------------------------------------------------------------

    @staticmethod
    def issuer_files(directory: Path) -> tuple[Path, Ed25519PrivateKey]:
        """Write the file of an issuer that may speak for readers of acme; return it and the issuer's private key."""
        key = Ed25519PrivateKey.generate()
        public = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).decode().rstrip("=")
        jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "corp-1", "alg": "EdDSA", "use": "sig", "x": public}
        (directory / "corp.json").write_text(json.dumps({"keys": [jwk]}))
        path = directory / "issuers.toml"
        path.write_text(
            '[[issuer]]\nname = "corp"\niss = "https://corp.example"\njwks = "corp.json"\n'
            'namespaces = ["acme"]\ngroups = ["readers"]\n'
        )
        return path, key

    async def build(self, issuer_key: Ed25519PrivateKey) -> None:
        """Make everything but the callers."""
        self._issuer_key = issuer_key
        for name in ("acme", "still", "shut", "gone", "again", "last", "dust"):
            self._add_space(name)
        umbra = self.app.registry.create("umbra", labels={"note": OTHER_LABEL})
        self.spaces["umbra"] = ("umbra", umbra.id)
        for name in ("acme", "still", "umbra", "shut", "gone", "zero"):
            self.reset_rows(name)
            self.jtis[name] = self.victim_token(name)[1]
        self.jtis["unknown"] = self.jtis["umbra"]
        groups = self._identities.groups
        for name, rules in GROUPS.items():
            groups.create(self.id_of("acme"), name, rules)
        groups.create(umbra.id, OTHER_GROUP, GROUPS["inner"])
        self._member("umbra", OTHER_MEMBER, "writers")
        for where in ("acme", "zero"):
            self._member(where, "visitor", "readers")
            self._member(where, "reserve", "guardians")  # So that no guardian of the table is the last one.
        await self._reclaim("dust")

    async def enrol_all(self) -> None:
        """Give every role its token, those first whose namespace changes state afterwards."""
        for role in ROLES:
            self.tokens[role.name] = await self.enrol(role)
        registry = self.app.registry
        registry.suspend(self.id_of("still"), NamespaceState.READ_ONLY, "")
        registry.suspend(self.id_of("shut"), NamespaceState.SUSPENDED, "")
        registry.ban(self.id_of("gone"), by="test", grace_ms=3_600_000)
        registry.ban(self.id_of("last"), by="test", grace_ms=0)
        await self._reclaim("again")
        registry.create("again", namespace_id=self.id_of("again"))

    async def enrol(self, role: Role) -> str | None:
        """Return a new token of the role's."""
        from tests.security.roles_callers import CALLERS

        return await CALLERS[role.name](self)

    def _add_space(self, name: str) -> None:
        self.spaces[name] = (name, self.server.create(name).id)

    def _member(self, where: str, name: str, *groups: str) -> None:
        self._identities.members.create(self.id_of(where), name, password_hash=self._hash, groups=groups)

    async def _reclaim(self, name: str) -> None:
        registry, number = self.app.registry, self.id_of(name)
        if registry.get(number).state.is_live:
            registry.ban(number, by="test", grace_ms=0)
        self.app.reclaimer.wake()
        await eventually(lambda: registry.get(number).state is NamespaceState.RECLAIMED, f"{name} is reclaimed")

    # --- what callers are made of ----------------------------------------------------------------------------------

    async def well(self, name: str, request: Any, token: str | None) -> Any:
        """Make a call that has to succeed; return its answer."""
        reply = await ask(self.channel, name, request, token)
        assert reply.reason is None, f"{name} of the stage's own was refused: {reply.told}"
        return reply.messages[0]

    async def login(self, where: str, user: str, *, into: str = "") -> tuple[str, str]:
        """Log in; return access and refresh token."""
        request = auth.LoginRequest(namespace=self.ref(where), user=user, password=PASSWORD)
        if into:
            request.into.CopyFrom(self.ref(into))
        tokens = (await self.well("Auth/Login", request, None)).tokens
        return tokens.access_token, tokens.refresh_token

    async def member(self, where: str, user: str, *groups: str, privileges: tuple[int, ...] = ()) -> None:
        """Have the namespace's guardian make a member of this name, unless it is there."""
        if self._identities.members.get(self.id_of(where), user) is not None:
            return
        guardian = Guardian.CLUSTER if where == "zero" else Guardian.NAMESPACE
        token = self.server.token(self.id_of(where), subject="boss", groups=(), guardian=guardian)
        request = people.CreateMemberRequest(name=user, password=PASSWORD, groups=groups, privileges=privileges)
        await self.well("Members/CreateMember", request, token)

    async def change(self, method: str, request: Any, where: str = "zero") -> None:
        """Have the namespace's guardian make a call of Members."""
        guardian = Guardian.CLUSTER if where == "zero" else Guardian.NAMESPACE
        token = self.server.token(self.id_of(where), subject="boss", groups=(), guardian=guardian)
        await self.well(f"Members/{method}", request, token)

    async def disable(self, where: str, user: str) -> None:
        """Disable a member."""
        mask = FieldMask(paths=["disabled"])
        await self.change("UpdateMember", people.UpdateMemberRequest(name=user, disabled=True, update_mask=mask), where)

    def grant(self, member: str, target: str, *groups: str) -> None:
        """Grant a member of namespace 0 something; target "all" for every namespace."""
        record = None if target == "all" else self.app.registry.get(self.id_of(target))
        self._identities.grants.set(member, record, GrantEffect.ALLOW, groups or ("readers",))

    async def mint(self, by: str | None, where: str, guardian: int, *groups: str) -> str:
        """Have a cluster guardian make a token for a namespace."""
        request = auth.IssueTokenRequest(subject="helper", groups=groups, guardian=guardian, namespace=self.ref(where))
        root = self.server.token(0, subject="root", guardian=Guardian.CLUSTER)
        token: str = (await self.well("Auth/IssueToken", request, by or root)).token
        return token

    def foreign(self, *groups: str) -> str:
        """Return a token that the other issuer signed."""
        now_s = self.app.clock.now_ms() // 1000
        record = self.app.registry.get(self.id_of("acme"))
        claims = {
            "iss": "https://corp.example", "aud": "prefixdb", "sub": "fiona", "jti": "f1", "typ": "access",
            "iat": now_s, "exp": now_s + 3600, "ns": str(record.id), "inc": str(record.incarnation),
            "groups": list(groups),
        }  # fmt: skip
        parts = [json.dumps(part).encode() for part in ({"alg": "EdDSA", "kid": "corp-1"}, claims)]
        head = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
        signature = base64.urlsafe_b64encode(self._issuer_key.sign(head)).rstrip(b"=")
        return (head + b"." + signature).decode()

    # --- names and victims -----------------------------------------------------------------------------------------

    def id_of(self, name: str) -> int:
        """Return the number of a namespace of the stage."""
        return self.spaces[name][1]

    def ref(self, name: str) -> spaces.NamespaceRef:
        """Return a reference to a namespace of the stage."""
        return spaces.NamespaceRef(id=self.id_of(name))

    def fresh(self, word: str) -> str:
        """Return a name nobody has had."""
        self._count += 1
        return f"{word}-{self._count}"

    def victim_namespace(self, state: str) -> tuple[str, int]:
        """Return name and number of a namespace that may be lost; those that are reclaimed are all the same one."""
        if state == "reclaimed":
            return self.spaces["dust"]
        name = self.fresh("victim")
        record = self.server.create(name)
        if state == "suspended":
            self.app.registry.suspend(record.id, NamespaceState.SUSPENDED, "")
        elif state == "banned":
            self.app.registry.ban(record.id, by="test", grace_ms=3_600_000)
        return name, record.id

    def victim_member(self, where: str) -> str:
        """Return the name of a member that may be lost."""
        name = self.fresh("victim")
        self._identities.members.create(self.id_of(where), name)
        return name

    def victim_group(self, where: str) -> str:
        """Return the name of a group that may be lost."""
        name = self.fresh("victims")
        self._identities.groups.create(self.id_of(where), name, GROUPS["inner"])
        return name

    def victim_token(self, where: str) -> tuple[str, str]:
        """Return subject and jti of a service token that may be lost."""
        subject = self.fresh("victim")
        request = TokenRequest(self.id_of(where), subject, ("readers",), Guardian.NONE, 3600)
        return subject, self.app.authority.issue_locally(request)[1].jti

    def victim_key(self) -> str:
        """Return a signing key that has signed nothing and no longer signs."""
        kid = self.app.authority.keyring.rotate()
        self.app.authority.keyring.rotate()
        return kid

    def victim_refresh_token(self) -> str:
        """Return the refresh token of a login that may be lost."""
        home = self.app.registry.get(self.id_of("acme"))
        visitor = self._identities.members.get(home.id, "visitor")
        login = self._identities.logins.begin(home.id, visitor, NamespaceIssue(home.id, home.incarnation))
        return self.app.authority.refresh_token(login, home).token

    def tidy(self, where: str) -> None:
        """Remove what a call made in a tenant's namespace under names that only umbra is to have."""
        members, groups = self._identities.members, self._identities.groups
        if members.get(self.id_of(where), OTHER_MEMBER) is not None:
            members.delete(self.id_of(where), OTHER_MEMBER)
        if groups.get(self.id_of(where), OTHER_GROUP) is not None:
            groups.delete(self.id_of(where), OTHER_GROUP)

    def member_of(self, role: Role, home: str = "") -> str:
        """Return the name under which the role is a member; somebody's where it is none, or not of ``home``."""
        name = role.name.replace(" ", "-")
        return name if self._identities.members.get(self.id_of(home or role.where), name) is not None else "visitor"

    # --- rows ------------------------------------------------------------------------------------------------------

    @staticmethod
    def value(where: str, database: int, key: bytes) -> bytes:
        """Return the value of a row."""
        return f"value of {where} {database} ".encode() + key

    def reset_rows(self, where: str) -> None:
        """Give a namespace the rows it has to have."""
        number = self.id_of(where)
        put = [
            Put(data_key(number, database, key), self.value(where, database, key))
            for database, keys in ROWS.items()
            for key in keys
        ]
        assert self.app.store.commit(Commit(tuple(put))).applied


@contextlib.asynccontextmanager
async def on_stage(directory: Path, anonymous: str = "off") -> AsyncIterator[Stage]:
    """Start a server, build the world on it and give every role its token."""
    issuers, key = Stage.issuer_files(directory)
    settings = {"auth.issuers": str(issuers), "auth.anonymous": anonymous, "store.durability": "os"}
    async with running(directory / "data", settings=settings) as server:
        stage = Stage(server)
        await stage.build(key)
        await stage.enrol_all()
        yield stage


def owner_of(row_key: bytes) -> int:
    """Return the namespace a row is in."""
    return namespace_of(row_key)
