"""Write a golden data directory: what a store of today leaves behind when it is killed, for the stores of tomorrow.

    tools/crash/make_golden.py {rocksdict|native} TARGET

TARGET gets ``data/``, a data directory with table files on several levels and a write-ahead log, and ``expected.json``,
every row in it. In the directory are namespaces with the smallest and the largest numbers, several databases, keys of
all bytes and of the greatest length, empty, compressible and incompressible values, lifetimes, overwritten and deleted
rows, range deletes in files and in the log, and in the catalog a suspended namespace, one that was dropped and is
waiting for its grace to end, and one whose grace has ended.

A golden directory is made once, when a format is new, and never again: tests open copies of it with every store. The
machine's name, which RocksDB writes into table files, is hidden; that needs the right to have a name of one's own
(root, or user namespaces).
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import json
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from prefixdb.catalog.entities import NamespaceState
from prefixdb.catalog.namespaces import Registry
from prefixdb.keycodec import RowKey, Span, data_key, database_span, prefix_span
from prefixdb.limits import KEY_BYTES_MAX, MIB, NAMESPACE_ID_MAX
from prefixdb.store import open_store
from prefixdb.store.base import Commit, Delete, DeleteSpan, Put, Store
from tools.crash.host import EPOCH_MS
from tools.lab.clocks import HeldClock

NAMESPACES = (1, 2**32, 2**63, NAMESPACE_ID_MAX)
SUSPENDED, GRACED, DUE = 100, 101, 102
DATABASES = (0, 7, 65_535)
ROWS = 24
HOUR_MS = 3_600_000
SAVED_S_MAX = 20.0
Model = dict[RowKey, tuple[bytes, int]]
"""Payload and end of lifetime of each row that was put and not deleted."""

_NEW_HOST_NAME = 0x04000000 | 0x10000000  # CLONE_NEWUTS | CLONE_NEWUSER


def main() -> int:
    """Write the directory; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=("rocksdict", "native"))
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    arguments.target.mkdir(parents=True)
    _hide_the_machine()
    with tempfile.TemporaryDirectory(prefix="prefixdb-golden-") as live:
        rows = _write(arguments.kind, Path(live) / "data", arguments.target / "data")
    facts = {"store": arguments.kind, "now_ms": EPOCH_MS, "rows": rows}
    text = json.dumps(facts, indent=0, sort_keys=True) + "\n"
    (arguments.target / "expected.json").write_text(text, encoding="utf-8")
    size = sum(path.stat().st_size for path in arguments.target.rglob("*") if path.is_file())
    print(f"{arguments.target}: {len(rows)} rows, {size:,d} bytes")
    return 0


def all_rows(store: Store) -> list[list[Any]]:
    """Return every row of a store, live or expired, in key order: key, payload (both base64), version, expiry."""
    cursor = store.open_cursor(Span(RowKey(b""), RowKey(b"\xff" * 8)), raw=True)
    rows: list[list[Any]] = []
    try:
        while page := cursor.fetch(1_000, MIB):
            rows += [[_text(row.key), _text(row.payload), row.version, row.expires_at_ms] for row in page]
    finally:
        cursor.close()
    return rows


def _write(kind: str, live: Path, target: Path) -> list[list[Any]]:
    clock = HeldClock(EPOCH_MS)
    store = open_store(kind, live, clock=clock, cache_bytes=MIB, write_buffer_bytes=MIB)
    try:
        written = _fill(store, clock)
        expected = {key: row for key, row in written.items() if not _has_ended(row[1])}
        rows = all_rows(store)
        found = {key: payload for key, payload, _, ends_at_ms in rows if _is_data(key) and not _has_ended(ends_at_ms)}
        if found != {_text(key): _text(payload) for key, (payload, ends_at_ms) in expected.items()}:
            raise RuntimeError("the store does not hold what was written")
        _await_saved(live, store.status().last_version)
        target.mkdir(mode=0o700)
        (target / "db").mkdir(mode=0o700)
        shutil.copy(live / "store-state.json", target)
        for path in sorted((live / "db").iterdir()):
            # The info log, the lock and the binding's own notes are not part of the format.
            if not path.name.startswith(("LOG", "LOCK", "OPTIONS", "rocksdict-config")):
                shutil.copy(path, target / "db")
    finally:
        store.close()
    return rows


