"""Goal: a login is kept privately in a profile, renews itself, ends on demand, and every refusal says what to do next.

Method: a real server; members made for the test; files are looked at on disk, outputs are searched for secrets.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from prefixdb.testing import Namespace
from tests.cli.conftest import Cli
from tests.cli.people import PASSWORD, People, password_file

TYPED = f"{PASSWORD}\n".encode()


def kept(cli: Cli, profile: str = "default") -> Path:
    """Return the file of a profile's login."""
    return cli.config_home / "prefixdb" / "credentials" / f"{profile}.login"


def test_a_login_makes_the_profile_and_every_command_uses_it(people: People, place: Namespace) -> None:
    people.make("ann", "--group", "writers", namespace=place.name)
    cli = people.nobody("ann")
    ended = cli("login", "--namespace", place.name, "--user", "ann", "--password-file", "-", stdin=TYPED)
    assert (ended.status, ended.out) == (0, b""), ended.err
    assert f"Logged in to namespace {place.name} as ann." in ended.err
    assert "Profile default has the login" in ended.err and "it is current" in ended.err
    assert cli("put", "k", "v").status == 0
    me = cli("whoami", "--json").json
    assert (me["subject"], me["namespace_name"], me["member"]) == ("ann", place.name, True)
    assert cli("get", "k", PREFIXDB_ENDPOINT="").out == b"v", "the profile knows the server too"
    as_json = cli("login", "--json", "--password-file", "-", stdin=TYPED)
    assert (as_json.json["user"], as_json.json["home"], as_json.json["profile"]) == ("ann", place.name, "default")


def test_nothing_shows_the_password_or_a_token_and_files_are_private(people: People, place: Namespace) -> None:
    people.make("ann", namespace=place.name)
    cli = people.log_in("ann", "--namespace", place.name)
    path = kept(cli)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    tokens = json.loads(path.read_text())
    secrets = [PASSWORD, tokens["access_token"].split(".")[2], tokens["refresh_token"].split(".")[2]]
    assert PASSWORD not in path.read_text(), "a login keeps tokens, never the password"
    profiles = (cli.config_home / "prefixdb" / "profiles.toml").read_text()
    commands = (["whoami"], ["profile", "list"], ["config", "show"], ["doctor"], ["get", "k"], ["logout"])
    for command in commands:
        for flags in ([], ["--json"]):
            ended = cli(*command, *flags)
            assert not [secret for secret in secrets if secret in ended.text + ended.err + profiles], command


@pytest.mark.parametrize("password", ["wrong wrong wrong", PASSWORD[:-1], f"{PASSWORD} "])
def test_a_wrong_password_says_whose_it_was_and_leaves_no_login(
    people: People, place: Namespace, password: str
) -> None:
    people.make("ann", namespace=place.name)
    cli = people.nobody("ann")
    typed = f"{password}\n".encode()
    ended = cli("login", "--namespace", place.name, "--user", "ann", "--password-file", "-", stdin=typed)
    assert (ended.status, ended.out) == (80, b"")
    assert f"Tried was ann of namespace {place.name}" in ended.err and "user passwd ann" in ended.err
    assert password.strip() not in ended.err
    assert not kept(cli).exists()
    assert not (cli.config_home / "prefixdb" / "profiles.toml").exists()


def test_an_unknown_member_and_an_unknown_namespace_are_told_the_same(people: People, place: Namespace) -> None:
    people.make("ann", namespace=place.name)
    answers = set()
    for user, namespace in (("ann", f"{place.name}-x"), ("nobody", place.name)):
        ended = people.nobody("x")(
            "login", "--namespace", namespace, "--user", user, "--password-file", "-", "--json", stdin=TYPED
        )
        answers.add((ended.status, ended.error["reason"], ended.error["message"]))
    assert answers == {(80, "BAD_CREDENTIALS", "The user name or the password is wrong.")}


def test_too_many_wrong_passwords_are_told_how_long_to_wait(people: People, place: Namespace) -> None:
    people.make("ann", namespace=place.name)
    cli = people.nobody("ann")
    login = ["login", "--namespace", place.name, "--user", "ann", "--password-file", "-"]
    for _ in range(40):
        ended = cli(*login, stdin=b"wrong wrong\n")
        if ended.status != 80:
            break
    assert ended.status == 72
    assert "Wait " in ended.err and "the right password is refused too" in ended.err
    refused = cli(*login, "--json", stdin=TYPED)
    assert refused.error["reason"] == "RATE_LIMITED"


