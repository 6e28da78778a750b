"""Data directories as a power cut leaves them, and ways to damage and to compare them.

An image is a copy of the directory of a running store: every acknowledged commit is in it, nothing was closed. The side
file in it is as new as the newest commit, as it is a second after the last write.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefixdb.keycodec import RowKey, data_key
from prefixdb.limits import MIB
from prefixdb.store import open_store as open_by_kind
from prefixdb.store.base import Commit, Put, Store
from prefixdb.store.core import StoreCore
from tests.support.clocks import HeldClock

OpenStore = Callable[..., StoreCore[Any]]
"""``open_store`` for one kind of store."""

NS = 42
FLUSHED_ROWS = 200
LOGGED_ROWS = 100


def open_store(data_dir: Path, kind: str = "rocksdict", **options: Any) -> StoreCore[Any]:
    """Open a store with small buffers and a held clock."""
    settings: dict[str, Any] = {"cache_bytes": MIB, "write_buffer_bytes": MIB, "clock": HeldClock()}
    return open_by_kind(kind, data_dir, **(settings | options))  # type: ignore[return-value]


def row_key(number: int) -> RowKey:
    """Return the key of a numbered row."""
    return data_key(NS, 0, b"row %06d" % number)


def write_rows(store: Store, first: int, count: int) -> int:
    """Write rows with payloads that do not compress; return the version of the last."""
    commits = [Commit((Put(row_key(number), os.urandom(100)),)) for number in range(first, first + count)]
    return store.commit_many(commits)[-1].version


def make_image(tmp_path: Path, kind: str = "rocksdict") -> Path:
    """Return a crash image with rows in two table files and in the write-ahead log."""
    live, image = tmp_path / "live", tmp_path / "image"
    store = open_store(live, kind)
    try:
        write_rows(store, 0, FLUSHED_ROWS // 2)
        store.flush()
        write_rows(store, FLUSHED_ROWS // 2, FLUSHED_ROWS // 2)
        store.flush()
        version = write_rows(store, FLUSHED_ROWS, LOGGED_ROWS)
        await_saved(live, version)
        shutil.copytree(live, image)
    finally:
        store.close()
    return image


def await_saved(data_dir: Path, version: int, seconds: float = 20.0) -> None:
    """Wait until the side file knows ``version``."""
    deadline = time.monotonic() + seconds
    while json.loads((data_dir / "store-state.json").read_text())["sequence"] < version:
        if time.monotonic() > deadline:
            raise TimeoutError("the side file was not saved")
        time.sleep(0.02)


def newest(data_dir: Path, suffix: str) -> Path:
    """Return the engine's newest file whose name ends or starts with ``suffix``."""
    matches = [path for path in (data_dir / "db").iterdir() if suffix in path.name and not path.name.startswith("LOG")]
    return max(matches, key=lambda path: path.name)


def content(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Return every file of a directory tree, but for the lock file, with the time of its last change and its bytes."""
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "LOCK"
    }


def flip(path: Path, offset: int) -> None:
    """Change one byte of a file; a negative offset counts from its end."""
    damaged = bytearray(path.read_bytes())
    damaged[offset] ^= 0xFF
    path.write_bytes(damaged)


def cut(path: Path, size: int) -> None:
    """Shorten a file to ``size`` bytes; a negative size takes so many off its end."""
    path.write_bytes(path.read_bytes()[:size])
