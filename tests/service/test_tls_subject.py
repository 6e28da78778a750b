"""Goal: with ``tls.subject = "token"`` a token is worth nothing over somebody else's connection.

Method: a real server with mutual TLS; the same tokens come with the certificate of their subject and with others, to
every method there is; certificates whose names only seem to be somebody's are made byte by byte.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from prefixdb.catalog.entities import DEFAULT_NAMESPACE_ID, Guardian
from prefixdb.catalog.policy import METHODS, Capability
from prefixdb.errors import InvalidArgumentError, PrefixdbError, Reason
from prefixdb.server.config import load_config
from prefixdb.server.tls_subject import names_of
from prefixdb.v1 import auth_pb2
from prefixdb.v1 import key_value_pb2 as pb
from tests.support.certificates import Issued, issue, secure_channel
from tests.support.server import PASSWORD, Caller, RunningServer, error_of, running

AUTHORITY = issue("ca")


@contextlib.asynccontextmanager
async def tied(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Start a server that ties certificates to tokens."""
    issue("server", AUTHORITY).write(tmp_path, "server")
    settings: dict[str, object] = {"tls.cert": tmp_path / "server.pem", "tls.key": tmp_path / "server.key"}
    settings |= {"tls.client_ca": tmp_path / "ca.pem", "tls.subject": "token"}
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
    async with running(tmp_path / "data", settings=settings) as server:
        yield server


def named(*common_names: str, names: tuple[x509.GeneralName, ...] = ()) -> Issued:
    """Return a client's certificate."""
    return issue("client", AUTHORITY, common_names=common_names, names=names)


async def outcome(channel: grpc.aio.Channel, path: str, token: str) -> Reason | None:
    """Call a method with an empty message, whatever its kind, and return why it failed."""
    # The message goes out with the headers: a write of its own that meets a call the server has ended already makes
    # the client invent a status.
    call = channel.unary_stream(path)(b"", metadata=(("authorization", f"Bearer {token}"),), timeout=10)
    with contextlib.suppress(grpc.aio.AioRpcError):  # The status is looked at below.
        while await call.read() is not grpc.aio.EOF:
            pass
    if await call.code() is grpc.StatusCode.OK:
        return None
    failure = grpc.aio.AioRpcError(
        await call.code(), grpc.aio.Metadata(), await call.trailing_metadata(), details=await call.details()
    )
    return error_of(failure).reason


def test_a_certificate_opens_nothing_for_another_subjects_token_on_any_method(tmp_path: Path) -> None:
    async def main() -> None:
        async with tied(tmp_path) as server:
            server.member(DEFAULT_NAMESPACE_ID, "boss", groups=("guardians",))
            async with (
                secure_channel(server.app.address, AUTHORITY, named("boss")) as own,
                secure_channel(server.app.address, AUTHORITY, named("other")) as foreign,
            ):
                token = (await server.login("boss", channel=own)).token
                assert token is not None
                methods = {
                    path.removeprefix("/prefixdb.v1."): path
                    for path, capability in METHODS.items()
                    if path.startswith("/prefixdb.v1.") and capability is not Capability.CREDENTIALS
                }
                assert len(methods) > 40
                for name, path in sorted(methods.items()):
                    assert await outcome(foreign, path, token) is Reason.NOT_PERMITTED, name
                for name, path in sorted(methods.items()):
                    assert await outcome(own, path, token) is not Reason.NOT_PERMITTED, name

    asyncio.run(main())


