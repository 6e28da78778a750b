"""Goal: nothing a tenant can say reaches another tenant: no row, name, count, cursor, token or error of it.

Method: requests are generated from the compiled descriptors. Every field of every request of every method is filled
with what belongs to the other tenant (its id, name, keys, members, groups, token ids, page tokens), alone and together,
and sent by everybody the first tenant has: holders of service tokens, a guardian who logged in, and a guest of it, a
member of namespace 0 who may switch and has no grant for the other. Both tenants have members and groups of the same
names. The other tenant's secrets are words that no request contains: they must be in no answer and no error, and
everything of it must be as it was. A refusal must not tell whether its target exists: it is compared byte for byte with
the refusal for a namespace that does not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

from prefixdb.catalog.entities import GrantEffect, Guardian, NamespaceRecord, Privilege, Rule
from prefixdb.errors import UnauthenticatedError
from prefixdb.keycodec import data_key
from prefixdb.rpcstatus import DETAILS_KEY
from prefixdb.server.app import SERVICES
from prefixdb.service.messages import encode_page_token
from prefixdb.store.base import Commit, Put, Row
from prefixdb.v1 import auth_pb2, namespaces_pb2
from prefixdb.v1 import key_value_pb2 as pb
from tests.support.server import PASSWORD, Caller, RunningServer, running

SECRET = b"secret-of-the-other-tenant"
OWN_ROWS = 3
OTHER_ROWS = 5
OTHER_ID = 0x5EC2E7
UNKNOWN_ID = 0x5EC2E8
DEPTH_MAX = 4


def short(method: MethodDescriptor) -> str:
    """Return "Service/Method"."""
    return f"{method.containing_service.name}/{method.name}"


class Loot:
    """What an attacker may have learnt of the other tenant and can put into requests."""

    def __init__(self, namespace_id: int, name: str, jti: str) -> None:
        self.numbers = (namespace_id, 0, 2**64 - 1)
        positions = {b"N": b"\0" * 8, b"T": b"0", b"M": b"bob", b"G": b"auditors", b"A": b"carol\0" + b"\0" * 8}
        pages = [encode_page_token(kind, position) for kind, position in positions.items()]
        self.words = (name, jti, str(namespace_id), "bob", "auditors", *pages)
        self.keys = (b"key-0", namespace_id.to_bytes(8, "big") + b"\x01\x00\x00key-0", b"\x00" * 8, b"\xff" * 16)


def values(field: FieldDescriptor, loot: Loot, depth: int) -> Iterator[Any]:
    """Yield what a field may be filled with."""
    kind = field.cpp_type
    if kind == field.CPPTYPE_MESSAGE:
        yield from requests(field.message_type, loot, depth + 1)
    elif kind == field.CPPTYPE_STRING:
        yield from loot.keys if field.type == field.TYPE_BYTES else loot.words
    elif kind == field.CPPTYPE_BOOL:
        yield True
    elif kind == field.CPPTYPE_ENUM:
        yield from [value.number for value in field.enum_type.values]
    else:
        largest = 2**64 if kind == field.CPPTYPE_UINT64 else 2**31
        yield from [number for number in loot.numbers if number < largest]


def requests(descriptor: Descriptor, loot: Loot, depth: int = 0) -> Iterator[Any]:
    """Yield messages of a type: empty, each field alone with each of its values, and all fields together."""
    make = message_factory.GetMessageClass(descriptor)
    yield make()
    together = make()
    for field in descriptor.fields if depth < DEPTH_MAX else ():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        for number, value in enumerate(values(field, loot, depth)):
            alone = make()
            fill(alone, field, value)
            yield alone
            if number == 1 or (number == 0 and not together.ByteSize()):
                fill(together, field, value)
    if together.ByteSize():
        yield together


def fill(message: Any, field: FieldDescriptor, value: Any) -> None:
    """Set one field."""
    if field.is_repeated:
        getattr(message, field.name).append(value)
    elif field.cpp_type == field.CPPTYPE_MESSAGE:
        getattr(message, field.name).CopyFrom(value)
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, value)


async def answer_of(channel: grpc.aio.Channel, method: MethodDescriptor, request: Any, token: str) -> tuple[Any, ...]:
    """Return (status code, message, details, response bytes) of one call."""
    metadata = (("authorization", f"Bearer {token}"),)
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    call = getattr(channel, kind)(path)
    body = request.SerializeToString()
    received: list[bytes] = []
    try:
        if kind == "unary_unary":
            received.append(await call(body, metadata=metadata, timeout=10))
        else:
            async for message in call(iter([body]) if method.client_streaming else body, metadata=metadata, timeout=10):
                received.append(message)
    except grpc.aio.AioRpcError as failure:
        details = dict(failure.trailing_metadata() or ()).get(DETAILS_KEY, b"")
        return failure.code(), failure.details(), details, tuple(received)
    return grpc.StatusCode.OK, "", b"", tuple(received)


class Tenants:
    """Two tenants with the same keys; the other one's values, labels and token's subject are the secret."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        registry, store = server.app.registry, server.app.store
        self.own = server.create("own")
        self.other: NamespaceRecord = registry.create("other", namespace_id=OTHER_ID, labels={"note": SECRET.decode()})
        identities = server.app.authority.identities
        server.member(0, "carol", "", groups=(), privileges=(Privilege.NAMESPACES_USE,))
        for namespace, rule, names in (
            (self.own, b"own", ["bob", "mallory"]),
            (self.other, SECRET, ["bob", SECRET.decode()]),
        ):
            groups = ["auditors"] if namespace is self.own else ["auditors", SECRET.decode()]
            for group in groups:
                identities.groups.create(namespace.id, group, (Rule(None, rule, read=True, write=False),))
            for name in names:
                password = PASSWORD if name == "mallory" else ""
                server.member(namespace, name, password, groups=("guardians", *groups))
        server.member(0, "gus", groups=(), privileges=(Privilege.NAMESPACES_USE,))
        identities.grants.set("gus", self.own, GrantEffect.ALLOW, ("writers",))
        identities.grants.set("carol", self.other, GrantEffect.ALLOW, (SECRET.decode(),))
        self._logged_in: dict[str, Caller] = {}
        self.foreign_token = server.token(OTHER_ID, subject=SECRET.decode())
        self.jti = server.app.authority.list(OTHER_ID)[0].jti
        rows = [Put(data_key(self.own.id, 0, b"key-%d" % n), b"own") for n in range(OWN_ROWS)]
        rows += [Put(data_key(OTHER_ID, 0, b"key-%d" % n), SECRET) for n in range(OTHER_ROWS)]
        assert store.commit(Commit(tuple(rows))).applied
        self.before = self.other_rows()

    def other_rows(self) -> list[Row]:
        """Return everything stored under the other tenant's prefix, system records included."""
        from prefixdb.keycodec import namespace_span

        cursor = self.server.app.store.open_cursor(namespace_span(OTHER_ID), raw=True)
        try:
            return cursor.fetch(10_000, 2**30)
        finally:
            cursor.close()

    async def token(self, attacker: str) -> str:
        """Return a good token of an attacker; a call before may have revoked the one before."""
        self.server.forgive()
        if attacker in SERVICE_TOKENS:
            return self.server.token(self.own.id, guardian=SERVICE_TOKENS[attacker])
        known = self._logged_in.get(attacker)
        if known is not None:
            with contextlib.suppress(UnauthenticatedError):
                await known.call(known.auth.WhoAmI, auth_pb2.WhoAmIRequest())
                return known.token or ""
        home, into = (self.own, None) if attacker == "guardian who logged in" else (None, self.own)
        name = "mallory" if attacker == "guardian who logged in" else "gus"
        fresh = self._logged_in[attacker] = await self.server.login(name, home=home, into=into)
        return fresh.token or ""


