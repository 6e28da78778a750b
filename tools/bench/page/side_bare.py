"""The two limits: RocksDB with nothing around it, and HTTP/2 with nothing behind it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tools.bench.page import calls, generators, keys
from tools.bench.page.generators import Replayed
from tools.bench.page.servers import Running
from tools.bench.page.side import GET_H2LOAD, Load, grpc_headers

WRITERS = 64


class RocksdbSide:
    """RocksDB in a process that measures itself, on rows and settings like the server's."""

    name = "RocksDB"
    pid = None

    def __init__(self, scratch: Path) -> None:
        self._directory = scratch / "rocksdb-alone"
        all_keys = list(keys.rows())
        self._replays = {
            "uniform": keys.write_replay(scratch / "rocksdb-uniform.replay", all_keys, keys.uniform()),
            "zipfian": keys.write_replay(scratch / "rocksdb-zipfian.replay", all_keys, keys.zipfian()),
        }

    def prepare(self) -> None:
        """Write every row once and compact them."""
        command = generators.rocksdb_alone("fill", self._directory, self._replays["uniform"])
        subprocess.run(command, check=True)

    def loads(self) -> Mapping[str, Load]:
        """Return what it can do: reads by one thread, synced writes by as many as others have in flight."""
        return {
            "get-uniform": self._load("get"),
            "get-zipfian": self._load("get", draws="zipfian"),
            "batch-get": self._load("batch_get"),
            "pipeline-get": self._load("batch_get", batch=keys.PIPELINE),
            "scan": self._load("scan"),
            "scan-one": self._load("scan"),
            "count": self._load("count"),
            "put": self._load("put", threads=WRITERS),
            "write": self._load("write", threads=WRITERS),
            "pipeline-put": self._load("write", threads=keys.PIPELINE_STREAMS, batch=keys.PIPELINE),
        }

    def close(self) -> None:
        """Nothing runs between two runs."""

    def _load(self, operation: str, *, draws: str = "uniform", threads: int = 1, batch: int = keys.BATCH) -> Load:
        command = generators.rocksdb_alone(
            operation, self._directory, self._replays[draws], threads=threads, batch=batch
        )
        return lambda timing: generators.run_rocksdb(command, timing)


class NghttpdSide:
    """nghttpd, which answers every request with one small file from memory.

    Args:
        name: how the report calls it.
        content: the file: as large as prefixdb's answer to a Get.
        request: what is posted with its token, the very bytes of a Get; None for a plain HTTP GET without either.
    """

    def __init__(self, name: str, server: Running, content: bytes, request: tuple[bytes, str] | None) -> None:
        self.name = name
        self._server = server
        body, headers = b"", []
        if request is not None:
            body, headers = calls.frame(request[0]), grpc_headers(request[1])
        self._replayed = Replayed(f"http://{server.address}/get", body, headers, (len(content), len(content)))

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._server.pid

    def prepare(self) -> None:
        """The file is there."""

    def loads(self) -> Mapping[str, Load]:
        """Return what it can do."""
        return {GET_H2LOAD: lambda timing: generators.run_h2load(self._replayed, timing)}

    def close(self) -> None:
        """Nothing is open."""
