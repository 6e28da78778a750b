"""Snapshots that are open: openable copies inside the data directory, and what they keep on the disk.

    DATA/snapshots/VERSION-N/   a data directory of its own: db/ with hard links to table files, store-state.json

A compaction that drops a namespace removes its files from the engine, but what a snapshot has linked stays on the disk
until the snapshot is closed. So each one is entered here before its first link is made and taken out after its last is
gone, and a proof of emptiness asks :meth:`SnapshotKeeper.pinning` after it has looked at the engine: whatever is linked
later is current then and was looked at.

The copies have no log (see ``OpenDirectory.checkpoint``), so key ranges of table files say all there is to say about
what may be in them.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from prefixdb.errors import Reason, error
from prefixdb.keycodec import Span
from prefixdb.store.directory import ENGINE_NAME, SNAPSHOTS_NAME, engine_files
from prefixdb.store.engine import LiveFile
from prefixdb.store.faults import DISK_RETRY_MS, disk_full, is_no_space
from prefixdb.store.plan import FileIndex

log = logging.getLogger("prefixdb.store")

_ABOVE_EVERY_KEY = b"\xff" * 16
"""Stands in for the last key of a file nobody knows: namespace 2^64-1 is never issued."""


class OpenSnapshot:
    """``prefixdb.store.base.Snapshot``. Thread-safe."""

    def __init__(self, keeper: SnapshotKeeper, path: Path) -> None:
        self._keeper = keeper
        self.path = path
        self.last_version = 0
        self.files: FileIndex | None = None
        """The table files in it; None while it is being made."""

    def close(self) -> None:
        """See ``Snapshot.close``."""
        self._keeper.close(self)


class SnapshotKeeper:
    """The open snapshots of one data directory. Thread-safe.

    Making one removes what an earlier process has left: the caller holds the lock of the directory.

    Args:
        data_dir: the data directory.

    Raises:
        OSError: something is left and cannot be removed; nobody could say whose rows it holds.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / SNAPSHOTS_NAME
        self._lock = threading.Lock()
        self._open: set[OpenSnapshot] = set()
        self._numbers = itertools.count(1)
        self._foreign = False
        _remove(self._folder)

    def __len__(self) -> int:
        return len(self._open)

    def take(self, copy: Callable[[Path], int], live_files: Callable[[], Sequence[LiveFile]]) -> OpenSnapshot:
        """Make a snapshot.

        Args:
            copy: writes the copy into a directory that does not exist, and returns its last version.
            live_files: returns the engine's current files.

        Raises:
            ResourceExhaustedError: DISK_FULL. UnavailableError: READ_ONLY_STORE. What the two raise. Nothing is left.
        """
        self._refuse_in_child()
        snapshot = OpenSnapshot(self, self._folder / f"{next(self._numbers):06d}")
        with self._lock:
            self._open.add(snapshot)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            known = {file.name: file for file in live_files()}
            snapshot.last_version = copy(snapshot.path)
            known |= {file.name: file for file in live_files()}
            names = engine_files(snapshot.path / ENGINE_NAME)[1]
            snapshot.files = FileIndex([known.get(name) or _unknown(name) for name in names])
        except OSError as failure:
            self.close(snapshot)
            if is_no_space(failure):
                raise disk_full("No space is left for a snapshot.") from failure
            message = f"A snapshot cannot be made: {failure.strerror or 'it failed'}."
            raise error(Reason.READ_ONLY_STORE, message, retry_after_ms=DISK_RETRY_MS) from failure
        except BaseException:
            self.close(snapshot)
            raise
        return snapshot

    def pinning(self, span: Span, live: Collection[str]) -> list[str]:
        """Return the files of snapshots that may hold something of the span, as paths in the data directory.

        Args:
            span: what is to be proven empty.
            live: names of the files that were current when the engine was asked about the span: those were looked at,
                links to them hold nothing that the engine did not find.
        """
        with self._lock:
            snapshots = list(self._open)
        pinned: list[str] = []
        for snapshot in snapshots:
            name = f"{SNAPSHOTS_NAME}/{snapshot.path.name}"
            if snapshot.files is None:
                # It may just have linked a file that was current and is not any more.
                pinned.append(name)
            else:
                inside = snapshot.files.overlapping(span)
                pinned += [f"{name}/{ENGINE_NAME}/{file.name}" for file in inside if file.name not in live]
        return sorted(pinned)

    def close(self, snapshot: OpenSnapshot) -> None:
        """Remove a snapshot; see ``Snapshot.close``."""
        self._refuse_in_child()
        with self._lock:
            if snapshot not in self._open:
                return
        try:
            _remove(snapshot.path)
        except OSError as failure:
            # It stays entered: its rows are still there.
            raise error(
                Reason.READ_ONLY_STORE, f"{snapshot.path} cannot be removed.", retry_after_ms=DISK_RETRY_MS
            ) from failure
        with self._lock:
            self._open.discard(snapshot)

    def close_all(self) -> None:
        """Remove all of them; what cannot be removed is left to the next opening."""
        try:
            _remove(self._folder)
        except OSError:
            log.exception("%s cannot be removed; the next start does", self._folder)
        else:
            with self._lock:
                self._open.clear()

    def forget(self) -> None:
        """Refuse everything from now on: this is a forked child, and the files are the parent's."""
        self._lock = threading.Lock()
        self._foreign = True

    def _refuse_in_child(self) -> None:
        if self._foreign:
            raise RuntimeError("the store belongs to the parent process; open one after forking")


def _unknown(name: str) -> LiveFile:
    """Return a file that came and went between two looks: it may hold anything."""
    return LiveFile(name, 0, 0, b"", _ABOVE_EVERY_KEY, 0, 0)


def _remove(directory: Path) -> None:
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        # Gone already, or one who closes it at the same time was faster with a part of it.
        shutil.rmtree(directory, ignore_errors=True)
        if directory.exists():
            raise
