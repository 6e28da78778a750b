"""Goal: groups on the command line permit exactly what their rules say, and come back as they were.

Method: a real server; a member of the group tries keys inside and outside of the rules.
"""

from __future__ import annotations

import re
import shlex

import pytest

from prefixdb.testing import Namespace
from tests.cli.conftest import Cli
from tests.cli.people import People


@pytest.fixture
def boss(people: People, place: Namespace) -> Cli:
    """The command line of the guardian of ``place``."""
    return people.guardian_of(place.name)


def test_members_of_a_group_may_do_what_its_rules_say_and_no_more(people: People, place: Namespace, boss: Cli) -> None:
    made = boss("group", "create", "lobby", "--rule", "rw:1:lobby/", "--rule", "r:0")
    assert (made.status, made.out) == (0, b""), made.err
    people.make("ann", "--group", "lobby", namespace=place.name)
    ann = people.log_in("ann", "--namespace", place.name)
    statuses = {
        "inside": ann("--database", "1", "put", "lobby/x", "v").status,
        "other prefix": ann("--database", "1", "put", "hall/x", "v").status,
        "other database": ann("--database", "2", "put", "lobby/x", "v").status,
        "read only": ann("put", "lobby/x", "v").status,
        "read": ann("get", "nothing").status,
        "range beyond": ann("--database", "1", "count").status,
        "range inside": ann("--database", "1", "count", "--prefix", "lobby/").status,
    }
    assert statuses == {
        "inside": 0,
        "other prefix": 71,
        "other database": 71,
        "read only": 71,
        "read": 1,
        "range beyond": 71,
        "range inside": 0,
    }
    changed = boss("group", "set", "lobby", "--rule", "r:1")
    assert ann("--database", "1", "put", "lobby/x", "v").status == 71, "it counts from the next request on"
    found = re.search(r"Take it back: (prefixdb .*)", changed.err)
    assert found
    assert boss(*shlex.split(found[1])[1:]).status == 0
    assert ann("--database", "1", "put", "lobby/x", "v").status == 0


def test_what_is_shown_can_be_typed_again(boss: Cli) -> None:
    rules = ["rw:1:lobby/", "r:0", 'w:*:it\'s: a "test"', "r"]
    flags = [word for rule in rules for word in ("--rule", rule)]
    assert boss("group", "create", "g", *flags).status == 0
    shown = [
        line.split("\t", 1)[1] for line in boss("group", "show", "g").text.splitlines() if line.startswith("rule\t")
    ]
    assert sorted(shown) == sorted(rules)
    assert boss("group", "create", "h", *[word for rule in shown for word in ("--rule", rule)]).status == 0
    first, second = (boss("group", "show", name, "--json").json for name in "gh")
    assert first["rules"] == second["rules"]
    assert {"database": 1, "prefix": "lobby/", "read": True, "write": True} in first["rules"]


def test_binary_prefixes_go_through_enc_and_come_back_for_a_copy(boss: Cli) -> None:
    assert boss("group", "create", "bin", "--rule", "r:0:ff00", "--enc", "hex").status == 0
    assert boss("group", "show", "bin", "--enc", "hex").text == "name\tbin\nkind\town\nrule\tr:0:ff00\n"
    escaped = boss("group", "show", "bin")
    assert "r:0:\\xff\\x00" in escaped.text and "--enc hex" in escaped.err
    assert boss("group", "show", "bin", "--json").json["rules"][0]["prefix_b64"] == "/wA="
    changed = boss("group", "set", "bin", "--rule", "rw")
    assert "--enc hex --rule r:0:ff00" in changed.err
    bad = boss("group", "create", "x", "--rule", "r:0:zz", "--enc", "hex")
    assert (bad.status, bad.out) == (2, b"")


def test_lists_have_the_built_in_groups_which_stay_as_they_are(boss: Cli) -> None:
    assert "readers\tbuilt in\tr\nwriters\tbuilt in\trw\n" in boss("group", "list").text
    assert [item["name"] for item in boss("group", "list", "--json").lines] == ["guardians", "readers", "writers"]
    for arguments in (["set", "writers", "--rule", "r"], ["delete", "writers", "--yes"], ["delete", "writers"]):
        ended = boss("group", *arguments)
        assert (ended.status, ended.out) == (73, b"")
        assert "group create NAME --rule RULE" in ended.err
    assert boss("group", "create", "writers", "--rule", "r").status == 70


def test_a_group_is_only_deleted_when_it_is_meant_and_comes_back_by_the_line_that_is_told(
    people: People, place: Namespace, boss: Cli
) -> None:
    boss("group", "create", "g", "--rule", "r:0:it's")
    people.make("ann", "--group", "g", "--group", "readers", namespace=place.name)
    refused = boss("group", "delete", "g")
    assert (refused.status, refused.out) == (2, b"")
    assert f"group g of namespace {place.name}" in refused.err and "--yes" in refused.err
    ended = boss("group", "delete", "g", "--yes")
    assert (ended.status, ended.out) == (0, b"")
    assert boss("user", "show", "ann", "--json").json["groups"] == ["readers"]
    found = re.search(r"comes back with: (prefixdb [^;]*);", ended.err)
    assert found
    assert boss(*shlex.split(found[1])[1:]).status == 0
    assert "rule\tr:0:it's" in boss("group", "show", "g").text
    assert boss("group", "delete", "g", "--yes", "--json").json == {"name": "g", "deleted": True}


def test_what_is_not_there_is_status_1_and_says_where_to_look(boss: Cli) -> None:
    for arguments in (["show", "nope"], ["set", "nope", "--rule", "r"], ["delete", "nope", "--yes"]):
        ended = boss("group", *arguments)
        assert (ended.status, ended.out) == (1, b"")
        assert "group list" in ended.err


def test_a_group_needs_rules_that_are_rules(boss: Cli) -> None:
    for arguments in (
        ["create", "g"],
        ["create", "g", "--rule", "x"],
        ["set", "g"],
        ["create", "g", "--rule", "r:70000"],
    ):
        ended = boss("group", *arguments)
        assert (ended.status, ended.out) == (2, b"")
        assert "--rule" in ended.err or "rule" in ended.err
