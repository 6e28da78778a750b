"""Goal: logins work over every kind of connection, and nobody needs one where a server lets anybody in.

Method: real servers in the test's own loop: TLS under another name, certificates tied to tokens, a unix socket, callers
without a token.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from prefixdb import TlsOptions, connect_async
from prefixdb.errors import (
    InvalidArgumentError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from prefixdb.testing import ServerProcess
from tests.support.certificates import issue
from tests.support.server import PASSWORD, running


def test_a_member_logs_in_over_tls_under_the_name_of_the_certificate(tmp_path: Path) -> None:
    authority = issue("ca")
    authority.write(tmp_path, "ca")
    issue("server", authority).write(tmp_path, "server")
    settings: dict[str, object] = {"tls.cert": tmp_path / "server.pem", "tls.key": tmp_path / "server.key"}

    async def scenario() -> None:
        async with running(tmp_path / "data", settings=settings) as server:
            server.member(server.create("acme"), "alice")
            login = {"user": "alice", "password": PASSWORD, "namespace": "acme"}
            for name, good in ((None, True), ("localhost", True), ("example.org", False)):
                tls = TlsOptions(ca=tmp_path / "ca.pem", server_name=name)
                async with connect_async(server.app.address, tls=tls, deadline_s=5, **login) as db:
                    if good:
                        await db.put("k", b"v")
                    else:
                        with pytest.raises(UnavailableError, match="host name") as caught:
                            await db.put("k", b"v")
                        assert PASSWORD not in str(caught.value)
            async with connect_async(server.app.address, deadline_s=5, **login) as db:
                with pytest.raises(UnavailableError, match="may expect TLS"):
                    await db.put("k", b"v")

    asyncio.run(scenario())


def test_a_login_tied_to_a_certificate_needs_that_certificate(tmp_path: Path) -> None:
    authority = issue("ca")
    authority.write(tmp_path, "ca")
    issue("server", authority).write(tmp_path, "server")
    for name in ("alice", "bob"):
        issue(name, authority).write(tmp_path, name)
    settings: dict[str, object] = {"tls.cert": tmp_path / "server.pem", "tls.key": tmp_path / "server.key"}
    settings |= {"tls.client_ca": tmp_path / "ca.pem", "tls.subject": "token"}

    async def scenario() -> None:
        async with running(tmp_path / "data", settings=settings) as server:
            server.member(server.create("acme"), "alice")
            for name in ("alice", "bob"):
                tls = TlsOptions(tmp_path / "ca.pem", tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
                async with connect_async(
                    server.app.address, user="alice", password=PASSWORD, namespace="acme", tls=tls
                ) as db:
                    if name == "alice":
                        await db.put("k", b"v")
                    else:
                        with pytest.raises((UnauthenticatedError, PermissionDeniedError)):
                            await db.put("k", b"v")

    asyncio.run(scenario())


def test_a_member_logs_in_over_a_unix_socket(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data", settings={"server.listen": f"unix:{tmp_path}/socket"}) as server:
            server.member(server.create("acme"), "alice")
            async with connect_async(
                f"unix:{tmp_path}/socket", user="alice", password=PASSWORD, namespace="acme"
            ) as db:
                await db.put("k", b"v")
                assert (await db.whoami()).subject == "alice"

    asyncio.run(scenario())


def test_a_client_without_a_token_gets_what_anybody_gets(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data", settings={"auth.anonymous": "reader"}) as server:
            for namespace in (None, "default", 0):
                async with connect_async(server.app.address, namespace=namespace) as db:
                    assert await db.get("k") is None
                    assert [key async for key in db.scan()] == []
                    assert (await db.whoami()).subject == "anonymous"
                    with pytest.raises(PermissionDeniedError):
                        await db.put("k", b"v")
                    with pytest.raises(InvalidArgumentError):
                        await db.logout()
            server.create("acme")
            async with connect_async(server.app.address, namespace="acme") as db:
                with pytest.raises(PermissionDeniedError, match="not for 'acme'"):
                    await db.get("k")

    asyncio.run(scenario())


def test_a_client_without_a_token_is_told_that_it_could_log_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server, connect_async(server.app.address) as db:
            with pytest.raises(UnauthenticatedError, match="a user and a password_file"):
                await db.get("k")

    asyncio.run(scenario())


def test_the_first_guardian_logs_in_with_the_password_of_the_first_start(prefixdb_server: ServerProcess) -> None:
    async def scenario() -> None:
        file = prefixdb_server.data_dir / "guardian.password"
        async with connect_async(prefixdb_server.endpoint, user="guardian", password_file=file) as db:
            assert (await db.whoami()).guardian.name == "CLUSTER"

    asyncio.run(scenario())


def test_the_fixture_logs_members_in(prefixdb_server: ServerProcess) -> None:
    place = prefixdb_server.create_namespace()
    with place.login("alice") as alice, place.login("rita", groups=["readers"]) as rita:
        alice.put("k", b"v")
        assert rita.get("k") == b"v"
        with pytest.raises(PermissionDeniedError):
            rita.put("k", b"v")
    with place.login("alice") as again:
        assert again.get("k") == b"v"
    with prefixdb_server.login(f"own-{place.id}") as db:
        assert db.whoami().namespace_id == 0