def test_a_second_login_repeats_the_first_and_other_options_do_not(people: People, place: Namespace) -> None:
    people.make("ann", namespace=place.name)
    cli = people.log_in("ann", "--namespace", place.name)
    first = kept(cli).read_text()
    again = cli("login", "--password-file", "-", stdin=TYPED)
    assert again.status == 0, again.err
    assert f"namespace {place.name} as ann" in again.err
    assert kept(cli).read_text() != first
    other = cli("login", "--user", "somebody", "--password-file", "-", stdin=TYPED)
    assert "somebody of namespace default" in other.err, "another user is not taken for one of the same namespace"
    assert cli("whoami", "--json").json["subject"] == "ann", "a refused login leaves the one there is"


def test_an_access_token_that_has_ended_is_renewed_without_a_word(people: People, place: Namespace) -> None:
    people.make("ann", "--group", "writers", namespace=place.name)
    cli = people.log_in("ann", "--namespace", place.name)
    before = json.loads(kept(cli).read_text())
    kept(cli).write_text(json.dumps(before | {"access_renew_at_s": 0, "access_expires_at_s": 0}))
    ended = cli("put", "k", "v")
    assert (ended.status, ended.err) == (0, "")
    after = json.loads(kept(cli).read_text())
    assert after["access_token"] != before["access_token"]
    assert after["refresh_token"] != before["refresh_token"]
    assert stat.S_IMODE(kept(cli).stat().st_mode) == 0o600


def test_a_logout_ends_the_login_on_the_server_too(people: People, place: Namespace) -> None:
    people.make("ann", namespace=place.name)
    cli = people.log_in("ann", "--namespace", place.name)
    copy = kept(cli).read_text()
    ended = cli("logout")
    assert (ended.status, ended.out) == (0, b"")
    assert not kept(cli).exists()
    refused = cli("whoami")
    assert refused.status == 80
    assert "There is no token" in refused.err and "prefixdb login --user USER" in refused.err
    again = cli("logout")
    assert (again.status, again.out) == (2, b"")
    assert "profile default has no login" in again.err
    people.log_in("ann", "--namespace", place.name)
    kept(cli).write_text(copy)
    stolen = cli("whoami")
    assert stolen.status == 80, "a copy of the tokens is dead"
    assert "Log in again: prefixdb login" in stolen.err


def test_a_logout_everywhere_ends_the_other_logins(people: People, place: Namespace) -> None:
    people.make("ann", namespace=place.name)
    here = people.log_in("ann", "--namespace", place.name)
    there = people.nobody("ann-elsewhere")
    typed = ["--user", "ann", "--password-file", "-", "--namespace", place.name]
    assert there("login", *typed, stdin=TYPED).status == 0
    bystander = people.nobody("ann-bystander")
    people.make("ben", namespace=place.name)
    ben = people.log_in("ben", "--namespace", place.name)
    assert here("logout", "--everywhere", "--json").json["everywhere"] is True
    assert there("whoami").status == 80
    assert ben("whoami").status == 0, "nobody else is touched"
    failed = there("logout", "--everywhere")
    assert failed.status == 80, "a dead login cannot end the others, and does not say that it did"
    assert there("logout").status == 0
    assert bystander("login", *typed, stdin=TYPED).status == 0


def test_forgetting_a_login_asks_no_server(people: People, place: Namespace) -> None:
    people.make("ann", namespace=place.name)
    cli = people.log_in("ann", "--namespace", place.name)
    unreachable = cli("logout", "--endpoint", "127.0.0.1:1")
    assert unreachable.status == 78
    assert kept(cli).exists(), "what could not be ended is not forgotten by itself"
    ended = cli("logout", "--forget", "--endpoint", "127.0.0.1:1")
    assert ended.status == 0
    assert "stays good" in ended.err
    assert not kept(cli).exists()
    assert cli("logout", "--forget", "--everywhere").status == 2


def test_a_login_takes_the_place_of_a_token_and_a_token_is_not_put_beside_it(people: People, place: Namespace) -> None:
    people.make("ann", namespace=place.name)
    cli = people.nobody("ann")
    assert (
        cli("profile", "set", "p", "--endpoint", place.server.endpoint, "--token-file", str(place.token_file)).status
        == 0
    )
    ended = cli("login", "--namespace", place.name, "--user", "ann", "--password-file", "-", stdin=TYPED)
    assert f"used the token in {place.token_file}" in ended.err
    assert place.token_file.exists()
    assert cli("whoami", "--json").json["subject"] == "ann"
    refused = cli("profile", "set", "p", "--token-file", str(place.token_file))
    assert (refused.status, refused.out) == (2, b"")
    assert "prefixdb --profile p logout" in refused.err
    assert cli("whoami", "--json", "--token-file", str(place.token_file)).json["subject"] == "tester", "a flag wins"
    assert cli("logout", "--token-file", str(place.token_file)).status == 2
    hidden = cli("login", "--password-file", "-", stdin=TYPED, PREFIXDB_TOKEN_FILE=str(place.token_file))
    assert "does not count while a token is named: here by the variable PREFIXDB_TOKEN_FILE" in hidden.err


