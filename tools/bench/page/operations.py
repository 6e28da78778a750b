"""What is compared, in the order in which it is measured, and what must be reached.

Reads come first: what the writes leave behind would be in their way, in a memtable here and a history there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tools.bench.page import keys
from tools.bench.page.samples import Ratio, Sample, ratio
from tools.bench.page.side import GET_H2LOAD, PYTHON_IN_FLIGHT

NATIVE, PYTHON = "prefixdb native", "prefixdb Python"
ETCD, REDIS, REDIS_ALWAYS = "etcd", "redis everysec", "redis always"
ROCKSDB, NGHTTPD, NGHTTPD_GET = "RocksDB", "nghttpd", "nghttpd GET"
SIDES = (NATIVE, PYTHON, ETCD, REDIS, REDIS_ALWAYS, ROCKSDB, NGHTTPD, NGHTTPD_GET)


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the table.

    title: for the table; ``unit``: what a second's worth is counted in.
    quick: whether ``--quick`` measures it.
    """

    name: str
    title: str
    unit: str
    quick: bool = True


OPERATIONS: Sequence[Operation] = (
    Operation("get-uniform", "Get, uniform keys", "keys/s"),
    Operation("get-zipfian", "Get, zipfian keys", "keys/s"),
    Operation(GET_H2LOAD, "Get of one key (h2load)", "keys/s"),
    Operation("batch-get", f"BatchGet of {keys.BATCH}", "keys/s"),
    Operation("pipeline-get", f"Pipeline of {keys.PIPELINE} Gets", "keys/s"),
    Operation("scan", "Scan of everything", "rows/s"),
    Operation("scan-one", "Scan, one at a time", "rows/s"),
    Operation("count", f"Count of {keys.COUNTED_ROWS:,d}", "rows/s"),
    *(
        Operation(f"python-get-{n}", f"Python, {n} Get{'s' if n > 1 else ''} at once", "keys/s")
        for n in PYTHON_IN_FLIGHT
    ),
    Operation("put", "Put", "keys/s"),
    Operation("write", f"Write of {keys.BATCH}", "keys/s"),
    Operation("pipeline-put", f"Pipeline of {keys.PIPELINE} Puts", "keys/s"),
    *(
        Operation(f"python-put-{n}", f"Python, {n} Put{'s' if n > 1 else ''} at once", "keys/s", False)
        for n in PYTHON_IN_FLIGHT
    ),
)
BY_NAME: Mapping[str, Operation] = {operation.name: operation for operation in OPERATIONS}

Measured = Mapping[str, Mapping[str, Sequence[Sample]]]
"""Operation name -> side -> the samples of its rounds."""


@dataclass(frozen=True, slots=True)
class Goal:
    """``side`` must do at least ``at_least`` times as many rows a second of an operation as another side of another."""

    text: str
    at_least: float
    operation: str
    side: str
    against_operation: str
    against_side: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what was reached."""

    goal: Goal
    reached: Ratio

    @property
    def met(self) -> bool:
        """Whether the median of the rounds reaches the goal."""
        return self.reached.middle >= self.goal.at_least


def _goal(text: str, at_least: float, operation: str, side: str, *, against: str = "") -> Goal:
    return Goal(text, at_least, operation, NATIVE, against or operation, side)


GOALS: Sequence[Goal] = (
    _goal("Get, against etcd's serializable range", 8.0, "get-uniform", ETCD),
    _goal("Get, against redis GET without a pipeline", 1.1, "get-uniform", REDIS),
    _goal("Get, against nghttpd answering the same request with a file", 0.55, GET_H2LOAD, NGHTTPD),
    _goal("BatchGet of 100, keys/s against Get", 3.0, "batch-get", NATIVE, against="get-uniform"),
    _goal("Scan, against RocksDB's own iteration", 0.4, "scan", ROCKSDB),
    _goal("Pipeline of 64 Gets, against redis -P 64", 0.6, "pipeline-get", REDIS),
    _goal("Put, against etcd's put", 3.0, "put", ETCD),
    _goal("Put, against redis SET with everysec", 0.7, "put", REDIS),
    _goal("Pipeline of 64 synced Puts, against redis -P 64 with always", 1.0, "pipeline-put", REDIS_ALWAYS),
    _goal("Python, 256 Gets at once, against etcd", 5.0, "python-get-256", ETCD),
    _goal("Python, 256 Gets at once, against redis-py", 1.5, "python-get-256", REDIS),
)


def judge(measured: Measured, goals: Sequence[Goal] = GOALS) -> Iterator[Verdict]:
    """Yield a verdict for every goal whose both sides were measured."""
    for goal in goals:
        ours = measured.get(goal.operation, {}).get(goal.side)
        theirs = measured.get(goal.against_operation, {}).get(goal.against_side)
        if ours and theirs:
            yield Verdict(goal, ratio(ours, theirs))
