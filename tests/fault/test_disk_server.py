"""A whole server on a failing disk, over a real socket: what its callers are told, and that it comes back by itself.

Method: a server process under the shim with two tenants. The disk fills up, its log cannot be synced, its table files
hang; one tenant writes all the while and keeps a ledger, the other reads and times its reads. In the end the server is
killed on a full disk and started on the same directory with another kind of store.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefixdb.v1 import key_value_pb2 as pb
from prefixdb.v1 import maintenance_pb2
from tests.support.store_host import DURABLE, other_kind
from tools.crash.shim import Action, Call, Shim
from tools.crash.tenants import Guardian, scan
from tools.lab.process import ServerProcess
from tools.lab.rpc import Rpc, RpcError

READ_S_MAX = 0.25
RESUME_S_MAX = 10.0
SETTINGS = {"PREFIXDB_STORE__WRITE_BUFFER": "1MiB", "PREFIXDB_STORE__CACHE": "8MiB"}
VALUE = b"v" * 2_000
ROWS = 50
DISK_BYTES = 6 * 1024 * 1024
"""A small disk: three memtables are kept free, the rest takes some hundred rows."""


class Trial:
    """A server with a writer's and a reader's namespace, and what became of each of the writer's rows."""

    def __init__(self, kind: str, data_dir: Path, shim: Shim) -> None:
        self.server = ServerProcess(data_dir, store=kind, settings=SETTINGS | shim.environment())
        self.server.start()
        self.rpc = Rpc(self.server.address, channels_apart=True)
        self.guardian = Guardian(self.rpc, self.server.guardian_token())
        self.writer = self.guardian.create("writer", 7)
        self.reader = self.guardian.create("reader", 8)
        self.outcomes: dict[int, str] = {}
        for number in range(ROWS):
            self.rpc.call("KeyValue/Put", pb.PutRequest(key=b"%04d" % number, value=VALUE), self.reader.token)

    def put(self, *, deadline_s: float = 20.0) -> str:
        """Put the writer's next row; return "" or the reason it was refused for."""
        number = len(self.outcomes)
        request = pb.PutRequest(key=b"%06d" % number, value=VALUE)
        try:
            self.rpc.call("KeyValue/Put", request, self.writer.token, deadline_s=deadline_s)
            self.outcomes[number] = ""
        except RpcError as refusal:
            self.outcomes[number] = refusal.reason or refusal.code
        return self.outcomes[number]

    def put_until(self, *wanted: str, limit: int = 5_000) -> None:
        """Put rows until one ends as ``wanted``."""
        for _ in range(limit):
            if self.put() in wanted:
                return
        pytest.fail(f"none of {limit} puts ended with {wanted}")

    def await_writes(self) -> None:
        limit = time.monotonic() + RESUME_S_MAX
        while self.put() != "":
            assert time.monotonic() < limit, "writes did not resume"
            time.sleep(0.02)

    def check_reader(self) -> None:
        """Every kind of read of the other tenant is answered, whole and in time."""
        begin = time.monotonic()
        token = self.reader.token
        assert self.rpc.call("KeyValue/Get", pb.GetRequest(key=b"0007"), token).value == VALUE
        many = self.rpc.call("KeyValue/BatchGet", pb.BatchGetRequest(keys=[b"%04d" % n for n in range(ROWS)]), token)
        assert [row.found for row in many.results] == [True] * ROWS
        assert len(scan(self.rpc, token, 0)) == ROWS
        assert self.rpc.call("KeyValue/Count", pb.CountRequest(), token).count == ROWS
        assert time.monotonic() - begin < 4 * READ_S_MAX

    def writable(self) -> bool:
        begin = time.monotonic()
        status = self.rpc.call("Maintenance/Status", maintenance_pb2.StatusRequest(), self.server.guardian_token())
        assert time.monotonic() - begin < READ_S_MAX
        return bool(status.writable)

    def check_rows(self) -> None:
        """Acknowledged rows are there and refused ones are not."""
        found = {int(key) for key, _ in scan(self.rpc, self.writer.token, 0)}
        unknown = {number for number, outcome in self.outcomes.items() if outcome == "OUTCOME_UNKNOWN"}
        assert found - unknown == {number for number, outcome in self.outcomes.items() if not outcome}

    def restart(self, kind: str) -> None:
        """Kill -9 and start again with another kind of store."""
        self.server.kill()
        self.rpc.close()
        self.server = ServerProcess(self.server.data_dir, store=kind, settings=SETTINGS)
        self.server.start()
        self.rpc = Rpc(self.server.address, channels_apart=True)


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    with Shim(tmp_path) as shim:
        yield shim


