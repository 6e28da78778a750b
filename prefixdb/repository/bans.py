"""The list of bans that every backup carries, so that restoring an older one brings no dropped namespace back.

    bans.jsonl := line*, ascending by (namespace_id, incarnation), each pair once
    line       := one JSON object, then "\\n"
                  {"namespace_id": "7", "incarnation": "500", "name": "acme", "banned_at_ms": 1700000000000,
                   "banned_by": "alice", "reason": "", "reclaim_after_ms": 1700000000000, "reclaimed": false}

Numbers of 64 bits are text in canonical decimal, because a JSON number loses bits above 2^53 in most languages. A file
that holds anything else is refused as a whole: a list of bans that was read in part would let a namespace come back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from prefixdb.errors import Reason, error
from prefixdb.limits import NAMESPACE_ID_MAX

BANS_NAME = "bans.jsonl"
"""Its name among the files of a backup."""

LINE_BYTES_MAX = 64 * 1024
"""Longest line; the longest texts in JSON's escapes are a little more than half of it."""

BANS_BYTES_MAX = 1024 * 1024 * 1024
"""Largest file: some four million bans."""

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)
_FIELDS = (
    "namespace_id",
    "incarnation",
    "name",
    "banned_at_ms",
    "banned_by",
    "reason",
    "reclaim_after_ms",
    "reclaimed",
)
_TEXT_CHARS_MAX = 1_024
"""Longest name, guardian or reason that is believed; those of today have half of it."""

_U64_MAX = 2**64 - 1
_TIME_MS_MAX = 253_402_300_799_999
"""The end of the year 9999."""


@dataclass(frozen=True, slots=True)
class BannedIssue:
    """One issue of a namespace's number that was banned and not taken back.

    reclaim_after_ms: until when it could be taken back. reclaimed: proven gone.
    """

    namespace_id: int
    incarnation: int
    name: str
    banned_at_ms: int
    banned_by: str
    reason: str
    reclaim_after_ms: int
    reclaimed: bool = False

    @property
    def issue(self) -> tuple[int, int]:
        """What is banned: (number, incarnation)."""
        return self.namespace_id, self.incarnation


def encode_bans(bans: Iterable[BannedIssue]) -> bytes:
    """Return the content of a ``bans.jsonl``; of two bans of one issue the stricter stands, see ``merged``."""
    return b"".join(encode_ban(ban) for ban in merged(bans))


def encode_ban(ban: BannedIssue) -> bytes:
    """Return one line, its end included."""
    fields = {
        "namespace_id": str(ban.namespace_id),
        "incarnation": str(ban.incarnation),
        "name": ban.name,
        "banned_at_ms": ban.banned_at_ms,
        "banned_by": ban.banned_by,
        "reason": ban.reason,
        "reclaim_after_ms": ban.reclaim_after_ms,
        "reclaimed": ban.reclaimed,
    }
    return json.dumps(fields).encode("ascii") + b"\n"


def decode_bans(content: bytes, name: str = BANS_NAME) -> list[BannedIssue]:
    """Return the bans of a ``bans.jsonl`` in its order.

    Args:
        content: of the file.
        name: of the file, for the error.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID, its place is the line.
    """
    if len(content) > BANS_BYTES_MAX:
        raise _invalid(name, f"it has more than {BANS_BYTES_MAX} bytes")
    if content and not content.endswith(b"\n"):
        raise _invalid(name, "its last line is cut short")
    bans: list[BannedIssue] = []
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        ban = _decode_line(line)
        if ban is None:
            raise _invalid(f"{name} line {number}", "it is no ban as prefixdb writes them")
        if bans and ban.issue <= bans[-1].issue:
            raise _invalid(f"{name} line {number}", "the bans do not ascend by number and incarnation")
        bans.append(ban)
    return bans


def merged(bans: Iterable[BannedIssue]) -> list[BannedIssue]:
    """Return one ban for each issue, ascending: the newest one, without a way back when any says it was reclaimed."""
    found: dict[tuple[int, int], BannedIssue] = {}
    for ban in bans:
        before = found.get(ban.issue)
        if before is None:
            found[ban.issue] = ban
            continue
        newest = max(before, ban, key=lambda each: (each.banned_at_ms, each.reclaimed))
        found[ban.issue] = replace(newest, reclaimed=before.reclaimed or ban.reclaimed)
    return [found[issue] for issue in sorted(found)]


def _decode_line(line: bytes) -> BannedIssue | None:
    if len(line) > LINE_BYTES_MAX:
        return None
    try:
        fields: Any = json.loads(line, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError):
        return None
    if type(fields) is not dict or tuple(sorted(fields)) != tuple(sorted(_FIELDS)):
        return None
    namespace_id, incarnation = _number(fields["namespace_id"]), _number(fields["incarnation"])
    texts = (fields["name"], fields["banned_by"], fields["reason"])
    times = (fields["banned_at_ms"], fields["reclaim_after_ms"])
    if not (
        namespace_id is not None
        and incarnation is not None
        and 1 <= namespace_id <= NAMESPACE_ID_MAX
        and 1 <= incarnation <= _U64_MAX
        and all(type(time) is int and 0 <= time <= _TIME_MS_MAX for time in times)
        and all(type(text) is str and text.isprintable() for text in texts)
        and all(len(text) <= _TEXT_CHARS_MAX for text in texts)
        and type(fields["reclaimed"]) is bool
    ):
        return None
    return BannedIssue(namespace_id, incarnation, texts[0], times[0], *texts[1:], times[1], fields["reclaimed"])


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a member stands twice")
    return fields


def _number(value: Any) -> int | None:
    return int(value) if type(value) is str and _DECIMAL.fullmatch(value) else None


def _invalid(place: str, what: str) -> Exception:
    return error(Reason.ARCHIVE_INVALID, f"The list of bans is invalid: {place}: {what}.", metadata={"place": place})
