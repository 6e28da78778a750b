"""What a backup's client decides by itself, without waiting for anybody: which files it lacks, and how fast to go."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prefixdb.errors import PrefixdbError, Reason, bad_field, error
from prefixdb.limits import BACKUP_FILES_MAX, KIB
from prefixdb.repository.bans import BannedIssue
from prefixdb.repository.manifest import BackupFile, Manifest, check_manifest, new_backup_id
from prefixdb.repository.repository import Repository
from prefixdb.v1 import transfer_pb2

RATE_MIN = 64 * KIB
"""Slowest pace in bytes per second: the server gives up on a client that takes no message for a minute."""


@dataclass(frozen=True, slots=True)
class BackupProgress:
    """How far a backup is; ``doing`` is "reading" while the server reads its files, then "storing"."""

    doing: str
    bytes_done: int
    bytes_total: int


OnBackupProgress = Callable[[BackupProgress], None]


@dataclass(frozen=True, slots=True)
class CreatedBackup:
    """A backup that was made: its manifest, and how much of it was not in the repository yet."""

    manifest: Manifest
    files_new: int
    bytes_new: int


class Listing:
    """What the server says its backup consists of, page by page, and then the manifest of it."""

    def __init__(self) -> None:
        self._facts: transfer_pb2.BackupFacts | None = None
        self._files: list[BackupFile] = []

    def add(self, message: transfer_pb2.BackupResponse) -> bool:
        """Take a message that is no progress; True when it was the last page."""
        kind = message.WhichOneof("response")
        if kind == "facts" and self._facts is None:
            self._facts = message.facts
            return False
        if kind != "files" or self._facts is None:
            raise broken(f"it sent {kind or 'nothing'} where its list of files should be")
        if len(self._files) + len(message.files.files) > BACKUP_FILES_MAX:
            raise broken(f"it lists more than {BACKUP_FILES_MAX:,} files")
        self._files += [BackupFile(file.path, file.size, file.sha256.hex()) for file in message.files.files]
        return message.files.last

    @property
    def files(self) -> list[BackupFile]:
        """The files in the server's order, by which it is asked for them."""
        return self._files

    def manifest(self) -> Manifest:
        """Return the manifest of a new backup of this.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID; the server lists what no backup may have.
        """
        facts = self._facts or transfer_pb2.BackupFacts()
        taken_at_ms = facts.taken_at.ToMilliseconds()
        manifest = Manifest(
            id=new_backup_id(taken_at_ms),
            taken_at_ms=taken_at_ms,
            server_version=facts.server_version,
            store=facts.store,
            engine=facts.engine,
            store_id=facts.store_id,
            last_version=facts.last_version,
            namespaces_live=facts.namespaces_live,
            namespaces_banned=facts.namespaces_banned,
            files=tuple(sorted(self._files, key=lambda file: file.path)),
        )
        check_manifest(manifest, "the server's list of files")
        return manifest

    @property
    def restored_from(self) -> str:
        """The store whose backup this one was restored from; empty for none."""
        return "" if self._facts is None else self._facts.restored_from

    def lacking(self, present: dict[str, int]) -> list[int]:
        """Return the positions of the files whose bytes the repository lacks, ascending, each content once."""
        asked: set[str] = set()
        positions = []
        for position, file in enumerate(self._files):
            if present.get(file.sha256) != file.size and file.sha256 not in asked:
                asked.add(file.sha256)
                positions.append(position)
        return positions


class Pace:
    """Bounded bandwidth: how long to wait so that no more than ``rate`` bytes come in a second."""

    def __init__(self, rate: int | None) -> None:
        if rate is not None and rate < RATE_MIN:
            raise bad_field("rate", f"must be at least {RATE_MIN:,} bytes per second.")
        self._rate = rate
        self._free_at_s = 0.0

    def wait_s(self, count: int) -> float:
        """Return how long to wait after ``count`` bytes. What was not used is not saved up."""
        if self._rate is None:
            return 0.0
        now_s = time.monotonic()
        self._free_at_s = max(self._free_at_s, now_s) + count / self._rate
        return self._free_at_s - now_s


def check_family(repository: Repository, manifest: Manifest, restored_from: str = "") -> None:
    """Refuse to mix backups of strangers: a restore obeys the bans of every newer backup beside it.

    A store belongs to a repository that has a backup of it, or of the store it was restored from, or shares a data file
    with one: then it was restored from there by other means.

    Args:
        repository: where the backup is to go.
        manifest: the backup's.
        restored_from: the store whose backup this one was restored from, as the server says; empty for none.

    Raises:
        FailedPreconditionError: DIRECTORY_NOT_EMPTY.
    """
    mine = _data_files(manifest)
    other = False
    for known in repository.newest_first():
        if known.store_id in {manifest.store_id, restored_from or manifest.store_id} or mine & _data_files(known):
            return
        other = True
    if other:
        message = (
            f"{repository.place.name} has backups of another data directory than this server's. A repository is for "
            "one server, and for those restored from its backups: their bans are obeyed together."
        )
        facts = {"place": repository.place.name, "store_id": manifest.store_id}
        raise error(Reason.DIRECTORY_NOT_EMPTY, message, metadata=facts)


def check_room(repository: Repository, needed: int) -> None:
    """Refuse what cannot fit, before anything of it is sent.

    Raises:
        OSError: ENOSPC.
    """
    free = repository.place.free_bytes()
    if free is not None and free < needed:
        what = f"{needed:,} bytes are to be stored and {free:,} are free"
        raise OSError(errno.ENOSPC, what, repository.place.name)


def broken(what: str) -> PrefixdbError:
    """Return the error of a server that does not keep to the protocol."""
    return error(Reason.INTERNAL, f"The server's answer is no backup: {what}.")


def issues_of(bans: Iterable[transfer_pb2.BannedIssue]) -> list[BannedIssue]:
    """Return bans as they stand in a backup's list."""
    return [
        BannedIssue(
            namespace_id=ban.namespace_id,
            incarnation=ban.incarnation,
            name=ban.name,
            banned_at_ms=ban.banned_at.ToMilliseconds(),
            banned_by=ban.banned_by,
            reason=ban.reason,
            reclaim_after_ms=ban.reclaim_after.ToMilliseconds(),
            reclaimed=ban.reclaimed,
        )
        for ban in bans
    ]


def _data_files(manifest: Manifest) -> set[str]:
    return {file.sha256 for file in manifest.files if file.path.endswith(".sst") and file.size}
