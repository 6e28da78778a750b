"""Who is calling: from the ``authorization`` entry to an admitted session, verified once and cached.

A cached session is believed only while three things are as they were when it was made: the epoch it depends on (no
revocation, no change of its namespace's members and groups, nor of namespace 0's for a guest, nor of keys and issuers),
the namespace's record (no suspension, ban or new issue since) and the clock (not expired). Otherwise it is checked
again, and what it may do is looked up again.

Nothing here ever invents a namespace: no token, no session. The one exception is asked for by the operator: with
``anonymous`` a call that brings no entry at all is somebody of namespace 0. An entry that is there, however broken, is
judged and never overlooked.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

from prefixdb.catalog.entities import NamespaceRecord
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import READERS_GROUP, WRITERS_GROUP, Access, Session, check_state
from prefixdb.catalog.tokens import Claims, TokenAuthority
from prefixdb.clock import Clock
from prefixdb.errors import Reason, error
from prefixdb.limits import SESSION_RULE_BYTES_MAX, SESSIONS_CACHED_MAX, TOKEN_BYTES_MAX, TOKEN_LEEWAY_S

_BEARER = "Bearer "
_LEEWAY_MS = TOKEN_LEEWAY_S * 1000

_RULE_BYTES = 256
"""What a rule takes beside its prefix, about."""

Anonymous = Literal["off", "reader", "writer"]
"""What a call without any entry may do in namespace 0."""

_ANONYMOUS_GROUPS: Mapping[str, str] = MappingProxyType({"reader": READERS_GROUP, "writer": WRITERS_GROUP})


class Admission:
    """A token that was let in. Shared by all calls that carry the token; ``Sessions.refresh`` keeps it true.

    claims: what the token said; the token itself is not kept. None for the anonymous.
    record: the namespace's record the session was last checked against.
    weight: bytes of its rules that the cache counts; 0 while it is not in the cache.
    """

    __slots__ = ("claims", "epoch", "record", "session", "weight")

    def __init__(self, claims: Claims | None, session: Session, record: NamespaceRecord, epoch: int) -> None:
        self.claims = claims
        self.session = session
        self.record = record
        self.epoch = epoch
        self.weight = 0

    def __repr__(self) -> str:
        return "Admission(…)"


def bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """Return the token of the one ``authorization`` entry, None when there is no such entry at all.

    Raises:
        UnauthenticatedError: TOKEN_MISSING unless there is exactly one entry of the form "Bearer TOKEN";
            TOKEN_INVALID when the token is longer than any we accept.
    """
    entries = [value for name, value in metadata if name == "authorization"]
    if not entries:
        return None
    found = entries[0]
    if len(entries) > 1 or not isinstance(found, str) or not found.startswith(_BEARER):
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
        anonymous: whether calls without any entry are let in, and as what.
    """

    def __init__(
        self, authority: TokenAuthority, registry: Registry, clock: Clock, anonymous: Anonymous = "off"
    ) -> None:
        self._authority = authority
        self._registry = registry
        self._clock = clock
        self._admitted: OrderedDict[bytes, Admission] = OrderedDict()
        self._weight = 0
        self._anonymous_group = None if anonymous == "off" else _ANONYMOUS_GROUPS[anonymous]
        self._anonymous: Admission | None = None

    def __len__(self) -> int:
        return len(self._admitted)

    def admit(self, metadata: Iterable[tuple[str, str | bytes]]) -> Admission:
        """Return the admission of the token in ``metadata``; about 2 µs when the token is cached.

        Raises:
            UnauthenticatedError: TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED or TOKEN_REVOKED.
            PermissionDeniedError: NAMESPACE_SUSPENDED or NAMESPACE_BANNED; NOT_PERMITTED for a guest without a grant.
        """
        return self.admit_token(bearer_token(metadata))

    def admit_token(self, token: str | None) -> Admission:
        """Return the admission of a token, of the anonymous with None.

        Raises:
            UnauthenticatedError, PermissionDeniedError: as ``admit``.
        """
        if token is None:
            return self._admit_anonymous()
        # The hash is the key, so that the cache's index holds nothing a memory dump could be searched for by value.
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        admission = self._admitted.get(key)
        if admission is None:
            admission = self._verify(token)
            self._admitted[key] = admission
            self._weigh(admission, _weight_of(admission.session))
        else:
            self._admitted.move_to_end(key)
            try:
                self.refresh(admission)
            except Exception:
                self._admitted.pop(key, None)
                self._weigh(admission, 0)
                raise
        while len(self._admitted) > SESSIONS_CACHED_MAX or self._weight > SESSION_RULE_BYTES_MAX:
            self._weigh(self._admitted.popitem(last=False)[1], 0)
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
        epoch = self._authority.epoch_of(session)
        if record is admission.record and epoch == admission.epoch:
            return session
        # Something changed. The state is looked at first: to a holder whose token was good a ban is told as a ban.
        check_state(record, session, Access.READ)
        if admission.claims is not None:
            self._authority.check_still_valid(admission.claims)
            admission.session = self._authority.session(admission.claims)
            if admission.weight:
                self._weigh(admission, _weight_of(admission.session))
        if record is not None:  # check_state refuses None; this line is for the type checker and a broken policy.
            admission.record, admission.epoch = record, epoch
        return admission.session

    def _weigh(self, admission: Admission, weight: int) -> None:
        self._weight += weight - admission.weight
        admission.weight = weight

    def _verify(self, token: str) -> Admission:
        """Verify a token from scratch.

        Which epoch and record the session depends on is known from the claims only. What counts is therefore looked at
        once more after both were read: a change after that is met at the next call.
        """
        claims = self._authority.verify(token)
        record = self._registry.get(claims.namespace_id)
        epoch = self._authority.epoch_of(claims)
        self._authority.check_still_valid(claims)
        return self._admission(claims, self._authority.session(claims), record, epoch)

    def _admit_anonymous(self) -> Admission:
        """Return the one admission of all calls that bring no entry."""
        if self._anonymous_group is None:
            raise error(Reason.TOKEN_MISSING)
        if self._anonymous is None:
            session = self._authority.anonymous_session(self._anonymous_group)
            record = self._registry.get(session.namespace_id)
            self._anonymous = self._admission(None, session, record, self._authority.epoch_of(session))
        self.refresh(self._anonymous)
        return self._anonymous

    @staticmethod
    def _admission(claims: Claims | None, session: Session, record: NamespaceRecord | None, epoch: int) -> Admission:
        check_state(record, session, Access.READ)
        if record is None:  # As in ``refresh``.
            raise error(Reason.TOKEN_INVALID)
        return Admission(claims, session, record, epoch)


def _weight_of(session: Session) -> int:
    """Return about how many bytes a session's rules take; never 0."""
    return _RULE_BYTES + sum(_RULE_BYTES + len(rule.prefix) for rule in session.rules)
