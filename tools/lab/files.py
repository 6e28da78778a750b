"""Looks at a data directory from outside: sizes as the file system counts them, and bytes wherever they may lie."""

from __future__ import annotations

import random
from pathlib import Path

_CHUNK_BYTES = 4 * 1024 * 1024
_VALUE_BYTES = 64 * 1024


def disk_bytes(directory: Path) -> int:
    """Return what ``du`` says: bytes of all blocks of all files, each inode once."""
    seen: dict[tuple[int, int], int] = {}
    for path in directory.rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:  # The engine removes files while we look.
            continue
        seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def files_with(directory: Path, needle: bytes) -> list[Path]:
    """Return the files that hold ``needle`` anywhere, also across two reads.

    Files are compressed: look for bytes of a value that cannot be, see ``incompressible``.
    """
    return [path for path in sorted(directory.rglob("*")) if path.is_file() and _holds(path, needle)]


def incompressible(seed: str) -> tuple[bytes, bytes]:
    """Return a value that no compression can make smaller, and bytes of its middle to look for in raw files.

    It is larger than any block, so that it is not packed together with others.
    """
    value = random.Random(seed).randbytes(_VALUE_BYTES)
    return value, value[_VALUE_BYTES // 2 : _VALUE_BYTES // 2 + 32]


def _holds(path: Path, needle: bytes) -> bool:
    tail = b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                if needle in tail + chunk:
                    return True
                tail = chunk[-(len(needle) - 1) :]
    except FileNotFoundError:  # Removed since it was listed: then it is not there.
        return False
    return False
