"""Namespaces in the making: restored or cloned row by row, and seen by nobody before all of it is there.

    reserve ──► stage ──► rows, members, groups, under ``Registry.guard`` ──► finish ──► ACTIVE, its name in the index
       │          │                                                            │ one commit
       └─release  └──────────────── abandon, a ban, a crash ──► a due ban like any other ──► RECLAIMED

A staged namespace is one that was banned before it ever lived: state BANNED, with a ban that says ``staged``. So
everything that refuses a banned namespace refuses it, in this version and in older ones, without knowing of it; what is
left over from a crash is reclaimed, and its number proven empty, because it is a due ban. Three things are different:

- While it is *reserved* its ban is not due, so its rows are not taken away while they are put there. The reservation is
  memory only, which is why a crash ends it. Its name and number are promised to it until it is finished or given up.
- It never comes back by an unban, for it never was whole.
- Its name does not find it, for it never had that name: whoever unbans "acme" means the one that lived.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from prefixdb.catalog import load, schema
from prefixdb.catalog.changing import Changing
from prefixdb.catalog.directory import Directory, Reservation
from prefixdb.catalog.dropping import Change, guard_of, state_error
from prefixdb.catalog.entities import Ban, NamespaceRecord, NamespaceState
from prefixdb.catalog.free import Free
from prefixdb.catalog.names import check_labels, check_name
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.store.base import Absent, Commit, Condition, Delete, Mutation, Put


class Staging:
    """The life of namespaces before they live; a part of ``Registry``. Thread-safe; changes block on a commit."""

    def __init__(self, clock: Clock, changes: Changing, directory: Directory, free: Free) -> None:
        self._clock = clock
        self._changes = changes
        self._directory = directory
        self._free = free

    def is_building(self, namespace_id: int) -> bool:
        """Return whether the number is promised to a namespace in the making. Thread-safe, never waits."""
        return self._directory.is_reserved(namespace_id)

    def is_whole(self, record: NamespaceRecord, ban: Ban | None) -> bool:
        """Return whether a namespace is staged and nobody has given it up: its row is as ``stage`` wrote it."""
        staged = ban is not None and ban.staged
        return staged and record.row_version == record.incarnation and self.is_building(record.id)

    def reserve(self, name: str, namespace_id: int | None = None) -> Reservation:
        """Promise a name and a number; nothing is written. Whoever asked ends it with ``finish`` or ``abandon``.

        Args:
            name: unique among live namespaces and those in the making.
            namespace_id: 1 .. NAMESPACE_ID_MAX; drawn at random when None.

        Raises:
            InvalidArgumentError: BAD_NAME, BAD_FIELD (id).
            AlreadyExistsError: NAMESPACE_EXISTS.
            FailedPreconditionError: NAMESPACE_NOT_EMPTY.
        """
        check_name(name)
        with self._changes.one():
            self._free.check_name(name)
            chosen = self._free.draw_id() if namespace_id is None else self._free.check_id(namespace_id)
            reservation = Reservation(chosen, name)
            self._directory.reserve(reservation)
            return reservation

    def stage(
        self, reservation: Reservation, *, by: str, reason: str, labels: Mapping[str, str] | None = None
    ) -> NamespaceRecord:
        """Make the namespace that was reserved, with its built-in groups, staged: from here on it can be filled.

        Args:
            reservation: from ``reserve``.
            by: who makes it, for the report should it come to nothing.
            reason: what it is, for people who list what was dropped; replaced when it lives.
            labels: for people and tools.

        Raises:
            InvalidArgumentError: BAD_FIELD (labels).
            PrefixdbError: as ``Store.commit_many``; the reservation stands.
        """
        checked = check_labels(labels or {})
        namespace_id, name = reservation.namespace_id, reservation.name
        with self._changes.one():
            if not self._directory.holds(reservation):
                raise ValueError("the reservation has ended")
            now_ms = self._clock.now_ms()
            old = self._directory.get(namespace_id)
            record = NamespaceRecord(
                namespace_id, name, NamespaceState.BANNED, 0, checked, now_ms, now_ms, reason, row_version=0
            )
            ban = Ban(namespace_id, 0, name, now_ms, by, reason, now_ms, staged=True)
            key = schema.namespace_key(namespace_id)
            guards: tuple[Condition, ...] = (Absent(key),) if old is None else (guard_of(old),)
            writes: list[Mutation] = [
                Put(key, schema.encode_namespace(record, creating=True)),
                Put(schema.ban_key(namespace_id), schema.encode_ban(ban, creating=True)),
                *load.group_puts(namespace_id),
            ]
            version = self._changes.commit(namespace_id, Commit(tuple(writes), guards=guards))
            staged = replace(record, incarnation=version, row_version=version)
            self._changes.show(staged, replace(ban, incarnation=version))
            return staged

    def finish(
        self, reservation: Reservation, record: NamespaceRecord, *, source: NamespaceRecord | None = None
    ) -> NamespaceRecord:
        """Let a filled namespace live, in one commit; its reservation ends.

        Args:
            reservation: from ``reserve``.
            record: from ``stage``.
            source: the namespace its rows are from, when it is one of this store: it must not have been dropped.

        Raises:
            FailedPreconditionError: NAMESPACE_STATE, it or the source was banned meanwhile.
            AlreadyExistsError: NAMESPACE_EXISTS, an unban has given the name to somebody.
            PrefixdbError: as ``Store.commit_many``; the reservation stands, unless the namespace lives after all.
        """
        with self._changes.one():
            now = self._changes.known(record.id)
            if now != record or not self.is_whole(now, self._directory.ban_of(record.id)):
                raise given_up(now)
            if source is not None:
                check_source(self._directory.get(source.id), source)
            if self._free.is_name_taken(record.name):
                raise error(Reason.NAMESPACE_EXISTS, "A namespace of this name exists by now.")
            living = replace(record, state=NamespaceState.ACTIVE, state_reason="", updated_at_ms=self._clock.now_ms())
            mutations = (Delete(schema.ban_key(record.id)), load.name_put(living))
            try:
                return self._changes.make(Change(record, living, None, mutations))
            finally:
                shown = self._directory.get(record.id)
                if shown is not None and shown.state.is_live:
                    self._directory.release(reservation)

    def abandon(self, reservation: Reservation, reason: str) -> None:
        """Give up a reservation: what was staged under it becomes a ban that is due. Harmless when it has ended.

        When this is called nobody may work on the namespace any more. Whatever is raised, the reservation has ended,
        and what was staged is due.

        Args:
            reservation: from ``reserve``.
            reason: why, for the report.
        """
        namespace_id = reservation.namespace_id
        with self._changes.one():
            if not self._directory.holds(reservation):
                return
            try:
                record, ban = self._directory.get(namespace_id), self._directory.ban_of(namespace_id)
                if record is not None and ban is not None and self.is_whole(record, ban):
                    self._changes.make(self.dropped(record, ban, by=ban.by, reason=reason))
            finally:
                self._directory.release(reservation)
                self._changes.tell(namespace_id)

    def dropped(self, record: NamespaceRecord, ban: Ban, *, by: str, reason: str) -> Change:
        """Return the change that turns a staged ban into one that is due. Whoever still writes meets another row."""
        now_ms = self._clock.now_ms()
        due = replace(ban, banned_at_ms=now_ms, reclaim_after_ms=now_ms, by=by, reason=reason)
        return Change(record, replace(record, state_reason=reason, updated_at_ms=now_ms), due)


def given_up(record: NamespaceRecord) -> PrefixdbError:
    """Return what whoever builds a namespace is told when somebody has banned it."""
    return state_error(record, "The new namespace was banned before it was finished.")


def check_source(found: NamespaceRecord | None, source: NamespaceRecord) -> None:
    """Return when ``found`` is the same issue as ``source`` and lives.

    Raises:
        FailedPreconditionError: NAMESPACE_STATE.
    """
    if found is None or found.incarnation != source.incarnation or not found.state.is_live:
        raise state_error(found or source, "The namespace that is copied was banned.")
