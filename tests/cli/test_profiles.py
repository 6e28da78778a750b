"""Goal: a flag beats a variable beats the profile; credentials stay private; a damaged file is told, not ignored.

Method: ``config show --json`` says where each setting came from; files are looked at on disk.
"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from prefixdb.testing import Namespace
from tests.cli.conftest import Cli


def sources(cli: Cli, *arguments: str, **variables: str) -> dict[str, tuple[object, str]]:
    """Return each setting's value and source."""
    ended = cli("config", "show", "--json", *arguments, **variables)
    assert ended.status == 0, ended.err
    return {item["setting"]: (item["value"], item["source"]) for item in ended.lines}


def test_a_flag_beats_a_variable_beats_the_profile_beats_the_default(bare: Cli) -> None:
    assert sources(bare)["endpoint"] == ("127.0.0.1:7311", "default")
    bare("profile", "set", "p", "--endpoint", "127.0.0.1:1", "--database", "1", "--timeout", "1m")
    assert sources(bare)["endpoint"] == ("127.0.0.1:1", "profile p")
    assert sources(bare)["timeout"] == (60.0, "profile p")
    over = sources(bare, PREFIXDB_ENDPOINT="127.0.0.1:2", PREFIXDB_TIMEOUT="2s")
    assert over["endpoint"] == ("127.0.0.1:2", "variable PREFIXDB_ENDPOINT")
    assert over["timeout"] == (2.0, "variable PREFIXDB_TIMEOUT")
    assert over["database"] == (1, "profile p")
    top = sources(bare, "--endpoint", "127.0.0.1:3", PREFIXDB_ENDPOINT="127.0.0.1:2")
    assert top["endpoint"] == ("127.0.0.1:3", "flag --endpoint")
    assert sources(bare, PREFIXDB_ENDPOINT="")["endpoint"][1] == "profile p", "an empty variable is not set"


def test_a_flag_works_before_and_after_the_command_and_the_inner_one_wins(bare: Cli) -> None:
    ended = bare("--endpoint", "127.0.0.1:1", "config", "--endpoint", "127.0.0.1:2", "show", "--json")
    assert ended.lines[1]["value"] == "127.0.0.1:2"
    ended = bare("--json", "--endpoint", "127.0.0.1:1", "config", "show")
    assert ended.lines[1]["value"] == "127.0.0.1:1"


def test_profiles_are_chosen_by_flag_by_variable_and_by_use(bare: Cli) -> None:
    for number, name in enumerate(("one", "two", "three"), 1):
        bare("profile", "set", name, "--endpoint", f"127.0.0.1:{number}")
    assert sources(bare)["profile"] == ("one", "current profile")
    assert sources(bare, PREFIXDB_PROFILE="two")["endpoint"] == ("127.0.0.1:2", "profile two")
    assert sources(bare, "--profile", "three", PREFIXDB_PROFILE="two")["profile"] == ("three", "flag --profile")
    assert bare("profile", "use", "two").status == 0
    assert sources(bare)["endpoint"] == ("127.0.0.1:2", "profile two")
    listed = {item["name"]: item["current"] for item in bare("profile", "list", "--json").lines}
    assert listed == {"one": False, "two": True, "three": False}
    assert bare("profile", "set", "three", "--current", "--database", "3").status == 0
    assert sources(bare)["endpoint"] == ("127.0.0.1:3", "profile three"), "what was not named stays as it was"


def test_a_stored_token_is_private_used_and_removed_with_its_profile(bare: Cli, place: Namespace) -> None:
    token = place.token_file.read_bytes()
    ended = bare("profile", "set", "mine", "--endpoint", place.server.endpoint, "--token-file", "-", stdin=token)
    assert ended.status == 0
    home = bare.config_home / "prefixdb"
    stored = home / "credentials" / "mine.token"
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert stat.S_IMODE(stored.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "profiles.toml").stat().st_mode) == 0o600
    assert token.decode().strip() not in (home / "profiles.toml").read_text() + ended.err + ended.text
    assert bare("put", "k", "v").status == 0
    assert bare("get", "k").out == b"v"
    assert bare("profile", "remove", "mine").status == 2
    assert bare("profile", "remove", "mine", "--yes").status == 0
    assert not stored.exists()
    ended = bare("get", "k", "--endpoint", place.server.endpoint)
    assert (ended.status, ended.out) == (64 + 16, b"")
    assert "There is no token" in ended.err and "--token-file" in ended.err and "prefixdb login" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["profile", "use", "none"],
        ["profile", "set", "../up", "--endpoint", "127.0.0.1:1"],
        ["profile", "set", "empty"],
        ["profile", "set", "p", "--token-file", "no/such/file"],
        ["profile", "set", "p", "--token-file", "-"],
        ["profile", "set", "p", "--endpoint", "https://host:1"],
        ["profile", "remove", "none", "--yes"],
        ["get", "k", "--profile", "none"],
        ["--profile", "p", "profile", "use", "p"],
    ],
)
def test_what_cannot_be_is_a_usage_error_and_changes_nothing(bare: Cli, arguments: list[str]) -> None:
    ended = bare(*arguments)
    assert (ended.status, ended.out) == (2, b""), ended.err
    assert not (bare.config_home / "prefixdb" / "profiles.toml").exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("current = [", "not TOML"),
        ("colour = 1", "nothing else"),
        ("[profiles.p]\nendpiont = 'x'", "profiles.p.endpiont"),
        ("[profiles.p]\ndatabase = true", "profiles.p.database"),
        ("[profiles]\np = 3", "profiles.p"),
    ],
)
def test_a_damaged_file_of_profiles_is_named_and_never_overwritten(bare: Cli, text: str, named: str) -> None:
    path = bare.config_home / "prefixdb" / "profiles.toml"
    path.parent.mkdir()
    path.write_text(text)
    for arguments in (["get", "k"], ["profile", "list"], ["profile", "set", "q", "--endpoint", "127.0.0.1:1"]):
        ended = bare(*arguments)
        assert ended.status == 2
        assert str(path) in ended.err and named in ended.err
    assert path.read_text() == text


def test_odd_names_and_values_survive_the_file(bare: Cli, tmp_path: Path) -> None:
    odd = tmp_path / 'quote " back \\ slash ü.token'
    odd.write_text("t")
    assert bare("profile", "set", "a.b-c_1", "--token-file", str(odd)).status == 0
    assert sources(bare, "--profile", "a.b-c_1")["token_file"] == (str(odd), "profile a.b-c_1")


def test_a_token_for_plaintext_beyond_this_machine_is_refused(bare: Cli, tmp_path: Path) -> None:
    file = tmp_path / "t"
    file.write_text("t")
    ended = bare("get", "k", "--endpoint", "192.0.2.1:7311", "--token-file", str(file))
    assert ended.status == 2
    assert "--insecure" in ended.err


@pytest.mark.parametrize("variable", ["PREFIXDB_DATABASE", "PREFIXDB_TIMEOUT", "PREFIXDB_JSON", "PREFIXDB_ENC"])
def test_a_bad_variable_is_named(bare: Cli, variable: str) -> None:
    ended = bare("config", "show", **{variable: "what?"})
    assert ended.status == 2
    assert variable in ended.err
