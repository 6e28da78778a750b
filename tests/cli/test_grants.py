"""Goal: members of the default namespace use others exactly as far as they were granted, and --namespace leads there.

Method: a real server with two tenants; every refusal is read for what it tells to do next.
"""

from __future__ import annotations

import re
import shlex

import pytest

from prefixdb.testing import Namespace, ServerProcess
from tests.cli.conftest import Cli, Ended
from tests.cli.people import PASSWORD, People

TYPED = f"{PASSWORD}\n".encode()


@pytest.fixture
def olga(place: Namespace) -> str:
    """The name of a member of the default namespace that no other test has."""
    return f"olga-{place.name}"


@pytest.fixture
def other(prefixdb_server: ServerProcess) -> Namespace:
    """A second namespace."""
    return prefixdb_server.create_namespace()


def take_back(cli: Cli, ended: Ended) -> Ended:
    """Run what an act said would take it back."""
    found = re.search(r"Take it back: (prefixdb .*)", ended.err)
    assert found, ended.err
    return cli(*shlex.split(found[1])[1:])


def said(guardian: Cli, member: str) -> list[tuple[str, str | None, list[str]]]:
    """Return what is said about a member: effect, namespace and groups."""
    lines = guardian("grant", "list", member, "--json").lines
    return sorted(
        ((item["effect"], item["namespace_name"], item["groups"]) for item in lines), key=lambda item: str(item)
    )


def test_a_grant_lets_in_and_a_denial_keeps_out_until_taken_back(
    people: People, guardian: Cli, place: Namespace, olga: str
) -> None:
    people.make(olga, "--privilege", "namespaces.use")
    cli = people.log_in(olga)
    assert cli("--namespace", place.name, "count").status == 71
    granted = guardian("grant", "add", olga, place.name, "--group", "readers")
    assert (granted.status, granted.out) == (0, b""), granted.err
    assert cli("--namespace", place.name, "count").out == b"0\n"
    assert cli("count", PREFIXDB_NAMESPACE=f"id:{place.id}").out == b"0\n"
    assert cli("--namespace", place.name, "put", "k", "v").status == 71, "as reader only"
    more = guardian("grant", "add", olga, place.name, "--group", "writers")
    assert cli("--namespace", place.name, "put", "k", "v").status == 0
    assert take_back(guardian, more).status == 0
    assert said(guardian, olga) == [("allow", place.name, ["readers"])]
    denied = guardian("grant", "deny", olga, "*")
    assert cli("--namespace", place.name, "count").status == 71
    assert take_back(guardian, denied).status == 0
    assert cli("--namespace", place.name, "count").out == b"1\n"
    assert take_back(guardian, granted).status == 0
    assert cli("--namespace", place.name, "count").status == 71
    assert said(guardian, olga) == []


def test_what_is_said_about_a_target_is_replaced_and_the_way_back_says_it_again(
    people: People, guardian: Cli, place: Namespace, olga: str
) -> None:
    people.make(olga)
    everywhere = guardian("grant", "add", olga, "*", "--group", "readers", "--group", "writers")
    assert "every namespace but the default one" in everywhere.err
    denied = guardian("grant", "deny", olga, f"id:{place.id}")
    assert said(guardian, olga) == [("allow", None, ["readers", "writers"]), ("deny", place.name, [])]
    text = guardian("grant", "list", olga).text
    assert f"{olga}\tallow\t*\treaders, writers\t" in text and f"{olga}\tdeny\t{place.name}\t-\t" in text
    revoked = guardian("grant", "revoke", olga, "*")
    assert said(guardian, olga) == [("deny", place.name, [])]
    assert take_back(guardian, revoked).status == 0
    assert said(guardian, olga) == [("allow", None, ["readers", "writers"]), ("deny", place.name, [])]
    replaced = guardian("grant", "add", olga, place.name, "--group", "readers")
    assert "denied before" in replaced.err
    assert take_back(guardian, replaced).status == 0
    assert ("deny", place.name, []) in said(guardian, olga)
    assert take_back(guardian, denied).status == 0
    assert guardian("grant", "revoke", olga, "*", "--json").json["revoked"] is True
    assert said(guardian, olga) == []


def test_what_cannot_be_granted_says_why(people: People, guardian: Cli, place: Namespace, olga: str) -> None:
    people.make(olga)
    cases = {
        ("add", "nobody-of-that-name", place.name, "--group", "readers"): (1, "user list"),
        ("add", olga, "no-such-namespace", "--group", "readers"): (1, "ns list"),
        ("add", olga, place.name, "--group", "guardians"): (67, "guardian"),
        ("add", olga, place.name): (2, "--group"),
        ("revoke", olga, place.name): (1, "grant list"),
        ("deny", olga, "id:x"): (2, "id"),
    }
    for arguments, (status, words) in cases.items():
        ended = guardian("grant", *arguments)
        assert (ended.status, ended.out) == (status, b""), (arguments, ended.err)
        assert words in ended.err, arguments


