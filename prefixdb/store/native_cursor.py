"""The native store's cursor: the walk, the check of every key and the decoding are C++; here are time and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from prefixdb.archive import PackedRows
from prefixdb.clock import Clock
from prefixdb.store.base import Row


class EngineCursor(Protocol):
    """See ``prefixdb/_native/module.pyi``."""

    def fetch(self, max_rows: int, max_bytes: int, now_ms: int) -> list[Row]: ...
    def pack(
        self, head: bytes, max_rows: int, max_bytes: int, now_ms: int
    ) -> tuple[bytes, int, int, bytes, bytes, int, int, int, int, int] | None: ...
    def count(self, max_rows: int, now_ms: int) -> int: ...
    def close(self) -> None: ...


class NativeCursor:
    """``prefixdb.store.base.PackingCursor`` over the engine's.

    Args:
        cursor: a fresh cursor.
        clock: decides what is expired; None returns expired rows too.
        check: raises when the store refuses all work.
        translate: makes the caller's error of the engine's.
    """

    def __init__(
        self,
        cursor: EngineCursor,
        clock: Clock | None,
        *,
        check: Callable[[], None],
        translate: Callable[[Exception], BaseException],
    ) -> None:
        self._cursor = cursor
        self._clock = clock
        self._check = check
        self._translate = translate
        self._ended_by: Callable[[], BaseException] | None = None

    def fetch(self, max_rows: int, max_bytes: int) -> list[Row]:
        if max_rows < 1:
            raise ValueError("max_rows must be at least 1")
        self._check()
        try:
            return self._cursor.fetch(max_rows, min(max_bytes, _U64_MAX), self._clock.now_ms() if self._clock else 0)
        except Exception as failure:
            raise self._failed(failure) from failure

    def pack(self, head: bytes, max_rows: int, max_bytes: int) -> PackedRows | None:
        self._check()
        try:
            packed = self._cursor.pack(head, max_rows, max_bytes, self._clock.now_ms() if self._clock else 0)
        except Exception as failure:
            raise self._failed(failure) from failure
        return None if packed is None else PackedRows(*packed)

    def count(self, max_rows: int) -> int:
        self._check()
        try:
            return self._cursor.count(min(max_rows, _U64_MAX), self._clock.now_ms() if self._clock else 0)
        except Exception as failure:
            raise self._failed(failure) from failure

    def close(self) -> None:
        self.end(lambda: RuntimeError("the cursor is closed"))

    def end(self, reason: Callable[[], BaseException]) -> None:
        """Release the view; later calls raise ``reason()``. The first reason stays. Thread-safe."""
        if self._ended_by is None:
            self._ended_by = reason
        self._cursor.close()

    def abandon(self) -> None:
        """Do nothing: the engine's cursors know by themselves that this is a forked child."""

    def _failed(self, failure: Exception) -> BaseException:
        if self._ended_by is not None:
            return self._ended_by()
        return self._translate(failure)


_U64_MAX = 2**64 - 1
