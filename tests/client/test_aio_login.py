"""Goal: a login renews itself in time and once, survives lost answers, and a spent refresh token is not shown again.

Method: a server that plays a script and a clock in the test's hand; the server remembers which token every call had.
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
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from prefixdb.v1 import auth_pb2
from prefixdb.v1.key_value_pb2 import GetResponse, PutResponse
from tests.client.harness import async_gather, async_test
from tests.client.logins import LIFETIME_S, alice, exchanged, identity, login, pair, refreshed, sharing
from tests.support.clocks import HeldClock
from tests.support.scripted_server import Answer, Hang, Lose, Refuse, ScriptedServer

FOUND = Answer(GetResponse(found=True, value=b"v", version=7))
APPLIED = Answer(PutResponse(applied=True, version=8))
DONE = Answer(auth_pb2.LogoutResponse())
NEAR_END_MS = (LIFETIME_S - 30) * 1000
PAST_END_MS = (LIFETIME_S + 1) * 1000


def client(options: ClientOptions, clock: HeldClock) -> AsyncDatabase:
    """Return a client whose time the test holds."""
    return AsyncDatabase(AsyncConnection(options, clock), options.database, options.deadline_s)


@pytest.fixture
def clock() -> HeldClock:
    """The client's time."""
    return HeldClock()


@pytest.fixture
def server(scripted: ScriptedServer, clock: HeldClock) -> ScriptedServer:
    """A server that lets anybody in."""
    scripted.script(methods.GET, FOUND)
    scripted.script(methods.PUT, APPLIED)
    scripted.script(methods.LOGIN, login(1, clock))
    scripted.script(methods.LOGOUT, DONE)
    return scripted


def shown(server: ScriptedServer) -> list[str]:
    """Return the refresh tokens the server was shown, in order."""
    return [request.refresh_token for request in server.requests_of(methods.REFRESH)]


@async_test
async def test_the_first_call_logs_in_and_later_ones_use_its_token(server: ScriptedServer, clock: HeldClock) -> None:
    async with client(alice(server.endpoint, home="default", namespace="acme"), clock) as db:
        server.script(methods.WHO_AM_I, identity((5, "acme")))
        assert server.calls == []
        await db.get("k")
        await db.get("k")
    [request] = server.requests_of(methods.LOGIN)
    assert (request.user, request.password) == ("alice", "correct horse")
    assert (request.namespace.name, request.into.name) == ("default", "acme")
    assert [call.token for call in server.calls_of(methods.GET)] == ["Bearer access-1"] * 2
    assert [call.token for call in server.calls_of(methods.LOGIN)] == [None]


@pytest.mark.parametrize(
    ("home", "namespace", "sent"),
    [(None, None, ("", "")), (None, "acme", ("acme", "")), ("acme", None, ("acme", "")), ("a", "b", ("a", "b"))],
)
@async_test
async def test_home_is_where_the_user_belongs_and_namespace_where_it_works(
    server: ScriptedServer, clock: HeldClock, home: str | None, namespace: str | None, sent: tuple[str, str]
) -> None:
    server.script(methods.WHO_AM_I, identity((5, namespace or "")))
    async with client(alice(server.endpoint, home=home, namespace=namespace), clock) as db:
        await db.get("k")
    [request] = server.requests_of(methods.LOGIN)
    assert (request.namespace.name, request.into.name) == sent


@async_test
async def test_a_token_is_renewed_before_its_end_and_each_refresh_token_is_spent_once(
    server: ScriptedServer, clock: HeldClock
) -> None:
    async with client(alice(server.endpoint), clock) as db:
        await db.get("k")
        for number in (2, 3, 4):
            server.script(methods.REFRESH, refreshed(number, clock))
            clock.advance((LIFETIME_S - 61) * 1000)
            await db.get("k")
            assert server.calls[-1].token == f"Bearer access-{number - 1}", "there is more than a minute left"
            clock.advance(2000)
            server.script(methods.REFRESH, refreshed(number, clock))
            await db.get("k")
            assert server.calls[-1].token == f"Bearer access-{number}"
    assert shown(server) == ["refresh-1", "refresh-2", "refresh-3"]
    assert len(server.calls_of(methods.LOGIN)) == 1


@async_test
async def test_many_callers_at_once_make_one_login_and_one_refresh(server: ScriptedServer, clock: HeldClock) -> None:
    async with client(alice(server.endpoint), clock) as db:
        assert await async_gather(lambda _: db.get("k"), 8) == [b"v"] * 8
        clock.advance(PAST_END_MS)
        server.script(methods.REFRESH, refreshed(2, clock))
        assert await async_gather(lambda _: db.get("k"), 8) == [b"v"] * 8
    assert len(server.calls_of(methods.LOGIN)) == 1
    assert shown(server) == ["refresh-1"]


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
async def test_who_hears_late_that_a_token_is_refused_does_not_renew_the_next_one(
    server: ScriptedServer, clock: HeldClock
) -> None:
    async with client(alice(server.endpoint), clock) as db:
        await db.get("k")
        server.script(methods.REFRESH, refreshed(2, clock))
        for _ in range(3):
            assert await db._connection.renew("access-1")
        await db.get("k")
        assert server.calls[-1].token == "Bearer access-2"
    assert shown(server) == ["refresh-1"]


