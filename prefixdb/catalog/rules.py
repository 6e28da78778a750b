"""Rules as they are asked: may this key be read, may this range be written.

A session can add up a thousand rules, and every key of every call is asked about. So they are sorted once, when the
session is made, and asked by bisection: of the prefixes of one database, those that another one contains are left out,
so at most one of the rest can be a prefix of a key, and it is the greatest that is not above it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from prefixdb.catalog.entities import Rule

__all__ = ["RuleSet"]

_Prefixes = dict[int | None, tuple[bytes, ...]]


class RuleSet:
    """What a list of rules permits; whatever no rule permits is denied.

    reads, writes: whether any key can be read, or written.
    """

    __slots__ = ("_readable", "_writable", "reads", "writes")

    def __init__(self, rules: Iterable[Rule]) -> None:
        held = tuple(rules)
        self._readable = _minimal(rule for rule in held if rule.read)
        self._writable = _minimal(rule for rule in held if rule.write)
        self.reads = bool(self._readable)
        self.writes = bool(self._writable)

    def __repr__(self) -> str:
        return f"RuleSet(reads={self.reads}, writes={self.writes})"

    def may_read(self, database: int, key: bytes) -> bool:
        """True when some rule permits reading the key."""
        return _permits(self._readable, database, key)

    def may_write(self, database: int, key: bytes) -> bool:
        """True when some rule permits writing or deleting the key."""
        return _permits(self._writable, database, key)

    def may_read_range(self, database: int, start: bytes, end: bytes) -> bool:
        """True when one rule permits reading all of ``start <= key < end``; an empty end is the database's."""
        return _permits_range(self._readable, database, start, end)

    def may_write_range(self, database: int, start: bytes, end: bytes) -> bool:
        """True when one rule permits writing all of ``start <= key < end``; an empty end is the database's."""
        return _permits_range(self._writable, database, start, end)


def _minimal(rules: Iterable[Rule]) -> _Prefixes:
    """Return for each database, None for all of them, its prefixes in order without those that another contains."""
    found: dict[int | None, set[bytes]] = {}
    for rule in rules:
        found.setdefault(rule.database, set()).add(rule.prefix)
    minimal: _Prefixes = {}
    for database, prefixes in found.items():
        kept: list[bytes] = []
        for prefix in sorted(prefixes):
            if not kept or not prefix.startswith(kept[-1]):
                kept.append(prefix)
        minimal[database] = tuple(kept)
    return minimal


def _permits(table: _Prefixes, database: int, key: bytes) -> bool:
    for prefixes in (table.get(None), table.get(database)):
        if prefixes:
            position = bisect_right(prefixes, key)
            if position and key.startswith(prefixes[position - 1]):
                return True
    return False


def _permits_range(table: _Prefixes, database: int, start: bytes, end: bytes) -> bool:
    """True when one prefix contains every key of the range, decided by the bounds alone.

    The keys with prefix p are exactly p <= key < successor(p), and successor is unbounded when p is empty or all 0xff.
    """
    for prefixes in (table.get(None), table.get(database)):
        if prefixes:
            position = bisect_right(prefixes, start)
            if position:
                stop = successor(prefixes[position - 1])
                if not stop or (end and end <= stop):
                    return True
    return False


def successor(prefix: bytes) -> bytes:
    """Return the smallest key above all keys with ``prefix``; empty when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b""
