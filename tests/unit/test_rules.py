"""Goal: a set of rules permits exactly what some single rule permits, however many there are and however they overlap.

Method: the definition is written out here, a few lines that try every rule on every key of a small universe, and the
set is compared with it on random rules. Frozen cases in ``tests/data/rules.json`` pin the same for any implementation;
they are held against both the subject and the definition, so neither can drift alone.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixdb.catalog.entities import Rule
from prefixdb.catalog.rules import RuleSet

VECTORS = json.loads((Path(__file__).parent.parent / "data" / "rules.json").read_text(encoding="utf-8"))

ALPHABET = (0x00, 0x61, 0x62, 0xFF)
WITNESSES = (0x00, 0x01, 0x61, 0x62, 0x63, 0xFF)
# Every byte that is drawn and the byte after it, one byte longer: whatever lies just outside a prefix is in here.
UNIVERSE = [bytes(key) for length in range(5) for key in itertools.product(WITNESSES, repeat=length)]

short = st.lists(st.sampled_from(ALPHABET), max_size=3).map(bytes)
databases = st.sampled_from([0, 1])
rules = st.lists(
    st.builds(Rule, st.sampled_from([None, 0, 1]), short, read=st.booleans(), write=st.booleans()), max_size=8
)


def covers(rule: Rule, right: str, database: int, key: bytes) -> bool:
    """The definition: one rule and one key."""
    held = rule.read if right == "read" else rule.write
    return held and rule.database in (None, database) and key[: len(rule.prefix)] == rule.prefix


def permits_key(held: list[Rule], right: str, database: int, key: bytes) -> bool:
    return any(covers(rule, right, database, key) for rule in held)


def permits_range(held: list[Rule], right: str, database: int, start: bytes, end: bytes) -> bool | None:
    """One rule covers every key of the range; None when the universe has no key in it."""
    inside = [key for key in UNIVERSE if start <= key and (not end or key < end)]
    if not inside:
        return None
    return any(all(covers(rule, right, database, key) for key in inside) for rule in held)


def asked(held: list[Rule], right: str, database: int, key: bytes) -> bool:
    found = RuleSet(held)
    return (found.may_read if right == "read" else found.may_write)(database, key)


def asked_range(held: list[Rule], right: str, database: int, start: bytes, end: bytes) -> bool:
    found = RuleSet(held)
    return (found.may_read_range if right == "read" else found.may_write_range)(database, start, end)


@settings(max_examples=500)
@given(rules, st.sampled_from(["read", "write"]), databases, short)
def test_a_key_is_permitted_exactly_when_some_rule_covers_it(held, right, database, key):
    assert asked(held, right, database, key) == permits_key(held, right, database, key)


@settings(max_examples=500)
@given(rules, st.sampled_from(["read", "write"]), databases, short, short)
def test_a_range_is_permitted_exactly_when_one_rule_covers_all_of_it(held, right, database, start, end):
    expected = permits_range(held, right, database, start, end)
    if expected is not None:
        assert asked_range(held, right, database, start, end) == expected


@given(rules)
def test_a_set_says_whether_it_permits_anything(held):
    found = RuleSet(held)
    assert found.reads == any(rule.read for rule in held)
    assert found.writes == any(rule.write for rule in held)


@given(rules, st.randoms())
def test_the_order_of_rules_and_repeats_of_them_mean_nothing(held, random):
    shuffled = held + held
    random.shuffle(shuffled)
    for key in UNIVERSE[:50]:
        assert asked(held, "read", 0, key) == asked(shuffled, "read", 0, key)


def test_a_thousand_prefixes_are_told_apart():
    held = [Rule(None, b"%04d/" % number, read=True, write=number % 2 == 0) for number in range(1_000)]
    found = RuleSet(held)
    assert all(found.may_read(7, b"%04d/x" % number) for number in range(1_000))
    assert not any(found.may_read(7, b"%04d" % number) for number in range(1_000))
    assert [number for number in range(1_000) if found.may_write(0, b"%04d/" % number)] == list(range(0, 1_000, 2))
    assert found.may_read_range(0, b"0500/", b"05000") and not found.may_read_range(0, b"0500/", b"05001")


@pytest.mark.parametrize(
    ("start", "end", "permitted"),
    [
        (b"\xff\xff", b"", True),  # Nothing lies above all keys that begin so.
        (b"\xff\xff\x00", b"", True),
        (b"\xff", b"", False),
        (b"\xfe\xff", b"\xff", False),
        (b"a", b"b", True),
        (b"a", b"b\x00", False),
        (b"a", b"", False),
        (b"", b"b", False),
        (b"a\xff\xff\xff", b"b", True),
    ],
)
def test_a_range_ends_where_its_prefix_does(start, end, permitted):
    held = [Rule(None, b"a", read=True, write=False), Rule(3, b"\xff\xff", read=True, write=False)]
    assert RuleSet(held).may_read_range(3, start, end) is permitted


def test_a_set_shows_no_prefix_in_its_repr():
    assert "secret" not in repr(RuleSet([Rule(None, b"secret", read=True, write=True)]))


# --- frozen cases ----------------------------------------------------------------------------------------------------


def held_in(entry: dict) -> list[Rule]:
    return [
        Rule(rule["database"], bytes.fromhex(rule["prefix"]), read=rule["read"], write=rule["write"])
        for rule in entry["rules"]
    ]


@pytest.mark.parametrize("number", range(len(VECTORS["sets"])))
def test_a_frozen_case_is_decided_as_it_was(number):
    entry = VECTORS["sets"][number]
    held = held_in(entry)
    for case in entry["cases"]:
        right, database, expected = case["right"], case["database"], case["permitted"]
        if "key" in case:
            key = bytes.fromhex(case["key"])
            assert asked(held, right, database, key) is permits_key(held, right, database, key) is expected, case
        else:
            start, end = bytes.fromhex(case["start"]), bytes.fromhex(case["end"])
            assert asked_range(held, right, database, start, end) is expected, case
            assert permits_range(held, right, database, start, end) in (expected, None), case


def test_the_frozen_cases_are_many_and_of_every_kind():
    kinds = [("key" in case, case["right"], case["permitted"]) for entry in VECTORS["sets"] for case in entry["cases"]]
    assert len(kinds) >= 500
    assert all(kinds.count(kind) >= 30 for kind in itertools.product([True, False], ["read", "write"], [True, False]))
