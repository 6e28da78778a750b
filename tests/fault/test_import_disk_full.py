"""A disk that fills up while rows come in: under the spool nothing is left, under the rows the import waits.

Method: a server process under the shim; the disk refuses to grow in one folder at a time, at a moment that is waited
for. A client loads rows meanwhile, with the SDK. Afterwards the rows and the folders are looked at.
"""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefixdb import connect
from prefixdb.client.models import Imported
from prefixdb.client.sync import Database
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.v1 import maintenance_pb2
from tests.store.stores import DURABLE
from tests.support.waiting import wait_for
from tools.crash.shim import Call, Shim
from tools.lab.process import ServerProcess
from tools.lab.rpc import Rpc

ROWS = 24_000
SETTINGS = {"PREFIXDB_STORE__WRITE_BUFFER": "1MiB", "PREFIXDB_STORE__CACHE": "8MiB"}


def rows() -> Iterator[tuple[bytes, bytes]]:
    """Yield rows that do not compress, in order."""
    draw = random.Random(1)
    for number in range(ROWS):
        yield b"%06d" % number, draw.randbytes(300)


@pytest.fixture(params=DURABLE)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ServerProcess, Shim, Database]]:
    """A server whose disk the test commands, and a client of an empty namespace."""
    with Shim(tmp_path) as shim:
        server = ServerProcess(tmp_path / "data", store=request.param, settings=SETTINGS | shim.environment())
        server.start()
        try:
            with connect(server.address, token_file=server.guardian_token_file()) as guardian:
                made = guardian.guardian.namespaces.create("home", guardian_token_ttl=600)
            with connect(server.address, token=made.guardian_token, deadline_s=30) as db:
                yield server, shim, db
        finally:
            shim.withdraw_all()
            server.kill()


def writable(server: ServerProcess) -> bool:
    rpc = Rpc(server.address, channels_apart=True)
    try:
        return bool(rpc.call("Maintenance/Status", maintenance_pb2.StatusRequest(), server.guardian_token()).writable)
    finally:
        rpc.close()


def test_a_disk_that_fills_up_under_a_spool_refuses_the_upload_and_gets_its_room_back(
    place: tuple[ServerProcess, Shim, Database],
) -> None:
    server, shim, db = place
    with shim.add(f"{server.data_dir}/imports/*", Call.WRITES, error=errno.ENOSPC, after=2) as full:
        with pytest.raises(PrefixdbError) as refused:
            db.load(rows())
        assert refused.value.reason is Reason.DISK_FULL
        assert full.hits
    wait_for(lambda: not any((server.data_dir / "imports").iterdir()), "the spool is gone")
    assert db.count() == 0
    db.put("k", b"the store itself was never in trouble")
    assert db.load(rows()).inserted == ROWS


@pytest.mark.parametrize("in_order", [False, True])
def test_a_disk_that_is_full_while_rows_are_written_only_holds_the_import_up(
    place: tuple[ServerProcess, Shim, Database], in_order: bool
) -> None:
    server, shim, db = place
    done: list[Imported] = []
    # The record of the import and its decision are written first; then come rows.
    where, after = ("ingest/*", 1) if in_order else ("db/*.log", 8)
    full = shim.add(f"{server.data_dir}/{where}", Call.WRITES, error=errno.ENOSPC, after=after)
    loading = threading.Thread(target=lambda: done.append(db.load(rows(), in_order=in_order, on_conflict="skip")))
    loading.start()
    wait_for(lambda: full.hits > 0 or not loading.is_alive(), "the full disk was met")
    assert not done, "it was over before the disk was full"
    if not in_order:
        wait_for(lambda: not writable(server), "the store refuses rows")
    shim.withdraw_all()
    loading.join(60)
    assert [one.inserted for one in done] == [ROWS] and done[0].skipped == 0
    assert db.count() == ROWS
    wait_for(lambda: not any((server.data_dir / "imports").iterdir()), "the spool is gone")
    assert not in_order or not any((server.data_dir / "ingest").iterdir())
