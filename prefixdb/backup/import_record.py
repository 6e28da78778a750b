"""The record of one import, in the namespace it goes into: what it is, how far it is, and what became of it.

    IMPORT record key := digest of the subject 16 | upload id 16             the import
                         digest of the subject 16 | upload id 16 | attempt 8 the marker of sorted files

Writing it first, with phase RECEIVED, is the moment from which the server finishes the import by itself. Every batch of
rows has the next state of the record in the same commit, and is guarded by the version of the one before, so that no
crash, and no second worker either, can apply a batch twice or leave one out. Sorted files bring the marker with them: a
copy of the record as it is afterwards. An import that has ended keeps its record for as long as its client may ask.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from prefixdb.catalog import schema
from prefixdb.catalog.schema import Tag
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import RowKey, system_key
from prefixdb.records import decode_record, encode_record
from prefixdb.store.base import Row

SUBJECT_BYTES = 16
UPLOAD_BYTES = 16


class ImportPhase(enum.IntEnum):
    """Where an import is."""

    RECEIVED = 1
    """All of the archive is there and right; nothing is decided."""
    APPLYING = 2
    """It is decided how, and rows may be there."""
    DONE = 3
    FAILED = 4
    """Ended without a row, or at damage that the disk did meanwhile; ``reason`` says why."""


class OnConflict(enum.IntEnum):
    """What happens to a row whose key exists; equal to ``prefixdb.v1.ConflictPolicy``."""

    FAIL = 1
    SKIP = 2
    OVERWRITE = 3


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """One import.

    on_conflict: see ``OnConflict``.
    keep_order: rows keep the order of their versions.
    counts: the importer may read what it writes, so it may learn which keys existed.
    frames, digest: of the whole archive.
    rows, row_bytes: in the archive; bytes of keys and values.
    first, last: database and key of the first and the last row of a sorted archive; empty otherwise.
    way: "files" or "batches" once it is decided.
    blocks: reserved versions, (first, count), ascending; empty when versions are the commits' own.
    attempt: names the marker of sorted files.
    position: rows of the archive that have been dealt with.
    reason: name of why it failed; ``row_version`` is the version of the row the record was read from.
    """

    phase: ImportPhase
    on_conflict: OnConflict
    keep_order: bool = False
    counts: bool = True
    frames: int = 0
    digest: bytes = b""
    rows: int = 0
    row_bytes: int = 0
    first: bytes = field(default=b"", repr=False)
    last: bytes = field(default=b"", repr=False)
    way: str = ""
    blocks: tuple[tuple[int, int], ...] = ()
    attempt: int = 0
    position: int = 0
    inserted: int = 0
    replaced: int = 0
    skipped: int = 0
    expired: int = 0
    reason: str = ""
    row_version: int = 0

    @property
    def is_over(self) -> bool:
        """True when nothing will change any more."""
        return self.phase in (ImportPhase.DONE, ImportPhase.FAILED)

    def failed(self, failure: PrefixdbError) -> ImportRecord:
        """Return the record of an import that ended with ``failure``."""
        return replace(self, phase=ImportPhase.FAILED, reason=failure.reason.name)

    def failure(self) -> PrefixdbError | None:
        """Return why it failed, None when it did not."""
        if self.phase is not ImportPhase.FAILED:
            return None
        if self.reason == Reason.IMPORT_CONFLICT.name:
            return conflict(self.skipped)
        return error(Reason[self.reason] if self.reason in Reason.__members__ else Reason.INTERNAL)


def conflict(rows: int) -> PrefixdbError:
    """Return the error for an archive of which so many rows have keys that exist."""
    message = f"{rows} of the archive's keys exist already; nothing was imported."
    return error(Reason.IMPORT_CONFLICT, message, metadata={"rows": str(rows)})


def subject_digest(subject: str) -> bytes:
    """Return what stands for a subject in keys and file names, which are shorter than a name may be."""
    return hashlib.sha256(subject.encode()).digest()[:SUBJECT_BYTES]


def import_key(namespace_id: int, subject: bytes, upload: bytes) -> RowKey:
    """Return the key of an import's record; ``subject`` is its digest."""
    return system_key(namespace_id, Tag.IMPORT, subject + upload)


def marker_key(record_key: RowKey, attempt: int) -> RowKey:
    """Return the key of the marker of sorted files; never written before, for ``attempt`` is a version."""
    return RowKey(record_key + attempt.to_bytes(8))


def encode_import(record: ImportRecord) -> bytes:
    """Return the payload of an import's row."""
    fields = asdict(record)
    del fields["row_version"]
    fields |= {"phase": int(record.phase), "on_conflict": int(record.on_conflict)}
    return encode_record(fields)


def decode_import(row: Row) -> ImportRecord:
    """Return the import a row describes.

    Raises:
        DataLossError: CORRUPTION.
    """
    fields: dict[str, Any] = decode_record(row.payload)
    for name, kind in _TYPES.items():
        if type(fields.get(name)) is not kind or (kind is int and fields[name] < 0):
            raise schema.damaged()
    try:
        blocks = tuple((int(first), int(count)) for first, count in fields["blocks"])
        phase, on_conflict = ImportPhase(fields["phase"]), OnConflict(fields["on_conflict"])
    except (TypeError, ValueError):
        raise schema.damaged() from None
    known = {name: fields[name] for name in _TYPES}
    return ImportRecord(
        **known | {"phase": phase, "on_conflict": on_conflict, "blocks": blocks}, row_version=row.version
    )


_TYPES: dict[str, type[Any]] = {
    "phase": int,
    "on_conflict": int,
    "keep_order": bool,
    "counts": bool,
    "frames": int,
    "digest": bytes,
    "rows": int,
    "row_bytes": int,
    "first": bytes,
    "last": bytes,
    "way": str,
    "blocks": list,
    "attempt": int,
    "position": int,
    "inserted": int,
    "replaced": int,
    "skipped": int,
    "expired": int,
    "reason": str,
}
