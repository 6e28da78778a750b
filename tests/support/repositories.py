"""Repositories of backups made by hand: small files, whatever a test wants in them, and no server."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from prefixdb.repository.manifest import BackupFile, Manifest, new_backup_id
from prefixdb.repository.repository import Repository

NOON_MS = 1_700_000_000_000
"""When the first backup of a test was taken."""

CONTENT: dict[str, bytes] = {
    "bans.jsonl": b"",
    "db/000009.sst": b"rows" * 1000,
    "db/CURRENT": b"MANIFEST-000005\n",
    "db/MANIFEST-000005": b"edits",
    "db/OPTIONS-000007": b"options",
    "store-state.json": b'{"format": 1}',
}


def digest(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def files_of(content: Mapping[str, bytes]) -> tuple[BackupFile, ...]:
    """Return the files of a manifest with this content."""
    return tuple(BackupFile(path, len(data), digest(data)) for path, data in sorted(content.items()))


def manifest_of(content: Mapping[str, bytes], taken_at_ms: int = NOON_MS, **facts: object) -> Manifest:
    """Return a manifest of this content."""
    known: dict[str, object] = {
        "id": new_backup_id(taken_at_ms),
        "taken_at_ms": taken_at_ms,
        "server_version": "0.1.0",
        "store": "native",
        "engine": "RocksDB 7.8.3",
        "store_id": "aa" * 16,
        "last_version": 42,
        "namespaces_live": 1,
        "namespaces_banned": 0,
        "files": files_of(content),
    }
    return Manifest(**(known | facts))  # type: ignore[arg-type]


def put_objects(repository: Repository, content: Mapping[str, bytes]) -> None:
    """Store the files of a content that are not there yet."""
    present = repository.objects()
    for file in files_of(content):
        if present.get(file.sha256) != file.size:
            writer = repository.write(file)
            writer.write(content[file.path])
            writer.commit()
            present[file.sha256] = file.size


def put_backup(
    repository: Repository, content: Mapping[str, bytes] = CONTENT, taken_at_ms: int = NOON_MS, **facts: object
) -> Manifest:
    """Add a backup and return its manifest."""
    put_objects(repository, content)
    manifest = manifest_of(content, taken_at_ms, **facts)
    repository.add(manifest)
    return manifest


def object_file(root: Path, data: bytes) -> Path:
    """Return where a directory's repository keeps these bytes."""
    name = digest(data)
    return root / "objects" / name[:2] / name


def tree(root: Path) -> dict[str, bytes]:
    """Return every file below a directory by its path, without locks and what is being written."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "LOCK" and path.parent.name != "tmp"
    }
