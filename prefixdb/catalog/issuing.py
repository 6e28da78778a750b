"""Service tokens: made by guardians for programs, each with a record in the namespace it is for.

The secret is in the answer to the issue and nowhere else: the store keeps a record without it. What a guardian may give
is decided by ``catalog.policy``; here it is made, written and listed.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from prefixdb import limits
from prefixdb.catalog import load, schema
from prefixdb.catalog.claims import Claims, encode_claims
from prefixdb.catalog.entities import Guardian, NamespaceRecord, ServiceTokenRecord
from prefixdb.catalog.guarded import commit_guarded
from prefixdb.catalog.keyring import Keyring
from prefixdb.catalog.names import check_group_names, check_subject
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import IssueLimits, Session
from prefixdb.catalog.revocation import Revocations
from prefixdb.catalog.room import count_rows
from prefixdb.catalog.schema import Tag
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import Span, system_span
from prefixdb.store.base import Absent, Delete, Exists, Mutation, Store


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What a guardian asks for.

    groups: of the namespace, at most TOKEN_GROUPS_MAX.
    ttl_s: lifetime in whole seconds; None for ACCESS_TOKEN_S, or less when the issuer may not give so much.
    """

    namespace_id: int
    subject: str
    groups: tuple[str, ...] = ()
    guardian: Guardian = Guardian.NONE
    ttl_s: int | None = None


