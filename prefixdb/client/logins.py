"""A login: its two tokens, and the decision what to do next with them. Pure; the calls are made elsewhere.

    USE       the access token is good
    REFRESH   it ends soon, has ended or was refused: spend the refresh token on a new pair
    LOG_IN    there is no refresh token that could help, but a password
    GIVE_UP   there is neither

A refresh token works once, and a server that sees it twice ends the login with everything that came from it. So it is
never sent again while that could do harm: after an answer was lost the access token is used until its end, and then
the password is. Only who has no password presents the same refresh token once more, when the access token is of no
use any more: either the first try never arrived, and it works, or the login was lost with the first answer anyway.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime

from prefixdb.client.credentials import inspect_token
from prefixdb.client.failures import in_doubt
from prefixdb.client.models import LoginInfo, instant
from prefixdb.errors import InvalidArgumentError, PrefixdbError, Reason, UnauthenticatedError, error
from prefixdb.v1 import auth_pb2

RENEW_BEFORE_S = 60.0
"""How long before its end an access token is renewed: enough for a slow network, so that no call has to wait for it."""

LIFETIME_S_MIN = 1.0
"""Shortest lifetime that an access token is taken to have."""

TRY_AGAIN_S = 2.0
"""Wait between tries to renew a token that is still good, so that a server in trouble is not asked with every call."""

REFUSED_LOGIN_S = 30.0
"""How long a password that the server refused is not sent again: every try slows down the member's next one."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token for calls. Times are seconds of this machine's clock, since 1970."""

    text: str = field(repr=False)
    renew_at_s: float
    expires_at_s: float


@dataclass(frozen=True, slots=True)
class LoginTokens:
    """What a login or a refresh gave.

    home: what the user said about where it belongs; None for nothing.
    namespace_id, namespace_name: what the access token is for.
    """

    access: AccessToken
    refresh: str = field(repr=False)
    refresh_expires_at: datetime | None
    user: str
    home: int | str | None
    namespace_id: int
    namespace_name: str

    @property
    def info(self) -> LoginInfo:
        """The login without its secrets."""
        return LoginInfo(self.user, self.namespace_id, self.namespace_name, self.refresh_expires_at)


class Step(enum.Enum):
    """What to do next."""

    USE = "use"
    REFRESH = "refresh"
    LOG_IN = "log in"
    GIVE_UP = "give up"


class LoginState:
    """What is known of a login. Not thread-safe but for ``ready``: one change at a time is the caller's to ensure."""

    def __init__(self, *, has_password: bool) -> None:
        self.tokens: LoginTokens | None = None
        self._has_password = has_password
        self._access_refused = False
        self._doubtful = False
        self._try_at_s = 0.0
        self._ended_by: PrefixdbError | None = None
        self._login_refused: PrefixdbError | None = None
        self._login_at_s = 0.0

    def __repr__(self) -> str:
        return f"LoginState({'none' if self.tokens is None else self.tokens.info})"

    def ready(self, now_s: float) -> str | None:
        """Return the access token when nothing has to be done first."""
        tokens = self.tokens
        return tokens.access.text if tokens is not None and self.step(now_s) is Step.USE else None

    def step(self, now_s: float) -> Step:
        """Return what to do next."""
        tokens = self.tokens
        if tokens is None or self._ended_by is not None:
            return Step.LOG_IN if self._has_password else Step.GIVE_UP
        if not self._access_is_good(tokens, now_s):
            return Step.LOG_IN if self._doubtful and self._has_password else Step.REFRESH
        if now_s < tokens.access.renew_at_s or now_s < self._try_at_s or self._doubtful:
            return Step.USE
        return Step.REFRESH

    def adopt(self, tokens: LoginTokens | None) -> None:
        """Go on with other tokens, or with none."""
        self.tokens = tokens
        self._access_refused = self._doubtful = False
        self._try_at_s = self._login_at_s = 0.0
        self._ended_by = self._login_refused = None

    def refuse(self, access: str) -> None:
        """Note that the server refused an access token, when it is still the one in use."""
        if self.tokens is not None and self.tokens.access.text == access:
            self._access_refused = True

    def refresh_failed(self, failure: PrefixdbError, now_s: float) -> bool:
        """Note that a refresh failed; True when ``step`` has something else to try."""
        if isinstance(failure, UnauthenticatedError):
            self._ended_by = failure
            return True
        doubtful = in_doubt(failure)
        self._doubtful = self._doubtful or doubtful
        good = self.postpone(now_s, (failure.retry_after_ms or 0) / 1000)
        return good or (doubtful and self._has_password)

    def postpone(self, now_s: float, wait_s: float = 0.0) -> bool:
        """Try to renew again later; True when the access token is good until then."""
        self._try_at_s = now_s + max(TRY_AGAIN_S, wait_s)
        return self.tokens is not None and self._access_is_good(self.tokens, now_s)

    def login_failed(self, failure: PrefixdbError, now_s: float) -> None:
        """Note that a login failed, so that the same is not tried again at once."""
        if failure.reason is Reason.BAD_CREDENTIALS:
            self._login_at_s = now_s + REFUSED_LOGIN_S
        elif failure.reason is Reason.RATE_LIMITED:
            self._login_at_s = now_s + (failure.retry_after_ms or 0) / 1000
        else:
            return
        self._login_refused = failure

    def check_login(self, now_s: float) -> None:
        """Refuse to log in again with what the server has just refused.

        Raises:
            PrefixdbError: as it refused then.
        """
        failure = self._login_refused
        if failure is not None and now_s < self._login_at_s:
            wait_ms = round((self._login_at_s - now_s) * 1000) if failure.reason is Reason.RATE_LIMITED else None
            raise error(failure.reason, failure.message, metadata=failure.metadata, retry_after_ms=wait_ms)

    def allow_login(self) -> None:
        """Forget that a login was refused: the password is another one now, or somebody asks for it by name."""
        self._login_refused = None

    def ended(self, where: str) -> PrefixdbError:
        """Return the error of a login that cannot go on; ``where`` it was kept, for the message."""
        if self._ended_by is None:
            return error(Reason.TOKEN_MISSING, f"There is no login in {where}: log in with 'prefixdb login'.")
        message = f"The login in {where} has ended: log in again with 'prefixdb login'."
        failure = error(self._ended_by.reason, message, metadata=self._ended_by.metadata)
        failure.__cause__ = self._ended_by
        return failure

    def _access_is_good(self, tokens: LoginTokens, now_s: float) -> bool:
        return not self._access_refused and now_s < tokens.access.expires_at_s


