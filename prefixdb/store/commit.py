"""Planning of commits, and the committer that lets many writers share one synced batch.

A batch is planned while the store's commit lock is held: guards and conditions are checked against the state as the
earlier commits of the same batch leave it (an overlay over the engine), and every mutation of a commit gets one
version: the engine's sequence number of the commit's last mutation. Sequence numbers survive restarts and are never
reused, so versions need no counter of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import Span
from prefixdb.limits import MIB
from prefixdb.records import StoredValue, decode_value, encode_value
from prefixdb.store.base import (
    Absent,
    Commit,
    CommitResult,
    Condition,
    Delete,
    DeleteSpan,
    Exists,
    Put,
    Store,
    ValueIs,
    VersionIs,
)

SHARED_BATCH_BYTES_MAX = 4 * MIB
"""Bytes of mutations after which a shared batch takes no further request. The engine writes a batch while holding the
interpreter's lock (64 MiB: 188 ms), so a batch is kept to what delays readers by about ten milliseconds."""

SHARED_BATCH_COMMITS_MAX = 1_024
"""Commits after which a shared batch takes no further request; one fsync among so many costs each next to nothing."""

GATHER_TURNS = 8
"""Turns of the event loop without a new request after which a batch is closed. A batch costs about a millisecond beside
its rows (fsync, and the thread's way through the interpreter's lock), and calls that are under way arrive within a few
turns: waiting for them gave 16 writes a batch instead of 2 and 1.6 times the puts at 64 in flight. A lone writer loses
a tenth of a millisecond."""

GATHER_SECONDS_MAX = 0.010
"""Longest time a batch waits for company."""

ENGINE_WIDE = frozenset({Reason.WRITE_STALL, Reason.READ_ONLY_STORE, Reason.OUTCOME_UNKNOWN})
"""Failures of the engine: trying the requests of a batch one by one would fail each the same way, or apply it twice.
Not a full disk: nothing was applied, and the last of the space is kept for those that only delete."""


class Batch(Protocol):
    """What a planner writes into; the engine applies it atomically."""

    def put(self, key: bytes, value: bytes, /) -> None: ...
    def delete(self, key: bytes, /) -> None: ...
    def delete_range(self, begin: bytes, end: bytes, /) -> None: ...


class BatchPlanner:
    """Turns commits into engine operations, one after the other, and says what becomes of each.

    Not thread-safe. The caller holds the store's commit lock from before construction until the batch is written.

    Args:
        read: returns the stored form of a row, or None.
        batch: receives the operations of the commits that hold.
        sequence: the engine's last sequence number.
        now_ms: the time at which rows are taken to be expired or not, the same for the whole batch.
    """

    def __init__(self, read: Callable[[bytes], bytes | None], batch: Batch, sequence: int, now_ms: int) -> None:
        self._read = read
        self._batch = batch
        self._now_ms = now_ms
        self._overlay: dict[bytes, StoredValue | None] = {}
        self._deleted: list[Span] = []
        self.sequence = sequence
        """Sequence number the engine will have once the batch is written."""
        self.range_deletes = 0
        """Range tombstones in the batch."""

    def add(self, commit: Commit) -> CommitResult:
        """Plan one commit; its operations go into the batch when every guard and condition holds.

        Raises:
            DataLossError: a row that a guard or condition names is damaged. Nothing of this commit was planned, but
                the batch may hold earlier ones.
            ValueError: a mutation is impossible; the batch must not be written.
        """
        if commit.guards:
            failed = self._first_failure(commit.guards)
            if failed is not None:
                return CommitResult(False, failed_guard=failed[0], current_version=failed[1])
        if commit.conditions:
            failed = self._first_failure(commit.conditions)
            if failed is not None:
                return CommitResult(False, failed_condition=failed[0], current_version=failed[1])
        # An empty span is left out: its number would be lost with the next flush, and then be given out twice.
        mutations = [each for each in commit.mutations if type(each) is not DeleteSpan or not each.span.is_empty]
        if not mutations:
            return CommitResult(True)
        version = self.sequence + len(mutations)
        for mutation in mutations:
            self._apply(mutation, version)
        self.sequence = version
        return CommitResult(True, version)

    def _apply(self, mutation: Put | Delete | DeleteSpan, version: int) -> None:
        if type(mutation) is Put:
            key, payload, expires_at_ms, kept = mutation
            if kept:
                if not 0 < kept < version:
                    # A version that is still to come would be given out a second time.
                    raise ValueError("a version of no earlier commit")
                version = kept
            self._batch.put(key, encode_value(payload, version, expires_at_ms))
            self._overlay[key] = StoredValue(payload, version, expires_at_ms)
        elif type(mutation) is Delete:
            self._batch.delete(mutation.key)
            self._overlay[mutation.key] = None
        elif type(mutation) is DeleteSpan:
            span = mutation.span
            if span.begin > span.end:
                # Span refuses this when it is made; an inverted range would poison the engine, so look again here.
                raise ValueError("inverted span")
            self._batch.delete_range(span.begin, span.end)
            self.range_deletes += 1
            self._overlay.update(dict.fromkeys([known for known in self._overlay if known in span]))
            self._deleted.append(span)
        else:
            raise TypeError("not a mutation")

    def _first_failure(self, conditions: Sequence[Condition]) -> tuple[int, int] | None:
        for index, condition in enumerate(conditions):
            row = self._look(condition.key)
            if not _holds(condition, row):
                return index, row.version if row else 0
        return None

    def _look(self, key: bytes) -> StoredValue | None:
        """Return the live row as the commits planned so far leave it; reads the engine once per key and batch."""
        if key in self._overlay:
            row = self._overlay[key]
        elif any(key in span for span in self._deleted):
            row = self._overlay[key] = None
        else:
            stored = self._read(key)
            row = self._overlay[key] = None if stored is None else decode_value(stored)
        if row is not None and 0 < row.expires_at_ms <= self._now_ms:
            return None
        return row


