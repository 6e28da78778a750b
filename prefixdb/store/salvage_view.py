"""The engine as a recovery uses it: read-only views of a directory, a new MANIFEST from table files, a new database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import rocksdict

from prefixdb.limits import MIB
from prefixdb.store.directory import ENGINE_NAME, StoreState, engine_files, write_state
from prefixdb.store.engine import EngineOptions
from prefixdb.store.plain import write_database
from prefixdb.store.rocksdict import database_options
from prefixdb.store.version_log import CURRENT_NAME, Versions, raise_sequence, read_versions

_CACHE_BYTES = 32 * MIB


class DamagedError(Exception):
    """What the engine says of damage; it names files and sums, never rows."""


class View:
    """A database opened for reading only.

    Args:
        directory: all of it is the engine's to write notes into.
        recovery: ``prefix`` replays logs to the first damage, ``whole`` raises there.

    Raises:
        DamagedError: it does not open.
    """

    def __init__(self, directory: Path, recovery: str = "prefix") -> None:
        options = _options(recovery)
        access = rocksdict.AccessType.read_only(False)
        try:
            self._db = rocksdict.Rdict(str(directory), options, {"default": options}, access)
        except Exception as failure:  # the binding raises nothing narrower
            raise _damaged(failure, directory) from failure
        self._directory = directory

    def close(self) -> None:
        """Close it."""
        self._db.close()

    def last_sequence(self) -> int:
        """Return the number of the last commit."""
        return int(self._db.latest_sequence_number())

    def walk(self, begin: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, stored value) of ``begin <= key < end``.

        Raises:
            DamagedError: the next row cannot be read.
        """
        iterator = self._db.iter()
        try:
            iterator.seek(begin)
            while iterator.valid():
                key = iterator.key()
                if end is not None and key >= end:
                    return
                yield key, iterator.value()
                iterator.next()
            iterator.status()
        except GeneratorExit:
            raise
        except Exception as failure:  # the binding raises nothing narrower
            raise _damaged(failure, self._directory) from failure

    def after_gap(self, begin: bytes, key_bytes: int) -> bytes | None:
        """Return the first key found behind damage at ``begin``, or None when nothing behind it can be read.

        ``key_bytes`` is the length of keys there. They are looked at as fractions, in steps that double and then halve,
        so the key is close behind the damage where there is one damaged stretch; what lies between two that are near
        to each other may be skipped.
        """
        width = max(len(begin), key_bytes) + 1
        base, limit = int.from_bytes(begin.ljust(width, b"\0")), 1 << 8 * width

        def landing(position: int) -> tuple[bool, bytes | None]:
            # A new one each time: one that met damage fails on good blocks behind it too.
            iterator = self._db.iter()
            iterator.seek(position.to_bytes(width))
            if iterator.valid():
                return True, iterator.key()
            try:
                iterator.status()
            except Exception:  # noqa: BLE001  # damage again
                return False, None
            return True, None

        step = 1
        readable, found = False, None
        while base + step < limit:
            readable, found = landing(base + step)
            if readable:
                break
            step *= 2
        if not readable:
            return None
        low, high = base + step // 2, base + step
        while high - low > 1:
            middle = (low + high) // 2
            readable, key = landing(middle)
            if readable:
                high, found = middle, key
            else:
                low = middle
        return found


def rebuild(directory: Path) -> Versions:
    """Have the engine write a MANIFEST for the table files in ``directory``; those it cannot read are not in it.

    Raises:
        DamagedError: it could not.
    """
    try:
        rocksdict.Rdict.repair(str(directory), _options("prefix"))
    except Exception as failure:  # the binding raises nothing narrower
        raise _damaged(failure, directory) from failure
    return read_versions(directory / (directory / CURRENT_NAME).read_text(encoding="ascii").strip())


# --- the new database ------------------------------------------------------------------------------------------------


def write_store(data_dir: Path, rows: Iterable[tuple[bytes, bytes]], sequence: int, clock_floor_ms: int) -> int:
    """Write a data directory of these rows whose next commit is numbered behind ``sequence``; return how many rows.

    Args:
        data_dir: an empty directory.
        rows: (row key, stored value), keys ascending strictly.
        sequence: no version of any row is above it.
        clock_floor_ms: the latest time any read may have seen.
    """
    engine_dir = data_dir / ENGINE_NAME
    count = write_database(engine_dir, rows, database_options(EngineOptions(cache_bytes=_CACHE_BYTES, create=True)))
    engine_dir.chmod(0o700)
    manifest, tables, logs = engine_files(engine_dir)
    raise_sequence(engine_dir / manifest, sequence)
    state = StoreState(
        complete=True,
        sequence=sequence,
        clock_floor_ms=clock_floor_ms,
        manifest=manifest,
        manifest_bytes=(engine_dir / manifest).stat().st_size,
        tables=tables,
        logs={name: size for name, size in logs.items() if size},
    )
    write_state(data_dir, state)
    return count


def _damaged(failure: Exception, directory: Path) -> DamagedError:
    return DamagedError(str(failure).replace(str(directory) + "/", "").replace(str(directory), "it")[:300])


def _options(recovery: str) -> Any:
    options = database_options(EngineOptions(cache_bytes=_CACHE_BYTES, read_only=True))
    mode = rocksdict.DBRecoveryMode
    options.set_wal_recovery_mode(
        mode.point_in_time() if recovery == "prefix" else mode.tolerate_corrupted_tail_records()
    )
    return options
