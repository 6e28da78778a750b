"""The data directory: its lock, its side file, and the guard against use in a forked child.

    DATA/LOCK              flock of the process that has the directory open; taken before anything else is touched
    DATA/store-state.json  what the store knew last: see :class:`StoreState`
    DATA/db/               the engine's files
    DATA/ingest/           sorted files on their way into the engine; removed by the next opening
    DATA/snapshots/        openable copies of one instant while somebody reads them; removed by the next opening

The side file exists because the engine cannot tell a lost log from an empty one: a removed write-ahead log, a truncated
MANIFEST or an older copy of the whole directory opens without complaint and with fewer rows. It is replaced
atomically (write, fsync, rename, fsync of the directory) and always describes something that is already on disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

from prefixdb.disk import sync_directory
from prefixdb.errors import PrefixdbError, Reason, error

DIRECTORY_FORMAT = 1
"""Format of the data directory as a whole; raised when an older prefixdb could not read it."""

LOCK_NAME = "LOCK"
STATE_NAME = "store-state.json"
ENGINE_NAME = "db"
INGEST_NAME = "ingest"
SNAPSHOTS_NAME = "snapshots"


class DirectoryLock:
    """An exclusive lock on a data directory, held until :meth:`release` or the end of the process.

    The engine has a lock of its own, but a second opening rewrites files before it fails on it.
    """

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self._file = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise error(
                Reason.DIRECTORY_LOCKED,
                f"Another process has {data_dir} open; stop it first, or choose another directory.",
            ) from None
        except BaseException:
            os.close(self._file)
            raise

    def check(self, data_dir: Path) -> None:
        """Make sure that the path still leads to the directory that was locked.

        A directory that was removed or moved away under a running server may have a successor at the same path, owned
        by another process; nothing may be written there.

        Raises:
            DataLossError: CORRUPTION, it does not.
        """
        try:
            if os.path.samestat(os.fstat(self._file), (data_dir / LOCK_NAME).stat()):
                return
        except FileNotFoundError:
            pass  # Removed: as bad as replaced.
        raise error(
            Reason.CORRUPTION,
            f"{data_dir} was removed or replaced while it was open; stop the server and look at what is left.",
        )

    def release(self) -> None:
        """Give the directory free. Harmless when called again, and in a forked child, where the parent keeps it."""
        if self._file >= 0:
            # Closing is enough: an explicit unlock in a forked child would take the lock away from the parent.
            os.close(self._file)
            self._file = -1


@contextlib.contextmanager
def held_still(data_dir: Path, refusal: PrefixdbError) -> Iterator[None]:
    """Keep servers from starting on a directory, as one would by running there, but without writing to it.

    Raises:
        PrefixdbError: ``refusal``, a server is running on it.
    """
    try:
        lock = os.open(data_dir / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield  # A copy that nobody has opened yet.
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        yield
    finally:
        os.close(lock)


@dataclass(frozen=True, slots=True)
class StoreState:
    """What is known to be on disk.

    format: of the data directory.
    complete: false while the directory is being created; nothing was acknowledged yet.
    sequence: the engine's last sequence number that was synced; an opening that finds less has lost commits.
    clock_floor_ms: the latest time any read may have seen; time never starts below it, or expired rows came back.
    manifest: name of the engine's MANIFEST, and its size then; it only grows until another one replaces it.
    tables, logs: names and sizes of the live table files and write-ahead logs.
    """

    format: int = DIRECTORY_FORMAT
    complete: bool = False
    sequence: int = 0
    clock_floor_ms: int = 0
    manifest: str = ""
    manifest_bytes: int = 0
    tables: dict[str, int] = field(default_factory=dict)
    logs: dict[str, int] = field(default_factory=dict)


def read_state(data_dir: Path) -> StoreState | None:
    """Return the side file's content, or None when there is none.

    Raises:
        FailedPreconditionError: FORMAT_TOO_NEW, with both numbers.
        DataLossError: CORRUPTION when the file cannot be understood.
        OSError: it could not be read.
    """
    path = data_dir / STATE_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return decode_state(content, path)


def decode_state(content: bytes, path: Path) -> StoreState:
    """Return what a side file says; ``path`` is for messages. Raises as ``read_state``."""
    try:
        fields: Any = json.loads(content)
    except ValueError as damage:
        raise error(Reason.CORRUPTION, f"{path} cannot be read; restore it or the directory.") from damage
    found = fields.get("format") if isinstance(fields, dict) else None
    if isinstance(found, int) and found > DIRECTORY_FORMAT:
        raise error(
            Reason.FORMAT_TOO_NEW,
            f"{path.parent} has format {found}, this prefixdb reads up to {DIRECTORY_FORMAT}; use a newer prefixdb.",
            metadata={"found": str(found), "supported": str(DIRECTORY_FORMAT)},
        )
    try:
        # All of them, or a half-written {} would pass for a directory that was never used.
        if fields.keys() != {known.name for known in dataclass_fields(StoreState)}:
            raise TypeError("wrong fields")
        return _checked(StoreState(**fields))
    except (TypeError, AttributeError) as damage:
        raise error(Reason.CORRUPTION, f"{path} is not a store state; restore it or the directory.") from damage


def write_state(data_dir: Path, state: StoreState) -> None:
    """Replace the side file atomically; on return the new content is on disk.

    Raises:
        OSError: the disk refused; the old content is still there.
    """
    temporary = data_dir / (STATE_NAME + ".new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(asdict(state), file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(data_dir / STATE_NAME)
    sync_directory(data_dir)


def engine_files(engine_dir: Path) -> tuple[str, dict[str, int], dict[str, int]]:
    """Return (name of the current MANIFEST, table files, write-ahead logs) on disk, the files with their sizes."""
    tables: dict[str, int] = {}
    logs: dict[str, int] = {}
    for entry in os.scandir(engine_dir):
        kind = tables if entry.name.endswith(".sst") else logs if entry.name.endswith(".log") else None
        if kind is not None:
            try:
                kind[entry.name] = entry.stat().st_size
            except FileNotFoundError:
                continue  # The engine deleted it between the listing and the look.
    return (engine_dir / "CURRENT").read_text(encoding="ascii", errors="replace").strip(), tables, logs


def file_number(name: str) -> int:
    """Return the engine's number in a file name like ``000012.sst`` or ``MANIFEST-000005``; -1 when there is none."""
    digits = name.removeprefix("MANIFEST-").partition(".")[0]
    return int(digits) if digits.isdigit() else -1


