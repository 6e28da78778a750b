"""Goal: the audit shows every act once it is written, and shows when somebody changed what is written.

Method: files are written by the real thing and then damaged in every way an editor can: each change must be found at
its line; hostile text must stay inside its field.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.server import audit
from prefixdb.server.audit import GENESIS, AuditFile, verify
from prefixdb.service.ports import AuditEntry
from tests.support.clocks import HeldClock

LINES = 6


def write(path: Path, count: int, **fields: str) -> None:
    """Append lines through the real thing, several at once."""

    async def main() -> None:
        file = AuditFile(path, HeldClock())
        try:
            await asyncio.gather(*(file.record(AuditEntry(user=f"u{n}", result="ok", **fields)) for n in range(count)))
        finally:
            await file.close()

    asyncio.run(main())


def objects(path: Path) -> list[dict[str, object]]:
    """Return the lines as objects."""
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def test_lines_are_numbered_and_chained_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, LINES)
    write(path, LINES)
    lines = path.read_bytes().splitlines()
    assert len(lines) == 2 * LINES
    previous = "0" * 64
    for number, line in enumerate(lines, 1):
        fields = json.loads(line)
        assert fields["seq"] == number and fields["prev"] == previous
        previous = hashlib.sha256(line).hexdigest()
    found = verify(path)
    assert (found.lines, found.last_hash, found.broken_line) == (2 * LINES, previous, 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_fields_stand_in_the_order_people_read_them(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 1)
    assert list(objects(path)[0]) == [
        "seq", "time", "user", "namespace_id", "namespace", "method", "target", "result", "jti", "peer", "request_id",
        "prev",
    ]  # fmt: skip
    assert objects(path)[0]["time"] == "2023-11-14T22:13:20.000Z"


DAMAGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int]] = {
    "edited": (lambda lines: [*lines[:2], lines[2].replace(b'"u2"', b'"uX"'), *lines[3:]], 4),
    "removed": (lambda lines: [*lines[:2], *lines[3:]], 3),
    "first removed": (lambda lines: lines[1:], 1),
    "swapped": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),
    "repeated": (lambda lines: [lines[0], lines[0], *lines[1:]], 2),
    "inserted": (lambda lines: [lines[0], b'{"seq":2,"prev":"' + b"0" * 64 + b'"}\n', *lines[1:]], 2),
    "not json": (lambda lines: [lines[0], b"hello\n", *lines[1:]], 2),
    "blank line": (lambda lines: [lines[0], b"\n", *lines[1:]], 2),
    "cut short": (lambda lines: [*lines[:-1], lines[-1][:-5]], LINES),
    "white space": (lambda lines: [lines[0].replace(b",", b", ", 1), *lines[1:]], 2),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_change_is_found_at_its_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, LINES)
    change, broken = DAMAGES[damage]
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    assert verify(path).broken_line == broken, verify(path).problem


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "cut short"])
def test_a_damaged_file_is_not_written_on(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, LINES)
    path.write_bytes(b"".join(DAMAGES[damage][0](path.read_bytes().splitlines(keepends=True))))
    before = path.read_bytes()
    with pytest.raises(PrefixdbError) as caught:
        write(path, 1)
    assert caught.value.reason is Reason.CORRUPTION and f"line {DAMAGES[damage][1]}" in caught.value.message
    assert path.read_bytes() == before


@pytest.mark.parametrize("rest", [b"{", b'{"seq":7', b"x" * 10_000])
def test_a_line_that_a_crash_cut_short_is_removed_and_that_is_said(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, LINES)
    whole = path.read_bytes()
    path.write_bytes(whole + rest)
    write(path, 1)
    assert path.read_bytes().startswith(whole)
    added = objects(path)[LINES:]
    assert [(line["user"], line["result"]) for line in added] == [("prefixdb", "torn-line-removed"), ("u0", "ok")]
    assert added[0]["target"] == f"{len(rest)} bytes"
    assert verify(path).broken_line == 0


def test_hostile_text_stays_inside_its_field(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    hostile = 'x"}\n{"seq":99,"user":"forged"}\r\n\x1b[2J\u2028\u202e\x00\ud800'
    write(path, 1, target=hostile, peer=hostile)
    raw = path.read_bytes()
    assert raw.count(b"\n") == 1 and all(32 <= byte < 127 for byte in raw[:-1])
    assert objects(path)[0]["target"] == hostile
    assert verify(path).broken_line == 0


def test_a_failed_write_refuses_leaves_the_file_whole_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"

    async def main() -> None:
        file = AuditFile(path, HeldClock())
        await file.record(AuditEntry(user="before"))
        whole = path.read_bytes()
        real = audit.os.fsync

        def failing(_: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(audit.os, "fsync", failing)
        for _ in range(2):
            with pytest.raises(PrefixdbError) as caught:
                await file.record(AuditEntry(user="lost"))
            assert caught.value.reason is Reason.AUDIT_UNAVAILABLE
            assert not file.available and path.read_bytes() == whole
        monkeypatch.setattr(audit.os, "fsync", real)
        await file.record(AuditEntry(user="after"))
        assert file.available
        await file.close()

    asyncio.run(main())
    assert [line["user"] for line in objects(path)] == ["before", "after"]
    assert verify(path).broken_line == 0


def test_a_mistake_while_writing_refuses_instead_of_waiting_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        file = AuditFile(tmp_path / "audit.jsonl", HeldClock())

        def broken(*_: object) -> bytes:
            raise ValueError

        monkeypatch.setattr(file, "_line", broken)
        with pytest.raises(PrefixdbError) as caught:
            await asyncio.wait_for(file.record(AuditEntry()), 5)
        assert caught.value.reason is Reason.AUDIT_UNAVAILABLE
        monkeypatch.undo()
        await file.record(AuditEntry(user="after"))
        await file.close()

    asyncio.run(main())
    assert [line["user"] for line in objects(tmp_path / "audit.jsonl")] == ["after"]


def test_many_waiting_lines_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    real = audit.os.fsync
    monkeypatch.setattr(audit.os, "fsync", lambda descriptor: (syncs.append(descriptor), real(descriptor)))
    write(tmp_path / "audit.jsonl", 200)
    assert verify(tmp_path / "audit.jsonl").lines == 200
    assert len(syncs) <= 5


def test_an_empty_file_is_a_whole_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 0)
    assert (verify(path).lines, verify(path).last_hash, verify(path).broken_line) == (0, GENESIS, 0)
