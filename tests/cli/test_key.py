"""Goal: a signing key can be changed without losing a token, and removed with every token it signed.

Method: real servers, tokens of both keys; a server of its own where a key is removed.
"""

from __future__ import annotations

from pathlib import Path

from prefixdb.testing import ServerProcess
from tests.cli.conftest import Cli


def test_a_rotated_key_signs_and_the_old_one_still_verifies(guardian: Cli, prefixdb_server: ServerProcess) -> None:
    before = guardian("key", "list", "--json").lines
    assert [key["verifies_until"] for key in before].count(None) == 1
    namespace = prefixdb_server.create_namespace()
    with namespace.connect() as db:
        db.put("k", b"v")
        rotated = guardian("key", "rotate")
        assert rotated.status == 0, rotated.err
        kid = rotated.text.strip()
        after = guardian("key", "list", "--json").lines
        assert {key["kid"] for key in after} == {key["kid"] for key in before} | {kid}
        assert [key["kid"] for key in after if key["verifies_until"] is None] == [kid]
        assert db.get("k") == b"v", "a token of the old key is good until it expires"
    fresh = prefixdb_server.issue_token(namespace.id)
    assert kid in guardian("token", "inspect", str(fresh)).text
    listed = guardian("key", "list")
    assert "verifies until" in listed.text
    assert kid in listed.text


def test_who_is_no_cluster_guardian_learns_no_key(cli: Cli) -> None:
    for command in (["list"], ["rotate"], ["remove", "x", "--yes"]):
        ended = cli("key", *command)
        assert ended.status == 64 + 7
        assert ended.out == b""


def test_a_removed_key_takes_its_tokens_with_it_and_is_only_removed_when_it_is_meant(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    server.start()
    try:
        cli = Cli(tmp_path, {"PREFIXDB_ENDPOINT": server.endpoint})
        guardian_password = str(server.data_dir / "guardian.password")
        assert cli("login", "--user", "guardian", "--password-file", guardian_password).status == 0
        token = cli("token", "issue", "bob", "--group", "readers").out
        [old] = [key["kid"] for key in cli("key", "list", "--json").lines]
        in_use = cli("key", "remove", old, "--yes")
        assert (in_use.status, in_use.out) == (73, b"")
        assert "key rotate" in in_use.err
        cli("key", "rotate")
        refused = cli("key", "remove", old)
        assert (refused.status, refused.out) == (2, b"")
        assert old in refused.err and "cannot be undone" in refused.err and "--yes" in refused.err
        assert cli("count", "--token-file", "-", stdin=token).status == 0
        # The login's tokens are of the old key too: a new one is of the new key, and lives.
        assert cli("login", "--password-file", guardian_password).status == 0
        ended = cli("key", "remove", old, "--yes", "--json")
        assert ended.json == {"kid": old, "removed": True}
        assert cli("count", "--token-file", "-", stdin=token).status == 80
        assert old not in cli("key", "list").text
        again = cli("key", "remove", old, "--yes")
        assert (again.status, again.out) == (1, b"")
        assert "key list" in again.err
        everyone = cli("token", "revoke", "--everyone", "--yes", PREFIXDB_NAMESPACE="default")
        assert everyone.status == 0, "a variable is meant for other commands"
        assert cli("whoami").status == 80
    finally:
        server.close()
