"""What lies beside the database in a damaged directory, taken over into a new one: keys, audit, whatever else.

Whoever owns the damaged directory may not be whoever recovers it, who is often root. So everything is opened before it
is looked at, and neither a link nor a file of somebody else is a way to have another file copied into a directory that
will be given to the server. What is written is for its owner alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from prefixdb.store.copying import copy_open, open_entry

_SPOOLS = "imports"


def copy_beside(data_dir: Path, new: Path, not_taken: Collection[str]) -> list[str]:
    """Copy everything but ``not_taken`` from one data directory into another; return what was left out, and why."""
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        copying = _Copying(os.fstat(folder).st_uid)
        for name in _names(folder):
            if name not in not_taken:
                copying.copy(folder, name, new)
    finally:
        os.close(folder)
    return copying.left_out


class _Copying:
    """One taking over. owner: of the directory, as a number."""

    def __init__(self, owner: int) -> None:
        self._owner = owner
        self.left_out: list[str] = []

    def copy(self, folder: int, name: str, target: Path, above: str = "") -> None:
        """Copy one entry of an open directory into ``target``; ``above`` is the path of the directory."""
        shown = above + name
        descriptor = open_entry(name, folder=folder)
        if descriptor is None:
            self.left_out.append(f"{shown}, a link or no ordinary file")
            return
        facts = os.fstat(descriptor)
        if facts.st_uid != self._owner:
            os.close(descriptor)
            self.left_out.append(f"{shown}, which belongs to somebody else")
        elif stat.S_ISREG(facts.st_mode):
            copy_open(descriptor, target / name)
        else:
            try:
                self._copy_directory(descriptor, target / name, shown)
            finally:
                os.close(descriptor)

    def _copy_directory(self, folder: int, target: Path, shown: str) -> None:
        names = _names(folder)
        if shown == _SPOOLS:
            if names:
                self.left_out.append(f"{shown}/, uploads that were not finished")
            return
        target.mkdir(mode=0o700)
        for name in names:
            self.copy(folder, name, target, f"{shown}/")


def _names(folder: int) -> list[str]:
    return sorted(os.listdir(folder))
