"""Goal: whoami, ping, status, compact and doctor tell the truth about the server, also when there is none.

Method: a real server, a port where nobody listens, one where something else does, and tokens of several kinds.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

import prefixdb
from prefixdb.testing import Namespace, ServerProcess
from tests.cli.conftest import Cli


def test_whoami_tells_namespace_and_rights(cli: Cli, guardian: Cli, place: Namespace) -> None:
    me = cli("whoami", "--json").json
    assert (me["namespace_id"], me["subject"], me["groups"]) == (str(place.id), "tester", ["writers"])
    assert me["rules"] == [{"database": None, "prefix": "", "read": True, "write": True}]
    assert "read and write every database" in cli("whoami").text
    assert guardian("whoami", "--json").json["guardian"] == "cluster"


def test_ping_needs_no_token(bare: Cli, place: Namespace) -> None:
    ended = bare("ping", "--endpoint", place.server.endpoint, "--count", "2", "--json")
    assert ended.json["health"] == "SERVING"
    assert 0 < ended.json["best_ms"] <= ended.json["worst_ms"]
    assert "SERVING" in bare("ping", "--endpoint", place.server.endpoint).text


def test_status_is_for_cluster_guardians(cli: Cli, guardian: Cli) -> None:
    facts = guardian("status", "--json").json
    assert (facts["version"], facts["writable"], facts["durability"]) == (prefixdb.__version__, True, "fsync")
    assert "durability\tfsync" in guardian("status").text
    ended = cli("status")
    assert (ended.status, ended.out) == (64 + 7, b"")


def test_compact_says_what_changed(cli: Cli, guardian: Cli, place: Namespace) -> None:
    cli("put", "k", "v")
    ended = guardian("compact", place.name, "--json")
    assert set(ended.json) == {"disk_bytes_before", "disk_bytes_after"}
    assert "on disk before" in ended.err
    assert guardian("compact").status == 0


def test_a_server_that_is_not_there_is_status_78_with_advice(bare: Cli) -> None:
    ended = bare("ping", "--endpoint", "127.0.0.1:1")
    assert (ended.status, ended.out) == (78, b"")
    assert "127.0.0.1:1" in ended.err and "nothing listens" in ended.err and "doctor" in ended.err
    failure = bare("ping", "--endpoint", "127.0.0.1:1", "--json").error
    assert (failure["code"], failure["reason"], failure["exit_status"]) == ("UNAVAILABLE", "UNREACHABLE", 78)


def test_doctor_finds_nothing_wrong_with_a_healthy_server(guardian: Cli, cli: Cli) -> None:
    ended = guardian("doctor")
    assert ended.status == 0
    assert "!!" not in ended.text
    for subject in ("settings", "address", "server", "token", "identity", "version", "clock", "store"):
        assert f"ok {subject}:" in ended.text
    findings = {item["subject"]: item["state"] for item in cli("doctor", "--json").lines}
    assert findings["identity"] == "ok"
    assert findings["version"] == "note", "a tenant is told that it cannot know, not that it is wrong"


@pytest.mark.parametrize(
    ("endpoint", "subject", "words", "status"),
    [
        ("127.0.0.1:1", "address", "refuses", 78),
        ("no-such-host.invalid:1", "address", "cannot be resolved", 78),
        ("unix:/no/such/socket", "address", "no socket", 78),
        ("192.0.2.1:7311", "settings", "--insecure", 2),
        ("what is this", "settings", "no endpoint", 2),
    ],
)
def test_doctor_says_what_is_wrong_with_an_address(
    cli: Cli, endpoint: str, subject: str, words: str, status: int
) -> None:
    ended = cli("doctor", "--endpoint", endpoint, *(["--insecure"] if subject == "address" else []))
    assert ended.status == status
    assert f"!! {subject}:" in ended.text and words in ended.text
    assert "Traceback" not in ended.err


def test_doctor_notices_a_port_that_is_no_prefixdb(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            while True:
                try:
                    other, _ = listener.accept()
                except OSError:
                    return
                with other:
                    other.sendall(b"SSH-2.0-something\r\n")

        threading.Thread(target=greet, daemon=True).start()
        ended = cli("doctor", "--endpoint", f"127.0.0.1:{listener.getsockname()[1]}", "--timeout", "2s")
        assert ended.status != 0
        assert "!! server:" in ended.text and "no prefixdb" in ended.text
        listener.shutdown(socket.SHUT_RDWR)


def test_doctor_looks_at_the_token_before_and_with_the_server(cli: Cli, guardian: Cli, place: Namespace) -> None:
    ended = cli("doctor", PREFIXDB_TOKEN_FILE="")
    assert ended.status == 0
    assert "-  token: None is named" in ended.text
    issued = guardian("token", "issue", "bob", "--group", "readers", "--namespace", place.name, "--json").json
    guardian("token", "revoke", "--jti", issued["jti"], "--namespace", place.name)
    file = place.token_file.with_name(f"revoked-{place.id}")
    file.write_text(issued["token"])
    file.chmod(0o644)
    ended = cli("doctor", "--token-file", str(file))
    assert ended.status == 80
    assert "others can read it" in ended.text
    assert "!! identity:" in ended.text and "revoked" in ended.text
    file.write_text("garbage")
    ended = cli("doctor", "--token-file", str(file))
    assert ended.status == 64 + 3
    assert "garbage" not in ended.text


def test_a_server_that_allows_it_answers_without_a_token(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--anonymous", "reader")
    server.start()
    try:
        cli = Cli(tmp_path, {"PREFIXDB_ENDPOINT": server.endpoint})
        assert cli("count").out == b"0\n"
        me = cli("whoami", "--json").json
        assert (me["subject"], me["member"], me["jti"]) == ("anonymous", False, "")
        assert "kind\twithout a token" in cli("whoami").text
        assert "expires" not in cli("whoami").text
        refused = cli("put", "k", "v")
        assert (refused.status, refused.out) == (71, b"")
        assert "without a token" in refused.err and "prefixdb login --user USER" in refused.err
        doctor = cli("doctor")
        assert doctor.status == 0
        assert "knows you as anonymous" in doctor.text
    finally:
        server.close()


def test_a_server_that_does_not_is_told_apart_from_no_server(bare: Cli, place: Namespace) -> None:
    ended = bare("count", "--endpoint", place.server.endpoint)
    assert (ended.status, ended.out) == (80, b"")
    assert "There is no token: neither --token-file nor PREFIXDB_TOKEN_FILE is set" in ended.err
    assert "prefixdb login" in ended.err
    bare("profile", "set", "p", "--endpoint", place.server.endpoint)
    assert "prefixdb --profile p login --user USER" in bare("count", "--profile", "p").err
    assert bare("count", "--endpoint", "127.0.0.1:1").status == 78
    doctor = bare("doctor", "--endpoint", place.server.endpoint)
    assert doctor.status == 0
    assert "answers nobody without a token" in doctor.text
