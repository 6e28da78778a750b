"""A repository of backups: every file of every backup once, under the SHA-256 of its content.

    REPO/prefixdb-repository.json                 says what this is; its bytes are ``MARK``
    REPO/objects/ab/abcd…                         a file of one or more backups, under its SHA-256 in 64 hex digits
    REPO/backups/20261122T110000Z-1a2b3c4d.json   one backup, see ``manifest``
    REPO/LOCK                                     a directory's lock; behind a URL REPO/locks/, see ``remote``
    REPO/tmp/                                     what is being written

A backup exists from the moment its manifest does, which is written last, whole and after everything it names is on
disk; it is gone from the moment its manifest is, which is removed first. So whatever is interrupted leaves only
objects that no manifest names: the next backup finds them useful, the next prune removes them.

``Repository`` blocks. It trusts nothing it reads: links, odd names, other sizes and other bytes are ARCHIVE_INVALID
with the place, before anything of them is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import KIB
from prefixdb.repository.bans import BANS_BYTES_MAX, BANS_NAME, BannedIssue, decode_bans, merged
from prefixdb.repository.manifest import (
    BACKUP_ID,
    MANIFEST_BYTES_MAX,
    BackupFile,
    Manifest,
    decode_manifest,
    encode_manifest,
    invalid,
)
from prefixdb.repository.objects import READ_BYTES, CheckedReader, ObjectWriter
from prefixdb.repository.places import Lease, Place, place_of

MARK_NAME = "prefixdb-repository.json"
MARK = b'{"format": 1, "kind": "prefixdb backups"}\n'
OBJECTS = "objects"
BACKUPS = "backups"

_OBJECT_PATH = re.compile(r"objects/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_MANIFEST_PATH = re.compile(rf"backups/({BACKUP_ID.pattern})\.json")
_EMPTY_NAMES = {"LOCK", "locks", "tmp"}
"""What a repository may have whose making was interrupted."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One manifest of a repository: what it says, or why it cannot be used."""

    id: str
    manifest: Manifest | None
    problem: PrefixdbError | None = None