def test_grants_are_for_cluster_guardians(cli: Cli, people: People, place: Namespace) -> None:
    for asking in (cli, people.guardian_of(place.name)):
        for arguments in (["list"], ["add", "x", place.name, "--group", "readers"], ["revoke", "x", place.name]):
            ended = asking("grant", *arguments)
            assert (ended.status, ended.out) == (71, b"")


def test_a_login_lands_where_it_was_told_or_in_the_main_namespace(
    people: People, guardian: Cli, place: Namespace, other: Namespace, olga: str
) -> None:
    people.make(olga, "--main", place.name)
    cli = people.nobody(olga)
    typed = ["login", "--user", olga, "--password-file", "-"]
    early = cli(*typed, stdin=TYPED)
    assert early.status == 73
    assert "Left are default." in early.err and f"user set {olga} --main NAMESPACE" in early.err
    for namespace in (place, other):
        guardian("grant", "add", olga, namespace.name, "--group", "readers")
    main = cli(*typed, stdin=TYPED)
    assert f"Logged in to namespace {place.name} as {olga}, a member of default." in main.err
    me = cli("whoami", "--json").json
    assert (me["namespace_name"], me["home_namespace_id"], me["groups"]) == (place.name, "0", ["readers"])
    assert "here as a guest" in cli("whoami").text
    chosen = cli(*typed, "--home", "default", "--namespace", other.name, stdin=TYPED)
    assert f"Logged in to namespace {other.name}" in chosen.err
    assert cli("whoami", "--json").json["namespace_name"] == other.name
    again = cli("login", "--password-file", "-", stdin=TYPED)
    assert f"namespace {other.name}" in again.err, "the profile keeps the choice"
    [profile] = cli("profile", "list", "--json").lines
    assert (profile["namespace"], profile["login"]["home"]) == (other.name, "default")
    guardian("grant", "revoke", olga, other.name)
    refused = cli("login", "--password-file", "-", stdin=TYPED)
    assert refused.status == 71
    assert "The password is right" in refused.err
    assert cli(*typed, "--home", "default", "--namespace", "default", stdin=TYPED).status == 0


def test_a_main_namespace_that_is_gone_names_those_that_are_left(
    people: People, guardian: Cli, place: Namespace, other: Namespace, olga: str
) -> None:
    people.make(olga, "--main", place.name)
    for namespace in (place, other):
        guardian("grant", "add", olga, namespace.name, "--group", "readers")
    cli = people.log_in(olga)
    guardian("ns", "ban", place.name, "--yes")
    lost = cli("count")
    assert lost.status == 71
    assert "Log in again" in lost.err
    refused = cli("login", "--password-file", "-", stdin=TYPED)
    assert refused.status == 73
    assert f"Left are default, {other.name}." in refused.err
    found = re.search(r"Log in to one: (prefixdb [^.]*)\.", refused.err)
    assert found
    ended = cli(*shlex.split(found[1])[1:], "--password-file", "-", stdin=TYPED)
    assert (ended.status, cli("whoami", "--json").json["namespace_name"]) == (0, other.name), ended.err
    as_json = cli("login", "--home", "default", "--user", olga, "--json", "--password-file", "-", stdin=TYPED)
    assert as_json.status == 0, "the profile's choice counts, not the main namespace"


def test_cluster_commands_work_at_home_wherever_the_login_landed(
    people: People, guardian: Cli, place: Namespace, olga: str
) -> None:
    people.make(olga, "--main", place.name, "--privilege", "namespaces.edit", "--privilege", "audit")
    guardian("grant", "add", olga, place.name, "--group", "readers")
    cli = people.log_in(olga)
    assert cli("whoami", "--json").json["namespace_name"] == place.name
    assert cli("ns", "create", f"{place.name}-by-olga").status == 0
    assert f"{place.name}-by-olga" in cli("ns", "list").text
    assert cli("ns", "list", PREFIXDB_NAMESPACE=place.name).status == 0, "a variable is meant for other commands"
    assert cli("audit", "show", "--remote", "--limit", "1").status == 0
    refused = cli("ns", "list", "--namespace", place.name)
    assert (refused.status, refused.out) == (2, b"")
    assert "leave --namespace out" in refused.err


