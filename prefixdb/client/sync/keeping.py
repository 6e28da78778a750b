# Generated from prefixdb/client/aio/keeping.py by tools/async_to_sync.py; do not edit.
"""Where a login is kept: in memory alone, or in a file that other processes use too.

A file is held while its refresh token is spent, see ``prefixdb.client.login_file``. Without one there is nobody to be
kept out but the client's own threads and tasks, which ``Login`` sees to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefixdb.client.login_file import LoginFile
from prefixdb.client.logins import LoginState, LoginTokens
from prefixdb.client.sync import wire
from prefixdb.errors import Reason, error

LOCK_WAIT_S_MAX = 30.0
"""Longest wait for another process that renews the same login."""

LOCK_POLL_S = 0.02


class Keeper:
    """Keeps the tokens of one login: what ``state`` knows, and what is in the file.

    Args:
        path: of the file; None for none.
        state: is told what the file has.
        now_s: the time.
        owner: user and home whose login it must be; None for anybody's.
    """

    def __init__(
        self,
        path: Path | None,
        state: LoginState,
        now_s: Callable[[], float],
        owner: tuple[str, int | str | None] | None,
    ) -> None:
        self._file = None if path is None else LoginFile(path)
        self._state = state
        self._now_s = now_s
        self._owner = owner
        self._seen: LoginTokens | None = None

    def __repr__(self) -> str:
        return f"Keeper({self.where})"

    @property
    def where(self) -> str:
        """Where the login is kept, for people."""
        return "memory" if self._file is None else str(self._file.path)

    @property
    def is_shared(self) -> bool:
        """True when others may use the login, and go on with it when this client is gone."""
        return self._file is not None

    def look(self) -> None:
        """Take what the file has when it has changed: somebody renewed the login, began another one, or ended it.

        Raises:
            UnauthenticatedError: the file cannot be read or holds no login.
            InvalidArgumentError: BAD_FIELD when it holds somebody else's.
        """
        if self._file is None:
            return
        kept = self._file.read()
        if kept == self._seen:
            return
        if kept is not None and self._owner is not None and (kept.user, kept.home) != self._owner:
            message = f"The login in {self.where} is that of another user; name another file, or log out there first."
            raise error(Reason.BAD_FIELD, message)
        self._seen = kept
        self._state.adopt(kept)

    def hold(self, *, need: bool = True, look: bool = True) -> str | None:
        """Take the file's lock and look into it again; ``release`` in any case.

        Returns:
            None when the lock is ours; without ``need`` perhaps a good access token instead of the lock.

        Args:
            need: whether the lock is needed even if there is a good token; without, another process's new token is
                taken as soon as it is there, whoever has the lock.
            look: whether to look; what is there is replaced otherwise, damage or another's login.

        Raises:
            UnavailableError: another process has had the lock for too long; and as ``look``.
        """
        if self._file is None:
            return None
        waits_until_s = self._now_s() + LOCK_WAIT_S_MAX
        while True:
            mine = self._file.try_lock()
            if look:
                self.look()
            if mine:
                return None
            token = None if need else self._state.ready(self._now_s())
            if token is not None:
                return token
            if self._now_s() >= waits_until_s:
                message = f"Another process has been renewing the login in {self.where} for {LOCK_WAIT_S_MAX:g} s."
                raise error(Reason.UNREACHABLE, f"{message} Nothing was sent.")
            wire.sleep(LOCK_POLL_S)

    def release(self) -> None:
        """Give the lock back; harmless without it."""
        if self._file is not None:
            self._file.unlock()

    def prepare(self) -> None:
        """Make sure that new tokens can be kept, before the old ones are spent."""
        if self._file is not None:
            wire.in_thread(self._file.prepare)

    def keep(self, tokens: LoginTokens) -> None:
        """Go on with new tokens, once they are where the next process will find them."""
        if self._file is not None:
            try:
                wire.in_thread(self._file.write, tokens)
            except OSError as cause:
                # The old ones are spent. Let at least this client go on, and say that nobody else can.
                self._state.adopt(tokens)
                message = f"The new login could not be kept in {self.where}: {cause.strerror or cause}."
                raise error(Reason.TOKEN_MISSING, f"{message} Only this client has it.") from cause
            self._seen = tokens
        self._state.adopt(tokens)

    def forget(self) -> None:
        """Keep nothing any more. Needs the lock."""
        if self._file is not None:
            self._file.remove()
        self._seen = None
        self._state.adopt(None)
