"""A disk fails under a real store: the right refusal, reads go on, writes come back, nothing is lost or turns up.

Method: a store in a process of its own, whose file operations the shim makes fail (``tools/crash/shim.py``): the log's
append and sync, table files in a flush and in a compaction, the MANIFEST, descriptors. A ledger knows what became of
every commit; it is compared with the store while it runs, and again after kill -9, opened by another kind of store.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prefixdb.errors import DataLossError
from tests.support import ledger as work
from tests.support.ledger import Ledger
from tests.support.store_host import DURABLE, StoreHost, other_kind
from tools.crash.shim import Action, Call, Rule, Shim

FLUSHED = LOGGED = 200
"""Commits in a table file and in the log when the disk begins to fail."""

RESUME_S_MAX = 10.0
BACKGROUND = {"READ_ONLY_STORE", "OUTCOME_UNKNOWN"}
"""Refusals of a write that meets a failure of background work: it was not tried, or so it is not known."""


@dataclass(frozen=True)
class Fault:
    """What fails (files below the data directory, calls, how), what meets it, and what writers are told.

    first, then: reasons of the first refused write and of those after it.
    """

    files: str
    calls: Call
    how: dict[str, Any]
    met_by: str
    first: set[str]
    then: str


def _no_space(files: str, calls: Call, met_by: str, **how: Any) -> Fault:
    return Fault(files, calls, {"error": errno.ENOSPC} | how, met_by, {"DISK_FULL"}, "DISK_FULL")


def _broken(files: str, calls: Call, met_by: str, first: set[str], **how: Any) -> Fault:
    return Fault(files, calls, how, met_by, first, "READ_ONLY_STORE")


FULL_DISK: dict[str, Any] = {"action": Action.BUDGET, "budget": 60_000}
NO_DESCRIPTORS = {"error": errno.EMFILE}

FAULTS = {
    "a full disk": _no_space("/*", Call.GROWS, "write", **FULL_DISK),
    "a used up quota": _no_space("/*", Call.GROWS, "write", **FULL_DISK | {"error": errno.EDQUOT}),
    "log: append, no space": _no_space("/db/*.log", Call.WRITES, "write"),
    "log: append, EIO": _broken("/db/*.log", Call.WRITES, "write", {"READ_ONLY_STORE"}),
    "log: sync, EIO": _broken("/db/*.log", Call.SYNCS, "write", {"OUTCOME_UNKNOWN"}),
    "log: sync, EIO once": _broken("/db/*.log", Call.SYNCS, "write", {"OUTCOME_UNKNOWN"}, times=1),
    "log: creation, no descriptors": _broken("/db/*.log", Call.CREATE, "flush", {"READ_ONLY_STORE"}, **NO_DESCRIPTORS),
    "flush: write, no space": _no_space("/db/*.sst", Call.WRITES, "flush"),
    "flush: write, EIO": _broken("/db/*.sst", Call.WRITES, "flush", {"READ_ONLY_STORE"}),
    "flush: write, EIO once": _broken("/db/*.sst", Call.WRITES, "flush", {"READ_ONLY_STORE"}, times=1),
    "flush: sync, EIO": _broken("/db/*.sst", Call.SYNCS, "flush", BACKGROUND),
    "flush: creation, no descriptors": _broken(
        "/db/*.sst", Call.CREATE, "flush", {"READ_ONLY_STORE"}, **NO_DESCRIPTORS
    ),
    "flush: opening, no descriptors": _broken("/db/*.sst", Call.OPEN, "flush", BACKGROUND, **NO_DESCRIPTORS),
    "compaction: write, no space": _no_space("/db/*.sst", Call.WRITES, "compact"),
    "compaction: write, EIO": _broken("/db/*.sst", Call.WRITES, "compact", {"READ_ONLY_STORE"}),
    "MANIFEST: write, no space": _no_space("/db/MANIFEST*", Call.WRITES, "flush"),
    "MANIFEST: write, EIO": _broken("/db/MANIFEST*", Call.WRITES, "flush", {"READ_ONLY_STORE"}),
    "MANIFEST: sync, EIO": _broken("/db/MANIFEST*", Call.SYNCS, "flush", BACKGROUND),
}

LASTING = ("a full disk", "log: sync, EIO", "flush: write, EIO", "MANIFEST: write, no space")
"""Faults that outlast an attempt of the store to recover."""


class Trial:
    """A store with rows in a table file and in its log, on a disk that is about to fail."""

    def __init__(self, kind: str, data_dir: Path, shim: Shim) -> None:
        self.data_dir = data_dir
        self.shim = shim
        self.ledger = Ledger()
        self.host = StoreHost(kind, data_dir, shim)
        self.host.run(work.load, 0, FLUSHED)
        assert self.host.run(work.flush) == ""
        self.host.run(work.load, FLUSHED, LOGGED)
        self.ledger.note_loaded(FLUSHED + LOGGED)

    def fail(self, fault: Fault) -> Rule:
        return self.shim.add(f"{self.data_dir}{fault.files}", fault.calls, **fault.how)

    def attempt(self, count: int = 1) -> list[str]:
        outcomes = self.host.run(work.attempt, self.ledger.next_number, count)
        self.ledger.note(outcomes)
        return outcomes

    def attempt_until_refused(self, limit: int = 2_000) -> str:
        outcomes = self.host.run(work.attempt_until_refused, self.ledger.next_number, limit)
        self.ledger.note(outcomes)
        return outcomes[-1]

    def check_reads(self) -> None:
        """Everything acknowledged can be read, by keys and by a walk."""
        rows = self.host.run(work.present, self.ledger.acknowledged)
        assert all(all(each) for each in rows)
        in_doubt = len(work.DATABASES) * len(self.ledger.unknown)
        sure = len(work.DATABASES) * len(self.ledger.acknowledged)
        assert sure <= self.host.run(work.counted) <= sure + in_doubt

    def check(self) -> None:
        """The whole ledger agrees with the store."""
        assert self.ledger.wrong_in(self.host.run) == []

    def await_writes(self) -> None:
        """Write until a write is acknowledged."""
        limit = time.monotonic() + RESUME_S_MAX
        while self.attempt() != [""]:
            assert time.monotonic() < limit, "writes did not resume"
            time.sleep(0.02)

    def reopened(self) -> StoreHost:
        """Kill the store and open its directory with another kind of store, on a disk that works."""
        kind = self.host.kind
        self.host.kill()
        return StoreHost(other_kind(kind), self.data_dir)


@contextmanager
def trial(kind: str, tmp_path: Path) -> Iterator[Trial]:
    with Shim(tmp_path) as shim:
        started = Trial(kind, tmp_path / "data", shim)
        try:
            yield started
        finally:
            shim.withdraw_all()
            started.host.kill()


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("kind", DURABLE)
def test_a_disk_error_is_told_survived_and_forgotten(kind: str, name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    with trial(kind, tmp_path) as store:
        store.host.run(work.open_walk)
        rule = store.fail(fault)
        if fault.met_by == "flush":
            assert store.host.run(work.flush) == fault.then
        elif fault.met_by == "compact":
            store.host.run(work.compact)
            assert rule.hits, "the compaction wrote nothing"
        assert store.attempt_until_refused() in fault.first
        assert set(store.attempt(3)) == {fault.then}
        assert not store.host.run(work.writable)
        store.check_reads()

        if name in LASTING:
            met = rule.hits
            limit = time.monotonic() + RESUME_S_MAX
            while rule.hits == met:
                assert time.monotonic() < limit, "the store did not try again"
                assert store.attempt()[0] in {fault.then, *fault.first}
                time.sleep(0.02)
            store.check_reads()

        store.shim.withdraw_all()
        store.await_writes()
        assert store.host.run(work.writable)
        assert store.attempt(3) == [""] * 3
        # A cursor that was open may go on or be ended, but it never ends early without an error.
        assert store.host.run(work.end_walk) in {2 * (FLUSHED + LOGGED), "READ_ONLY_STORE"}
        assert store.host.run(work.flush) == ""
        store.check()
        with store.reopened() as again:
            assert store.ledger.wrong_in(again.run) == []


@pytest.mark.parametrize("met_by", ["write", "flush", "compact"])
@pytest.mark.parametrize("kind", DURABLE)
def test_a_store_killed_while_its_disk_is_full_has_lost_nothing(kind: str, met_by: str, tmp_path: Path) -> None:
    with trial(kind, tmp_path) as store:
        store.fail(_no_space("/*", Call.GROWS, met_by, action=Action.BUDGET, budget=20_000))
        if met_by == "flush":
            assert store.host.run(work.flush) == "DISK_FULL"
        elif met_by == "compact":
            store.host.run(work.compact)
        assert store.attempt_until_refused() == "DISK_FULL"
        store.attempt(2)
        with store.reopened() as again:
            assert store.ledger.wrong_in(again.run) == []
            assert again.run(work.attempt, store.ledger.next_number) == [""]


@pytest.mark.parametrize("kind", DURABLE)
def test_writes_that_the_disk_takes_in_pieces_are_whole(kind: str, tmp_path: Path) -> None:
    with trial(kind, tmp_path) as store:
        rule = store.shim.add(f"{store.data_dir}/*", Call.WRITES, action=Action.SHORTEN)
        assert store.attempt(100) == [""] * 100
        assert store.host.run(work.flush) == ""
        assert store.host.run(work.compact) == ""
        assert store.attempt(5) == [""] * 5
        assert rule.hits > 1_000
        store.check()
        with store.reopened() as again:
            assert store.ledger.wrong_in(again.run) == []


@pytest.mark.parametrize("kind", DURABLE)
def test_a_table_file_that_cannot_be_read_is_an_error_and_never_a_short_answer(kind: str, tmp_path: Path) -> None:
    with trial(kind, tmp_path) as store:
        assert store.host.run(work.compact) == ""
        store.host.kill()
        with StoreHost(kind, store.data_dir, store.shim) as host:
            # Opening has read the files' ends; the rows' blocks are read now.
            rule = store.shim.add(f"{store.data_dir}/db/*.sst", Call.READS)
            for read in ((work.counted,), (work.present, store.ledger.acknowledged)):
                with pytest.raises(DataLossError):
                    host.run(*read)
            assert rule.hits >= 2
            store.shim.withdraw_all()
            assert host.run(work.counted) == 2 * (FLUSHED + LOGGED)
            assert store.ledger.wrong_in(host.run) == []
