"""A long random walk through a whole server, every answer compared with a model in a dict.

    tools/crash/model.py [--operations 10000] [--seed N] [--store auto] [--keep]

The server runs in this process with a clock that only the walk moves; the walk speaks gRPC to it. It mixes all calls of
KeyValue (single, batched, conditional, pipelined, both directions, lifetimes, invalid ones) on several namespaces with
bans, unbans, suspensions, reclaims, numbers and names issued again, restarts and compactions, and tries the tokens of
dropped namespaces. What is right comes from ``expect.py``, which shares no code with the server.

A walk depends on its seed alone. When an answer differs, the message has both answers, the steps before, and the
command that walks there again. It ends with 1 then, and keeps the directory.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.crash.compare import MismatchError
from tools.crash.host import InProcessHost
from tools.crash.walk import Walk
from tools.lab.files import files_with, incompressible
from tools.lab.rpc import RpcError


def walk(directory: Path, seed: int, operations: int, *, store: str = "auto", talk: bool = False) -> dict[str, int]:
    """Walk on a new server in ``directory``; return how often what was done.

    Raises:
        MismatchError: an answer was wrong, or a file still holds a value of a reclaimed namespace.
    """
    host = InProcessHost(directory / "data", store=store)
    try:
        steps = Walk(host, seed)
        try:
            steps.run(operations, _talker(operations) if talk else lambda done: None)
        except RpcError as failure:
            raise steps.mismatch("a call of the walk itself", "no refusal", failure) from failure
        finally:
            steps.close()
    finally:
        host.close()
    for issue in steps.gone:
        for path in files_with(directory / "data", incompressible(issue.marker.decode())[1]):
            raise MismatchError(f"a value of a reclaimed issue of namespace {issue.id} is still in {path.name}")
    return dict(steps.counts)


def _talker(operations: int) -> Callable[[int], None]:
    begin, told = time.monotonic(), [0]

    def tell(done: int) -> None:
        if done * 10 // operations > told[0]:
            told[0] = done * 10 // operations
            print(
                f"{min(100, told[0] * 10):3d} %  {done:9,d} operations  {time.monotonic() - begin:6.0f} s", flush=True
            )

    return tell


def main() -> int:
    """Walk and report; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--operations", type=int, default=10_000, help="how many to compare (default 10,000)")
    parser.add_argument("--seed", type=int, default=None, help="repeat an earlier walk")
    parser.add_argument("--store", default="auto", choices=("auto", "native", "rocksdict"))
    parser.add_argument("--keep", action="store_true", help="keep the data directory")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**32)
    again = f"--operations {arguments.operations} --seed {seed} --store {arguments.store}"
    print(f"seed {seed}; repeat with: make model ARGS='{again}'", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="prefixdb-model-"))
    begin = time.monotonic()
    try:
        counts = walk(directory, seed, arguments.operations, store=arguments.store, talk=True)
    except MismatchError as difference:
        print(f"{difference}\nkept: {directory}\nmodel: FAILED, seed {seed}")
        return 1
    for name, count in sorted(counts.items()):
        print(f"  {name:32s} {count:10,d}")
    if not arguments.keep:
        shutil.rmtree(directory)
    print(f"model: ok, {counts['operations']:,d} operations in {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
