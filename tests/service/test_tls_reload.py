"""Goal: certificates are exchanged while the server works, without a failed call, and what is broken changes nothing.

Method: real servers with certificates made here; new pairs are written as renewing programs do, while clients call and
connect without a pause; what a new connection is shown is looked at with another TLS library than the server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.server import alarms
from prefixdb.v1 import key_value_pb2 as pb
from tests.support.certificates import Issued, issue, secure_channel, shown_certificate
from tests.support.server import Caller, RunningServer, eventually, running

CLIENTS = 6
EXCHANGES = 4


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for new files often."""
    monkeypatch.setattr(alarms, "CERTIFICATES_LOOK_S", 0.02)


@contextlib.asynccontextmanager
async def secured(directory: Path, authority: Issued, client_ca: Issued | None = None) -> AsyncIterator[RunningServer]:
    """Start a server with TLS, mutual when there is an authority of clients."""
    issue("server", authority).write(directory, "server")
    settings: dict[str, object] = {"tls.cert": directory / "server.pem", "tls.key": directory / "server.key"}
    if client_ca is not None:
        (directory / "ca.pem").write_bytes(client_ca.pem)
        settings["tls.client_ca"] = directory / "ca.pem"
    async with running(directory / "data", settings=settings) as server:
        yield server


async def shown(server: RunningServer) -> bytes:
    """Return the certificate that a new connection sees."""
    return await asyncio.to_thread(shown_certificate, server.app.address)


async def ask(server: RunningServer, token: str, authority: Issued, client: Issued | None) -> None:
    """Get a row over a connection of its own."""
    async with secure_channel(server.app.address, authority, client) as channel:
        await Caller(channel, token).get(pb.GetRequest(key=b"k"))


async def see_shown(server: RunningServer, wanted: Issued) -> None:
    """Wait until new connections see a certificate."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 10
    while await shown(server) != wanted.der:
        assert loop.time() < until, "the new certificate is not shown"


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mutual"])
def test_no_call_fails_while_certificates_are_exchanged(tmp_path: Path, mutual: bool) -> None:
    authority = issue("ca")
    client = issue("client", authority) if mutual else None

    async def main() -> None:
        async with secured(tmp_path, authority, authority if mutual else None) as server:
            token = server.token(server.create("acme").id)
            ended, calls = asyncio.Event(), [0, 0]

            async def keep_calling(channel: grpc.aio.Channel) -> None:
                while not ended.is_set():
                    await Caller(channel, token).get(pb.GetRequest(key=b"k"))
                    calls[0] += 1

            async def keep_connecting() -> None:
                while not ended.is_set():
                    await ask(server, token, authority, client)
                    calls[1] += 1

            async with secure_channel(server.app.address, authority, client) as channel:
                load = [asyncio.create_task(keep_calling(channel)) for _ in range(CLIENTS)]
                load += [asyncio.create_task(keep_connecting()) for _ in range(2)]
                for _ in range(EXCHANGES):
                    new = issue("server", authority)
                    new.write(tmp_path, "server")
                    await see_shown(server, new)
                    calls[:] = [0, 0]
                    await eventually(lambda: calls[0] > 20 and calls[1] > 2, "calls go on")
                ended.set()
                await asyncio.gather(*load)
            assert server.app.alarms.texts() == ()

    asyncio.run(main())


def test_with_another_authority_of_clients_those_of_the_old_one_are_refused(tmp_path: Path) -> None:
    authority, old_ca, new_ca = issue("ca"), issue("old"), issue("new")
    old, new = issue("client", old_ca), issue("client", new_ca)

    async def main() -> None:
        async with secured(tmp_path, authority, old_ca) as server:
            token = server.token(server.create("acme").id)
            await ask(server, token, authority, old)
            for stranger in (None, new):
                with pytest.raises(PrefixdbError) as caught:
                    await ask(server, token, authority, stranger)
                assert caught.value.reason is Reason.UNREACHABLE
            async with secure_channel(server.app.address, authority, old) as channel:
                caller = Caller(channel, token)
                await caller.get(pb.GetRequest(key=b"k"))
                (tmp_path / "ca.pem").write_bytes(new_ca.pem)
                before = server.app.certificates._files  # type: ignore[union-attr]
                await eventually(lambda: server.app.certificates._files is not before, "the new file is read")  # type: ignore[union-attr]
                await ask(server, token, authority, new)
                for stranger in (None, old):
                    with pytest.raises(PrefixdbError) as caught:
                        await ask(server, token, authority, stranger)
                    assert caught.value.reason is Reason.UNREACHABLE
                await caller.get(pb.GetRequest(key=b"k"))  # An open connection was let in by the rules of its time.

    asyncio.run(main())


def test_a_broken_pair_changes_nothing_is_told_and_is_forgotten_when_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = issue("ca")

    async def main() -> None:
        async with secured(tmp_path, authority) as server:
            token = server.token(server.create("acme").id)
            used = await shown(server)
            other = issue("server", authority)
            (tmp_path / "server.pem").write_bytes(other.pem)  # Its key does not come.
            await eventually(server.app.alarms.texts, "the operator is told")
            assert "is not the key of" in server.app.alarms.texts()[0]
            assert 'prefixdb_alarms{of="tls"} 1.0' in server.app.metrics.render().decode()
            await ask(server, token, authority, None)
            assert await shown(server) == used
            (tmp_path / "server.key").write_bytes(other.key_pem)
            await see_shown(server, other)
            assert server.app.alarms.texts() == ()
            assert 'prefixdb_alarms{of="tls"} 0.0' in server.app.metrics.render().decode()
            await ask(server, token, authority, None)

    with caplog.at_level(logging.INFO, "prefixdb.tls"):
        asyncio.run(main())
    levels = [record.levelname for record in caplog.records if record.name == "prefixdb.tls"]
    assert levels == ["ERROR", "INFO", "INFO"], "one error, then that it is good and that it is used"


def test_a_server_whose_files_are_broken_does_not_start_and_touches_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        settings = {"tls.cert": tmp_path / "none.pem", "tls.key": tmp_path / "none.key"}
        with pytest.raises(PrefixdbError) as caught:
            async with running(tmp_path / "data", settings=settings):
                pass
        assert caught.value.metadata["field"] == "tls.cert" and "none.pem" in caught.value.message
        assert not (tmp_path / "data").exists()

    asyncio.run(main())
