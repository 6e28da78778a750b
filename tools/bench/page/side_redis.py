"""redis as it is measured: its own load generator, 64 clients without a pipeline or 8 with one of 64."""

from __future__ import annotations

from collections.abc import Mapping

import redis

from tools.bench.page import keys
from tools.bench.page.generators import RedisBenchmark
from tools.bench.page.samples import BadResponsesError, Counted, Timing
from tools.bench.page.servers import Running
from tools.bench.page.side import Load, python_loads

ANY_KEY = "key:__rand_int__"
VALUE = "v" * keys.VALUE_BYTES
CLIENTS = 64


class RedisSide:
    """A running redis; ``prepare`` writes the rows.

    Args:
        name: how the report calls it.
        reads: whether it takes part in reads; how it syncs makes no difference there.
    """

    def __init__(self, name: str, server: Running, *, reads: bool) -> None:
        self.name = name
        self._server = server
        self._reads = reads
        self._client = redis.Redis(port=server.port)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._server.pid

    def prepare(self) -> None:
        """Write every row once."""
        rows = list(keys.rows().items())
        for begin in range(0, len(rows), keys.PAGE_ROWS):
            self._client.mset(dict(rows[begin : begin + keys.PAGE_ROWS]))

    def loads(self) -> Mapping[str, Load]:
        """Return what it can do; it keeps no order, so it has no scan of a range."""
        sets = ["SET", ANY_KEY, VALUE]
        found = {
            "put": self._load(sets, 1, CLIENTS),
            "write": self._load(["MSET", *[ANY_KEY, VALUE] * keys.BATCH], keys.BATCH, CLIENTS),
            "pipeline-put": self._load(sets, 1, keys.PIPELINE_STREAMS, keys.PIPELINE),
        }
        python = python_loads("redis", self._server)
        found |= {name: load for name, load in python.items() if self._reads or "-put-" in name}
        if self._reads:
            gets = ["GET", ANY_KEY]
            found["get-uniform"] = self._load(gets, 1, CLIENTS)
            found["batch-get"] = self._load(["MGET", *[ANY_KEY] * keys.BATCH], keys.BATCH, CLIENTS)
            found["pipeline-get"] = self._load(gets, 1, keys.PIPELINE_STREAMS, keys.PIPELINE)
        return found

    def close(self) -> None:
        """Close the connection of the proofs."""
        self._client.close()

    def _load(self, command: list[str], rows: int, clients: int, pipeline: int = 1) -> Load:
        generator = RedisBenchmark(self._server.port, command, rows=rows, clients=clients, pipeline=pipeline)

        def run(timing: Timing) -> Counted:
            self._prove()
            counted = generator.run(timing)
            self._prove()
            return counted

        return run

    def _prove(self) -> None:
        """Raise unless every row is there: redis-benchmark does not look at what it is answered."""
        middle = self._client.get(keys.key(keys.ROWS // 2))
        if self._client.dbsize() != keys.ROWS or not isinstance(middle, bytes) or len(middle) != keys.VALUE_BYTES:
            raise BadResponsesError("redis does not hold the rows")
