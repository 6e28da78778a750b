"""What it takes for a change of the file system to outlive a power cut: syncing a file alone does not keep its name."""

from __future__ import annotations

import os
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Make what was created, renamed or removed in ``path`` survive a power cut.

    Raises:
        OSError: the disk refused.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(path: Path) -> None:
    """Put a directory of plain files on the disk, with all that is in it.

    Raises:
        OSError: the disk refused.
    """
    for entry in path.iterdir():
        if entry.is_dir():
            sync_tree(entry)
            continue
        handle = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    sync_directory(path)
