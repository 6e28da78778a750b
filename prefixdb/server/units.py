"""Sizes and durations as people write them in configuration: ``64MiB``, ``5s``. Whole numbers only, no guessing.

size     := digits [B | KiB | MiB | GiB | TiB]        no unit: bytes
duration := digits (ms | s | m | h | d)                the unit is required: "5" could mean anything
"""

from __future__ import annotations

import re

from prefixdb.errors import Reason, error

_SIZE = re.compile(r"([0-9]{1,18})\s*(B|KiB|MiB|GiB|TiB)?")
_DURATION = re.compile(r"([0-9]{1,15})\s*(ms|s|m|h|d)")

_SIZE_BYTES = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_DURATION_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_bytes(text: str) -> int:
    """Return the number of bytes ``text`` says.

    Raises:
        InvalidArgumentError: BAD_FIELD when it is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise error(Reason.BAD_FIELD, f"{text!r} is not a size; write for example 64MiB.")
    return int(match[1]) * _SIZE_BYTES[match[2]]


def parse_duration_ms(text: str) -> int:
    """Return the number of milliseconds ``text`` says.

    Raises:
        InvalidArgumentError: BAD_FIELD when it is not a duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise error(Reason.BAD_FIELD, f"{text!r} is not a duration; write for example 500ms, 5s or 7d.")
    return int(match[1]) * _DURATION_MS[match[2]]


def format_bytes(size: int) -> str:
    """Return ``size`` in the largest unit that divides it; ``parse_bytes`` gives the same number back."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZE_BYTES[unit] == 0:
            return f"{size // _SIZE_BYTES[unit]}{unit}"
    return f"{size}B"


def format_duration_ms(duration_ms: int) -> str:
    """Return ``duration_ms`` in the largest unit that divides it; ``parse_duration_ms`` gives the same number back."""
    for unit in ("d", "h", "m", "s"):
        if duration_ms and duration_ms % _DURATION_MS[unit] == 0:
            return f"{duration_ms // _DURATION_MS[unit]}{unit}"
    return f"{duration_ms}ms"
