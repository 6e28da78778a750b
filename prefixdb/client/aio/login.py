"""A login that renews itself: one change at a time among all threads, tasks and, with a file, processes.

What to do next is decided by ``prefixdb.client.logins``; this module does it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from prefixdb.client import methods
from prefixdb.client.aio import wire
from prefixdb.client.aio.keeping import AsyncKeeper
from prefixdb.client.credentials import Password
from prefixdb.client.encoding import namespace_ref
from prefixdb.client.failures import in_doubt
from prefixdb.client.logins import LoginState, LoginTokens, Step, tokens_of
from prefixdb.client.methods import backoff_s
from prefixdb.client.models import LoginInfo
from prefixdb.client.options import ClientOptions
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, UnauthenticatedError, UnavailableError, error
from prefixdb.v1 import auth_pb2

REFRESH_DEADLINE_S = 10.0
"""Least time for the answer to a refresh, whatever the deadline of the call that waits for it: a lost answer can cost
the login."""

GOODBYE_DEADLINE_S = 1.0
"""Most time for ending a login when the client is closed."""

Send = Callable[..., Awaitable[Any]]
"""``send(method, request, timeout_s, token)``: makes one call and returns its answer."""


class AsyncLogin:
    """The login of one client: in memory, or in a file that others use too."""

    def __init__(self, options: ClientOptions, send: Send, clock: Clock) -> None:
        self._options = options
        self._send = send
        self._clock = clock
        self._password = Password(options.password, options.password_file)
        self._refused_password: str | None = None
        self._state = LoginState(has_password=options.user is not None)
        owner = None if options.user is None else (options.user, self._home())
        self._keeper = AsyncKeeper(options.credentials_file, self._state, self._now_s, owner)
        self._over = False
        self._changing = wire.Lock()

    def __repr__(self) -> str:
        return f"AsyncLogin({self._state!r})"

    @property
    def place(self) -> int | None:
        """The id of the namespace that the access token is for; None without one."""
        tokens = self._state.tokens
        return None if tokens is None else tokens.namespace_id

    def ready(self) -> str | None:
        """Return the access token when it is good for now, else None."""
        return self._state.ready(self._now_s())

    async def obtain(self, deadline_s: float, refused: str | None = None) -> str:
        """Return an access token, renewed or after logging in when that is needed.

        Args:
            deadline_s: for each call that is made. Whoever waits may wait longer, see ``REFRESH_DEADLINE_S``.
            refused: an access token that the server does not take.

        Raises:
            UnauthenticatedError: the login has ended and there is no password, or a wrong one.
            UnavailableError: the server cannot be asked. What the token was wanted for was not sent.
        """
        return await wire.finish(self._obtain(deadline_s, refused))

    async def login(self, deadline_s: float) -> LoginInfo:
        """Log in, whether there is a login or not."""
        if self._options.user is None:
            raise error(Reason.BAD_FIELD, "To log in takes a user and a password: connect(user=, password_file=).")
        return await wire.finish(self._login(deadline_s))

    async def logout(self, everywhere: bool, deadline_s: float) -> None:
        """End the login, and forget it."""
        await wire.finish(self._logout(everywhere, deadline_s))

    async def change_password(self, old: str, new: str, deadline_s: float) -> None:
        """Change the member's password and go on with the login that comes of it."""
        await wire.finish(self._change_password(old, new, deadline_s))

    async def close(self) -> None:
        """Wait for a renewal under way, and end a login that nobody else can use."""
        async with self._changing:
            tokens = self._state.tokens
            if self._over or self._keeper.is_shared or tokens is None:
                return
            self._over = True
            request = auth_pb2.LogoutRequest(refresh_token=tokens.refresh)
            try:
                await self._send(methods.LOGOUT, request, min(GOODBYE_DEADLINE_S, self._options.deadline_s), None)
            except PrefixdbError:
                # A courtesy to the member's list of logins. It ends by itself, and nobody has its tokens.
                return

    def _now_s(self) -> float:
        return self._clock.now_ms() / 1000

    async def _obtain(self, deadline_s: float, refused: str | None) -> str:
        async with self._changing:
            self._check_open()
            if refused is not None:
                self._state.refuse(refused)
            self._keeper.look()
            token = self.ready()
            if token is not None:
                return token
            try:
                token = await self._keeper.hold(need=False)
                return token if token is not None else await self._settle(deadline_s)
            finally:
                self._keeper.release()

    async def _login(self, deadline_s: float) -> LoginInfo:
        async with self._changing:
            self._over = False
            self._state.allow_login()
            try:
                await self._keeper.hold(look=False)
                return (await self._log_in(deadline_s)).info
            finally:
                self._keeper.release()

    async def _logout(self, everywhere: bool, deadline_s: float) -> bool:
        """Log out; True when there was a login to end."""
        async with self._changing:
            self._check_open()
            try:
                await self._keeper.hold()
                if self._state.tokens is None and everywhere and self._password:
                    # Only a login can say who it is whose logins shall end.
                    await self._log_in(deadline_s)
                tokens = self._state.tokens
                if tokens is not None:
                    request = auth_pb2.LogoutRequest(refresh_token=tokens.refresh, everywhere=everywhere)
                    await self._send(methods.LOGOUT, request, deadline_s, None)
                elif self._keeper.is_shared:
                    raise self._state.ended(self._keeper.where)
                self._keeper.forget()
                self._over = True
                return tokens is not None
            finally:
                self._keeper.release()

    async def _change_password(self, old: str, new: str, deadline_s: float) -> LoginInfo:
        async with self._changing:
            self._check_open()
            try:
                await self._keeper.hold()
                request = auth_pb2.ChangePasswordRequest(old_password=old, new_password=new)
                access = await self._settle(deadline_s)
                await self._keeper.prepare()
                timeout_s = max(deadline_s, REFRESH_DEADLINE_S)
                try:
                    answer = await self._send(methods.CHANGE_PASSWORD, request, timeout_s, access)
                except UnauthenticatedError as failure:
                    if failure.reason is Reason.BAD_CREDENTIALS:
                        raise
                    self._state.refuse(access)
                    access = await self._settle(deadline_s)
                    await self._keeper.prepare()
                    answer = await self._send(methods.CHANGE_PASSWORD, request, timeout_s, access)
                tokens = self._state.tokens
                if tokens is None:
                    raise AssertionError("a settled login has tokens")
                self._password.replace(old, new)
                changed = self._tokens_of(answer.tokens, tokens)
                await self._keeper.keep(changed)
                return changed.info
            finally:
                self._keeper.release()

    def _check_open(self) -> None:
        if self._over:
            raise error(Reason.TOKEN_MISSING, "This client has logged out; log in, or connect again.")

    async def _settle(self, deadline_s: float) -> str:
        """Do what there is to do until there is an access token."""
        while True:
            step = self._state.step(self._now_s())
            if step is Step.REFRESH:
                await self._refresh(deadline_s)
            elif step is Step.LOG_IN:
                await self._log_in(deadline_s)
            elif step is Step.USE and self._state.tokens is not None:
                return self._state.tokens.access.text
            else:
                raise self._state.ended(self._keeper.where)

    async def _refresh(self, deadline_s: float) -> None:
        """Spend the refresh token on a new pair. What failed without doubt is tried again while there is no other."""
        tokens = self._state.tokens
        if tokens is None:
            raise AssertionError("a refresh needs a login")
        try:
            await self._keeper.prepare()
        except PrefixdbError:
            # Nothing was spent. Maybe there is room again before the access token ends.
            if self._state.postpone(self._now_s()):
                return
            raise
        request = auth_pb2.RefreshRequest(refresh_token=tokens.refresh)
        for attempt in range(1, self._options.read_attempts + 1):
            try:
                answer = await self._send(methods.REFRESH, request, max(deadline_s, REFRESH_DEADLINE_S), None)
            except PrefixdbError as failure:
                if self._state.refresh_failed(failure, self._now_s()):
                    return
                if attempt == self._options.read_attempts or in_doubt(failure) or not _is_passing(failure):
                    raise _not_renewed(failure) from failure
                wait_s = backoff_s(attempt, failure)
            else:
                await self._keeper.keep(self._tokens_of(answer.tokens, tokens))
                return
            await wire.sleep(wait_s)

    async def _log_in(self, deadline_s: float) -> LoginTokens:
        """Log in with the password, which can be repeated without harm."""
        password = self._password.read()
        if password != self._refused_password:
            self._state.allow_login()
        self._state.check_login(self._now_s())
        request = self._login_request(password)
        await self._keeper.prepare()
        for attempt in range(1, self._options.read_attempts + 1):
            try:
                answer = await self._send(methods.LOGIN, request, deadline_s, None)
            except PrefixdbError as failure:
                self._refused_password = password
                self._state.login_failed(failure, self._now_s())
                if attempt == self._options.read_attempts or not _is_passing(failure):
                    raise
                wait_s = backoff_s(attempt, failure)
            else:
                user, home = self._options.user or "", self._home()
                tokens = tokens_of(answer.tokens, user=user, home=home, now_s=self._now_s())
                await self._keeper.keep(tokens)
                return tokens
            await wire.sleep(wait_s)
        raise AssertionError("read_attempts is at least 1")

    def _home(self) -> int | str | None:
        return self._options.namespace if self._options.home is None else self._options.home

    def _login_request(self, password: str) -> auth_pb2.LoginRequest:
        home = self._home()
        into = None if self._options.home is None else self._options.namespace
        return auth_pb2.LoginRequest(
            namespace=None if home is None else namespace_ref(home),
            user=self._options.user,
            password=password,
            into=None if into is None else namespace_ref(into),
        )

    def _tokens_of(self, message: auth_pb2.Tokens, before: LoginTokens) -> LoginTokens:
        return tokens_of(message, user=before.user, home=before.home, now_s=self._now_s())


def _is_passing(failure: PrefixdbError) -> bool:
    """True for a failure that may be over when it is tried again in a moment."""
    return isinstance(failure, UnavailableError)


def _not_renewed(failure: PrefixdbError) -> PrefixdbError:
    """Return the error of a call whose token could not be renewed: that call was not sent, whatever this one met."""
    if not in_doubt(failure):
        return failure
    message = f"The login could not be renewed: {failure.message} The call itself was not sent."
    return error(Reason.UNREACHABLE, message, metadata=failure.metadata)
