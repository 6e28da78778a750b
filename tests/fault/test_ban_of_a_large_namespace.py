"""A namespace of many rows is dropped in milliseconds, others notice nothing, and not a byte of it stays on the disk.

Goal: what the whole project is about, at a size where a row-by-row delete would show: a ban's reply does not wait for
the rows, other namespaces' reads and writes go on, the proof of the reclaim is true when looked at from outside
(sizes, the closed database opened by the bare engine, raw bytes of every file), and the number can be issued again.
Method: a real server process and a million rows; PREFIXDB_TEST_ROWS says another number. Each namespace has a row of
random bytes that no compression hides from a search of the raw files.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from prefixdb.v1 import key_value_pb2 as pb
from tests.support.raw_rows import raw_rows
from tests.support.waiting import wait_for
from tools.crash.tenants import Guardian, check_empty, check_refused, scan
from tools.crash.workload import Findings, Tenant
from tools.lab.files import files_with, incompressible
from tools.lab.process import ServerProcess
from tools.lab.rpc import Rpc, RpcError

ROWS = int(os.environ.get("PREFIXDB_TEST_ROWS", "1000000"))
BATCH_ROWS = 5_000
LARGE_ID = 2**40
NEIGHBOUR_ROWS = 500
BAN_S_MAX = 0.25
CALL_P99_S_MAX = 0.5


class Traffic(threading.Thread):
    """A neighbour that reads and writes until it is stopped, and keeps how long each call took."""

    def __init__(self, rpc: Rpc, tenant: Tenant) -> None:
        super().__init__(daemon=True)
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self._rpc = rpc
        self._tenant = tenant
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        number = 0
        while not self._stopping.is_set():
            number = (number + 1) % NEIGHBOUR_ROWS
            begin = time.monotonic()
            try:
                if number % 4 == 0:
                    request = pb.PutRequest(key=_key(number), value=_value(self._tenant, number))
                    self._rpc.call("KeyValue/Put", request, self._tenant.token)
                else:
                    found = self._rpc.call("KeyValue/Get", pb.GetRequest(key=_key(number)), self._tenant.token)
                    if found.value != _value(self._tenant, number):
                        self.failures.append(f"row {number} is not what was stored")
            except RpcError as failure:
                self.failures.append(str(failure))
            self.seconds.append(time.monotonic() - begin)


@pytest.mark.timeout(600)
def test_a_large_namespace_is_dropped_at_once_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    findings = Findings()
    with ServerProcess(tmp_path / "data", store=kind, settings={"PREFIXDB_STORE__WRITE_BUFFER": "16MiB"}) as server:
        server.start()
        rpc = Rpc(server.address, channels_apart=True)
        guardian = Guardian(rpc, server.guardian_token())
        below, large, above = (guardian.create(f"n{offset}", LARGE_ID + offset) for offset in (-1, 0, 1))
        for tenant, rows in ((below, NEIGHBOUR_ROWS), (large, ROWS), (above, NEIGHBOUR_ROWS)):
            _load(rpc, tenant, rows)
        assert _marked_files(server.data_dir, large), "the search of the raw files would be blind"
        bytes_before = _table_bytes(server.data_dir)

        traffic = [Traffic(Rpc(server.address, channels_apart=True), tenant) for tenant in (below, above)]
        for thread in traffic:
            thread.start()
        wait_for(lambda: all(len(thread.seconds) > 20 for thread in traffic))
        begin = time.monotonic()
        guardian.ban(large, 0)
        ban_s = time.monotonic() - begin
        check_refused(rpc, large, "NAMESPACE_BANNED", findings)
        calls_at_ban = [len(thread.seconds) for thread in traffic]
        begin = time.monotonic()
        proven = guardian.wait_reclaimed(large)
        reclaim_s = time.monotonic() - begin
        wait_for(
            lambda: all(len(thread.seconds) > calls + 20 for thread, calls in zip(traffic, calls_at_ban, strict=True))
        )
        for thread in traffic:
            thread.stop()

        report = guardian.report(large)
        bytes_after = _table_bytes(server.data_dir)
        seconds = sorted(took for thread in traffic for took in thread.seconds)
        p99_s = seconds[int(len(seconds) * 0.99)]
        sys.stdout.write(
            f"\n{kind}, {ROWS:,d} rows: ban {ban_s * 1000:.1f} ms, reclaimed and proven in {reclaim_s:.2f} s, tables "
            f"{bytes_before:,d} -> {bytes_after:,d} bytes; meanwhile {len(seconds):,d} calls of others, "
            f"p99 {p99_s * 1000:.1f} ms, slowest {seconds[-1] * 1000:.1f} ms\n"
        )
        assert proven
        assert (report.proof_rows_found, report.proof_bytes_found) == (0, 0)
        assert [thread.failures for thread in traffic] == [[], []]
        assert ban_s < BAN_S_MAX
        assert p99_s < CALL_P99_S_MAX
        assert bytes_after < bytes_before / 10

        again = guardian.create("n0-again", LARGE_ID)
        check_empty(rpc, again, findings)
        check_refused(rpc, large, "TOKEN_INVALID", findings)
        for tenant in (below, above):
            assert len(scan(rpc, tenant.token, 0)) == NEIGHBOUR_ROWS
        assert findings.violations == []
        guardian.ban(again, 0)
        assert guardian.wait_reclaimed(again)
        rpc.close()
        server.stop()
    assert raw_rows(tmp_path / "data" / "db", LARGE_ID) == 0
    assert raw_rows(tmp_path / "data" / "db", LARGE_ID + 1) > NEIGHBOUR_ROWS
    assert _marked_files(tmp_path / "data", large) == []
    assert _marked_files(tmp_path / "data", above) != []


def _load(rpc: Rpc, tenant: Tenant, rows: int) -> None:
    """Write rows in large batches."""
    for first in range(0, rows, BATCH_ROWS):
        request = pb.WriteRequest()
        for number in range(first, min(rows, first + BATCH_ROWS)):
            request.mutations.add().put.MergeFrom(pb.Mutation.Put(key=_key(number), value=_value(tenant, number)))
        request.mutations.add().put.MergeFrom(
            pb.Mutation.Put(key=b"marker", value=incompressible(tenant.name)[0], database=1)
        )
        rpc.call("KeyValue/Write", request, tenant.token)


def _key(number: int) -> bytes:
    return b"row/%08d" % number


def _value(tenant: Tenant, number: int) -> bytes:
    return b"%s row %d " % (tenant.marker, number) + b"." * 60


def _marked_files(directory: Path, tenant: Tenant) -> list[str]:
    """Return the names of the files that hold the tenant's marker row."""
    return [path.name for path in files_with(directory, incompressible(tenant.name)[1])]


def _table_bytes(directory: Path) -> int:
    """Return the bytes of the table files; logs are written ahead of need and say nothing about rows."""
    return sum(path.stat().st_size for path in (directory / "db").glob("*.sst"))