@pytest.fixture(params=DURABLE)
def trial(request: pytest.FixtureRequest, tmp_path: Path, shim: Shim) -> Iterator[Trial]:
    started = Trial(request.param, tmp_path / "data", shim)
    try:
        yield started
    finally:
        shim.withdraw_all()
        started.server.kill()
        started.rpc.close()


def test_a_server_lives_through_a_bad_disk(trial: Trial, shim: Shim, request: pytest.FixtureRequest) -> None:
    db = f"{trial.server.data_dir}/db"
    kind = request.node.callspec.params["trial"]
    assert trial.writable()
    trial.check_reader()

    shim.add(f"{trial.server.data_dir}/*", Call.GROWS, action=Action.BUDGET, budget=100_000, error=errno.ENOSPC)
    trial.put_until("DISK_FULL")
    assert [trial.put() for _ in range(3)] == ["DISK_FULL"] * 3
    assert not trial.writable()
    trial.check_reader()
    shim.withdraw_all()
    trial.await_writes()
    assert trial.writable()

    shim.add(f"{db}/*.log", Call.SYNCS, times=1)
    assert trial.put() == "OUTCOME_UNKNOWN"
    assert trial.put() in {"READ_ONLY_STORE", ""}
    trial.check_reader()
    trial.await_writes()

    shim.add(f"{db}/*.sst", Call.WRITES, action=Action.HOLD)
    trial.put_until("WRITE_STALL")
    trial.check_reader()
    assert trial.writable(), "a stall is no failure"
    shim.withdraw_all()
    trial.await_writes()
    trial.check_rows()

    shim.add(f"{trial.server.data_dir}/*", Call.GROWS, error=errno.ENOSPC)
    trial.put_until("DISK_FULL")
    shim.withdraw_all()
    trial.restart(other_kind(kind))
    trial.check_rows()
    trial.check_reader()
    assert trial.put() == ""


def test_a_nearly_full_disk_refuses_new_rows_and_takes_deletes_and_bans(trial: Trial, shim: Shim) -> None:
    dropped = trial.guardian.create("dropped", 9)
    trial.rpc.call("KeyValue/Put", pb.PutRequest(key=b"k", value=VALUE), dropped.token)
    disk = shim.add(
        f"{trial.server.data_dir}/*", Call.GROWS | Call.SPACE, action=Action.BUDGET, budget=DISK_BYTES,
        error=errno.ENOSPC,
    )  # fmt: skip
    trial.put_until("DISK_FULL")
    assert disk.bytes < DISK_BYTES, "nothing was left for deletes and bans"
    assert trial.put() == "DISK_FULL"
    assert not trial.writable()
    trial.check_reader()

    removed = trial.rpc.call("KeyValue/Delete", pb.DeleteRequest(key=b"%06d" % 0), trial.writer.token)
    assert removed.applied
    trial.outcomes[0] = "deleted"
    trial.guardian.ban(dropped, 0)
    with pytest.raises(RpcError, match="NAMESPACE_BANNED"):
        trial.rpc.call("KeyValue/Get", pb.GetRequest(key=b"k"), dropped.token)
    assert trial.guardian.wait_reclaimed(dropped)
    assert trial.put() == "DISK_FULL"
    trial.check_rows()

    disk.withdraw()
    trial.await_writes()
    assert trial.writable()
    trial.check_rows()
