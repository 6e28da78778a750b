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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from msgspec.structs import replace

from prefixdb import limits
from prefixdb.catalog import dropping, load, schema
from prefixdb.catalog.changing import Changing, Listener
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
from prefixdb.catalog.free import Free
from prefixdb.catalog.names import check_labels, check_name, check_reason
from prefixdb.catalog.schema import Tag
from prefixdb.catalog.staging import Staging
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.store.base import Absent, Commit, Condition, Delete, Mutation, Put, SpanSize, Store, VersionIs

__all__ = ["NamespaceRecord", "NamespaceState", "Registry"]

_log = logging.getLogger(__name__)
_ID_DRAWS_MAX = 100


class Registry:
    """All namespaces and bans. See the module's docstring for its promises."""

    def __init__(self, store: Store, clock: Clock) -> None:
        """Load everything; create namespace 0 in an empty store.

        ``staging`` is the way of namespaces that are restored or cloned.

        Raises:
            FailedPreconditionError: FORMAT_TOO_NEW, a newer prefixdb wrote the catalog.
            DataLossError: CORRUPTION, records are damaged or contradict each other.
        """
        self._store = store
        self._clock = clock
        load.open_catalog(store, clock)
        self._directory = load.load_directory(store)
        self._changes = Changing(store, self._directory)
        self._free = Free(store, self._directory)
        self.staging = Staging(clock, self._changes, self._directory, self._free)

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
        self._changes.settle()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no namespace change meanwhile, so that what memory says is what the store holds. For moments only."""
        with self._changes.one():
            yield

    def add_listener(self, listener: Listener) -> None:
        """Have ``listener(namespace_id)`` called after every change that is durable and visible in memory."""
        self._changes.add_listener(listener)

    def add_exact_listener(self, listener: Listener) -> None:
        """As ``add_listener``, but called before anybody can make another change, or be told that this one was made.

        It returns when nothing is served any more that was looked at before. It may not change a namespace, or wait for
        who could, and it must not raise.
        """
        self._changes.add_exact_listener(listener)

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
        with self._changes.one():
            self._free.check_name(name)
            chosen = self._free.draw_id() if namespace_id is None else self._free.check_id(namespace_id)
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
        with self._changes.one():
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
                self._free.check_name(changes.name)
                mutations = [Delete(schema.name_key(record.name)), load.name_put(changes)]
            return self._changes.make(Change(record, changes, None, tuple(mutations)))

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
        the record as it is: the first ban's grace and reason stand. One that is in the making comes to nothing.

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
        with self._changes.one():
            record = self._changes.known(namespace_id)
            self._check_protected(namespace_id)
            if not record.state.is_live:
                return self._ban_again(record, by=by, reason=reason)
            now_ms = self._clock.now_ms()
            return self._changes.make(dropping.drop(record, now_ms=now_ms, by=by, reason=reason, grace_ms=grace_ms))

    def unban(self, namespace_id: int) -> NamespaceRecord:
        """Take a ban back: the namespace is again what it was, and its tokens work again.

        Raises:
            NotFoundError: NAMESPACE_NOT_FOUND.
            FailedPreconditionError: RECLAIM_STARTED after the grace; NAMESPACE_STATE when it is not banned or its name
                has been taken since.
        """
        with self._changes.one():
            record = self._changes.known(namespace_id)
            change = dropping.take_back(record, self._directory.ban_of(namespace_id), self._clock.now_ms())
            if self._free.is_name_taken(record.name):
                raise state_error(record, "Its name is in use by another namespace; rename that one first.")
            return self._changes.make(change)

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
        with self._changes.one():
            written = self._changes.make_many(sizes, lambda record, ban: self._begin(record, ban, sizes[record.id]))
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
        with self._changes.one():
            return self._changes.make_many(
                by_id,
                lambda record, ban: dropping.finish(record, ban, by_id[record.id], self._revocations_of(record.id)),
            )

    # --- private ---------------------------------------------------------------------------------------------------

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
        version = self._changes.commit(namespace_id, Commit(tuple(writes), dropping.name_conditions(writes), guards))
        created = replace(record, incarnation=version, row_version=version)
        self._changes.show(created, None)
        return created

    def _ban_again(self, record: NamespaceRecord, *, by: str, reason: str) -> NamespaceRecord:
        """Ban what was dropped already: only for a namespace in the making that changes anything."""
        ban = self._directory.ban_of(record.id)
        if ban is None or not self.staging.is_whole(record, ban):
            return record
        return self._changes.make(self.staging.dropped(record, ban, by=by, reason=reason))

    def _begin(self, record: NamespaceRecord, ban: Ban | None, size: SpanSize) -> Change | None:
        if self.staging.is_building(record.id):
            raise state_error(record, "The namespace is in the making.")
        return dropping.begin(record, ban, self._clock.now_ms(), size)

    def _set_state(self, namespace_id: int, state: NamespaceState, reason: str) -> NamespaceRecord:
        with self._changes.one():
            record = self._live(namespace_id)
            if record.state is state and record.state_reason == reason:
                return record
            self._check_protected(namespace_id)
            new = replace(record, state=state, state_reason=reason, updated_at_ms=self._clock.now_ms())
            return self._changes.make(Change(record, new))

    def _ban(self, namespace_id: int) -> Ban:
        ban = self._directory.ban_of(namespace_id)
        if ban is None:
            raise error(Reason.INTERNAL, "A banned namespace without a ban.")
        return ban

    def _live(self, namespace_id: int) -> NamespaceRecord:
        record = self._changes.known(namespace_id)
        if not record.state.is_live:
            raise state_error(record, "The namespace was dropped.")
        return record

    def _check_protected(self, namespace_id: int) -> None:
        if namespace_id == DEFAULT_NAMESPACE_ID:
            raise error(Reason.NAMESPACE_PROTECTED)

    def _revocations_of(self, namespace_id: int) -> list[Mutation]:
        """Return the deletes of the namespace's watermarks and revoked tokens: its incarnation outdates them all."""
        prefix = schema.id_bytes(namespace_id)
        deletes: list[Mutation] = []
        for tag in (Tag.WATERMARK, Tag.REVOKED_TOKEN):
            rows = schema.rows_of(self._store, schema.catalog_span(tag, prefix), keys_only=True)
            deletes += [Delete(row.key) for _, row in rows]
        return deletes
