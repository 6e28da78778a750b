"""How every change of a namespace is made: one at a time, committed, shown in memory, announced.

The order is what the registry's promises rest on. A change is visible in memory only after it is durable, and listeners
hear of it after it is visible and the lock is free. After an outcome nobody knows, memory believes the store.

Exact listeners hear of it earlier, before the lock is free: whoever comes second with the same change, and is told that
it has been made, is then told something that is in force everywhere.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from prefixdb.catalog import schema
from prefixdb.catalog.directory import Directory
from prefixdb.catalog.dropping import Change
from prefixdb.catalog.entities import Ban, NamespaceRecord
from prefixdb.errors import OutcomeUnknownError, PrefixdbError, Reason, error
from prefixdb.store.base import Commit, Store

Listener = Callable[[int], None]

_log = logging.getLogger(__name__)


class Changing:
    """Commits changes of namespaces and shows them in the directory. Thread-safe; blocks on the store's commits.

    Args:
        store: the truth.
        directory: its picture in memory.
    """

    def __init__(self, store: Store, directory: Directory) -> None:
        self._store = store
        self._directory = directory
        self._lock = threading.Lock()
        self._exact: list[Listener] = []
        self._listeners: list[Listener] = []
        self._changed: list[int] = []

    def add_listener(self, listener: Listener) -> None:
        """Have ``listener(namespace_id)`` called after every change that is durable and visible in memory."""
        self._listeners.append(listener)

    def add_exact_listener(self, listener: Listener) -> None:
        """As ``add_listener``, but called with the lock held: it may not change a namespace or wait for who could, and
        it must not raise."""
        self._exact.append(listener)

    def settle(self) -> None:
        """Return once every change that was committed before this call is visible in memory."""
        with self._lock:
            pass

    @contextmanager
    def one(self) -> Iterator[None]:
        """Serialise a change. What it made visible is announced once the lock is free, also when it then failed.

        Everything below is called inside.
        """
        announced: list[int] = []
        try:
            with self._lock:
                try:
                    yield
                finally:
                    announced, self._changed = self._changed, []
                    for namespace_id in announced:
                        for exact in self._exact:
                            exact(namespace_id)
        finally:
            for namespace_id in announced:
                self._announce(namespace_id)

    def commit(self, namespace_id: int, commit: Commit) -> int:
        """Commit and return the version; after an unknown outcome believe what the store holds."""
        try:
            result = self._store.commit(commit)
        except OutcomeUnknownError:
            self._reload(namespace_id)
            raise
        if not result.applied:
            raise _differs()
        return result.version

    def show(self, record: NamespaceRecord, ban: Ban | None) -> None:
        """Make a durable change visible in memory and have it announced."""
        self._directory.apply(record, ban)
        self._changed.append(record.id)

    def tell(self, namespace_id: int) -> None:
        """Have the listeners told of a namespace whose records are as they were."""
        self._changed.append(namespace_id)

    def make(self, change: Change) -> NamespaceRecord:
        """Commit a change, then show it in memory."""
        return self._show_change(change, self.commit(change.new.id, change.commit()))

    def make_many(
        self, namespace_ids: Iterable[int], plan: Callable[[NamespaceRecord, Ban | None], Change | None]
    ) -> dict[int, NamespaceRecord | PrefixdbError]:
        """Commit a change of each namespace in one batch, then show them in memory; one that fails fails alone."""
        outcomes: dict[int, NamespaceRecord | PrefixdbError] = {}
        changes: list[Change] = []
        for namespace_id in namespace_ids:
            try:
                record = self.known(namespace_id)
                change = plan(record, self._directory.ban_of(namespace_id))
            except PrefixdbError as refusal:
                outcomes[namespace_id] = refusal
                continue
            outcomes[namespace_id] = record
            if change is not None:
                changes.append(change)
        try:
            results = self._store.commit_many([change.commit() for change in changes])
        except OutcomeUnknownError:
            for change in changes:
                self._reload(change.new.id)
            raise
        for change, result in zip(changes, results, strict=True):
            outcomes[change.new.id] = self._show_change(change, result.version) if result.applied else _differs()
        return outcomes

    def known(self, namespace_id: int) -> NamespaceRecord:
        """Return the record, or raise NAMESPACE_NOT_FOUND."""
        record = self._directory.get(namespace_id)
        if record is None:
            raise error(Reason.NAMESPACE_NOT_FOUND)
        return record

    def _show_change(self, change: Change, version: int) -> NamespaceRecord:
        written = replace(change.new, row_version=version)
        self.show(written, change.ban)
        return written

    def _reload(self, namespace_id: int) -> None:
        """Replace what memory holds of one namespace by what the store holds."""
        row = self._store.get(schema.namespace_key(namespace_id))
        if row is None:
            return  # A creation that did not happen.
        ban_row = self._store.get(schema.ban_key(namespace_id))
        ban = schema.decode_ban(namespace_id, ban_row) if ban_row is not None else None
        self.show(schema.decode_namespace(namespace_id, row), ban)

    def _announce(self, namespace_id: int) -> None:
        for listener in self._listeners:
            try:
                listener(namespace_id)
            except Exception:  # noqa: BLE001  # the change is done; one broken listener must not hide it from others
                _log.exception("a listener failed on a change of namespace %d", namespace_id)


def _differs() -> PrefixdbError:
    """Return what is wrong when a guard of a row fails that only the registry writes, under its lock."""
    return error(Reason.INTERNAL, "The catalog in memory differs from the store.")