SERVICE_TOKENS = {"service token": Guardian.NONE, "service token of a guardian": Guardian.NAMESPACE}
WITHOUT_TOKEN = {"Auth/Login", "Auth/Refresh", "Auth/Logout"}
"""Methods that look at no token: it does not matter who calls."""

ATTACKERS = (*SERVICE_TOKENS, "guardian who logged in", "guest")


def attackers(method: MethodDescriptor) -> tuple[str, ...]:
    """Return who tries a method."""
    return ATTACKERS[:1] if short(method) in WITHOUT_TOKEN else ATTACKERS


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_no_argument_reaches_another_tenant(tmp_path: Path, service: ServiceDescriptor) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            tenants = Tenants(server)
            record_before = server.app.registry.get(OTHER_ID)
            loot = Loot(OTHER_ID, "other", tenants.jti)
            for method in service.methods:
                sent = 0
                for attacker in attackers(method):
                    for request in requests(method.input_type, loot):
                        assert SECRET not in request.SerializeToString()
                        answer = await answer_of(server.channel, method, request, await tenants.token(attacker))
                        told = b"".join(answer[3]) + answer[2] + (answer[1] or "").encode()
                        assert SECRET not in told, f"{short(method)} told {attacker} a secret for {request!r}"
                        assert answer[0] is not grpc.StatusCode.INTERNAL, f"{short(method)} broke on {request!r}"
                        sent += 1
                assert sent > len(ATTACKERS) or not method.input_type.fields
                assert tenants.other_rows() == tenants.before, f"{short(method)} touched the other tenant's rows"
                assert server.app.registry.get(OTHER_ID) is record_before, short(method)
                other = server.nobody(tenants.foreign_token)
                answered = await other.get(pb.GetRequest(key=b"key-0"))
                assert answered.value == SECRET, f"{short(method)} touched its token"

    asyncio.run(main())


