"""What a damaged database directory still holds: which files can be believed, and every row that can be read from them.

Nothing of the source is written to. The engine works in a scratch directory, where table files are links (they never
change), and logs and MANIFEST are copies. The rules, in this order:

1. The table files in use are those of a MANIFEST that is whole and not older than the side file; else those that the
   side file lists and any newer ones; else, without either, every table file that a readable MANIFEST does not say was
   deleted. A file that is not in use is left out: its rows may have been deleted since.
2. Write-ahead logs are replayed to their first damage and no further, and no log after one that is missing or shorter
   than the side file knows: what is left is a prefix of the commits.
3. Tables are read block by block. Around a damaged block the other files are read alone; a row found there or in the
   range of a lost file may have been newer in what was lost, which is told with it (``Found.doubtful``).
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from prefixdb.errors import DataLossError
from prefixdb.store.copying import copy_plain
from prefixdb.store.directory import STATE_NAME, StoreState, file_number, read_state
from prefixdb.store.losses import Found, Losses, LostLog, LostTable, Stretch
from prefixdb.store.salvage_view import DamagedError, View, rebuild
from prefixdb.store.version_log import (
    CURRENT_NAME,
    MANIFEST_PREFIX,
    TableFile,
    Versions,
    first_sequence,
    read_versions,
    write_versions,
)

_VERSION = struct.Struct(">BQ")


class Salvage:
    """A damaged database, opened in a scratch directory. Close it; not thread-safe.

    Args:
        engine_dir: the damaged database; only read.
        state: the side file's content, None when there is none that can be read.
        scratch: an empty directory, filled here and the caller's to remove.
    """

    def __init__(self, engine_dir: Path, state: StoreState | None, scratch: Path) -> None:
        self.losses = Losses(acknowledged=state.sequence if state else 0)
        self._source = engine_dir
        self._state = state
        self._scratch = scratch
        self._on_disk = {path.name: path.stat().st_size for path in _ordinary_files(engine_dir)}
        self._stretches: list[Stretch] = []
        self._views: dict[frozenset[int], View] = {}
        self._versions = self._choose_tables()
        self._drop_lost_tables()
        self._logs = self._choose_logs()
        self.losses.sequence = self._open().last_sequence()
        self._lost_tables = [table for table in self.losses.tables if not table.partly]
        self._look_at_the_tail()

    def close(self) -> None:
        """Close the engine."""
        for view in self._views.values():
            view.close()

    def rows(self, begin: bytes = b"", end: bytes | None = None) -> Iterator[Found]:
        """Yield every readable row of the half-open range in the order of keys."""
        found = self._merged_rows(begin, end)
        return self._newest(found, begin, end) if self.losses.tables_uncertain else found

    def _merged_rows(self, begin: bytes, end: bytes | None) -> Iterator[Found]:
        position = begin
        if not self._stretches:
            try:
                for key, value in self._view(frozenset()).walk(begin, end):
                    position = key + b"\0"
                    yield Found(key, value, self._is_doubtful(key, value, ()))
                return
            except DamagedError:
                self._stretches = self._find_stretches()
                if not self._stretches:
                    raise  # Not a table's fault: nothing here knows how to go on.
        for first, last, spoiled in self._segments(position, end):
            yield from self._segment(first, last, spoiled)

    # --- which files -----------------------------------------------------------------------------------------------

    def _choose_tables(self) -> Versions:
        """Return the database to read; files in it may still be missing."""
        losses = self.losses
        named = self._current()
        manifests = sorted(
            (name for name in self._on_disk if name.startswith(MANIFEST_PREFIX) and file_number(name) >= 0),
            key=lambda name: (name == named, file_number(name)),
            reverse=True,
        )
        deleted: set[int] = set()
        older: tuple[str, Versions] | None = None
        for name in manifests:
            versions = read_versions(self._source / name)
            deleted |= versions.deleted
            reason = self._distrust(name, versions)
            if not reason:
                if name != named:
                    losses.notes.append(f"{CURRENT_NAME} does not name {name}, which is whole and was taken.")
                return versions
            losses.notes.append(f"{name} cannot be used: {reason}.")
            if older is None and versions.sound and all(file.name in self._on_disk for file in versions.files.values()):
                older = name, versions
        if not manifests:
            losses.notes.append("There is no MANIFEST.")
        if older is not None and self._state is not None and not self._state.tables.keys() <= self._on_disk.keys():
            losses.notes.append(
                f"{older[0]} was taken all the same: it is whole, while files of {STATE_NAME} are missing. The "
                "directory was rolled back to an earlier time."
            )
            return older[1]
        return self._rebuild(deleted)

    def _current(self) -> str:
        if CURRENT_NAME in self._on_disk:
            return (self._source / CURRENT_NAME).read_text(encoding="ascii", errors="replace").strip()
        self.losses.notes.append(f"{CURRENT_NAME} is missing.")
        return ""

    def _distrust(self, name: str, versions: Versions) -> str:
        """Return why a MANIFEST is not believed, or nothing."""
        state = self._state
        if state is not None and file_number(name) < file_number(state.manifest):
            return f"it is older than {state.manifest}, which was in use"
        if state is not None and name == state.manifest and versions.good_bytes < state.manifest_bytes:
            return f"only {versions.good_bytes} of {state.manifest_bytes} bytes can be read; {versions.problem}".rstrip(
                "; "
            )
        if versions.problem and (state is None or name != state.manifest):
            return versions.problem
        if state is None and self._lacks_newest(name, versions):
            return "it does not know of table files that are newer, so its end is missing"
        if versions.problem:
            # Everything the side file knows of is in the good part; behind it a crash may have cut a record short.
            self.losses.notes.append(f"{name}: {versions.problem}; what was saved before is whole.")
        return ""

    def _lacks_newest(self, name: str, versions: Versions) -> bool:
        """Return whether a MANIFEST that looks whole must have been longer, as far as that can be seen."""
        known = versions.files.keys() | versions.deleted
        numbers = {file_number(table) for table in self._on_disk if table.endswith(".sst")}
        newer = {number for number in numbers - known if number > file_number(name)}
        # A crash leaves table files that were being written, but then the log they were written from is still there.
        return bool(newer) and f"{versions.log_number:06d}.log" not in self._on_disk

    def _rebuild(self, deleted: set[int]) -> Versions:
        """Have the engine make a MANIFEST from table files, for there is none to believe."""
        state, losses = self._state, self.losses
        tables = {file_number(name): name for name in self._on_disk if name.endswith(".sst")}
        if state is not None:
            known = {file_number(name) for name in (*state.tables, *state.logs, state.manifest)}
            newest = max(known, default=0)
            chosen = {number for number in tables if tables[number] in state.tables or number > newest}
            for name in sorted(set(state.tables) - set(tables.values())):
                losses.tables.append(LostTable(name, "it is missing", size=state.tables[name]))
            losses.tables_uncertain = any(number > newest for number in chosen)
            losses.notes.append(f"The table files in use were taken from {STATE_NAME}.")
        else:
            chosen = set(tables) - deleted
            losses.tables_uncertain = True
            losses.notes.append(
                "Nothing says which table files were in use: all were taken, so rows that had been deleted may be back."
            )
        losses.obsolete += sorted(tables[number] for number in tables.keys() - chosen)
        directory = self._scratch / "rebuilt"
        directory.mkdir()
        for number in chosen:
            (directory / tables[number]).symlink_to((self._source / tables[number]).absolute())
        versions = rebuild(directory)
        for number in sorted(chosen - versions.files.keys()):
            name = tables[number]
            losses.tables.append(LostTable(name, "it cannot be read to its end", size=self._on_disk[name]))
        # Numbers the logs have, which the engine has not seen here.
        versions.log_number = 0
        shutil.rmtree(directory)
        return versions

    def _drop_lost_tables(self) -> None:
        """Take files out of the database that are missing, have another length, or do not open."""
        for number, file in sorted(self._versions.files.items()):
            size = self._on_disk.get(file.name)
            if size is None:
                self._lose(number, "it is missing")
            elif size != file.size:
                self._lose(number, f"it has {size} bytes instead of {file.size}")
        in_use = {file.name for file in self._versions.files.values()}
        lost = {table.name for table in self.losses.tables}
        obsolete = {name for name in self._on_disk if name.endswith(".sst")} - in_use - lost
        self.losses.obsolete = sorted(obsolete | set(self.losses.obsolete))

    def _lose(self, number: int, why: str) -> None:
        file = self._versions.files.pop(number)
        self.losses.tables.append(_lost(file, why))

    def _choose_logs(self) -> list[str]:
        """Return the logs to replay, the oldest first."""
        losses, state, versions = self.losses, self._state, self._versions
        on_disk = {file_number(name): name for name in self._on_disk if name.endswith(".log")}
        recorded = {file_number(name): size for name, size in state.logs.items()} if state else {}
        newest_known = max((file_number(name) for name in (*state.logs, *state.tables)), default=0) if state else 0
        chosen: list[str] = []
        incomplete: list[LostLog] = []
        for number in sorted(on_disk.keys() | recorded.keys()):
            name = on_disk.get(number, f"{number:06d}.log")
            unknown = state is not None and number not in recorded and number < newest_known
            # A log that is not in the list was done with, unless it goes on exactly where the table files end.
            if number < versions.log_number or (unknown and self._first_change(name) != versions.last_sequence + 1):
                losses.obsolete += [name] if number in on_disk else []
                continue
            if incomplete and not chosen and 0 < self._first_change(name) <= versions.last_sequence + 1:
                incomplete = []  # What was in those logs is in the table files.
            if incomplete:
                incomplete.append(LostLog(name, f"left out, because {incomplete[0].name} before it is incomplete"))
                continue
            size, expected = self._on_disk.get(name), recorded.get(number, 0)
            if size is None:
                incomplete.append(LostLog(name, f"it is missing; it had {expected} bytes"))
            else:
                chosen.append(name)
                if size < expected:
                    incomplete.append(LostLog(name, f"it has {size} bytes; it had {expected}"))
        if chosen or (state and versions.last_sequence < state.sequence):
            losses.logs += incomplete
        return chosen

    def _first_change(self, name: str) -> int:
        """Return the number of a log's first change; 0 when it has none that can be read."""
        return first_sequence(self._source / name) if name in self._on_disk else 0

    # --- the engine --------------------------------------------------------------------------------------------------

    def _directory(self, name: str, versions: Versions, logs: Iterable[str]) -> Path:
        """Make an openable directory of these files in the scratch directory."""
        directory = self._scratch / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for file in versions.files.values():
            (directory / file.name).symlink_to((self._source / file.name).absolute())
        for log in logs:
            copy_plain(self._source / log, directory / log)
        highest = max((file_number(name) for name in self._on_disk), default=0)
        write_versions(directory, max(highest, versions.next_file) + 1, versions)
        return directory

    def _open(self) -> View:
        """Open what is left, without the tables that prevent it."""
        try:
            return self._view(frozenset())
        except DamagedError:
            pass
        for number, file in sorted(self._versions.files.items()):
            try:
                with self._alone(file):
                    pass
            except DamagedError as damage:
                self._lose(number, f"it does not open: {damage}")
        return self._view(frozenset())

    @contextlib.contextmanager
    def _alone(self, file: TableFile) -> Iterator[View]:
        """Open a database of one table file."""
        directory = self._directory(f"alone-{file.number}", replace(self._versions, files={file.number: file}), ())
        try:
            with contextlib.closing(View(directory)) as view:
                yield view
        finally:
            shutil.rmtree(directory)

    def _look_at_the_tail(self) -> None:
        """Find out whether the replay stopped at damage."""
        losses = self.losses
        if not self._logs:
            return
        try:
            View(self._directory("tail", self._versions, self._logs), recovery="whole").close()
        except DamagedError as damage:
            losses.tail_damaged = True
            if not losses.logs:
                name = self._logs[-1] if len(self._logs) == 1 else "one of " + ", ".join(self._logs)
                losses.logs.append(LostLog(name, f"it is damaged: {damage}"))

    # --- around damage -----------------------------------------------------------------------------------------------

    def _find_stretches(self) -> list[Stretch]:
        """Read every table file by itself and return where they are damaged, by their beginnings."""
        stretches: list[Stretch] = []
        for number, file in sorted(self._versions.files.items()):
            found, why = self._stretches_of(file)
            if found:
                stretches += found
                self.losses.tables.append(_lost(self._versions.files[number], why, partly=True))
        self.losses.stretches = sorted(stretches, key=lambda stretch: stretch.begin)
        return self.losses.stretches

    def _stretches_of(self, file: TableFile) -> tuple[list[Stretch], str]:
        """Return a file's damaged stretches and what the engine says of the first.

        One begins behind the last key that can be read, or, before a file's first key, at the beginning of all keys: an
        engine that looks for anything smaller meets the file's first block.
        """
        found: list[Stretch] = []
        why = ""
        position: bytes | None = b""
        with self._alone(file) as view:
            while position is not None:
                reached = position
                try:
                    for key, _ in view.walk(position, None):
                        reached = key + b"\0"
                    position = None
                except DamagedError as damage:
                    why = why or str(damage)
                    position = view.after_gap(max(reached, file.first_key), len(file.last_key))
                    found.append(Stretch(file, reached, position))
        return found, why

    def _newest(self, rows: Iterator[Found], begin: bytes, end: bytes | None) -> Iterator[Found]:
        """Let the newest value of each key win, by the versions that rows carry.

        Where files that are no longer in use may be among the others the engine's own order is wrong: it gives rows
        that rest at the bottom the number 0, so an outdated value from above would hide them.
        """
        files = sorted(self._versions.files.values(), key=lambda file: file.first_key, reverse=True)
        with contextlib.ExitStack() as opened:
            walks: list[_Walk] = []
            for found in rows:
                while files and files[-1].first_key <= found.key:
                    file = files.pop()
                    if file.last_key >= begin and (end is None or file.first_key < end):
                        walks.append(_Walk(opened.enter_context(self._alone(file)), found.key))
                best = found
                for walk in walks:
                    value = walk.at(found.key)
                    if value is not None and _version_of(value) > _version_of(best.value):
                        best = Found(found.key, value, True)
                walks = [walk for walk in walks if not walk.ended]
                yield best

    def _segments(self, begin: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes | None, tuple[Stretch, ...]]]:
        """Yield (begin, end, damaged stretches there) for the parts of a range in which the same files are damaged."""
        bounds = {bound for each in self._stretches for bound in (each.begin, each.end) if bound is not None}
        inside = sorted(bound for bound in bounds if bound > begin and (end is None or bound < end))
        for first, last in itertools.pairwise([begin, *inside, end]):
            if first is not None:
                spoiled = tuple(each for each in self._stretches if each.covers(first))
                yield first, last, spoiled

    def _segment(self, begin: bytes, end: bytes | None, spoiled: tuple[Stretch, ...]) -> Iterator[Found]:
        """Yield the rows of a segment from the files that are not damaged there."""
        position = begin
        try:
            for key, value in self._view(frozenset(each.table.number for each in spoiled)).walk(begin, end):
                position = key + b"\0"
                yield Found(key, value, self._is_doubtful(key, value, spoiled))
            return
        except DamagedError:
            # The engine looks ahead, into the stretch that begins where this segment ends.
            pass
        everywhere = frozenset(each.table.number for each in self._stretches)
        for key, value in self._view(everywhere).walk(position, end):
            yield Found(key, value, True)

    def _view(self, without: frozenset[int]) -> View:
        """Return the database without some table files; it stays open."""
        if without not in self._views:
            files = {number: file for number, file in self._versions.files.items() if number not in without}
            name = f"view-{len(self._views)}"
            self._views[without] = View(self._directory(name, replace(self._versions, files=files), self._logs))
        return self._views[without]

    def _is_doubtful(self, key: bytes, value: bytes, spoiled: tuple[Stretch, ...]) -> bool:
        """Return whether something newer of this key may have been in a lost file or in a damaged stretch."""
        for table in self._lost_tables:
            if table.first_key is None or table.last_key is None:
                return True
            if table.first_key <= key <= table.last_key and _version_of(value) <= table.last_sequence:
                return True
        return any(
            each.table.first_key <= key <= each.table.last_key and _version_of(value) <= each.table.last_sequence
            for each in spoiled
        )


