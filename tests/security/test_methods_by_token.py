"""Goal: default deny. Every method of every compiled service answers every kind of token as the page on security says.

Method: the methods come from the descriptors, the expectations from a table written down here by hand; it shares
nothing with the policy. A method that is added without a line here fails, and so does one without a row in the policy.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from prefixdb.catalog.entities import GrantEffect, Guardian, NamespaceRecord, NamespaceState, Privilege
from prefixdb.catalog.policy import METHODS
from prefixdb.errors import Reason
from prefixdb.server.app import SERVICES
from prefixdb.server.standard import Health
from prefixdb.service.methods import methods_of
from prefixdb.v1 import auth_pb2, error_pb2, key_value_pb2, maintenance_pb2, members_pb2, namespaces_pb2, transfer_pb2
from tests.support.server import RunningServer, error_of, reference, running

ROWS = "rows"
ANYONE = "anyone"
PROOF = "whoever has a password or a refresh token"
LOGGED_IN = "logged in"
SWITCH = "logged in, of namespace 0"
OWN_NAMESPACE = "own namespace"
VIEWER = "own namespace, or the privilege namespaces.edit"
EDITOR = "cluster, or the privilege namespaces.edit"
AUDITOR = "cluster, or the privilege audit"
BACKER = "cluster, or the privilege backup"
EXPORTER = "rows, own namespace, or the privilege backup"
CLUSTER = "cluster"

WHO_MAY = {
    "KeyValue/Get": ROWS,
    "KeyValue/BatchGet": ROWS,
    "KeyValue/Put": ROWS,
    "KeyValue/Delete": ROWS,
    "KeyValue/Write": ROWS,
    "KeyValue/Scan": ROWS,
    "KeyValue/Count": ROWS,
    "KeyValue/Pipeline": ROWS,
    "Namespaces/CreateNamespace": EDITOR,
    "Namespaces/GetNamespace": VIEWER,
    "Namespaces/ListNamespaces": ANYONE,
    "Namespaces/UpdateNamespace": EDITOR,
    "Namespaces/SuspendNamespace": EDITOR,
    "Namespaces/ResumeNamespace": EDITOR,
    "Namespaces/BanNamespace": EDITOR,
    "Namespaces/UnbanNamespace": EDITOR,
    "Namespaces/ReclaimReport": EDITOR,
    "Namespaces/WatchReclaim": EDITOR,
    "Auth/Login": PROOF,
    "Auth/Refresh": PROOF,
    "Auth/Logout": PROOF,
    "Auth/Exchange": SWITCH,
    "Auth/ChangePassword": LOGGED_IN,
    "Auth/WhoAmI": ANYONE,
    "Auth/IssueToken": OWN_NAMESPACE,
    "Auth/ListTokens": OWN_NAMESPACE,
    "Auth/RevokeTokens": OWN_NAMESPACE,
    "Auth/ListKeys": CLUSTER,
    "Auth/RotateKey": CLUSTER,
    "Auth/RemoveKey": CLUSTER,
    "Members/CreateMember": OWN_NAMESPACE,
    "Members/GetMember": OWN_NAMESPACE,
    "Members/ListMembers": OWN_NAMESPACE,
    "Members/UpdateMember": OWN_NAMESPACE,
    "Members/DeleteMember": OWN_NAMESPACE,
    "Members/SetPassword": OWN_NAMESPACE,
    "Members/CreateGroup": OWN_NAMESPACE,
    "Members/GetGroup": OWN_NAMESPACE,
    "Members/ListGroups": OWN_NAMESPACE,
    "Members/UpdateGroup": OWN_NAMESPACE,
    "Members/DeleteGroup": OWN_NAMESPACE,
    "Members/SetGrant": CLUSTER,
    "Members/DeleteGrant": CLUSTER,
    "Members/ListGrants": CLUSTER,
    "Maintenance/Status": CLUSTER,
    "Maintenance/Compact": CLUSTER,
    "Maintenance/ReadAudit": AUDITOR,
    "Transfer/Backup": BACKER,
    "Transfer/ListBans": BACKER,
    "Transfer/Export": EXPORTER,
    "Transfer/Import": ROWS,
    "Transfer/RestoreNamespace": EDITOR,
    "Transfer/CloneNamespace": EDITOR,
}
"""The capability table of the security page, by hand."""

GUARDIAN = {OWN_NAMESPACE, VIEWER}
BOSS = {*GUARDIAN, EDITOR, AUDITOR, BACKER, CLUSTER}
READER = {ROWS, EXPORTER, ANYONE}
MAY = {
    "service token": {*READER},
    "service token of a namespace guardian": {*READER, *GUARDIAN},
    "service token of a cluster guardian": {*READER, *BOSS},
    "service token without a group": {ANYONE},
    "minted token of a guardian": {*READER, *GUARDIAN},
    "member": {*READER, LOGGED_IN},
    "member who is a guardian": {*READER, LOGGED_IN, *GUARDIAN},
    "member of namespace 0": {*READER, LOGGED_IN, SWITCH},
    "member of namespace 0 who is a guardian": {*READER, LOGGED_IN, SWITCH, *BOSS},
    "guest": {*READER, LOGGED_IN, SWITCH},
    "guest who is a guardian at home": {*READER, LOGGED_IN, SWITCH},
    "guest with every privilege": {*READER, LOGGED_IN, SWITCH},
    "namespaces.use": {ANYONE, LOGGED_IN, SWITCH},
    "namespaces.edit": {ANYONE, LOGGED_IN, SWITCH, VIEWER, EDITOR},
    "audit": {ANYONE, LOGGED_IN, SWITCH, AUDITOR},
    "backup": {ANYONE, LOGGED_IN, SWITCH, BACKER, EXPORTER},
}

NEVER = {
    "none": Reason.TOKEN_MISSING,
    "empty": Reason.TOKEN_MISSING,
    "basic": Reason.TOKEN_MISSING,
    "two": Reason.TOKEN_MISSING,
    "forged": Reason.TOKEN_INVALID,
    "forged cluster guardian": Reason.TOKEN_INVALID,
    "expired": Reason.TOKEN_EXPIRED,
    "revoked": Reason.TOKEN_REVOKED,
    "banned": Reason.NAMESPACE_BANNED,
    "suspended": Reason.NAMESPACE_SUSPENDED,
    "earlier issue": Reason.TOKEN_INVALID,
    "refresh token": Reason.TOKEN_INVALID,
    "logged out": Reason.TOKEN_REVOKED,
    "disabled": Reason.TOKEN_REVOKED,
    "removed": Reason.TOKEN_REVOKED,
    "guest whose grant was taken back": Reason.NOT_PERMITTED,
}
"""Tokens that open nothing, whatever the method."""

PROOFS = {
    "Auth/Login": Reason.BAD_CREDENTIALS,
    "Auth/Refresh": Reason.TOKEN_INVALID,
    "Auth/Logout": Reason.TOKEN_INVALID,
}
"""What an empty message is refused with, whatever token comes along."""

REFUSALS = {Reason.NOT_PERMITTED, *NEVER.values()}

FILES = (key_value_pb2, namespaces_pb2, auth_pb2, members_pb2, maintenance_pb2, transfer_pb2, error_pb2)
ALL_METHODS = [
    method for file in FILES for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods
]


def short(method: MethodDescriptor) -> str:
    """Return "Service/Method"."""
    return f"{method.containing_service.name}/{method.name}"


def path_of(method: MethodDescriptor) -> str:
    """Return the path on the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


