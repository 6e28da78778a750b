"""From a ban to the proof, for half of a store's namespaces at once, and what another namespace notices of it.

Each round works on a fresh copy of the same directory. Every second namespace is published and reclaimed, and the
clock runs until the last of them is proven empty. A reader of a namespace that stays, at a steady pace, times each of
its gets before and meanwhile.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefixdb.clock import SystemClock
from prefixdb.keycodec import namespace_span
from prefixdb.store import open_store
from prefixdb.store.base import Store
from tools.bench.store_cases import WrongAnswerError, key_of, load

NAMESPACES = 200
READ_EVERY_S = 0.000_5
BEFORE_S = 2.0
PROOF_S_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """One round. ``p99_*``: of another namespace's gets, in milliseconds."""

    seconds: float
    p99_before_ms: float
    p99_during_ms: float
    reads_during: int


class Reader(threading.Thread):
    """Reads rows of one namespace at a steady pace and keeps how long each took."""

    def __init__(self, store: Store, namespace_id: int, rows: int) -> None:
        super().__init__(daemon=True)
        self.seconds: list[float] = []
        self.failure: BaseException | None = None
        self._store = store
        self._namespace_id = namespace_id
        self._rows = rows
        self._stopping = threading.Event()

    def run(self) -> None:
        chance = random.Random(self._namespace_id)
        try:
            while not self._stopping.is_set():
                key = key_of(self._namespace_id, chance.randrange(self._rows))
                begin = time.perf_counter()
                row = self._store.get(key)
                self.seconds.append(time.perf_counter() - begin)
                if row is None:
                    raise WrongAnswerError("a row of a namespace that stays is gone")
                time.sleep(READ_EVERY_S)
        except BaseException as failure:  # noqa: BLE001 - raised again by ``stop``
            self.failure = failure

    def stop(self) -> None:
        """End the thread; raises what it met."""
        self._stopping.set()
        self.join()
        if self.failure is not None:
            raise self.failure


def build(kind: str, data_dir: Path, rows: int) -> None:
    """Write ``rows`` rows, the same number into each namespace."""
    store = open_store(kind, data_dir, clock=SystemClock(), durability="os")
    try:
        for namespace_id in range(1, NAMESPACES + 1):
            load(store, namespace_id, rows // NAMESPACES)
        store.flush()
        store.compact()
    finally:
        store.close()


def run(kind: str, built: Path, scratch: Path, rows: int) -> Reclaimed:
    """Reclaim every second namespace of a copy of ``built``."""
    shutil.copytree(built, scratch)
    store = open_store(kind, scratch, clock=SystemClock())
    each = rows // NAMESPACES
    reader = Reader(store, NAMESPACES // 2 + 1, each)  # Odd: it stays.
    banned = range(2, NAMESPACES + 1, 2)
    try:
        reader.start()
        time.sleep(BEFORE_S)
        first = len(reader.seconds)
        begin = time.perf_counter()
        store.publish_bans(banned)
        store.reclaim(banned, on_progress=lambda _namespace_id, _progress: None, stop=lambda: False)
        _await_proofs(store, banned)
        seconds = time.perf_counter() - begin
        last = len(reader.seconds)
        reader.stop()
        kept = store.open_cursor(namespace_span(NAMESPACES - 1), keys_only=True)
        try:
            if kept.count(2 * each) != each:
                raise WrongAnswerError("rows of a namespace that stays are gone")
        finally:
            kept.close()
    finally:
        if reader.is_alive():
            reader.stop()
        store.close()
        shutil.rmtree(scratch)
    before, during = reader.seconds[first // 2 : first], reader.seconds[first:last]
    return Reclaimed(seconds, _p99_ms(before), _p99_ms(during), len(during))


def _await_proofs(store: Store, banned: Sequence[int]) -> None:
    limit = time.monotonic() + PROOF_S_MAX
    for namespace_id in banned:
        while not store.prove_empty(namespace_span(namespace_id)).empty:
            if time.monotonic() > limit:
                raise WrongAnswerError(f"namespace {namespace_id} is not proven empty")
            time.sleep(0.005)


def _p99_ms(seconds: Sequence[float]) -> float:
    ordered = sorted(seconds)
    return ordered[int(len(ordered) * 0.99)] * 1_000 if ordered else 0.0
