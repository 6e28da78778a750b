"""Tokens: admitting them, and the one place through which they are issued, listed and revoked.

A token names exactly one namespace and one issue of it (``ns``, ``inc``) and a subject. What it permits is looked up
when a session is made, so a changed group counts at once:

    service token    groups and guardian from its claims (``catalog.issuing`` makes it)
    of a login       those of the member's record now; of a guest those of the grant (``catalog.logintokens``)
    foreign          groups from its claims, within what its issuer may give (``catalog.issuers``)
    none at all      the anonymous session, where the operator has asked for it

A token that a cluster guardian makes for a namespace that is not its own is minted: marked with the guardian's subject,
an hour long at most, and whatever is issued with it is minted too and ends with it.

Everything that can change a verdict moves a number in ``epochs`` once it is in force; a session made under the same
number needs no new look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from prefixdb import limits
from prefixdb.catalog import load, policy, schema
from prefixdb.catalog.claims import Claims
from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    Guardian,
    LoginRecord,
    MemberRecord,
    NamespaceRecord,
    ServiceTokenRecord,
)
from prefixdb.catalog.epochs import Epochs
from prefixdb.catalog.files import write_secret
from prefixdb.catalog.identities import Identities
from prefixdb.catalog.issuers import Issuers
from prefixdb.catalog.issuing import ServiceTokens, TokenRequest
from prefixdb.catalog.keyring import Keyring
from prefixdb.catalog.logintokens import LoginTokens, RefreshClaims, SignedToken
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import BUILTIN_GROUPS, GUARDIANS_GROUP, Capability, IssueLimits, Session
from prefixdb.catalog.revocation import Revocations
from prefixdb.catalog.schema import Tag
from prefixdb.catalog.verification import RefusedError, read_token
from prefixdb.clock import Clock
from prefixdb.errors import Reason, error
from prefixdb.store.base import Commit, Store, VersionIs

__all__ = [
    "Claims",
    "Keyring",
    "RefreshClaims",
    "ServiceTokenRecord",
    "SignedToken",
    "TokenAuthority",
    "TokenRequest",
    "ensure_guardian_token",
    "write_guardian_token",
]

ANONYMOUS_SUBJECT = "anonymous"
GUARDIAN_SUBJECT = "guardian"
GUARDIAN_TOKEN_FILE = "guardian.token"  # a file name
GUARDIAN_TOKEN_S = 365 * 24 * 3600
"""Lifetime of the first guardian's token. It has to last until the operator has made better ones."""

_NO_END_MS = 253_402_300_799_000
"""The last second of the year 9999, which every way to write a time can express."""

_log = logging.getLogger(__name__)


