"""Goal: whoever is refused in the middle of an upload hears why, at once, with either client.

Method: a real server and the clients of the library. What is refused stands at the front of an archive of many frames
that do not compress, so that the client is writing when the refusal comes. A client that does not hear it would send
everything once more, again and again, which is counted.
"""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefixdb import connect, connect_async
from prefixdb.catalog.entities import Guardian, Rule
from prefixdb.client.options import ClientOptions
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.service.imports import Imports
from prefixdb.service.staging import Staging
from tests.support.importing import archive_of
from tests.support.server import RunningServer, running

NOISE = random.Random(1).randbytes(500_000)
FRAMES = 40


def large(first: bytes) -> bytes:
    """Return an archive whose first row has this key, and 20 MB behind it."""
    rows = [(0, first, b"", 1, 0)]
    rows += [(0, first + b"/%04d" % number, NOISE[number:], 1, 0) for number in range(FRAMES)]
    return b"".join(archive_of(rows, kind="namespace", frame_rows=1))


async def by_asyncio(options: ClientOptions, what: Callable[[Any], Any]) -> None:
    async with connect_async(options=options) as db:
        await what(db)


async def by_threads(options: ClientOptions, what: Callable[[Any], Any]) -> None:
    def run() -> None:
        with connect(options=options) as db:
            what(db)

    await asyncio.to_thread(run)


CLIENTS = {"asyncio": by_asyncio, "threads": by_threads}


def counted(monkeypatch: Any, owner: type, name: str) -> list[int]:
    """Count the calls of a method of the server."""
    calls: list[int] = []
    original = getattr(owner, name)

    async def method(self: Any, *arguments: Any) -> None:
        calls.append(1)
        await original(self, *arguments)

    monkeypatch.setattr(owner, name, method)
    return calls


def options_of(server: RunningServer, token: str) -> ClientOptions:
    return ClientOptions(endpoint=server.app.address, token=token)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_import_that_is_refused_on_the_way_says_why(tmp_path: Path, client: str, monkeypatch: Any) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            server.add_group(home.id, "mine", Rule(0, b"mine/", read=True, write=True))
            calls = counted(monkeypatch, Imports, "run")
            options = options_of(server, server.token(home.id, groups=("mine",)))
            for _ in range(3):
                with pytest.raises(PrefixdbError) as refused:
                    await CLIENTS[client](options, lambda db: db.import_archive(io.BytesIO(large(b"other"))))
                assert refused.value.reason is Reason.NOT_PERMITTED
            assert len(calls) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("client", CLIENTS)
def test_a_restore_that_is_refused_on_the_way_says_why(tmp_path: Path, client: str, monkeypatch: Any) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            server.create("taken")
            calls = counted(monkeypatch, Staging, "restore")
            options = options_of(server, server.token(0, guardian=Guardian.CLUSTER))
            for _ in range(3):
                with pytest.raises(PrefixdbError) as refused:
                    await CLIENTS[client](
                        options,
                        lambda db: db.guardian.namespaces.restore(io.BytesIO(large(b"k")), name="taken"),
                    )
                assert refused.value.reason is Reason.NAMESPACE_EXISTS
            assert len(calls) == 3

    asyncio.run(scenario())
