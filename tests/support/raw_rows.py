"""What really lies under a prefix in a closed database, seen by the bare engine: nothing is hidden."""

from __future__ import annotations

from pathlib import Path

import rocksdict


def raw_rows(database_dir: Path, namespace_id: int) -> int:
    """Count every row under a namespace's prefix; ``database_dir`` is the engine's own directory."""
    options = rocksdict.Options(raw_mode=True)
    access = rocksdict.AccessType.read_only()
    database = rocksdict.Rdict(str(database_dir), options, {"default": options}, access)
    try:
        prefix, count = namespace_id.to_bytes(8, "big"), 0
        walk = database.iter()
        walk.seek(prefix)
        while walk.valid() and bytes(walk.key()).startswith(prefix):
            count += 1
            walk.next()
        walk.status()
        del walk
        return count
    finally:
        database.close()
