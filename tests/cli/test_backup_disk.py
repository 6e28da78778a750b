"""Goal: whatever a disk or a person does to a backup command at any step, what it leaves is whole, and the next works.

Method: the commands run under a library that stands before their disk. It kills them at chosen file operations, of
which the first run counted how many there are, so every kill lands in the middle; it has no more space after some
bytes; it holds an operation while Ctrl-C comes. A server is killed while it sends.
"""

from __future__ import annotations

import errno
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefixdb.limits import KIB
from prefixdb.repository.repository import Repository
from prefixdb.repository.upkeep import check_files
from prefixdb.testing import ServerProcess
from tests.cli.conftest import Cli
from tests.support.waiting import wait_for
from tools.crash.shim import Action, Call, Shim

STEPS = 6
"""Kills of a command, spread over its file operations, the first among them."""


def fill(server: ServerProcess, *tables: int) -> None:
    """Have table files of so many half MiB of random bytes: every backup makes one."""
    for pieces in tables:
        with server.namespace() as db:
            for piece in range(pieces):
                db.put(f"{piece}", secrets.token_bytes(512 * KIB))
        server.guardian.guardian.backups.create(server.directory / "scratch")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with some files."""
    server = ServerProcess(tmp_path_factory.mktemp("filled"))
    server.start()
    try:
        fill(server, 8, 8)
        yield server
    finally:
        server.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the test's own, with two table files that are too few for the engine to make one of them."""
    (tmp_path / "server").mkdir()
    server = ServerProcess(tmp_path / "server")
    server.start()
    try:
        fill(server, 24, 90)  # The larger one does not fit into what the network holds.
        yield server
    finally:
        server.close()


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    with Shim(tmp_path) as shim:
        yield shim


@pytest.fixture
def admin(filled: ServerProcess, tmp_path: Path) -> Cli:
    """The command line of the server's guardian."""
    return guardian_of(filled, tmp_path)


def guardian_of(server: ServerProcess, tmp_path: Path) -> Cli:
    token_file = str(server.guardian_token_file)
    return Cli(tmp_path / "config", {"PREFIXDB_ENDPOINT": server.endpoint, "PREFIXDB_TOKEN_FILE": token_file})


def whole(root: Path) -> int:
    """Return how many backups there are, after holding every file of each against its name."""
    if not (root / "prefixdb-repository.json").exists():
        return 0
    repository = Repository.open(root)
    manifests = repository.manifests()
    assert check_files(repository, manifests, lambda done, total: None).findings == ()
    return len(manifests)


def done(cli: Cli, *arguments: str) -> None:
    ended = cli.process(*arguments)
    assert ended.status == 0, ended.err