class ServiceTokens:
    """Makes, keeps and lists service tokens. Thread-safe; ``issue`` blocks on a commit."""

    def __init__(self, store: Store, registry: Registry, clock: Clock, keyring: Keyring, revocations: Revocations):
        self._store = store
        self._registry = registry
        self._clock = clock
        self._keyring = keyring
        self._revocations = revocations

    def draft(self, request: TokenRequest, bounds: IssueLimits, by: Session | None) -> ServiceTokenRecord:
        """Return the record of a token to be, all of it checked but for what only the commit can check.

        Raises:
            InvalidArgumentError: BAD_FIELD (subject, groups, ttl).
        """
        issued_at_s = self._clock.now_ms() // 1000
        longest_s = bounds.ttl_s_max
        if bounds.expires_at_ms_max:
            longest_s = min(longest_s, bounds.expires_at_ms_max // 1000 - issued_at_s)
        ttl_s = min(limits.ACCESS_TOKEN_S, longest_s) if request.ttl_s is None else request.ttl_s
        if not 1 <= ttl_s <= longest_s:
            raise _bad_lifetime(max(longest_s, 0), bounds)
        return ServiceTokenRecord(
            jti=secrets.token_hex(16),
            subject=check_subject(request.subject),
            groups=check_group_names(request.groups),
            guardian=request.guardian,
            issued_at_s=issued_at_s,
            expires_at_s=issued_at_s + ttl_s,
            issued_by=f"{by.subject}@{by.namespace_id}" if by else "operator",
            # What a minted token issues hangs on the same cluster guardian, or it would outlive that one's revocation.
            minted_by=(by.minted_by or by.subject) if by and bounds.minted else "",
            revision=self._revocations.revision,
        )

    def issue(self, namespace_id: int, draft: ServiceTokenRecord) -> tuple[str, ServiceTokenRecord]:
        """Write the record and return the token.

        Raises:
            NotFoundError: NAMESPACE_NOT_FOUND, GROUP_NOT_FOUND.
            FailedPreconditionError: NAMESPACE_STATE, the namespace was dropped.
            ResourceExhaustedError: QUOTA_EXCEEDED, too many live service tokens.
        """
        with self._revocations.changes:
            record = replace(draft, revision=self._revocations.revision)
            namespace = self._registry.get(namespace_id)
            if namespace is None:
                raise error(Reason.NAMESPACE_NOT_FOUND)
            token = self.sign(record, namespace)
            self._make_room(namespace_id)
            put = load.service_token_put(namespace_id, record)
            result = commit_guarded(
                self._store,
                self._registry,
                namespace_id,
                (put,),
                conditions=(Absent(put.key),),
                guards=[Exists(schema.group_key(namespace_id, name)) for name in record.groups],
            )
            if result.failed_guard >= 0:
                raise error(Reason.GROUP_NOT_FOUND)
            if not result.applied:
                raise error(Reason.INTERNAL, "A random token id was drawn twice.")
            return token, record

    def sign(self, record: ServiceTokenRecord, namespace: NamespaceRecord) -> str:
        """Return the token of a record that is in the namespace, or is about to be.

        Raises:
            InvalidArgumentError: BAD_FIELD (groups), the token would be too large.
        """
        claims = Claims(
            namespace_id=namespace.id,
            incarnation=namespace.incarnation,
            subject=record.subject,
            jti=record.jti,
            groups=record.groups,
            guardian=record.guardian,
            issued_at_s=record.issued_at_s,
            expires_at_s=record.expires_at_s,
            revision=record.revision,
            minted_by=record.minted_by,
        )
        token = self._keyring.sign(encode_claims(claims))
        if len(token) > limits.TOKEN_BYTES_MAX:
            raise error(
                Reason.BAD_FIELD,
                f"The token would have {len(token)} bytes; the limit is {limits.TOKEN_BYTES_MAX}. Use fewer groups.",
                metadata={"field": "groups"},
            )
        return token

    def page(self, namespace_id: int, after_jti: str, limit: int) -> list[ServiceTokenRecord]:
        """Return up to ``limit`` service tokens that have not expired, by jti, those above ``after_jti``."""
        whole = system_span(namespace_id, Tag.SERVICE_TOKEN)
        start = schema.service_token_key(namespace_id, after_jti + "\0") if after_jti else whole.begin
        if start >= whole.end:
            return []
        now_s = self._clock.now_ms() // 1000
        rows = schema.rows_of(self._store, Span(start, whole.end))
        records = (schema.decode_service_token(record_key.decode(), row) for record_key, row in rows)
        live = (self._with_state(namespace_id, record) for record in records if record.expires_at_s > now_s)
        return list(islice(live, limit))

    def _with_state(self, namespace_id: int, record: ServiceTokenRecord) -> ServiceTokenRecord:
        return replace(
            record,
            revoked=record.revoked
            or self._revocations.is_token_revoked(namespace_id, record.jti)
            or self._is_under_mark(namespace_id, record),
        )

    def _is_under_mark(self, namespace_id: int, record: ServiceTokenRecord) -> bool:
        mark = self._revocations.newest_mark(
            namespace_id, record.subject, home_id=namespace_id, minted_by=record.minted_by
        )
        return record.revision < mark.version

    def _make_room(self, namespace_id: int) -> None:
        """Refuse when the namespace has too many service tokens, after forgetting those a watermark has killed.

        Tokens revoked by jti stay until they expire: each still needs its tombstone.
        """
        limit = limits.SERVICE_TOKENS_PER_NAMESPACE_MAX
        if count_rows(self._store, system_span(namespace_id, Tag.SERVICE_TOKEN), limit) < limit:
            return
        dead = self._dead_rows(namespace_id)
        if not dead or not commit_guarded(self._store, self._registry, namespace_id, dead).applied:
            raise error(
                Reason.QUOTA_EXCEEDED,
                f"The namespace has {limit} service tokens; wait for some to expire or revoke all of them.",
                metadata={"used": str(limit), "limit": str(limit)},
            )

    def _dead_rows(self, namespace_id: int) -> Sequence[Mutation]:
        dead: list[Mutation] = []
        for record_key, row in schema.rows_of(self._store, system_span(namespace_id, Tag.SERVICE_TOKEN)):
            record = schema.decode_service_token(record_key.decode(), row)
            if not record.revoked and self._is_under_mark(namespace_id, record):
                dead.append(Delete(row.key))
        return dead


def _bad_lifetime(longest_s: int, bounds: IssueLimits) -> PrefixdbError:
    """Return the refusal of a lifetime, with what makes the bound."""
    why = "no token lives longer"
    if bounds.expires_at_ms_max:
        why = "what is issued with a cluster guardian's helping token ends with it"
    elif bounds.minted:
        why = "a cluster guardian's token for another namespace is for help; its own guardian issues lasting ones"
    message = f"ttl must be between 1 and {longest_s} seconds: {why}."
    return error(Reason.BAD_FIELD, message, metadata={"field": "ttl", "limit": str(longest_s)})
