"""Opening a data directory, and keeping its side file true while it is open."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, cast

from prefixdb.clock import Clock
from prefixdb.disk import sync_directory
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import RowKey, namespace_span
from prefixdb.limits import NAMESPACE_ID_MAX
from prefixdb.records import encode_value
from prefixdb.store.directory import (
    ENGINE_NAME,
    STATE_NAME,
    DirectoryLock,
    StoreState,
    engine_files,
    file_number,
    read_state,
    write_state,
)
from prefixdb.store.engine import KEPT_LOGS_PROPERTY, E, Engine, EngineCheck, EngineOpener, EngineOptions
from prefixdb.store.faults import DISK_RETRY_MS, cannot_open
from prefixdb.store.rehearsal import rehearse
from prefixdb.store.slot import EngineSlot

log = logging.getLogger("prefixdb.store")

END_OF_KEYS: RowKey = namespace_span(NAMESPACE_ID_MAX).end
"""Above every row of every namespace: id 2^64-1 is never issued."""

CREATION_KEY = RowKey(namespace_span(0).begin[:1])
"""Below every namespace, next to rows that are always there, so that it stretches no file."""

FLOOR_SECONDS_MAX = 60.0
"""An idle store writes the clock's floor this often; a busy one with every change."""

_EMPTY_LOG_BYTES = 256
"""The log of a directory whose creation was cut off holds the first commit at most."""

_CLOSE_SECONDS_MAX = 30.0