def reference_fields(descriptor: Descriptor) -> list[FieldDescriptor]:
    """Return the fields of a request that name a namespace."""
    return [field for field in descriptor.fields if field.message_type is namespaces_pb2.NamespaceRef.DESCRIPTOR]


def test_a_refusal_does_not_tell_whether_a_namespace_exists(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            tenants = Tenants(server)
            tried = set()
            for method in [method for service in SERVICES for method in service.methods]:
                for named in ({"id": OTHER_ID}, {"name": "other"}):
                    nowhere = {"id": UNKNOWN_ID} if "id" in named else {"name": "othex"}
                    pairs = zip(
                        with_reference(method.input_type, named),
                        with_reference(method.input_type, nowhere),
                        strict=True,
                    )
                    for there, absent in pairs:
                        tried.add(short(method))
                        for attacker in ATTACKERS:
                            token = await tenants.token(attacker)
                            answer = await answer_of(server.channel, method, there, token)
                            server.forgive()
                            assert answer == await answer_of(server.channel, method, absent, token), short(method)
                            assert answer[0] is not grpc.StatusCode.OK, f"{short(method)} as {attacker}"
            assert len(tried) >= 16, "methods that name namespaces were left out"

    asyncio.run(main())


def with_reference(descriptor: Descriptor, named: dict[str, Any]) -> Iterator[Any]:
    """Yield requests that name a namespace, in each field that can, complete enough to get as far as the look-up."""
    make = message_factory.GetMessageClass(descriptor)
    for extras in EXTRAS:
        if all(name in descriptor.fields_by_name for name in extras):
            for field in reference_fields(descriptor):
                yield make(**{field.name: named}, **extras)


EXTRAS: tuple[dict[str, Any], ...] = (
    {},
    {"subject": "s"},
    {"all": True},
    {"state": 2},
    {"update_mask": {"paths": ["labels"]}},
    {"name": "bob", "update_mask": {"paths": ["main_namespace"]}},
    {"name": "new", "password": PASSWORD},
    {"user": "bob", "password": PASSWORD},
    {"user": "gus", "password": PASSWORD},
    {"member": "gus", "effect": 1, "groups": ["readers"]},
)
"""What makes a request complete, for all the methods that name namespaces."""


def test_counts_and_scans_stay_inside_their_tenant_whatever_the_bounds(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            tenants = Tenants(server)
            member = server.nobody(await tenants.token("service token"))
            ends = (b"", b"\x00", b"key-", b"\xff", b"\xff" * 16, OTHER_ID.to_bytes(8, "big"))
            for prefix in ends:
                counted = await member.call(member.key_value.Count, pb.CountRequest(range=pb.KeyRange(prefix=prefix)))
                assert counted.count <= OWN_ROWS
                for reverse in (False, True):
                    for after in ends:
                        request = pb.ScanRequest(range=pb.KeyRange(prefix=prefix), reverse=reverse, resume_after=after)
                        pages = await member.pages(member.key_value.Scan, request)
                        assert {row.value for page in pages for row in page.rows} <= {b"own"}
            for start in ends:
                request = pb.ScanRequest(range=pb.KeyRange(start=start))
                pages = await member.pages(member.key_value.Scan, request)
                assert {row.value for page in pages for row in page.rows} <= {b"own"}
            deletion = pb.Mutation(delete_range=pb.Mutation.DeleteRange(range=pb.KeyRange()))
            assert (await member.call(member.key_value.Write, pb.WriteRequest(mutations=[deletion]))).applied
            assert tenants.other_rows() == tenants.before

    asyncio.run(main())
