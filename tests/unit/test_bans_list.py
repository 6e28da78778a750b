"""Goal: the list of bans is read as it was written, or refused as a whole with the line.

Method: frozen bytes; lists of hypothesis there and back; every kind of wrong line.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixdb.backup.bans import read_bans
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.repository import bans as module
from prefixdb.repository.bans import BannedIssue, decode_bans, encode_ban, encode_bans, merged

BAN = BannedIssue(7, 500, "acme", 1_700_000_000_000, "alice", "asked for", 1_700_000_060_000, True)
LINE = (
    b'{"namespace_id": "7", "incarnation": "500", "name": "acme", "banned_at_ms": 1700000000000, '
    b'"banned_by": "alice", "reason": "asked for", "reclaim_after_ms": 1700000060000, "reclaimed": true}\n'
)

printable = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=60)
issues = st.builds(
    BannedIssue,
    st.integers(1, 2**64 - 2),
    st.integers(1, 2**64 - 1),
    printable,
    st.integers(0, 253_402_300_799_999),
    printable,
    printable,
    st.integers(0, 253_402_300_799_999),
    st.booleans(),
)


def refusal(content: bytes) -> PrefixdbError:
    with pytest.raises(PrefixdbError) as caught:
        decode_bans(content)
    assert caught.value.reason is Reason.ARCHIVE_INVALID
    return caught.value


def line(**fields: object) -> bytes:
    return json.dumps(json.loads(LINE) | fields).encode() + b"\n"


def test_the_bytes_are_these() -> None:
    assert encode_ban(BAN) == encode_bans([BAN]) == LINE and decode_bans(LINE) == [BAN]
    assert encode_bans([]) == b"" and decode_bans(b"") == []


@given(st.lists(issues, max_size=20))
def test_a_list_comes_back_ascending_with_one_ban_an_issue(bans: list[BannedIssue]) -> None:
    read = decode_bans(encode_bans(bans))
    assert read == merged(bans)
    assert [ban.issue for ban in read] == sorted({ban.issue for ban in bans})
    for ban in bans:
        (found,) = [each for each in read if each.issue == ban.issue]
        assert found.banned_at_ms >= ban.banned_at_ms and found.reclaimed >= ban.reclaimed


def test_of_two_bans_of_an_issue_the_newest_stands_and_a_reclaim_is_never_forgotten() -> None:
    newer = replace(BAN, banned_at_ms=BAN.banned_at_ms + 1, reason="again", reclaimed=False)
    for pair in ([BAN, newer], [newer, BAN]):
        assert merged(pair) == [replace(newer, reclaimed=True)]


@pytest.mark.parametrize(
    "wrong",
    [
        b"\n", b"x\n", b"[]\n", b"{}\n", b"null\n", b"\xff\xfe\n", b"[" * 10_000 + b"\n",
        b" " * module.LINE_BYTES_MAX + LINE,
        line(namespace_id=7), line(namespace_id="0"), line(namespace_id=str(2**64 - 1)), line(namespace_id="07"),
        line(namespace_id="-1"), line(namespace_id="7 "), line(namespace_id="٧"), line(incarnation="0"),
        line(incarnation=str(2**64)), line(incarnation=None), line(name=1), line(name="a\nb"), line(name="\u202e"),
        line(name="a" * 1_025), line(banned_at_ms=-1), line(banned_at_ms=1.0), line(banned_at_ms=True),
        line(banned_at_ms=10**18), line(banned_by=None), line(reason=[]), line(reclaim_after_ms="1"),
        line(reclaimed=1), line(reclaimed="true"), line(more=1), LINE.replace(b'"reason"', b'"reasons"'),
        LINE.replace(b'"name": "acme"', b'"name": "acme", "name": "acme"'), LINE.replace(b"true", b"NaN"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_ban_refuses_the_list_and_names_it(wrong: bytes) -> None:
    first = encode_ban(replace(BAN, namespace_id=1))
    assert refusal(first + wrong).metadata["place"] == "bans.jsonl line 2"
    assert refusal(wrong + encode_ban(replace(BAN, namespace_id=9))).metadata["place"] == "bans.jsonl line 1"


def test_a_list_that_is_cut_short_out_of_order_or_has_a_ban_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = encode_ban(replace(BAN, incarnation=501))
    assert len(decode_bans(LINE + other)) == 2
    for wrong in (LINE + LINE, other + LINE, LINE[:-1], LINE + other[:-1], LINE + other[:20]):
        refusal(wrong)
    monkeypatch.setattr(module, "BANS_BYTES_MAX", len(LINE))
    assert decode_bans(LINE) == [BAN]
    refusal(LINE + other)


def test_bans_are_read_from_a_file_and_from_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "bans.jsonl").write_bytes(LINE)
    (tmp_path / "wrong").write_bytes(LINE + b"x\n")
    (tmp_path / "empty").mkdir()
    assert read_bans(tmp_path / "bans.jsonl") == [BAN]
    for name, reason in (("wrong", Reason.ARCHIVE_INVALID), ("absent", Reason.BAD_FIELD), ("empty", Reason.BAD_FIELD)):
        with pytest.raises(PrefixdbError) as caught:
            read_bans(tmp_path / name)
        assert caught.value.reason is reason
    assert caught.value.metadata == {"field": "bans"}
