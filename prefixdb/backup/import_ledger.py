"""The way of an import's record from one state to the next, together with what belongs to it.

Every write is guarded twice: the namespace is the one the import was let into and takes rows now, and the record is the
one that was read. So a ban stops an import at its next commit, and what might be done twice, because of a crash, of an
outcome that stayed unknown, or of a second worker, is done once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from prefixdb.backup.import_record import ImportRecord, decode_import, encode_import
from prefixdb.catalog.entities import NamespaceRecord, NamespaceState
from prefixdb.catalog.namespaces import Registry
from prefixdb.clock import Clock
from prefixdb.errors import OutcomeUnknownError, PrefixdbError, Reason, error
from prefixdb.keycodec import RowKey
from prefixdb.limits import IMPORT_KEPT_MS
from prefixdb.store.base import Commit, Condition, Mutation, Put, Store, VersionIs

WAIT_S = 0.2
"""Pause before something that is only not possible now is tried again; it doubles up to ``WAIT_S_MAX``."""

WAIT_S_MAX = 5.0

PARKED_AFTER_S = 2.0
"""How long an import keeps its thread while its namespace takes no rows. That may last for days, and there are not as
many threads as namespaces."""

WAITED_FOR = frozenset({Reason.WRITE_STALL, Reason.DISK_FULL, Reason.READ_ONLY_STORE, Reason.OUTCOME_UNKNOWN})
"""What an import that has begun sits out."""


class ImportStoppedError(Exception):
    """The import was told to stop; what is to be done is still in its record and its spool."""


class ImportParkedError(Exception):
    """The namespace takes no rows for a time; run the import again when it does."""


class OvertakenError(Exception):
    """The namespace, or the record, is not what it was looked at to be: look again."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an import goes.

    incarnation: of the namespace; another issue of its number takes nothing.
    record_key: of the import's record.
    """

    namespace_id: int
    incarnation: int
    record_key: RowKey


class ImportLedger:
    """Reads and writes the record of one import. One thread uses it; ``stop`` is for others."""

    def __init__(self, store: Store, registry: Registry, clock: Clock, target: Target) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._target = target
        self._stopping = threading.Event()

    @property
    def is_open(self) -> bool:
        """Whether the namespace takes rows; raises as ``live_record``, and ImportStoppedError when told to stop."""
        self.pause()
        found = live_record(self._registry, self._target.namespace_id, self._target.incarnation)
        return found.state is NamespaceState.ACTIVE

    def stop(self) -> None:
        """Have every later ``pause`` raise ImportStoppedError. Thread-safe."""
        self._stopping.set()

    def pause(self, seconds: float = 0.0) -> None:
        """Let others have a turn; raises ImportStoppedError when told to stop."""
        if self._stopping.wait(seconds):
            raise ImportStoppedError

    def begin(self, record: ImportRecord) -> None:
        """Write the record for the first time; from here on the import will be finished.

        Raises:
            NamespaceBannedError: NAMESPACE_BANNED.
            ImportParkedError: the namespace takes no rows.
            ImportStoppedError: ``stop`` was called.
            PrefixdbError: as the store, but for OUTCOME_UNKNOWN, which is sat out: it has begun, or it has not.
        """
        put = Put(self._target.record_key, encode_import(record))
        while True:
            try:
                if self._store.commit(Commit((put,), guards=(self.guard(),))).applied:
                    return
                self._registry.settle()
                self.pause()
            except OutcomeUnknownError:
                self.pause(WAIT_S)

    def load(self) -> ImportRecord:
        """Return the record as it is.

        Raises:
            NamespaceBannedError: NAMESPACE_BANNED, it is gone with its namespace.
        """
        row = self._store.get(self._target.record_key)
        if row is None:
            raise error(Reason.NAMESPACE_BANNED)
        return decode_import(row)

    def save(self, record: ImportRecord, after: ImportRecord, *mutations: Mutation) -> None:
        """Commit ``mutations`` with the record's next state; raises OvertakenError when something else came between."""
        if not self.try_save(record, after, mutations):
            raise OvertakenError

    def try_save(
        self,
        record: ImportRecord,
        after: ImportRecord,
        mutations: Sequence[Mutation] = (),
        conditions: Sequence[Condition] = (),
    ) -> int:
        """Commit ``mutations`` with the record's next state; return the version, 0 when a condition did not hold.

        Args:
            record: as it was read.
            after: as it is to be.
            mutations: what belongs to that.
            conditions: what has to hold beside the guards.

        Raises:
            OvertakenError: the namespace or the record has changed.
            NamespaceBannedError: NAMESPACE_BANNED.
            ImportStoppedError: ``stop`` was called.
            PrefixdbError: as the store. Not known whether it was applied: the record tells.
        """
        expires_at_ms = self._clock.now_ms() + IMPORT_KEPT_MS if after.is_over else 0
        put = Put(self._target.record_key, encode_import(after), expires_at_ms)
        result = self._store.commit(Commit((*mutations, put), tuple(conditions), self.guards(record)))
        if result.failed_guard >= 0:
            self._registry.settle()
            raise OvertakenError
        return result.version if result.applied else 0

    def guards(self, record: ImportRecord) -> tuple[Condition, Condition]:
        """Return what must hold when rows of the import become durable; raises as ``guard``."""
        return self.guard(), VersionIs(self._target.record_key, record.row_version)

    def guard(self) -> Condition:
        """Return the guard of the namespace as it is now, waiting a moment until rows may be written into it.

        Raises:
            NamespaceBannedError: NAMESPACE_BANNED.
            ImportParkedError: it takes no rows.
            ImportStoppedError: ``stop`` was called.
        """
        waited_s = 0.0
        while True:
            found = live_record(self._registry, self._target.namespace_id, self._target.incarnation)
            if found.state is NamespaceState.ACTIVE:
                return self._registry.guard(found)
            if waited_s >= PARKED_AFTER_S:
                raise ImportParkedError
            self.pause(WAIT_S)
            waited_s += WAIT_S

    def settle(self) -> None:
        """Return once the registry shows every change that was committed before."""
        self._registry.settle()

    def unless_changed(self, record: ImportRecord, failure: PrefixdbError | OvertakenError) -> None:
        """Return when the record still is what was read, after a pause that suits the failure; else raise it again."""
        if isinstance(failure, PrefixdbError):
            if failure.reason not in WAITED_FOR:
                raise failure
            self.pause(WAIT_S)
        if self.load().row_version != record.row_version:
            raise OvertakenError


def live_record(registry: Registry, namespace_id: int, incarnation: int) -> NamespaceRecord:
    """Return the record of an issue of a namespace.

    Raises:
        NamespaceBannedError: NAMESPACE_BANNED, it was dropped, or its number is somebody else's by now.
    """
    found = registry.get(namespace_id)
    if found is None or found.incarnation != incarnation or not found.state.is_live:
        raise error(Reason.NAMESPACE_BANNED)
    return found