@pytest.mark.parametrize("reason", [Reason.TOKEN_EXPIRED, Reason.TOKEN_INVALID, Reason.TOKEN_REVOKED])
@async_test
async def test_a_token_that_is_refused_is_renewed_once_and_the_call_made_again(
    server: ScriptedServer, clock: HeldClock, reason: Reason
) -> None:
    server.script(methods.REFRESH, refreshed(2, clock))
    async with client(alice(server.endpoint), clock) as db:
        await db.get("k")
        server.script(methods.PUT, Refuse(reason), APPLIED)
        assert await db.put("k", b"v") == 8
        assert [call.token for call in server.calls_of(methods.PUT)] == ["Bearer access-1", "Bearer access-2"]
        server.script(methods.REFRESH, refreshed(3, clock))
        server.script(methods.PUT, Refuse(reason))
        with pytest.raises(UnauthenticatedError) as caught:
            await db.put("k", b"v")
        assert caught.value.reason is reason
    assert len(server.calls_of(methods.PUT)) == 4, "twice, and not for ever"


@pytest.mark.parametrize("reason", [Reason.TOKEN_REVOKED, Reason.TOKEN_EXPIRED, Reason.TOKEN_INVALID])
@async_test
async def test_a_dead_refresh_token_leads_to_the_password(
    server: ScriptedServer, clock: HeldClock, reason: Reason
) -> None:
    server.script(methods.REFRESH, Refuse(reason))
    async with client(alice(server.endpoint), clock) as db:
        await db.get("k")
        clock.advance(PAST_END_MS)
        server.script(methods.LOGIN, login(2, clock))
        await db.get("k")
    assert server.calls_of(methods.GET)[-1].token == "Bearer access-2"
    assert len(server.calls_of(methods.LOGIN)) == 2
    assert shown(server) == ["refresh-1"]


@async_test
async def test_a_lost_answer_costs_nothing_while_the_token_is_good_and_then_the_password_is_used(
    server: ScriptedServer, clock: HeldClock
) -> None:
    server.script(methods.REFRESH, Lose())
    async with client(alice(server.endpoint), clock) as db:
        await db.get("k")
        clock.advance(NEAR_END_MS)
        await db.get("k")
        clock.advance(10_000)
        await db.get("k")
        assert shown(server) == ["refresh-1"], "it may have been spent: not again while the token is good"
        assert server.calls[-1].token == "Bearer access-1"
        clock.advance(30_000)
        server.script(methods.LOGIN, login(2, clock))
        await db.get("k")
        assert server.calls[-1].token == "Bearer access-2"
    assert shown(server) == ["refresh-1"]


@async_test
async def test_a_lost_answer_without_any_good_token_leads_to_the_password_at_once(
    server: ScriptedServer, clock: HeldClock
) -> None:
    async with client(alice(server.endpoint), clock) as db:
        await db.get("k")
        clock.advance(PAST_END_MS)
        server.script(methods.REFRESH, Lose())
        server.script(methods.LOGIN, login(2, clock))
        await db.get("k")
        assert server.calls[-1].token == "Bearer access-2"
    assert shown(server) == ["refresh-1"]


@async_test
async def test_a_refusal_that_spent_nothing_is_tried_again_later(server: ScriptedServer, clock: HeldClock) -> None:
    server.script(methods.REFRESH, Refuse(Reason.DRAINING))
    async with client(alice(server.endpoint), clock) as db:
        await db.get("k")
        clock.advance(NEAR_END_MS)
        await db.get("k")
        await db.get("k")
        assert len(shown(server)) == 1, "not with every call"
        clock.advance(5_000)
        server.script(methods.REFRESH, refreshed(2, clock))
        await db.get("k")
        assert server.calls[-1].token == "Bearer access-2"
    assert shown(server) == ["refresh-1", "refresh-1"]


