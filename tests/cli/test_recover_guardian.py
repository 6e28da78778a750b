"""Goal: the owner of a stopped server's data directory gets back in with one command, and it shows in the audit.

Method: real processes: a server whose guardians are all locked out through the front door, the command, the server
again, a login with the new password.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from prefixdb.server.audit import verify
from tests.cli.conftest import Cli
from tests.cli.test_serve import serving
from tests.store.stores import DURABLE


def flags(data: Path, store: str = "auto") -> list[str]:
    """Return what a server is started with."""
    return ["--data-dir", str(data), "--listen", "127.0.0.1:0", "--http", "", "--store", store]


def audited(data: Path) -> list[tuple[str, str, str, str]]:
    """Return (user, method, target, result) of every line of the audit, whose chain must hold."""
    finding = verify(data / "audit.jsonl")
    assert not finding.broken_line, finding.problem
    lines = [json.loads(line) for line in (data / "audit.jsonl").read_text().splitlines()]
    return [(line["user"], line["method"], line["target"], line["result"]) for line in lines]


@pytest.mark.parametrize("store", DURABLE)
def test_a_guardian_gets_back_in_after_everyone_was_locked_out(bare: Cli, tmp_path: Path, store: str) -> None:
    data, errors = tmp_path / "data", tmp_path / "errors"
    password_file = data / "guardian.password"
    with serving(bare, *flags(data, store), errors=errors) as ready:
        at = ["--endpoint", ready[1], "--token-file", str(data / "guardian.token")]
        assert bare("token", "revoke", "--everyone", "--yes", *at).status == 0
        assert bare("whoami", *at).status == 64 + 16, "the only token is dead"
        first = password_file.read_text()
        password_file.unlink()  # And nobody knows the password.
    before = audited(data)
    ended = bare.process("recover-guardian", "--data-dir", str(data), "--store", store)
    assert (ended.status, ended.text) == (0, f"{password_file}\n"), ended.err
    secret = password_file.read_text()
    assert secret != first and stat.S_IMODE(password_file.stat().st_mode) == 0o600
    assert secret.strip() not in ended.text + ended.err + errors.read_text() + (data / "audit.jsonl").read_text()
    assert f"prefixdb login --user guardian --password-file {password_file}" in ended.err
    target = "member guardian of default"
    acts = [("prefixdb", "recover-guardian", target, result) for result in ("started", "ok")]
    assert audited(data) == [*before, *acts]
    with serving(bare, *flags(data, store), errors=errors) as ready:
        login = bare("login", "--user", "guardian", "--password-file", str(password_file), "--endpoint", ready[1])
        assert login.status == 0, login.err
        me = bare("whoami", "--json").json
        assert (me["subject"], me["guardian"], me["namespace_name"]) == ("guardian", "cluster", "default")


def test_while_the_server_runs_it_is_refused_and_says_what_to_do(bare: Cli, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(bare, *flags(data), errors=tmp_path / "errors"):
        before = (data / "guardian.password").read_text()
        ended = bare.process("recover-guardian", "--data-dir", str(data))
        assert (ended.status, ended.out) == (64 + 9, b"")
        assert f"A server is running on {data}" in ended.err and "stopped" in ended.err
        assert "Traceback" not in ended.err
        assert (data / "guardian.password").read_text() == before
        assert audited(data) == []


def test_another_user_json_and_revoked_tokens(bare: Cli, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(bare, *flags(data), errors=tmp_path / "errors"):
        pass
    ended = bare.process(
        "recover-guardian", "--data-dir", str(data), "--user", "carol", "--revoke-tokens", "--json", "--quiet"
    )
    assert ended.json == {
        "user": "carol", "password_file": str(data / "guardian.password"), "tokens_revoked": True
    }  # fmt: skip
    assert ended.err == ""
    assert audited(data)[-1][2:] == ("member carol of default, its tokens revoked", "ok")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--user", "no such name!"], 64 + 3, "name"),
        (["--store", "other"], 2, "'other'"),
        (["--config", "no/such/file"], 2, "does not exist"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    bare: Cli, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    data = tmp_path / "data"
    with serving(bare, *flags(data), errors=tmp_path / "errors"):
        pass
    ended = bare.process("recover-guardian", "--data-dir", str(data), *arguments)
    assert (ended.status, ended.out) == (status, b"")
    assert words in ended.err and "Traceback" not in ended.err


def test_a_directory_without_a_server_is_left_as_it_is(bare: Cli, tmp_path: Path) -> None:
    for place in (tmp_path / "none", tmp_path):
        ended = bare.process("recover-guardian", "--data-dir", str(place))
        assert (ended.status, ended.out) == (64 + 3, b"")
        assert "no data directory" in ended.err
    assert not (tmp_path / "none").exists() and not (tmp_path / "LOCK").exists()


def test_another_user_root_above_all_is_refused_before_a_file_changes_hands(
    bare: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    with serving(bare, *flags(data), errors=tmp_path / "errors"):
        pass
    files = sorted(path.name for path in (data / "db").iterdir())
    monkeypatch.setattr("os.geteuid", lambda: data.stat().st_uid + 1)
    ended = bare("recover-guardian", "--data-dir", str(data))
    assert (ended.status, ended.out) == (64 + 3, b"")
    assert "belongs to the user" in ended.err and "sudo -u" in ended.err
    assert sorted(path.name for path in (data / "db").iterdir()) == files


def test_an_audit_that_does_not_hold_refuses_the_act(bare: Cli, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(bare, *flags(data), errors=tmp_path / "errors"):
        pass
    before = (data / "guardian.password").read_text()
    (data / "audit.jsonl").write_text("edited\n")
    ended = bare.process("recover-guardian", "--data-dir", str(data))
    assert (ended.status, ended.out) == (3, b"")
    assert "audit" in ended.err
    assert (data / "guardian.password").read_text() == before