@pytest.mark.parametrize(
    ("certificate", "permitted"),
    [
        (named("alice"), True),
        (named("Alice"), False),
        (named("alice "), False),
        (named("alice\0.example.org"), False),
        (named("alice", "bob"), False),
        (named("bob", "alice"), False),
        (named("other", names=(x509.DNSName("alice"),)), True),
        (named("other", names=(x509.UniformResourceIdentifier("alice"),)), True),
        (named("other", names=(x509.RFC822Name("alice"),)), True),
        (named("other", names=(x509.DNSName("bob"), x509.DNSName("alice"))), True),
        (named("other", names=(x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),)), False),
        (named(names=(x509.DNSName("alice"),)), True),
        (named(), False),
    ],
    ids=lambda value: "" if isinstance(value, bool) else None,
)
def test_a_name_counts_as_a_common_name_or_as_dns_uri_or_mail_whole_and_alone(
    tmp_path: Path, certificate: Issued, permitted: bool
) -> None:
    async def main() -> None:
        async with tied(tmp_path) as server:
            token = server.token(server.create("acme").id, subject="alice")
            async with secure_channel(server.app.address, AUTHORITY, certificate) as channel:
                caller = Caller(channel, token)
                if permitted:
                    await caller.get(pb.GetRequest(key=b"k"))
                    return
                with pytest.raises(PrefixdbError) as caught:
                    await caller.get(pb.GetRequest(key=b"k"))
                assert caught.value.reason is Reason.NOT_PERMITTED
                with pytest.raises(PrefixdbError) as caught:
                    await caller.pages(caller.key_value.Scan, pb.ScanRequest())
                assert caught.value.reason is Reason.NOT_PERMITTED

    asyncio.run(main())


def test_an_address_is_no_subject() -> None:
    certificate = named("other", names=(x509.IPAddress(ip_address("10.0.0.1")), x509.DNSName("a.example")))
    assert names_of(certificate.pem) == {"other", "a.example"}


def test_what_is_no_certificate_names_nobody() -> None:
    assert names_of(b"") == names_of(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") == frozenset()


def test_a_login_and_a_refresh_are_for_the_certificates_own_member(tmp_path: Path) -> None:
    async def main() -> None:
        async with tied(tmp_path) as server:
            acme = server.create("acme")
            for name in ("alice", "bob"):
                server.member(acme, name)
            async with (
                secure_channel(server.app.address, AUTHORITY, named("alice")) as alices,
                secure_channel(server.app.address, AUTHORITY, named("bob")) as bobs,
            ):
                alice = await server.login("alice", home=acme, channel=alices)
                await alice.get(pb.GetRequest(key=b"k"))
                with pytest.raises(PrefixdbError) as caught:
                    await server.login("alice", home=acme, channel=bobs)
                assert caught.value.reason is Reason.NOT_PERMITTED, "with the right password"
                assert "certificate" in caught.value.message and "alice" not in caught.value.message
                assert caught.value.metadata["certificate"] == "subject", "what the command line's advice goes by"
                stolen = Caller(bobs, None, alice.tokens)
                with pytest.raises(PrefixdbError) as caught:
                    await stolen.refreshed()
                assert caught.value.reason is Reason.NOT_PERMITTED
                again = await alice.refreshed()
                await again.get(pb.GetRequest(key=b"k"))  # The thief's attempt spent nothing.
                request = auth_pb2.ChangePasswordRequest(old_password=PASSWORD, new_password=PASSWORD + "!")
                thief = Caller(bobs, again.token)
                with pytest.raises(PrefixdbError) as caught:
                    await thief.call(thief.auth.ChangePassword, request)
                assert caught.value.reason is Reason.NOT_PERMITTED

    asyncio.run(main())


def test_without_the_setting_any_accepted_certificate_will_do(tmp_path: Path) -> None:
    issue("server", AUTHORITY).write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
    settings: dict[str, object] = {"tls.cert": tmp_path / "server.pem", "tls.key": tmp_path / "server.key"}

    async def main() -> None:
        async with running(tmp_path / "data", settings=settings | {"tls.client_ca": tmp_path / "ca.pem"}) as server:
            token = server.token(server.create("acme").id, subject="alice", guardian=Guardian.NONE)
            async with secure_channel(server.app.address, AUTHORITY, named("other")) as channel:
                await Caller(channel, token).get(pb.GetRequest(key=b"k"))

    asyncio.run(main())


def test_certificates_cannot_be_tied_where_none_are_asked_for() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        load_config(None, {}, {"tls.subject": "token", "tls.cert": "c", "tls.key": "k"})
    assert caught.value.metadata["field"] == "tls.subject" and "client_ca" in caught.value.message