@async_test
async def test_without_any_good_token_a_restarting_server_is_waited_for(
    server: ScriptedServer, clock: HeldClock
) -> None:
    async with client(alice(server.endpoint), clock) as db:
        server.script(methods.LOGIN, Lose(), Refuse(Reason.STARTING, retry_after_ms=1), login(1, clock))
        await db.get("k")
        clock.advance(PAST_END_MS)
        server.script(methods.REFRESH, Refuse(Reason.STARTING, retry_after_ms=1), refreshed(2, clock))
        await db.put("k", b"v")
    assert shown(server) == ["refresh-1", "refresh-1"]


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
async def test_a_password_that_was_refused_is_not_sent_again_at_once(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong\n")
    server.script(methods.LOGIN, Refuse(Reason.BAD_CREDENTIALS))
    async with client(ClientOptions(server.endpoint, user="alice", password_file=file), clock) as db:
        for _ in range(3):
            with pytest.raises(UnauthenticatedError) as caught:
                await db.get("k")
            assert caught.value.reason is Reason.BAD_CREDENTIALS
        assert len(server.calls_of(methods.LOGIN)) == 1
        clock.advance(31_000)
        with pytest.raises(UnauthenticatedError):
            await db.get("k")
        assert len(server.calls_of(methods.LOGIN)) == 2
        file.write_text("right\r\nsecond line\n")
        server.script(methods.LOGIN, login(1, clock))
        await db.get("k")
    assert [request.password for request in server.requests_of(methods.LOGIN)] == ["wrong", "wrong", "right"]


@async_test
async def test_a_throttled_login_waits_as_long_as_the_server_asks(server: ScriptedServer, clock: HeldClock) -> None:
    server.script(methods.LOGIN, Refuse(Reason.RATE_LIMITED, retry_after_ms=8000))
    async with client(alice(server.endpoint), clock) as db:
        for wait_ms in (8000, 3000):
            with pytest.raises(ResourceExhaustedError) as caught:
                await db.get("k")
            assert caught.value.retry_after_ms == wait_ms
            clock.advance(5000)
        assert len(server.calls_of(methods.LOGIN)) == 1
        server.script(methods.LOGIN, login(1, clock))
        await db.get("k")


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


@async_test
async def test_a_changed_password_is_the_one_for_the_next_login(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("old password\n")
    changed = Answer(auth_pb2.ChangePasswordResponse(tokens=pair(5, clock)))
    server.script(methods.CHANGE_PASSWORD, changed)
    async with client(ClientOptions(server.endpoint, user="alice", password_file=file), clock) as db:
        await db.change_password("old password", "new password")
        await db.get("k")
        assert server.calls[-1].token == "Bearer access-5"
        [request] = server.requests_of(methods.CHANGE_PASSWORD)
        assert (request.old_password, request.new_password) == ("old password", "new password")
        server.script(methods.REFRESH, Refuse(Reason.TOKEN_REVOKED))
        server.script(methods.LOGIN, login(6, clock))
        clock.advance(PAST_END_MS)
        await db.get("k")
        assert server.requests_of(methods.LOGIN)[-1].password == "new password"
        for wrong in ("", "x\ud800"):
            with pytest.raises(InvalidArgumentError):
                await db.change_password("old password", wrong)


@async_test
async def test_a_wrong_old_password_is_told_and_costs_no_login(server: ScriptedServer, clock: HeldClock) -> None:
    server.script(methods.CHANGE_PASSWORD, Refuse(Reason.BAD_CREDENTIALS))
    async with client(alice(server.endpoint), clock) as db:
        with pytest.raises(UnauthenticatedError) as caught:
            await db.change_password("wrong", "new password")
        assert caught.value.reason is Reason.BAD_CREDENTIALS
        assert len(server.calls_of(methods.CHANGE_PASSWORD)) == 1
        server.script(methods.REFRESH, refreshed(2, clock))
        changed = Answer(auth_pb2.ChangePasswordResponse(tokens=pair(5, clock)))
        server.script(methods.CHANGE_PASSWORD, Refuse(Reason.TOKEN_EXPIRED), changed)
        await db.change_password("correct horse", "new password")
        assert server.calls[-1].token == "Bearer access-2"


@async_test
async def test_no_password_and_no_refresh_token_travels_readable(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path
) -> None:
    async with client(ClientOptions("192.0.2.1:1"), clock) as db:
        for send in (
            lambda: db.guardian.members.create("bob", password="password"),
            lambda: db.guardian.members.set_password("bob", "password"),
            lambda: db.guardian.namespaces.create("n", guardian=("bob", "password")),
        ):
            with pytest.raises(InvalidArgumentError, match="readable"):
                await send()


@async_test
async def test_nothing_that_is_shown_has_a_secret(server: ScriptedServer, clock: HeldClock, tmp_path: Path) -> None:
    file = tmp_path / "a.login"
    async with client(alice(server.endpoint, credentials_file=file), clock) as db:
        await db.get("k")
        access = db._connection._access
        parts = [db, db.options, access, access._login, access._login._state, access._login._password]
        text = " ".join(map(repr, [*parts, LoginFile(file), LoginFile(file).read(), await db.login()]))
        for secret in ("correct horse", "access-1", "refresh-1"):
            assert secret not in text
        server.script(methods.GET, Refuse(Reason.TOKEN_REVOKED))
        server.script(methods.REFRESH, Refuse(Reason.TOKEN_REVOKED))
        server.script(methods.LOGIN, Refuse(Reason.BAD_CREDENTIALS))
        with pytest.raises(UnauthenticatedError) as caught:
            await db.get("k")
        for secret in ("correct horse", "access-1", "refresh-1"):
            assert secret not in f"{caught.value!r} {caught.value} {caught.value.metadata}"
