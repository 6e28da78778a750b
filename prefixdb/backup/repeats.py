"""How many different keys there are among many, in bounded memory.

Keys become 64 bits under a secret, so that nobody can make two of them meet; in a thousand million keys three would by
chance. They are sorted a million at a time, on the disk, and merged. The file has no name: a crash leaves nothing.
"""

from __future__ import annotations

import hashlib
import heapq
import secrets
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

from prefixdb.backup.spool import disk_refusal

_RUN = 1_000_000
"""Keys that are sorted at once: 8 MB."""

_READ = 8_192
"""Of each run in memory while they are merged."""


class Different:
    """Counts keys, and different ones among them. Use it as a context manager; not thread-safe.

    Args:
        folder: where its file is; it exists.

    Raises:
        ResourceExhaustedError, UnavailableError: every method, when the disk does not take it.
    """

    def __init__(self, folder: Path) -> None:
        self._secret = secrets.token_bytes(16)
        self._held = array("Q")
        self._runs: list[int] = []
        self.added = 0
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        except OSError as failure:
            raise disk_refusal(failure) from failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, keys: Iterable[bytes]) -> None:
        """Add keys."""
        blake2b, secret = hashlib.blake2b, self._secret
        before = len(self._held)
        self._held.extend([int.from_bytes(blake2b(key, digest_size=8, key=secret).digest()) for key in keys])
        self.added += len(self._held) - before
        if len(self._held) >= _RUN:
            self._spill()

    def count(self) -> int:
        """Return how many different keys were added."""
        if not self._runs:
            return len(set(self._held))
        self._spill()
        first = 0
        runs = []
        for size in self._runs:
            runs.append(self._run(first, size))
            first += size
        return sum(1 for _ in groupby(heapq.merge(*runs)))

    @property
    def repeated(self) -> int:
        """How many of the keys had been added before."""
        return self.added - self.count()

    def _spill(self) -> None:
        run = array("Q", sorted(self._held))
        try:
            self._file.seek(0, 2)
            run.tofile(self._file)
        except OSError as failure:
            raise disk_refusal(failure) from failure
        self._runs.append(len(run))
        self._held = array("Q")

    def _run(self, first: int, size: int) -> Iterator[int]:
        for at in range(first, first + size, _READ):
            piece = array("Q")
            try:
                self._file.seek(at * piece.itemsize)
                piece.fromfile(self._file, min(_READ, first + size - at))
            except OSError as failure:
                raise disk_refusal(failure) from failure
            yield from piece
