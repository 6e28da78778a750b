"""Which table files hold a span, and in which steps many spans are compacted. Pure functions over file metadata.

Compacting spans one by one rewrites a file once for each span in it, and compacting everything between the first and
the last rewrites files that hold none of them. So spans that share a file of the bottom level, where nine tenths of
all bytes are, are joined into one range, and others are left apart; joined or not, they are cut into steps of a size
after which a reclaim can be stopped.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from prefixdb.keycodec import RowKey, Span, namespace_of, namespace_span
from prefixdb.store.engine import LiveFile

_PREFIX_BYTES_MAX = 8
"""Rows have longer keys: a file that ends with such a key ends with a range tombstone, in front of that key."""


class Step(NamedTuple):
    """One piece of work. ``pieces`` (sorted, disjoint) are to be dropped; compacting ``ranges`` rewrites them all."""

    pieces: tuple[Span, ...]
    ranges: tuple[Span, ...]


def overlaps(file: LiveFile, span: Span) -> bool:
    """Return whether the file may hold something of the span.

    A file that ends with a range tombstone names the tombstone's end, which lies outside it. Where that can be told
    from a row it does not count; elsewhere it counts as inside, to be on the safe side.
    """
    if file.last_key == span.begin:
        return len(span.begin) > _PREFIX_BYTES_MAX and not span.is_empty
    return file.first_key < span.end and file.last_key > span.begin


def is_inside(file: LiveFile, span: Span) -> bool:
    """Return whether everything in the file belongs to the span."""
    return span.begin <= file.first_key and file.last_key < span.end


def may_have_tombstones(file: LiveFile) -> bool:
    """Return whether rows may hide under deletions in the file; a file the engine has not looked into since the
    opening, which counts no entries, is taken to have some."""
    return file.deletions > 0 or not file.entries


def namespace_of_span(span: Span) -> int:
    """Return the namespace whose whole span this is, or -1."""
    try:
        namespace_id = namespace_of(span.begin)
        return namespace_id if namespace_span(namespace_id) == span else -1
    except ValueError:
        return -1


def bytes_on_disk(files: Sequence[LiveFile], span: Span, rows: int, row_bytes: float) -> int:
    """Estimate what a span takes.

    Args:
        files: the files that may hold something of it.
        span: the span.
        rows: how many rows it has, in files and in memory.
        row_bytes: how many bytes one of them has in itself.
    """
    inside = [file for file in files if is_inside(file, span)]
    size = sum(file.size for file in inside)
    if not all(file.entries for file in inside):
        return size
    elsewhere = max(0, rows - sum(max(0, file.entries - file.deletions) for file in inside))
    # Rows in shared files or in memory: as large as the rows of the shared files are there, but not larger than they
    # are in themselves.
    shared = [file for file in files if file.entries and not is_inside(file, span)]
    if shared:
        row_bytes = min(row_bytes, sum(file.size for file in shared) / sum(file.entries for file in shared))
    return size + round(elsewhere * row_bytes)


class FileIndex:
    """Live files by level, for look-ups by span. Below level 0 the files of a level do not overlap. Immutable."""

    def __init__(self, files: Iterable[LiveFile]) -> None:
        by_level: dict[int, list[LiveFile]] = {}
        for file in files:
            by_level.setdefault(file.level, []).append(file)
        for level in by_level.values():
            level.sort(key=attrgetter("first_key"))
        self._levels = by_level
        self._bottom = max(by_level, default=0)

    def names(self) -> set[str]:
        """Return the names of all files."""
        return {file.name for level in self._levels.values() for file in level}

    def overlapping(self, span: Span) -> list[LiveFile]:
        """Return the files of all levels that may hold something of the span."""
        return [file for level in self._levels for file in self._of_level(level, span)]

    def at_bottom(self, span: Span) -> list[LiveFile]:
        """Return those of the deepest level that has files, by first key."""
        return self._of_level(self._bottom, span)

    def _of_level(self, level: int, span: Span) -> list[LiveFile]:
        files = self._levels.get(level, [])
        first = 0 if level == 0 else bisect_left(files, span.begin, key=attrgetter("last_key"))
        after = bisect_right(files, span.end, key=attrgetter("first_key"))
        return [file for file in files[first:after] if overlaps(file, span)]


def plan_steps(spans: Iterable[Span], files: FileIndex, *, step_bytes: int, pieces_max: int) -> list[Step]:
    """Cut disjoint spans into steps.

    Args:
        spans: what is to be dropped, in any order.
        files: the live files.
        step_bytes: a step ends with the file of the bottom level that brings it to so many bytes.
        pieces_max: a step has at most so many pieces.

    Returns:
        Steps in key order; together their pieces are exactly the spans. Cost: O(spans + files) look-ups.
    """
    steps: list[Step] = []
    pieces: list[Span] = []
    gathered = 0
    last: LiveFile | None = None

    def end_step() -> None:
        nonlocal gathered, last
        if pieces:
            steps.append(Step(tuple(pieces), _joined(pieces, files)))
            pieces.clear()
        gathered, last = 0, None

    for span in sorted(spans, key=attrgetter("begin")):
        begin = span.begin
        for file in files.at_bottom(span):
            if file is last:
                continue
            if gathered >= step_bytes and last is not None:
                # Right after the last file's end: compactions take both bounds for inclusive, and a cut at the first
                # key of this file would rewrite it twice.
                cut = RowKey(last.last_key + b"\0")
                if begin < cut < span.end:
                    pieces.append(Span(begin, cut))
                    begin = cut
                end_step()
            gathered += file.size
            last = file
        pieces.append(Span(begin, span.end))
        if len(pieces) >= pieces_max:
            end_step()
    end_step()
    return steps


def _joined(pieces: Sequence[Span], files: FileIndex) -> tuple[Span, ...]:
    """Return the ranges to compact: pieces that touch or share a file of the bottom level are one range."""
    begins = [pieces[0].begin]
    ends = []
    for piece, following in pairwise(pieces):
        touch = piece.end == following.begin
        if not touch and not any(overlaps(file, following) for file in reversed(files.at_bottom(piece))):
            ends.append(piece.end)
            begins.append(following.begin)
    ends.append(pieces[-1].end)
    return tuple(Span(begin, end) for begin, end in zip(begins, ends, strict=True))
