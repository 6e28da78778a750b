"""Goal: a server whose native front reads rules differently than Python does not start; a healthy one is not delayed.

Method: the comparison is given Python's own rules as the other half, which must pass, and halves with one mistake each,
of the kinds such code makes, which must not. How often each answer occurs is counted, so that it asks about something.
"""

from __future__ import annotations

import time
from collections import Counter

import pytest

from prefixdb.catalog.entities import Rule
from prefixdb.catalog.rules import RuleSet
from prefixdb.catalog.rules_twin import check_rules_twin
from prefixdb.errors import Reason
from tests.support.catalog import reason_of


def honest(rules, write, database, start, end):
    found = RuleSet(Rule(*rule) for rule in rules)
    if end is None:
        return (found.may_write if write else found.may_read)(database, start)
    return (found.may_write_range if write else found.may_read_range)(database, start, end)


def signed(data: bytes) -> list[int]:
    return [byte - 256 if byte > 127 else byte for byte in data]


def nearest_is_not_enough(rules, write, database, start, end):
    """Does not leave out what another prefix contains, and asks the nearest only."""
    held = sorted(rule[1] for rule in rules if rule[3 if write else 2] and rule[0] in (None, database))
    below = [prefix for prefix in held if prefix <= start]
    return bool(below) and start.startswith(below[-1]) if end is None else honest(rules, write, database, start, end)


def compares_signed_bytes(rules, write, database, start, end):
    if end is None:
        return honest(rules, write, database, start, end)
    for rule in rules:
        if rule[3 if write else 2] and rule[0] in (None, database) and start.startswith(rule[1]):
            stop = rule[1].rstrip(b"\xff")
            stop = stop[:-1] + bytes([stop[-1] + 1]) if stop else b""
            if not stop or (end and signed(end) <= signed(stop)):
                return True
    return False


MISTAKES = {
    "permits everything": lambda *_: True,
    "permits nothing": lambda *_: False,
    "swaps the rights": lambda rules, write, *rest: honest(rules, not write, *rest),
    "knows a byte of the database": lambda rules, write, database, *rest: honest(rules, write, database & 255, *rest),
    "takes every database for all": lambda rules, *rest: honest([(None, *rule[1:]) for rule in rules], *rest),
    "forgets rules for all databases": lambda rules, *rest: honest([r for r in rules if r[0] is not None], *rest),
    "takes an empty end for no range": lambda rules, write, database, start, end: honest(
        rules, write, database, start, end or None
    ),
    "takes a range for its start": lambda rules, write, database, start, end: honest(
        rules, write, database, start, None
    ),
    "asks the nearest only": nearest_is_not_enough,
    "compares signed bytes": compares_signed_bytes,
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_front_with_a_mistake_does_not_pass(mistake):
    assert reason_of(check_rules_twin, mistake) is Reason.INTERNAL


def test_the_questions_are_the_same_every_time_and_about_something():
    asked = []

    def permits(*question):
        asked.append((*question, honest(*question)))
        return asked[-1][-1]

    started = time.perf_counter()
    check_rules_twin(permits)
    first = list(asked)
    asked.clear()
    check_rules_twin(permits)
    assert asked == first and time.perf_counter() - started < 2
    counts = Counter((question[4] is None, question[-1]) for question in first)
    assert min(counts.values()) > 50 and len(counts) == 4


def test_the_extensions_half_passes():
    module = pytest.importorskip("prefixdb._native.module")
    if not hasattr(module, "rules_permit"):
        pytest.skip("the extension was built before it had a front")
    check_rules_twin(module.rules_permit)
