"""What a recovery found and lost, as values; ``sentences`` says it to a person. No key and no value is in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from prefixdb.keycodec import namespace_of
from prefixdb.store.losses import Losses, LostTable, Stretch


@dataclass(slots=True)
class NamespaceRows:
    """The rows of one number.

    fate: ``kept``, or why they were left out. rows: readable ones. records: members, groups and the like among them.
    doubtful: kept ones of which something newer may have been lost. unreadable: no stored value; left out.
    """

    namespace_id: int
    name: str = ""
    state: str = ""
    fate: str = "kept"
    rows: int = 0
    records: int = 0
    doubtful: int = 0
    unreadable: int = 0
    earlier_issue: int = 0


@dataclass(slots=True)
class LossReport:
    """What became of a damaged data directory.

    side_file: why the side file could not be believed; empty when it was. catalog: what was mended in the catalog.
    namespaces: by number. foreign_rows: rows whose keys prefixdb does not write. left_out: files beside the database
    that were not taken over. written: the new directory is there.
    """

    source: str
    target: str
    losses: Losses
    side_file: str = ""
    catalog: list[str] = field(default_factory=list)
    namespaces: list[NamespaceRows] = field(default_factory=list)
    foreign_rows: int = 0
    left_out: list[str] = field(default_factory=list)
    sequence: int = 0
    written: bool = False

    @property
    def commits_lost(self) -> int:
        """How many numbers of acknowledged changes at the end are gone, as far as the side file knew."""
        return max(0, self.losses.acknowledged - self.losses.sequence)

    @property
    def lossless(self) -> bool:
        """True when everything that was ever acknowledged is in the new directory, and that is known."""
        losses = self.losses
        counted = any(
            each.doubtful or each.unreadable or each.earlier_issue or each.fate == NO_NAMESPACE
            for each in self.namespaces
        )
        return not (
            self.side_file
            or self.catalog
            or self.foreign_rows
            or self.commits_lost
            or losses.tables
            or losses.logs
            or losses.tail_damaged
            or losses.tables_uncertain
            or counted
        )

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        losses = self.losses
        return {
            "source": self.source,
            "target": self.target,
            "written": self.written,
            "lossless": self.lossless,
            "notes": [note for note in (self.side_file, *losses.notes) if note],
            "last_change_found": str(losses.sequence),
            "last_change_acknowledged": str(losses.acknowledged) if losses.acknowledged else None,
            "changes_lost": str(self.commits_lost),
            "tail_damaged": losses.tail_damaged,
            "tables_uncertain": losses.tables_uncertain,
            "tables_lost": [_table_json(table) for table in losses.tables],
            "logs_lost": [asdict(log) for log in losses.logs],
            "files_not_in_use": losses.obsolete,
            "catalog": self.catalog,
            "namespaces": [asdict(each) | {"namespace_id": str(each.namespace_id)} for each in self.namespaces],
            "foreign_rows": self.foreign_rows,
            "left_out": self.left_out,
            "versions_go_on_after": str(self.sequence),
        }

    def sentences(self) -> list[str]:
        """Return the report for people: what was lost first, the most important of it at the top."""
        losses = self.losses
        said = [note for note in (self.side_file, *losses.notes) if note]
        said += [_table_sentence(table, losses.stretches) for table in losses.tables]
        said += [f"Write-ahead log {log.name}: {log.why}." for log in losses.logs]
        said.append(self._changes_sentence())
        if losses.obsolete:
            said.append(f"Not in use, and left out: {', '.join(losses.obsolete)}.")
        said += self.catalog
        said += [_namespace_sentence(each) for each in self.namespaces]
        if self.foreign_rows:
            said.append(f"Left out: {self.foreign_rows} rows whose keys are not prefixdb's.")
        said += [f"Not taken over: {name}." for name in self.left_out]
        if not self.lossless:
            said.append(ADVICE)
        return said

    def _changes_sentence(self) -> str:
        losses = self.losses
        found = f"The last change that was found has number {losses.sequence}"
        if self.commits_lost:
            return (
                f"{found}, but {losses.acknowledged} were acknowledged: at least the last {self.commits_lost} changes "
                "of all namespaces together are lost, bans, revocations and passwords among them."
            )
        if losses.tail_damaged:
            return f"{found}; changes behind it are lost, nobody knows how many."
        if not losses.acknowledged:
            return f"{found}. Whether there were any behind it cannot be known without the side file."
        return f"{found}; nothing acknowledged at the end is missing."


KEPT = "kept"
NO_NAMESPACE = "left out: no namespace has this number"

ADVICE = (
    "What was lost may include bans, revoked tokens, changed passwords and removed members. Before letting anybody in: "
    "compare 'prefixdb ns bans' with audit.jsonl, and 'prefixdb key rotate' and remove the old keys if tokens had been "
    "revoked. Rows can be brought back from a backup with 'prefixdb backup restore'."
)


def _table_json(table: LostTable) -> dict[str, Any]:
    return {
        "name": table.name,
        "why": table.why,
        "partly": table.partly,
        "bytes": table.size,
        "level": table.level if table.level >= 0 else None,
        "first_namespace": _namespace_text(table.first_key),
        "last_namespace": _namespace_text(table.last_key),
        "first_change": str(table.first_sequence) if table.first_key is not None else None,
        "last_change": str(table.last_sequence) if table.first_key is not None else None,
    }


def _table_sentence(table: LostTable, stretches: list[Stretch]) -> str:
    if table.first_key is None:
        return f"Table file {table.name} ({table.size} bytes) is lost: {table.why}. Whose rows it held is not known."
    first, last = _namespace_text(table.first_key), _namespace_text(table.last_key)
    whose = f"namespace {first}" if first == last else f"namespaces {first} to {last}"
    held = f"changes {table.first_sequence} to {table.last_sequence} of {whose}"
    if not table.partly:
        return f"Table file {table.name} ({table.size} bytes) is lost: {table.why}. It held {held}."
    count = sum(1 for stretch in stretches if stretch.table.name == table.name)
    places = "one place" if count == 1 else f"{count} places"
    return f"Table file {table.name} is damaged in {places}: {table.why}. What it held there is lost, of {held}."


def _namespace_text(key: bytes | None) -> str | None:
    """Return the number a key belongs to; a key before all namespaces counts as namespace 0's."""
    if key is None:
        return None
    try:
        return str(namespace_of(key))
    except ValueError:
        return "0"


def _namespace_sentence(each: NamespaceRows) -> str:
    name = f" ({each.name}, {each.state})" if each.name else ""
    found = f"{each.rows - each.records:,} rows and {each.records:,} records"
    said = f"Namespace {each.namespace_id}{name}: {found}, {each.fate}"
    if each.doubtful:
        said += f"; {each.doubtful:,} of them may be out of date or had been deleted"
    if each.earlier_issue:
        said += f"; {each.earlier_issue:,} of an earlier namespace of this number left out"
    if each.unreadable:
        said += f"; {each.unreadable:,} more could not be read"
    return said + "."
