"""What exports, imports, restores and clones return, and how far they are."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from prefixdb.archive.contents import Footer
from prefixdb.client.models_server import Namespace
from prefixdb.v1 import transfer_pb2


class ConflictPolicy(enum.Enum):
    """What happens to a row whose key exists."""

    FAIL = "fail"
    """Nothing is imported: ``AlreadyExistsError`` with IMPORT_CONFLICT."""
    SKIP = "skip"
    """The row that is there stays."""
    OVERWRITE = "overwrite"
    """The archive's row takes its place."""


class TransferPhase(enum.Enum):
    """Where an import, a restore or a clone is."""

    READY = transfer_pb2.TRANSFER_PHASE_READY
    RECEIVING = transfer_pb2.TRANSFER_PHASE_RECEIVING
    CHECKING = transfer_pb2.TRANSFER_PHASE_CHECKING
    APPLYING = transfer_pb2.TRANSFER_PHASE_APPLYING
    DONE = transfer_pb2.TRANSFER_PHASE_DONE


@dataclass(frozen=True, slots=True)
class ExportedFrame:
    """One frame of an archive on its way.

    Attributes:
        frame: its bytes.
        rows_done: rows up to this frame.
        rows_estimate: about how many there are; 0 when nothing is known.
        footer: what the archive holds, with its last frame.
    """

    frame: bytes = field(repr=False)
    rows_done: int
    rows_estimate: int
    footer: Footer | None


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote. Groups and members are 0 unless they were asked for."""

    rows: int
    bytes: int
    groups: int
    members: int


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far something is.

    Attributes:
        phase: what the server is doing.
        rows_received: rows the server has.
        rows_done: rows dealt with in this phase.
        rows_total: rows there are in all; 0 while that is not known.
        share_sent: share of the source that was read, 0.0 .. 1.0; 0.0 when its size is not known.
    """

    phase: TransferPhase
    rows_received: int
    rows_done: int
    rows_total: int = 0
    share_sent: float = 0.0


OnProgress = Callable[[TransferProgress], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did; of a dry run, what it would do.

    Attributes:
        received: rows that came.
        inserted: rows whose key was new.
        replaced: rows that took another's place.
        skipped: rows left out, because a row was there.
        expired: rows left out, because their lifetime was over.
        way: "files" when sorted files were taken in whole, "batches" when rows were written in batches.
        upload: id of the upload.
    """

    received: int
    inserted: int
    replaced: int
    skipped: int
    expired: int
    way: str
    upload: str


@dataclass(frozen=True, slots=True)
class PlacedNamespace:
    """A namespace that was made from an archive or from another namespace, and what came into it."""

    namespace: Namespace
    rows: int
    expired: int
    groups: int
    members: int


def imported_of(message: transfer_pb2.ImportResponse, upload: str) -> Imported:
    """Return what an import did."""
    return Imported(
        received=message.rows_received,
        inserted=message.rows_inserted,
        replaced=message.rows_replaced,
        skipped=message.rows_skipped,
        expired=message.rows_expired,
        way=message.way,
        upload=upload,
    )
