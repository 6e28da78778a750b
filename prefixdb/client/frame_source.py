"""Where the frames of an upload come from: by number, again if need be, with bounded memory.

A connection may be lost in the middle of an upload. The server then says how many frames it has, and the upload goes
on behind them. What can be read again (a file, a conversion of a file) is read again from its beginning; of what cannot
(a pipe) the last frames are kept: gRPC and the sockets hold no more than a few that were sent and have not arrived.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from prefixdb.archive.frames import frames_of
from prefixdb.client.frame_chain import FrameChain
from prefixdb.limits import MIB

DIGEST_BYTES = 32
KEPT_BYTES_MAX = 32 * MIB
"""Frames of a pipe that are kept, at most. gRPC has one message of 1 MiB under way and HTTP/2 a window of some MiB."""

CLOSE_WAIT_S = 1.0

FramesOf = Callable[[], Iterator[bytes]]
"""Begins a pass over all frames."""


class GoneError(Exception):
    """Frames that have to be sent once more cannot be read again."""


class FrameSource:
    """Frames of one archive, in order. Thread-safe, for an upload that was given up may still be drawing.

    Args:
        begin: begins a pass over all frames.
        again: whether that may be done more than once.
        share: returns the share that was read, 0.0 .. 1.0.
        close: gives back what the source holds.
    """

    def __init__(
        self,
        begin: FramesOf,
        *,
        again: bool,
        share: Callable[[], float] | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._begin = begin
        self._again = again
        self._share = share or (lambda: 0.0)
        self._close = close
        self._lock = threading.Lock()
        self._pass = begin()
        self._drawn = 0
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0

    def __repr__(self) -> str:
        return f"FrameSource({self._drawn} frames drawn)"

    @property
    def share(self) -> float:
        """Share of the source that was read, 0.0 .. 1.0; 0.0 when its size is not known."""
        return self._share()

    def close(self) -> None:
        """Give back what the source holds; calling it again is harmless."""
        # An upload that was given up may be waiting for a pipe: nobody waits for that, it goes with the process.
        if self._close is None or not self._lock.acquire(timeout=CLOSE_WAIT_S):
            return
        try:
            self._close()
            self._close = None
            self._pass = iter(())
        finally:
            self._lock.release()

    def frames_from(self, start: int) -> Iterator[bytes]:
        """Yield the frames behind the first ``start``.

        Raises:
            GoneError: the source cannot be read again, and they are not kept.
            PrefixdbError: the source is no archive, or is damaged.
        """
        number = start
        while (frame := self._frame(number)) is not None:
            number += 1
            yield frame

    def digest_of(self, count: int) -> bytes | None:
        """Return the digest in the last of the first ``count`` frames; None when there are not so many."""
        frame = self._frame(count - 1)
        return None if frame is None else frame[-DIGEST_BYTES:]

    def _frame(self, number: int) -> bytes | None:
        """Return a frame by its number, from 0; None behind the last."""
        with self._lock:
            if number < self._drawn - len(self._kept):
                self._rewind()
            while number >= self._drawn:
                frame = next(self._pass, None)
                if frame is None:
                    return None
                self._keep(frame)
            return self._kept[number - self._drawn]

    def _keep(self, frame: bytes) -> None:
        self._drawn += 1
        self._kept.append(frame)
        self._kept_bytes += len(frame)
        # One frame is enough of what can be read again: the digest of a frame is asked for before the one behind it.
        while len(self._kept) > 1 and (self._again or self._kept_bytes > KEPT_BYTES_MAX):
            self._kept_bytes -= len(self._kept.popleft())

    def _rewind(self) -> None:
        if not self._again:
            raise GoneError
        self._pass = self._begin()
        self._drawn = self._kept_bytes = 0
        self._kept.clear()


def archive_source(source: str | os.PathLike[str] | BinaryIO) -> FrameSource:
    """Return the frames of an archive in a file, by its path, or in an open one, from where it stands.

    Raises:
        OSError: the file cannot be opened.
    """
    if not isinstance(source, str | os.PathLike):
        return _open_source(source, None)
    file = Path(source).open("rb")  # noqa: SIM115 - closed with the source
    return _open_source(file, file.close)


def _open_source(file: BinaryIO, close: Callable[[], None] | None) -> FrameSource:
    if not file.seekable():
        return FrameSource(lambda: _checked(file), again=False, close=close)
    start = file.tell()
    size = max(1, file.seek(0, os.SEEK_END) - start)
    read = 0

    def begin() -> Iterator[bytes]:
        nonlocal read
        file.seek(start)
        read = 0
        for frame in _checked(file):
            read += len(frame)
            yield frame

    return FrameSource(begin, again=True, share=lambda: min(1.0, read / size), close=close)


def _checked(file: BinaryIO) -> Iterator[bytes]:
    """Yield the frames of a file that is an archive, each when the next one was read, the last at the file's end.

    What stands behind the footer, another archive or rubbish, is met before the footer is sent: a server that takes
    what it has for whole when its client goes away has to be left without it.
    """
    chain = FrameChain()
    held: bytes | None = None
    for frame in frames_of(file):
        chain.add(frame)
        if held is not None:
            yield held
        held = frame
    chain.finish()
    if held is not None:
        yield held
