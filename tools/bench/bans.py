"""Measure what a large ban manifest costs: the time to open, and point reads of live namespaces.

    tools/bench/bans.py [--bans 100000] [--store rocksdict ...] [--repetitions 5] [--json]

Method: one data directory for each kind of manifest (no bans, bans not yet reclaimed, begun and so published at start,
reclaimed), with the same rows in 100 live namespaces, made with the catalog's own records. Opening is what a server
does before its port opens: store, registry, token authority, reclaimer. Then all directories stay open, and short
slices of point reads through the store, with keys in random order, go to each in turn, so that whatever else the
machine does hits all alike; the table shows medians, of the slices the median of their ratios. It ends with 1 when a
goal is missed: opening at most a second longer than without bans, point reads at least 0.97 of those without.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from prefixdb.catalog import load, schema
from prefixdb.catalog.entities import Ban, NamespaceRecord, NamespaceState, ReclaimPhase
from prefixdb.catalog.manifest import waiting_report
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.tokens import Keyring, TokenAuthority
from prefixdb.clock import SystemClock
from prefixdb.errors import PrefixdbError
from prefixdb.keycodec import RowKey, data_key
from prefixdb.reclaim import Reclaimer
from prefixdb.store import open_store
from prefixdb.store.base import Commit, Mutation, Put, Store

LIVE = 100
ROWS = 5_000
"""Live namespaces and rows in each: half a million rows that stay in the block cache, so that a slower path would show.
With a tenth of them the records of the manifest would be most of the store, and any rows make a store slower."""

SLICES = 40
SLICE_READS = 5_000
"""Slices of reads in a repetition, and reads in each: about 25 ms, too short for much to change in between."""

BATCH = 2_000
FIRST_BANNED_ID = 2**32
OPEN_S_MORE_MAX = 1.0
READS_RATIO_MIN = 0.97
KINDS = ("none", "undone", "begun", "reclaimed")
_LABELS = {"none": "no bans", "undone": "grace runs", "begun": "published", "reclaimed": "reclaimed"}
_DAY_MS = 24 * 3600 * 1000


@dataclass(slots=True)
class Measured:
    """Every run of one kind of manifest with one store."""

    open_s: list[float]
    reads_per_s: list[float]


def main() -> int:
    """Run the measurement and print it; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bans", type=int, default=100_000, help="bans in the manifest (default 100000)")
    parser.add_argument("--store", action="append", help="store to measure; again for more (default: every one built)")
    parser.add_argument("--repetitions", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    report = {}
    with tempfile.TemporaryDirectory(prefix="prefixdb-bans-") as directory:
        for store in arguments.store or _built(Path(directory)):
            report[store] = _measure(store, Path(directory) / store, arguments)
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        print(f"{arguments.bans:,d} bans; medians of {arguments.repetitions}", *_table(report), sep="\n")
    return 0 if all(_is_met(kinds) for kinds in report.values()) else 1


def _built(directory: Path) -> Iterator[str]:
    """Yield the stores of this installation."""
    for kind in ("rocksdict", "native"):
        try:
            open_store(kind, directory / f"try-{kind}", clock=SystemClock()).close()
        except PrefixdbError as failure:
            print(f"{kind} is left out: {failure.message}", file=sys.stderr)
        else:
            yield kind


def _measure(store: str, directory: Path, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    _fill(store, directory / "none", _live_rows(SystemClock().now_ms()))
    for kind in KINDS[1:]:
        shutil.copytree(directory / "none", directory / kind)
        _fill(store, directory / kind, _banned(kind, arguments.bans, SystemClock().now_ms()))
    runs = {kind: Measured([], []) for kind in KINDS}
    for _ in range(arguments.repetitions):
        _run(store, directory, runs)
    plain = runs["none"]
    return {
        kind: {
            "open_s": statistics.median(run.open_s),
            "open_s_more": statistics.median(run.open_s) - statistics.median(plain.open_s),
            "reads_per_s": statistics.median(run.reads_per_s),
            "reads_ratio": statistics.median(
                mine / theirs for mine, theirs in zip(run.reads_per_s, plain.reads_per_s, strict=True)
            ),
        }
        for kind, run in runs.items()
    }


def _run(store: str, directory: Path, into: dict[str, Measured]) -> None:
    """Open every directory as a server does, read from all in turn, close them."""
    clock = SystemClock()
    with ExitStack() as opened:
        stores = {}
        for kind in KINDS:
            gc.collect()
            begin = time.perf_counter()
            stores[kind] = opened.enter_context(closing(open_store(store, directory / kind, clock=clock)))
            registry = Registry(stores[kind], clock)
            TokenAuthority(stores[kind], clock, registry, Keyring(stores[kind], clock, directory / kind))
            Reclaimer(stores[kind], registry, clock, lambda _namespace_id: 0)
            into[kind].open_s.append(time.perf_counter() - begin)
        for number in range(-1, SLICES):  # The first of each warms the cache up.
            for kind in random.sample(KINDS, len(KINDS)):
                reads_per_s = _reads_per_s(stores[kind], number)
                if number >= 0:
                    into[kind].reads_per_s.append(reads_per_s)


def _reads_per_s(store: Store, seed: int) -> float:
    chance = random.Random(seed)
    keys = [_key(chance.randrange(1, LIVE + 1), chance.randrange(ROWS)) for _ in range(SLICE_READS)]
    begin = time.perf_counter()
    for key in keys:
        if store.get(key) is None:
            raise RuntimeError("a row is missing")
    return SLICE_READS / (time.perf_counter() - begin)


def _fill(store: str, directory: Path, writes: Sequence[Mutation]) -> None:
    """Write rows into a data directory."""
    clock = SystemClock()
    directory.mkdir(parents=True, exist_ok=True)
    with closing(open_store(store, directory, clock=clock, durability="os")) as opened:
        Registry(opened, clock)
        for first in range(0, len(writes), BATCH):
            if not opened.commit(Commit(tuple(writes[first : first + BATCH]))).applied:
                raise RuntimeError("a commit was not applied")
        opened.flush()
        opened.compact()


def _live_rows(now_ms: int) -> list[Mutation]:
    writes: list[Mutation] = []
    for namespace_id in range(1, LIVE + 1):
        state = NamespaceState.ACTIVE
        record = NamespaceRecord(namespace_id, f"live-{namespace_id}", state, 1, {}, now_ms, now_ms, "", 1)
        writes += [Put(schema.namespace_key(namespace_id), schema.encode_namespace(record)), load.name_put(record)]
        writes += [Put(_key(namespace_id, number), b"v" * 100) for number in range(ROWS)]
    return writes


def _banned(kind: str, bans: int, now_ms: int) -> list[Mutation]:
    writes: list[Mutation] = []
    state = NamespaceState.RECLAIMED if kind == "reclaimed" else NamespaceState.BANNED
    begun_ms, done_ms = now_ms if kind != "undone" else 0, now_ms if kind == "reclaimed" else 0
    grace_ms = _DAY_MS if kind == "undone" else 0
    for namespace_id in range(FIRST_BANNED_ID, FIRST_BANNED_ID + bans):
        name = f"tenant-{namespace_id}"
        record = NamespaceRecord(namespace_id, name, state, 1, {}, now_ms, now_ms, "unpaid", 1)
        ban = Ban(
            namespace_id, 1, name, now_ms, "guardian@0", "unpaid", now_ms + grace_ms,
            reclaim_started_at_ms=begun_ms, bytes_before=1000, rows_before=10, reclaimed_at_ms=done_ms,
        )  # fmt: skip
        writes += [
            Put(schema.namespace_key(namespace_id), schema.encode_namespace(record)),
            Put(schema.ban_key(namespace_id), schema.encode_ban(ban)),
        ]
        if kind == "reclaimed":
            report = waiting_report(ban, record, now_ms)
            assert report.phase is ReclaimPhase.PENDING
            writes.append(Put(schema.report_key(namespace_id, 1), schema.encode_report(report)))
    return writes


def _key(namespace_id: int, number: int) -> RowKey:
    return data_key(namespace_id, 0, b"row/%08d" % number)


def _is_met(kinds: dict[str, dict[str, float]]) -> bool:
    return all(
        kind["open_s_more"] < OPEN_S_MORE_MAX and kind["reads_ratio"] >= READS_RATIO_MIN for kind in kinds.values()
    )


def _table(report: dict[str, dict[str, dict[str, float]]]) -> Iterator[str]:
    yield "| store | bans | open s | more s | point reads/s | ratio |"
    yield "|---|---|---:|---:|---:|---:|"
    for store, kinds in report.items():
        for kind, found in kinds.items():
            yield (
                f"| {store} | {_LABELS[kind]} | {found['open_s']:.2f} | {found['open_s_more']:+.2f} | "
                f"{found['reads_per_s']:,.0f} | {found['reads_ratio']:.3f} |"
            )


if __name__ == "__main__":
    sys.exit(main())
