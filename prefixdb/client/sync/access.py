# Generated from prefixdb/client/aio/access.py by tools/async_to_sync.py; do not edit.
"""Which token a call carries: one that was given, one of a login, or one that either was exchanged for.

given      a token or a token file; anonymous without one
login      see ``prefixdb.client.sync.login``
exchanged  when ``namespace`` names another namespace than the token does, and the token came from a login of a
           member of namespace 0: an access token for that one, exchanged anew before it ends
"""

from __future__ import annotations

from prefixdb.client import methods
from prefixdb.client.credentials import TokenSource
from prefixdb.client.encoding import namespace_ref
from prefixdb.client.logins import AccessToken, access_of
from prefixdb.client.models import Identity, LoginInfo, identity_of
from prefixdb.client.options import ClientOptions
from prefixdb.client.sync import wire
from prefixdb.client.sync.login import Login, Send
from prefixdb.clock import Clock
from prefixdb.errors import PermissionDeniedError, Reason, UnauthenticatedError, UnavailableError, error
from prefixdb.v1 import auth_pb2


class Access:
    """The tokens of one connection. Shared by all its threads and tasks."""

    def __init__(self, options: ClientOptions, send: Send, clock: Clock) -> None:
        self._options = options
        self._send = send
        self._clock = clock
        self._given = TokenSource(options.token, options.token_file)
        self._login = Login(options, send, clock) if options.has_login else None
        self._is_there = options.namespace is None
        self._place: int | None = None
        self._must_exchange = False
        self._exchanged: AccessToken | None = None
        self._entering = wire.Lock()

    def __repr__(self) -> str:
        return f"Access({self._given if self._login is None else self._login!r})"

    def token(self, deadline_s: float) -> str | None:
        """Return the token for a call that is made now; None for an anonymous one.

        Raises:
            PermissionDeniedError: the namespace that was asked for cannot be used with what there is.
            UnauthenticatedError, UnavailableError: as ``Login.obtain``.
        """
        if self._is_there:
            own = self._own(deadline_s)
            # The login may be another one by now, begun by another process, and lead elsewhere.
            if self._login is None or self._place is None or self._login.place == self._place:
                return own
            self._forget_namespace()
        held = self._exchanged
        if held is not None and self._now_s() < held.renew_at_s:
            return held.text
        return self._enter(deadline_s)

    def renew(self, refused: str | None, deadline_s: float) -> bool:
        """Look for another token than one that the server does not take; True when there is one.

        Raises:
            PrefixdbError: as ``token``.
        """
        if refused is None:
            return False
        if not self._must_exchange:
            return self._renew_own(refused, deadline_s)
        with self._entering:
            if self._exchanged is not None and self._exchanged.text == refused:
                self._exchanged = None
        return self.token(deadline_s) != refused

    def login(self, deadline_s: float) -> LoginInfo:
        """Log in now."""
        if self._login is None:
            raise error(Reason.BAD_FIELD, "To log in takes a user and a password: connect(user=, password_file=).")
        info = self._login.login(deadline_s)
        self._forget_namespace()
        return info

    def logout(self, everywhere: bool, deadline_s: float) -> None:
        """End the login."""
        if self._login is None:
            raise error(Reason.BAD_FIELD, "There is no login to end: the client has a token, which a guardian revokes.")
        self._login.logout(everywhere, deadline_s)
        self._forget_namespace()

    def change_password(self, old: str, new: str, deadline_s: float) -> None:
        """Change the member's password; everything that came from its logins has ended then."""
        if self._login is None:
            raise error(Reason.BAD_FIELD, "A password is changed by who logged in: connect(user=, password_file=).")
        self._login.change_password(old, new, deadline_s)
        self._forget_namespace()

    def close(self) -> None:
        """End what nobody else can use."""
        if self._login is not None:
            self._login.close()

    def _now_s(self) -> float:
        return self._clock.now_ms() / 1000

    def _forget_namespace(self) -> None:
        """Look again where the token is for, and exchange it again."""
        self._exchanged = None
        self._must_exchange = False
        self._is_there = self._options.namespace is None

    def _own(self, deadline_s: float) -> str | None:
        """Return the token from before any exchange."""
        if self._login is None:
            return self._given.token()
        token = self._login.ready()
        return token if token is not None else self._login.obtain(deadline_s)

    def _renew_own(self, refused: str, deadline_s: float) -> bool:
        if self._login is None:
            return self._given.reload() or self._given.token() != refused
        return self._login.obtain(deadline_s, refused) != refused

    def _enter(self, deadline_s: float) -> str | None:
        """Return a token for the namespace that was asked for, after looking which one there is a token for."""
        with self._entering:
            held, now_s = self._exchanged, self._now_s()
            if held is not None and now_s < held.renew_at_s:
                return held.text
            own = self._own(deadline_s)
            try:
                return self._admit(own, deadline_s)
            except UnauthenticatedError:
                if own is None or not self._renew_own(own, deadline_s):
                    raise
            except UnavailableError:
                # Before its end there is time to try again.
                if held is not None and now_s < held.expires_at_s:
                    return held.text
                raise
            return self._admit(self._own(deadline_s), deadline_s)

    def _admit(self, own: str | None, deadline_s: float) -> str | None:
        """Return ``own`` when it is for the right namespace, else what it can be exchanged for."""
        expected = self._options.namespace
        if expected is None or self._is_there:
            return own
        if not self._must_exchange:
            answer = self._send(methods.WHO_AM_I, auth_pb2.WhoAmIRequest(), deadline_s, own)
            identity = identity_of(answer)
            if expected == (identity.namespace_id if isinstance(expected, int) else identity.namespace_name):
                self._place, self._is_there = identity.namespace_id, True
                return own
            _check_may_exchange(identity, expected)
        request = auth_pb2.ExchangeRequest(namespace=namespace_ref(expected))
        try:
            answer = self._send(methods.EXCHANGE, request, deadline_s, own)
        except PermissionDeniedError as refusal:
            if refusal.reason is not Reason.NOT_PERMITTED:
                raise
            message = (
                f"The login may not use namespace {expected!r}: there is no such namespace, no grant for it, or the "
                "member has not the privilege namespaces.use."
            )
            raise error(Reason.NOT_PERMITTED, message, metadata=refusal.metadata) from refusal
        self._must_exchange = True
        self._exchanged = access_of(answer.tokens, self._now_s())
        return self._exchanged.text


def _check_may_exchange(identity: Identity, expected: int | str) -> None:
    """Refuse what the server would refuse, in words that say which token is meant."""
    if identity.member and identity.home_namespace_id == 0:
        return
    found = identity.namespace_id if isinstance(expected, int) else identity.namespace_name
    message = f"The token is for namespace {found!r}, not for {expected!r}; use a token of that namespace."
    raise error(Reason.NOT_PERMITTED, message)
