"""Kill a loaded server again and again and check what is left.

    tools/crash/crash.py [--rounds 20] [--moves 22] [--seed N] [--workers 6] [--store auto] [--start-seconds 5]
                         [--keep]

Each round starts a real server on the same directory, checks everything that was ever acknowledged, loads it from
several threads (puts, lifetimes, conditions, batches across databases, range deletes), and kills it with -9: at a
random moment, right after the reply of a ban, in the middle of a ban, a creation, a reclaim, a compaction or a start.

Checked: acknowledged calls are there, refused ones are not, those without a reply are there wholly or not at all,
versions grow across restarts, a ban's reply is obeyed by every later call and survives, a banned namespace that is
unbanned has all its rows, a reclaimed number is empty when it is issued again and its old tokens are worthless, the
server is ready within 5 s, and in the end no file holds a value of a reclaimed namespace.

Then data is moved: backup create, backup restore, import, load, ns clone and backup restore-namespace are killed, the
command or the server under it, at random moments and at single file operations; see ``moves.py``.

The seed fixes which calls each worker makes and what is killed when; how far the workers get is up to the machine.
It ends with 1 when something was violated, and then keeps the directory.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.crash.moves import MovesPlan, MovesRun
from tools.crash.rounds import Plan, Run
from tools.lab.process import ServerFailedError
from tools.lab.rpc import RpcError


def main() -> int:
    """Run and report; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="kills (default 20)")
    parser.add_argument("--moves", type=int, default=22, help="kills of what moves data (default 22)")
    parser.add_argument("--seed", type=int, default=None, help="repeat the calls of an earlier run")
    parser.add_argument("--workers", type=int, default=6, help="threads that write (default 6)")
    parser.add_argument("--store", default="auto", choices=("auto", "native", "rocksdict"))
    parser.add_argument(
        "--start-seconds", type=float, default=5.0, help="a start may take so long (default 5); more on a busy machine"
    )
    parser.add_argument("--keep", action="store_true", help="keep the data directory")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**32)
    again = f"--rounds {arguments.rounds} --moves {arguments.moves} --seed {seed} --store {arguments.store}"
    print(f"seed {seed}; repeat with: make crash ARGS='{again}'", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="prefixdb-crash-"))
    plan = Plan(arguments.rounds, seed, arguments.workers, arguments.store, arguments.start_seconds)
    run = Run(plan, directory / "data")
    begin = time.monotonic()
    good = False
    try:
        good = run.run() and _move(run, directory / "moves", MovesPlan(arguments.moves, seed, arguments.store))
    except (ServerFailedError, RpcError) as failure:
        run.findings.violation(f"the run broke off: {failure}")
    print(f"{time.monotonic() - begin:.0f} s, slowest start {run.open_s_worst:.2f} s")
    for name, count in sorted(run.findings.counts.items()):
        print(f"  {name:45s} {count:9,d}")
    for violation in run.findings.violations[:50]:
        print(f"VIOLATION: {violation}")
    if good and not arguments.keep:
        shutil.rmtree(directory)
    else:
        print(f"kept: {directory}")
    print("crash: ok" if good else f"crash: FAILED, {len(run.findings.violations)} violations, seed {seed}")
    return 0 if good else 1


def _move(run: Run, directory: Path, plan: MovesPlan) -> bool:
    """Move data and kill that; add what was found to the findings of ``run``."""
    directory.mkdir()
    moves = MovesRun(plan, directory)
    good = moves.run()
    run.findings.violations.extend(moves.violations)
    run.findings.counts.update({f"moves killed: {name}": count for name, count in moves.counts.items()})
    return good


if __name__ == "__main__":
    sys.exit(main())
