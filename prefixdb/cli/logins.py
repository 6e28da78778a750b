"""The login that a profile keeps, as the command line looks at it: who, from where; never its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefixdb.cli.settings import namespace_text
from prefixdb.errors import UnauthenticatedError

if TYPE_CHECKING:
    from prefixdb.client.logins import LoginTokens

DEFAULT_NAMESPACE = "default"
"""The namespace that is always there, home of the cluster's guardians; its id is 0."""


def kept_login(path: Path | None) -> LoginTokens | None:
    """Return the login in a file; None when there is none, or none that can be read."""
    if path is None:
        return None
    from prefixdb.client.login_file import LoginFile

    try:
        return LoginFile(path).read()
    except UnauthenticatedError:
        return None


def home_words(home: int | str | None) -> str:
    """Return where a member belongs, as people call it; a login that says nothing is of the default namespace."""
    return namespace_text(home) if home else DEFAULT_NAMESPACE


def of_default(login: LoginTokens | None) -> bool:
    """True for the login of a member of the default namespace, who may use others by a grant."""
    return login is not None and home_words(login.home) == DEFAULT_NAMESPACE
