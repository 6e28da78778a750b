"""Goal: behind a front the server knows each client as if it had come directly, believes nobody but the front, and
without one believes nobody.

Method: a real server on its unix socket, called as a front calls it (``tests.support.behind``): what the audit says,
whom the throttle slows down, and whose certificate opens what, goes by what the front has told. The same metadata is
sent to a server without a front.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import stat
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from prefixdb.catalog.entities import Guardian
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.server.behind import SOCKET_FILE
from prefixdb.service import throttle
from prefixdb.service.peers import ADDRESS_KEY, CERTIFICATE_KEY
from prefixdb.service.throttle import Pace
from prefixdb.v1 import auth_pb2, maintenance_pb2, namespaces_pb2
from prefixdb.v1 import key_value_pb2 as pb
from tests.support.behind import SOMEWHERE, behind, forwarded
from tests.support.certificates import issue, secure_channel
from tests.support.server import PASSWORD, WAIT_S, Caller, RunningServer, running

AUTHORITY = issue("ca")
ELSEWHERE = "ipv6:%5B2001:db8::1%5D:4711"


def named(name: str) -> bytes:
    """Return a client's certificate."""
    return issue("client", AUTHORITY, common_names=(name,)).pem


def audited(server: RunningServer) -> list[dict[str, object]]:
    """Return the audit's lines."""
    text = (server.app.config.data_dir / "audit.jsonl").read_text(encoding="ascii")
    return [json.loads(line) for line in text.splitlines()]


async def refusal(caller: Caller) -> PrefixdbError:
    """Return why a Get is refused."""
    with pytest.raises(PrefixdbError) as caught:
        await caller.get(pb.GetRequest(key=b"k"))
    return caught.value


async def log_in(caller: Caller, user: str, password: str = PASSWORD) -> auth_pb2.Tokens:
    """Log in as somebody of the namespace 0."""
    request = auth_pb2.LoginRequest(user=user, password=password)
    return (await caller.call(caller.auth.Login, request)).tokens


def test_the_audit_names_the_clients_own_address(tmp_path: Path) -> None:
    async def main() -> None:
        async with behind(tmp_path) as server:
            create = namespaces_pb2.CreateNamespaceRequest(name="acme")
            await server.guardian.call(server.guardian.namespaces.CreateNamespace, create)
            stranger = forwarded(server.nobody("no token"), ELSEWHERE)
            with pytest.raises(PrefixdbError):
                await stranger.call(stranger.namespaces.CreateNamespace, create)
            server.member(0, "alice")
            await log_in(forwarded(server.nobody(), ELSEWHERE), "alice")
            with pytest.raises(PrefixdbError):
                await log_in(forwarded(server.nobody(), "unix:"), "alice", "wrong")
            peers = [(str(line["method"]).rpartition("/")[2], line["peer"]) for line in audited(server)]
            assert peers == [
                ("CreateNamespace", SOMEWHERE),
                ("CreateNamespace", SOMEWHERE),
                ("CreateNamespace", ELSEWHERE),
                ("Login", ELSEWHERE),
                ("Login", "unix:"),
            ]

    asyncio.run(main())


def test_failed_logins_slow_down_the_address_they_came_from_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "ADDRESS_PACE", Pace(free=1, delay_s_max=30.0))

    async def main() -> None:
        async with behind(tmp_path) as server:
            server.member(0, "alice")
            for name in ("a", "b", "c"):
                with pytest.raises(PrefixdbError) as caught:
                    await log_in(forwarded(server.nobody()), name, "wrong")
            assert caught.value.reason is Reason.RATE_LIMITED
            await log_in(forwarded(server.nobody(), "ipv4:198.51.100.8:4711"), "alice")

    asyncio.run(main())


