"""What goes out of a server comes back the same, to the byte, the version and the millisecond, whatever it was.

Goal: random stores of several namespaces, with bans, lifetimes, databases, binary keys, members and groups, survive
backup and restore, and export and import into another server.
Method: a world is made over sockets by seeded random acts (``moving_world.py``), the commands a person types move it,
and both servers' directories are then read below everything that moves data and compared by SHA-256; the source is also
compared with what the test itself remembers. PREFIXDB_TEST_SEED repeats a world, PREFIXDB_MOVING_STEPS makes it larger.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefixdb import connect
from tests.model.moving_world import PASSWORD, Content, Tenant, World, check_against_world, contents
from tests.store.stores import DURABLE
from tools.lab.process import ROOT, ServerProcess

STEPS = 60
SEEDS = {"native": 31, "rocksdict": 32}
NAMES = ("acme", "globex", "initech", "umbra")


def prefixdb(*words: str | Path, status: int = 0) -> str:
    """Run a command as a person would; return its standard output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFIXDB_")}
    command = [sys.executable, "-m", "prefixdb", *map(str, words)]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, env=environment, timeout=120, check=False)
    assert done.returncode == status, done.stderr.decode()
    return done.stdout.decode()


@pytest.fixture
def seed(store: str) -> int:
    """The world's seed, printed with a failure."""
    chosen = int(os.environ.get("PREFIXDB_TEST_SEED", SEEDS[store]))
    print(f"seed {chosen}")
    return chosen


def make_world(server: ServerProcess, scratch: Path, seed: int) -> World:
    """Return a world of several tenants, one of them banned."""
    world = World(server, scratch, seed)
    for name in NAMES:
        world.write(world.found(name), int(os.environ.get("PREFIXDB_MOVING_STEPS", STEPS)))
    for tenant in world.tenants.values():
        world.write(tenant, 10)  # Once more, so that versions and keys are not in the same order.
    world.short_lived(world.tenants["acme"])
    world.ban(world.tenants["umbra"])
    return world


@pytest.mark.parametrize("store", DURABLE)
def test_a_backup_restores_to_the_same_rows_versions_lifetimes_members_and_groups(
    tmp_path: Path, store: str, seed: int
) -> None:
    repository, restored = tmp_path / "backups", tmp_path / "restored"
    with ServerProcess(tmp_path / "data", store=store) as server:
        server.start()
        world = make_world(server, tmp_path, seed)
        at = ["--endpoint", server.address, "--token-file", server.guardian_token_file()]
        prefixdb("backup", "create", repository, *at)
        server.stop()
    source = contents(tmp_path / "data", store)
    check_against_world(world, source)
    prefixdb("backup", "verify", repository)
    other = next(kind for kind in DURABLE if kind != store)
    prefixdb("backup", "restore", repository, "--data-dir", restored)
    assert_same(source, contents(restored, other), order_only=False)
    with ServerProcess(restored, store=store) as server:
        server.start()
        for tenant in world.tenants.values():
            if not tenant.banned:
                with connect(server.address, token_file=tenant.token_file) as db:  # The old token still opens it.
                    assert db.whoami().namespace_id == tenant.id
                    assert_logs_in(server, tenant)
        server.stop()


@pytest.mark.parametrize("store", DURABLE)
def test_an_export_restores_into_a_server_of_its_own_with_members_and_order(
    tmp_path: Path, store: str, seed: int
) -> None:
    with ServerProcess(tmp_path / "data", store=store) as server, ServerProcess(tmp_path / "other") as target:
        server.start()
        target.start()
        world = make_world(server, tmp_path, seed)
        into = ["--endpoint", target.address, "--token-file", target.guardian_token_file()]
        for tenant in world.tenants.values():
            if tenant.banned:
                continue
            archive = tmp_path / f"{tenant.name}.archive"
            at = ["--endpoint", server.address, "--token-file", tenant.token_file]
            prefixdb("backup", "namespace", tenant.name, "--out", archive, *at)
            prefixdb("backup", "restore-namespace", archive, *into)
            assert_logs_in(target, tenant)
        server.stop()
        target.stop()
    source = contents(tmp_path / "data", store)
    check_against_world(world, source)
    assert_same(source, contents(tmp_path / "other", "auto"), order_only=True)


@pytest.mark.parametrize("file_format", ["msgpack", "jsonl", "csv"])
@pytest.mark.parametrize("store", DURABLE)
def test_an_export_imports_into_a_living_namespace_of_another_server(
    tmp_path: Path, store: str, seed: int, file_format: str
) -> None:
    with ServerProcess(tmp_path / "data", store=store) as server, ServerProcess(tmp_path / "other") as target:
        server.start()
        target.start()
        world = make_world(server, tmp_path, seed)
        strangers = World(target, tmp_path / "strangers", seed + 1)
        strangers.scratch.mkdir()
        for tenant in world.tenants.values():
            if tenant.banned:
                continue
            stranger = strangers.found(tenant.name)
            archive = tmp_path / f"{tenant.name}.{file_format}"
            at = ["--endpoint", server.address, "--token-file", tenant.token_file]
            encoding = ["--enc", "base64"] if file_format == "csv" else []  # CSV cannot mix text and bytes.
            prefixdb("export", "--format", file_format, "--out", archive, *at, *encoding)
            into = ["--endpoint", target.address, "--token-file", stranger.token_file]
            prefixdb("import", archive, "--format", file_format, *into, *encoding)
        server.stop()
        target.stop()
    source, found = contents(tmp_path / "data", store), contents(tmp_path / "other", "auto")
    for tenant in world.tenants.values():
        if tenant.banned:
            continue
        ordered = file_format == "msgpack"  # Text has no versions to keep in order.
        wanted, got = source[tenant.name], found[tenant.name]
        if ordered:
            assert got.digest(order_only=True) == wanted.digest(order_only=True)
        plain = [(place, row.value, row.expires_at_ms) for place, row in wanted.rows]
        assert [(place, row.value, row.expires_at_ms) for place, row in got.rows] == plain


def assert_logs_in(server: ServerProcess, tenant: Tenant) -> None:
    """Log in as the member that has a password, if there is one."""
    if "member-0" in tenant.members:
        with connect(server.address, user="member-0", password=PASSWORD, namespace=tenant.name) as db:
            assert sorted(db.whoami().groups) == sorted(tenant.members["member-0"])


def assert_same(source: dict[str, Content], found: dict[str, Content], *, order_only: bool) -> None:
    """Compare all namespaces of two directories by hash."""
    assert source.keys() == found.keys()
    for name, content in source.items():
        assert found[name].digest(order_only=order_only) == content.digest(order_only=order_only), name
        if name != "default" or not order_only:
            assert found[name].people() == content.people(), name