async def reason_of_call(channel: grpc.aio.Channel, method: MethodDescriptor, metadata: Any) -> Reason | None:
    """Call a method with an empty request; return the reason it was refused with, None when it was answered.

    A client that is still writing when its call is refused may make up an INTERNAL; such a call is made again.
    """
    while (reason := await _reason_of_call(channel, method, metadata)) is Reason.INTERNAL:
        assert method.client_streaming
    return reason


async def _reason_of_call(channel: grpc.aio.Channel, method: MethodDescriptor, metadata: Any) -> Reason | None:
    request = message_factory.GetMessageClass(method.input_type)()
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    call = getattr(channel, kind)(path_of(method), request_serializer=lambda message: message.SerializeToString())
    try:
        if kind == "unary_unary":
            await call(request, metadata=metadata, timeout=10)
            return None
        stream = call(iter([request]) if method.client_streaming else request, metadata=metadata, timeout=10)
        async for _ in stream:
            pass
    except grpc.aio.AioRpcError as failure:
        return error_of(failure).reason
    return None


async def tokens(server: RunningServer) -> dict[str, list[tuple[str, str]]]:
    """Return the metadata of every kind of caller."""
    registry, authority = server.app.registry, server.app.authority
    acme = server.create("acme")
    banned, suspended, again = server.create("banned"), server.create("suspended"), server.create("again")
    bearers = {
        "service token": server.token(acme.id, groups=("writers",)),
        "service token of a namespace guardian": server.token(acme.id, guardian=Guardian.NAMESPACE),
        "service token of a cluster guardian": server.token(0, guardian=Guardian.CLUSTER),
        "service token without a group": server.token(acme.id, groups=()),
        "minted token of a guardian": await minted_token(server, acme),
        "forged": server.forged_token(acme),
        "forged cluster guardian": server.forged_token(registry.get(0), Guardian.CLUSTER),  # type: ignore[arg-type]
        "expired": server.expired_token(acme),
        "revoked": server.token(acme.id, subject="leaver", guardian=Guardian.NAMESPACE),
        "banned": server.token(banned.id, guardian=Guardian.NAMESPACE),
        "suspended": server.token(suspended.id, guardian=Guardian.NAMESPACE),
        "earlier issue": server.token(again.id, guardian=Guardian.NAMESPACE),
    }
    bearers |= await login_tokens(server, acme)
    await asyncio.to_thread(authority.revoke_subject, acme.id, "leaver")
    await asyncio.to_thread(registry.suspend, suspended.id, NamespaceState.SUSPENDED, "")
    for namespace in (banned, again):
        grace_ms = 3_600_000 if namespace is banned else 0
        await asyncio.to_thread(registry.ban, namespace.id, by="test", grace_ms=grace_ms)
    await issue_again(server, again.id)
    good = ("authorization", f"Bearer {bearers['service token']}")
    return {kind: [("authorization", f"Bearer {token}")] for kind, token in bearers.items()} | {
        "none": [],
        "empty": [("authorization", "")],
        "basic": [("authorization", "Basic c29tZWJvZHk6c2VjcmV0")],
        "two": [good, good],
    }


