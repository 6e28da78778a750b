"""Building a namespace: everything between a promised number and a namespace that lives, or one that is reclaimed.

    stage ──► groups and members, in commits ──► rows, see ``placing`` ──► content closed ──► finish
      └────────────┴─────────────────────────────┴── any failure, a ban, a cut ─────────────► abandon

Every write carries the guard of the staged record, so nothing is written once that was given up. What the content was
read from (a spool, a cursor) is closed before the namespace lives or is given up: a tenant's rows must not lie in
a file of the server when its namespace is proven to be gone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prefixdb.backup.placing import Page, PlacingRefused, place_batches, place_rows
from prefixdb.catalog.directory import Reservation
from prefixdb.catalog.entities import NamespaceRecord
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.staging import given_up
from prefixdb.errors import PrefixdbError
from prefixdb.keycodec import FAMILY_SYSTEM, family_span
from prefixdb.store.base import Put, Store

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """How far it is; written by the thread that builds, read by anybody.

    checking: the content is being looked through before anything is written.
    """

    checking: bool = False
    rows_done: int = 0
    rows_estimate: int = 0
    rows_expired: int = 0
    members: int = 0
    groups: int = 0


class Content(Protocol):
    """What goes into the new namespace, made for its number. Used by one thread, in this order, each once."""

    def records(self) -> Iterator[Sequence[Put]]:
        """Yield the writes of groups and members, ascending."""

    def pages(self) -> Iterator[Page]:
        """Yield the writes of rows, ascending."""

    def close(self) -> None:
        """Let go of everything that was open, and remove files with rows. Harmless when called again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be made.

    reservation: of ``Registry.staging``.
    by: who makes it.
    reason: what is being done, for those who list what is banned.
    source: the namespace of this store that its rows are from; it must live until the end.
    """

    reservation: Reservation
    by: str
    reason: str
    labels: Mapping[str, str]
    source: NamespaceRecord | None = None


class Builder:
    """Builds one namespace. ``run`` blocks; everything else may be called from any thread at any time."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._stopped: PrefixdbError | None = None
        self._staged: NamespaceRecord | None = None
        self.progress = Progress()

    @property
    def stopped(self) -> PrefixdbError | None:
        """Why it was told to stop, if it was."""
        return self._stopped

    def stop(self, why: PrefixdbError) -> None:
        """Have the building end with ``why`` at its next piece, and the namespace given up. The first reason stands."""
        if self._stopped is None:
            self._stopped = why

    def run(self, plan: Plan, open_content: Callable[[], Content]) -> NamespaceRecord:
        """Build the namespace and return its record once it lives; the reservation has ended either way.

        Args:
            plan: what is to be made.
            open_content: called in this thread, once the namespace is staged.

        Raises:
            PrefixdbError: what ``stop`` was called with; NAMESPACE_STATE, somebody banned it or its source;
                NAMESPACE_EXISTS, its name was taken; those of the content and of the store.
        """
        staging = self._registry.staging
        try:
            self.check()
            staged = self._staged = staging.stage(plan.reservation, by=plan.by, reason=plan.reason, labels=plan.labels)
            content = open_content()
            try:
                self._fill(staged, content)
            finally:
                content.close()
            self.check()
            return staging.finish(plan.reservation, staged, source=plan.source)
        except BaseException as failure:
            self._give_up(plan.reservation, failure)
            raise

    def _fill(self, staged: NamespaceRecord, content: Content) -> None:
        guards = (self._registry.guard(staged),)
        span = family_span(staged.id, FAMILY_SYSTEM)
        try:
            place_batches(self._store, span, content.records(), guards=guards, check=self.check)
            place_rows(self._store, staged.id, content.pages(), guards=guards, on_rows=self._count, check=self.check)
        except PlacingRefused:
            self.check()
            raise given_up(staged) from None

    def _count(self, rows: int) -> None:
        self.progress.rows_done = rows

    def check(self) -> None:
        """Raise when the building is to end: it was told to stop, or somebody has banned the namespace."""
        if self._stopped is not None:
            raise self._stopped
        staged = self._staged
        if staged is not None:
            now = self._registry.get(staged.id)
            if now is not staged and now != staged:
                raise given_up(now or staged)

    def _give_up(self, reservation: Reservation, failure: BaseException) -> None:
        why = failure.reason.name if isinstance(failure, PrefixdbError) else "internal error"
        try:
            self._registry.staging.abandon(reservation, f"not finished: {why}")
        except PrefixdbError as refusal:  # It is due all the same, and reclaimed when the store takes writes again.
            number, reason = reservation.namespace_id, refusal.reason.name
            _log.warning("namespace %d was given up, which could not be noted: %s", number, reason)
