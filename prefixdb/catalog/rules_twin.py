"""The comparison of the two that read rules, before a server with the native front serves.

``catalog.rules`` decides; the front asks the same of its own copy of a session's rules, some million times a second.
Both are pinned by the same frozen cases when they are built. But a package can be put together wrongly, from parts of
two versions or by a compiler with a mistake, and what it would then get wrong is who may read what. So they are asked
the same few hundred questions at every start, a few milliseconds, and a server whose halves differ does not start.

The questions are drawn from a fixed seed: overlapping prefixes over few bytes, and keys and bounds at their edges.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Protocol

from prefixdb.catalog.entities import Rule
from prefixdb.catalog.rules import RuleSet, successor
from prefixdb.errors import Reason, error

__all__ = ["RulesPermit", "check_rules_twin"]

_SEED = 20_240_229
_SETS = 32
_QUESTIONS = 12
_ALPHABET = (0x00, 0x61, 0x7F, 0x80, 0xFF)
_DATABASES = (0, 1, 255, 256, 65_535)

_Question = tuple[bool, int, bytes, bytes | None]
"""To write, database, key or start, end or None for a key."""


class RulesPermit(Protocol):
    """The other half: ``rules_permit`` of the extension."""

    def __call__(
        self,
        rules: Sequence[tuple[int | None, bytes, bool, bool]],
        write: bool,
        database: int,
        start: bytes,
        end: bytes | None,
    ) -> bool:
        """Whether rules (database or None for all, prefix, read, write) permit a key, or with ``end`` a range."""


def check_rules_twin(permits: RulesPermit) -> None:
    """Return when ``permits`` answers as ``RuleSet`` does.

    Raises:
        InternalError: INTERNAL, it does not, once at least.
    """
    draw = random.Random(_SEED)
    for rules in _sets(draw):
        known = RuleSet(rules)
        plain = [(rule.database, rule.prefix, rule.read, rule.write) for rule in rules]
        for question in _questions(draw, rules):
            if permits(plain, *question) is not _asked(known, *question):
                raise error(
                    Reason.INTERNAL,
                    "The native front reads rules differently than Python does; this installation must not serve. "
                    "Install prefixdb again, or start it without the native front.",
                )


def _asked(known: RuleSet, write: bool, database: int, start: bytes, end: bytes | None) -> bool:
    if end is None:
        return known.may_write(database, start) if write else known.may_read(database, start)
    may = known.may_write_range if write else known.may_read_range
    return may(database, start, end)


def _sets(draw: random.Random) -> Iterator[tuple[Rule, ...]]:
    yield ()
    yield (Rule(None, b"", read=True, write=True),)
    for _ in range(_SETS):
        yield tuple(
            Rule(
                draw.choice((None, *_DATABASES)),
                bytes(draw.choices(_ALPHABET, k=draw.randrange(5))),
                read=draw.random() < 0.7,
                write=draw.random() < 0.7,
            )
            for _ in range(draw.randrange(1, 12))
        )


def _questions(draw: random.Random, rules: Sequence[Rule]) -> Iterator[_Question]:
    edges = [b""]
    for rule in rules:
        edges += [rule.prefix, rule.prefix[:-1], rule.prefix + b"\0", rule.prefix + b"\xff", successor(rule.prefix)]
    for _ in range(_QUESTIONS):
        write, database = draw.random() < 0.5, draw.choice(_DATABASES)
        yield write, database, draw.choice(edges) + bytes(draw.choices(_ALPHABET, k=draw.randrange(2))), None
        start, end = sorted((draw.choice(edges), draw.choice(edges)))
        yield write, database, start, draw.choice((end, b""))
