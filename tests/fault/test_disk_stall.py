"""A disk that hangs: writers are told to retry, readers and everybody who only looks notice nothing.

Method: the shim holds the writes of table files, as a device that has stopped answering does; memtables fill up and the
store stalls. While it does, reads, walks and the status are timed. Then the disk answers again.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.support import ledger as work
from tests.support.ledger import Ledger
from tests.support.store_host import DURABLE, StoreHost, other_kind
from tools.crash.shim import Action, Call, Shim

LOOK_S = 0.5
RESUME_S_MAX = 10.0


def timed_status(host: StoreHost) -> float:
    begin = time.monotonic()
    host.run(work.writable)
    return time.monotonic() - begin


@pytest.mark.parametrize("kind", DURABLE)
def test_a_stall_refuses_writers_at_once_and_leaves_readers_alone(kind: str, tmp_path: Path) -> None:
    ledger = Ledger()
    with Shim(tmp_path) as shim, StoreHost(kind, tmp_path / "data", shim) as host:
        host.run(work.load, 0, 200)
        ledger.note_loaded(200)
        assert host.run(work.flush) == ""
        held = shim.add(f"{host.data_dir}/db/*.sst", Call.WRITES, action=Action.HOLD)
        outcomes = host.run(work.attempt_until_refused, ledger.next_number, 100_000)
        ledger.note(outcomes)
        assert outcomes[-1] == "WRITE_STALL"
        assert held.hits

        writing = threading.Event()
        refusals: list[str] = []

        def go_on_writing() -> None:
            while not writing.is_set():
                refusals.extend(host.run(work.attempt, ledger.next_number + len(refusals)))

        writer = threading.Thread(target=go_on_writing)
        writer.start()
        try:
            slowest, reads = host.run(work.slowest_read, ledger.acknowledged, LOOK_S)
            begin = time.monotonic()
            assert host.run(work.counted) == 2 * len(ledger.acknowledged)
            walk_s = time.monotonic() - begin
            status_s = timed_status(host)
        finally:
            writing.set()
            writer.join()
        ledger.note(refusals)
        assert set(refusals) == {"WRITE_STALL"}
        assert reads > 10
        assert slowest < work.READ_S_MAX
        assert walk_s < 2 * work.READ_S_MAX
        assert status_s < work.READ_S_MAX
        assert host.run(work.writable), "a stall is no failure"

        held.withdraw()
        limit = time.monotonic() + RESUME_S_MAX
        while host.run(work.attempt, ledger.next_number) != [""]:
            ledger.note(["WRITE_STALL"])
            assert time.monotonic() < limit
        ledger.note([""])
        assert ledger.wrong_in(host.run) == []
        host.kill()
        with StoreHost(other_kind(kind), tmp_path / "data") as again:
            assert ledger.wrong_in(again.run) == []


@pytest.mark.parametrize("kind", [kind for kind in DURABLE if kind != "rocksdict"])
def test_a_log_whose_sync_hangs_holds_up_no_reader(kind: str, tmp_path: Path) -> None:
    """rocksdict keeps the interpreter's lock while it syncs, so that this store alone cannot promise it."""
    with Shim(tmp_path) as shim, StoreHost(kind, tmp_path / "data", shim) as host:
        host.run(work.load, 0, 200)
        held = shim.add(f"{host.data_dir}/db/*.log", Call.SYNCS, action=Action.HOLD)
        waiting = host.submit(work.attempt, 200)
        held.await_hits()
        slowest, reads = host.run(work.slowest_read, range(200), LOOK_S)
        assert reads > 10
        assert slowest < work.READ_S_MAX
        assert host.run(work.counted) in {400, 402}
        assert not waiting.done()
        held.withdraw()
        assert waiting.result(RESUME_S_MAX) == [""]
        assert host.run(work.counted) == 402
