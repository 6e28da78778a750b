"""Tokens: issuing, admitting, listing and revoking them.

A token names exactly one namespace and one issue of it (``ns``, ``inc``), a subject, and groups. Groups are names; what
they permit is looked up when a session is made, so a changed group counts at once. The secret is in the answer to the
issue and nowhere else: the store keeps a record without it, in the namespace the token is for.

A token that a cluster guardian makes for a namespace that is not its own is minted: marked with the guardian's subject,
an hour long at most, and whatever is issued with it is minted too and ends with it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from prefixdb import limits
from prefixdb.catalog import load, policy, schema
from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    Guardian,
    NamespaceRecord,
    Rule,
    ServiceTokenRecord,
)
from prefixdb.catalog.files import write_secret
from prefixdb.catalog.keyring import Keyring
from prefixdb.catalog.names import check_group_names, check_subject
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import GUARDIANS_GROUP, Capability, IssueLimits, Session
from prefixdb.catalog.revocation import Revocations
from prefixdb.catalog.schema import Tag
from prefixdb.catalog.verification import Claims, RefusedError, encode_claims, read_token
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import Span, system_span
from prefixdb.store.base import Absent, Commit, Condition, Delete, Exists, Mutation, Store, VersionIs

__all__ = [
    "Claims",
    "Keyring",
    "ServiceTokenRecord",
    "TokenAuthority",
    "TokenRequest",
    "ensure_guardian_token",
    "write_guardian_token",
]

GUARDIAN_SUBJECT = "guardian"
GUARDIAN_TOKEN_FILE = "guardian.token"  # a file name
GUARDIAN_TOKEN_S = 365 * 24 * 3600
"""Lifetime of the first guardian's token. It has to last until the operator has made better ones."""

_GUARD_TRIES_MAX = 20
_log = logging.getLogger(__name__)


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


