"""Whatever moves data may be killed with -9 at any moment and at any file operation: nothing or all of it is left.

Goal: the same holds for the command that is killed and for the server under it, and the same command, run again, works
and moves everything once: backup create, backup restore, import, load, ns clone, backup restore-namespace.
Method: one round of the crash tool for each of them and each victim, with real commands and servers (``make crash``
runs as many as one likes). The seed is printed with a failure; PREFIXDB_TEST_SEED repeats it, and
PREFIXDB_MOVES_ROUNDS makes it longer.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.store.stores import DURABLE
from tools.crash.moves import PAIRS, MovesPlan, MovesRun

SEED = int(os.environ.get("PREFIXDB_TEST_SEED", "7"))
ROUNDS = int(os.environ.get("PREFIXDB_MOVES_ROUNDS", str(len(PAIRS))))
LANDED_SHARE = 0.7
"""Of the kills that must have met work in the middle: a machine that does other things may end it too early."""


@pytest.mark.timeout(60 + 20 * ROUNDS)
@pytest.mark.parametrize("store", DURABLE)
def test_what_is_killed_in_the_middle_leaves_nothing_or_all_and_is_done_once_by_the_next(
    store: str, tmp_path: Path
) -> None:
    run = MovesRun(MovesPlan(ROUNDS, SEED, store, first=DURABLE.index(store)), tmp_path)
    good = run.run()
    assert good, f"seed {SEED}: {run.violations}"
    assert run.landed >= LANDED_SHARE * ROUNDS, f"seed {SEED}: {run.counts}"
    assert {name.split(", ")[1] for name in run.counts if not name.startswith("too ")} == {"client", "server"}
