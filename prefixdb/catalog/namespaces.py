"""The registry: every namespace's life, from its creation to the proof that nothing of it is left.

    create ──► ACTIVE ◄──resume── READ_ONLY, SUSPENDED          ban: from any live state
                 │ suspend ──────►                              unban: back to the state before, while the grace runs
                 └─ ban ──► BANNED ──(grace, reclaim, proof)──► RECLAIMED ──create──► ACTIVE, a new incarnation

The store holds the truth; the registry keeps all of it in memory, so that a call is admitted by one dict look-up. A
change is committed first and becomes visible in memory after it is durable, then the listeners are told. Each change is
one commit guarded by the version of the namespace's row, and KeyValue writes carry the same guard (``guard``): a write
that was admitted before a ban is refused by the store itself, whatever the threads do.

Threads: reads never wait. Changes are serialised by one lock and block on the store's commit; call them off the event
loop. Listeners run in the thread of the change, after the lock is released.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from msgspec.structs import replace

from prefixdb import limits
from prefixdb.catalog import dropping, load, schema
from prefixdb.catalog.dropping import Change, state_error
from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    Ban,
    MemberRecord,
    NamespaceRecord,
    NamespaceState,
    ReclaimReport,
    ServiceTokenRecord,
)
from prefixdb.catalog.names import check_labels, check_name, check_reason
from prefixdb.catalog.schema import Tag
from prefixdb.clock import Clock
from prefixdb.errors import OutcomeUnknownError, PrefixdbError, Reason, error
from prefixdb.store.base import Absent, Commit, Condition, Delete, Mutation, Put, SpanSize, Store, VersionIs

__all__ = ["NamespaceRecord", "NamespaceState", "Registry"]

Listener = Callable[[int], None]

_log = logging.getLogger(__name__)
_ID_DRAWS_MAX = 100


class Registry:
    """All namespaces and bans. See the module's docstring for its promises."""

    def __init__(self, store: Store, clock: Clock) -> None:
        """Load everything; create namespace 0 in an empty store.

        Raises:
            FailedPreconditionError: FORMAT_TOO_NEW, a newer prefixdb wrote the catalog.
            DataLossError: CORRUPTION, records are damaged or contradict each other.
        """
        self._store = store
        self._clock = clock
        self._changes = threading.Lock()
        self._listeners: list[Listener] = []
        self._changed: list[int] = []
        load.open_catalog(store, clock)
        self._directory = load.load_directory(store)

    # --- reading ---------------------------------------------------------------------------------------------------

    def get(self, namespace_id: int) -> NamespaceRecord | None:
        """Return the record, or None. One dict look-up."""
        return self._directory.get(namespace_id)

    def find(self, ref: int | str) -> NamespaceRecord | None:
        """Return the namespace of an id or a name, or None; of a name the live one first, else the last dropped."""
        return self._directory.find(ref)

    def page(
        self, after_id: int | None = None, limit: int = 100, include_dropped: bool = False
    ) -> list[NamespaceRecord]:
        """Return up to ``limit`` namespaces with ids above ``after_id`` (None: from the first), by id."""
        return self._directory.page(after_id, limit, include_dropped)

    def counts(self) -> dict[NamespaceState, int]:
        """Return how many namespaces are in each state; every state has an entry."""
        return self._directory.counts()

    def ban_of(self, namespace_id: int) -> Ban | None:
        """Return the ban of a BANNED or RECLAIMED namespace, else None."""
        return self._directory.ban_of(namespace_id)

    def undone_bans(self) -> list[Ban]:
        """Return the bans that wait for their reclaim: those already begun, then by the end of their grace."""
        return self._directory.undone_bans()

    def due_bans(self, now_ms: int) -> list[Ban]:
        """Return the bans whose grace is over and whose reclaim has not begun, by the end of their grace."""
        return self._directory.due_bans(now_ms)

    def begun_bans(self) -> list[Ban]:
        """Return the undone bans whose reclaim has begun, the first begun first."""
        return self._directory.begun_bans()

    def next_grace_end_ms(self, now_ms: int) -> int | None:
        """Return when the next grace ends that still runs; None when there is none."""
        return self._directory.next_grace_end_ms(now_ms)

    def bans(self) -> list[Ban]:
        """Return the whole ban manifest, by id."""
        return self._directory.bans()

    def last_report(self, namespace_id: int) -> ReclaimReport | None:
        """Return the final report of the number's newest finished reclaim, also after it was issued again."""
        newest = None
        for record_key, row in schema.rows_of(
            self._store, schema.catalog_span(Tag.REPORT, schema.id_bytes(namespace_id))
        ):
            newest = schema.decode_report(record_key, row)
        return newest

    def guard(self, record: NamespaceRecord) -> VersionIs:
        """Return the guard under which a commit into the namespace is still allowed as ``record`` says.

        Any change of the record fails it, a new label too. A caller whose guard failed looks at the record again and
        either refuses or repeats the commit with the new guard.
        """
        return dropping.guard_of(record)

    def settle(self) -> None:
        """Return once every change that was committed before this call is visible in memory."""
        with self._changes:
            pass

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no namespace change meanwhile, so that what memory says is what the store holds. For moments only."""
        with self._changes:
            yield

    def add_listener(self, listener: Listener) -> None:
        """Have ``listener(namespace_id)`` called after every change that is durable and visible in memory."""
        self._listeners.append(listener)

    # --- changing --------------------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        *,
        namespace_id: int | None = None,
        labels: Mapping[str, str] | None = None,
        first_token: ServiceTokenRecord | None = None,
        first_member: MemberRecord | None = None,
    ) -> NamespaceRecord:
        """Create a namespace with its built-in groups, in one commit.

        Args:
            name: unique among live namespaces.
            namespace_id: 1 .. NAMESPACE_ID_MAX; drawn at random when None.
            labels: for people and tools.
            first_token: record of the first guardian's token, written in the same commit.
            first_member: the first guardian, see ``members.first_guardian``; written in the same commit.

        Raises:
            InvalidArgumentError: BAD_NAME, BAD_FIELD.
            AlreadyExistsError: NAMESPACE_EXISTS, the name or the number is taken.
            FailedPreconditionError: NAMESPACE_NOT_EMPTY, the number has rows or an unreclaimed ban.
        """
        check_name(name)
        checked_labels = check_labels(labels or {})
        with self._changing():
            self._check_name_free(name)
            chosen = self._draw_id() if namespace_id is None else self._check_id(namespace_id)
            return self._create(chosen, name, checked_labels, load.first_puts(chosen, first_token, first_member))

    def update(
        self, namespace_id: int, *, name: str | None = None, labels: Mapping[str, str] | None = None
    ) -> NamespaceRecord:
        """Rename or relabel (None leaves it); rows and tokens are not touched.

        Raises:
            NotFoundError: NAMESPACE_NOT_FOUND.
            FailedPreconditionError: NAMESPACE_STATE when dropped, NAMESPACE_PROTECTED for a rename of namespace 0.
            AlreadyExistsError: NAMESPACE_EXISTS.
        """
        with self._changing():
            record = self._live(namespace_id)
            changes = replace(
                record,
                name=record.name if name is None else check_name(name),
                labels=record.labels if labels is None else check_labels(labels),
                updated_at_ms=self._clock.now_ms(),
            )
            mutations: list[Mutation] = []
            if changes.name != record.name:
                self._check_protected(namespace_id)
                self._check_name_free(changes.name)
                mutations = [Delete(schema.name_key(record.name)), load.name_put(changes)]
            return self._change(Change(record, changes, None, tuple(mutations)))

    def suspend(self, namespace_id: int, state: NamespaceState, reason: str = "") -> NamespaceRecord:
        """Make a live namespace READ_ONLY or SUSPENDED; from one of these to the other too.

        Raises:
            InvalidArgumentError: BAD_FIELD.
            NotFoundError: NAMESPACE_NOT_FOUND.
            FailedPreconditionError: NAMESPACE_STATE when dropped, NAMESPACE_PROTECTED for namespace 0.
        """
        if state not in (NamespaceState.READ_ONLY, NamespaceState.SUSPENDED):
            raise error(Reason.BAD_FIELD, "state must be READ_ONLY or SUSPENDED.", metadata={"field": "state"})
        check_reason(reason)
        return self._set_state(namespace_id, state, reason)

    def resume(self, namespace_id: int) -> NamespaceRecord:
        """Make a READ_ONLY or SUSPENDED namespace ACTIVE; an ACTIVE one stays as it is.

        Raises:
            NotFoundError: NAMESPACE_NOT_FOUND.
            FailedPreconditionError: NAMESPACE_STATE when dropped.
        """
        return self._set_state(namespace_id, NamespaceState.ACTIVE, "")

    def ban(self, namespace_id: int, *, by: str, reason: str = "", grace_ms: int = 0) -> NamespaceRecord:
        """Drop a namespace in one commit, whatever its size; its name is free at once.

        Manifest, record and name index change together. Banning a dropped namespace again changes nothing and returns
        the record as it is: the first ban's grace and reason stand.

        Args:
            namespace_id: the namespace.
            by: who demands it, for the report.
            reason: for the report.
            grace_ms: how long it can be taken back; 0 for not at all.

        Raises:
            InvalidArgumentError: BAD_FIELD.
            NotFoundError: NAMESPACE_NOT_FOUND.
            FailedPreconditionError: NAMESPACE_PROTECTED for namespace 0.
        """
        check_reason(reason)
        if not 0 <= grace_ms <= limits.BAN_GRACE_MS_MAX:
            raise error(Reason.BAD_FIELD, "grace must be 0 to 365 days.", metadata={"field": "grace"})
        with self._changing():
            record = self._known(namespace_id)
            self._check_protected(namespace_id)
            if not record.state.is_live:
                return record
            now_ms = self._clock.now_ms()
            return self._change(dropping.drop(record, now_ms=now_ms, by=by, reason=reason, grace_ms=grace_ms))

    def unban(self, namespace_id: int) -> NamespaceRecord:
        """Take a ban back: the namespace is again what it was, and its tokens work again.

        Raises:
            NotFoundError: NAMESPACE_NOT_FOUND.
            FailedPreconditionError: RECLAIM_STARTED after the grace; NAMESPACE_STATE when it is not banned or its name
                has been taken since.
        """
        with self._changing():
            record = self._known(namespace_id)
            change = dropping.take_back(record, self._directory.ban_of(namespace_id), self._clock.now_ms())
            if self._is_name_taken(record.name):
                raise state_error(record, "Its name is in use by another namespace; rename that one first.")
            return self._change(change)

    def mark_reclaims_started(self, sizes: Mapping[int, SpanSize]) -> dict[int, Ban | PrefixdbError]:
        """Say durably that reclaiming begins: from now on there is no way back. Harmless when said again.

        Args:
            sizes: BANNED namespaces whose grace is over, with their approximate sizes now, for the reports. All are
                committed in one synced batch, each by itself.

        Returns:
            For each the ban as it is now, or why not: NAMESPACE_NOT_FOUND; NAMESPACE_STATE when it is not banned or
            its grace still runs.

        Raises:
            PrefixdbError: as ``Store.commit_many``, for all of them.
        """
        with self._changing():
            now_ms = self._clock.now_ms()
            written = self._change_many(
                sizes, lambda record, ban: dropping.begin(record, ban, now_ms, sizes[record.id])
            )
            return {
                namespace_id: outcome if isinstance(outcome, PrefixdbError) else self._ban(namespace_id)
                for namespace_id, outcome in written.items()
            }

    def mark_reclaimed(self, reports: Iterable[ReclaimReport]) -> dict[int, NamespaceRecord | PrefixdbError]:
        """Write final reports; the namespaces are RECLAIMED and their revocations forgotten, each in one commit.

        Args:
            reports: of phase DONE, of the current bans, with proofs that found nothing; one of a namespace. All are
                committed in one synced batch.

        Returns:
            For each namespace its record as it is now, or why not: NAMESPACE_NOT_FOUND; NAMESPACE_STATE when that ban
            is not being reclaimed.

        Raises:
            ValueError: a report is not final; nothing was done.
            PrefixdbError: as ``Store.commit_many``, for all of them.
        """
        by_id = {report.namespace_id: report for report in reports}
        with self._changing():
            return self._change_many(
                by_id,
                lambda record, ban: dropping.finish(record, ban, by_id[record.id], self._revocations_of(record.id)),
            )

    # --- private ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Serialise a change. What it made visible is announced once the lock is free, also when it then failed."""
        announced: list[int] = []
        try:
            with self._changes:
                try:
                    yield
                finally:
                    announced, self._changed = self._changed, []
        finally:
            for namespace_id in announced:
                self._announce(namespace_id)

    def _announce(self, namespace_id: int) -> None:
        for listener in self._listeners:
            try:
                listener(namespace_id)
            except Exception:  # noqa: BLE001  # the change is done; one broken listener must not hide it from others
                _log.exception("a listener failed on a change of namespace %d", namespace_id)

    def _show(self, record: NamespaceRecord, ban: Ban | None) -> None:
        """Make a durable change visible in memory and have it announced."""
        self._directory.apply(record, ban)
        self._changed.append(record.id)

    def _commit(self, namespace_id: int, commit: Commit) -> int:
        """Commit and return the version; after an unknown outcome believe what the store holds."""
        try:
            result = self._store.commit(commit)
        except OutcomeUnknownError:
            self._reload(namespace_id)
            raise
        if not result.applied:
            raise _differs()
        return result.version

    def _change(self, change: Change) -> NamespaceRecord:
        """Commit a change, then show it in memory."""
        version = self._commit(change.new.id, change.commit())
        return self._show_change(change, version)

    def _change_many(
        self, namespace_ids: Iterable[int], plan: Callable[[NamespaceRecord, Ban | None], Change | None]
    ) -> dict[int, NamespaceRecord | PrefixdbError]:
        """Commit a change of each namespace in one batch, then show them in memory; one that fails fails alone."""
        outcomes: dict[int, NamespaceRecord | PrefixdbError] = {}
        changes: list[Change] = []
        for namespace_id in namespace_ids:
            try:
                record = self._known(namespace_id)
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

    def _show_change(self, change: Change, version: int) -> NamespaceRecord:
        written = replace(change.new, row_version=version)
        self._show(written, change.ban)
        return written

    def _create(self, namespace_id: int, name: str, labels: dict[str, str], content: list[Put]) -> NamespaceRecord:
        now_ms = self._clock.now_ms()
        old = self.get(namespace_id)
        key = schema.namespace_key(namespace_id)
        guards: tuple[Condition, ...] = (Absent(key),) if old is None else (self.guard(old),)
        record = NamespaceRecord(namespace_id, name, NamespaceState.ACTIVE, 0, labels, now_ms, now_ms, "", 0)
        writes: list[Mutation] = [
            Put(key, schema.encode_namespace(record, creating=True)),
            load.name_put(record),
            Delete(schema.ban_key(namespace_id)),
            *content,
        ]
        version = self._commit(namespace_id, Commit(tuple(writes), dropping.name_conditions(writes), guards))
        created = replace(record, incarnation=version, row_version=version)
        self._show(created, None)
        return created

    def _set_state(self, namespace_id: int, state: NamespaceState, reason: str) -> NamespaceRecord:
        with self._changing():
            record = self._live(namespace_id)
            if record.state is state and record.state_reason == reason:
                return record
            self._check_protected(namespace_id)
            new = replace(record, state=state, state_reason=reason, updated_at_ms=self._clock.now_ms())
            return self._change(Change(record, new))

    def _ban(self, namespace_id: int) -> Ban:
        ban = self._directory.ban_of(namespace_id)
        if ban is None:
            raise error(Reason.INTERNAL, "A banned namespace without a ban.")
        return ban

    def _known(self, namespace_id: int) -> NamespaceRecord:
        record = self.get(namespace_id)
        if record is None:
            raise error(Reason.NAMESPACE_NOT_FOUND)
        return record

    def _live(self, namespace_id: int) -> NamespaceRecord:
        record = self._known(namespace_id)
        if not record.state.is_live:
            raise state_error(record, "The namespace was dropped.")
        return record

    def _check_protected(self, namespace_id: int) -> None:
        if namespace_id == DEFAULT_NAMESPACE_ID:
            raise error(Reason.NAMESPACE_PROTECTED)

    def _is_name_taken(self, name: str) -> bool:
        found = self._directory.find(name)
        return found is not None and found.state.is_live

    def _check_name_free(self, name: str) -> None:
        if self._is_name_taken(name):
            raise error(Reason.NAMESPACE_EXISTS, "A namespace of this name exists.")

    def _check_id(self, namespace_id: int) -> int:
        """Return a chosen id when it may be issued now."""
        if not 1 <= namespace_id <= limits.NAMESPACE_ID_MAX:
            raise error(Reason.BAD_FIELD, "id must be between 1 and 2^64-2.", metadata={"field": "id"})
        record = self.get(namespace_id)
        if record is not None and record.state.is_live:
            raise error(Reason.NAMESPACE_EXISTS, "A namespace of this number exists.")
        if record is not None and record.state is not NamespaceState.RECLAIMED:
            raise error(Reason.NAMESPACE_NOT_EMPTY)
        if not load.is_span_empty(self._store, namespace_id):
            raise error(Reason.NAMESPACE_NOT_EMPTY)
        return namespace_id

    def _draw_id(self) -> int:
        """Return a random id that was never issued. A second draw is already as likely as a lightning stroke."""
        for _ in range(_ID_DRAWS_MAX):
            drawn = secrets.randbits(64)
            if (
                1 <= drawn <= limits.NAMESPACE_ID_MAX
                and self.get(drawn) is None
                and load.is_span_empty(self._store, drawn)
            ):
                return drawn
        raise error(Reason.INTERNAL, "No free namespace id was found.")

    def _revocations_of(self, namespace_id: int) -> list[Mutation]:
        """Return the deletes of the namespace's watermarks and revoked tokens: its incarnation outdates them all."""
        prefix = schema.id_bytes(namespace_id)
        deletes: list[Mutation] = []
        for tag in (Tag.WATERMARK, Tag.REVOKED_TOKEN):
            rows = schema.rows_of(self._store, schema.catalog_span(tag, prefix), keys_only=True)
            deletes += [Delete(row.key) for _, row in rows]
        return deletes

    def _reload(self, namespace_id: int) -> None:
        """Replace what memory holds of one namespace by what the store holds."""
        row = self._store.get(schema.namespace_key(namespace_id))
        if row is None:
            return  # A creation that did not happen.
        ban_row = self._store.get(schema.ban_key(namespace_id))
        ban = schema.decode_ban(namespace_id, ban_row) if ban_row is not None else None
        self._show(schema.decode_namespace(namespace_id, row), ban)


def _differs() -> PrefixdbError:
    """Return what is wrong when a guard of a row fails that only the registry writes, under its lock."""
    return error(Reason.INTERNAL, "The catalog in memory differs from the store.")
