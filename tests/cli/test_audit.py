"""Goal: the audit can be read and proven on the machine that has it, and any change of it shows.

Method: the file of a real server that did real acts; copies of it are edited, cut and garbled.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prefixdb.testing import ServerProcess
from tests.cli.conftest import Cli


@pytest.fixture
def copy(prefixdb_server: ServerProcess, tmp_path: Path) -> Path:
    """A directory with a copy of the audit file after some acts."""
    for _ in range(3):
        prefixdb_server.create_namespace()
    directory = tmp_path / "copy"
    directory.mkdir()
    (directory / "audit.jsonl").write_bytes((prefixdb_server.data_dir / "audit.jsonl").read_bytes())
    return directory


def test_the_audit_of_a_running_server_is_intact(bare: Cli, prefixdb_server: ServerProcess) -> None:
    prefixdb_server.create_namespace()
    ended = bare("audit", "verify", "--data-dir", str(prefixdb_server.data_dir), "--json")
    assert ended.status == 0, ended.err
    assert ended.json["intact"] is True
    lines = (prefixdb_server.data_dir / "audit.jsonl").read_bytes().count(b"\n")
    assert 2 < ended.json["lines"] <= lines


EDITS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "edited": lambda lines: [lines[0], lines[1].replace(b"guardian", b"somebody", 1), *lines[2:]],
    "removed": lambda lines: [lines[0], *lines[2:]],
    "doubled": lambda lines: [lines[0], lines[1], lines[1], *lines[2:]],
    "swapped": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "garbled": lambda lines: [lines[0], b"not JSON\n", *lines[2:]],
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_changed_line_is_found(bare: Cli, copy: Path, edit: str) -> None:
    path = copy / "audit.jsonl"
    path.write_bytes(b"".join(EDITS[edit](path.read_bytes().splitlines(keepends=True))))
    ended = bare("audit", "verify", "--data-dir", str(copy))
    assert ended.status == 3
    assert ended.out == b""
    assert "is wrong" in ended.err
    as_json = bare("audit", "verify", "--data-dir", str(copy), "--json")
    assert as_json.status == 3
    assert as_json.error["reason"] == "CORRUPTION"
    assert as_json.error["metadata"]["line"] in {"2", "3"}


def test_the_newest_acts_are_shown_and_control_characters_are_not(bare: Cli, copy: Path) -> None:
    path = copy / "audit.jsonl"
    with path.open("ab") as file:
        file.write(json.dumps({"user": "\x1b[2J", "method": "/prefixdb.v1.Auth/IssueToken"}).encode() + b"\n")
    ended = bare("audit", "show", "--data-dir", str(copy), "--limit", "2")
    assert ended.status == 0
    assert len(ended.text.splitlines()) == 2
    assert b"\x1b" not in ended.out
    assert "IssueToken" in ended.text
    everything = bare("audit", "show", "--data-dir", str(copy), "--limit", "0", "--json")
    assert len(everything.lines) == path.read_bytes().count(b"\n")


def test_a_directory_without_an_audit_is_named(bare: Cli, tmp_path: Path) -> None:
    for command in ("show", "verify"):
        ended = bare("audit", command, "--data-dir", str(tmp_path / "nowhere"))
        assert ended.status == 2
        assert "--data-dir" in ended.err


def test_the_audit_is_read_and_checked_through_the_server_too(
    guardian: Cli, cli: Cli, prefixdb_server: ServerProcess
) -> None:
    prefixdb_server.create_namespace()
    shown = guardian("audit", "show", "--remote", "--limit", "3", "--json")
    assert shown.status == 0, shown.err
    on_disk = [json.loads(line) for line in (prefixdb_server.data_dir / "audit.jsonl").read_text().splitlines()]
    assert len(shown.lines) == 3
    assert [item["seq"] for item in shown.lines] == [item["seq"] for item in on_disk if item in shown.lines]
    assert len(guardian("audit", "show", "--remote", "--limit", "2").text.splitlines()) == 2
    everything = guardian("audit", "show", "--remote", "--limit", "0", "--json").lines
    assert [item["seq"] for item in everything] == list(range(1, len(everything) + 1))
    verified = guardian("audit", "verify", "--remote", "--json")
    assert verified.status == 0, verified.err
    assert verified.json["intact"] is True and verified.json["lines"] >= len(everything)
    for command in ("show", "verify"):
        refused = cli("audit", command, "--remote")
        assert (refused.status, refused.out) == (71, b"")
        both = guardian("audit", command, "--remote", "--data-dir", str(prefixdb_server.data_dir))
        assert (both.status, both.out) == (2, b"")
