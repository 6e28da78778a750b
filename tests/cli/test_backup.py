"""Goal: a backup is taken, listed, proven, pruned and restored with the program, and a server on it has what there was.

Method: real servers of both stores; the restored directory is served and read through it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefixdb import connect
from prefixdb.testing import ServerProcess
from tests.cli.conftest import Cli
from tests.store.stores import DURABLE
from tests.support.repositories import tree


@pytest.fixture(params=DURABLE)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the test's own, with each store."""
    directory = tmp_path / "server"
    directory.mkdir()
    process = ServerProcess(directory, "--store", request.param)
    process.start()
    try:
        yield process
    finally:
        process.close()


@pytest.fixture
def admin(server: ServerProcess, tmp_path: Path) -> Cli:
    """The command line of the server's guardian."""
    return guardian_of(server, tmp_path)


def guardian_of(server: ServerProcess, tmp_path: Path, token_file: Path | None = None) -> Cli:
    token = str(token_file or server.guardian_token_file)
    return Cli(tmp_path / "config", {"PREFIXDB_ENDPOINT": server.endpoint, "PREFIXDB_TOKEN_FILE": token})


def test_the_whole_life_of_a_backup(server: ServerProcess, admin: Cli, bare: Cli, tmp_path: Path) -> None:
    repo = str(tmp_path / "repo")
    live, dropped = server.create_namespace(), server.create_namespace()
    for place in (live, dropped):
        with place.connect() as db:
            db.put("when", b"before")
    first = admin("backup", "create", repo)
    assert first.status == 0, first.err
    first_id = first.text.strip()
    with live.connect() as db:
        db.put("when", b"after")
    assert admin("ns", "ban", dropped.name, "--yes", "--wait", "--reason", "over").status == 0
    second = admin("backup", "create", repo, "--json").json
    assert second["namespaces_live"] == 2 and second["bytes_new"] < second["bytes"]

    listed = bare("backup", "list", repo, "--json")
    assert [item["id"] for item in listed.lines] == [first_id, second["id"]]
    assert [line.split("\t")[0] for line in bare("backup", "list", repo).text.splitlines()] == [first_id, second["id"]]
    proven = bare("backup", "verify", repo, "--json")
    assert proven.status == 0, proven.err
    assert proven.json["opened"] == second["id"] and proven.json["namespaces_live"] == 2
    assert bare("backup", "verify", repo, "--all", "--no-open", "--json").json["backups"] == 2

    old, new = tmp_path / "old", tmp_path / "new"
    restored = bare("backup", "restore", repo, first_id, "--data-dir", str(old), "--json")
    assert restored.status == 0, restored.err
    assert restored.json["bans_applied"] == 1
    again = bare("backup", "restore", repo, "--data-dir", str(old))
    assert (again.status, again.out) == (73, b"")
    assert bare("backup", "restore", repo, "--data-dir", str(new)).status == 0
    token = server.guardian_token_file.read_bytes()
    server.stop()
    for directory, value in ((old, b"before"), (new, b"after")):
        (directory.parent / f"{directory.name}-server").mkdir()
        host = ServerProcess(directory.parent / f"{directory.name}-server")
        directory.rename(host.data_dir)
        host.start()
        try:
            with connect(host.endpoint, token_file=live.token_file) as db:
                assert db.get("when") == value
            (tmp_path / "token").write_bytes(token)
            there = guardian_of(host, tmp_path, tmp_path / "token")
            states = {item["name"]: item["state"] for item in there("ns", "list", "--all", "--json").lines}
            assert states[dropped.name] in {"BANNED", "RECLAIMED"} and states[live.name] == "ACTIVE"
            made = there("backup", "create", repo, "--restored")
            assert made.status == 0, made.err
        finally:
            host.close()

    unasked = bare("backup", "prune", repo, "--keep", "1")
    assert unasked.status == 2 and "--yes" in unasked.err
    planned = bare("backup", "prune", repo, "--keep", "1", "--dry-run", "--json").json
    assert len(planned["would_remove"]) == 3
    pruned = bare("backup", "prune", repo, "--keep", "1", "--yes", "--json").json
    assert pruned["removed"] == planned["would_remove"]
    assert bare("backup", "verify", repo, "--all").status == 0
    assert bare("backup", "prune", repo, "--keep", "1", "--json").json["files"] == 0


