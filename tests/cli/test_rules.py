"""Goal: a rule on the command line means what it says, and what is shown can be typed again.

Method: both directions by hand, and there and back over awkward prefixes; no server is needed.
"""

from __future__ import annotations

import shlex

import click
import pytest

from prefixdb.cli.rules import parse_rules, rule_flags, rule_text, rule_words
from prefixdb.client.models import Rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("r", Rule(None, b"", True, False)),
        ("w", Rule(None, b"", False, True)),
        ("rw", Rule(None, b"", True, True)),
        ("rw:*", Rule(None, b"", True, True)),
        ("r:0", Rule(0, b"", True, False)),
        ("r:65535", Rule(65535, b"", True, False)),
        ("r:0:user/", Rule(0, b"user/", True, False)),
        ("w:*:queue/", Rule(None, b"queue/", False, True)),
        ("r:7:a:b:", Rule(7, b"a:b:", True, False)),
        ("r:0: x ", Rule(0, b" x ", True, False)),
        ("r:*:ü", Rule(None, "ü".encode(), True, False)),
        ("r:0:", Rule(0, b"", True, False)),
    ],
)
def test_a_rule_is_rights_database_and_prefix(text: str, rule: Rule) -> None:
    assert parse_rules([text], "auto") == (rule,)


@pytest.mark.parametrize(
    "text", ["", "x", "wr", "rr", "r:", "r::a", "r:65536", "r:-1", "r:x:a", "r:٣", ":0", "RW", "r w"]
)
def test_what_is_no_rule_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        parse_rules(["rw", text], "auto")
    assert repr(text) in caught.value.message
    assert "no rule" in caught.value.message


@pytest.mark.parametrize(
    "prefix", [b"", b"user/", b"a:b", b"*", "ü/".encode(), b"\\x00", b"it's", b"\x00\xff", b"\n", b"\x1b[2J"]
)
@pytest.mark.parametrize("database", [None, 0, 65535])
@pytest.mark.parametrize("rights", [(True, False), (False, True), (True, True)])
def test_what_a_command_line_says_comes_back_the_same(
    prefix: bytes, database: int | None, rights: tuple[bool, bool]
) -> None:
    rules = (Rule(database, prefix, *rights), Rule(None, b"plain", True, True))
    words = shlex.split(rule_flags(rules))
    enc = "auto"
    if words[0] == "--enc":
        enc, words = words[1], words[2:]
    assert words[::2] == ["--rule", "--rule"]
    assert parse_rules(words[1::2], enc) == rules
    for other in ("hex", "base64"):
        assert parse_rules([rule_text(rule, other) for rule in rules], other) == rules


def test_a_prefix_that_is_no_text_cannot_steer_the_terminal() -> None:
    assert rule_text(Rule(0, b"\x1b[2J", True, False), "auto") == "r:0:\\x1b[2J"
    assert "\x1b" not in rule_words(Rule(0, b"\x1b[2J", True, False))
    assert rule_text(Rule(None, b"\xff\x00", True, True), "hex") == "rw:*:ff00"
