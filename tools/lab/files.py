"""Looks at a data directory from outside: sizes as the file system counts them, and bytes wherever they may lie."""

from __future__ import annotations

from pathlib import Path

_CHUNK_BYTES = 4 * 1024 * 1024


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
    """Return the files that hold ``needle`` anywhere, also across two reads; for directories nobody writes to."""
    return [path for path in sorted(directory.rglob("*")) if path.is_file() and _holds(path, needle)]


def _holds(path: Path, needle: bytes) -> bool:
    tail = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            if needle in tail + chunk:
                return True
            tail = chunk[-(len(needle) - 1) :]
    return False
