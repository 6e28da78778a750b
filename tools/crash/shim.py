"""Disk faults on demand: commands ``shim.c``, a library that is preloaded into a process and stands before its disk.

    with Shim(directory) as shim:
        process = subprocess.Popen(command, env=os.environ | shim.environment())
        full = shim.add("*.log", Call.WRITE, error=errno.ENOSPC)      # from now on, also for files that are open
        ...
        full.withdraw()

Rules act at once, count what they met, and are asked in the order they were added; the first that applies to a call
decides. A pattern with a slash is compared with the whole path, any other with the last part of it (``fnmatch``).

The library is compiled once by the C compiler of the machine (``cc``) and kept under its content's hash.
"""

from __future__ import annotations

import enum
import errno
import hashlib
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

SOURCE = Path(__file__).with_suffix(".c")
CONTROL_VARIABLE = "PREFIXDB_SHIM_CONTROL"

_MAGIC = 0x5F425250
_RULES = 64
_PATTERN_BYTES = 192
_RULE = struct.Struct(f"=IIIiQQQQQQ{_PATTERN_BYTES}s")
_HEADER = struct.Struct("=II")
_COUNTERS = struct.Struct("=QQQ")
_COUNTERS_AT = 40
_FLAGS = ("-std=c17", "-O2", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-Wall", "-Wextra", "-Wshadow", "-Werror")


class Call(enum.IntFlag):
    """File operations a rule may name; they go by what they do, whichever of its variants the process calls."""

    OPEN = 1 << 0
    CREATE = 1 << 1
    WRITE = 1 << 2
    PWRITE = 1 << 3
    READ = 1 << 4
    PREAD = 1 << 5
    FSYNC = 1 << 6
    FDATASYNC = 1 << 7
    SYNC_RANGE = 1 << 8
    RENAME = 1 << 9
    TRUNCATE = 1 << 10
    ALLOCATE = 1 << 11
    MAP = 1 << 12
    UNLINK = 1 << 13
    LINK = 1 << 14
    MKDIR = 1 << 15
    SPACE = 1 << 16

    WRITES = WRITE | PWRITE
    READS = READ | PREAD
    OPENS = OPEN | CREATE
    SYNCS = FSYNC | FDATASYNC | SYNC_RANGE
    GROWS = CREATE | WRITE | PWRITE | ALLOCATE | MKDIR
    """What a full disk refuses. With SPACE, the disk also says how much is left of a budget."""
    CHANGES = CREATE | WRITE | PWRITE | SYNCS | RENAME | TRUNCATE | ALLOCATE | UNLINK | LINK | MKDIR
    """What leaves a trace on the disk: the points at which a kill differs from one before."""


class Action(enum.IntEnum):
    """What a rule does to a call it applies to."""

    FAIL = 1
    SHORTEN = 2
    BUDGET = 3
    HOLD = 4
    KILL = 5
    KILL_AFTER = 6


class CompilerMissingError(RuntimeError):
    """There is no C compiler to build the library with."""


def build(directory: Path | None = None) -> Path:
    """Return the path of the compiled library, which is built when this version of it was not built before.

    Args:
        directory: where to keep it; the user's cache directory when None.

    Raises:
        CompilerMissingError: no ``cc``.
        subprocess.CalledProcessError: it does not compile.
    """
    kept = directory or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prefixdb"
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(_FLAGS).encode()).hexdigest()[:16]
    library = kept / f"shim-{digest}.so"
    if library.exists():
        return library
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CompilerMissingError("there is no C compiler (cc)")
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Compiled beside and renamed, so that two who build at once do not meet.
    handle, unfinished = tempfile.mkstemp(dir=kept, suffix=".so")
    os.close(handle)
    try:
        subprocess.run([compiler, *_FLAGS, "-o", unfinished, str(SOURCE), "-ldl"], check=True)
        Path(unfinished).replace(library)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return library