def test_members_see_the_namespaces_they_may_use(
    people: People, guardian: Cli, cli: Cli, place: Namespace, other: Namespace, olga: str
) -> None:
    people.make(olga, "--privilege", "namespaces.use")
    guardian("grant", "add", olga, place.name, "--group", "readers")
    names = {item["name"] for item in people.log_in(olga)("ns", "list", "--json").lines}
    assert names == {"default", place.name}
    [own] = cli("ns", "list", "--json").lines
    assert (own["name"], own["id"], own["created_at"], own["incarnation"]) == (place.name, str(place.id), None, None)


def test_a_namespace_that_is_not_granted_and_one_that_is_not_there_are_told_the_same(
    people: People, place: Namespace, olga: str
) -> None:
    people.make(olga, "--privilege", "namespaces.use")
    cli = people.log_in(olga)
    messages = []
    for name in (place.name, f"{place.name}-x"):
        ended = cli("--namespace", name, "count", "--json")
        assert ended.status == 71
        words = (ended.error["message"], ended.error["next"].replace(olga, "OLGA"))
        messages.append(tuple(text.replace(name, "NAME") for text in words))
    assert messages[0] == messages[1]
    assert "grant add OLGA NAME" in messages[0][1] and "ns list" in messages[0][1]
    named = cli("count", PREFIXDB_NAMESPACE=place.name)
    assert "variable PREFIXDB_NAMESPACE" in named.err


def test_a_token_or_a_tenants_login_does_not_switch(
    people: People, place: Namespace, other: Namespace, cli: Cli
) -> None:
    people.make("ann", "--group", "readers", namespace=place.name)
    ann = people.log_in("ann", "--namespace", place.name)
    for asking in (cli, ann):
        assert asking("--namespace", place.name, "count").status == 0, "its own namespace may be named"
        assert asking("--namespace", f"id:{place.id}", "count").status == 0
        refused = asking("--namespace", other.name, "count")
        assert (refused.status, refused.out) == (71, b"")
        assert "a profile of its own" in refused.err


def test_a_guest_is_no_guardian_there_and_is_told_how_a_guardian_helps(
    people: People, guardian: Cli, place: Namespace, olga: str
) -> None:
    people.make(olga, "--group", "guardians")
    guardian("grant", "add", olga, place.name, "--group", "writers")
    cli = people.log_in(olga)
    refused = cli("--namespace", place.name, "user", "list")
    assert (refused.status, refused.out) == (71, b"")
    line = f"token issue NAME --guardian namespace --namespace {place.name}"
    assert line in refused.err
    issued = cli("--namespace", place.name, "token", "issue", "helper", "--guardian", "namespace")
    assert issued.status == 0, "'token' names the namespace to the server and needs no grant for it"
    assert cli("user", "list", "--token-file", "-", stdin=issued.out).status == 0
    cli("user", "delete", olga, "--yes", "--quiet")


def test_a_profile_keeps_a_namespace(people: People, guardian: Cli, place: Namespace, olga: str) -> None:
    people.make(olga, "--privilege", "namespaces.use")
    guardian("grant", "add", olga, place.name, "--group", "writers")
    cli = people.log_in(olga)
    assert cli("profile", "set", "default", "--namespace", f"id:{place.id}").status == 0
    assert cli("put", "k", "v").status == 0
    assert cli("whoami", "--json").json["namespace_name"] == place.name
    assert f"\tid:{place.id}\t" in cli("profile", "list").text
    assert cli("--namespace", "default", "whoami", "--json").json["namespace_name"] == "default"
    settings = {item["setting"]: item for item in cli("config", "show", "--json").lines}
    assert settings["namespace"]["source"] == "profile default"
    assert settings["credentials_file"]["value"].endswith("default.login")


def test_a_guest_whose_grant_is_gone_is_told_how_to_land_elsewhere(
    people: People, guardian: Cli, place: Namespace, olga: str
) -> None:
    people.make(olga, "--main", place.name)
    guardian("grant", "add", olga, place.name, "--group", "readers")
    cli = people.log_in(olga)
    guardian("grant", "deny", olga, place.name)
    refused = cli("whoami")
    assert refused.status == 71
    assert f"what you may do in {place.name}" in refused.err and "log in again" in refused.err


def test_everywhere_denied_reads_as_nowhere_allowed(people: People, guardian: Cli, olga: str) -> None:
    people.make(olga)
    assert f"no grant and no denial for a member {olga}" in guardian("grant", "list", olga).err
    assert f"{olga} may use no namespace but the default one" in guardian("grant", "deny", olga, "*").err
    assert "no grant" not in guardian("grant", "list", olga).err