def _fill(store: Store, clock: HeldClock) -> Model:
    """Write everything; return what must be there of tenants' rows."""
    model: Model = {}
    _catalog(Registry(store, clock))
    for namespace_id in (*NAMESPACES, SUSPENDED, GRACED, DUE):
        _load(store, model, namespace_id, b"first")
    store.flush()
    store.compact()
    for namespace_id in NAMESPACES[1:]:
        _load(store, model, namespace_id, b"second")
        _change(store, model, namespace_id)
    store.flush()
    _load(store, model, NAMESPACES[0], b"third")
    _change(store, model, NAMESPACES[0])
    registry = Registry(store, clock)
    registry.ban(GRACED, by="guardian@0", reason="golden", grace_ms=24 * HOUR_MS)
    registry.ban(DUE, by="guardian@0", reason="golden", grace_ms=0)
    return model


def _catalog(registry: Registry) -> None:
    for namespace_id in (*NAMESPACES, SUSPENDED, GRACED, DUE):
        registry.create(f"golden-{namespace_id}", namespace_id=namespace_id)
    registry.suspend(SUSPENDED, NamespaceState.READ_ONLY, "golden")


def _keys(namespace_id: int, database: int) -> list[RowKey]:
    longest = b"k" * (KEY_BYTES_MAX if database == 0 else 1)
    odd = (b"\0", b"\0\0", b"\xff", b"\xff" * 9, bytes(range(256)), longest, "schlüssel".encode())
    return [data_key(namespace_id, database, key) for key in (*odd, *(b"row/%03d" % number for number in range(ROWS)))]


def _load(store: Store, model: Model, namespace_id: int, word: bytes) -> None:
    """Put every row of a namespace, some with lifetimes: ended, ending, far away."""
    for database in DATABASES:
        commits = []
        for number, key in enumerate(_keys(namespace_id, database)):
            rng = random.Random(f"{namespace_id}/{database}/{number}/{word!r}")
            payload = (b"", word * 9, rng.randbytes(40), bytes(range(256)))[number % 4]
            expires_at_ms = (0, 0, EPOCH_MS - HOUR_MS, EPOCH_MS, EPOCH_MS + HOUR_MS, 2**63)[number % 6]
            commits.append(Commit((Put(key, payload, expires_at_ms),)))
            model[key] = payload, expires_at_ms
        store.commit_many(commits)


def _change(store: Store, model: Model, namespace_id: int) -> None:
    """Delete single rows, a prefix and a whole database, and put rows into the holes in the same commit."""
    single = _keys(namespace_id, 0)[10]
    prefix = prefix_span(namespace_id, 7, b"row/00")
    back = data_key(namespace_id, 7, b"row/003")
    whole = database_span(namespace_id, 65_535)
    store.commit(Commit((Delete(single), DeleteSpan(prefix), Put(back, b"back"), DeleteSpan(whole))))
    for key in [key for key in model if key == single or key in prefix or key in whole]:
        del model[key]
    model[back] = b"back", 0


def _await_saved(data_dir: Path, version: int) -> None:
    """Wait until the side file knows everything that was written."""
    limit = time.monotonic() + SAVED_S_MAX
    while json.loads((data_dir / "store-state.json").read_text(encoding="utf-8"))["sequence"] < version:
        if time.monotonic() > limit:
            raise TimeoutError("the side file was not saved")
        time.sleep(0.05)


def _hide_the_machine() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _NEW_HOST_NAME if os.geteuid() else _NEW_HOST_NAME & ~0x10000000
    if libc.unshare(flags):
        raise SystemExit(f"the machine's name cannot be hidden: {os.strerror(ctypes.get_errno())}; try as root")
    socket.sethostname("golden")


def _is_data(key: str) -> bool:
    """Return whether a row of ``all_rows`` is a tenant's, not a record of the system."""
    return base64.b64decode(key)[8:9] == b"\x01"


def _has_ended(expires_at_ms: int) -> bool:
    return 0 < expires_at_ms <= EPOCH_MS


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


if __name__ == "__main__":
    sys.exit(main())