class TokenAuthority:
    """The only maker and judge of tokens. Thread-safe; what writes blocks on a commit, the rest reads memory but for
    ``session`` and ``list``, which read a few rows."""

    def __init__(self, store: Store, clock: Clock, registry: Registry, keyring: Keyring) -> None:
        self._store = store
        self._clock = clock
        self._registry = registry
        self._keyring = keyring
        self._revocations = Revocations(store, clock, registry)

    @property
    def epoch(self) -> int:
        """Grows with every revocation and change of keys. A session made under the same epoch needs no new check."""
        return self._revocations.count + self._keyring.version

    @property
    def keyring(self) -> Keyring:
        """The keys that sign and verify."""
        return self._keyring

    def add_listener(self, listener: Callable[[int | None], None]) -> None:
        """Have ``listener(namespace_id)`` called after every revocation in force; None means all namespaces."""
        self._revocations.add_listener(listener)

    # --- admitting -------------------------------------------------------------------------------------------------

    def verify(self, token: str) -> Claims:
        """Return the claims of a token that is good now.

        Raises:
            UnauthenticatedError: TOKEN_INVALID for everything malformed, forged, from the future or for a namespace or
                incarnation that is not, always the same message; TOKEN_EXPIRED and TOKEN_REVOKED only for a token that
                was good once.
        """
        now_ms = self._clock.now_ms()
        try:
            claims = read_token(token, self._keyring, now_ms)
        except RefusedError as refused:
            _log.debug("token refused: %s", refused)
            raise error(Reason.TOKEN_INVALID) from None
        record = self._registry.get(claims.namespace_id)
        if record is None or record.incarnation != claims.incarnation:
            _log.debug("token refused: namespace or incarnation")
            raise error(Reason.TOKEN_INVALID)
        if now_ms >= (claims.expires_at_s + limits.TOKEN_LEEWAY_S) * 1000:
            raise error(Reason.TOKEN_EXPIRED)
        if self._revocations.is_revoked(claims.namespace_id, claims.subject, claims.jti, claims.revision):
            raise error(Reason.TOKEN_REVOKED)
        return claims

    def session(self, claims: Claims) -> Session:
        """Return the session of verified claims, its groups resolved to what they permit now.

        A group that no longer exists permits nothing. Reads one row for each group.
        """
        return Session(
            namespace_id=claims.namespace_id,
            incarnation=claims.incarnation,
            subject=claims.subject,
            jti=claims.jti,
            groups=claims.groups,
            guardian=claims.guardian,
            rules=self._rules(claims.namespace_id, claims.groups),
            issued_at_ms=claims.issued_at_s * 1000,
            expires_at_ms=claims.expires_at_s * 1000,
            minted=bool(claims.minted_by),
            revision=claims.revision,
        )

    def still_valid(self, session: Session) -> bool:
        """Return whether the session's token is still good: not expired, not revoked. Memory only."""
        if self._clock.now_ms() >= session.expires_at_ms + limits.TOKEN_LEEWAY_S * 1000:
            return False
        return not self._is_revoked(session)

    def check_still_valid(self, session: Session) -> None:
        """Return when ``still_valid``, else raise UnauthenticatedError TOKEN_EXPIRED or TOKEN_REVOKED."""
        if self._is_revoked(session):
            raise error(Reason.TOKEN_REVOKED)
        if not self.still_valid(session):
            raise error(Reason.TOKEN_EXPIRED)

    # --- issuing ---------------------------------------------------------------------------------------------------

    def issue(self, request: TokenRequest, by: Session) -> tuple[str, ServiceTokenRecord]:
        """Issue a token that the session may issue; policy decides, here.

        Raises:
            PermissionDeniedError: NOT_PERMITTED.
            NotFoundError: NAMESPACE_NOT_FOUND (to cluster guardians), GROUP_NOT_FOUND.
            InvalidArgumentError: BAD_FIELD (subject, groups, ttl).
            FailedPreconditionError: NAMESPACE_STATE, the namespace was dropped.
            ResourceExhaustedError: QUOTA_EXCEEDED, too many live service tokens.
        """
        known = self._registry.get(request.namespace_id) is not None
        bounds = policy.check_issue(by, request.namespace_id if known else None, request.guardian)
        record = self._draft(request, bounds, by)
        return self._issue(request.namespace_id, record)

    def issue_locally(self, request: TokenRequest) -> tuple[str, ServiceTokenRecord]:
        """Issue a token for the operator of the machine, who proves itself by owning the data directory."""
        record = self._draft(request, IssueLimits(limits.SERVICE_TOKEN_S_MAX), None)
        return self._issue(request.namespace_id, record)

    def prepare_guardian(self, ttl_s: int, by: Session) -> ServiceTokenRecord:
        """Return the record of the first guardian's token of a namespace that is about to be created.

        ``Registry.create(first_token=record)`` writes it in the creating commit; ``sign`` then makes the token, for
        only that commit's version gives the incarnation.

        Raises:
            PermissionDeniedError: NOT_PERMITTED, the session may not create namespaces.
            InvalidArgumentError: BAD_FIELD (ttl).
        """
        policy.check_capability(by, Capability.NAMESPACES_EDIT)
        request = TokenRequest(
            DEFAULT_NAMESPACE_ID, GUARDIAN_SUBJECT, (GUARDIANS_GROUP,), Guardian.NAMESPACE, ttl_s=ttl_s
        )
        return self._draft(request, IssueLimits(limits.SERVICE_TOKEN_S_MAX), by)

    def sign(self, record: ServiceTokenRecord, namespace: NamespaceRecord) -> str:
        """Return the token of a record that is in the namespace already."""
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

    # --- listing and revoking --------------------------------------------------------------------------------------

    def list(self, namespace_id: int, after_jti: str = "", limit: int = 100) -> list[ServiceTokenRecord]:
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

    def revoke_jti(self, namespace_id: int, jti: str) -> None:
        """Revoke one service token (NotFoundError TOKEN_NOT_FOUND)."""
        self._revocations.revoke_jti(namespace_id, jti)

    def revoke_subject(self, namespace_id: int, subject: str) -> None:
        """Revoke every token of the subject in the namespace issued until now."""
        self._revocations.revoke_subject(namespace_id, subject)

    def revoke_namespace(self, namespace_id: int) -> None:
        """Revoke every token of the namespace issued until now."""
        self._revocations.revoke_namespace(namespace_id)

    def revoke_everyone(self) -> None:
        """Revoke every token of every namespace issued until now, guardians' too: ``write_guardian_token`` helps."""
        self._revocations.revoke_everyone()

    # --- private ---------------------------------------------------------------------------------------------------

    def _is_revoked(self, session: Session) -> bool:
        return self._revocations.is_revoked(session.namespace_id, session.subject, session.jti, session.revision)

    def _rules(self, namespace_id: int, groups: Sequence[str]) -> tuple[Rule, ...]:
        rows = self._store.get_many([schema.group_key(namespace_id, name) for name in groups])
        rules: list[Rule] = []
        for name, row in zip(groups, rows, strict=True):
            if row is not None:
                rules += schema.decode_group(name, row).rules
        return tuple(dict.fromkeys(rules))

    def _with_state(self, namespace_id: int, record: ServiceTokenRecord) -> ServiceTokenRecord:
        dead = self._revocations.is_revoked(namespace_id, record.subject, record.jti, record.revision)
        return replace(record, revoked=record.revoked or dead)

    def _draft(self, request: TokenRequest, bounds: IssueLimits, by: Session | None) -> ServiceTokenRecord:
        """Return the record of a token to be, all of it checked but for what only the commit can check."""
        now_ms = self._clock.now_ms()
        issued_at_s = now_ms // 1000
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
            minted_by=by.subject if by and bounds.minted else "",
            revision=self._revocations.revision,
        )

    def _issue(self, namespace_id: int, draft: ServiceTokenRecord) -> tuple[str, ServiceTokenRecord]:
        with self._revocations.changes:
            record = replace(draft, revision=self._revocations.revision)
            self._make_room(namespace_id)
            for _ in range(_GUARD_TRIES_MAX):
                namespace = self._registry.get(namespace_id)
                if namespace is None:
                    raise error(Reason.NAMESPACE_NOT_FOUND)
                if not namespace.state.is_live:
                    raise error(
                        Reason.NAMESPACE_STATE, "The namespace was dropped.", metadata={"state": namespace.state.name}
                    )
                token = self.sign(record, namespace)
                if self._write(namespace, record):
                    return token, record
        raise error(Reason.INTERNAL, "The namespace's record kept changing.")

    def _write(self, namespace: NamespaceRecord, record: ServiceTokenRecord) -> bool:
        """Commit the record if the namespace is unchanged and every group exists; False when it has changed."""
        put = load.service_token_put(namespace.id, record)
        groups: list[Condition] = [Exists(schema.group_key(namespace.id, name)) for name in record.groups]
        commit = Commit((put,), (Absent(put.key),), (self._registry.guard(namespace), *groups))
        result = self._store.commit(commit)
        if result.failed_guard > 0:
            raise error(Reason.GROUP_NOT_FOUND)
        if result.failed_condition >= 0:
            raise error(Reason.INTERNAL, "A random token id was drawn twice.")
        return result.applied

    def _make_room(self, namespace_id: int) -> None:
        """Refuse when the namespace has too many service tokens, after forgetting those a watermark has killed.

        Tokens revoked by jti stay until they expire: each still needs its tombstone.
        """
        limit = limits.SERVICE_TOKENS_PER_NAMESPACE_MAX
        cursor = self._store.open_cursor(system_span(namespace_id, Tag.SERVICE_TOKEN), keys_only=True)
        try:
            if cursor.count(limit) < limit:
                return
        finally:
            cursor.close()
        dead: list[Mutation] = []
        for record_key, row in schema.rows_of(self._store, system_span(namespace_id, Tag.SERVICE_TOKEN)):
            record = schema.decode_service_token(record_key.decode(), row)
            if not record.revoked and self._with_state(namespace_id, record).revoked:
                dead.append(Delete(row.key))
        namespace = self._registry.get(namespace_id)
        guards: tuple[VersionIs, ...] = (self._registry.guard(namespace),) if namespace else ()
        if not dead or not self._store.commit(Commit(tuple(dead), guards=guards)).applied:
            raise error(
                Reason.QUOTA_EXCEEDED,
                f"The namespace has {limit} service tokens; wait for some to expire or revoke all of them.",
                metadata={"used": str(limit), "limit": str(limit)},
            )


