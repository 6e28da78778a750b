"""kill -9 of the server during an import, at moments from the first frame to the answer.

Method: a real server process on a real directory is killed while a client imports; another one is started on the
directory and the client comes again with the same upload id. Afterwards every row is there with its value, and the
counts say that each came in once: a row that was put twice would be counted as skipped.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import grpc
import pytest

from prefixdb.errors import PrefixdbError
from prefixdb.v1 import key_value_pb2
from tests.support.importing import SKIP, Importing, archive_of, simple
from tests.support.server import Caller, subprocess_server
from tests.support.waiting import wait_for

COUNT = 40_000


@pytest.mark.parametrize("occupied", [False, True])
def test_an_import_is_whole_and_single_after_kill_9_at_any_moment(tmp_path: Path, occupied: bool) -> None:
    rng = random.Random(f"kill {occupied}")
    frames = archive_of(simple(COUNT), frame_rows=2_000)
    for round_number in range(4):
        data_dir = tmp_path / str(round_number)

        async def first(address: str, token: str, kill: object, moment: float = rng.random()) -> str:
            async with grpc.aio.insecure_channel(address) as channel:
                caller = Caller(channel, token)
                if occupied:
                    put = key_value_pb2.PutRequest(key=b"key/0000000x", value=b"")
                    await caller.call(caller.key_value.Put, put)
                one = Importing(caller, on_conflict=SKIP)
                await one.ready()
                if moment < 0.3:
                    await one.send(frames[: int(len(frames) * moment * 3)])
                else:
                    await one.send(frames)
                    await one.call.done_writing()
                    await asyncio.sleep((moment - 0.3) * 1.5)  # The moment of the kill, not a wait for anything.
                assert callable(kill)
                kill()
                one.call.cancel()
                return one.upload

        async def second(address: str, token: str, upload: str) -> None:
            async with grpc.aio.insecure_channel(address) as channel:
                caller = Caller(channel, token)
                one = Importing(caller, upload, on_conflict=SKIP)
                ready = await one.ready()
                try:
                    await one.send(frames[ready.frames_kept :])
                    await one.call.done_writing()
                except (asyncio.InvalidStateError, PrefixdbError):
                    assert ready.frames_kept == len(frames)
                done = await one.last()
                assert (done.rows_inserted, done.rows_skipped) == (COUNT, 0)
                count = await caller.call(caller.key_value.Count, key_value_pb2.CountRequest())
                assert count.count == COUNT + occupied

        with subprocess_server(data_dir) as server:
            token = server.guardian_token
            upload = asyncio.run(first(server.address, token, server.process.kill))
            server.process.wait()
        with subprocess_server(data_dir) as server:
            asyncio.run(second(server.address, token, upload))
            imports = data_dir / "imports"
            wait_for(lambda folder=imports: not any(folder.iterdir()), "the archive has gone")
