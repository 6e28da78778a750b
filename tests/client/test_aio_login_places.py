"""Goal: a login that is kept in a file, exchanged, ended or somebody else's is used as it should be.

Method: a server that plays a script and a clock in the test's hand; several clients share a file.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from prefixdb.client import methods
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.aio.database import AsyncDatabase
from prefixdb.client.login_file import LoginFile
from prefixdb.client.options import ClientOptions
from prefixdb.errors import (
    InvalidArgumentError,
    PermissionDeniedError,
    Reason,
    UnauthenticatedError,
    UnavailableError,
)
from tests.client.harness import async_gather, async_test
from tests.client.logins import (
    FOUND,
    NEAR_END_MS,
    PAST_END_MS,
    alice,
    exchanged,
    identity,
    login,
    refreshed,
    sharing,
    shown,
)
from tests.support.clocks import HeldClock
from tests.support.scripted_server import Hang, Lose, Refuse, ScriptedServer


def client(options: ClientOptions, clock: HeldClock) -> AsyncDatabase:
    """Return a client whose time the test holds."""
    return AsyncDatabase(AsyncConnection(options, clock), options.database, options.deadline_s)


@async_test
async def test_many_clients_of_one_file_make_one_refresh(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.login"
    async with client(alice(server.endpoint, credentials_file=file), clock) as db:
        await db.login()
    clients = [client(sharing(server.endpoint, file), clock) for _ in range(4)]

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr("prefixdb.client.login_file.fcntl.flock", refuse)
        await clients[0].get("k")  # Using a login takes no lock.
        clock.advance(PAST_END_MS)
        with pytest.raises(UnauthenticatedError, match="No locks available"):
            await clients[0].get("k")
    for round_number in (2, 3, 4):
        server.script(methods.REFRESH, refreshed(round_number, clock))
        assert await async_gather(lambda number: clients[number].get("k"), 4) == [b"v"] * 4
        clock.advance(PAST_END_MS)
    for db in clients:
        await db.close()
    assert shown(server) == ["refresh-1", "refresh-2", "refresh-3"]
    assert server.calls_of(methods.LOGOUT) == []


@async_test
async def test_a_call_whose_token_cannot_be_renewed_is_not_in_doubt(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path
) -> None:
    file = tmp_path / "a.login"
    async with client(alice(server.endpoint, credentials_file=file), clock) as db:
        await db.login()
    async with client(sharing(server.endpoint, file), clock) as db:
        clock.advance(PAST_END_MS)
        server.script(methods.REFRESH, Lose())
        with pytest.raises(UnavailableError, match="not sent") as caught:
            await db.put("k", b"v")
        assert caught.value.reason is Reason.UNREACHABLE
        assert server.calls_of(methods.PUT) == []
        assert shown(server) == ["refresh-1"], "not shown again in the same breath"
        # There is no password, and nothing to lose any more: either the first try did not arrive, or all is lost.
        server.script(methods.REFRESH, refreshed(2, clock))
        await db.put("k", b"v")
        assert server.calls[-1].token == "Bearer access-2"


@async_test
async def test_who_cannot_go_on_is_told_to_log_in_again(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path
) -> None:
    file = tmp_path / "a.login"
    async with client(sharing(server.endpoint, file), clock) as db:
        with pytest.raises(UnauthenticatedError, match=r"no login in .*a\.login: log in with"):
            await db.get("k")
    async with client(alice(server.endpoint, credentials_file=file), clock) as db:
        await db.login()
    async with client(sharing(server.endpoint, file), clock) as db:
        clock.advance(PAST_END_MS)
        server.script(methods.REFRESH, Refuse(Reason.TOKEN_REVOKED))
        with pytest.raises(UnauthenticatedError, match="has ended: log in again") as caught:
            await db.get("k")
        assert caught.value.reason is Reason.TOKEN_REVOKED
        assert server.calls_of(methods.GET) == []
        for _ in range(3):
            with pytest.raises(UnauthenticatedError):
                await db.get("k")
        assert len(shown(server)) == 1, "a dead refresh token is not shown again"
        # Somebody logs in again, into the same file: the client goes on.
        server.script(methods.LOGIN, login(7, clock))
        async with client(alice(server.endpoint, credentials_file=file), clock) as other:
            await other.login()
        await db.get("k")
        assert server.calls[-1].token == "Bearer access-7"


@async_test
async def test_a_token_for_another_namespace_is_exchanged_and_the_new_one_renewed(
    server: ScriptedServer, clock: HeldClock
) -> None:
    server.script(methods.LOGIN, login(1, clock, namespace=(0, "default")))
    server.script(methods.WHO_AM_I, identity((0, "default")))
    server.script(methods.EXCHANGE, exchanged(11, clock, (9, "sales")))
    async with client(alice(server.endpoint, home=0, namespace="sales"), clock) as db:
        await db.get("k")
        await db.get("k")
        assert server.calls[-1].token == "Bearer access-11"
        server.script(methods.EXCHANGE, exchanged(12, clock, (9, "sales")))
        server.script(methods.GET, Refuse(Reason.TOKEN_REVOKED), FOUND)
        await db.get("k")
        assert server.calls[-1].token == "Bearer access-12"
        clock.advance(NEAR_END_MS)
        server.script(methods.REFRESH, refreshed(2, clock, namespace=(0, "default")))
        server.script(methods.EXCHANGE, exchanged(13, clock, (9, "sales")))
        await db.get("k")
        assert server.calls[-1].token == "Bearer access-13"
    tokens = [call.token for call in server.calls_of(methods.EXCHANGE)]
    assert tokens == ["Bearer access-1", "Bearer access-1", "Bearer access-2"]
    assert {request.namespace.name for request in server.requests_of(methods.EXCHANGE)} == {"sales"}
    assert len(server.calls_of(methods.WHO_AM_I)) == 1


@async_test
async def test_an_exchange_that_fails_in_passing_does_not_stop_a_good_token(
    server: ScriptedServer, clock: HeldClock
) -> None:
    server.script(methods.WHO_AM_I, identity((0, "default")))
    server.script(methods.EXCHANGE, exchanged(11, clock, (9, "sales")))
    async with client(ClientOptions(server.endpoint, token="t", namespace="sales"), clock) as db:
        await db.get("k")
        clock.advance(NEAR_END_MS)
        server.script(methods.EXCHANGE, Refuse(Reason.DRAINING))
        await db.get("k")
        assert server.calls[-1].token == "Bearer access-11"
        clock.advance(60_000)
        with pytest.raises(UnavailableError):
            await db.get("k")


@async_test
async def test_what_may_not_be_exchanged_is_told_in_words(server: ScriptedServer, clock: HeldClock) -> None:
    server.script(methods.WHO_AM_I, identity((0, "default")))
    server.script(methods.EXCHANGE, Refuse(Reason.NOT_PERMITTED))
    async with client(alice(server.endpoint, home=0, namespace="sales"), clock) as db:
        with pytest.raises(PermissionDeniedError, match=r"may not use namespace 'sales'.*namespaces\.use"):
            await db.get("k")
    server.script(methods.WHO_AM_I, identity((5, "acme"), home=5))
    async with client(alice(server.endpoint, namespace="sales"), clock) as db:
        with pytest.raises(PermissionDeniedError, match="for namespace 'acme', not for 'sales'"):
            await db.get("k")
    assert server.calls_of(methods.GET) == []


@async_test
async def test_a_shared_login_that_leads_elsewhere_now_is_noticed(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path
) -> None:
    file = tmp_path / "a.login"
    server.script(methods.WHO_AM_I, identity((5, "acme"), home=5))
    async with client(alice(server.endpoint, credentials_file=file), clock) as other:
        await other.login()
        async with client(sharing(server.endpoint, file, namespace="acme"), clock) as db:
            await db.get("k")
            server.script(methods.LOGIN, login(2, clock, namespace=(6, "other")))
            server.script(methods.WHO_AM_I, identity((6, "other"), home=6))
            await other.login()
            clock.advance(NEAR_END_MS)
            with pytest.raises(PermissionDeniedError, match="for namespace 'other', not for 'acme'"):
                await db.put("k", b"v")
    assert server.calls_of(methods.PUT) == []


@async_test
async def test_nothing_is_spent_when_the_new_tokens_could_not_be_kept(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.login"
    server.script(methods.REFRESH, refreshed(2, clock))
    async with client(alice(server.endpoint, credentials_file=file), clock) as other:
        await other.login()
    async with client(sharing(server.endpoint, file), clock) as db:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("prefixdb.client.login_file.os.posix_fallocate", full)
            clock.advance(NEAR_END_MS)
            await db.get("k")
            clock.advance(60_000)
            with pytest.raises(UnauthenticatedError, match="No space left"):
                await db.get("k")
            assert shown(server) == []
        server.script(methods.REFRESH, refreshed(2, clock))
        with monkeypatch.context() as patch:
            patch.setattr(LoginFile, "write", full)
            with pytest.raises(UnauthenticatedError, match=r"could not be kept.*Only this client has it"):
                await db.get("k")
        assert LoginFile(file).read().refresh == "refresh-1"
        await db.get("k")
        assert server.calls[-1].token == "Bearer access-2"
        clock.advance(PAST_END_MS)
        server.script(methods.REFRESH, refreshed(3, clock))
        await db.get("k")
        assert LoginFile(file).read().refresh == "refresh-3"
    assert shown(server) == ["refresh-1", "refresh-2"]


@async_test
async def test_a_login_of_somebody_else_is_neither_used_nor_overwritten_unasked(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path
) -> None:
    file = tmp_path / "a.login"
    async with client(alice(server.endpoint, credentials_file=file), clock) as db:
        await db.get("k")
    bob = ClientOptions(server.endpoint, user="bob", password="battery staple", credentials_file=file)
    async with client(bob, clock) as db:
        with pytest.raises(InvalidArgumentError, match="another user"):
            await db.get("k")
        assert LoginFile(file).read().user == "alice"
        server.script(methods.LOGIN, login(2, clock))
        assert (await db.login()).user == "bob"
        await db.get("k")
    assert LoginFile(file).read().user == "bob"
    assert len(server.calls_of(methods.LOGIN)) == 2
    file.write_text("damaged")
    async with client(bob, clock) as db:
        with pytest.raises(UnauthenticatedError, match="holds no login"):
            await db.get("k")
        await db.login()
        await db.get("k")


@async_test
async def test_closing_ends_a_login_that_is_kept_nowhere_and_no_other(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path
) -> None:
    async with client(alice(server.endpoint), clock) as db:
        await db.get("k")
    [request] = server.requests_of(methods.LOGOUT)
    assert (request.refresh_token, request.everywhere) == ("refresh-1", False)
    async with client(alice(server.endpoint, credentials_file=tmp_path / "a.login"), clock) as db:
        await db.get("k")
    async with client(alice(server.endpoint), clock):
        pass
    assert len(server.calls_of(methods.LOGOUT)) == 1
    server.script(methods.LOGOUT, Hang())
    db = client(alice(server.endpoint, deadline_s=0.1), clock)
    await db.get("k")
    await db.close()
    await db.close()


@async_test
async def test_logging_out_forgets_the_login_and_the_password_is_not_used_behind_ones_back(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path
) -> None:
    file = tmp_path / "a.login"
    async with client(alice(server.endpoint, credentials_file=file), clock) as db:
        await db.get("k")
        assert file.exists()
        await db.logout(everywhere=True)
        assert not file.exists()
        with pytest.raises(UnauthenticatedError, match="has logged out"):
            await db.get("k")
        [request] = server.requests_of(methods.LOGOUT)
        assert (request.refresh_token, request.everywhere) == ("refresh-1", True)
        await db.login()
        await db.get("k")
    async with client(ClientOptions(server.endpoint, token="t"), clock) as db:
        for refused in (db.logout, db.login):
            with pytest.raises(InvalidArgumentError):
                await refused()
    async with client(sharing(server.endpoint, tmp_path / "none"), clock) as db:
        with pytest.raises(UnauthenticatedError, match="no login"):
            await db.logout()