def killed_at_steps(cli: Cli, shim: Shim, folder: Path, command: list[str], check: Callable[[], None]) -> None:
    """Run a command to its end, then again and again, killed at operations below a folder; check what each leaves.

    Args:
        check: looks at what is there, and makes it as it was before the command.
    """
    with shim.add(f"{folder}/*", Call.CHANGES, after=10**9) as counting:
        ended = cli.process(*command, **shim.environment())
        assert ended.status == 0, ended.err
        operations = counting.matched
    check()
    assert operations >= STEPS
    for step in (operations * share // STEPS for share in range(STEPS)):  # A few more or less each time.
        with shim.add(f"{folder}/*", Call.CHANGES, action=Action.KILL, after=step):
            ended = cli.process(*command, **shim.environment())
        assert ended.status == -signal.SIGKILL, f"step {step} of {operations}: {ended.err}"
        check()


# --- killed ---------------------------------------------------------------------------------------------------------


def test_a_create_leaves_whole_backups_and_no_lock(admin: Cli, shim: Shim, tmp_path: Path) -> None:
    repo = tmp_path / "there" / "repo"
    repo.parent.mkdir()

    def check() -> None:
        before = whole(repo)
        assert before in {0, 1}
        done(admin, "backup", "create", str(repo), "--quiet")
        assert whole(repo) == before + 1 and list((repo / "tmp").iterdir()) == []
        shutil.rmtree(repo)

    killed_at_steps(admin, shim, repo, ["backup", "create", str(repo), "--quiet"], check)


def test_a_restore_leaves_the_target_as_it_was(admin: Cli, shim: Shim, tmp_path: Path) -> None:
    repo, target = tmp_path / "repo", tmp_path / "there" / "data"
    target.parent.mkdir()
    done(admin, "backup", "create", str(repo))
    kept: list[bool] = []

    def check() -> None:
        kept.append(target.exists())
        if target.exists():  # Killed after the rename, or not at all.
            shutil.rmtree(target)
        done(admin, "backup", "restore", str(repo), "--data-dir", str(target))
        assert [path.name for path in target.parent.iterdir()] == ["data"], "what killed ones have left is gone"
        shutil.rmtree(target)

    killed_at_steps(admin, shim, target.parent, ["backup", "restore", str(repo), "--data-dir", str(target)], check)
    assert kept[0] and kept.count(True) <= 2 and whole(repo) == 1


def test_a_prune_leaves_whole_backups(admin: Cli, filled: ServerProcess, shim: Shim, tmp_path: Path) -> None:
    repo, copy = tmp_path / "repo", tmp_path / "there" / "copy"
    copy.parent.mkdir()
    for _ in range(3):
        with filled.namespace() as db:
            db.put("k", secrets.token_bytes(64 * KIB))
        done(admin, "backup", "create", str(repo))
    shutil.copytree(repo, copy)
    left: list[int] = []

    def check() -> None:
        left.append(whole(copy))
        done(admin, "backup", "prune", str(copy), "--keep", "1", "--yes")
        assert whole(copy) == 1
        assert len(Repository.open(copy).objects()) == len({file.sha256 for file in Repository.open(copy).find().files})
        shutil.rmtree(copy)
        shutil.copytree(repo, copy)

    killed_at_steps(admin, shim, copy, ["backup", "prune", str(copy), "--keep", "1", "--yes"], check)
    assert set(left) >= {1, 3}


def test_files_that_came_whole_do_not_come_again_when_the_server_was_killed(
    fresh: ServerProcess, tmp_path: Path
) -> None:
    repo, admin = tmp_path / "repo", guardian_of(fresh, tmp_path)
    process = subprocess.Popen(
        admin.command("backup", "create", str(repo), "--rate", "8MiB"), env=admin.environment, stderr=subprocess.DEVNULL
    )
    objects = repo / "objects"
    try:
        wait_for(lambda: sum(path.stat().st_size > 10**6 for path in objects.rglob("*/*")) >= 1, "a table came", 60)
        fresh.kill()
        assert process.wait(60) != 0
    finally:
        process.kill()
        process.wait()
        fresh.start()
    came = {path: path.stat() for path in objects.rglob("*/*") if path.is_file()}
    assert whole(repo) == 0 and list((repo / "tmp").iterdir()) == []
    ended = admin("backup", "create", str(repo), "--json")
    assert ended.status == 0, ended.err
    made = ended.json
    assert all(path.stat().st_ino == facts.st_ino for path, facts in came.items()), "none was written again"
    tables = sum(facts.st_size for facts in came.values() if facts.st_size > 10**6)
    assert 10**6 < tables <= made["bytes"] - made["bytes_new"]


# --- a full disk ----------------------------------------------------------------------------------------------------


def test_a_full_disk_ends_a_create_and_what_came_is_used(fresh: ServerProcess, shim: Shim, tmp_path: Path) -> None:
    repo, admin = tmp_path / "repo", guardian_of(fresh, tmp_path)
    with shim.add(f"{repo}/*", Call.GROWS, action=Action.BUDGET, budget=15 * 1024 * KIB, error=errno.ENOSPC) as full:
        ended = admin.process("backup", "create", str(repo), **shim.environment())
        assert full.hits
    assert (ended.status, ended.out) == (66, b""), ended.err
    assert "No space left" in ended.err and str(repo) in ended.err
    assert whole(repo) == 0 and list((repo / "tmp").iterdir()) == []
    made = admin("backup", "create", str(repo), "--json").json
    assert made["bytes"] - made["bytes_new"] > 10**6 and whole(repo) == 1


def test_a_full_disk_ends_a_restore_and_nothing_is_left(admin: Cli, shim: Shim, tmp_path: Path) -> None:
    repo, target = tmp_path / "repo", tmp_path / "there" / "data"
    target.parent.mkdir()
    done(admin, "backup", "create", str(repo))
    for budget in (0, 3 * 1024 * KIB):
        with shim.add(
            f"{target.parent}/*", Call.GROWS, action=Action.BUDGET, budget=budget, error=errno.ENOSPC
        ) as full:
            ended = admin.process("backup", "restore", str(repo), "--data-dir", str(target), **shim.environment())
            assert full.hits
        assert (ended.status, ended.out) == (72, b""), ended.err
        assert list(target.parent.iterdir()) == []
    done(admin, "backup", "restore", str(repo), "--data-dir", str(target))


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------


def interrupted(cli: Cli, shim: Shim, pattern: str, calls: Call, *command: str) -> None:
    """Press Ctrl-C while an operation of a command's disk is under way."""
    with shim.add(pattern, calls, action=Action.HOLD, times=1) as held:
        process = subprocess.Popen(
            cli.command(*command),
            env=cli.environment | shim.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            held.await_hits(while_=lambda: process.poll() is None)
            process.send_signal(signal.SIGINT)
            held.withdraw()
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert (process.returncode, out) == (130, b""), err
    assert b"Traceback" not in err


def test_ctrl_c_ends_a_create_and_what_came_is_used(admin: Cli, shim: Shim, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    interrupted(admin, shim, f"{repo}/tmp/*", Call.FSYNC, "backup", "create", str(repo), "--rate", "2MiB")
    assert whole(repo) == 0 and list((repo / "tmp").iterdir()) == []
    done(admin, "backup", "create", str(repo))
    assert whole(repo) == 1


def test_ctrl_c_ends_a_restore_and_nothing_is_left(admin: Cli, shim: Shim, tmp_path: Path) -> None:
    repo, target = tmp_path / "repo", tmp_path / "there" / "data"
    target.parent.mkdir()
    done(admin, "backup", "create", str(repo))
    restore = ["backup", "restore", str(repo), "--data-dir", str(target)]
    interrupted(admin, shim, f"{target.parent}/*.sst", Call.WRITES, *restore)
    assert list(target.parent.iterdir()) == []
    done(admin, *restore)


def test_ctrl_c_ends_a_prune_between_two_files(admin: Cli, filled: ServerProcess, shim: Shim, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    for _ in range(2):
        with filled.namespace() as db:
            db.put("k", secrets.token_bytes(64 * KIB))
        done(admin, "backup", "create", str(repo))
    prune = ["backup", "prune", str(repo), "--keep", "1", "--yes"]
    interrupted(admin, shim, f"{repo}/objects/*", Call.UNLINK, *prune)
    assert whole(repo) == 1
    done(admin, *prune)
    assert len(Repository.open(repo).objects()) == len({file.sha256 for file in Repository.open(repo).find().files})
