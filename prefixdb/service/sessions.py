"""Who is calling: from the ``authorization`` entry to an admitted session, verified once and cached.

A cached session is believed only while three things are as they were when it was made: the authority's epoch (no
revocation, no key change since), the namespace's record (no suspension, ban or new issue since) and the clock (not
expired). Otherwise it is checked again, and its groups are resolved again. Nothing here ever invents a namespace: no
token, no session.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

from prefixdb.catalog.entities import NamespaceRecord
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import Access, Session, check_state
from prefixdb.catalog.tokens import Claims, TokenAuthority
from prefixdb.clock import Clock
from prefixdb.errors import Reason, error
from prefixdb.limits import SESSIONS_CACHED_MAX, TOKEN_BYTES_MAX, TOKEN_LEEWAY_S

_BEARER = "Bearer "
_LEEWAY_MS = TOKEN_LEEWAY_S * 1000


class Admission:
    """A token that was let in. Shared by all calls that carry the token; ``Sessions.refresh`` keeps it true.

    claims: what the token said; the token itself is not kept.
    record: the namespace's record the session was last checked against.
    """

    __slots__ = ("claims", "epoch", "record", "session")

    def __init__(self, claims: Claims, session: Session, record: NamespaceRecord, epoch: int) -> None:
        self.claims = claims
        self.session = session
        self.record = record
        self.epoch = epoch

    def __repr__(self) -> str:
        return "Admission(…)"


def bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the token of the one ``authorization`` entry.

    Raises:
        UnauthenticatedError: TOKEN_MISSING unless there is exactly one entry of the form "Bearer TOKEN";
            TOKEN_INVALID when the token is longer than any we issue.
    """
    found: str | bytes | None = None
    for name, value in metadata:
        if name == "authorization":
            if found is not None:
                raise error(Reason.TOKEN_MISSING)
            found = value
    if not isinstance(found, str) or not found.startswith(_BEARER):
        raise error(Reason.TOKEN_MISSING)
    token = found[len(_BEARER) :]
    if len(token) > TOKEN_BYTES_MAX:
        raise error(Reason.TOKEN_INVALID)
    return token


class Sessions:
    """The cache of admitted tokens. Belongs to the event loop's thread.

    Args:
        authority: verifies tokens.
        registry: knows the namespaces.
        clock: for expiry.
    """

    def __init__(self, authority: TokenAuthority, registry: Registry, clock: Clock) -> None:
        self._authority = authority
        self._registry = registry
        self._clock = clock
        self._admitted: OrderedDict[bytes, Admission] = OrderedDict()

    def __len__(self) -> int:
        return len(self._admitted)

    def admit(self, metadata: Iterable[tuple[str, str | bytes]]) -> Admission:
        """Return the admission of the token in ``metadata``; about 2 µs when the token is cached.

        Raises:
            UnauthenticatedError: TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED or TOKEN_REVOKED.
            PermissionDeniedError: NAMESPACE_SUSPENDED or NAMESPACE_BANNED.
        """
        token = bearer_token(metadata)
        # The hash is the key, so that the cache's index holds nothing a memory dump could be searched for by value.
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        admission = self._admitted.get(key)
        if admission is None:
            admission = self._verify(token)
            self._admitted[key] = admission
            if len(self._admitted) > SESSIONS_CACHED_MAX:
                self._admitted.popitem(last=False)
        else:
            self._admitted.move_to_end(key)
            try:
                self.refresh(admission)
            except Exception:
                self._admitted.pop(key, None)
                raise
        return admission

    def refresh(self, admission: Admission) -> Session:
        """Return the session if it may still read; call it again after every wait before rows are sent.

        Raises:
            UnauthenticatedError, PermissionDeniedError: as ``admit``.
        """
        session = admission.session
        if self._clock.now_ms() >= session.expires_at_ms + _LEEWAY_MS:
            raise error(Reason.TOKEN_EXPIRED)
        record = self._registry.get(session.namespace_id)
        epoch = self._authority.epoch
        if record is admission.record and epoch == admission.epoch:
            return session
        # Something changed. The state is looked at first: to a holder whose token was good a ban is told as a ban.
        check_state(record, session, Access.READ)
        self._authority.check_still_valid(session)
        if record is not None:  # check_state refuses None; this line is for the type checker and a broken policy.
            admission.session = self._authority.session(admission.claims)
            admission.record, admission.epoch = record, epoch
        return admission.session

    def _verify(self, token: str) -> Admission:
        """Verify a token from scratch; the epoch is read first, so a revocation meanwhile is met at the next call."""
        epoch = self._authority.epoch
        claims = self._authority.verify(token)
        session = self._authority.session(claims)
        record = self._registry.get(session.namespace_id)
        check_state(record, session, Access.READ)
        if record is None:  # As in ``refresh``.
            raise error(Reason.TOKEN_INVALID)
        return Admission(claims, session, record, epoch)
