"""The name of a data directory, by which a repository tells whose backups it holds.

    DATA/store-id := name [name of the directory whose backup this one was restored from]
    name          := 32 hex digits and a line end, drawn when the first backup asks

It is no part of a backup: a restored directory goes on as another one, whose versions and numbers may come to mean
something else than those of the one it was taken from. It remembers that one, for its own backups belong beside it.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import NamedTuple

from prefixdb.catalog.files import write_secret
from prefixdb.errors import Reason, error

STORE_ID_NAME = "store-id"

_STORE_ID = re.compile(r"([0-9a-f]{32})\n(?:([0-9a-f]{32})\n)?", re.ASCII)


class Identity(NamedTuple):
    """A data directory's name, and that of the one whose backup it was restored from; empty for none."""

    store_id: str
    restored_from: str


def write_identity(data_dir: Path, restored_from: str) -> None:
    """Give a directory that is being restored a name of its own. Blocks on the disk."""
    known = restored_from if re.fullmatch("[0-9a-f]{32}", restored_from) else ""
    lines = [secrets.token_hex(16), *([known] if known else [])]
    write_secret(data_dir / STORE_ID_NAME, "".join(f"{line}\n" for line in lines).encode("ascii"))


def identity(data_dir: Path) -> Identity:
    """Return the directory's name, drawn and written when there is none. Blocks on the disk.

    Raises:
        DataLossError: CORRUPTION, the file holds something else.
    """
    path = data_dir / STORE_ID_NAME
    try:
        found = _STORE_ID.fullmatch(path.read_text(encoding="ascii", errors="replace"))
    except FileNotFoundError:
        write_identity(data_dir, "")
        return identity(data_dir)
    if found is None:
        raise error(Reason.CORRUPTION, f"{path} is no name of a data directory; remove it to have another one drawn.")
    return Identity(found[1], found[2] or "")