def test_a_profile_is_not_pointed_to_another_server_by_a_login(people: People, place: Namespace) -> None:
    people.make("ann", namespace=place.name)
    cli = people.log_in("ann", "--namespace", place.name)
    ended = cli("login", "--endpoint", "127.0.0.1:1", "--password-file", "-", stdin=TYPED)
    assert ended.status == 2
    assert place.server.endpoint in ended.err and "--profile" in ended.err
    assert "logout (--forget if its server is gone), then prefixdb profile set" in ended.err
    assert cli("profile", "set", "default", "--endpoint", "127.0.0.1:1").status == 2
    assert cli("whoami").status == 0
    gone = cli("logout", "--endpoint", "127.0.0.1:1")
    assert (gone.status, "logout --forget" in gone.err) == (78, True)
    assert cli("whoami").status == 0, "a logout that reached nobody keeps the login"
    other = cli(
        "login", "--profile", "b", "--user", "ann", "--endpoint", "127.0.0.1:1", "--password-file", "-", stdin=TYPED
    )
    assert other.status == 78, "another profile may be for another server"


def test_profiles_tell_whose_login_they_have(people: People, place: Namespace) -> None:
    people.make("ann", namespace=place.name)
    cli = people.log_in("ann", "--namespace", place.name)
    assert f"ann in {place.name}\t" in cli("profile", "list").text
    [item] = cli("profile", "list", "--json").lines
    assert (item["login"]["user"], item["login"]["home"], item["token_file"]) == ("ann", place.name, None)
    kept(cli).write_text("nonsense")
    assert "no login any more" in cli("profile", "list").text
    damaged = cli("whoami")
    assert damaged.status == 80
    assert "nonsense" not in damaged.err and "prefixdb login" in damaged.err
    assert cli("login", "--user", "ann", "--namespace", place.name, "--password-file", "-", stdin=TYPED).status == 0
    ended = cli("profile", "remove", "default", "--yes")
    assert "not ended" in ended.err
    assert not kept(cli).exists()


def test_doctor_looks_at_the_login(people: People, place: Namespace, tmp_path: Path) -> None:
    people.make("ann", namespace=place.name)
    cli = people.log_in("ann", "--namespace", place.name)
    assert f"ok login: ann in namespace {place.name}" in cli("doctor").text
    people.guardian_of(place.name)("user", "passwd", "ann", "--password-file", password_file(tmp_path))
    ended = cli("doctor")
    assert ended.status == 80
    assert "!! identity: The server refuses you" in ended.text
    tokens = json.loads(kept(cli).read_text())
    kept(cli).write_text(json.dumps(tokens | {"refresh_expires_at": "2020-01-01T00:00:00+00:00"}))
    ended = cli("doctor")
    assert ended.status == 80
    assert "!! login: It expired at 2020-01-01" in ended.text
    kept(cli).unlink()
    assert "!! login: " in cli("doctor").text


def test_a_login_that_was_ended_says_why_and_how_to_go_on(people: People, place: Namespace, tmp_path: Path) -> None:
    people.make("ann", namespace=place.name)
    cli = people.log_in("ann", "--namespace", place.name, "--profile", "work")
    people.guardian_of(place.name)("user", "passwd", "ann", "--password-file", password_file(tmp_path))
    ended = cli("get", "k", "--profile", "work")
    assert ended.status == 80
    assert "a new password" in ended.err and "prefixdb --profile work login" in ended.err
    as_json = cli("get", "k", "--profile", "work", "--json").error
    assert as_json["reason"] == "TOKEN_REVOKED" and "prefixdb --profile work login" in as_json["next"]


def test_a_profile_without_a_login_and_a_missing_profile_say_how_to_log_in(people: People) -> None:
    cli = people.nobody("new")
    cli("profile", "set", "empty", "--endpoint", cli.environment["PREFIXDB_ENDPOINT"])
    ended = cli("--profile", "empty", "whoami")
    assert (ended.status, "profile empty has no login" in ended.err) == (80, True)
    assert "prefixdb --profile empty login --user USER" in ended.err
    ended = cli("--profile", "none", "whoami")
    assert (ended.status, "prefixdb --profile none login" in ended.err) == (2, True)
