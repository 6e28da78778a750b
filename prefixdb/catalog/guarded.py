"""Changes inside a namespace that may itself be renamed, suspended or dropped at any moment.

The order is always the same: durable, then visible, then the namespace's epoch moved, then the reply. So a session that
was looked at after the reply has seen the change, and one that was looked at before looks again. When it stays open
whether a commit was applied, the epoch moves too: looking once too often costs little.

The epoch moves before the namespace's lock is free. Whoever comes second with the same change, finds it made already
and is told so, is then told something that is in force.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from prefixdb.catalog.entities import NamespaceRecord, NamespaceState
from prefixdb.catalog.epochs import Epochs
from prefixdb.catalog.namespaces import Registry
from prefixdb.errors import OutcomeUnknownError, Reason, error
from prefixdb.store.base import Commit, CommitResult, Condition, Mutation, Store

__all__ = ["Change", "Changes", "commit_guarded"]

_TRIES_MAX = 20


def commit_guarded(
    store: Store,
    registry: Registry,
    namespace_id: int,
    writes: Sequence[Mutation],
    *,
    conditions: Sequence[Condition] = (),
    guards: Sequence[Condition] = (),
    live: bool = True,
) -> CommitResult:
    """Commit while the namespace is what it must be.

    The guard of the namespace's record keeps the commit out of a namespace that is dropped in this moment. It also
    fails when the record changed in a harmless way, a new label say, so the commit is then tried again; never into
    another issue of the number.

    Args:
        store: the store.
        registry: whose record of the namespace counts.
        namespace_id: the namespace the commit is about.
        writes: the mutations.
        conditions: as in ``Commit``.
        guards: further guards.
        live: whether a dropped namespace is refused; else only one that was reclaimed is.

    Returns:
        What became of it. ``failed_guard`` counts in ``guards``: 0 is the first of them, -1 none.

    Raises:
        NotFoundError: NAMESPACE_NOT_FOUND.
        FailedPreconditionError: NAMESPACE_STATE, the namespace was dropped.
        PrefixdbError: as ``Store.commit_many``.
    """
    incarnation = -1
    for _ in range(_TRIES_MAX):
        record = _writable(registry.get(namespace_id), live=live)
        if incarnation not in (-1, record.incarnation):
            raise _dropped(record)
        incarnation = record.incarnation
        commit = Commit(tuple(writes), tuple(conditions), (registry.guard(record), *guards))
        result = store.commit(commit)
        if result.failed_guard != 0:
            return result._replace(failed_guard=max(result.failed_guard - 1, -1))
        registry.settle()
    raise error(Reason.INTERNAL, "The namespace's record kept changing.")


class Changes:
    """The changes of what belongs to namespaces: one at a time in each, side by side in different ones. Thread-safe."""

    def __init__(self, store: Store, registry: Registry, epochs: Epochs) -> None:
        self._store = store
        self._registry = registry
        self._epochs = epochs
        self._mutex = threading.Lock()
        self._turns: dict[int, _Turn] = {}

    @contextmanager
    def of(self, namespace_id: int) -> Iterator[Change]:
        """Hold the namespace's lock; at the end of it move its epoch when something was, or may be, changed.

        What is read inside cannot change by another holder before it is written. Not reentrant.
        """
        change = Change(self._store, self._registry, namespace_id)
        with self._turn_of(namespace_id):
            try:
                yield change
            finally:
                if change.is_felt:
                    self._epochs.move(namespace_id)

    @contextmanager
    def _turn_of(self, namespace_id: int) -> Iterator[None]:
        """Hold the one lock of the namespace, which exists only while somebody holds it or waits for it."""
        with self._mutex:
            turn = self._turns.setdefault(namespace_id, _Turn(threading.Lock()))
            turn.wanted += 1
        try:
            with turn.lock:
                yield
        finally:
            with self._mutex:
                turn.wanted -= 1
                if not turn.wanted:
                    del self._turns[namespace_id]


class Change:
    """One holder's writes into one namespace.

    is_felt: something that sessions depend on was, or may be, changed.
    """

    def __init__(self, store: Store, registry: Registry, namespace_id: int) -> None:
        self._store = store
        self._registry = registry
        self._namespace_id = namespace_id
        self.is_felt = False

    def commit(
        self,
        writes: Sequence[Mutation],
        *,
        conditions: Sequence[Condition] = (),
        guards: Sequence[Condition] = (),
        felt: bool = True,
    ) -> CommitResult:
        """Commit as ``commit_guarded``; ``felt`` is false when no session depends on what is written."""
        try:
            result = commit_guarded(
                self._store, self._registry, self._namespace_id, writes, conditions=conditions, guards=guards
            )
        except OutcomeUnknownError:
            self.is_felt |= felt
            raise
        self.is_felt |= felt and result.applied
        return result

    def commit_all(self, writes: Sequence[Mutation], *, guards: Sequence[Condition] = (), felt: bool = True) -> int:
        """Commit what nothing but the namespace's own record can prevent; return the version.

        Args:
            writes: the mutations.
            guards: what was read under the lock; that it is still so is made sure of, not waited for.
            felt: as in ``commit``.

        Raises:
            InternalError: INTERNAL, somebody wrote without holding the lock.
        """
        result = self.commit(writes, guards=guards, felt=felt)
        if not result.applied:
            raise error(Reason.INTERNAL, "A record of the namespace was changed past its lock.")
        return result.version


@dataclass(slots=True)
class _Turn:
    """The lock of a namespace, and how many hold it or wait for it."""

    lock: threading.Lock
    wanted: int = 0


def _writable(record: NamespaceRecord | None, *, live: bool) -> NamespaceRecord:
    if record is None:
        raise error(Reason.NAMESPACE_NOT_FOUND)
    if record.state is NamespaceState.RECLAIMED or (live and not record.state.is_live):
        raise _dropped(record)
    return record


def _dropped(record: NamespaceRecord) -> Exception:
    return error(Reason.NAMESPACE_STATE, "The namespace was dropped.", metadata={"state": record.state.name})
