"""Files that nobody but their owner may read, whoever makes them: the engine asks for no mode of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_OWNER_ONLY = 0o077


@contextmanager
def private_files() -> Iterator[None]:
    """Make every file of mode 0600 and every directory of mode 0700 while inside; also a decorator of a command."""
    before = os.umask(_OWNER_ONLY)
    try:
        yield
    finally:
        os.umask(before)
