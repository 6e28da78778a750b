"""Goal: guardians can take a namespace through its life from the command line, and cannot drop one by accident.

Method: a real server, with and without --yes; prompts on a terminal are in test_terminal.py.
"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from prefixdb.testing import Namespace
from tests.cli.conftest import Cli
from tests.cli.people import PASSWORD, People


def test_creating_prints_the_id_and_says_what_comes_next(guardian: Cli, place: Namespace) -> None:
    name = f"{place.name}-made"
    ended = guardian("ns", "create", name, "--label", "team=x", "--id", str(place.id ^ 1))
    assert ended.text == f"{place.id ^ 1}\n"
    assert f"grant add USER {name} --group writers" in ended.err
    assert f"token issue first --namespace {name} --guardian namespace --out FILE" in ended.err
    shown = guardian("ns", "show", name, "--json").json
    assert (shown["id"], shown["state"], shown["labels"]) == (str(place.id ^ 1), "ACTIVE", {"team": "x"})
    ended = guardian("ns", "create", name)
    assert (ended.status, ended.out) == (64 + 6, b"")
    assert name in guardian("ns", "list").text


def test_a_first_guardian_token_goes_into_a_new_private_file(guardian: Cli, place: Namespace, tmp_path: Path) -> None:
    out = tmp_path / "guardian.token"
    name = f"{place.name}-made"
    assert guardian("ns", "create", name, "--out", str(out)).status == 2
    ended = guardian("ns", "create", name, "--guardian-token-ttl", "1h", "--out", str(out))
    assert ended.status == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert out.read_text().strip() not in ended.text + ended.err
    assert guardian("whoami", "--token-file", str(out), "--json").json["guardian"] == "namespace"
    refused = guardian("ns", "create", f"{name}2", "--guardian-token-ttl", "1h", "--out", str(out))
    assert refused.status == 2
    assert guardian("ns", "show", f"{name}2").status == 1, "nothing was made whose token would be lost"


def test_labels_and_names_change_and_the_rest_stays(guardian: Cli, place: Namespace) -> None:
    assert guardian("ns", "update", place.name, "--label", "a=1", "--label", "b=2").status == 0
    assert guardian("ns", "update", place.name, "--label", "b=3", "--remove-label", "a", "--json").json["labels"] == {
        "b": "3"
    }
    assert guardian("ns", "update", f"id:{place.id}", "--name", f"{place.name}-new").status == 0
    assert guardian("ns", "show", f"{place.name}-new", "--json").json["id"] == str(place.id)
    assert guardian("ns", "update", f"id:{place.id}").status == 2


def test_suspending_tells_the_way_back_and_tenants_learn_the_reason(cli: Cli, guardian: Cli, place: Namespace) -> None:
    ended = guardian("ns", "suspend", place.name, "--reason", "moving")
    assert f"prefixdb ns resume {place.name}" in ended.err
    refused = cli("get", "k")
    assert refused.status == 64 + 7
    assert "suspended" in refused.err
    assert guardian("ns", "resume", place.name).status == 0
    assert guardian("ns", "suspend", place.name, "--read-only").status == 0
    assert cli("put", "k", "v").status == 64 + 9
    assert cli("get", "k").status == 1


def test_a_ban_without_a_terminal_needs_yes(guardian: Cli, cli: Cli, place: Namespace) -> None:
    cli("put", "k", "v")
    ended = guardian("ns", "ban", place.name)
    assert (ended.status, ended.out) == (2, b"")
    assert place.name in ended.err and "--yes" in ended.err
    assert cli("get", "k").status == 0


def test_a_ban_with_grace_says_until_when_and_how_to_take_it_back(guardian: Cli, cli: Cli, place: Namespace) -> None:
    cli("put", "k", "v")
    ended = guardian("ns", "ban", place.name, "--grace", "7d", "--reason", "test", "--yes")
    assert ended.status == 0
    assert f"prefixdb ns unban id:{place.id}" in ended.err
    refused = cli("get", "k")
    assert refused.status == 64 + 7
    assert "dropped" in refused.err
    report = guardian("ns", "report", place.name, "--json").json
    assert (report["phase"], report["reason"], report["finished_at"]) == ("GRACE", "test", None)
    assert place.name not in guardian("ns", "list").text
    assert f"{place.name}\tBANNED" in guardian("ns", "list", "--all").text
    assert guardian("ns", "unban", f"id:{place.id}").status == 0
    assert cli("get", "k").out == b"v"


def test_a_ban_that_waits_ends_with_the_proof(guardian: Cli, cli: Cli, place: Namespace) -> None:
    cli("put", "k", "v")
    ended = guardian("ns", "ban", place.name, "--yes", "--wait", "--json")
    assert ended.status == 0
    assert (ended.json["phase"], ended.json["proof_rows_found"], ended.json["proof_bytes_found"]) == ("DONE", 0, 0)
    assert "cannot be undone" in ended.err
    assert "100 % (proven empty)" in ended.err, "without a terminal there are lines, not a bar"
    assert "is gone" in ended.err
    shown = guardian("ns", "report", f"id:{place.id}", "--wait")
    assert "0 rows, 0 bytes left" in shown.text
    refused = guardian("ns", "unban", f"id:{place.id}")
    assert refused.status == 64 + 9


def test_a_repeated_ban_asks_nothing_and_changes_nothing(guardian: Cli, place: Namespace) -> None:
    first = guardian("ns", "ban", place.name, "--grace", "1d", "--yes", "--json").json
    again = guardian("ns", "ban", f"id:{place.id}", "--json")
    assert again.status == 0
    assert again.json["reclaim_after"] == first["reclaim_after"]
    assert "that ban stands" in again.err


@pytest.mark.parametrize("reference", ["id:x", "id:-1", f"id:{2**64 - 1}"])
def test_an_id_that_cannot_be_is_a_usage_error(guardian: Cli, reference: str) -> None:
    assert guardian("ns", "show", reference).status == 2


def test_an_unknown_namespace_is_status_1(guardian: Cli) -> None:
    ended = guardian("ns", "show", "no-such-namespace")
    assert (ended.status, ended.out) == (1, b"")
    assert "ns list --all" in ended.err


def test_tenants_cannot(cli: Cli, place: Namespace) -> None:
    for arguments in (["create", "mine"], ["ban", place.name, "--yes"], ["suspend", place.name], ["unban", place.name]):
        ended = cli("ns", *arguments)
        assert (ended.status, ended.out) == (64 + 7, b""), arguments
        assert "whoami" in ended.err


def test_a_namespace_can_begin_with_a_guardian_who_logs_in(guardian: Cli, place: Namespace, people: People) -> None:
    name = f"{place.name}-made"
    create = ["ns", "create", name, "--guardian", "gina"]
    assert guardian(*create).status == 2, "nobody can be asked for the password"
    assert guardian("ns", "create", name, "--password-file", "-", stdin=b"12345678\n").status == 2
    assert guardian(*create, "--password-file", "-", stdin=b"short\n").status == 2
    assert guardian("ns", "show", name).status == 1, "nothing was made meanwhile"
    ended = guardian(*create, "--password-file", "-", stdin=f"{PASSWORD}\n".encode())
    assert ended.status == 0, ended.err
    assert ended.text.strip().isdigit()
    assert f"prefixdb --profile {name} --namespace {name} login --user gina" in ended.err
    assert PASSWORD not in ended.err
    gina = people.log_in("gina", "--namespace", name)
    assert gina("whoami", "--json").json["guardian"] == "namespace"
    assert gina("user", "list").text.startswith("gina\tguardians\tyes\t")
    assert gina("ns", "show", "--json").json["name"] == name


def test_the_way_in_of_a_first_guardian_leads_to_the_same_server(guardian: Cli, place: Namespace) -> None:
    name, endpoint = f"{place.name}-far", place.server.endpoint
    made = ("ns", "create", "--guardian", "gina", "--password-file", "-")
    ended = guardian(*made, name, "--endpoint", endpoint, stdin=f"{PASSWORD}\n".encode())
    assert f"prefixdb --profile {name} --endpoint {endpoint} --namespace {name} login --user gina" in ended.err
