"""Proof, before the engine may write a byte, that a directory opens with everything that was acknowledged.

An ordinary opening changes the directory even when it then fails: logs are replayed into tables, a new MANIFEST is
begun, old files go. So the opening is rehearsed read-only on a shadow: a temporary directory of symbolic links to the
engine's files. What it finds is compared with the side file. Any doubt refuses the start and leaves the directory byte
for byte as it was, so that a person can still choose what to do.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.store.directory import ENGINE_NAME, STATE_NAME, StoreState, engine_files, file_number
from prefixdb.store.engine import KEPT_LOGS_PROPERTY, E, Engine, EngineOpener, EngineOptions
from prefixdb.store.faults import Doing, cannot_open, translated

_REMEDY = "Nothing was changed; restore a backup, or recover from a copy."


def rehearse(opener: EngineOpener[E], data_dir: Path, state: StoreState, options: EngineOptions) -> None:
    """Return when the directory holds at least what ``state`` says; the directory is only read.

    Cost: replays the write-ahead log once more, about 0.3 s for 64 MiB; nothing to speak of after a clean stop.

    Raises:
        DataLossError: CORRUPTION, naming the file and the two numbers that contradict each other.
    """
    engine_dir = data_dir / ENGINE_NAME
    _check_files(engine_dir, state)
    shadow = Path(tempfile.mkdtemp(prefix="prefixdb-rehearsal-"))
    try:
        for entry in engine_dir.iterdir():
            if entry.is_file() and _belongs(entry.name):
                (shadow / entry.name).symlink_to(entry.absolute())
        engine = _open_shadow(opener, shadow, engine_dir, options)
        try:
            _check_content(engine, engine_dir, state)
        finally:
            engine.close()
    finally:
        shutil.rmtree(shadow, ignore_errors=True)


def _belongs(name: str) -> bool:
    return name.endswith((".sst", ".log", ".blob")) or name.startswith(("MANIFEST-", "OPTIONS-", "CURRENT", "IDENTITY"))


def _check_files(engine_dir: Path, state: StoreState) -> None:
    """Look at names and sizes: cheap, and the message can name the file."""
    current = engine_dir / "CURRENT"
    if not current.is_file():
        _refuse(f"{current} is missing.")
    manifest, tables, _ = engine_files(engine_dir)
    found = engine_dir / manifest
    if file_number(manifest) < 0 or not manifest.startswith("MANIFEST-"):
        _refuse(f"{current} does not name a MANIFEST.")
    if not found.is_file():
        _refuse(f"{found}, which CURRENT names, is missing.")
    if file_number(manifest) < file_number(state.manifest):
        _refuse(f"{current} names {manifest}, but {state.manifest} was in use when {STATE_NAME} was written.")
    size = found.stat().st_size
    if manifest == state.manifest and size < state.manifest_bytes:
        _refuse(f"{found} has {size} bytes; it had {state.manifest_bytes} when {STATE_NAME} was written.")
    for name, recorded in state.tables.items():
        if name in tables and tables[name] != recorded:
            _refuse(f"{engine_dir / name} has {tables[name]} bytes; it had {recorded} and never changes.")


def _open_shadow(opener: EngineOpener[E], shadow: Path, engine_dir: Path, options: EngineOptions) -> E:
    try:
        return opener(shadow, replace(options, create=False, read_only=True, cache_bytes=1024 * 1024))
    except Exception as failure:
        if isinstance(failure, PrefixdbError):
            raise
        # RocksDB 7.8 looks for an absent table under LevelDB's name last, and complains of that one.
        detail = str(failure).replace(str(shadow), str(engine_dir)).replace(".ldb", ".sst")
        # Opening texts hold file names, sizes and checksums, never keys or values. Of a damaged log they say nothing.
        logs = ", ".join(sorted(path.name for path in shadow.glob("*.log")))
        suspects = "" if any(kind in detail for kind in (".sst", "MANIFEST", ".log")) else f" (write-ahead log: {logs})"
        damage = f"{engine_dir} cannot be opened: {detail}{suspects}. {_REMEDY}"
        raise cannot_open(engine_dir, failure, text=detail, damage=damage) from failure


def _check_content(engine: Engine, engine_dir: Path, state: StoreState) -> None:
    sequence = engine.last_sequence()
    logs = {entry.name: entry.stat().st_size for entry in engine_dir.iterdir() if entry.name.endswith(".log")}
    needed_from = engine.property_int(KEPT_LOGS_PROPERTY)
    for name, recorded in state.logs.items():
        if file_number(name) < needed_from:
            continue  # Its rows are in table files by now.
        if logs.get(name, -1) < recorded:
            found = f"has {logs[name]} bytes" if name in logs else "is missing"
            _refuse(
                f"{engine_dir / name} {found}; it had {recorded} bytes. The directory holds commits up to "
                f"{sequence}, {STATE_NAME} says {state.sequence}."
            )
    if sequence < state.sequence:
        _refuse(
            f"{engine_dir} holds commits up to {sequence}, but {STATE_NAME} says {state.sequence} were acknowledged; "
            f"a write-ahead log ({', '.join(sorted(logs)) or 'none is left'}) is damaged, missing or rolled back."
        )
    with translated(Doing.READ):
        live = {file.name for file in engine.live_files()}
    on_disk = engine_files(engine_dir)[1]
    for name in sorted(live):
        if name not in on_disk:
            _refuse(f"{engine_dir / name} is missing.")


def _refuse(fact: str) -> NoReturn:
    raise error(Reason.CORRUPTION, f"{fact} {_REMEDY}")
