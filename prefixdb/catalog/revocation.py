"""Which tokens are dead before their time.

A revocation of a subject, a namespace or everyone is a watermark: what was issued before it is dead, what is issued
after it lives. ``iat`` cannot tell before from after inside one second, and clocks can be set back, so the mark is not
a time. It is the version of the commit that wrote it, which only ever grows, across restarts too. Every token carries
in ``rev`` the newest mark there was when it was issued, and is dead exactly when a mark that concerns it is newer:

    concerns  :=  everyone; its namespace; its subject's home, and the subject there; if a cluster guardian minted it,
                  namespace 0, and that guardian there
    dead      :=  rev < newest of the marks that concern it

A subject's mark stands where the subject belongs: that of a member of namespace 0 is the same one in whatever namespace
the member is a guest. Because the mark of a whole namespace replaces those of its subjects, it concerns their tokens
elsewhere too. What a cluster guardian minted dies with the guardian's own tokens.

A token issued in the same millisecond after a revocation has the mark itself in ``rev`` and lives. When marks leave
(they outlive no token: a year and a day, or their namespace's reclaim), ``rev`` of new tokens may become smaller than
that of older ones, but any mark set later is larger than both, so nothing changes its side.

Two things do not know ``rev``, and are compared by the time of the mark: a token of another issuer, dead when its
``iat`` is not after the mark; and a login, which is dead when it began before the mark: what it gives afterwards would
carry a newer ``rev`` otherwise, and a refresh that was under way would outlive the revocation.

A single token is revoked by its jti, kept until the token would have expired anyway. All of it is in memory, loaded
with one scan, so that asking costs a few dict look-ups. Memory is bounded: as many subjects and tokens per namespace as
``SERVICE_TOKENS_PER_NAMESPACE_MAX`` says, and revoking the whole namespace clears both.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from prefixdb import limits
from prefixdb.catalog import schema
from prefixdb.catalog.claims import Claims
from prefixdb.catalog.entities import DEFAULT_NAMESPACE_ID, NamespaceState
from prefixdb.catalog.epochs import Epochs
from prefixdb.catalog.guarded import commit_guarded
from prefixdb.catalog.load import service_token_put
from prefixdb.catalog.names import check_subject
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.schema import Tag
from prefixdb.clock import Clock
from prefixdb.errors import OutcomeUnknownError, Reason, error
from prefixdb.records import encode_record
from prefixdb.store.base import Delete, Mutation, Put, Store

_WATERMARK_MS = (limits.SERVICE_TOKEN_S_MAX + 2 * limits.TOKEN_LEEWAY_S) * 1000


class Mark(NamedTuple):
    """One revocation. Marks are compared by version; versions and times grow together.

    version: of the commit that wrote it. at_ms: when.
    """

    version: int
    at_ms: int


NEVER = Mark(0, -1)
"""The mark of what was never revoked; older than any token."""


class Revocations:
    """Watermarks and revoked tokens. Asking is lock-free; revoking blocks on a commit under ``changes``."""

    def __init__(self, store: Store, clock: Clock, registry: Registry, epochs: Epochs) -> None:
        self.changes = threading.RLock()
        """Held while revoking, and by the authority while issuing: a token is issued before a revocation or after."""
        self._store = store
        self._clock = clock
        self._registry = registry
        self._epochs = epochs
        self._load()
        registry.add_listener(self._on_namespace)

    @property
    def revision(self) -> int:
        """The newest watermark: what a token issued now carries as ``rev``."""
        return self._revision

    def newest_mark(self, namespace_id: int, subject: str, *, home_id: int, minted_by: str = "") -> Mark:
        """Return the newest mark that concerns tokens of the subject for the namespace."""
        # Finer marks first: when a wider one takes their place it is set before they go.
        concerned = [self._subjects.get((home_id, subject), NEVER)]
        if minted_by:
            concerned.append(self._subjects.get((DEFAULT_NAMESPACE_ID, minted_by), NEVER))
            concerned.append(self._namespaces.get(DEFAULT_NAMESPACE_ID, NEVER))
        concerned.append(self._namespaces.get(home_id, NEVER))
        concerned.append(self._namespaces.get(namespace_id, NEVER))
        concerned.append(self._everyone)
        return max(concerned)

    def is_revoked(self, claims: Claims) -> bool:
        """Return whether a token with these claims is dead."""
        if self.is_token_revoked(claims.namespace_id, claims.jti):
            return True
        mark = self.newest_mark(claims.namespace_id, claims.subject, home_id=claims.home_id, minted_by=claims.minted_by)
        if claims.revision is None:
            return claims.issued_at_s * 1000 <= mark.at_ms
        return claims.revision < mark.version

    def is_token_revoked(self, namespace_id: int, jti: str) -> bool:
        """Return whether this one token was revoked by its id."""
        return (namespace_id, jti) in self._tokens

    def revoke_jti(self, namespace_id: int, jti: str) -> None:
        """Revoke one service token; harmless when it is revoked already.

        Raises:
            NotFoundError: TOKEN_NOT_FOUND.
            FailedPreconditionError: NAMESPACE_STATE, the namespace was dropped.
        """
        with self._revoking(namespace_id):
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

    def revoke_subject(self, namespace_id: int, subject: str) -> None:
        """Revoke every token issued until now of the subject that belongs to the namespace, wherever it is for.

        Raises:
            InvalidArgumentError: BAD_FIELD (subject).
            ResourceExhaustedError: QUOTA_EXCEEDED, the namespace has marks for too many subjects.
        """
        self.revoke_with(namespace_id, subject, lambda put: self._commit(namespace_id, (put,)))

    def revoke_with(self, namespace_id: int, subject: str, commit: Callable[[Put], int]) -> None:
        """Revoke as ``revoke_subject`` in a commit of somebody else's.

        Args:
            namespace_id: the subject's home.
            subject: the subject.
            commit: writes the mark together with other things, and returns the commit's version.

        Raises:
            PrefixdbError: as ``revoke_subject``, and whatever ``commit`` raises.
        """
        check_subject(subject)
        with self._revoking(namespace_id):
            if (namespace_id, subject) not in self._subjects:
                self._check_subject_room(namespace_id)
            put, at_ms = self._watermark_put(namespace_id, subject)
            self._subjects[namespace_id, subject] = self._marked(commit(put), at_ms)

    def revoke_namespace(self, namespace_id: int) -> None:
        """Revoke every token of the namespace issued until now; its finer revocations are contained in that."""
        with self._revoking(namespace_id):
            finer: list[Mutation] = []
            for tag in (Tag.WATERMARK, Tag.REVOKED_TOKEN):
                span = schema.catalog_span(tag, schema.id_bytes(namespace_id))
                finer += [Delete(row.key) for _, row in schema.rows_of(self._store, span, keys_only=True)]
            put, at_ms = self._watermark_put(namespace_id, None)
            version = self._commit(namespace_id, (*finer, put))
            # The wide mark must be in force before the finer ones go, or a reader in between would see neither.
            self._namespaces[namespace_id] = self._marked(version, at_ms)
            self._drop_finer(namespace_id)

    def revoke_everyone(self) -> None:
        """Revoke every token of every namespace issued until now."""
        with self._revoking(None):
            put, at_ms = self._watermark_put(None, None)
            self._everyone = self._marked(self._commit(DEFAULT_NAMESPACE_ID, (put,)), at_ms)

    # --- private ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _revoking(self, namespace_id: int | None) -> Iterator[None]:
        """Serialise a revocation, and have sessions look again once it is in force or may be."""
        try:
            with self.changes:
                try:
                    yield
                except OutcomeUnknownError:
                    self._load()
                    raise
        except OutcomeUnknownError:
            self._epochs.move(namespace_id)
            raise
        self._epochs.move(namespace_id)

    def _load(self) -> None:
        """Read everything from the store, into new structures, then show them together."""
        everyone, revision = NEVER, 0
        namespaces: dict[int, Mark] = {}
        subjects: dict[tuple[int, str], Mark] = {}
        tokens: dict[tuple[int, str], int] = {}
        for record_key, row in schema.rows_of(self._store, schema.catalog_span(Tag.WATERMARK)):
            mark = Mark(row.version, schema.Fields(row.payload).integer("at_ms"))
            revision = max(revision, mark.version)
            if not record_key:
                everyone = mark
                continue
            namespace_id, subject = schema.split_id(record_key)
            if subject:
                subjects[namespace_id, subject.decode()] = mark
            else:
                namespaces[namespace_id] = mark
        for record_key, row in schema.rows_of(self._store, schema.catalog_span(Tag.REVOKED_TOKEN)):
            namespace_id, jti = schema.split_id(record_key)
            tokens[namespace_id, jti.decode()] = schema.Fields(row.payload).integer("expires_at_s")
        self._everyone, self._revision = everyone, revision
        self._namespaces, self._subjects, self._tokens = namespaces, subjects, tokens
        self._expiries = [(expires_at_s, key) for key, expires_at_s in tokens.items()]
        heapq.heapify(self._expiries)

    def _marked(self, version: int, at_ms: int) -> Mark:
        self._revision = max(self._revision, version)
        return Mark(version, at_ms)

    def _watermark_put(self, namespace_id: int | None, subject: str | None) -> tuple[Put, int]:
        """Return the write of a mark, and its time."""
        at_ms = self._clock.now_ms()
        payload = encode_record({"at_ms": at_ms})
        return Put(schema.watermark_key(namespace_id, subject), payload, at_ms + _WATERMARK_MS), at_ms

    def _commit(self, namespace_id: int, writes: tuple[Mutation, ...], *, live: bool = False) -> int:
        """Commit and return the version; in a dropped namespace only what writes no row of its own."""
        return commit_guarded(self._store, self._registry, namespace_id, writes, live=live).version

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