def write_guardian_token(authority: TokenAuthority, data_dir: Path, *, ttl_s: int = GUARDIAN_TOKEN_S) -> Path:
    """Write a new cluster guardian's token to DATA/guardian.token (mode 0600, atomic, durable) and return the path.

    For the first start, and for an operator who revoked everyone or lost the token. The token appears nowhere else.
    """
    request = TokenRequest(DEFAULT_NAMESPACE_ID, GUARDIAN_SUBJECT, (GUARDIANS_GROUP,), Guardian.CLUSTER, ttl_s=ttl_s)
    token, _ = authority.issue_locally(request)
    path = data_dir / GUARDIAN_TOKEN_FILE
    write_secret(path, token.encode("ascii") + b"\n")
    return path


def ensure_guardian_token(authority: TokenAuthority, store: Store, clock: Clock, data_dir: Path) -> Path | None:
    """On a data directory's first start write the guardian's token and return its path; later return None.

    Only once the file is safe is that remembered: after a crash in between the next start writes another token, and
    the first one, which nobody has seen, is merely listed until it expires.
    """
    key = schema.catalog_key(Tag.META)
    row = store.get(key)
    if row is None:
        raise error(Reason.INTERNAL, "The catalog was not opened.")
    fields = schema.Fields(row.payload)
    if fields.integer("guardian_token_at_ms"):
        return None
    path = write_guardian_token(authority, data_dir)
    put = load.meta_put(fields.integer("created_at_ms"), clock.now_ms())
    if not store.commit(Commit((put,), guards=(VersionIs(key, row.version),))).applied:
        raise error(Reason.INTERNAL, "Another writer changed the catalog.")
    return path


def _bad_lifetime(longest_s: int, bounds: IssueLimits) -> PrefixdbError:
    """Return the refusal of a lifetime, with what makes the bound."""
    why = "no token lives longer"
    if bounds.expires_at_ms_max:
        why = "what is issued with a cluster guardian's helping token ends with it"
    elif bounds.minted:
        why = "a cluster guardian's token for another namespace is for help; its own guardian issues lasting ones"
    message = f"ttl must be between 1 and {longest_s} seconds: {why}."
    return error(Reason.BAD_FIELD, message, metadata={"field": "ttl", "limit": str(longest_s)})
