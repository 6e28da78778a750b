"""A kill before or in the middle of any file operation loses nothing, tears nothing and leaves a directory that opens.

Method: a script of commits, flushes, range deletes and a compaction is run once to count the operations that change
the disk, and then again and again, killed by the shim at one of them: before it, or after half of it. Acknowledgements
go to a file outside the data directory, so that the ledger survives the process. The other kind of store opens what is
left. The points are drawn from a seed; PREFIXDB_TEST_SEED names another one.
"""

from __future__ import annotations

import os
import random
import signal
import struct
from pathlib import Path

import pytest

from prefixdb.keycodec import data_key, namespace_span
from prefixdb.store.base import Commit, DeleteSpan, Put, Store
from tests.support import ledger as work
from tests.support.ledger import Ledger
from tests.support.store_host import DURABLE, HostFailedError, StoreHost, other_kind
from tools.crash.shim import Action, Call, Shim

POINTS = 8
SEED = int(os.environ.get("PREFIXDB_TEST_SEED", "20"))
ROUNDS = 4
COMMITS = 12
GONE = 43
"""A namespace that each round fills and empties again by a range delete."""

_ACK = struct.Struct(">Q")


def script(store: Store, acks: str) -> None:
    """Commit, flush, delete and compact; tell of every acknowledgement before the next commit is begun."""
    told = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = 0
    for _ in range(ROUNDS):
        store.commit(Commit(tuple(Put(data_key(GONE, 0, b"%03d" % row), b"x" * 50) for row in range(50))))
        for _ in range(COMMITS):
            store.commit(work.commit_of(number))
            os.write(told, _ACK.pack(number))
            number += 1
        store.commit(Commit((DeleteSpan(namespace_span(GONE)),)))
        store.flush()
    store.compact()
    store.commit(work.commit_of(number))
    os.write(told, _ACK.pack(number))
    os.close(told)
    store.close()


def gone_rows(store: Store) -> int:
    """Count the rows of the namespace that is emptied in every round: all of one commit or none."""
    cursor = store.open_cursor(namespace_span(GONE))
    try:
        return cursor.count(1_000)
    finally:
        cursor.close()


def run(kind: str, directory: Path, shim: Shim) -> Ledger:
    """Run the script until its end or its kill; return what it acknowledged, the rest unknown or never begun."""
    acks = directory / "acks"
    with StoreHost(kind, directory / "data", shim) as host:
        try:
            host.run(script, str(acks))
        except HostFailedError:
            assert host.await_death() == -signal.SIGKILL
    acknowledged = [number for (number,) in _ACK.iter_unpack(acks.read_bytes())] if acks.exists() else []
    assert acknowledged == list(range(len(acknowledged)))
    ledger = Ledger()
    ledger.note_loaded(len(acknowledged))
    ledger.note([work.UNKNOWN])
    ledger.note(["NEVER_BEGUN"] * (ROUNDS * COMMITS + 1 - len(acknowledged)))
    return ledger


def check(kind: str, directory: Path, ledger: Ledger) -> None:
    with StoreHost(kind, directory / "data") as host:
        assert ledger.wrong_in(host.run) == []
        assert host.run(gone_rows) in {0, 50}
        assert host.run(work.attempt, 10_000) == [""]


@pytest.mark.parametrize("action", [Action.KILL, Action.KILL_AFTER], ids=["before", "halfway"])
@pytest.mark.parametrize("kind", DURABLE)
def test_a_kill_at_any_file_operation_loses_and_tears_nothing(kind: str, action: Action, tmp_path: Path) -> None:
    rng = random.Random(f"{SEED}/{kind}/{action}")
    (tmp_path / "whole").mkdir()
    with Shim(tmp_path) as shim:
        counter = shim.add(f"{tmp_path}/whole/data/*", Call.CHANGES, after=1 << 40)
        ledger = run(kind, tmp_path / "whole", shim)
        operations = counter.matched
        assert len(ledger.acknowledged) == ROUNDS * COMMITS + 1
        assert operations > 100

        # Those of the last flush and the compaction are the last; commits are most of the rest.
        points = {*rng.sample(range(operations), POINTS // 2), *rng.sample(range(operations * 9 // 10, operations), 2)}
        for point in sorted(points):
            directory = tmp_path / str(point)
            directory.mkdir()
            rule = shim.add(f"{directory}/data/*", Call.CHANGES, action=action, after=point, times=1)
            try:
                ledger = run(kind, directory, shim)
            except HostFailedError:
                ledger = Ledger()  # Killed while it opened: nothing was begun.
            # Background work moves the points a little, so the last ones may lie behind the end.
            assert rule.hits or point > operations * 0.8, f"seed {SEED}: nothing was killed at {point}"
            rule.withdraw()
            check(other_kind(kind), directory, ledger)
