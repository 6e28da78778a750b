"""The order of versions: which is the first, the second, the n-th among all that were seen.

Rows that move to another store need versions that this store has not given yet, in the order of the old ones. There can
be as many distinct ones as rows, so they are sorted in runs on disk; what is held in memory is one run.
"""

from __future__ import annotations

import heapq
import mmap
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

__all__ = ["VersionRanks"]

RUN_VERSIONS = 250_000
"""Distinct versions held in memory, about 25 MB of them."""

_WIDTH = 8
_READ_VERSIONS = 8_192


class VersionRanks:
    """Collects versions, then tells the rank of each: 0 for the smallest, one more for each greater distinct one.

    Use: ``add`` any number of times, ``finish`` once, then ``rank``; ``close`` at the end. Not thread-safe.

    Args:
        directory: where runs are kept when there are many; the files have no name and vanish with the process.
        run_versions: distinct versions held in memory.
    """

    def __init__(self, directory: Path, *, run_versions: int = RUN_VERSIONS) -> None:
        self._directory = directory
        self._run_versions = run_versions
        self._held: set[int] = set()
        self._runs: list[BinaryIO] = []
        self._sorted: Sequence[int] | None = None
        self._map: mmap.mmap | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> VersionRanks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, versions: Iterable[int]) -> None:
        """Take versions, 0 .. 2^64-1, in any order and as often as they come.

        Raises:
            OSError: the disk is full.
        """
        self._held.update(versions)
        if len(self._held) >= self._run_versions:
            self._runs.append(self._written(iter(sorted(self._held))))
            self._held = set()

    def finish(self) -> int:
        """Return how many distinct versions there are; none are taken from now on."""
        if not self._runs:
            self._sorted = array("Q", sorted(self._held))
            return len(self._sorted)
        runs = [_read(run) for run in self._runs]
        self._file = self._written(_distinct(heapq.merge(*runs, sorted(self._held))))
        for run in self._runs:
            run.close()
        self._held, self._runs = set(), []
        self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._sorted = memoryview(self._map).cast("Q")
        return len(self._sorted)

    def rank(self, version: int) -> int:
        """Return how many distinct smaller versions there are.

        Raises:
            KeyError: the version was never added.
        """
        if self._sorted is None:
            raise RuntimeError("finish comes first")
        place = bisect_left(self._sorted, version)
        if place == len(self._sorted) or self._sorted[place] != version:
            raise KeyError("no such version")
        return place

    def close(self) -> None:
        """Give back memory and disk. Does nothing the second time."""
        if isinstance(self._sorted, memoryview):
            self._sorted.release()
        self._sorted = None
        if self._map is not None:
            self._map.close()
        for file in (*self._runs, self._file):
            if file is not None:
                file.close()
        self._map, self._file, self._runs = None, None, []

    def _written(self, versions: Iterator[int]) -> BinaryIO:
        """Return a file without a name that holds the versions in the machine's own byte order."""
        file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - closed by ``close``
        try:
            while piece := array("Q", islice(versions, _READ_VERSIONS)):
                file.write(piece.tobytes())
            file.flush()
        except BaseException:
            file.close()
            raise
        return file


def _read(file: BinaryIO) -> Iterator[int]:
    file.seek(0)
    while data := file.read(_READ_VERSIONS * _WIDTH):
        yield from memoryview(data).cast("Q")


def _distinct(ascending: Iterable[int]) -> Iterator[int]:
    before = -1
    for version in ascending:
        if version != before:
            yield version
        before = version
