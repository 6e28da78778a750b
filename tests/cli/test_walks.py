"""Goal: what docs/identities.md, docs/backup.md and docs/moving-data.md show on a shell works so, word for word.

Method: each walk of a page is typed into a shell against a real server of its own, in an empty directory: a section of
identities.md is a walk, since each is another model; of the other pages the whole page is one. A line that
begins with "$ " is a command; what follows it is what both its outputs must say. "…" stands for what differs from run
to run; a command whose answer begins with "prefixdb: " must fail, every other must not.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.server import subprocess_server

DOCS = Path(__file__).resolve().parents[2] / "docs"
IDENTITIES = DOCS / "identities.md"
PAGES = (IDENTITIES, DOCS / "backup.md", DOCS / "moving-data.md")
SHELL_TIMEOUT_S = 60


@dataclass(frozen=True)
class Step:
    """One command of a walk and what it must say."""

    page: str
    line: int
    command: str
    expected: str

    @property
    def fails(self) -> bool:
        """True when the page shows an error."""
        return self.expected.startswith("prefixdb: ")


def walks(page: Path) -> dict[str, list[Step]]:
    """Return the steps of each section of identities.md that has any; of another page all of them together."""
    found: dict[str, list[Step]] = {}
    section, fenced, command, expected, started = "", False, "", [], 0

    def close() -> None:
        if command:
            found.setdefault(section, []).append(Step(page.name, started, command, "\n".join(expected)))

    for number, text in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if text.startswith("## ") and not fenced and page == IDENTITIES:
            section = text[3:]
        elif text.startswith("```"):
            close()
            fenced, command, expected = not fenced, "", []
        elif fenced and text.startswith("$ "):
            close()
            command, expected, started = text[2:], [], number
        elif fenced and command:
            expected.append(text)
    return found


def matches(expected: str, said: str) -> bool:
    """True when what was said is what the page shows."""
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return re.fullmatch(pattern, said, re.DOTALL) is not None


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables of a shell in an empty directory, beside whose server's data it stands."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "prefixdb"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m prefixdb "$@"\n')
    program.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFIXDB_", "NO_COLOR"))}
    with subprocess_server(tmp_path / "data") as server:
        yield clean | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "PREFIXDB_ENDPOINT": server.address,
            "COLUMNS": "100",
        }


def test_the_page_walks_through_three_models() -> None:
    found = walks(IDENTITIES)
    assert len(found) == 3
    assert all(len(steps) >= 15 and any(step.fails for step in steps) for steps in found.values())


def test_what_the_page_shows_is_compared_whole() -> None:
    assert matches("a … c", "a b c")
    assert not matches("a … c", "a b d")
    assert not matches("a", "a b")


@pytest.mark.parametrize(
    ("page", "walk"),
    [pytest.param(page, walk, id=f"{page.stem} {walk}".strip()) for page in PAGES for walk in walks(page)],
)
def test_a_walk_of_a_page_goes_as_it_says(page: Path, walk: str, shell: dict[str, str], tmp_path: Path) -> None:
    try:
        _type(walks(page)[walk], shell, tmp_path)
    finally:
        # A server that the page starts is the page's to stop; when it does not get that far, it is stopped here.
        for file in tmp_path.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGTERM)


def _type(steps: list[Step], shell: dict[str, str], tmp_path: Path) -> None:
    for step in steps:
        done = subprocess.run(
            ["bash", "-c", step.command],
            cwd=tmp_path,
            env=shell,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=SHELL_TIMEOUT_S,
            check=False,
        )
        said = "\n".join(line.rstrip() for line in done.stdout.splitlines())
        where = f"{step.page}:{step.line}: {step.command}\nsaid: {said}\npage: {step.expected}"
        assert matches(step.expected, said), where
        assert (done.returncode != 0) == step.fails, f"{where}\nexit status {done.returncode}"
