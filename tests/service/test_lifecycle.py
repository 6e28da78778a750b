"""Goal: a server ends in seconds whatever is going on, loses nothing it has acknowledged, and starts again at once.

Method: real processes under load of writers, scans that nobody reads and idle streams; signals; exit statuses; the
acknowledged writes are looked for after the restart.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import MIB
from prefixdb.server import app
from prefixdb.v1 import key_value_pb2 as pb
from prefixdb.v1 import namespaces_pb2
from tests.support.server import Caller, ServerProcess, error_of, eventually, running, subprocess_server

DRAIN_S_MAX = 10.0
"""The promise."""


async def tenant(process: ServerProcess, channel: grpc.aio.Channel) -> Caller:
    """Create a namespace over the wire and return its guardian."""
    boss = Caller(channel, process.guardian_token)
    request = namespaces_pb2.CreateNamespaceRequest(name="acme", guardian_token_ttl={"seconds": 3600})
    return Caller(channel, (await boss.call(boss.namespaces.CreateNamespace, request)).guardian_token)


async def write_until_refused(caller: Caller, name: str, acknowledged: list[bytes]) -> Reason:
    """Put rows one after the other; return why it ended."""
    number = 0
    while True:
        key = f"{name}-{number}".encode()
        try:
            if (await caller.call(caller.key_value.Put, pb.PutRequest(key=key, value=b"v" * 1000))).applied:
                acknowledged.append(key)
        except PrefixdbError as failure:
            return failure.reason
        number += 1


async def end_under_load(process: ServerProcess, *signals: signal.Signals) -> tuple[str, list[bytes], float]:
    """Load a server in every way, signal it, and return (a token, acknowledged keys, seconds until it ended)."""
    async with grpc.aio.insecure_channel(process.address) as channel:
        caller = await tenant(process, channel)
        acknowledged: list[bytes] = []
        for number in range(20):
            large = pb.PutRequest(key=b"large-%02d" % number, value=b"v" * 1_000_000)
            assert (await caller.call(caller.key_value.Put, large)).applied
        writers = [asyncio.create_task(write_until_refused(caller, f"w{number}", acknowledged)) for number in range(8)]
        unread = caller.key_value.Scan(pb.ScanRequest(), metadata=caller.metadata)
        await unread.read()
        idle = caller.key_value.Pipeline(metadata=caller.metadata)
        await idle.write(pb.PipelineRequest(id=1))
        await idle.read()
        await eventually(lambda: len(acknowledged) > 100, "the writers are at work")
        started = time.monotonic()
        for number in signals:
            process.process.send_signal(number)
        status = await asyncio.to_thread(process.process.wait, 30)
        took_s = time.monotonic() - started
        assert status == 0
        reasons = set(await asyncio.gather(*writers))
        assert reasons == {Reason.DRAINING} or len(signals) > 1, reasons
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await idle.read()
        told = error_of(caught.value).reason
        assert told is Reason.DRAINING or len(signals) > 1, "an idle stream is told why it ends"
        unread.cancel()
        assert caller.token is not None
        return caller.token, acknowledged, took_s


async def check_present(address: str, token: str, keys: list[bytes]) -> None:
    """Check that every key is there."""
    async with grpc.aio.insecure_channel(address) as channel:
        caller = Caller(channel, token)
        for start in range(0, len(keys), 1000):
            batch = pb.BatchGetRequest(keys=keys[start : start + 1000])
            answer = await caller.call(caller.key_value.BatchGet, batch)
            assert all(result.found for result in answer.results)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_drains_within_ten_seconds_and_loses_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess_server(tmp_path / "data") as process:
        token, acknowledged, took_s = asyncio.run(end_under_load(process, number))
        assert took_s < DRAIN_S_MAX
    with subprocess_server(tmp_path / "data") as again:
        asyncio.run(check_present(again.address, token, acknowledged))
        again.process.send_signal(signal.SIGTERM)
        assert again.process.wait(30) == 0


def test_a_second_signal_does_not_wait_for_anybody(tmp_path: Path) -> None:
    with subprocess_server(tmp_path / "data") as process:
        token, acknowledged, took_s = asyncio.run(end_under_load(process, signal.SIGTERM, signal.SIGINT))
        assert took_s < 5.0
    with subprocess_server(tmp_path / "data") as again:
        asyncio.run(check_present(again.address, token, acknowledged))


def test_the_ready_file_has_the_address_and_goes_with_the_server(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with subprocess_server(tmp_path / "data", "--ready-file", str(ready)) as process:
        assert ready.read_text() == f"{process.address}\n"
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(30) == 0
        assert not ready.exists()


def test_a_second_server_on_the_same_directory_is_refused_within_a_second(tmp_path: Path) -> None:
    with subprocess_server(tmp_path / "data"):
        command = [sys.executable, "-m", "prefixdb", "serve", "--data-dir", str(tmp_path / "data")]
        command += ["--listen", "127.0.0.1:0", "--http", ""]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode != 0 and second.stdout == ""
        assert second.stderr.startswith("prefixdb: Another process has ")
        assert "Traceback" not in second.stderr


def test_an_address_others_can_reach_needs_tls_or_insecure(tmp_path: Path) -> None:
    async def main() -> None:
        for setting in ("server.listen", "server.http"):
            for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.invalid:0"):
                with pytest.raises(PrefixdbError) as caught:
                    async with running(tmp_path / "data", settings={setting: address}):
                        pass
                assert caught.value.metadata["field"] == setting and "TLS" in caught.value.message
        for address in ("127.0.0.1", "127.0.0.1:x", ":1", "127.0.0.1:70000", "::1:1"):
            with pytest.raises(PrefixdbError, match="HOST:PORT"):
                async with running(tmp_path / "data", settings={"server.listen": address}):
                    pass
        assert not (tmp_path / "data").exists(), "nothing was touched"
        async with running(tmp_path / "data", settings={"server.listen": "127.0.0.2:0"}) as server:
            assert server.app.serving

    asyncio.run(main())


def test_while_it_drains_new_calls_are_told_to_go_elsewhere_and_running_ones_finish(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            caller = server.caller(acme)
            for number in range(24):
                put = pb.PutRequest(key=b"%02d" % number, value=b"v" * 1_000_000)
                await caller.call(caller.key_value.Put, put)
            scan = caller.key_value.Scan(pb.ScanRequest(), metadata=caller.metadata)
            rows = len((await scan.read()).rows)
            stopping = asyncio.create_task(server.app.stop(5.0))
            await eventually(lambda: not server.app.serving, "the drain has begun")
            with pytest.raises(PrefixdbError) as caught:
                await caller.get(pb.GetRequest(key=b"00"))
            assert caught.value.reason in {Reason.DRAINING, Reason.UNREACHABLE}
            while (page := await scan.read()) is not grpc.aio.EOF:
                rows += len(page.rows)
            assert rows == 24, "a scan that is read goes on to its end"
            await asyncio.wait_for(stopping, 5.0)

    asyncio.run(main())


def test_the_store_is_opened_as_the_configuration_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def opening(kind: str, data_dir: Path, **settings: object) -> object:
        seen.update(settings, kind=kind)
        raise error(Reason.DISK_FULL)

    monkeypatch.setattr(app, "open_store", opening)
    wanted = {"kind": "native", "durability": "os", "cache": "9MiB", "write_buffer": "7MiB"}
    wanted["compaction_bytes_per_second"] = "3MiB"

    async def main() -> None:
        async with running(tmp_path / "data", settings={f"store.{name}": value for name, value in wanted.items()}):
            raise AssertionError

    with pytest.raises(PrefixdbError):
        asyncio.run(main())
    seen.pop("clock")
    assert seen == {
        "kind": "native",
        "durability": "os",
        "cache_bytes": 9 * MIB,
        "write_buffer_bytes": 7 * MIB,
        "compaction_bytes_per_second": 3 * MIB,
    }