async def minted_token(server: RunningServer, namespace: NamespaceRecord) -> str:
    """Return a guardian's token that a cluster guardian made for a namespace not its own."""
    request = auth_pb2.IssueTokenRequest(
        subject="helper", groups=["guardians"], guardian=auth_pb2.GUARDIAN_NAMESPACE, namespace=reference(namespace)
    )
    boss = server.guardian
    return (await boss.call(boss.auth.IssueToken, request)).token  # type: ignore[no-any-return]


async def login_tokens(server: RunningServer, acme: NamespaceRecord) -> dict[str, str]:
    """Return the tokens of those who logged in."""
    identities = server.app.authority.identities
    everything = tuple(Privilege)
    for home, name, groups, privileges in (
        (acme, "member", ("writers",), ()),
        (acme, "member who is a guardian", ("guardians",), ()),
        (acme, "logged out", ("guardians",), ()),
        (acme, "disabled", ("guardians",), ()),
        (acme, "removed", ("guardians",), ()),
        (0, "member of namespace 0", ("writers",), ()),
        (0, "member of namespace 0 who is a guardian", ("guardians",), ()),
        (0, "guest", (), (Privilege.NAMESPACES_USE,)),
        (0, "guest who is a guardian at home", ("guardians",), ()),
        (0, "guest with every privilege", (), everything),
        (0, "guest whose grant was taken back", (), ()),
        (0, "namespaces.use", (), (Privilege.NAMESPACES_USE,)),
        (0, "namespaces.edit", (), (Privilege.NAMESPACES_EDIT,)),
        (0, "audit", (), (Privilege.AUDIT,)),
        (0, "backup", (), (Privilege.BACKUP,)),
    ):
        server.member(home, name.replace(" ", "-"), groups=groups, privileges=privileges)
    callers = {}
    for kind in MAY.keys() | NEVER.keys():
        name = kind.replace(" ", "-")
        if identities.members.get(0, name) is not None:
            guest = kind.startswith("guest")
            if guest:
                identities.grants.set(name, acme, GrantEffect.ALLOW, ("writers",))
            callers[kind] = await server.login(name, into=acme if guest else None)
        elif identities.members.get(acme.id, name) is not None:
            callers[kind] = await server.login(name, home=acme)
    await asyncio.to_thread(identities.logins.end_all, acme.id, "logged-out")
    await asyncio.to_thread(lambda: identities.members.update(acme.id, "disabled", disabled=True))
    await asyncio.to_thread(identities.members.delete, acme.id, "removed")
    await asyncio.to_thread(identities.grants.delete, "guest-whose-grant-was-taken-back", acme.id)
    found = {kind: caller.token or "" for kind, caller in callers.items()}
    return found | {"refresh token": callers["member"].tokens.refresh_token}


