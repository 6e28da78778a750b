"""Goal: a signing key can be changed without losing a token. Method: a real server, tokens of both keys."""

from __future__ import annotations

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
    for command in ("list", "rotate"):
        ended = cli("key", command)
        assert ended.status == 64 + 7
        assert ended.out == b""
