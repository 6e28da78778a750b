"""Writing a secret so that nobody else can ever read it and a crash leaves either the old file or the new one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from prefixdb.disk import sync_directory


def write_secret(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` with mode 0600, atomically and durably, replacing what was there.

    The temporary file is created exclusively with its final mode, so there is no moment in which others may read it,
    and no link that was planted under its name is followed.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