async def issue_again(server: RunningServer, namespace_id: int) -> None:
    """Wait until a banned number is reclaimed, then issue it again under its old name."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 20
    while server.app.registry.get(namespace_id).state is not NamespaceState.RECLAIMED:  # type: ignore[union-attr]
        assert loop.time() < deadline, "the reclaim did not finish"
        await asyncio.sleep(0.01)
    await asyncio.to_thread(server.app.registry.create, "again", namespace_id=namespace_id)


def test_every_method_answers_every_kind_of_token_as_the_table_says(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            kinds = await tokens(server)
            assert kinds.keys() == MAY.keys() | NEVER.keys()
            for method in ALL_METHODS:
                needed = WHO_MAY[short(method)]
                for kind, metadata in kinds.items():
                    server.forgive()
                    reason = await reason_of_call(server.channel, method, metadata)
                    place = f"{short(method)} as {kind} answered {reason}"
                    if needed is PROOF:
                        assert reason is PROOFS[short(method)], f"{place}: a token, good or bad, must not count"
                    elif kind in NEVER:
                        assert reason is NEVER[kind], place
                    elif needed in MAY[kind]:
                        assert reason not in REFUSALS, place
                    elif reason is None:
                        assert needed is ROWS, f"{place}: an empty batch may pass, nothing else"
                        assert short(method) in {"KeyValue/Pipeline"}, place
                    else:
                        assert reason is Reason.NOT_PERMITTED, place

    asyncio.run(main())


def test_the_table_names_exactly_the_methods_that_exist() -> None:
    assert {short(method) for method in ALL_METHODS} == WHO_MAY.keys()
    served = {f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods}
    assert served == {path_of(method) for method in ALL_METHODS}, "a compiled service is not served"


@pytest.mark.parametrize("method", ALL_METHODS, ids=short)
def test_a_method_without_a_row_keeps_the_server_from_starting(method: MethodDescriptor) -> None:
    implementation = type("Everything", (), {name.name: lambda *_: None for name in ALL_METHODS})()
    assert methods_of(method.containing_service, implementation)
    table = {path: capability for path, capability in METHODS.items() if path != path_of(method)}
    with pytest.raises(RuntimeError, match=f"{method.name} has no row"):
        methods_of(method.containing_service, implementation, table)


@pytest.mark.parametrize("method", ALL_METHODS, ids=short)
def test_a_method_without_code_keeps_the_server_from_starting(method: MethodDescriptor) -> None:
    names = {other.name: lambda *_: None for other in ALL_METHODS if other.name != method.name}
    with pytest.raises(RuntimeError, match=f"{method.name} has no implementation"):
        methods_of(method.containing_service, type("Incomplete", (), names)())


ODD_PATHS = [
    "/prefixdb.v1.KeyValue/get",
    "/prefixdb.v1.KeyValue/Get/",
    "/prefixdb.v1.KeyValue/Get ",
    "//prefixdb.v1.KeyValue/Get",
    "/prefixdb.v1.KeyValue//Get",
    "/prefixdb.v1.KeyValue/../KeyValue/Get",
    "/prefixdb.v1.KeyValue/Get?x=1",
    "/prefixdb.v1.KeyValue/%47et",
    "/PREFIXDB.V1.KEYVALUE/GET",
    "/prefixdb.v1.KeyValue",
    "/prefixdb.v1.KeyValue/",
    "/prefixdb.v1/KeyValue/Get",
    "/prefixdb.v2.KeyValue/Get",
    "/prefixdb.v1.Namespaces/Get",
    "/prefixdb.v1.KeyValue/__class__",
    "/grpc.health.v1.Health/check",
    "/grpc.channelz.v1.Channelz/GetServers",
    "/",
    "/x",
    "/" + "x" * 2000,
]


@pytest.mark.parametrize("path", ODD_PATHS, ids=lambda path: path[:40])
def test_a_path_that_is_not_exactly_a_method_is_unknown_with_and_without_a_token(tmp_path: Path, path: str) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            for metadata in ((), server.guardian.metadata):
                for kind in ("unary_unary", "unary_stream"):
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        call = getattr(server.channel, kind)(path)(b"", metadata=metadata, timeout=10)
                        await (call if kind == "unary_unary" else call.read())
                        await call
                    if path.endswith(" ") and server.app.front.name == "native":
                        # HTTP/2 itself allows no space there (RFC 9113, 8.2.1): the call is reset.
                        assert caught.value.code() is grpc.StatusCode.INTERNAL
                        continue
                    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
                    assert caught.value.details() == "The server has no such method."

    asyncio.run(main())


def test_health_and_reflection_answer_without_a_token_and_nothing_else_does(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            public = {path for path in server.app.gate.paths if not path.startswith("/prefixdb.v1.")}
            assert public == {
                "/grpc.health.v1.Health/Check",
                "/grpc.health.v1.Health/Watch",
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            }
            check = server.channel.unary_unary("/grpc.health.v1.Health/Check")
            assert await check(b"", timeout=10) == b"\x08\x01"

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/prefixdb.v1.KeyValue/Get", "/grpc.channelz.v1.Channelz/GetServers"])
def test_a_public_handler_without_a_public_row_keeps_the_server_from_starting(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = Health.handlers

    def more(health: Health) -> Any:
        found = handlers(health)
        return found | {path: next(iter(found.values()))}

    async def main() -> None:
        monkeypatch.setattr(Health, "handlers", more)
        with pytest.raises(RuntimeError, match="is not public"):
            async with running(tmp_path / "data"):
                pass

    asyncio.run(main())