class Repository:
    """See the module's docstring. Not thread-safe, but for one writer beside an abort, and beside
    a commit where ``place.is_local``.

    Args:
        place: where it lies; ``Repository.open`` and ``open_or_create`` make sure that it is one.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    def __repr__(self) -> str:
        return f"Repository({self.place.name})"

    @classmethod
    def open(cls, where: str | Path) -> Repository:
        """Return the repository of this directory or URL.

        Raises:
            InvalidArgumentError: BAD_FIELD; there is none, or no such URL can be used. ARCHIVE_INVALID; its mark is not
                right.
            FailedPreconditionError: FORMAT_TOO_NEW.
        """
        repository = cls(place_of(where))
        if not repository._marked():
            raise no_repository(repository.place.name)
        return repository

    @classmethod
    def open_or_create(cls, where: str | Path) -> Repository:
        """Return the repository of this directory or URL; made in one that is empty, or absent in one that is there.

        Raises:
            FailedPreconditionError: DIRECTORY_NOT_EMPTY; there is something else. BACKUP_RUNNING; somebody makes it.
        """
        repository = cls(place_of(where))
        if not repository._marked():
            repository._make()
        return repository

    def lock(self, *, exclusive: bool) -> Lease:
        """Take the repository's lock at once: alone to change it, shared to read from it. Use it as a context manager.

        Raises:
            FailedPreconditionError: BACKUP_RUNNING.
        """
        return self.place.lock(exclusive=exclusive)

    def entries(self, backup_id: str = "") -> list[Entry]:
        """Return every backup whose id begins so, the oldest first.

        What else lies among the manifests is an entry with a problem: nothing that counts backups passes over it.
        """
        found = [self._entry(name, path, size) for name, path, size in self._manifest_files(backup_id)]
        return sorted(found, key=lambda entry: (_second(entry), _instant(entry), entry.id))

    def newest_first(self) -> Iterator[Manifest]:
        """Yield every backup that can be read, about the newest first, reading no more of them than are asked for."""
        for name, path, size in sorted(self._manifest_files(), reverse=True):
            manifest = self._entry(name, path, size).manifest
            if manifest is not None:
                yield manifest

    def manifests(self) -> list[Manifest]:
        """Return every backup, the oldest first.

        Raises:
            PrefixdbError: one of them cannot be used; what depends on all of them must not go on without it.
        """
        found = []
        for entry in self.entries():
            if entry.manifest is None:
                raise cast("PrefixdbError", entry.problem)
            found.append(entry.manifest)
        return found

    def find(self, backup_id: str | None = None) -> Manifest:
        """Return the backup of this id, or of the only id that begins so; None for the newest.

        Raises:
            InvalidArgumentError: BAD_FIELD; there is none, or several begin so. ARCHIVE_INVALID; its manifest cannot be
                used.
        """
        entries = self.entries(backup_id or "")
        entries = [entry for entry in entries if entry.id == backup_id] or entries
        if not entries:
            which = "no backup yet" if backup_id is None else f"no backup {backup_id[:80]!r}"
            raise error(Reason.BAD_FIELD, f"{self.place.name} has {which}.", metadata={"field": "backup"})
        if backup_id is not None and len(entries) > 1:
            message = f"Several backups of {self.place.name} begin with {backup_id[:80]!r}; say more."
            raise error(Reason.BAD_FIELD, message, metadata={"field": "backup"})
        chosen = entries[-1]
        if chosen.manifest is None:
            raise cast("PrefixdbError", chosen.problem)
        return chosen.manifest

    def objects(self) -> dict[str, int]:
        """Return the size of every object by its SHA-256; other files there are not objects and left out."""
        found = {}
        for path, size in self.place.files(OBJECTS):
            name = _OBJECT_PATH.fullmatch(path)
            if name is not None:
                found[name[2]] = size
        return found

    def strangers(self) -> list[str]:
        """Return the paths of what belongs into no repository, sorted."""
        known = _EMPTY_NAMES | {MARK_NAME, OBJECTS, BACKUPS}
        found = [name for name in self.place.names() if name not in known]
        found += [path for path, _ in self.place.files(OBJECTS) if not _OBJECT_PATH.fullmatch(path)]
        return sorted(found + [path for path, _ in self.place.files(BACKUPS) if not _MANIFEST_PATH.fullmatch(path)])

    def read(self, file: BackupFile) -> BinaryIO:
        """Open a file of a backup. Its last read raises ARCHIVE_INVALID when its bytes are not those of the backup.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID; it is not there, no plain file or of another size.
        """
        path = object_path(file.sha256)
        try:
            opened = self.place.open(path)
        except FileNotFoundError as failure:
            raise invalid(self._named(path), f"is missing; it is {file.path} of a backup") from failure
        return cast("BinaryIO", CheckedReader(opened, file, self._named(path)))

    def write(self, file: BackupFile) -> ObjectWriter:
        """Begin an object that is to have the size and the SHA-256 of ``file``."""
        return ObjectWriter(self.place.create(object_path(file.sha256)), file)

    def add(self, manifest: Manifest) -> None:
        """Make a backup of what was written: from this call's return on it exists, also after a power cut.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID; a file of it is not there or has another size.
        """
        data = encode_manifest(manifest)
        present = self.objects()
        for file in manifest.files:
            if present.get(file.sha256) != file.size:
                raise invalid(self._named(object_path(file.sha256)), f"is missing; it is {file.path} of this backup")
        self.place.settle()
        self.place.put(f"{BACKUPS}/{manifest.id}.json", data)
        self.place.settle()

    def newer_bans(self, manifest: Manifest) -> list[BannedIssue]:
        """Return the bans of every backup here that is not older than ``manifest``, its own left out, merged.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID; one of them cannot be read: its bans could be missed.
        """
        lists: dict[str, list[BannedIssue]] = {}
        for other in self.manifests():
            digest = other.file(BANS_NAME).sha256
            if other.id != manifest.id and other.taken_at_ms >= manifest.taken_at_ms and digest not in lists:
                lists[digest] = self.bans(other)
        return merged(ban for bans in lists.values() for ban in bans)

    def bans(self, manifest: Manifest) -> list[BannedIssue]:
        """Return the bans that a backup carries."""
        file = manifest.file(BANS_NAME)
        name = f"{BANS_NAME} of backup {manifest.id}"
        if file.size > BANS_BYTES_MAX:
            raise invalid(name, f"has more than {BANS_BYTES_MAX:,} bytes")
        with self.read(file) as opened:
            return decode_bans(b"".join(iter(lambda: opened.read(READ_BYTES), b"")), name)

    def _manifest_files(self, beginning: str = "") -> Iterator[tuple[str, str, int]]:
        """Yield id, path and size of what lies among the manifests; a stranger's id is its name."""
        for path, size in self.place.files(BACKUPS):
            name = _MANIFEST_PATH.fullmatch(path)
            found = name[1] if name is not None else path.partition("/")[2]
            if found.startswith(beginning):
                yield found, path, size

    def _entry(self, backup_id: str, path: str, size: int) -> Entry:
        """Return one of these, read."""
        place = self._named(path)
        if not _MANIFEST_PATH.fullmatch(path):
            return Entry(backup_id, None, invalid(place, "does not belong into a repository of backups"))
        try:
            if size > MANIFEST_BYTES_MAX:
                raise invalid(place, f"has more than {MANIFEST_BYTES_MAX:,} bytes")
            data = self.place.read(path, MANIFEST_BYTES_MAX)
            if data is None:
                raise invalid(place, "went away while it was read")
            manifest = decode_manifest(data, place)
            if manifest.id != backup_id:
                raise invalid(place, f"is the manifest of another backup, {manifest.id}")
        except PrefixdbError as problem:
            return Entry(backup_id, None, problem)
        return Entry(backup_id, manifest)

    def _marked(self) -> bool:
        """True when the place is a repository that this prefixdb can use."""
        try:
            data = self.place.read(MARK_NAME, 4 * KIB)
        except NotADirectoryError:
            raise no_repository(self.place.name) from None
        if data is None:
            return False
        if data == MARK:
            return True
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            content = None
        format_number = content.get("format") if isinstance(content, dict) else None
        if type(format_number) is int and format_number > 1:
            message = f"{self._named(MARK_NAME)} says format {format_number}; this prefixdb reads 1. Use a newer one."
            raise error(Reason.FORMAT_TOO_NEW, message, metadata={"place": self._named(MARK_NAME)})
        raise invalid(self._named(MARK_NAME), "was changed or damaged; it has one exact content")

    def _make(self) -> None:
        """Make a repository where there is nothing yet."""
        self._check_empty()
        self.place.prepare()
        with self.lock(exclusive=True):
            if self._marked():
                return
            self._check_empty()
            self.place.put(MARK_NAME, MARK)
            self.place.settle()

    def _check_empty(self) -> None:
        if any(name not in _EMPTY_NAMES for name in self.place.names()):
            message = f"{self.place.name} is not empty and no repository of backups; choose another place."
            raise error(Reason.DIRECTORY_NOT_EMPTY, message, metadata={"place": self.place.name})

    def _named(self, path: str) -> str:
        return f"{self.place.name.rstrip('/')}/{path}"