class _Walk:
    """One table file, walked in step with others. Damage in it was met and told before."""

    def __init__(self, view: View, begin: bytes) -> None:
        self._rows = view.walk(begin, None)
        self._row: tuple[bytes, bytes] | None = None
        self.ended = False
        self._step()

    def at(self, key: bytes) -> bytes | None:
        """Return the value of the key, or None; keys ascend from call to call."""
        while self._row is not None and self._row[0] < key:
            self._step()
        return self._row[1] if self._row is not None and self._row[0] == key else None

    def _step(self) -> None:
        try:
            self._row = next(self._rows, None)
        except DamagedError:
            self._row = None
        self.ended = self._row is None


def readable_state(data_dir: Path) -> tuple[StoreState | None, str]:
    """Return the side file's content, or None and why there is none to believe.

    Raises:
        FailedPreconditionError: FORMAT_TOO_NEW.
        OSError: it could not be read.
    """
    try:
        state = read_state(data_dir)
    except DataLossError as damage:
        return None, damage.message
    if state is None:
        return None, f"{STATE_NAME} is missing."
    if not state.complete:
        return None, f"{STATE_NAME} says that the directory was never finished."
    return state, ""


def _ordinary_files(directory: Path) -> Iterator[Path]:
    for path in directory.iterdir():
        if path.is_file() and not path.is_symlink():
            yield path


def _lost(file: TableFile, why: str, *, partly: bool = False) -> LostTable:
    return LostTable(
        file.name,
        why,
        partly,
        file.size,
        file.level,
        file.first_key,
        file.last_key,
        file.first_sequence,
        file.last_sequence,
    )


def _version_of(value: bytes) -> int:
    return int(_VERSION.unpack_from(value)[1]) if len(value) >= _VERSION.size else 0