def test_bans_from_elsewhere_are_obeyed(server: ServerProcess, admin: Cli, bare: Cli, tmp_path: Path) -> None:
    repo = str(tmp_path / "repo")
    places = [server.create_namespace() for _ in range(3)]
    admin("backup", "create", repo)
    admin("ns", "ban", places[0].name, "--yes")
    bans = admin("ns", "bans", "--json")
    assert [json.loads(line)["name"] for line in bans.text.splitlines()] == [places[0].name]
    (tmp_path / "bans.jsonl").write_bytes(bans.out)
    assert admin("backup", "create", str(tmp_path / "off")).status == 0
    admin("ns", "ban", places[1].name, "--yes", "--grace", "1d")
    assert [line.split("\t")[2] for line in admin("ns", "bans").text.splitlines()]
    running = bare("backup", "restore", repo, "--data-dir", str(tmp_path / "x"), "--bans", str(server.data_dir))
    assert running.status == 73 and not (tmp_path / "x").exists()
    server.stop()
    more = ["--bans", str(tmp_path / "bans.jsonl"), "--bans", str(server.data_dir)]
    done = bare("backup", "restore", repo, "--data-dir", str(tmp_path / "y"), "--json", *more)
    assert done.json["bans_applied"] == 2 and done.json["namespaces_live"] == 2
    other = bare(
        "backup", "restore", repo, "--data-dir", str(tmp_path / "w"), "--json", "--bans", str(tmp_path / "off")
    )
    assert other.json["bans_applied"] == 1, other.err
    (tmp_path / "bans.jsonl").write_bytes(bans.out[:-10])
    cut = bare("backup", "restore", repo, "--data-dir", str(tmp_path / "z"), *more)
    assert cut.status == 3, cut.err
    assert "bans.jsonl" in cut.err and not (tmp_path / "z").exists()


def test_new_keys_make_every_old_token_worthless(server: ServerProcess, admin: Cli, bare: Cli, tmp_path: Path) -> None:
    place = server.create_namespace()
    admin("backup", "create", str(tmp_path / "repo"))
    (tmp_path / "again").mkdir()
    host = ServerProcess(tmp_path / "again")
    done = bare("backup", "restore", str(tmp_path / "repo"), "--data-dir", str(host.data_dir), "--new-keys")
    assert done.status == 0, done.err
    host.start()
    try:
        refused = guardian_of(host, tmp_path, place.token_file)("get", "k")
        assert refused.status == 80
    finally:
        host.close()


def test_damage_is_named_and_nothing_is_restored(server: ServerProcess, admin: Cli, bare: Cli, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    admin("backup", "create", str(repo))
    [manifest] = (repo / "backups").iterdir()
    before = tree(repo)
    for path in [manifest, *(repo / "objects").rglob("*/*")]:
        data = path.read_bytes()
        if not data:
            continue
        changed = bytearray(data)
        changed[len(data) // 2] ^= 4
        path.write_bytes(changed)
        restore = ["restore", "--data-dir", str(tmp_path / "made")]
        for command in (["verify"], ["verify", "--no-open"], ["verify", "--all"], restore):
            ended = bare("backup", *command, str(repo), "--json")
            assert ended.status == 3, (command, ended.err)
            assert ended.out == b""
            assert str(path) in ended.error["metadata"]["place"]
        assert not (tmp_path / "made").exists()
        listed = bare("backup", "list", str(repo))
        assert listed.status == (3 if path == manifest else 0)
        path.write_bytes(data)
    assert tree(repo) == before
    assert [name.name for name in tmp_path.iterdir() if "restoring" in name.name] == []
    assert bare("backup", "verify", str(repo)).status == 0
    (repo / "README").write_bytes(b"x")
    assert bare("backup", "verify", str(repo), "--no-open").status == 0
    assert bare("backup", "verify", str(repo), "--all", "--no-open").status == 3


def test_what_cannot_be_right_is_told_before_anything_is_done(bare: Cli, tmp_path: Path) -> None:
    repo = str(tmp_path / "repo")
    for words in (
        ["list", repo],
        ["verify", repo],
        ["prune", repo, "--keep", "1"],
        ["prune", repo, "--keep", "0"],
        ["prune", repo],
        ["restore", repo],
        ["restore", repo, "--data-dir", str(tmp_path / "d")],
        ["verify", repo, "x", "--all"],
        ["create", repo, "--rate", "fast"],
        ["create", str(tmp_path / "a" / "b")],
        ["list", "nosuch://x"],
    ):
        ended = bare("backup", *words)
        assert (ended.status, ended.out) == (2, b""), (words, ended.err)
        assert ended.err.startswith("prefixdb: ")
    assert list(tmp_path.iterdir()) == []


def test_who_may_not_is_told(cli: Cli, tmp_path: Path) -> None:
    for words in (["backup", "create", str(tmp_path / "repo")], ["ns", "bans"]):
        ended = cli(*words)
        assert (ended.status, ended.out) == (71, b"")