def access_of(message: auth_pb2.Tokens, now_s: float) -> AccessToken:
    """Return the access token of an answer that came at ``now_s``.

    Its lifetime counts from now on: this machine's clock and the server's may show different times.
    """
    expires_at = instant(message, "access_expires_at")
    lifetime_s = expires_at.timestamp() - now_s if expires_at is not None else 0.0
    try:
        claims = inspect_token(message.access_token)
    except InvalidArgumentError:
        claims = None  # A token need not be readable to its holder; then the answer's own time has to do.
    if claims is not None and claims.issued_at is not None and claims.expires_at is not None:
        lifetime_s = (claims.expires_at - claims.issued_at).total_seconds()
    # At least long enough to be tried: a new token that counted as expired would be renewed for ever.
    lifetime_s = max(lifetime_s, LIFETIME_S_MIN)
    margin_s = min(RENEW_BEFORE_S, lifetime_s / 4)
    return AccessToken(message.access_token, now_s + lifetime_s - margin_s, now_s + lifetime_s)


def tokens_of(message: auth_pb2.Tokens, *, user: str, home: int | str | None, now_s: float) -> LoginTokens:
    """Return both tokens of an answer that came at ``now_s``."""
    return LoginTokens(
        access=access_of(message, now_s),
        refresh=message.refresh_token,
        refresh_expires_at=instant(message, "refresh_expires_at"),
        user=user,
        home=home,
        namespace_id=message.namespace_id,
        namespace_name=message.namespace_name,
    )
