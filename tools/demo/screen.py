"""What the demo prints: numbered steps, short tables, one progress line. Colour and redrawing on a terminal only."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence

BAR_CHARS = 30
REDRAW_S = 0.1


class Screen:
    """Writes to standard output; a few plain lines into a pipe, colour and a moving bar on a terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._colour = self._terminal and "NO_COLOR" not in os.environ
        self._step = 0
        self._begin = time.monotonic()
        self._drawn_at = 0.0
        self._halves = 0

    def title(self, text: str, below: str) -> None:
        """Write the headline."""
        self._line(f"{self._bold(text)}\n{self._dim(below)}")

    def step(self, text: str) -> None:
        """Begin the next numbered step."""
        self._step += 1
        seconds = f"{time.monotonic() - self._begin:5.1f} s"
        width = min(shutil.get_terminal_size((100, 24)).columns, 100)
        head = f"{self._step}. {text}"
        self._line(f"\n{self._bold(head)}{self._dim(seconds.rjust(max(8, width - len(head))))}")

    def say(self, text: str) -> None:
        """Write one sentence of the step."""
        self._line(f"   {text}")

    def command(self, text: str) -> None:
        """Write a command as a reader would type it."""
        self._line(f"   {self._dim('$')} {self._cyan(text)}")

    def output(self, text: str) -> None:
        """Write what a command printed into a pipe; its tabs become columns, as they are on a terminal."""
        rows = [line.split("\t") for line in text.rstrip().splitlines()]
        widths = [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]
        for row in rows:
            self._line(
                "     " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
            )

    def facts(self, rows: Sequence[tuple[str, object]]) -> None:
        """Write names and what goes with them."""
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            self._line(f"   {name.ljust(width)}  {f'{value:,d}' if isinstance(value, int) else value}")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a table; numbers stand to the right."""
        cells = [[str(cell) if not isinstance(cell, int) else f"{cell:,d}" for cell in row] for row in rows]
        right = [all(_is_number(row[column]) for row in cells) for column in range(len(head))]
        widths = [max(len(text) for text in column) for column in zip(head, *cells, strict=True)]
        lines = [self._row(head, widths, right), *(self._row(row, widths, right) for row in cells)]
        self._line(f"   {self._dim(lines[0])}")
        for line in lines[1:]:
            self._line(f"   {line}")

    def progress(self, text: str, share: float) -> None:
        """Show how far something is, 0.0 .. 1.0: a bar that moves, or a line at half."""
        if self._terminal:
            now = time.monotonic()
            if share < 1 and now - self._drawn_at < REDRAW_S:
                return
            self._drawn_at = now
            full = round(share * BAR_CHARS)
            sys.stdout.write(f"\r   {self._cyan('█' * full)}{'░' * (BAR_CHARS - full)} {share:4.0%}  {text}\033[K")
            sys.stdout.flush()
        elif int(share * 2) > self._halves:  # In a pipe: half of it, and the line that replaces the bar at its end.
            self._halves = int(share * 2)
            if self._halves == 1:
                self._line(f"   {share:4.0%}  {text}")

    def progress_done(self, text: str) -> None:
        """Replace the bar by one line."""
        self._halves = 0
        clear = "\r\033[K" if self._terminal else ""
        self._line(f"{clear}   {text}")

    def verdict(self, good: bool, text: str) -> None:
        """Write the last line."""
        marked = (f"\033[1;{32 if good else 31}m{text}\033[0m") if self._colour else text
        self._line(f"\n{marked}" if good else marked)

    def _row(self, row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
        cells = zip(row, widths, right, strict=True)
        return "  ".join(
            text.rjust(width) if is_right else text.ljust(width) for text, width, is_right in cells
        ).rstrip()

    def _line(self, text: str) -> None:
        print(text, flush=True)

    def _bold(self, text: str) -> str:
        return f"\033[1m{text}\033[0m" if self._colour else text

    def _dim(self, text: str) -> str:
        return f"\033[2m{text}\033[0m" if self._colour else text

    def _cyan(self, text: str) -> str:
        return f"\033[36m{text}\033[0m" if self._colour else text


def mebibytes(size: int) -> str:
    """Return a size as a person reads it."""
    return f"{size / 1024 / 1024:,.1f} MiB"


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").removesuffix(" MiB").isdigit()