class Rule:
    """One rule in force; made by ``Shim.add``. As a context manager it is withdrawn at the end of the block."""

    def __init__(self, shim: Shim, offset: int) -> None:
        self._shim = shim
        self._offset = offset

    def __enter__(self) -> Rule:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.withdraw()

    @property
    def matched(self) -> int:
        """Calls that matched, those let through included."""
        return self._counters()[0]

    @property
    def hits(self) -> int:
        """Calls the rule was applied to."""
        return self._counters()[1]

    @property
    def bytes(self) -> int:
        """Bytes that a budget let through."""
        return self._counters()[2]

    def withdraw(self) -> None:
        """End the rule; whoever it holds goes on."""
        self._shim._withdraw(self._offset)

    def await_hits(self, count: int = 1, *, while_: Callable[[], bool] = lambda: True, timeout_s: float = 30.0) -> None:
        """Wait until the rule was applied ``count`` times.

        Args:
            count: how often.
            while_: waiting is given up when this is false, for example when the process has ended.
            timeout_s: longest wait.

        Raises:
            TimeoutError: it was not.
        """
        limit = time.monotonic() + timeout_s
        while self.hits < count:
            if time.monotonic() > limit or not while_():
                raise TimeoutError(f"the rule was applied {self.hits} times of {count}, {self.matched} calls matched")
            time.sleep(0.001)

    def _counters(self) -> tuple[int, int, int]:
        matched, hits, passed = _COUNTERS.unpack_from(self._shim._map, self._offset + _COUNTERS_AT)
        return matched, hits, passed


class Shim:
    """A control file and the rules in it. Not thread-safe: one thread commands, any number of processes obey.

    Args:
        directory: where to put the control file.
    """

    def __init__(self, directory: Path) -> None:
        self._library = build()
        self._path = directory / "shim-control"
        size = _HEADER.size + _RULES * _RULE.size
        self._path.write_bytes(_HEADER.pack(_MAGIC, 0).ljust(size, b"\0"))
        with self._path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)
        self._active: dict[int, Call] = {}
        self._used = 0

    def __enter__(self) -> Shim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.withdraw_all()

    def environment(self) -> dict[str, str]:
        """Return the variables under which a process must be started to obey."""
        return {"LD_PRELOAD": str(self._library), CONTROL_VARIABLE: str(self._path)}

    def add(
        self,
        pattern: str | Path,
        calls: Call,
        *,
        action: Action = Action.FAIL,
        error: int = errno.EIO,
        after: int = 0,
        times: int = 0,
        budget: int = 0,
    ) -> Rule:
        """Put a rule in force and return it.

        Args:
            pattern: of the files it is about.
            calls: the calls it is about.
            action: what happens to them.
            error: the ``errno`` that FAIL and an exhausted BUDGET answer with.
            after: so many matching calls pass before the first that is hit.
            times: so many are hit; 0 for all.
            budget: bytes that BUDGET lets through.
        """
        encoded = os.fsencode(pattern)
        if not 0 < len(encoded) < _PATTERN_BYTES:
            raise ValueError("the pattern is empty or too long")
        offset = self._free_slot()
        _RULE.pack_into(self._map, offset, 0, calls, action, error, after, times, budget, 0, 0, 0, encoded)
        self._active[offset] = calls
        struct.pack_into("=I", self._map, offset, 1)
        self._publish_wanted()
        return Rule(self, offset)

    def withdraw_all(self) -> None:
        """End every rule."""
        for offset in list(self._active):
            self._withdraw(offset)

    def _free_slot(self) -> int:
        """Return the offset of a slot; one that was used last goes last, so that old counters stay readable."""
        for _ in range(_RULES):
            offset = _HEADER.size + self._used % _RULES * _RULE.size
            self._used += 1
            if offset not in self._active:
                return offset
        raise ValueError(f"more than {_RULES} rules")

    def _withdraw(self, offset: int) -> None:
        if self._active.pop(offset, None) is not None:
            struct.pack_into("=I", self._map, offset, 0)
            self._publish_wanted()

    def _publish_wanted(self) -> None:
        wanted = Call(0)
        for calls in self._active.values():
            wanted |= calls
        struct.pack_into("=I", self._map, 4, wanted)
