# Generated from tests/client/test_aio_login.py by tools/async_to_sync.py; do not edit.
"""Goal: a login renews itself in time and once, survives lost answers, and a spent refresh token is not shown again.

Method: a server that plays a script and a clock in the test's hand; the server remembers which token every call had.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from prefixdb.client import methods
from prefixdb.client.login_file import LoginFile
from prefixdb.client.options import ClientOptions
from prefixdb.client.sync.connection import Connection
from prefixdb.client.sync.database import Database
from prefixdb.errors import (
    InvalidArgumentError,
    Reason,
    ResourceExhaustedError,
    UnauthenticatedError,
)
from prefixdb.v1 import auth_pb2
from tests.client.harness import sync_gather, sync_test
from tests.client.logins import (
    APPLIED,
    LIFETIME_S,
    NEAR_END_MS,
    PAST_END_MS,
    alice,
    identity,
    login,
    pair,
    refreshed,
    shown,
)
from tests.support.clocks import HeldClock
from tests.support.scripted_server import Answer, Lose, Refuse, ScriptedServer


def client(options: ClientOptions, clock: HeldClock) -> Database:
    """Return a client whose time the test holds."""
    return Database(Connection(options, clock), options.database, options.deadline_s)


@sync_test
def test_the_first_call_logs_in_and_later_ones_use_its_token(server: ScriptedServer, clock: HeldClock) -> None:
    with client(alice(server.endpoint, home="default", namespace="acme"), clock) as db:
        server.script(methods.WHO_AM_I, identity((5, "acme")))
        assert server.calls == []
        db.get("k")
        db.get("k")
    [request] = server.requests_of(methods.LOGIN)
    assert (request.user, request.password) == ("alice", "correct horse")
    assert (request.namespace.name, request.into.name) == ("default", "acme")
    assert [call.token for call in server.calls_of(methods.GET)] == ["Bearer access-1"] * 2
    assert [call.token for call in server.calls_of(methods.LOGIN)] == [None]


@pytest.mark.parametrize(
    ("home", "namespace", "sent"),
    [(None, None, ("", "")), (None, "acme", ("acme", "")), ("acme", None, ("acme", "")), ("a", "b", ("a", "b"))],
)
@sync_test
def test_home_is_where_the_user_belongs_and_namespace_where_it_works(
    server: ScriptedServer, clock: HeldClock, home: str | None, namespace: str | None, sent: tuple[str, str]
) -> None:
    server.script(methods.WHO_AM_I, identity((5, namespace or "")))
    with client(alice(server.endpoint, home=home, namespace=namespace), clock) as db:
        db.get("k")
    [request] = server.requests_of(methods.LOGIN)
    assert (request.namespace.name, request.into.name) == sent


@sync_test
def test_a_token_is_renewed_before_its_end_and_each_refresh_token_is_spent_once(
    server: ScriptedServer, clock: HeldClock
) -> None:
    with client(alice(server.endpoint), clock) as db:
        db.get("k")
        for number in (2, 3, 4):
            server.script(methods.REFRESH, refreshed(number, clock))
            clock.advance((LIFETIME_S - 61) * 1000)
            db.get("k")
            assert server.calls[-1].token == f"Bearer access-{number - 1}", "there is more than a minute left"
            clock.advance(2000)
            server.script(methods.REFRESH, refreshed(number, clock))
            db.get("k")
            assert server.calls[-1].token == f"Bearer access-{number}"
    assert shown(server) == ["refresh-1", "refresh-2", "refresh-3"]
    assert len(server.calls_of(methods.LOGIN)) == 1


@sync_test
def test_many_callers_at_once_make_one_login_and_one_refresh(server: ScriptedServer, clock: HeldClock) -> None:
    with client(alice(server.endpoint), clock) as db:
        assert sync_gather(lambda _: db.get("k"), 8) == [b"v"] * 8
        clock.advance(PAST_END_MS)
        server.script(methods.REFRESH, refreshed(2, clock))
        assert sync_gather(lambda _: db.get("k"), 8) == [b"v"] * 8
    assert len(server.calls_of(methods.LOGIN)) == 1
    assert shown(server) == ["refresh-1"]


@sync_test
def test_who_hears_late_that_a_token_is_refused_does_not_renew_the_next_one(
    server: ScriptedServer, clock: HeldClock
) -> None:
    with client(alice(server.endpoint), clock) as db:
        db.get("k")
        server.script(methods.REFRESH, refreshed(2, clock))
        for _ in range(3):
            assert db._connection.renew("access-1")
        db.get("k")
        assert server.calls[-1].token == "Bearer access-2"
    assert shown(server) == ["refresh-1"]


@pytest.mark.parametrize("reason", [Reason.TOKEN_EXPIRED, Reason.TOKEN_INVALID, Reason.TOKEN_REVOKED])
@sync_test
def test_a_token_that_is_refused_is_renewed_once_and_the_call_made_again(
    server: ScriptedServer, clock: HeldClock, reason: Reason
) -> None:
    server.script(methods.REFRESH, refreshed(2, clock))
    with client(alice(server.endpoint, gather=False), clock) as db:
        db.get("k")
        server.script(methods.PUT, Refuse(reason), APPLIED)
        assert db.put("k", b"v") == 8
        assert [call.token for call in server.calls_of(methods.PUT)] == ["Bearer access-1", "Bearer access-2"]
        server.script(methods.REFRESH, refreshed(3, clock))
        server.script(methods.PUT, Refuse(reason))
        with pytest.raises(UnauthenticatedError) as caught:
            db.put("k", b"v")
        assert caught.value.reason is reason
    assert len(server.calls_of(methods.PUT)) == 4, "twice, and not for ever"


@pytest.mark.parametrize("reason", [Reason.TOKEN_REVOKED, Reason.TOKEN_EXPIRED, Reason.TOKEN_INVALID])
@sync_test
def test_a_dead_refresh_token_leads_to_the_password(server: ScriptedServer, clock: HeldClock, reason: Reason) -> None:
    server.script(methods.REFRESH, Refuse(reason))
    with client(alice(server.endpoint), clock) as db:
        db.get("k")
        clock.advance(PAST_END_MS)
        server.script(methods.LOGIN, login(2, clock))
        db.get("k")
    assert server.calls_of(methods.GET)[-1].token == "Bearer access-2"
    assert len(server.calls_of(methods.LOGIN)) == 2
    assert shown(server) == ["refresh-1"]


@sync_test
def test_a_lost_answer_costs_nothing_while_the_token_is_good_and_then_the_password_is_used(
    server: ScriptedServer, clock: HeldClock
) -> None:
    server.script(methods.REFRESH, Lose())
    with client(alice(server.endpoint), clock) as db:
        db.get("k")
        clock.advance(NEAR_END_MS)
        db.get("k")
        clock.advance(10_000)
        db.get("k")
        assert shown(server) == ["refresh-1"], "it may have been spent: not again while the token is good"
        assert server.calls[-1].token == "Bearer access-1"
        clock.advance(30_000)
        server.script(methods.LOGIN, login(2, clock))
        db.get("k")
        assert server.calls[-1].token == "Bearer access-2"
    assert shown(server) == ["refresh-1"]


@sync_test
def test_a_lost_answer_without_any_good_token_leads_to_the_password_at_once(
    server: ScriptedServer, clock: HeldClock
) -> None:
    with client(alice(server.endpoint), clock) as db:
        db.get("k")
        clock.advance(PAST_END_MS)
        server.script(methods.REFRESH, Lose())
        server.script(methods.LOGIN, login(2, clock))
        db.get("k")
        assert server.calls[-1].token == "Bearer access-2"
    assert shown(server) == ["refresh-1"]


@sync_test
def test_a_refusal_that_spent_nothing_is_tried_again_later(server: ScriptedServer, clock: HeldClock) -> None:
    server.script(methods.REFRESH, Refuse(Reason.DRAINING))
    with client(alice(server.endpoint), clock) as db:
        db.get("k")
        clock.advance(NEAR_END_MS)
        db.get("k")
        db.get("k")
        assert len(shown(server)) == 1, "not with every call"
        clock.advance(5_000)
        server.script(methods.REFRESH, refreshed(2, clock))
        db.get("k")
        assert server.calls[-1].token == "Bearer access-2"
    assert shown(server) == ["refresh-1", "refresh-1"]


@sync_test
def test_without_any_good_token_a_restarting_server_is_waited_for(server: ScriptedServer, clock: HeldClock) -> None:
    with client(alice(server.endpoint), clock) as db:
        server.script(methods.LOGIN, Lose(), Refuse(Reason.STARTING, retry_after_ms=1), login(1, clock))
        db.get("k")
        clock.advance(PAST_END_MS)
        server.script(methods.REFRESH, Refuse(Reason.STARTING, retry_after_ms=1), refreshed(2, clock))
        db.put("k", b"v")
    assert shown(server) == ["refresh-1", "refresh-1"]


@sync_test
def test_a_password_that_was_refused_is_not_sent_again_at_once(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong\n")
    server.script(methods.LOGIN, Refuse(Reason.BAD_CREDENTIALS))
    with client(ClientOptions(server.endpoint, user="alice", password_file=file), clock) as db:
        for _ in range(3):
            with pytest.raises(UnauthenticatedError) as caught:
                db.get("k")
            assert caught.value.reason is Reason.BAD_CREDENTIALS
        assert len(server.calls_of(methods.LOGIN)) == 1
        clock.advance(31_000)
        with pytest.raises(UnauthenticatedError):
            db.get("k")
        assert len(server.calls_of(methods.LOGIN)) == 2
        file.write_text("right\r\nsecond line\n")
        server.script(methods.LOGIN, login(1, clock))
        db.get("k")
    assert [request.password for request in server.requests_of(methods.LOGIN)] == ["wrong", "wrong", "right"]


@sync_test
def test_a_throttled_login_waits_as_long_as_the_server_asks(server: ScriptedServer, clock: HeldClock) -> None:
    server.script(methods.LOGIN, Refuse(Reason.RATE_LIMITED, retry_after_ms=8000))
    with client(alice(server.endpoint), clock) as db:
        for wait_ms in (8000, 3000):
            with pytest.raises(ResourceExhaustedError) as caught:
                db.get("k")
            assert caught.value.retry_after_ms == wait_ms
            clock.advance(5000)
        assert len(server.calls_of(methods.LOGIN)) == 1
        server.script(methods.LOGIN, login(1, clock))
        db.get("k")


@sync_test
def test_a_scan_whose_every_token_is_refused_ends(server: ScriptedServer, clock: HeldClock) -> None:
    server.script(methods.SCAN, Refuse(Reason.TOKEN_INVALID), stream=True)
    server.script(methods.REFRESH, refreshed(2, clock))
    with client(alice(server.endpoint), clock) as db:
        with pytest.raises(UnauthenticatedError):
            _ = [key for key in db.scan(keys_only=True)]
    assert [call.token for call in server.calls_of(methods.SCAN)] == ["Bearer access-1", "Bearer access-2"]


@sync_test
def test_a_changed_password_is_the_one_for_the_next_login(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("old password\n")
    changed = Answer(auth_pb2.ChangePasswordResponse(tokens=pair(5, clock)))
    server.script(methods.CHANGE_PASSWORD, changed)
    with client(ClientOptions(server.endpoint, user="alice", password_file=file), clock) as db:
        db.change_password("old password", "new password")
        db.get("k")
        assert server.calls[-1].token == "Bearer access-5"
        [request] = server.requests_of(methods.CHANGE_PASSWORD)
        assert (request.old_password, request.new_password) == ("old password", "new password")
        server.script(methods.REFRESH, Refuse(Reason.TOKEN_REVOKED))
        server.script(methods.LOGIN, login(6, clock))
        clock.advance(PAST_END_MS)
        db.get("k")
        assert server.requests_of(methods.LOGIN)[-1].password == "new password"
        for wrong in ("", "x\ud800"):
            with pytest.raises(InvalidArgumentError):
                db.change_password("old password", wrong)


@sync_test
def test_a_wrong_old_password_is_told_and_costs_no_login(server: ScriptedServer, clock: HeldClock) -> None:
    server.script(methods.CHANGE_PASSWORD, Refuse(Reason.BAD_CREDENTIALS))
    with client(alice(server.endpoint), clock) as db:
        with pytest.raises(UnauthenticatedError) as caught:
            db.change_password("wrong", "new password")
        assert caught.value.reason is Reason.BAD_CREDENTIALS
        assert len(server.calls_of(methods.CHANGE_PASSWORD)) == 1
        server.script(methods.REFRESH, refreshed(2, clock))
        changed = Answer(auth_pb2.ChangePasswordResponse(tokens=pair(5, clock)))
        server.script(methods.CHANGE_PASSWORD, Refuse(Reason.TOKEN_EXPIRED), changed)
        db.change_password("correct horse", "new password")
        assert server.calls[-1].token == "Bearer access-2"


@sync_test
def test_no_password_and_no_refresh_token_travels_readable(
    server: ScriptedServer, clock: HeldClock, tmp_path: Path
) -> None:
    with client(ClientOptions("192.0.2.1:1"), clock) as db:
        for send in (
            lambda: db.guardian.members.create("bob", password="password"),
            lambda: db.guardian.members.set_password("bob", "password"),
            lambda: db.guardian.namespaces.create("n", guardian=("bob", "password")),
        ):
            with pytest.raises(InvalidArgumentError, match="readable"):
                send()


@sync_test
def test_nothing_that_is_shown_has_a_secret(server: ScriptedServer, clock: HeldClock, tmp_path: Path) -> None:
    file = tmp_path / "a.login"
    with client(alice(server.endpoint, credentials_file=file), clock) as db:
        db.get("k")
        access = db._connection._access
        parts = [db, db.options, access, access._login, access._login._state, access._login._password]
        text = " ".join(map(repr, [*parts, LoginFile(file), LoginFile(file).read(), db.login()]))
        for secret in ("correct horse", "access-1", "refresh-1"):
            assert secret not in text
        server.script(methods.GET, Refuse(Reason.TOKEN_REVOKED))
        server.script(methods.REFRESH, Refuse(Reason.TOKEN_REVOKED))
        server.script(methods.LOGIN, Refuse(Reason.BAD_CREDENTIALS))
        with pytest.raises(UnauthenticatedError) as caught:
            db.get("k")
        for secret in ("correct horse", "access-1", "refresh-1"):
            assert secret not in f"{caught.value!r} {caught.value} {caught.value.metadata}"
