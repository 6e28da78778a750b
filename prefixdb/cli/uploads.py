"""Uploads that were interrupted: what this machine remembers of them, so that the same command goes on.

    $XDG_STATE_HOME/prefixdb/uploads/<hash of what is sent where>.json       {"upload", "created_at_ms"}

Kept from the first byte until the server has said what became of it. It holds no key, value or token, only the id the
server knows the upload by; whoever has that still needs the token. Locked by the command that uses it: a second one of
the same words makes an upload of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefixdb.cli.settings import Settings
from prefixdb.limits import IMPORT_KEPT_MS

_STATE_BYTES_MAX = 4096


@dataclass(slots=True)
class Upload:
    """One upload.

    Attributes:
        id: what the server knows it by.
        created_at_ms: when it was begun. A text's lifetimes count from here, so that its frames come out the same.
        resumed: whether an earlier command began it.
        over: set it when the server has said what became of it.
    """

    id: str
    created_at_ms: int
    resumed: bool
    over: bool = False


@contextmanager
def kept_upload(
    settings: Settings, source: Path | None, wishes: Mapping[str, object], *, anew: bool
) -> Iterator[Upload]:
    """Yield the upload of ``source``, remembered until it is over.

    Args:
        settings: where it goes, and as whom.
        source: the file or directory; None for what cannot be given again, which is not remembered.
        wishes: whatever else makes this command what it is.
        anew: forget an earlier one.
    """
    fresh = Upload(secrets.token_hex(16), time.time_ns() // 1_000_000, False)
    path = None if source is None else _place(settings, source, wishes)
    descriptor = None if path is None else _locked(path)
    if path is None or descriptor is None:
        yield fresh
        return
    try:
        upload = (None if anew else _read(descriptor)) or fresh
        if not upload.resumed:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"upload": upload.id, "created_at_ms": upload.created_at_ms}).encode(), 0)
        try:
            yield upload
        finally:
            if upload.over:
                path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _place(settings: Settings, source: Path, wishes: Mapping[str, object]) -> Path:
    """Return the file for what is sent where: another file, or a changed one, has another."""
    facts = source.stat()
    what = [str(source.resolve()), facts.st_size, facts.st_mtime_ns, facts.st_ino]
    where = [str(settings.by_name[name].value) for name in ("endpoint", "profile", "namespace", "token_file")]
    name = hashlib.sha256(json.dumps([what, where, sorted(wishes.items())], default=str).encode()).hexdigest()[:32]
    return _directory() / f"{name}.json"


def _directory() -> Path:
    base = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification says to ignore a relative path.
    state = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return state / "prefixdb" / "uploads"


def _locked(path: Path) -> int | None:
    """Return the open file, locked; None when another process has it, or nothing can be remembered here."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        # A home that is read-only or missing costs the going on, not the upload.
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _read(descriptor: int) -> Upload | None:
    """Return the upload that is remembered; None when there is none, or the server has forgotten it by now."""
    try:
        kept = json.loads(os.pread(descriptor, _STATE_BYTES_MAX, 0))
        upload = Upload(kept["upload"], kept["created_at_ms"], True)
        age_ms = time.time_ns() // 1_000_000 - upload.created_at_ms
    except (ValueError, KeyError, TypeError):
        return None
    known = isinstance(upload.id, str) and len(upload.id) == 32 and set(upload.id) <= set("0123456789abcdef")
    return upload if known and 0 <= age_ms < IMPORT_KEPT_MS else None
