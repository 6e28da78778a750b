"""The calls of a store that are compared: each case is a short slice of work that says how much it did in how long.

Both stores hold the same rows. A slice is fractions of a second long, so that the stores can take turns and whatever
else the machine does hits both alike. Every slice looks at its answers; a wrong one ends the comparison.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefixdb.clock import SystemClock
from prefixdb.keycodec import RowKey, data_key, namespace_span
from prefixdb.limits import MIB
from prefixdb.store import open_store
from prefixdb.store.base import Commit, Put, Store

HOT_NAMESPACE, COLD_NAMESPACE, WRITTEN_NAMESPACE = 1, 2, 3
HOT_ROWS = 50_000
COLD_ROWS = 400_000
VALUE_BYTES = 100
LOAD_ROWS = 5_000
SLICE_GETS = 5_000
SLICE_BATCHES = 100
BATCH_KEYS = 100
SCAN_PAGE_ROWS = 1_000
CALLERS = 64
COMMITS_EACH = 20
SLICE_LARGE_COMMITS = 20
LARGE_COMMIT_ROWS = 64
COLD_CACHE_BYTES = 8 * MIB
"""Room for the index and filter blocks of the rows that are read from files, and for a tenth of the rows."""


class WrongAnswerError(RuntimeError):
    """A store did not answer what it holds."""


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison.

    prepare: makes what a slice needs (keys, commits); its time does not count.
    run: does one slice and returns how many units it did.
    at_least: what native must reach in multiples of rocksdict; None when nothing is demanded.
    cold: whether the stores are opened with a block cache that holds next to nothing.
    """

    name: str
    unit: str
    prepare: Callable[[random.Random], Any]
    run: Callable[[Store, Any], int]
    at_least: float | None
    cold: bool = False


def key_of(namespace_id: int, number: int) -> RowKey:
    """Return the key of a numbered row."""
    return data_key(namespace_id, 0, b"row/%08d" % number)


def value_of(number: int) -> bytes:
    """Return the value of a numbered row; it does not compress."""
    return random.Random(number).randbytes(VALUE_BYTES)


def build(kind: str, data_dir: Path) -> None:
    """Write the rows that all cases need into a new directory."""
    with_rows = open_store(kind, data_dir, clock=SystemClock(), durability="os")
    try:
        for namespace_id, rows in ((HOT_NAMESPACE, HOT_ROWS), (COLD_NAMESPACE, COLD_ROWS)):
            load(with_rows, namespace_id, rows)
        with_rows.flush()
        with_rows.compact()
    finally:
        with_rows.close()


def load(store: Store, namespace_id: int, rows: int) -> None:
    """Put numbered rows into a namespace."""
    for first in range(0, rows, LOAD_ROWS):
        numbers = range(first, min(rows, first + LOAD_ROWS))
        commit = Commit(tuple(Put(key_of(namespace_id, number), value_of(number)) for number in numbers))
        if not store.commit(commit).applied:
            raise WrongAnswerError("a commit was not applied")


def open_for(kind: str, data_dir: Path, *, cold: bool) -> Store:
    """Open a directory as a case wants it."""
    cache_bytes = COLD_CACHE_BYTES if cold else 256 * MIB
    return open_store(kind, data_dir, clock=SystemClock(), cache_bytes=cache_bytes)


def _keys(namespace_id: int, rows: int) -> Callable[[random.Random], list[RowKey]]:
    return lambda chance: [key_of(namespace_id, chance.randrange(rows)) for _ in range(SLICE_GETS)]


def _get(store: Store, keys: list[RowKey]) -> int:
    get = store.get
    for key in keys:
        if get(key) is None:
            raise WrongAnswerError("a row is missing")
    return len(keys)


def _batches(chance: random.Random) -> list[list[RowKey]]:
    return [
        [key_of(HOT_NAMESPACE, chance.randrange(HOT_ROWS)) for _ in range(BATCH_KEYS)] for _ in range(SLICE_BATCHES)
    ]


