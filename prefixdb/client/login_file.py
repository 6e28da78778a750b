"""A login that several processes share: ``credentials/NAME.login``, JSON of mode 0600.

    NAME.login        the tokens; replaced as a whole, so a reader needs no lock
    NAME.login.lock   flock of whoever is about to spend the refresh token; empty, and never removed
    NAME.login.new    the next NAME.login: made, with room on the disk, before the refresh token is spent

A refresh token works once. Who spends it holds the lock, has read the file again first, and brings the new pair to the
disk before using it. What is left is the moment between the server's answer and the disk: a process that ends there
takes the login with it.
"""

from __future__ import annotations

import fcntl
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from prefixdb.client.credentials import check_token
from prefixdb.client.logins import AccessToken, LoginTokens
from prefixdb.disk import sync_directory
from prefixdb.errors import PrefixdbError, Reason, UnauthenticatedError, error
from prefixdb.limits import TOKEN_BYTES_MAX

FILE_BYTES_MAX = 4 * TOKEN_BYTES_MAX
"""Room for two tokens and the names around them."""


class LoginFile:
    """One file. Not thread-safe; between processes, and objects of one process, ``lock`` keeps order."""

    def __init__(self, path: Path) -> None:
        # What is replaced must be the file itself, not a link to it.
        self.path = Path(os.path.realpath(path.expanduser()))
        self._scratch = self.path.with_name(f"{self.path.name}.new")
        self._lock: int | None = None

    def __repr__(self) -> str:
        return f"LoginFile({self.path})"

    def read(self) -> LoginTokens | None:
        """Return what is kept; None when there is no file.

        Raises:
            UnauthenticatedError: TOKEN_MISSING when it cannot be read, TOKEN_INVALID when it is no login.
        """
        try:
            parsed = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as cause:
            message = f"The credentials file {self.path} cannot be read: {cause.strerror or cause}."
            raise error(Reason.TOKEN_MISSING, message) from cause
        except (ValueError, RecursionError):
            parsed = None  # The error below says it; the parser's own would quote the file.
        try:
            return _from_json(parsed)
        except (KeyError, TypeError, ValueError, AttributeError, UnauthenticatedError):
            message = f"The credentials file {self.path} holds no login; write it anew with 'prefixdb login'."
            raise error(Reason.TOKEN_INVALID, message) from None

    def try_lock(self) -> bool:
        """Take the lock if nobody has it; True when it is ours.

        Raises:
            UnauthenticatedError: TOKEN_MISSING when there can be no lock here.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.path.with_name(f"{self.path.name}.lock"), flags, 0o600)
        except OSError as cause:
            raise self._unwritable(cause) from cause
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as cause:
            os.close(descriptor)
            raise self._unwritable(cause) from cause
        self._lock = descriptor
        return True

    def unlock(self) -> None:
        """Give the lock back, and remove what ``prepare`` made if ``write`` has not used it; harmless without it."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            try:
                self._scratch.unlink(missing_ok=True)
            finally:
                os.close(descriptor)

    def prepare(self) -> None:
        """Make sure that ``write`` will work, before anything is spent: make the new file and give it room.

        Raises:
            UnauthenticatedError: TOKEN_MISSING when it would not.
        """
        try:
            self._scratch.unlink(missing_ok=True)
            descriptor = os.open(self._scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, FILE_BYTES_MAX)
            finally:
                os.close(descriptor)
        except OSError as cause:
            raise self._unwritable(cause) from cause

    def write(self, tokens: LoginTokens) -> None:
        """Replace the file by ``tokens``, which are on the disk when this returns. Needs the lock and ``prepare``.

        Raises:
            OSError: the disk refused all the same.
        """
        content = json.dumps(_to_json(tokens), indent=1).encode() + b"\n"
        # Without O_TRUNC: the room that was taken is written into.
        descriptor = os.open(self._scratch, os.O_WRONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        self._scratch.replace(self.path)
        sync_directory(self.path.parent)

    def remove(self) -> None:
        """Remove the login; the lock stays, for whoever waits for it. Needs the lock."""
        self.path.unlink(missing_ok=True)

    def _unwritable(self, cause: OSError) -> PrefixdbError:
        why = cause.strerror or cause
        message = f"The login in {self.path} cannot be renewed, for what is new could not be kept: {why}."
        return error(Reason.TOKEN_MISSING, message)


def _to_json(tokens: LoginTokens) -> dict[str, Any]:
    return {
        "user": tokens.user,
        "home": tokens.home,
        "namespace": tokens.namespace_name,
        "namespace_id": str(tokens.namespace_id),
        "access_token": tokens.access.text,
        "access_renew_at_s": tokens.access.renew_at_s,
        "access_expires_at_s": tokens.access.expires_at_s,
        "refresh_token": tokens.refresh,
        "refresh_expires_at": None if tokens.refresh_expires_at is None else tokens.refresh_expires_at.isoformat(),
    }


def _from_json(parsed: Any) -> LoginTokens:
    """Return the login, or raise whatever comes of taking anything else apart."""
    expires_at = parsed["refresh_expires_at"]
    home = parsed["home"]
    user, namespace = parsed["user"], parsed["namespace"]
    if isinstance(home, bool) or not isinstance(home, int | str | None):
        raise TypeError
    if not isinstance(user, str) or not isinstance(namespace, str):
        raise TypeError
    access = AccessToken(
        check_token(parsed["access_token"], "the file"),
        float(parsed["access_renew_at_s"]),
        float(parsed["access_expires_at_s"]),
    )
    return LoginTokens(
        access=access,
        refresh=check_token(parsed["refresh_token"], "the file"),
        refresh_expires_at=None if expires_at is None else datetime.fromisoformat(expires_at),
        user=user,
        home=home,
        namespace_id=int(parsed["namespace_id"]),
        namespace_name=namespace,
    )
