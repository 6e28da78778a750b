"""Goal: callers without a token get what the operator opened for them in namespace 0, and never anything else.

Method: real servers with each setting; every method there is, broken tokens of every kind, rows of other namespaces,
and what the operator is told at start and in the status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

import grpc
import pytest

from prefixdb.catalog.entities import DEFAULT_NAMESPACE_ID, Rule
from prefixdb.catalog.policy import METHODS, Capability
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.server.config import load_config
from prefixdb.server.exposure import notices
from prefixdb.v1 import auth_pb2, maintenance_pb2, namespaces_pb2
from prefixdb.v1 import key_value_pb2 as pb
from tests.support.server import Caller, RunningServer, error_of, reference, running

OPEN_TO_ALL = {
    Capability.ANY_TOKEN,
    Capability.NAMESPACES_LIST,
    Capability.ROWS_READ,
    Capability.ROWS,
    Capability.EXPORT,
}
WITHOUT_TOKEN = {Capability.PUBLIC, Capability.CREDENTIALS}


def with_anonymous(tmp_path: Path, kind: str) -> Any:
    """Start a server that lets callers in without a token."""
    return running(tmp_path / "data", settings={"auth.anonymous": kind})


async def refusal(call: Any) -> Reason:
    """Return why a call is refused."""
    with pytest.raises(PrefixdbError) as caught:
        await call
    return caught.value.reason


async def reason_of(channel: grpc.aio.Channel, path: str) -> Reason | None:
    """Call a method without a token, with an empty message, and return why it failed."""
    # The message goes out with the headers: a write of its own that meets a call the server has ended already makes
    # the client invent a status.
    call = channel.unary_stream(path)(b"", timeout=10)
    with contextlib.suppress(grpc.aio.AioRpcError):  # The status is looked at below.
        await call.read()
    if not call.done():
        call.cancel()
        return None  # It answered.
    if await call.code() is grpc.StatusCode.OK:
        return None
    metadata = await call.trailing_metadata()
    failure = grpc.aio.AioRpcError(await call.code(), grpc.aio.Metadata(), metadata, details=await call.details())
    return error_of(failure).reason


async def seed(server: RunningServer) -> Caller:
    """Put a row into namespace 0 and one into another; return somebody without a token."""
    for namespace, value in ((DEFAULT_NAMESPACE_ID, b"of all"), (server.create("acme").id, b"of acme")):
        caller = server.caller(namespace)
        await caller.call(caller.key_value.Put, pb.PutRequest(key=b"k", value=value))
    return server.nobody()


def writes(caller: Caller) -> list[Any]:
    """Return calls that write, one of each kind."""
    put = pb.PutRequest(key=b"n", value=b"v")
    mutation = pb.Mutation(put=pb.Mutation.Put(key=b"n", value=b"v"))
    return [
        caller.call(caller.key_value.Put, put),
        caller.call(caller.key_value.Delete, pb.DeleteRequest(key=b"k")),
        caller.call(caller.key_value.Write, pb.WriteRequest(mutations=[mutation])),
    ]


def test_a_reader_reads_namespace_0_and_writes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with with_anonymous(tmp_path, "reader") as server:
            nobody = await seed(server)
            assert (await nobody.get(pb.GetRequest(key=b"k"))).value == b"of all"
            pages = await nobody.pages(nobody.key_value.Scan, pb.ScanRequest())
            assert [row.value for page in pages for row in page.rows] == [b"of all"]
            assert (await nobody.call(nobody.key_value.Count, pb.CountRequest())).count == 1
            for call in writes(nobody):
                assert await refusal(call) is Reason.NOT_PERMITTED
            assert (await nobody.get(pb.GetRequest(key=b"k"))).found
            assert not (await nobody.get(pb.GetRequest(key=b"n"))).found

    asyncio.run(main())


def test_a_writer_writes_into_namespace_0_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with with_anonymous(tmp_path, "writer") as server:
            nobody = await seed(server)
            for call in writes(nobody):
                assert (await call).applied
            assert (await nobody.get(pb.GetRequest(key=b"n"))).value == b"v"
            acme = server.caller(server.app.registry.find("acme"))
            assert (await acme.get(pb.GetRequest(key=b"k"))).value == b"of acme"
            assert not (await acme.get(pb.GetRequest(key=b"n"))).found

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_it_is_nobody_in_namespace_0_and_hears_of_no_other(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        async with with_anonymous(tmp_path, kind) as server:
            nobody = await seed(server)
            me = await nobody.call(nobody.auth.WhoAmI, auth_pb2.WhoAmIRequest())
            assert (me.subject, me.namespace_id, list(me.groups)) == ("anonymous", DEFAULT_NAMESPACE_ID, [f"{kind}s"])
            assert (me.guardian, me.member, list(me.privileges)) == (0, False, [])
            listed = await nobody.call(nobody.namespaces.ListNamespaces, namespaces_pb2.ListNamespacesRequest())
            assert {item.name for item in listed.namespaces} <= {"default"}
            for ref in (reference("acme"), reference("no-such"), reference(server.app.registry.find("acme"))):
                request = namespaces_pb2.GetNamespaceRequest(namespace=ref)
                assert await refusal(nobody.call(nobody.namespaces.GetNamespace, request)) is Reason.NOT_PERMITTED
                exchange = auth_pb2.ExchangeRequest(namespace=ref)
                assert await refusal(nobody.call(nobody.auth.Exchange, exchange)) is Reason.NOT_PERMITTED

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["off", "reader", "writer"])
def test_no_method_but_those_on_rows_is_open_to_it(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        async with with_anonymous(tmp_path, kind) as server:
            for path, capability in METHODS.items():
                if capability in WITHOUT_TOKEN or not path.startswith("/prefixdb.v1."):
                    continue
                found = await reason_of(server.channel, path)
                permitted = capability in OPEN_TO_ALL or (kind == "writer" and capability is Capability.ROWS_WRITE)
                if kind == "off":
                    assert found is Reason.TOKEN_MISSING, path
                elif permitted:
                    assert found not in {Reason.NOT_PERMITTED, Reason.TOKEN_MISSING}, path
                else:
                    assert found is Reason.NOT_PERMITTED, path

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["reader", "writer"])
def test_a_token_that_is_not_good_never_counts_as_none(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        async with with_anonymous(tmp_path, kind) as server:
            await seed(server)
            acme = server.app.registry.find("acme")
            assert acme is not None
            good = server.token(acme.id)
            entries: list[tuple[tuple[str, str], ...]] = [
                (("authorization", text),)
                for text in (
                    "",
                    " ",
                    "Bearer",
                    "Bearer ",
                    "bearer " + good,
                    "Basic " + good,
                    good,
                    "Bearer " + good[:-2],
                    "Bearer " + good + "x",
                    "Bearer " + "a" * 5000,
                    "Bearer " + server.forged_token(acme),
                    "Bearer " + server.expired_token(acme),
                )
            ]
            entries.append((("authorization", f"Bearer {good}"), ("authorization", f"Bearer {good}")))
            entries.append((("authorization", ""), ("authorization", f"Bearer {good}")))
            stub: Any = Caller(server.channel, None).key_value
            for metadata in entries:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.Get(pb.GetRequest(key=b"k"), metadata=metadata, timeout=10)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, metadata[0][1][:20]
            server.app.authority.revoke_namespace(acme.id)
            assert await refusal(server.nobody(good).get(pb.GetRequest(key=b"k"))) is Reason.TOKEN_REVOKED

    asyncio.run(main())


def test_what_the_group_readers_of_another_namespace_may_is_not_its_business(tmp_path: Path) -> None:
    async def main() -> None:
        async with with_anonymous(tmp_path, "reader") as server:
            nobody = await seed(server)
            acme = server.app.registry.find("acme")
            assert acme is not None
            server.add_group(acme.id, "anonymous", Rule(None, b"", read=True, write=True))
            server.add_group(DEFAULT_NAMESPACE_ID, "anonymous", Rule(None, b"", read=True, write=True))
            for call in writes(nobody):
                assert await refusal(call) is Reason.NOT_PERMITTED

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["off", "reader", "writer"])
def test_the_operator_is_told_at_start_and_in_the_status(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with with_anonymous(tmp_path, kind) as server:
            boss = server.guardian
            alarms = (await boss.call(boss.maintenance.Status, maintenance_pb2.StatusRequest())).alarms
            warned = [record for record in caplog.records if "without a token" in record.getMessage()]
            metrics = server.app.metrics.render().decode()
            if kind == "off":
                assert not alarms and not warned
                assert 'prefixdb_alarms{of="exposure"} 0.0' in metrics
                return
            [text] = alarms
            assert "anybody on this machine" in text and "--anonymous off" in text
            assert ("change and delete" in text) is (kind == "writer")
            assert [record.levelno for record in warned] == [logging.WARNING]
            assert 'prefixdb_alarms{of="exposure"} 1.0' in metrics

    asyncio.run(main())


@pytest.mark.parametrize(
    ("settings", "grave", "words"),
    [
        ({"auth.anonymous": "reader"}, [False], "anybody on this machine"),
        ({"auth.anonymous": "reader", "server.listen": "unix:/x"}, [False], "anybody on this machine"),
        (
            {"auth.anonymous": "reader", "server.listen": "0.0.0.0:1", "tls.cert": "c", "tls.key": "k"},
            [True],
            "ANYBODY",
        ),
        ({"auth.anonymous": "writer", "server.listen": "0.0.0.0:1", "server.insecure": True}, [True, True], "readable"),
        ({"server.listen": "0.0.0.0:1", "server.insecure": True}, [True], "readable"),
        ({"server.listen": "127.0.0.1:1", "server.insecure": True}, [], ""),
        ({"auth.anonymous": "reader", "server.listen": "127.0.0.1:0"}, [False], "reaches 127.0.0.1 may"),
        ({}, [], ""),
    ],
)
def test_what_the_network_gains_by_is_said_louder(settings: dict[str, object], grave: list[bool], words: str) -> None:
    found = notices(load_config(None, {}, settings))
    assert [notice.grave for notice in found] == grave
    assert words in " ".join(notice.text for notice in found)
