"""Recovery of a damaged data directory into a new one: everything that can be read, nothing that had been dropped.

The damaged directory is only read. What is found is written as a new database from sorted table files, beside the
target, opened once as a server would, and renamed onto the target last. Its versions go on far behind any number that
may have been acknowledged, so that no version, and no incarnation of a namespace, is ever given out twice.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from prefixdb.backup.beside import copy_beside
from prefixdb.backup.identity import STORE_ID_NAME
from prefixdb.backup.recover_catalog import Judge, Judgement
from prefixdb.backup.recover_report import KEPT, NO_NAMESPACE, LossReport, NamespaceRows
from prefixdb.catalog.entities import DEFAULT_NAMESPACE_ID, NamespaceState
from prefixdb.catalog.namespaces import Registry
from prefixdb.clock import Clock
from prefixdb.disk import sync_directory, sync_tree
from prefixdb.errors import DataLossError, Reason, bad_field, error
from prefixdb.keycodec import FAMILY_DATA, FAMILY_SYSTEM, family_span, namespace_of
from prefixdb.limits import MIB
from prefixdb.records import decode_value, encode_value
from prefixdb.repository.bans import BannedIssue
from prefixdb.store import open_store
from prefixdb.store.directory import ENGINE_NAME, LOCK_NAME, STATE_NAME, held_still
from prefixdb.store.losses import Found
from prefixdb.store.opening import CREATION_KEY
from prefixdb.store.plain import is_open_elsewhere
from prefixdb.store.salvage import Salvage, readable_state
from prefixdb.store.salvage_view import write_store

VERSIONS_SKIPPED = 1_000_000_000
"""How far behind the last change that is known the new directory goes on: more than a server acknowledges between two
writings of its side file, and more than a lost log holds."""

_NOT_TAKEN = (
    ENGINE_NAME,
    LOCK_NAME,
    STATE_NAME,
    STATE_NAME + ".new",
    "ingest",
    "snapshots",
    "space-probe",
    STORE_ID_NAME,
)
_CACHE_BYTES = 32 * MIB
_KEY_HEAD_BYTES = 9

Progress = Callable[[int], None]
"""Called with the number of rows read so far."""


def recover(
    data_dir: Path,
    target: Path,
    *,
    accept_loss: bool,
    clock: Clock,
    bans: Sequence[BannedIssue] = (),
    on_progress: Progress = lambda _rows: None,
) -> LossReport:
    """Write what is left of ``data_dir`` into the new directory ``target`` and return what was lost. Blocks.

    Args:
        data_dir: of a server that is stopped; nothing in it is changed.
        target: absent or an empty directory, not inside ``data_dir``; its parent exists and has room for a copy.
        accept_loss: without it the target is written only when nothing was lost (``LossReport.lossless``).
        clock: the time.
        bans: from elsewhere, such as a backup's: these namespaces stay gone whatever the damaged directory says.
        on_progress: called now and then.

    Raises:
        InvalidArgumentError: BAD_FIELD, ``data_dir`` is no data directory or ``target`` cannot be one.
        FailedPreconditionError: DIRECTORY_LOCKED, DIRECTORY_NOT_EMPTY, FORMAT_TOO_NEW.
        DataLossError: CORRUPTION, nothing can be made of it; the target is as it was.
        OSError: the disk refused; the target is as it was.
    """
    data_dir, target = data_dir.absolute(), target.absolute()
    _check_paths(data_dir, target)
    with _stopped(data_dir):
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        try:
            report = _Recovery(data_dir, target, scratch, clock, on_progress).run(bans)
            if accept_loss or report.lossless:
                os.rename(scratch / "new", target)  # noqa: PTH104  # takes the place of an empty directory
                sync_directory(target.parent)
                report.written = True
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return report


class _Recovery:
    """One recovery on its way."""

    def __init__(self, data_dir: Path, target: Path, scratch: Path, clock: Clock, on_progress: Progress) -> None:
        self._data_dir = data_dir
        self._target = target
        self._scratch = scratch
        self._clock = clock
        self._on_progress = on_progress
        self._counted: dict[int, NamespaceRows] = {}
        self._foreign = 0
        self._uncertain = False
        self._issued_again: dict[int, int] = {}

    def run(self, bans: Sequence[BannedIssue]) -> LossReport:
        """Do all but the last step."""
        state, problem = readable_state(self._data_dir)
        work, new = self._scratch / "work", self._scratch / "new"
        work.mkdir()
        new.mkdir(mode=0o700)
        salvage = Salvage(self._data_dir / ENGINE_NAME, state, work)
        with contextlib.closing(salvage):
            known = [salvage.losses.sequence, salvage.losses.acknowledged, *(ban.incarnation for ban in bans)]
            sequence = max(known) + VERSIONS_SKIPPED
            judgement = self._judge(salvage, bans, sequence)
            self._uncertain = salvage.losses.tables_uncertain
            self._issued_again = {
                namespace_id: judgement.records[namespace_id].incarnation
                for namespace_id in judgement.reports
                if namespace_id in judgement.records
            }
            write_store(new, self._rows(salvage, judgement), sequence, state.clock_floor_ms if state else 0)
        report = LossReport(str(self._data_dir), str(self._target), salvage.losses, problem, judgement.said)
        report.sequence = sequence
        report.namespaces = [self._counted[namespace_id] for namespace_id in sorted(self._counted)]
        report.foreign_rows = self._foreign
        for namespace_id, record in judgement.records.items():
            if record.state.is_live and namespace_id not in self._counted:
                report.namespaces.append(self._entry(namespace_id, judgement))
        report.namespaces.sort(key=lambda entry: entry.namespace_id)
        report.left_out = copy_beside(self._data_dir, new, frozenset(_NOT_TAKEN))
        self._open_once(new)
        sync_tree(new)
        return report

    def _judge(self, salvage: Salvage, bans: Sequence[BannedIssue], sequence: int) -> Judgement:
        catalog = family_span(DEFAULT_NAMESPACE_ID, FAMILY_SYSTEM)
        rows = [(found.key, found.value) for found in salvage.rows(catalog.begin, catalog.end)]
        judge = Judge(rows, sequence, self._clock.now_ms())
        orphans: set[int] = set()
        if _catalog_incomplete(salvage) or not judge.result.records:
            orphans = {
                namespace_of(found.key) for found in salvage.rows(catalog.end) if len(found.key) >= _KEY_HEAD_BYTES
            } - {DEFAULT_NAMESPACE_ID}
        return judge.judge(bans, orphans)

    # --- rows --------------------------------------------------------------------------------------------------------

    def _rows(self, salvage: Salvage, judgement: Judgement) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows of the new database, by key: those that are found and kept, with the catalog's mended ones."""
        made = {key: value for key, value in judgement.replaced.items() if value is not None}
        optional = {key: value for key, value in judgement.added.items() if key not in made}
        optional.setdefault(CREATION_KEY, encode_value(b"", 1))
        waiting = sorted({**made, **optional}.items(), reverse=True)
        for number, found in enumerate(salvage.rows()):
            if number % 10_000 == 0:
                self._on_progress(number)
            while waiting and waiting[-1][0] < found.key:
                yield waiting.pop()
            if waiting and waiting[-1][0] == found.key:
                key, value = waiting.pop()
                if key in made:
                    yield key, value
                    continue
            elif found.key in judgement.replaced:
                continue
            if self._is_kept(found, judgement):
                yield found.key, found.value
        while waiting:
            yield waiting.pop()

    def _is_kept(self, found: Found, judgement: Judgement) -> bool:
        """Count a row and return whether it belongs into the new database."""
        key, stored, doubtful = found
        if key == CREATION_KEY:
            return True
        if len(key) < _KEY_HEAD_BYTES or key[_KEY_HEAD_BYTES - 1] not in (FAMILY_SYSTEM, FAMILY_DATA):
            self._foreign += 1
            return False
        namespace_id = namespace_of(key)
        counted = self._counted.get(namespace_id)
        if counted is None:
            counted = self._counted[namespace_id] = self._entry(namespace_id, judgement)
        try:
            version = decode_value(stored).version
        except DataLossError:
            counted.unreadable += 1
            return False
        if self._uncertain and version < self._issued_again.get(namespace_id, 0):
            counted.earlier_issue += 1
            return False
        counted.rows += 1
        counted.records += key[_KEY_HEAD_BYTES - 1] == FAMILY_SYSTEM
        if counted.fate != KEPT:
            return False
        counted.doubtful += doubtful
        return True

    def _entry(self, namespace_id: int, judgement: Judgement) -> NamespaceRows:
        record, ban = judgement.records.get(namespace_id), judgement.bans.get(namespace_id)
        if record is None:
            return NamespaceRows(namespace_id, fate=NO_NAMESPACE)
        entry = NamespaceRows(namespace_id, record.name, record.state.name, KEPT)
        if record.state is NamespaceState.RECLAIMED:
            entry.fate = "left out: it was reclaimed"
        elif ban is not None:
            # While its grace runs a ban can be taken back, and then the rows are wanted.
            returnable = not (ban.staged or ban.reclaim_started_at_ms) and ban.reclaim_after_ms > self._clock.now_ms()
            entry.fate = KEPT if returnable else "left out: it was banned"
        return entry

    def _open_once(self, data_dir: Path) -> None:
        """Open the new directory as a server would, catalog included."""
        store = open_store("auto", data_dir, clock=self._clock, cache_bytes=_CACHE_BYTES)
        try:
            Registry(store, self._clock)
        finally:
            store.close()