def test_certificates_are_tied_to_tokens_as_the_front_has_seen_them(tmp_path: Path) -> None:
    settings: dict[str, object] = {"tls.cert": tmp_path / "server.pem", "tls.key": tmp_path / "server.key"}
    settings |= {"tls.client_ca": tmp_path / "ca.pem", "tls.subject": "token"}
    issue("server", AUTHORITY).write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)

    async def main() -> None:
        async with behind(tmp_path / "data", settings=settings) as server:
            server.member(0, "alice")
            token = server.token(server.create("acme").id, subject="alice")
            await forwarded(Caller(server.channel, token), certificate=named("alice")).get(pb.GetRequest(key=b"k"))
            for certificate in (named("bob"), b"", b"no certificate"):
                caller = forwarded(Caller(server.channel, token), certificate=certificate)
                assert (await refusal(caller)).reason is Reason.NOT_PERMITTED
                with pytest.raises(PrefixdbError) as caught:
                    await caller.pages(caller.key_value.Scan, pb.ScanRequest())
                assert caught.value.reason is Reason.NOT_PERMITTED
                with pytest.raises(PrefixdbError) as caught:
                    await log_in(forwarded(server.nobody(), certificate=certificate), "alice")
                assert caught.value.reason is Reason.NOT_PERMITTED
            assert (await log_in(forwarded(server.nobody(), certificate=named("alice")), "alice")).access_token

    asyncio.run(main())


@pytest.mark.parametrize(
    "told",
    [
        (),
        ((ADDRESS_KEY, SOMEWHERE), (ADDRESS_KEY, ELSEWHERE)),
        ((ADDRESS_KEY, SOMEWHERE), (CERTIFICATE_KEY, b"one"), (CERTIFICATE_KEY, b"another")),
    ],
    ids=["nothing", "two addresses", "two certificates"],
)
def test_a_call_that_came_past_the_front_gets_nothing(
    tmp_path: Path, told: tuple[tuple[str, str | bytes], ...], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with behind(tmp_path) as server:
            caller = server.caller(server.create("acme"))
            caller.metadata += told  # type: ignore[assignment]
            assert (await refusal(caller)).reason is Reason.INTERNAL
            guardian = server.caller(0, guardian=Guardian.CLUSTER)
            guardian.metadata += told  # type: ignore[assignment]
            with pytest.raises(PrefixdbError) as caught:
                await guardian.call(guardian.maintenance.Status, maintenance_pb2.StatusRequest())
            assert caught.value.reason is Reason.INTERNAL
            with pytest.raises(PrefixdbError) as caught:
                await caller.call(caller.auth.Login, auth_pb2.LoginRequest(user="alice", password=PASSWORD))
            assert caught.value.reason is Reason.INTERNAL
            for path in ("/grpc.health.v1.Health/Check", "/no.such/Method"):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await server.channel.unary_unary(path)(b"", metadata=told)
                assert refused.value.code() is grpc.StatusCode.INTERNAL
            assert not server.app.gate.halted, "somebody else's mistake is no reason to stop"

    with caplog.at_level(logging.ERROR, "prefixdb.peers"):
        asyncio.run(main())
    assert sum(record.name == "prefixdb.peers" for record in caplog.records) == 5


def test_whoever_comes_through_the_front_is_answered_whatever_the_method(tmp_path: Path) -> None:
    async def main() -> None:
        async with behind(tmp_path) as server:
            await forwarded(server.caller(server.create("acme"))).get(pb.GetRequest(key=b"k"))
            health = health_pb2_grpc.HealthStub(server.channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(), metadata=((ADDRESS_KEY, SOMEWHERE),))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await server.channel.unary_unary("/no.such/Method")(b"", metadata=((ADDRESS_KEY, SOMEWHERE),))
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(main())


def test_what_a_client_itself_says_of_its_address_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "ADDRESS_PACE", Pace(free=1, delay_s_max=30.0))

    async def main() -> None:
        async with running(tmp_path) as server:
            server.member(0, "alice")
            with pytest.raises(PrefixdbError):
                await log_in(forwarded(server.nobody()), "alice", "wrong")
            line = audited(server)[-1]
            assert str(line["peer"]).startswith("ipv4:127.0.0.1:")
            for number in range(2):
                with pytest.raises(PrefixdbError) as caught:
                    await log_in(forwarded(server.nobody(), f"ipv4:198.51.100.{number}:1"), f"nobody{number}", "wrong")
            with pytest.raises(PrefixdbError) as caught:
                await log_in(forwarded(server.nobody(), "ipv4:198.51.100.9:1"), "alice")
            assert caught.value.reason is Reason.RATE_LIMITED, "another address each time, it says"

    asyncio.run(main())


