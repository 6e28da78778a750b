"""Where secrets come from: a string, or a file that is read again when it changes.

A secret is never part of a ``repr``, a message or a log line. Short-lived tokens need no code of the caller's: whoever
renews the file, the client notices by its time stamp, and looks once more before it gives up on TOKEN_EXPIRED.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefixdb.errors import Reason, error
from prefixdb.limits import TOKEN_BYTES_MAX

CHECK_INTERVAL_S = 1.0
"""How often a token file's time stamp is looked at: a stat per call would cost more than it helps."""


class TokenSource:
    """A token, from memory or from a file.

    Thread-safe: a race can at worst read the file twice.
    """

    def __init__(self, token: str | None = None, token_file: Path | None = None) -> None:
        self._file = token_file
        self._token = check_token(token, "the argument") if token is not None else None
        self._stamp: tuple[int, int] | None = None
        self._look_at = 0.0

    def __repr__(self) -> str:
        kind = "file" if self._file is not None else "memory" if self._token is not None else "none"
        return f"TokenSource(from {kind})"

    def token(self) -> str | None:
        """Return the token to use now; None when the client has none.

        Raises:
            UnauthenticatedError: TOKEN_MISSING when the file cannot be read or holds no token.
        """
        if self._file is not None and time.monotonic() >= self._look_at:
            self._read_if_changed(self._file)
        return self._token

    def reload(self) -> bool:
        """Read the file at once; True when it holds another token than before."""
        if self._file is None:
            return False
        before = self._token
        self._stamp = None
        self._read_if_changed(self._file)
        return self._token != before

    def _read_if_changed(self, file: Path) -> None:
        text = None
        try:
            facts = file.stat()
            stamp = (facts.st_mtime_ns, facts.st_ino)
            if stamp != self._stamp:
                text = file.read_text(encoding="utf-8")
        except OSError as cause:
            message = f"The token file {file} cannot be read: {cause.strerror or cause}."
            raise error(Reason.TOKEN_MISSING, message) from cause
        except UnicodeDecodeError:
            # `from None`: the codec's error quotes the bytes of the file.
            raise error(Reason.TOKEN_MISSING, f"The token file {file} is not text.") from None
        if text is not None:
            # Outside the try: our own error is a PermissionError, and so an OSError.
            self._token = check_token(text, f"the file {file}")
            self._stamp = stamp
        self._look_at = time.monotonic() + CHECK_INTERVAL_S


class Password:
    """A password, from memory or from a file, which is read anew every time."""

    def __init__(self, text: str | None, file: Path | None) -> None:
        self._text = text
        self._file = file
        self._outdated: str | None = None

    def __repr__(self) -> str:
        return f"Password(from {'memory' if self._file is None else 'file'})"

    def __bool__(self) -> bool:
        """True when there is one."""
        return self._text is not None or self._file is not None

    def read(self) -> str:
        """Return the password: the first line of the file, without its line end.

        Raises:
            UnauthenticatedError: TOKEN_MISSING when the file cannot be read or is empty.
        """
        if self._file is None:
            return self._text or ""
        try:
            with self._file.open(encoding="utf-8", newline="") as file:
                line = file.readline()
        except OSError as cause:
            message = f"The password file {self._file} cannot be read: {cause.strerror or cause}."
            raise error(Reason.TOKEN_MISSING, message) from cause
        except UnicodeDecodeError:
            # `from None`: the codec's error quotes the bytes of the file.
            raise error(Reason.TOKEN_MISSING, f"The password file {self._file} is not text.") from None
        password = line.removesuffix("\n").removesuffix("\r")
        if not password:
            raise error(Reason.TOKEN_MISSING, f"There is no password in the first line of {self._file}.")
        if password == self._outdated and self._text is not None:
            return self._text
        return password

    def replace(self, old: str, new: str) -> None:
        """Note that the password was changed: a file that still has the old one is behind."""
        if self:
            self._outdated, self._text = old, new


def check_token(text: str, where: str) -> str:
    """Return the token in ``text``, or refuse what cannot be one before it goes into a header."""
    token = text.strip()
    if not token:
        raise error(Reason.TOKEN_MISSING, f"There is no token in {where}: it is empty.")
    if len(token) > TOKEN_BYTES_MAX or not token.isascii() or not token.isprintable() or " " in token:
        message = f"There is no token in {where}: a token is one word of at most {TOKEN_BYTES_MAX} characters."
        raise error(Reason.TOKEN_INVALID, message)
    return token


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a token says about itself. Nothing of it was verified."""

    algorithm: str
    key_id: str
    issuer: str
    subject: str
    namespace_id: int | None
    incarnation: int | None
    groups: tuple[str, ...]
    guardian: str
    jti: str
    issued_at: datetime | None
    expires_at: datetime | None


def inspect_token(token: str) -> TokenClaims:
    """Return the claims of a token without verifying it and without asking a server.

    Raises:
        InvalidArgumentError: BAD_FIELD when it is no JSON Web Token.
    """
    parts = token.strip().split(".")
    if len(parts) != 3:
        raise error(Reason.BAD_FIELD, "This is no token: a token is three parts with dots between them.")
    header, claims = _json_part(parts[0]), _json_part(parts[1])
    groups = claims.get("groups")
    return TokenClaims(
        algorithm=_text(header, "alg"),
        key_id=_text(header, "kid"),
        issuer=_text(claims, "iss"),
        subject=_text(claims, "sub"),
        namespace_id=_number(claims, "ns"),
        incarnation=_number(claims, "inc"),
        groups=tuple(str(group) for group in groups) if isinstance(groups, list) else (),
        guardian=_text(claims, "guardian"),
        jti=_text(claims, "jti"),
        issued_at=_instant(claims, "iat"),
        expires_at=_instant(claims, "exp"),
    )


def _json_part(part: str) -> dict[str, Any]:
    """Return one base64url part as a JSON object; the error never quotes it."""
    try:
        parsed = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise error(Reason.BAD_FIELD, "This is no token: its parts are not base64url JSON objects.")
    return parsed


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""


def _number(claims: dict[str, Any], name: str) -> int | None:
    """Return a decimal-string claim; ids travel as text because a JSON number loses bits above 2^53."""
    value = claims.get(name)
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20 else None


def _instant(claims: dict[str, Any], name: str) -> datetime | None:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**37:
        return None
    return datetime.fromtimestamp(value, UTC)
