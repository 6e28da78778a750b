"""Goal: what is decided about a login is right in every order of events; files of logins are private, whole and shared.

Method: the decisions are walked at random beside a model of the server that counts every refresh token it is shown; the
file is looked at from outside. A caller that goes away in the middle of a refresh is played by cancelling its task.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from prefixdb.client import login_file, methods
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.aio.database import AsyncDatabase
from prefixdb.client.credentials import Password
from prefixdb.client.login_file import LoginFile
from prefixdb.client.logins import AccessToken, LoginState, LoginTokens, Step, access_of
from prefixdb.client.profiles import write_private
from prefixdb.errors import Reason, UnauthenticatedError, error
from prefixdb.v1 import auth_pb2
from prefixdb.v1.key_value_pb2 import GetResponse
from tests.client.logins import LIFETIME_S, alice, login, refreshed
from tests.support.clocks import HeldClock
from tests.support.scripted_server import Answer, ScriptedServer

LIFE_S = 100.0


class Model:
    """A server with one login: which refresh token is good, which were spent, and whether the login has ended."""

    def __init__(self) -> None:
        self.serial = 0
        self.good = ""
        self.spent: set[str] = set()
        self.alive = False

    def begin(self, now_s: float) -> LoginTokens:
        """Begin a login."""
        self.alive = True
        return self._next(now_s)

    def refresh(self, shown: str, now_s: float) -> LoginTokens | None:
        """Spend a refresh token; None when that ends the login, or it has ended."""
        if shown in self.spent:
            self.alive = False
        if not self.alive or shown != self.good:
            return None
        self.spent.add(shown)
        return self._next(now_s)

    def _next(self, now_s: float) -> LoginTokens:
        self.serial += 1
        self.good = f"r{self.serial}"
        return held(self.serial, now_s)


def held(number: int, now_s: float) -> LoginTokens:
    """Return tokens that came at ``now_s``."""
    access = AccessToken(f"a{number}", now_s + LIFE_S * 0.75, now_s + LIFE_S)
    return LoginTokens(access, f"r{number}", datetime(2030, 1, 1, tzinfo=UTC), "alice", None, 5, "acme")


@pytest.mark.parametrize("has_password", [False, True])
@pytest.mark.parametrize("seed", range(150))
def test_no_order_of_events_shows_a_spent_token_while_that_could_do_harm(has_password: bool, seed: int) -> None:
    chance = random.Random(seed)
    server, state, now_s = Model(), LoginState(has_password=has_password), 0.0
    state.adopt(server.begin(now_s))
    for _ in range(60):
        now_s += chance.choice([0.0, 1.0, 10.0, 30.0, LIFE_S])
        if chance.random() < 0.1 and state.tokens is not None:
            state.refuse(state.tokens.access.text)
        for _ in range(4):
            step = state.step(now_s)
            tokens = state.tokens
            if step is Step.LOG_IN:
                assert has_password
                state.adopt(server.begin(now_s))
                assert state.step(now_s) is Step.USE
            elif step is Step.GIVE_UP:
                assert not has_password
                state.adopt(server.begin(now_s))  # Somebody logged in by hand.
            elif step is Step.USE:
                assert tokens is not None
                assert now_s < tokens.access.expires_at_s
                assert state.ready(now_s) == tokens.access.text
                break
            else:
                assert tokens is not None
                if tokens.refresh in server.spent:
                    assert not has_password, "with a password there is another way"
                    assert not state.postpone(now_s), "the access token could still be used"
                if not play_refresh(chance, server, state, now_s):
                    break


def play_refresh(chance: random.Random, server: Model, state: LoginState, now_s: float) -> bool:
    """Let a refresh end in one of the ways it can; True when the caller has something else to do."""
    assert state.tokens is not None
    shown = state.tokens.refresh
    way = chance.choice(["answered", "answered", "lost before", "lost after", "refused"])
    if way == "refused":
        return state.refresh_failed(error(Reason.DRAINING), now_s)
    if way == "lost before":
        return state.refresh_failed(error(Reason.OUTCOME_UNKNOWN), now_s)
    answer = server.refresh(shown, now_s)
    if way == "lost after":
        return state.refresh_failed(error(Reason.DEADLINE), now_s)
    if answer is None:
        return state.refresh_failed(error(Reason.TOKEN_REVOKED), now_s)
    state.adopt(answer)
    assert state.step(now_s) is Step.USE
    assert state.step(answer.access.renew_at_s) is Step.REFRESH, "nothing of before is held against the new ones"
    return True


def test_a_token_lives_as_long_as_it_says_whatever_the_clocks_show() -> None:
    import base64

    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    server_s = 2_000_000_000
    token = f"{part({})}.{part({'iat': server_s, 'exp': server_s + 900})}.sig"
    message = auth_pb2.Tokens(access_token=token)
    message.access_expires_at.FromDatetime(datetime.fromtimestamp(server_s + 900, UTC))
    for now_s in (1000.0, 3e9):
        access = access_of(message, now_s)
        assert (access.renew_at_s, access.expires_at_s) == (now_s + 840, now_s + 900)
    message.access_token = "unreadable"
    assert access_of(message, server_s + 800.0).expires_at_s == server_s + 900
    late = access_of(message, server_s + 5000.0)
    assert server_s + 5000 < late.renew_at_s < late.expires_at_s, "it is tried at least once"


@pytest.mark.parametrize("goes_away", [False, True])
def test_a_refresh_goes_on_when_its_caller_goes_away(scripted: ScriptedServer, goes_away: bool) -> None:
    clock = HeldClock()
    scripted.script(methods.GET, Answer(GetResponse(found=True, value=b"v")))
    scripted.script(methods.LOGIN, login(1, clock))
    scripted.script(methods.LOGOUT, Answer(auth_pb2.LogoutResponse()))

    async def scenario() -> None:
        db = AsyncDatabase(AsyncConnection(alice(scripted.endpoint), clock), 0, 5.0)
        await db.get("k")
        clock.advance(LIFETIME_S * 1000 + 1)
        scripted.script(methods.REFRESH, refreshed(2, clock))
        answered, let_go = asyncio.Event(), asyncio.Event()
        inner: Any = db._connection._access._login
        send = inner._send

        async def slow(method: Any, *arguments: Any) -> Any:
            answer = await send(method, *arguments)
            if method is methods.REFRESH:
                answered.set()
                await let_go.wait()
            return answer

        inner._send = slow
        first = asyncio.create_task(db.get("k"))
        await answered.wait()
        if goes_away:
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
        second = asyncio.create_task(db.get("k"))
        await asyncio.sleep(0)
        let_go.set()
        assert await second == b"v"
        await db.close()

    asyncio.run(scenario())
    assert [request.refresh_token for request in scripted.requests_of(methods.REFRESH)] == ["refresh-1"]
    assert len(scripted.calls_of(methods.LOGIN)) == 1
    assert scripted.calls_of(methods.GET)[-1].token == "Bearer access-2"
    [goodbye] = scripted.requests_of(methods.LOGOUT)
    assert goodbye.refresh_token == "refresh-2", "closing waited for the refresh"


def written(path: Path, tokens: LoginTokens) -> LoginFile:
    """Return a file that holds ``tokens``."""
    file = LoginFile(path)
    assert file.try_lock()
    file.prepare()
    file.write(tokens)
    file.unlock()
    return file


@pytest.mark.parametrize("home", [None, 0, 2**64 - 2, "default", "5"])
def test_a_login_survives_its_file(tmp_path: Path, home: int | str | None) -> None:
    tokens = dataclasses.replace(held(1, 1e9), home=home, namespace_id=2**64 - 2, namespace_name='a"\nü')
    file = written(tmp_path / "new" / "a.login", tokens)
    assert file.read() == tokens
    assert LoginFile(tmp_path / "none").read() is None
    assert written(file.path, dataclasses.replace(tokens, refresh_expires_at=None)).read() != tokens


def test_a_login_file_is_private_and_replaced_whole_also_behind_a_link(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = written(tmp_path / "new" / "a.login", held(1, 0))
    finally:
        os.umask(before)
    entries = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in file.path.parent.iterdir()}
    assert entries == {"a.login": 0o600, "a.login.lock": 0o600}
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    file.path.chmod(0o644)
    (tmp_path / "link").symlink_to(file.path)
    with file.path.open() as reader:
        written(tmp_path / "link", held(2, 0))
        assert "r1" in reader.read(), "a reader has the old one or the new one, whole"
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.read() == held(2, 0)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"7", b"{}", b"\xff", b"[" * 100_000, b'{"user": "a"}', b"r1 secret"],
)
def test_a_damaged_login_is_said_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.login"
    path.write_bytes(content)
    with pytest.raises(UnauthenticatedError, match=r"a\.login holds no login; write it anew") as caught:
        LoginFile(path).read()
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("access_token", "two words"), ("refresh_token", "a\nb"), ("refresh_token", 7), ("refresh_token", ""),
        ("home", True), ("home", []), ("user", None), ("namespace_id", "x"), ("access_expires_at_s", "soon"),
        ("refresh_expires_at", "tomorrow"), ("namespace", 5),
    ],
)  # fmt: skip
def test_every_field_of_a_login_is_checked(tmp_path: Path, name: str, wrong: object) -> None:
    file = written(tmp_path / "a.login", held(1, 0))
    content = json.loads(file.path.read_text())
    assert name in content
    write_private(file.path, json.dumps(content | {name: wrong}))
    with pytest.raises(UnauthenticatedError, match="holds no login"):
        file.read()


def test_one_at_a_time_has_the_lock(tmp_path: Path) -> None:
    first, second = LoginFile(tmp_path / "a.login"), LoginFile(tmp_path / "a.login")
    assert first.try_lock()
    assert not second.try_lock()
    second.unlock()
    assert not second.try_lock()
    first.unlock()
    assert second.try_lock()
    second.unlock()


def test_what_could_not_be_kept_is_noticed_before_anything_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "a.login", held(1, 0))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    assert file.try_lock()
    monkeypatch.setattr(login_file.os, "posix_fallocate", full)
    with pytest.raises(UnauthenticatedError, match=r"cannot be renewed.*No space left"):
        file.prepare()
    file.unlock()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.login", "a.login.lock"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UnauthenticatedError, match="cannot be renewed"):
        LoginFile(tmp_path / "file" / "a.login").try_lock()


def test_a_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    for content, password in ((b" a b \n", " a b "), (b"x\r\ny", "x"), ("ü".encode(), "ü")):
        path.write_bytes(content)
        assert Password(None, path).read() == password
    for content in (b"", b"\nsecond", b"\xff\xfe\n"):
        path.write_bytes(content)
        with pytest.raises(UnauthenticatedError):
            Password(None, path).read()
    with pytest.raises(UnauthenticatedError, match="none cannot be read"):
        Password(None, tmp_path / "none").read()


def test_a_password_that_was_changed_wins_over_a_file_that_is_behind(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("old")
    password = Password(None, path)
    password.replace("old", "new")
    assert password.read() == "new"
    path.write_text("newest")
    assert password.read() == "newest"
    assert "new" not in repr(password)