def _check_paths(data_dir: Path, target: Path) -> None:
    engine_dir = data_dir / ENGINE_NAME
    if not engine_dir.is_dir() or engine_dir.is_symlink():
        raise bad_field("data_dir", f"must be a server's data directory; {data_dir} has no {ENGINE_NAME}/.")
    source, wanted = data_dir.resolve(), target.resolve()
    if wanted.is_relative_to(source) or source.is_relative_to(wanted):
        raise bad_field("out", "must not lie in the damaged directory, nor around it.")
    if not target.parent.is_dir():
        raise bad_field("out", f"must lie in a directory that exists; {target.parent} does not.")
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise error(Reason.DIRECTORY_NOT_EMPTY, f"{target} exists and is not empty; choose another.")


@contextlib.contextmanager
def _stopped(data_dir: Path) -> Iterator[None]:
    """Keep servers from starting on the directory, without writing to it; refuse when one runs."""
    refusal = error(Reason.DIRECTORY_LOCKED, f"A server is running on {data_dir}; stop it first.")
    if is_open_elsewhere(data_dir / ENGINE_NAME / LOCK_NAME):
        raise refusal
    with held_still(data_dir, refusal):
        yield


def _catalog_incomplete(salvage: Salvage) -> bool:
    """Return whether records of the catalog may be among what was lost from table files."""
    catalog = family_span(DEFAULT_NAMESPACE_ID, FAMILY_SYSTEM)
    losses = salvage.losses
    for table in losses.tables:
        if table.first_key is None or table.last_key is None:
            return True
        if table.first_key < catalog.end and table.last_key >= catalog.begin:
            return True
    return False
