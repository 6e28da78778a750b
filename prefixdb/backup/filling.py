"""Filling a new data directory with the files of a backup, none of which is believed before it was checked.

``check`` reads all of it and writes nothing: names, numbers and sizes, then size and sum of every file, then what the
files say about each other (the list of tables, the name of the engine's own manifest, the version). ``fill`` does the
same once more while it writes, for files may change in between, and before the engine sees any of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from prefixdb.backup.source import BackupSource
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import MIB
from prefixdb.repository.bans import BANS_BYTES_MAX, BANS_NAME, BannedIssue, decode_bans
from prefixdb.repository.manifest import BackupFile, Manifest, check_manifest, invalid
from prefixdb.store.directory import ENGINE_NAME, STATE_NAME, StoreState, decode_state
from prefixdb.store.faults import DISK_RETRY_MS, disk_full, is_no_space

Progress = Callable[[int, int], None]
"""Told (bytes done, bytes in all)."""

STATE_BYTES_MAX = 256 * MIB
"""Largest ``store-state.json`` that is read; a million tables are a tenth of it."""

_CURRENT = f"{ENGINE_NAME}/CURRENT"
_READ_AT_ONCE = frozenset({BANS_NAME, STATE_NAME, _CURRENT})
_BLOCK_BYTES = 1 * MIB
_FILE_MODE = 0o600


def check(source: BackupSource, beside: Path, on_progress: Progress) -> None:
    """Read the whole backup; return when it is what its manifest says and fits on the disk of ``beside``.

    Raises:
        As ``fill``.
    """
    manifest = source.manifest
    check_manifest(manifest, f"backup {manifest.id}")
    _check_sizes(manifest, beside)
    small: dict[str, bytes] = {}
    counted = _counted(manifest.size, on_progress)
    for file in manifest.files:
        content = [block for block in _blocks(source, file, counted) if file.path in _READ_AT_ONCE]
        if file.path in _READ_AT_ONCE:
            small[file.path] = b"".join(content)
    _checked_state(manifest, small[STATE_NAME], small[_CURRENT])
    decode_bans(small[BANS_NAME], _place(manifest, BANS_NAME))


def fill(source: BackupSource, directory: Path, on_progress: Progress) -> tuple[StoreState, list[BannedIssue]]:
    """Write the backup's files into an empty directory and return its state and its list of bans.

    Everything written is on disk when this returns, but for the directories' own entries.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID, with the place.
        FailedPreconditionError: FORMAT_TOO_NEW.
        ResourceExhaustedError: DISK_FULL.
        UnavailableError: READ_ONLY_STORE, the disk refuses.
    """
    manifest = source.manifest
    check_manifest(manifest, f"backup {manifest.id}")
    _check_sizes(manifest, directory)
    (directory / ENGINE_NAME).mkdir(mode=0o700)
    bans = b""
    counted = _counted(manifest.size, on_progress)
    for file in manifest.files:
        target = directory / file.path
        with _create(target) as written:
            for block in _blocks(source, file, counted):
                written.write(block)
            written.flush()
            os.fsync(written.fileno())
        if file.path == BANS_NAME:
            bans = target.read_bytes()
            target.unlink()
    state = _checked_state(manifest, (directory / STATE_NAME).read_bytes(), (directory / _CURRENT).read_bytes())
    return state, decode_bans(bans, _place(manifest, BANS_NAME))


def disk_failure(directory: Path, failure: OSError) -> PrefixdbError:
    """Return what a disk's refusal means for whoever wanted to write there."""
    if is_no_space(failure):
        return disk_full(f"No space is left for {directory}; nothing was restored.")
    what = failure.strerror or "it failed"
    return error(Reason.READ_ONLY_STORE, f"{directory} cannot be written: {what}.", retry_after_ms=DISK_RETRY_MS)


def _check_sizes(manifest: Manifest, directory: Path) -> None:
    for name, most in ((BANS_NAME, BANS_BYTES_MAX), (STATE_NAME, STATE_BYTES_MAX), (_CURRENT, 64)):
        if manifest.file(name).size > most:
            raise invalid(_place(manifest, name), f"has more than {most} bytes")
    free = shutil.disk_usage(directory).free
    if manifest.size > free:
        raise disk_full(f"The backup has {manifest.size} bytes, but only {free} are free for {directory.parent}.")


def _counted(total: int, on_progress: Progress) -> Callable[[int], None]:
    """Return what adds bytes up and tells of them."""
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        on_progress(done, total)

    return count


def _blocks(source: BackupSource, file: BackupFile, count: Callable[[int], None]) -> Iterator[bytes]:
    """Yield a file's bytes; raise, at the latest at its end, when it is longer, shorter or other than it should be."""
    place = _place(source.manifest, file.path)
    sums, left = hashlib.sha256(), file.size
    try:
        content = source.open(file.path)
    except OSError as failure:
        raise invalid(place, f"cannot be opened: {failure.strerror or 'it failed'}") from failure
    with content:
        while block := _read(content, place):
            left -= len(block)
            if left < 0:
                raise invalid(place, f"is longer than the {file.size} bytes the manifest says")
            sums.update(block)
            yield block
            count(len(block))
    if left:
        raise invalid(place, f"is {left} bytes shorter than the manifest says")
    if sums.hexdigest() != file.sha256:
        raise invalid(place, "has another SHA-256 than the manifest says")


def _read(content: BinaryIO, place: str) -> bytes:
    try:
        return content.read(_BLOCK_BYTES)
    except OSError as failure:
        raise invalid(place, f"cannot be read: {failure.strerror or 'it failed'}") from failure


def _create(target: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(target, flags, _FILE_MODE), "wb")


def _checked_state(manifest: Manifest, content: bytes, current: bytes) -> StoreState:
    """Return what the store knew, when all that it says of the files is so.

    Args:
        manifest: of the backup.
        content: of ``store-state.json``.
        current: of the engine's ``CURRENT``.
    """
    place = _place(manifest, STATE_NAME)
    try:
        state = decode_state(content, Path(STATE_NAME))
    except RecursionError as failure:
        raise invalid(place, "is no state of a store") from failure
    except PrefixdbError as failure:
        if failure.reason is Reason.FORMAT_TOO_NEW:
            message = "The backup is of a newer prefixdb than this one; use a newer."
            raise error(Reason.FORMAT_TOO_NEW, message, metadata={"place": place}) from failure
        raise invalid(place, "is no state of a store") from failure
    files = {file.path.removeprefix(f"{ENGINE_NAME}/"): file.size for file in manifest.files}
    tables = {name: size for name, size in files.items() if name.endswith(".sst")}
    if not state.complete:
        raise invalid(place, "is that of a directory that was never finished")
    if state.tables != tables:
        differ = min(state.tables.items() ^ tables.items())[0]
        raise invalid(place, f"and the manifest's list of files disagree about {differ[:80]!r}")
    if state.logs:
        raise invalid(place, "speaks of logs, which no backup has")
    if files.get(state.manifest) != state.manifest_bytes or not state.manifest.startswith("MANIFEST-"):
        raise invalid(place, "does not name the engine's MANIFEST that the backup has")
    if current != state.manifest.encode() + b"\n":
        raise invalid(_place(manifest, _CURRENT), "does not name the engine's MANIFEST")
    if state.sequence < manifest.last_version:
        raise invalid(place, f"knows of versions up to {state.sequence}, the manifest up to {manifest.last_version}")
    return state


def _place(manifest: Manifest, path: str) -> str:
    return f"backup {manifest.id}, {path}"