class TokenAuthority:
    """The only maker and judge of tokens. Thread-safe; what writes blocks on a commit, the rest reads memory but for
    ``session`` and ``list``, which read a few rows.

    Args:
        store, clock, registry, keyring: of the data directory.
        issuers: others whose tokens are accepted; None for none.
    """

    def __init__(
        self, store: Store, clock: Clock, registry: Registry, keyring: Keyring, issuers: Issuers | None = None
    ) -> None:
        self._clock = clock
        self._registry = registry
        self._keyring = keyring
        self._issuers = issuers
        self.epochs = Epochs()
        self._revocations = Revocations(store, clock, registry, self.epochs)
        self.identities = Identities(store, clock, registry, self.epochs, self._revocations.revoke_with)
        self._service_tokens = ServiceTokens(store, registry, clock, keyring, self._revocations)
        self._login_tokens = LoginTokens(clock, keyring, self._revocations)
        keyring.add_listener(lambda: self.epochs.move(None))
        if issuers is not None:
            issuers.add_listener(lambda: self.epochs.move(None))

    @property
    def keyring(self) -> Keyring:
        """The keys that sign and verify."""
        return self._keyring

    def add_listener(self, listener: Callable[[int | None], None]) -> None:
        """Have ``listener`` called when sessions have to look again; see ``Epochs.add_listener``."""
        self.epochs.add_listener(listener)

    def epoch_of(self, admitted: Session | Claims) -> int:
        """Return the number that moves when the session, or that of the claims, may have changed. Memory only.

        What a cluster guardian minted hangs on the guardian in namespace 0, like a guest.
        """
        minted = admitted.minted if isinstance(admitted, Session) else bool(admitted.minted_by)
        return self.epochs.of(admitted.namespace_id, guest=admitted.guest or minted)

    # --- admitting -------------------------------------------------------------------------------------------------

    def verify(self, token: str) -> Claims:
        """Return the claims of an access token that is good now.

        Raises:
            UnauthenticatedError: TOKEN_INVALID for everything malformed, forged, from the future, for a namespace or
                incarnation that is not, or no access token, always the same message; TOKEN_EXPIRED and TOKEN_REVOKED
                only for a token that was good once.
        """
        return self._verify(token, refresh=False)

    def read_refresh(self, token: str) -> RefreshClaims:
        """Return what a refresh token says that is good now, as far as the token itself tells.

        Raises:
            UnauthenticatedError: as ``verify``; an access token is TOKEN_INVALID here.
        """
        claims = self._verify(token, refresh=True)
        home = self._registry.get(claims.namespace_id)
        if home is None:
            raise error(Reason.TOKEN_INVALID)
        return RefreshClaims(home, claims.subject, claims.family, claims.jti)

    def session(self, claims: Claims) -> Session:
        """Return the session of verified claims, with what its subject may do now.

        A group that no longer exists permits nothing. Reads a few rows.

        Raises:
            UnauthenticatedError: TOKEN_REVOKED, the login is over or the member is gone or disabled.
            PermissionDeniedError: NOT_PERMITTED, a guest's grant is gone.
        """
        standing = self.identities.standing(claims)
        return Session(
            namespace_id=claims.namespace_id,
            incarnation=claims.incarnation,
            subject=claims.subject,
            jti=claims.jti,
            groups=standing.groups,
            guardian=standing.guardian,
            rules=standing.rules,
            issued_at_ms=claims.issued_at_s * 1000,
            expires_at_ms=claims.expires_at_s * 1000,
            minted=bool(claims.minted_by),
            minted_by=claims.minted_by,
            revision=claims.revision or 0,
            family=claims.family,
            guest=claims.guest,
            privileges=standing.privileges,
        )

    def anonymous_session(self, group: str) -> Session:
        """Return the session of a caller without any token: in namespace 0, in one of its built-in groups."""
        namespace = self._registry.get(DEFAULT_NAMESPACE_ID)
        rules = {built_in.name: built_in.rules for built_in in BUILTIN_GROUPS}.get(group)
        if namespace is None or rules is None or group == GUARDIANS_GROUP:
            raise error(Reason.TOKEN_MISSING)
        return Session(
            namespace_id=namespace.id,
            incarnation=namespace.incarnation,
            subject=ANONYMOUS_SUBJECT,
            jti="",
            groups=(group,),
            guardian=Guardian.NONE,
            rules=rules,
            issued_at_ms=self._clock.now_ms(),
            expires_at_ms=_NO_END_MS,
        )

    def check_still_valid(self, claims: Claims) -> None:
        """Return when a token of these claims, verified once, would still be. Memory only.

        Raises:
            UnauthenticatedError: TOKEN_INVALID, the key that verified it is gone, or its issuer may no longer make it;
                TOKEN_EXPIRED, TOKEN_REVOKED.
        """
        record = self._registry.get(claims.namespace_id)
        if record is None or record.incarnation != claims.incarnation or not self._is_vouched_for(claims, record):
            _log.debug("token refused: namespace, incarnation, key or issuer")
            raise error(Reason.TOKEN_INVALID)
        if self._clock.now_ms() >= (claims.expires_at_s + limits.TOKEN_LEEWAY_S) * 1000:
            raise error(Reason.TOKEN_EXPIRED)
        if self._revocations.is_revoked(claims):
            raise error(Reason.TOKEN_REVOKED)

    # --- tokens of logins ------------------------------------------------------------------------------------------

    def access_token(
        self, login: LoginRecord, member: MemberRecord, home: NamespaceRecord, target: NamespaceRecord
    ) -> SignedToken:
        """Return an access token of the login for ``target``; see ``LoginTokens.access``."""
        return self._login_tokens.access(login, member, home, target)

    def refresh_token(self, login: LoginRecord, home: NamespaceRecord) -> SignedToken:
        """Return the login's unspent refresh token; see ``LoginTokens.refresh``."""
        return self._login_tokens.refresh(login, home)

    # --- service tokens --------------------------------------------------------------------------------------------

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
        return self._service_tokens.issue(request.namespace_id, self._service_tokens.draft(request, bounds, by))

    def issue_locally(self, request: TokenRequest) -> tuple[str, ServiceTokenRecord]:
        """Issue a token for the operator of the machine, who proves itself by owning the data directory."""
        draft = self._service_tokens.draft(request, IssueLimits(limits.SERVICE_TOKEN_S_MAX), None)
        return self._service_tokens.issue(request.namespace_id, draft)

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
        return self._service_tokens.draft(request, IssueLimits(limits.SERVICE_TOKEN_S_MAX), by)

    def sign(self, record: ServiceTokenRecord, namespace: NamespaceRecord) -> str:
        """Return the token of a record that is in the namespace already."""
        return self._service_tokens.sign(record, namespace)

    def list(self, namespace_id: int, after_jti: str = "", limit: int = 100) -> list[ServiceTokenRecord]:
        """Return up to ``limit`` service tokens that have not expired, by jti, those above ``after_jti``."""
        return self._service_tokens.page(namespace_id, after_jti, limit)

    # --- revoking --------------------------------------------------------------------------------------------------

    def revoke_jti(self, namespace_id: int, jti: str) -> None:
        """Revoke one service token (NotFoundError TOKEN_NOT_FOUND)."""
        self._revocations.revoke_jti(namespace_id, jti)

    def revoke_subject(self, namespace_id: int, subject: str) -> None:
        """Revoke every token issued until now of the subject that belongs to the namespace, its logins too."""
        self._revocations.revoke_subject(namespace_id, subject)

    def revoke_namespace(self, namespace_id: int) -> None:
        """Revoke every token of the namespace issued until now; for namespace 0 those of its guests elsewhere too."""
        self._revocations.revoke_namespace(namespace_id)

    def revoke_everyone(self) -> None:
        """Revoke every token of every namespace issued until now, guardians' too: ``write_guardian_token`` helps."""
        self._revocations.revoke_everyone()

    # --- private ---------------------------------------------------------------------------------------------------

    def _verify(self, token: str, *, refresh: bool) -> Claims:
        try:
            claims = read_token(token, self._keyring, self._issuers, self._clock.now_ms())
        except RefusedError as refused:
            _log.debug("token refused: %s", refused)
            raise error(Reason.TOKEN_INVALID) from None
        if claims.refresh is not refresh:
            _log.debug("token refused: access or refresh")
            raise error(Reason.TOKEN_INVALID)
        self.check_still_valid(claims)
        return claims

    def _is_vouched_for(self, claims: Claims, record: NamespaceRecord) -> bool:
        """True while the key that verified the token is there and may speak for the namespace."""
        if claims.issuer:
            return self._issuers is not None and self._issuers.vouches(claims, record)
        key = self._keyring.find(claims.kid)
        return key is not None and key.public == claims.key_print


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