def _get_many(store: Store, batches: list[list[RowKey]]) -> int:
    for keys in batches:
        if None in store.get_many(keys):
            raise WrongAnswerError("a row is missing")
    return SLICE_BATCHES * BATCH_KEYS


def _nothing(_chance: random.Random) -> None:
    """A walk needs nothing."""


def _scan(store: Store, _nothing: None) -> int:
    cursor = store.open_cursor(namespace_span(HOT_NAMESPACE))
    rows = 0
    try:
        while page := cursor.fetch(SCAN_PAGE_ROWS, MIB):
            rows += len(page)
    finally:
        cursor.close()
    return _all(rows)


def _count(store: Store, _nothing: None) -> int:
    cursor = store.open_cursor(namespace_span(HOT_NAMESPACE), keys_only=True)
    try:
        return _all(cursor.count(2 * HOT_ROWS))
    finally:
        cursor.close()


def _all(rows: int) -> int:
    if rows != HOT_ROWS:
        raise WrongAnswerError(f"{rows} rows instead of {HOT_ROWS}")
    return rows


def _commits(lists: int, each: int) -> Callable[[random.Random], list[list[Commit]]]:
    def prepare(chance: random.Random) -> list[list[Commit]]:
        keys = (key_of(WRITTEN_NAMESPACE, chance.randrange(HOT_ROWS)) for _ in range(lists * each))
        commits = [Commit((Put(key, b"v" * VALUE_BYTES),)) for key in keys]
        return [commits[first : first + each] for first in range(0, len(commits), each)]

    return prepare


def _commits_by_threads(store: Store, lists: list[list[Commit]]) -> int:
    failures: list[BaseException] = []

    def write(commits: list[Commit]) -> None:
        try:
            for commit in commits:
                _check(store.commit(commit).applied)
        except BaseException as failure:  # noqa: BLE001 - raised again by the one who waits
            failures.append(failure)

    callers = [threading.Thread(target=write, args=(commits,)) for commits in lists]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    if failures:
        raise failures[0]
    return sum(map(len, lists))


def _commits_by_tasks(store: Store, lists: list[list[Commit]]) -> int:
    async def write() -> None:
        committer = store.new_committer()

        async def caller(commits: list[Commit]) -> None:
            for commit in commits:
                _check((await committer.commit(commit)).applied)

        try:
            await asyncio.gather(*map(caller, lists))
        finally:
            await committer.close()

    asyncio.run(write())
    return sum(map(len, lists))


def _large_commits(store: Store, lists: list[list[Commit]]) -> int:
    for commits in lists:
        _check(all(result.applied for result in store.commit_many(commits)))
    return sum(map(len, lists))


def _check(applied: bool) -> None:
    if not applied:
        raise WrongAnswerError("a commit was not applied")


_hot = _keys(HOT_NAMESPACE, HOT_ROWS)
_cold = _keys(COLD_NAMESPACE, COLD_ROWS)
_by_callers = _commits(CALLERS, COMMITS_EACH)

CASES: Sequence[Case] = (
    Case("get, from memory", "rows", _hot, _get, 1.0),
    Case("get, from files", "rows", _cold, _get, 1.0, cold=True),
    Case(f"get_many of {BATCH_KEYS}", "rows", _batches, _get_many, 1.0),
    Case("scan", "rows", _nothing, _scan, 1.0),
    Case("count", "rows", _nothing, _count, 1.0),
    Case(f"synced commits, {CALLERS} threads", "commits", _by_callers, _commits_by_threads, 2.0),
    Case(f"synced commits, {CALLERS} tasks", "commits", _by_callers, _commits_by_tasks, 2.0),
    Case(
        f"synced commit_many of {LARGE_COMMIT_ROWS}", "commits",
        _commits(SLICE_LARGE_COMMITS, LARGE_COMMIT_ROWS), _large_commits, None,
    ),
)  # fmt: skip


def rate(case: Case, store: Store, seed: int) -> float:
    """Run one slice and return units a second."""
    prepared = case.prepare(random.Random(seed))
    begin = time.perf_counter()
    done = case.run(store, prepared)
    return done / (time.perf_counter() - begin)