def test_a_certificate_is_what_the_connection_has_proved_and_not_what_the_client_says(tmp_path: Path) -> None:
    settings: dict[str, object] = {"tls.cert": tmp_path / "server.pem", "tls.key": tmp_path / "server.key"}
    settings |= {"tls.client_ca": tmp_path / "ca.pem", "tls.subject": "token"}
    issue("server", AUTHORITY).write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)

    async def main() -> None:
        async with running(tmp_path / "data", settings=settings) as server:
            token = server.token(server.create("acme").id, subject="alice")
            bob = issue("client", AUTHORITY, common_names=("bob",))
            async with secure_channel(server.app.address, AUTHORITY, bob) as channel:
                caller = forwarded(Caller(channel, token), certificate=named("alice"))
                assert (await refusal(caller)).reason is Reason.NOT_PERMITTED

    asyncio.run(main())


def test_the_socket_is_its_owners_alone_and_gone_at_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        place = tmp_path / SOCKET_FILE
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(place))
        dead.close()
        async with behind(tmp_path):
            mode = place.lstat().st_mode
            assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
        assert not place.exists()

    asyncio.run(main())


def test_a_socket_that_is_alive_is_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        place = tmp_path / SOCKET_FILE
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(place))
            other.listen()
            with pytest.raises(PrefixdbError) as caught:
                async with behind(tmp_path):
                    pass
            assert caught.value.metadata["field"] == "server.data_dir"
            assert place.exists()

    asyncio.run(main())


@pytest.mark.parametrize("name", ["d" * 120, "a b%41#?é", "/".join(["d" * 100] * 3)], ids=["long", "odd", "deep"])
def test_the_data_directory_may_have_any_path(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        async with behind(tmp_path / name) as server:
            place = tmp_path / name / SOCKET_FILE
            assert stat.S_IMODE(place.lstat().st_mode) == 0o600
            health = health_pb2_grpc.HealthStub(server.channel)
            await health.Check(health_pb2.HealthCheckRequest(), metadata=((ADDRESS_KEY, SOMEWHERE),), timeout=5)
        assert not place.exists()

    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(main())


def test_a_large_certificate_fits_beside_all_that_a_client_may_send(tmp_path: Path) -> None:
    async def main() -> None:
        async with behind(tmp_path) as server:
            caller = server.caller(server.create("acme"))
            caller.metadata += (("some", "x" * 7_000),)
            for _ in range(20):  # Between two limits the library would refuse at random.
                await forwarded(Caller(server.channel, caller.token), certificate=b"c" * 32_000).get(
                    pb.GetRequest(key=b"k")
                )

    asyncio.run(main())


def test_one_connection_carries_more_calls_than_a_clients_own_may(tmp_path: Path) -> None:
    async def main() -> None:
        async with behind(tmp_path) as server:
            callers = [forwarded(server.caller(server.create(f"ns{number}"))) for number in range(3)]
            calls = [caller.key_value.Pipeline(metadata=caller.metadata) for caller in callers for _ in range(200)]
            get = pb.PipelineRequest(id=7, operations=[pb.Operation(get=pb.GetRequest(key=b"k"))])
            async with asyncio.timeout(WAIT_S):
                for call in calls:
                    await call.write(get)
                for call in calls:
                    assert (await call.read()).id == 7
            assert len(server.app.streams) == len(calls)
            for call in calls:
                call.cancel()

    asyncio.run(main())
