"""The audit file: one JSON line per administrative act and refusal, each carrying the hash of the one before.

    line := JSON object, ASCII only (control characters and line ends are escaped), then "\\n"
    fields, in order: seq, time, user, namespace_id, namespace, method, target, result, jti, peer, request_id, prev
    prev := SHA-256 of the bytes of the line before, without its end, in hex; 64 zeros in the first line

An act is written before it is done, with the result "started", and again with its outcome: a file that cannot be
written therefore refuses the act instead of missing it. Every line is on disk before ``record`` returns; lines that
arrive while a sync is running share the next one. A line that a crash cut short was never acknowledged: it is removed
when the file is opened again, and a line of its own says so.

An edited, inserted or missing line breaks the chain (``verify``). What a chain alone cannot show is that its newest
lines were cut off: ``verify`` returns the last number and hash for whoever keeps them elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import errno
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from prefixdb.clock import Clock
from prefixdb.errors import Reason, error
from prefixdb.limits import MIB
from prefixdb.service.ports import AuditEntry

_LOG = logging.getLogger("prefixdb.audit")

AUDIT_FILE = "audit.jsonl"
"""Its name in the data directory."""

GENESIS = "0" * 64
"""``prev`` of the first line."""

SERVER_USER = "prefixdb"
"""The user of lines that the server writes on its own account."""


PAGE_LINES_MAX = 1_000
"""Lines of one page that is read back."""

PAGE_BYTES_MAX = MIB
"""Bytes of one page, but for a single longer line. A line has a few hundred."""

_BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """What ``verify`` found. ``broken_line`` is 0 when the chain holds; else the number of the first bad line."""

    lines: int
    last_hash: str
    broken_line: int = 0
    problem: str = ""


def verify(path: Path) -> Finding:
    """Check every line of an audit file against the one before it; reads only.

    Raises:
        OSError: the file cannot be read.
    """
    previous, number = GENESIS, 0
    with path.open("rb") as file:
        for raw in file:
            problem = _check_line(raw, number + 1, previous)
            if problem:
                return Finding(number, previous, number + 1, problem)
            number += 1
            previous = _hash(raw[:-1])
    return Finding(number, previous)


def _check_line(raw: bytes, number: int, previous: str) -> str:
    """Return what is wrong with a line, or nothing."""
    if not raw.endswith(b"\n"):
        return "the line is cut short"
    try:
        fields = json.loads(raw)
    except ValueError:
        return "the line is not JSON"
    if not isinstance(fields, dict) or fields.get("seq") != number:
        return f"the line should have number {number}"
    if fields.get("prev") != previous:
        return "the hash of the line before does not match: a line was edited, inserted or removed"
    return ""


class AuditFile:
    """Appends to one audit file. Belongs to one event loop; writing happens in a thread of its own.

    Args:
        path: the file; created with mode 0600.
        clock: time of the lines.

    Raises:
        OSError: the file cannot be opened or its last line not read.
        DataLossError: CORRUPTION when the existing chain does not hold; ``prefixdb audit verify`` names the line.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._waiting: list[tuple[AuditEntry, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self.available = True
        self._torn_at = -1
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        dropped = self._drop_torn_line()
        finding = verify(path)
        if finding.broken_line:
            os.close(self._descriptor)
            raise error(
                Reason.CORRUPTION,
                f"The audit file {path} is damaged at line {finding.broken_line}: {finding.problem}. "
                "Keep it for inquiry under another name, then start again.",
            )
        self._seq, self._previous = finding.lines, finding.last_hash
        self._end = os.fstat(self._descriptor).st_size
        if dropped:
            note = AuditEntry(user=SERVER_USER, method="audit", target=f"{dropped} bytes", result="torn-line-removed")
            self._write([note])

    async def record(self, entry: AuditEntry) -> None:
        """Write one line and return when it is on disk.

        Raises:
            UnavailableError: AUDIT_UNAVAILABLE when it could not be written; the file is as it was before.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, done))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await asyncio.shield(done)

    def newest(self, count: int = 0) -> tuple[int, int]:
        """Return where the newest ``count`` lines (0 for all) begin and end in the file. Blocks; thread-safe.

        Only lines that are on disk by now: no half written one is among them, and none that comes later.

        Raises:
            UnavailableError: AUDIT_UNAVAILABLE, the file cannot be read.
        """
        end = self._end
        if not count:
            return 0, end
        with self._reading() as file:
            return _begin_of_newest(file, count, end), end

    def page(self, begin: int, end: int) -> tuple[list[str], int]:
        """Return some lines, oldest first, and where the next ones begin. Blocks; thread-safe.

        Nothing is kept open in between, for a reader may go away at any time.

        Args:
            begin: a place that ``newest`` or the page before returned.
            end: the one that ``newest`` returned.

        Raises:
            UnavailableError: AUDIT_UNAVAILABLE, the file cannot be read.
        """
        lines: list[str] = []
        position = begin
        with self._reading() as file:
            file.seek(begin)
            while position < end and len(lines) < PAGE_LINES_MAX and position - begin < PAGE_BYTES_MAX:
                line = file.readline()
                if not line.endswith(b"\n"):
                    raise OSError(errno.EIO, "the audit file is shorter than it was")
                position += len(line)
                # What the server writes is ASCII; what somebody else wrote is shown as well as it can be.
                lines.append(line[:-1].decode("ascii", "backslashreplace"))
        return lines, position

    async def close(self) -> None:
        """Finish what is waiting and close the file; harmless when called again."""
        if self._flushing is not None:
            await self._flushing
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    async def _flush(self) -> None:
        """Write everything that waits, one sync for all that arrived during the one before."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._write, [entry for entry, _ in batch])
            except Exception as failure:  # noqa: BLE001 - logged; whatever it was, those who wait must hear of it
                if self.available:
                    _LOG.error("audit file cannot be written", exc_info=failure)
                self.available = False
                for _, done in batch:
                    if not done.cancelled():
                        done.set_exception(error(Reason.AUDIT_UNAVAILABLE))
                        done.exception()  # The caller may have gone: then nobody else looks at it.
                continue
            if not self.available:
                _LOG.warning("audit file can be written again")
            self.available = True
            for _, done in batch:
                if not done.cancelled():
                    done.set_result(None)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[BinaryIO]:
        try:
            with self._path.open("rb") as file:
                yield file
        except OSError as failure:
            _LOG.exception("audit file cannot be read")
            raise error(Reason.AUDIT_UNAVAILABLE, "The audit file cannot be read.") from failure

    def _write(self, entries: list[AuditEntry]) -> None:
        """Append and sync lines; on failure the file is cut back to where it was. Blocks."""
        seq, previous, lines = self._seq, self._previous, []
        for entry in entries:
            seq += 1
            line = self._line(entry, seq, previous)
            previous = _hash(line)
            lines.append(line + b"\n")
        if self._torn_at >= 0:
            self._cut_back(self._torn_at)
        found = os.fstat(self._descriptor)
        if not found.st_nlink:
            # Somebody removed the file: a line would be in nobody's reach, so it does not count as written.
            raise FileNotFoundError(errno.ENOENT, "the audit file was removed")
        begin = found.st_size
        try:
            rest = memoryview(b"".join(lines))
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError:
            self._cut_back(begin)  # A line nobody was promised must not stay, whole or in part.
            raise
        self._seq, self._previous = seq, previous
        self._end = begin + sum(len(line) for line in lines)

    def _cut_back(self, size: int) -> None:
        """Cut the file back to ``size``, now or else before the next line: behind half a line no chain would hold."""
        self._torn_at = size
        os.ftruncate(self._descriptor, size)
        self._torn_at = -1

    def _line(self, entry: AuditEntry, seq: int, previous: str) -> bytes:
        when = datetime.datetime.fromtimestamp(self._clock.now_ms() / 1000, datetime.UTC)
        fields: dict[str, Any] = {
            "seq": seq,
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "user": entry.user,
            "namespace_id": "" if entry.namespace_id is None else str(entry.namespace_id),
            "namespace": entry.namespace,
            "method": entry.method,
            "target": entry.target,
            "result": entry.result,
            "jti": entry.jti,
            "peer": entry.peer,
            "request_id": entry.request_id,
            "prev": previous,
        }
        return json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode("ascii")

    def _drop_torn_line(self) -> int:
        """Cut off a last line without its end and return its bytes."""
        size = os.fstat(self._descriptor).st_size
        keep = size
        while keep:
            start = max(0, keep - 4096)
            chunk = os.pread(self._descriptor, keep - start, start)
            position = chunk.rfind(b"\n")
            if position >= 0:
                keep = start + position + 1
                break
            keep = start
        if keep != size:
            os.ftruncate(self._descriptor, keep)
            os.fsync(self._descriptor)
        return size - keep


def _begin_of_newest(file: BinaryIO, newest: int, end: int) -> int:
    """Return where the newest so many lines before ``end`` begin, looking backwards block by block."""
    wanted = newest + 1  # The end of the line before them; that of the last line is one of them.
    position = end
    while position:
        start = max(0, position - _BLOCK_BYTES)
        file.seek(start)
        block = file.read(position - start)
        ends = block.count(b"\n")
        if ends >= wanted:
            at = len(block)
            for _ in range(wanted):
                at = block.rfind(b"\n", 0, at)
            return start + at + 1
        wanted -= ends
        position = start
    return 0


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