def _checked(state: StoreState) -> StoreState:
    numbers = (state.format, state.sequence, state.clock_floor_ms, state.manifest_bytes)
    sizes = [*state.tables.items(), *state.logs.items()]
    if not (
        all(type(number) is int and number >= 0 for number in numbers)
        and type(state.complete) is bool
        and type(state.manifest) is str
        and all(type(name) is str and type(size) is int for name, size in sizes)
    ):
        raise TypeError("wrong type")
    return state


def leak(thing: object) -> None:
    """Keep ``thing`` until the process ends, its destructor never running, whatever becomes of other references."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


_guarded: weakref.WeakSet[ForkGuard] = weakref.WeakSet()
_guarded_lock = threading.Lock()


class ForkGuard:
    """Calls ``on_fork`` in every forked child, before any other Python code there runs.

    RocksDB in a forked child has none of its threads and the parent's files: it hangs or does damage, so the store
    must refuse there. The guard lasts until :meth:`release`.
    """

    def __init__(self, on_fork: Callable[[], None]) -> None:
        self._on_fork = on_fork
        with _guarded_lock:
            _guarded.add(self)

    def release(self) -> None:
        """Stop guarding. Harmless when called again."""
        with _guarded_lock:
            _guarded.discard(self)

    def fire(self) -> None:
        """Run the callback; called in the child."""
        self._on_fork()


def _after_fork_in_child() -> None:
    global _guarded_lock
    _guarded_lock = threading.Lock()  # The parent may have held it at that moment.
    for guard in list(_guarded):
        guard.fire()


os.register_at_fork(after_in_child=_after_fork_in_child)


def skip_destructors_at_exit_of_children() -> None:
    """Let forked children end without RocksDB's static destructors: they join threads only the parent has, and crash or
    hang. Called once by whoever loads RocksDB."""

    def skip() -> None:
        # In the child; glibc calls what was registered last first, with the exit status.
        libc = ctypes.CDLL(None)
        if hasattr(libc, "on_exit"):
            libc.on_exit(libc._exit, None)

    os.register_at_fork(after_in_child=skip)
