"""Traffic of the other tenants while one is dropped: reads that check what they read, and writes, all counted."""

from __future__ import annotations

import json
import random
import threading
import time

from prefixdb import Database, PrefixdbError, connect
from tools.demo.cities import Continent, rank_key

PAUSE_S = 0.002
"""Between two calls of one tenant: the demo shows that nothing stops, it is not a benchmark."""


class Traffic:
    """One thread for each tenant, reading and writing until ``stop``.

    Args:
        endpoint: the server.
        tenants: continent and token of each.
    """

    def __init__(self, endpoint: str, tenants: list[tuple[Continent, str]]) -> None:
        self.reads = 0
        self.writes = 0
        self.failures: list[str] = []
        self.slowest_ms = 0.0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(endpoint, continent, token), daemon=True)
            for continent, token in tenants
        ]
        for thread in self._threads:
            thread.start()

    @property
    def calls(self) -> int:
        """Calls that succeeded so far."""
        return self.reads + self.writes

    def stop(self) -> None:
        """End the threads and wait for them."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, endpoint: str, continent: Continent, token: str) -> None:
        rng = random.Random(continent.name)
        with connect(endpoint, token=token, namespace=continent.name) as db:
            while not self._stopping.wait(PAUSE_S):
                begin = time.monotonic()
                try:
                    is_write = rng.random() < 0.3
                    wrong = self._write(db, rng) if is_write else self._read(db, continent, rng)
                except PrefixdbError as failure:
                    is_write, wrong = False, f"{type(failure).__name__}: {failure}"
                took_ms = (time.monotonic() - begin) * 1000
                with self._lock:
                    self.slowest_ms = max(self.slowest_ms, took_ms)
                    if wrong:
                        self.failures.append(f"{continent.name}: {wrong}")
                    elif is_write:
                        self.writes += 1
                    else:
                        self.reads += 1

    def _read(self, db: Database, continent: Continent, rng: random.Random) -> str:
        """Read one city; return what is wrong, or nothing."""
        rank = rng.randint(1, len(continent.cities))
        value = db.get(rank_key(rank))
        right = value is not None and json.loads(value) == continent.cities[rank - 1]
        return "" if right else f"{rank_key(rank)} is not what was stored"

    def _write(self, db: Database, rng: random.Random) -> str:
        """Write one row, durably; raises when it is refused."""
        db.put(f"visit/{rng.randrange(1000):04d}", str(time.time_ns()).encode())
        return ""
