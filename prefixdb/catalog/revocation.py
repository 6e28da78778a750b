"""Which tokens are dead before their time.

A revocation of a subject, a namespace or everyone is a watermark: what was issued before it is dead, what is issued
after it lives. ``iat`` cannot tell before from after inside one second, and clocks can be set back, so the mark is not
a time. It is the version of the commit that wrote it, which only ever grows, across restarts too. Every token carries
in ``rev`` the newest mark there was when it was issued, and is dead exactly when one of its three marks is newer:

    dead  :=  rev < max(mark of everyone, mark of its namespace, mark of its subject)

A token issued in the same millisecond after a revocation has the mark itself in ``rev`` and lives. When marks leave
(they outlive no token: a year and a day, or their namespace's reclaim), ``rev`` of new tokens may become smaller than
that of older ones, but any mark set later is larger than both, so nothing changes its side.

A single token is revoked by its jti, kept until the token would have expired anyway. All of it is in memory, loaded
with one scan, so that asking costs three dict look-ups. Memory is bounded: as many subjects and tokens per namespace as
``SERVICE_TOKENS_PER_NAMESPACE_MAX`` says, and revoking the whole namespace clears both.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from dataclasses import replace

from prefixdb import limits
from prefixdb.catalog import schema
from prefixdb.catalog.entities import NamespaceRecord, NamespaceState
from prefixdb.catalog.load import service_token_put
from prefixdb.catalog.names import check_subject
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.schema import Tag
from prefixdb.clock import Clock
from prefixdb.errors import OutcomeUnknownError, Reason, error
from prefixdb.records import encode_record
from prefixdb.store.base import Commit, Delete, Mutation, Put, Store

Listener = Callable[[int | None], None]

_GUARD_TRIES_MAX = 20
_WATERMARK_MS = (limits.SERVICE_TOKEN_S_MAX + 2 * limits.TOKEN_LEEWAY_S) * 1000


class Revocations:
    """Watermarks and revoked tokens. Asking is lock-free; revoking blocks on a commit under ``changes``."""

    def __init__(self, store: Store, clock: Clock, registry: Registry) -> None:
        self.changes = threading.RLock()
        """Held while revoking, and by the authority while issuing: a token is issued before a revocation or after."""
        self._store = store
        self._clock = clock
        self._registry = registry
        self._listeners: list[Listener] = []
        self._count = 0
        self._load()
        registry.add_listener(self._on_namespace)

    @property
    def revision(self) -> int:
        """The newest watermark: what a token issued now carries as ``rev``."""
        return self._revision

    @property
    def count(self) -> int:
        """A number that grows with every revocation, within this process."""
        return self._count

    def add_listener(self, listener: Listener) -> None:
        """Have ``listener(namespace_id)`` called after every revocation in force; None means all namespaces."""
        self._listeners.append(listener)

    def is_revoked(self, namespace_id: int, subject: str, jti: str, revision: int) -> bool:
        """Return whether a token with these claims is dead."""
        return (
            revision < self._everyone
            or revision < self._namespaces.get(namespace_id, 0)
            or revision < self._subjects.get((namespace_id, subject), 0)
            or (namespace_id, jti) in self._tokens
        )

    def revoke_jti(self, namespace_id: int, jti: str) -> None:
        """Revoke one service token; harmless when it is revoked already.

        Raises:
            NotFoundError: TOKEN_NOT_FOUND.
            FailedPreconditionError: NAMESPACE_STATE, the namespace was dropped.
        """
        with self.changes:
            key = schema.service_token_key(namespace_id, jti)
            row = self._store.get(key)
            if row is None:
                raise error(Reason.TOKEN_NOT_FOUND)
            record = schema.decode_service_token(jti, row)
            if record.revoked:
                return
            expires_at_ms = (record.expires_at_s + limits.TOKEN_LEEWAY_S) * 1000
            tombstone = encode_record({"expires_at_s": record.expires_at_s})
            writes: tuple[Mutation, ...] = (
                service_token_put(namespace_id, replace(record, revoked=True)),
                Put(schema.revoked_token_key(namespace_id, jti), tombstone, expires_at_ms),
            )
            self._commit(namespace_id, writes, live=True)
            self._prune()
            self._add_token(namespace_id, jti, record.expires_at_s)
            self._count += 1
        self._announce(namespace_id)

    def revoke_subject(self, namespace_id: int, subject: str) -> None:
        """Revoke every token of the subject issued until now.

        Raises:
            InvalidArgumentError: BAD_FIELD (subject).
            ResourceExhaustedError: QUOTA_EXCEEDED, the namespace has marks for too many subjects.
        """
        check_subject(subject)
        with self.changes:
            if (namespace_id, subject) not in self._subjects:
                self._check_subject_room(namespace_id)
            put = self._watermark_put(namespace_id, subject)
            self._subjects[namespace_id, subject] = self._marked(self._commit(namespace_id, (put,)))
        self._announce(namespace_id)

    def revoke_namespace(self, namespace_id: int) -> None:
        """Revoke every token of the namespace issued until now; its finer revocations are contained in that."""
        with self.changes:
            finer: list[Mutation] = []
            for tag in (Tag.WATERMARK, Tag.REVOKED_TOKEN):
                span = schema.catalog_span(tag, schema.id_bytes(namespace_id))
                finer += [Delete(row.key) for _, row in schema.rows_of(self._store, span, keys_only=True)]
            put = self._watermark_put(namespace_id, None)
            version = self._commit(namespace_id, (*finer, put))
            # The wide mark must be in force before the finer ones go, or a reader in between would see neither.
            self._namespaces[namespace_id] = self._marked(version)
            self._drop_finer(namespace_id)
        self._announce(namespace_id)

    def revoke_everyone(self) -> None:
        """Revoke every token of every namespace issued until now."""
        with self.changes:
            self._everyone = self._marked(self._commit(0, (self._watermark_put(None, None),)))
        self._announce(None)

    # --- private ---------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Read everything from the store, into new structures, then show them together."""
        everyone, revision = 0, 0
        namespaces: dict[int, int] = {}
        subjects: dict[tuple[int, str], int] = {}
        tokens: dict[tuple[int, str], int] = {}
        for record_key, row in schema.rows_of(self._store, schema.catalog_span(Tag.WATERMARK)):
            revision = max(revision, row.version)
            if not record_key:
                everyone = row.version
                continue
            namespace_id, subject = schema.split_id(record_key)
            if subject:
                subjects[namespace_id, subject.decode()] = row.version
            else:
                namespaces[namespace_id] = row.version
        for record_key, row in schema.rows_of(self._store, schema.catalog_span(Tag.REVOKED_TOKEN)):
            namespace_id, jti = schema.split_id(record_key)
            tokens[namespace_id, jti.decode()] = schema.Fields(row.payload).integer("expires_at_s")
        self._everyone, self._revision = everyone, revision
        self._namespaces, self._subjects, self._tokens = namespaces, subjects, tokens
        self._expiries = [(expires_at_s, key) for key, expires_at_s in tokens.items()]
        heapq.heapify(self._expiries)

    def _marked(self, version: int) -> int:
        self._revision = max(self._revision, version)
        self._count += 1
        return version

    def _watermark_put(self, namespace_id: int | None, subject: str | None) -> Put:
        now_ms = self._clock.now_ms()
        return Put(
            schema.watermark_key(namespace_id, subject), encode_record({"at_ms": now_ms}), now_ms + _WATERMARK_MS
        )

    def _commit(self, namespace_id: int, writes: tuple[Mutation, ...], *, live: bool = False) -> int:
        """Commit while the namespace is what it must be; return the version.

        The guard keeps the commit out of a namespace that is dropped in this moment. It also fails when the record
        changed in a harmless way, so it is tried again.
        """
        for _ in range(_GUARD_TRIES_MAX):
            record = _revocable(self._registry.get(namespace_id), live=live)
            try:
                result = self._store.commit(Commit(writes, guards=(self._registry.guard(record),)))
            except OutcomeUnknownError:
                self._load()
                self._count += 1
                raise
            if result.applied:
                return result.version
        raise error(Reason.INTERNAL, "The namespace's record kept changing.")

    def _check_subject_room(self, namespace_id: int) -> None:
        marks = sum(1 for marked_id, _ in self._subjects if marked_id == namespace_id)
        limit = limits.SERVICE_TOKENS_PER_NAMESPACE_MAX
        if marks >= limit:
            raise error(
                Reason.QUOTA_EXCEEDED,
                f"Tokens of {limit} subjects were revoked already; revoke those of the whole namespace instead.",
                metadata={"used": str(marks), "limit": str(limit)},
            )

    def _add_token(self, namespace_id: int, jti: str, expires_at_s: int) -> None:
        self._tokens[namespace_id, jti] = expires_at_s
        heapq.heappush(self._expiries, (expires_at_s, (namespace_id, jti)))

    def _prune(self) -> None:
        """Drop revoked tokens that have expired by now; an expired token is refused without them."""
        dead_s = self._clock.now_ms() // 1000 - limits.TOKEN_LEEWAY_S - 1
        while self._expiries and self._expiries[0][0] < dead_s:
            _, key = heapq.heappop(self._expiries)
            self._tokens.pop(key, None)

    def _drop_finer(self, namespace_id: int) -> None:
        """Forget subjects and tokens of one namespace. New dicts, for readers take no lock."""
        self._subjects = {key: mark for key, mark in self._subjects.items() if key[0] != namespace_id}
        self._tokens = {key: expiry for key, expiry in self._tokens.items() if key[0] != namespace_id}
        self._expiries = [entry for entry in self._expiries if entry[1][0] != namespace_id]
        heapq.heapify(self._expiries)

    def _on_namespace(self, namespace_id: int) -> None:
        """A reclaimed namespace takes its revocations with it; the registry has deleted the rows in that commit."""
        record = self._registry.get(namespace_id)
        if record is None or record.state is not NamespaceState.RECLAIMED:
            return
        with self.changes:
            if self._namespaces.pop(namespace_id, None) is not None or self._has_finer(namespace_id):
                self._drop_finer(namespace_id)

    def _has_finer(self, namespace_id: int) -> bool:
        return any(key[0] == namespace_id for key in self._subjects) or any(
            key[0] == namespace_id for key in self._tokens
        )

    def _announce(self, namespace_id: int | None) -> None:
        for listener in self._listeners:
            listener(namespace_id)


def _revocable(record: NamespaceRecord | None, *, live: bool) -> NamespaceRecord:
    """Return a record whose namespace's tokens can be revoked: dropped ones only where no row of theirs is written."""
    if record is None:
        raise error(Reason.NAMESPACE_NOT_FOUND)
    if record.state is NamespaceState.RECLAIMED or (live and not record.state.is_live):
        raise error(Reason.NAMESPACE_STATE, "The namespace was dropped.", metadata={"state": record.state.name})
    return record
