"""Fixtures of the client's tests: a namespace of one's own on a real server, and a server that plays a script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from prefixdb.client import methods
from prefixdb.testing import Namespace, ServerProcess
from tests.client.logins import APPLIED, DONE, FOUND, login
from tests.support.clocks import HeldClock
from tests.support.scripted_server import ScriptedServer


@pytest.fixture
def place(prefixdb_server: ServerProcess) -> Namespace:
    """A new, empty namespace and a token that may write in it."""
    return prefixdb_server.create_namespace()


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server that the test may stop, kill and start again."""
    server = ServerProcess(tmp_path_factory.mktemp("own"))
    server.start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A server that answers what the test tells it to."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture(params=["gathered", "alone"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the test's calls of single rows travel: all of them in messages, or each as a call of its own."""
    if request.param == "gathered":
        monkeypatch.setattr("prefixdb.client.sync.gatherer.GATHERS_FROM", 1)
    else:
        for connection in ("aio.connection", "sync.connection"):
            monkeypatch.setattr(f"prefixdb.client.{connection}.ALONE_BYTES", -1)
    way: str = request.param
    return way


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every call of a single row gathered, also one that a thread makes while no other is going on."""
    monkeypatch.setattr("prefixdb.client.sync.gatherer.GATHERS_FROM", 1)


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