class StoredBackup:
    """One backup of a repository, as a restore takes it."""

    def __init__(self, repository: Repository, manifest: Manifest) -> None:
        self._repository = repository
        self._manifest = manifest
        self._files = {file.path: file for file in manifest.files}

    @property
    def manifest(self) -> Manifest:
        """What the backup is of, and its files."""
        return self._manifest

    @property
    def is_local(self) -> bool:
        """True when the repository is a directory of this machine."""
        return self._repository.place.is_local

    def open(self, path: str) -> BinaryIO:
        """Open one of the manifest's files for reading; see ``Repository.read``."""
        return self._repository.read(self._files[path])


def object_path(sha256: str) -> str:
    """Return where an object lies below the repository."""
    return f"{OBJECTS}/{sha256[:2]}/{sha256}"


def distinct(files: Iterable[BackupFile]) -> dict[str, int]:
    """Return size by SHA-256 of these files: what they need in a repository."""
    return {file.sha256: file.size for file in files}


def no_repository(name: str) -> PrefixdbError:
    """Return the error of a place that is no repository."""
    return error(Reason.BAD_FIELD, f"{name} is no repository of backups.", metadata={"field": "repository"})


def _second(entry: Entry) -> str:
    return entry.id[:16]


def _instant(entry: Entry) -> int:
    return 0 if entry.manifest is None else entry.manifest.taken_at_ms
