"""A server that is killed with -9 keeps what it acknowledged, forgets what it refused, and never tears a batch.

Goal: the promises of docs/semantics.md about durability, atomicity and bans hold across a kill at any moment: under
load, in the middle of a ban, right after its reply, in a creation, a reclaim, a compaction, a start.
Method: a few rounds of the crash tool (``make crash`` runs as many as one likes) with real processes; and the tool's
oracle, which must find each kind of damage when it is shown some. PREFIXDB_TEST_SEED repeats the calls of a failed run.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.crash.oracle import Cell, Delete, DeleteRange, Lane, Operation, Pending, Put
from tools.crash.rounds import EVENTS, Plan, Run

OPEN_S_MAX = 15.0
"""The promise is 5 s, which ``make crash`` checks; a machine that runs other tests meanwhile may be slower."""


@pytest.mark.timeout(180)
def test_a_server_killed_again_and_again_keeps_every_promise(tmp_path: Path) -> None:
    seed = int(os.environ.get("PREFIXDB_TEST_SEED", "20"))
    run = Run(Plan(rounds=len(EVENTS) + 1, seed=seed, workers=4, open_s_max=OPEN_S_MAX), tmp_path / "data")
    good = run.run()
    assert good, f"seed {seed}: {run.findings.violations[:10]}"
    assert run.findings.counts["kills"] == len(EVENTS) + 1
    assert run.findings.counts["rows checked"] > 0
    assert run.findings.counts["reclaims proven"] > 0


def test_the_oracle_accepts_a_call_without_a_reply_before_and_after_but_only_whole() -> None:
    batch = Operation((DeleteRange(0, b"a", b"z"), Put((0, b"b"), b"new"), Put((3, b"c"), b"new")))
    before = {(0, b"a"): b"old", (0, b"b"): b"old"}
    assert _settle(before, batch, before) == []
    assert _settle(before, batch, {(0, b"b"): b"new", (3, b"c"): b"new"}) == []
    torn = {(0, b"b"): b"new"}
    half_deleted = {(0, b"b"): b"old"}
    mixed = {(0, b"a"): b"old", (0, b"b"): b"new", (3, b"c"): b"new"}
    for found in (torn, half_deleted, mixed, {}):
        assert _settle(before, batch, found) != []


def test_the_oracle_finds_a_lost_a_changed_and_a_resurrected_row() -> None:
    acknowledged = {(0, b"a"): b"1"}
    nothing_pending = None
    assert _settle(acknowledged, nothing_pending, acknowledged) == []
    assert "missing" in _settle(acknowledged, nothing_pending, {})[0]
    assert "must be" in _settle(acknowledged, nothing_pending, {(0, b"a"): b"0"})[0]
    assert "must be none" in _settle(acknowledged, nothing_pending, acknowledged | {(0, b"b"): b"deleted"})[0]


def test_the_oracle_knows_when_a_lifetime_must_have_ended_and_when_it_may_have() -> None:
    lane = Lane()
    lane.apply(Operation((Put((0, b"t"), b"v", ttl_ms=100),)), sent_ms=1000, ended_ms=1010)
    there = {(0, b"t"): b"v"}
    assert lane.settle({}, 1050, 1099) != []
    assert lane.settle({}, 1050, 1100) == []
    assert lane.settle(there, 1105, 1110) == []
    assert lane.settle(there, 1111, 1120) != []


def test_the_oracle_applies_a_pending_call_only_when_its_condition_holds() -> None:
    conditional = Operation((Put((0, b"a"), b"new"),), must_exist=((0, b"a"), True))
    assert _settle({}, conditional, {(0, b"a"): b"new"}) != []
    assert _settle({(0, b"a"): b"old"}, conditional, {(0, b"a"): b"new"}) == []
    assert _settle({(0, b"a"): b"old"}, Operation((Delete((0, b"a")),)), {}) == []


def _settle(
    acknowledged: dict[tuple[int, bytes], bytes], pending: Operation | None, found: dict[tuple[int, bytes], bytes]
) -> list[str]:
    """Return what the oracle says about rows found after a crash."""
    lane = Lane({place: Cell(value) for place, value in acknowledged.items()})
    if pending is not None:
        lane.pending = Pending(pending, 0, 0)
    return lane.settle(found, 0, 0)
