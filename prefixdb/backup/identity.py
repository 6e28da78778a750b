"""The name of a data directory, by which a repository tells whose backups it holds.

    DATA/store-id := 32 hex digits and a line end, drawn when the first backup asks

It is no part of a backup: a restored directory goes on as another one, whose versions and numbers may come to mean
something else than those of the one it was taken from.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from prefixdb.catalog.files import write_secret
from prefixdb.errors import Reason, error

STORE_ID_NAME = "store-id"

_STORE_ID = re.compile(r"([0-9a-f]{32})\n", re.ASCII)


def store_id(data_dir: Path) -> str:
    """Return the directory's name, drawn and written when there is none. Blocks on the disk.

    Raises:
        DataLossError: CORRUPTION, the file holds something else.
    """
    path = data_dir / STORE_ID_NAME
    try:
        found = _STORE_ID.fullmatch(path.read_text(encoding="ascii", errors="replace"))
    except FileNotFoundError:
        drawn = secrets.token_hex(16)
        write_secret(path, drawn.encode("ascii") + b"\n")
        return drawn
    if found is None:
        raise error(Reason.CORRUPTION, f"{path} is no name of a data directory; remove it to have another one drawn.")
    return found[1]