class OpenDirectory(Generic[E]):
    """A locked data directory, the engine's opener for it, and its side file. Thread-safe.

    Args:
        data_dir: the directory.
        opener: opens the engine.
        check: the engine's self-test.
        options: for the engine.
    """

    def __init__(self, data_dir: Path, opener: EngineOpener[E], check: EngineCheck, options: EngineOptions) -> None:
        self.data_dir = data_dir.absolute()
        self.engine_dir = self.data_dir / ENGINE_NAME
        self._opener = opener
        self._check_engine = check
        self._options = options
        self._lock = DirectoryLock(self.data_dir)
        self._saving = threading.Lock()
        self._saved = StoreState()
        self._saved_at = 0.0

    def open_engine(self, clock: Clock) -> E:
        """Open the engine, creating the directory's content when there is none; see ``RocksdictStore.open``."""
        state = read_state(self.data_dir)
        self._check_engine()
        if state is None:
            if self.engine_dir.exists() and any(self.engine_dir.iterdir()):
                raise error(
                    Reason.CORRUPTION,
                    f"{self.engine_dir} has files but {self.data_dir} has no {STATE_NAME}; restore it. "
                    "Nothing was changed.",
                )
            # Written first: whoever finds it incomplete knows that nothing was ever acknowledged here.
            state = StoreState()
            write_state(self.data_dir, state)
        if state.complete:
            rehearse(self._opener, self.data_dir, state, self._options)
        else:
            self._clear_unfinished()
        raise_floor: Callable[[int], None] | None = getattr(clock, "raise_floor", None)
        if raise_floor is not None:
            raise_floor(state.clock_floor_ms)
        _make_private(self.engine_dir)
        engine = self._open(replace(self._options, create=not state.complete))
        try:
            self._first_commit(engine)
            if engine.last_sequence() < state.sequence:
                raise _lost(engine.last_sequence(), state.sequence)
            if self._forgotten_logs(engine):
                engine = self._open_without_old_logs(engine)
            self.save(engine, engine.last_sequence(), clock.now_ms())
        except BaseException:
            engine.close()
            raise
        return engine

    def reopen_engine(self, old: E, sequence: int) -> tuple[E, PrefixdbError | None]:
        """Close ``old`` and return a new engine that has every commit up to ``sequence``.

        Returns:
            The engine, and None when it accepts writes. Otherwise the reason, with an engine that only reads; when not
            even that can be had, one whose every call raises.
        """
        _close(old)
        try:
            engine = self._open(self._options)
        except PrefixdbError as failure:
            return self._open_for_reading(), failure
        found = engine.last_sequence()
        if found < sequence:
            engine.close()
            lost = _lost(found, sequence)
            return cast(E, NoEngine(lost)), lost
        return engine, None

    def observe(self, engine: Engine, sequence: int, now_ms: int) -> StoreState:
        """Return the state to save; the caller holds the commit lock, so that ``sequence`` and the logs agree."""
        manifest, _, logs = engine_files(self.engine_dir)
        live = {file.name: file.size for file in engine.live_files()}
        size = (self.engine_dir / manifest).stat().st_size
        return StoreState(
            complete=True,
            sequence=sequence,
            clock_floor_ms=now_ms,
            manifest=manifest,
            manifest_bytes=size,
            tables=live,
            # A log without a record may not have its name on disk yet.
            logs={name: size for name, size in logs.items() if size},
        )

    def save(self, engine: Engine, sequence: int, now_ms: int) -> None:
        """Save the side file now; the caller holds the commit lock or is the only user."""
        self._save(self.observe(engine, sequence, now_ms))

    def save_if_due(self, observe: Callable[[], StoreState], now_ms: int) -> None:
        """Save the side file when it has fallen behind; ``observe`` is called without locks held."""
        state = observe()
        idle = replace(state, clock_floor_ms=self._saved.clock_floor_ms) == self._saved
        if not idle or time.monotonic() - self._saved_at > FLOOR_SECONDS_MAX:
            self._save(replace(state, clock_floor_ms=now_ms))

    def _save(self, state: StoreState) -> None:
        """Make sure that what ``state`` says is on disk, then say it."""
        with self._saving:
            self.check()
            kept_logs = {}
            for name in (state.manifest, *state.logs):
                try:
                    handle = os.open(self.engine_dir / name, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue  # Replaced since: its rows are in table files, its MANIFEST has a successor.
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
                if name in state.logs:
                    kept_logs[name] = state.logs[name]
            sync_directory(self.engine_dir)
            write_state(self.data_dir, replace(state, logs=kept_logs))
            self._saved = state
            self._saved_at = time.monotonic()

    def checkpoint(self, engine: Engine, target: Path, sequence: int, now_ms: int) -> None:
        """Write an openable data directory of this instant, which has every commit up to ``sequence``.

        The engine flushes and then copies the log with what was written since. That log is left out: without it the
        copy is what was flushed, a prefix of all commits, and everything in it lies in table files.
        """
        target.mkdir(mode=0o700)
        copied = target / ENGINE_NAME
        engine.checkpoint(copied)
        manifest, tables, logs = engine_files(copied)
        for name in logs:
            (copied / name).unlink()
        size = (copied / manifest).stat().st_size
        state = StoreState(
            complete=True,
            sequence=sequence,
            clock_floor_ms=now_ms,
            manifest=manifest,
            manifest_bytes=size,
            tables=tables,
        )
        write_state(target, state)

    def log_bytes(self) -> int:
        """Return the size of the write-ahead logs on disk."""
        return sum(engine_files(self.engine_dir)[2].values())

    def disk_bytes(self) -> int:
        """Return the size of the engine's files on disk."""
        total = 0
        for entry in os.scandir(self.engine_dir):
            try:
                total += entry.stat().st_size
            except FileNotFoundError:
                continue  # Deleted by the engine since it was listed.
        return total

    def check(self) -> None:
        """Raise DataLossError when the path leads to another directory than the one that was opened."""
        self._lock.check(self.data_dir)

    def release(self) -> None:
        """Give the directory free."""
        self._lock.release()

    def forget(self) -> None:
        """Let go of the directory in a forked child; the parent keeps it."""
        self._saving = threading.Lock()
        self._lock.release()

    def _open(self, options: EngineOptions) -> E:
        try:
            return self._opener(self.engine_dir, options)
        except PrefixdbError:
            raise
        except Exception as failure:
            raise cannot_open(self.engine_dir, failure) from failure

    def _forgotten_logs(self, engine: E) -> list[str]:
        """Return the logs on disk that have bytes, are not the engine's newest, and are not being removed by it.

        Ordinary old logs, whose rows are in table files, may still be there: the native engine removes files behind
        its opening's back. They are those below what the engine says it keeps.
        """
        kept_from = engine.property_int(KEPT_LOGS_PROPERTY)
        logs = engine_files(self.engine_dir)[2]
        newest = max(map(file_number, logs), default=0)
        return [name for name, size in logs.items() if size and kept_from <= file_number(name) != newest]

    def _open_without_old_logs(self, engine: E) -> E:
        """Close and return the engine anew, so that it removes a log that it has read and forgot to remove.

        It forgets one in which it found no whole record: where a kill has torn the first one after a change of logs.
        Hours later, or at the next opening, it would find it; until then the torn record's rows are on the disk, and no
        proof of their namespace's emptiness can be had. A flush first: it makes the engine's manifest name a later log.
        """
        sequence = engine.last_sequence()
        engine.put_synced(CREATION_KEY, encode_value(b"", sequence + 1))
        engine.flush()
        _close(engine)
        anew = self._open(self._options)
        if anew.last_sequence() <= sequence:
            anew.close()
            raise _lost(anew.last_sequence(), sequence + 1)
        return anew

    def _open_for_reading(self) -> E:
        try:
            return self._open(replace(self._options, read_only=True))
        except PrefixdbError:
            log.exception("the store could not be opened for reading either")
            unavailable = error(Reason.READ_ONLY_STORE, retry_after_ms=DISK_RETRY_MS)
            return cast(E, NoEngine(unavailable))

    def _clear_unfinished(self) -> None:
        """Remove what a creation that was cut off has left; only what cannot be anybody's rows."""
        if not self.engine_dir.exists():
            return
        log_bytes = sum(path.stat().st_size for path in self.engine_dir.glob("*.log"))
        if log_bytes > _EMPTY_LOG_BYTES or any(self.engine_dir.glob("*.sst")):
            raise error(
                Reason.CORRUPTION,
                f"{self.data_dir / STATE_NAME} says that {self.engine_dir} was never finished, but it holds rows. "
                "Nothing was changed.",
            )
        shutil.rmtree(self.engine_dir)

    def _first_commit(self, engine: Engine) -> None:
        """Leave sequence 0: a view of a database at 0 can lose keys in a compaction (fixed in RocksDB 9.10)."""
        if engine.last_sequence() == 0:
            # A row that stays: the number of a write that leaves nothing behind does not survive a flush, and a
            # tombstone would make every proof of emptiness look twice.
            engine.put_synced(CREATION_KEY, encode_value(b"", 1))


class NoEngine:
    """Stands in for an engine that could not be opened: every use raises the same error."""

    def __init__(self, failure: PrefixdbError) -> None:
        self._failure = failure

    def __getattr__(self, name: str) -> Any:
        def refuse(*_arguments: object) -> Any:
            failure = self._failure
            raise error(failure.reason, failure.message, retry_after_ms=failure.retry_after_ms)

        return refuse

    def last_sequence(self) -> int:
        """Return 0: nothing is known."""
        return 0

    def failure(self) -> None:
        """Return nothing: the store knows why there is no engine."""

    def publish_bans(self, namespace_ids: Sequence[int]) -> None:
        """Do nothing: there is nothing to drop."""

    def set_expiry_horizon(self, expires_before_ms: int) -> None:
        """Do nothing: there is nothing to drop."""

    def cancel_background(self) -> None:
        """Do nothing: there is no background work."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def abandon(self) -> None:
        """Do nothing: there is no destructor."""


def _make_private(directory: Path) -> None:
    """Make the engine's directory, closed to others: it holds every tenant's rows, and the engine's files are as open
    as the umask lets them be."""
    directory.mkdir(mode=0o700, exist_ok=True)
    if stat.S_IMODE(directory.stat().st_mode) & 0o077:
        directory.chmod(0o700)


def close_engine(slot: EngineSlot[E]) -> None:
    """Stop background work, wait for whoever is inside, and close the engine; ``slot.refuse`` was called."""
    slot.interrupt()
    engine = slot.empty()
    if engine is not None:
        _close(engine)


def _close(engine: Engine) -> None:
    """Close an engine, waiting for calls that are just leaving it: the binding refuses while it is borrowed."""
    deadline = time.monotonic() + _CLOSE_SECONDS_MAX
    while True:
        try:
            engine.close()
        except RuntimeError as busy:
            if "borrowed" not in str(busy) or time.monotonic() > deadline:
                raise
            time.sleep(0.001)
        else:
            return


def _lost(found: int, expected: int) -> PrefixdbError:
    return error(Reason.CORRUPTION, f"The store holds commits up to {found}, but {expected} were acknowledged.")
