"""What is done to a repository besides adding to it: reading all of it to see that it is whole, and pruning."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.repository.manifest import BACKUP_ID, BackupFile, Manifest
from prefixdb.repository.objects import READ_BYTES
from prefixdb.repository.places import Lease
from prefixdb.repository.repository import BACKUPS, Entry, Repository, distinct, object_path

OnProgress = Callable[[int, int], None]
"""Called with bytes or things done and all of them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something of a repository that is not as it should be.

    Attributes:
        place: where.
        what: a sentence.
        backups: ids of those that cannot be restored because of it.
    """

    place: str
    what: str
    backups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """What reading a repository came to."""

    backups: int
    objects: int
    bytes: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Pruning:
    """What a prune removes, and what it leaves.

    Attributes:
        keep: ids, the oldest first.
        remove: ids, the oldest first.
        objects: SHA-256 of what no backup needs then.
        bytes: their size.
        unfinished: how many of ``objects`` no backup needs even now: interrupted backups left them.
    """

    keep: tuple[str, ...]
    remove: tuple[str, ...]
    objects: tuple[str, ...]
    bytes: int
    unfinished: int


def check_files(repository: Repository, manifests: Iterable[Manifest], on_progress: OnProgress) -> Checked:
    """Read every file of these backups, each distinct one once, and hold it against its SHA-256.

    Args:
        repository: whose lock the caller holds.
        manifests: what to check.
        on_progress: called with bytes read and bytes to read.
    """
    needed: dict[str, BackupFile] = {}
    users: dict[str, list[str]] = {}
    chosen = list(manifests)
    for manifest in chosen:
        for file in {file.sha256: file for file in manifest.files}.values():
            needed.setdefault(file.sha256, file)
            users.setdefault(file.sha256, []).append(manifest.id)
    total, done, findings = sum(file.size for file in needed.values()), 0, []
    on_progress(0, total)
    for file in needed.values():
        try:
            with repository.read(file) as opened:
                while data := opened.read(READ_BYTES):
                    done += len(data)
                    on_progress(done, total)
        except PrefixdbError as failure:
            place = failure.metadata.get("place", object_path(file.sha256))
            findings.append(Finding(place, failure.message, tuple(users[file.sha256])))
    return Checked(len(chosen), len(needed), total, tuple(findings))


def check_names(repository: Repository) -> list[Finding]:
    """Return what belongs into no repository, and manifests that cannot be used."""
    findings = [
        Finding(entry.problem.metadata.get("place", entry.id), entry.problem.message, (entry.id,))
        for entry in repository.entries()
        if entry.problem is not None
    ]
    known = {finding.place for finding in findings}
    for path in repository.strangers():
        place = f"{repository.place.name.rstrip('/')}/{path}"
        if place not in known:
            findings.append(Finding(place, f"{place} does not belong into a repository of backups."))
    return findings


def plan_prune(repository: Repository, keep: int) -> Pruning:
    """Return what a prune would do that leaves the newest ``keep`` backups.

    Args:
        repository: whose lock the caller holds, alone if the plan is to be carried out.
        keep: at least 1.

    Raises:
        PrefixdbError: a manifest among those that stay cannot be used: nobody knows which objects it needs. One among
            those that go is removed whatever it holds.
    """
    if keep < 1:
        raise error(Reason.BAD_FIELD, "A prune keeps at least one backup.", metadata={"field": "keep"})
    entries = repository.entries()
    staying, going = entries[-keep:], entries[:-keep]
    present = repository.objects()
    wanted: set[str] = set()
    for entry in staying:
        wanted |= _objects_of(entry)
    named = set(wanted)
    for entry in going:
        if not BACKUP_ID.fullmatch(entry.id):
            _objects_of(entry)  # No manifest by its name: it is not for a prune to remove.
        named |= set() if entry.manifest is None else distinct(entry.manifest.files).keys()
    unneeded = sorted(present.keys() - wanted)
    return Pruning(
        keep=tuple(entry.id for entry in staying),
        remove=tuple(entry.id for entry in going),
        objects=tuple(unneeded),
        bytes=sum(present[digest] for digest in unneeded),
        unfinished=sum(digest not in named for digest in unneeded),
    )


def prune(repository: Repository, plan: Pruning, lease: Lease, on_progress: OnProgress) -> None:
    """Remove what ``plan`` says: manifests first, so that no backup is ever there in part.

    Args:
        repository: the one of the plan.
        plan: made while ``lease`` was held.
        lease: the repository's lock, held alone.
        on_progress: called with files removed and files to remove.
    """
    total = len(plan.remove) + len(plan.objects)
    on_progress(0, total)
    for number, backup_id in enumerate(plan.remove, 1):
        lease.keep()
        repository.place.remove(f"{BACKUPS}/{backup_id}.json")
        on_progress(number, total)
    repository.place.settle()
    for number, digest in enumerate(plan.objects, len(plan.remove) + 1):
        lease.keep()
        repository.place.remove(object_path(digest))
        on_progress(number, total)
    repository.place.clean()
    repository.place.settle()


def _objects_of(entry: Entry) -> set[str]:
    if entry.manifest is None:
        problem = entry.problem or error(Reason.ARCHIVE_INVALID)
        problem.add_note(
            "Nothing is removed while a backup that stays cannot be read: nobody knows what it needs. Put its manifest "
            "right, or move it out of the repository."
        )
        raise problem
    return set(distinct(entry.manifest.files))
