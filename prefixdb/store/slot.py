"""The place the open engine sits in, so that it can be exchanged or taken away while threads are using it.

A binding may panic when it is closed under a running call, so everything that may run long enters through
:meth:`EngineSlot.use`, which counts. Single reads do not: they are safe against a close by themselves (one binding
holds the interpreter's lock from start to end, the other counts its callers), and a read that met a closed engine is
simply done again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from prefixdb.store.engine import E

Refusal = Callable[[], BaseException]
Failure = TypeVar("Failure")


class EngineSlot(Generic[E]):
    """Holds one engine. Thread-safe."""

    def __init__(self, engine: E) -> None:
        self._engine: E | None = engine
        self._users = 0
        self._exchanging = False
        self._refusal: Refusal | None = None
        self._changed = threading.Condition()

    def check(self) -> None:
        """Raise what :meth:`refuse` was given, if it was called."""
        if self._refusal is not None:
            raise self._refusal()

    def refuse(self, refusal: Refusal) -> None:
        """Let every later use raise a new ``refusal()``. The first reason stays, but for the one of a forked child."""
        if self._refusal is None:
            self._refusal = refusal

    def forget(self, refusal: Refusal) -> None:
        """Refuse everything from now on, in a forked child, where locks and engine are the parent's."""
        self._changed = threading.Condition()
        self._refusal = refusal
        if self._engine is not None:
            self._engine.abandon()

    @contextmanager
    def use(self) -> Iterator[E]:
        """Give the engine for the length of a ``with`` block; waits while it is being exchanged."""
        with self._changed:
            while self._exchanging and self._refusal is None:
                self._changed.wait()
            self.check()
            engine = self._engine
            if engine is None:
                raise RuntimeError("the slot is empty")
            self._users += 1
        try:
            yield engine
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def interrupt(self) -> None:
        """Stop the engine's background work, so that whoever waits for it inside comes out."""
        if self._engine is not None:
            self._engine.cancel_background()

    def exchange(self, replace: Callable[[E], tuple[E, Failure]]) -> Failure:
        """Wait until nobody is inside and put the engine that ``replace`` returns in its place; users wait meanwhile.

        Returns:
            The second thing ``replace`` returned. When ``replace`` raises, the slot keeps what it had.
        """
        engine = self._take()
        try:
            engine, failure = replace(engine)
        finally:
            with self._changed:
                self._engine = engine
                self._exchanging = False
                self._changed.notify_all()
        return failure

    def empty(self) -> E | None:
        """Wait until nobody is inside and take the engine out for good; call :meth:`refuse` first."""
        engine = self._take() if self._engine is not None else None
        with self._changed:
            self._engine = None
            self._exchanging = False
            self._changed.notify_all()
        return engine

    def _take(self) -> E:
        with self._changed:
            while self._exchanging:
                self._changed.wait()
            self._exchanging = True
            while self._users:
                self._changed.wait()
            if self._engine is None:
                self._exchanging = False
                raise RuntimeError("the slot is empty")
            return self._engine
