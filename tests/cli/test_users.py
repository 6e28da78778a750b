"""Goal: guardians look after the members of their namespace; nothing is destroyed by accident, every act says the way
back, and passwords are seen by nobody.

Method: a real server; the commands that an act prints as its way back are run as they are printed.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from prefixdb import connect
from prefixdb.testing import Namespace
from tests.cli.conftest import Cli, Ended
from tests.cli.people import PASSWORD, People, password_file


@pytest.fixture
def boss(people: People, place: Namespace) -> Cli:
    """The command line of the guardian of ``place``."""
    return people.guardian_of(place.name)


def take_back(cli: Cli, ended: Ended) -> Ended:
    """Run what an act said would take it back."""
    found = re.search(r"Take it back: (prefixdb .*)", ended.err)
    assert found, ended.err
    return cli(*shlex.split(found[1])[1:], "--yes")


def member(cli: Cli, name: str) -> dict[str, object]:
    """Return a member as JSON."""
    facts: dict[str, object] = cli("user", "show", name, "--json").json
    return facts


def test_a_member_is_made_listed_and_shown(boss: Cli, tmp_path: Path) -> None:
    made = boss("user", "create", "ann", "--group", "writers", "--password-file", password_file(tmp_path))
    assert (made.status, made.out) == (0, b"")
    assert "Created member ann in writers." in made.err
    facts = member(boss, "ann")
    assert (facts["name"], facts["groups"], facts["disabled"], facts["has_password"]) == (
        "ann",
        ["writers"],
        False,
        True,
    )
    assert (facts["privileges"], facts["main_namespace_id"]) == ([], None)
    assert "ann\twriters\tyes\t-\t-\t" in boss("user", "list").text
    assert "log in\tyes" in boss("user", "show", "ann").text
    assert [item["name"] for item in boss("user", "list", "--json").lines] == ["ann"]
    assert PASSWORD not in made.err + boss("user", "list", "--json").text
    again = boss("user", "create", "ann", "--no-password")
    assert (again.status, again.out) == (70, b"")
    assert "user set" in again.err
    assert take_back(boss, made).status == 0
    assert boss("user", "show", "ann").status == 1


def test_a_member_without_rights_or_password_is_told(boss: Cli) -> None:
    made = boss("user", "create", "ann", "--no-password")
    assert "prefixdb" in made.err and "user set ann --group writers" in made.err and "user passwd ann" in made.err
    assert "no password" in boss("user", "list").text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "ann"], "--password-file"),
        (["create", "ann", "--no-password", "--password-file", "x"], "either"),
        (["create", "ann", "--password-file", "no/such/file"], "cannot be read"),
        (["create", "ann", "--privilege", "everything", "--no-password"], "namespaces.use"),
        (["set", "ann"], "Nothing to change"),
        (["set", "ann", "--group", "a", "--add-group", "b"], "either"),
        (["set", "ann", "--main", "a", "--no-main"], "either"),
        (["set", "ann", "--privilege", "audit", "--no-privileges"], "either"),
        (["passwd", "ann"], "--password-file"),
        (["passwd", "ann", "--password-file", "-", "--old-password-file", "-"], "no old password"),
        (["passwd"], "--old-password-file"),
        (["passwd", "--password-file", "-"], "--old-password-file"),
    ],
)
def test_what_cannot_be_is_a_usage_error(boss: Cli, arguments: list[str], words: str) -> None:
    ended = boss("user", *arguments, stdin=b"12345678\n")
    assert (ended.status, ended.out) == (2, b""), ended.err
    assert words in ended.err


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\nsecond line\n", b"short\n", b"\xff\xfe not text\n", b"x" * 1025, "ü".encode() * 600]
)
def test_what_is_no_password_is_refused_before_anything_is_sent(boss: Cli, content: bytes) -> None:
    ended = boss("user", "create", "ann", "--password-file", "-", "--endpoint", "127.0.0.1:1", stdin=content)
    assert (ended.status, ended.out) == (2, b"")
    assert "password" in ended.err.lower()


@pytest.mark.parametrize("password", ["12345678", " with spaces ", "päßwörter", "x" * 1024])
def test_a_password_is_the_first_line_of_its_file_and_nothing_is_stripped(
    people: People, place: Namespace, boss: Cli, password: str
) -> None:
    text = f"{password}\r\nthe rest is a remark\n".encode()
    assert boss("user", "create", "ann", "--password-file", "-", stdin=text).status == 0
    assert people.log_in("ann", "--namespace", place.name, password=password)("whoami").status == 0
    # Not through the same reader again: what was set is what was written, space by space.
    with connect(place.server.endpoint, user="ann", password=password, namespace=place.name) as db:
        assert db.whoami().subject == "ann"


def test_changes_of_groups_say_the_way_back(boss: Cli) -> None:
    boss("user", "create", "ann", "--no-password", "--group", "readers")
    for arguments, groups in [
        (["--group", "writers"], ["writers"]),
        (["--add-group", "writers"], ["readers", "writers"]),
        (["--remove-group", "readers"], []),
        (["--add-group", "writers", "--remove-group", "readers"], ["writers"]),
    ]:
        changed = boss("user", "set", "ann", *arguments)
        assert (changed.status, changed.out) == (0, b""), changed.err
        assert member(boss, "ann")["groups"] == groups
        assert take_back(boss, changed).status == 0
        assert member(boss, "ann")["groups"] == ["readers"]
    slip = boss("user", "set", "ann", "--remove-group", "reader")
    assert (slip.status, slip.out) == (2, b"")
    assert "nothing was changed" in slip.err and "readers" in slip.err
    unknown = boss("user", "set", "ann", "--add-group", "nope")
    assert unknown.status == 1 and "group list" in unknown.err


def test_from_no_group_to_some_and_back(boss: Cli) -> None:
    boss("user", "create", "ann", "--no-password")
    changed = boss("user", "set", "ann", "--group", "readers", "--group", "writers")
    assert take_back(boss, changed).status == 0
    assert member(boss, "ann")["groups"] == []


def test_a_disabled_member_is_out_at_once_and_comes_back(people: People, place: Namespace, boss: Cli) -> None:
    people.make("ann", "--group", "readers", namespace=place.name)
    ann = people.log_in("ann", "--namespace", place.name)
    assert ann("count").status == 0
    changed = boss("user", "set", "ann", "--disable", "--json")
    assert changed.json["disabled"] is True
    assert ann("count").status == 80
    assert "\tdisabled\t" in boss("user", "list").text
    assert "Its logins have ended" in changed.err
    login = ["login", "--password-file", "-"]
    assert ann(*login, stdin=f"{PASSWORD}\n".encode()).status == 80
    assert take_back(boss, changed).status == 0
    assert ann(*login, stdin=f"{PASSWORD}\n".encode()).status == 0
    assert ann("count").status == 0


def test_rights_and_main_namespace_of_the_default_namespace(people: People, guardian: Cli, place: Namespace) -> None:
    name = f"ops-{place.name}"
    people.make(name, "--privilege", "audit", "--main", place.name)
    facts = member(guardian, name)
    assert (facts["privileges"], facts["main_namespace_name"]) == (["audit"], place.name)
    changed = guardian("user", "set", name, "--privilege", "namespaces.use", "--no-main")
    facts = member(guardian, name)
    assert (facts["privileges"], facts["main_namespace_id"]) == (["namespaces.use"], None)
    assert take_back(guardian, changed).status == 0
    facts = member(guardian, name)
    assert (facts["privileges"], facts["main_namespace_id"]) == (["audit"], str(place.id))
    cleared = guardian("user", "set", name, "--no-privileges", "--main", f"id:{place.id}")
    assert member(guardian, name)["privileges"] == []
    assert take_back(guardian, cleared).status == 0
    assert member(guardian, name)["privileges"] == ["audit"]
    assert f"privileges\taudit\nmain namespace\t{place.name}" in guardian("user", "show", name).text


def test_the_last_guardian_stays_and_it_is_said_how_to_go_on(people: People, place: Namespace, boss: Cli) -> None:
    people.make("gina", "--group", "guardians", namespace=place.name)
    for arguments in (["delete", "gina", "--yes"], ["set", "gina", "--disable"], ["set", "gina", "--group", "readers"]):
        ended = boss("user", *arguments)
        assert (ended.status, ended.out) == (73, b""), arguments
        assert "user create NAME --group guardians" in ended.err
    people.make("gus", "--group", "guardians", namespace=place.name)
    assert boss("user", "delete", "gina", "--yes").status == 0


def test_a_member_is_only_deleted_when_it_is_meant(people: People, place: Namespace, boss: Cli) -> None:
    people.make("ann", "--group", "readers", namespace=place.name)
    ann = people.log_in("ann", "--namespace", place.name)
    refused = boss("user", "delete", "ann")
    assert (refused.status, refused.out) == (2, b"")
    assert f"member ann of namespace {place.name}" in refused.err and "--yes" in refused.err
    assert ann("count").status == 0
    ended = boss("user", "delete", "ann", "--yes", "--json")
    assert ended.json == {"name": "ann", "deleted": True}
    assert "cannot be undone" in ended.err
    assert ann("count").status == 80
    gone = boss("user", "delete", "ann", "--yes")
    assert (gone.status, gone.out) == (1, b"")
    assert "user list" in gone.err


def test_a_guardian_sets_a_password_and_logins_end(people: People, place: Namespace, boss: Cli, tmp_path: Path) -> None:
    people.make("ann", namespace=place.name)
    ann = people.log_in("ann", "--namespace", place.name)
    ended = boss("user", "passwd", "ann", "--password-file", password_file(tmp_path, "another password"), "--json")
    assert ended.json == {"name": "ann", "password_set": True}
    assert "another password" not in ended.text + ended.err
    assert ann("whoami").status == 80
    old = ann("login", "--password-file", "-", stdin=f"{PASSWORD}\n".encode())
    assert old.status == 80
    assert people.log_in("ann", "--namespace", place.name, password="another password")("whoami").status == 0


def test_ones_own_password_is_changed_with_the_old_one_and_this_login_goes_on(
    people: People, place: Namespace, tmp_path: Path
) -> None:
    people.make("ann", namespace=place.name)
    here = people.log_in("ann", "--namespace", place.name)
    there = people.nobody("ann-there")
    assert (
        there("login", "--user", "ann", "--namespace", place.name, "--password-file", password_file(tmp_path)).status
        == 0
    )
    both = ["user", "passwd", "--old-password-file", "-", "--password-file", "-"]
    wrong = here(*both, stdin=b"wrong wrong\nanother password\n")
    assert wrong.status == 80
    assert there("whoami").status == 0
    ended = here(*both, stdin=f"{PASSWORD}\nanother password\n".encode())
    assert ended.status == 0, ended.err
    assert "but for this one" in ended.err
    assert here("whoami").status == 0
    assert there("whoami").status == 80


def test_a_token_has_no_password_of_its_own(cli: Cli, tmp_path: Path) -> None:
    file = password_file(tmp_path)
    ended = cli("user", "passwd", "--old-password-file", file, "--password-file", file)
    assert (ended.status, ended.out) == (2, b"")
    assert "who logged in" in ended.err


def test_who_is_no_guardian_learns_nothing_and_is_told_who_could(people: People, place: Namespace, cli: Cli) -> None:
    people.make("ann", namespace=place.name)
    for arguments in (
        ["list"],
        ["show", "ann"],
        ["show", "nobody"],
        ["delete", "ann", "--yes"],
        ["set", "ann", "--enable"],
    ):
        ended = cli("user", *arguments)
        assert (ended.status, ended.out) == (71, b"")
        assert "guardians of their namespace" in ended.err


def test_the_way_back_goes_to_the_same_place(people: People, place: Namespace, boss: Cli, tmp_path: Path) -> None:
    """A command that is copied must not land in the namespace of whatever profile is current."""
    token = boss.environment["PREFIXDB_TOKEN_FILE"]
    made = boss("--token-file", token, "user", "create", "ann", "--password-file", password_file(tmp_path))
    assert f"prefixdb --token-file {token} user delete ann" in made.err
    assert (
        people.nobody("x")("profile", "set", "p", "--endpoint", place.server.endpoint, "--token-file", token).status
        == 0
    )
    named = people.nobody("x")("--profile", "p", "user", "set", "ann", "--disable")
    assert "prefixdb --profile p user set ann --enable" in named.err