def _holds(condition: Condition, row: StoredValue | None) -> bool:
    if type(condition) is VersionIs:
        return row is not None and row.version == condition.version
    if type(condition) is Absent:
        return row is None
    if type(condition) is Exists:
        return row is not None
    if type(condition) is ValueIs:
        return row is not None and row.payload == condition.payload
    raise TypeError("not a condition")


class Request(NamedTuple):
    """Commits of one caller and where the answer goes."""

    commits: tuple[Commit, ...]
    size: int
    reply: asyncio.Future[list[CommitResult]]


class GroupCommitter:
    """Gathers the commits of an event loop's tasks: while one synced batch is being written the next one fills.

    Not thread-safe: use it from one event loop. One worker thread does the blocking part. A task that is cancelled
    while it waits does not take its commit back.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Request] = []
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefixdb-commit")
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    async def commit(self, commit: Commit) -> CommitResult:
        """Apply one commit durably, sharing the batch with whoever else is waiting.

        Raises:
            PrefixdbError: as ``Store.commit_many``.
        """
        return (await self.commit_all((commit,)))[0]

    async def commit_all(self, commits: Sequence[Commit]) -> list[CommitResult]:
        """Apply commits in order, each all or nothing, all in one batch that others may share.

        Returns:
            One result for each, in order.

        Raises:
            PrefixdbError: as ``Store.commit_many``; it then holds for all of ``commits``.
        """
        if self._closed:
            raise RuntimeError("the committer is closed")
        if not commits:
            return []
        reply: asyncio.Future[list[CommitResult]] = asyncio.get_running_loop().create_future()
        self._waiting.append(Request(tuple(commits), sum(map(commit_size, commits)), reply))
        if self._running is None:
            # The task starts in the loop's next turn, so that everything submitted in this one shares the batch.
            self._running = asyncio.get_running_loop().create_task(self._run(), name="prefixdb-commit")
        return await reply

    async def close(self) -> None:
        """Refuse new commits and wait for those that were accepted. Harmless when called again."""
        self._closed = True
        while self._running is not None:
            await asyncio.shield(self._running)
        self._worker.shutdown(wait=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                await gather(self._waiting)
                requests = take_batch(self._waiting)
                outcomes = await loop.run_in_executor(self._worker, self._write, requests)
                for request, outcome in zip(requests, outcomes, strict=True):
                    if request.reply.done():
                        continue
                    if isinstance(outcome, BaseException):
                        request.reply.set_exception(outcome)
                    else:
                        request.reply.set_result(outcome)
        finally:
            self._running = None
            self._abandon()

    def _abandon(self) -> None:
        """Answer whoever is still waiting; only reached with waiters when the loop itself cancels the task."""
        for request in self._waiting:
            if not request.reply.done():
                request.reply.cancel()
        self._waiting.clear()

    def _write(self, requests: list[Request]) -> list[list[CommitResult] | Exception]:
        """Write a shared batch in the worker thread; a request that fails by its own fault does not fail the others."""
        try:
            results = iter(self._store.commit_many([commit for request in requests for commit in request.commits]))
            return [[next(results) for _ in request.commits] for request in requests]
        except PrefixdbError as failure:
            if failure.reason in ENGINE_WIDE or len(requests) == 1:
                return [failure] * len(requests)
        except Exception as failure:  # noqa: BLE001 - handed to the waiting tasks, which raise it
            if len(requests) == 1:
                return [failure]
        # Nothing was applied, and one request's damaged row or wrong argument is no reason to refuse its neighbours.
        outcomes: list[list[CommitResult] | Exception] = []
        for request in requests:
            outcomes += self._write([request])
        return outcomes


async def gather(waiting: Sequence[object]) -> None:
    """Let the loop turn while requests keep coming in."""
    loop = asyncio.get_running_loop()
    gives_up_at = loop.time() + GATHER_SECONDS_MAX
    seen = quiet = 0
    while quiet < GATHER_TURNS and loop.time() < gives_up_at:
        await asyncio.sleep(0)
        quiet = quiet + 1 if len(waiting) == seen else 0
        seen = len(waiting)


def take_batch(waiting: list[Request]) -> list[Request]:
    """Take from ``waiting`` what one batch may hold, at least one request."""
    size = commits = taken = 0
    for request in waiting:
        size += request.size
        commits += len(request.commits)
        if taken and (size > SHARED_BATCH_BYTES_MAX or commits > SHARED_BATCH_COMMITS_MAX):
            break
        taken += 1
    requests = waiting[:taken]
    del waiting[:taken]
    return requests


def commit_size(commit: Commit) -> int:
    """Return the bytes of keys and payloads that a commit writes."""
    return sum(len(put.key) + len(put.payload) for put in commit.mutations if type(put) is Put)
