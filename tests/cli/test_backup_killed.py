"""Goal: a create that is killed at any moment leaves whole backups and no lock.

Method: it runs as a process and gets SIGKILL after a drawn time; then everything there is checked, and it runs again to
its end. ``test_backup_disk.py`` kills every command at chosen operations.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefixdb.limits import KIB
from prefixdb.repository.repository import Repository
from prefixdb.repository.upkeep import check_files
from prefixdb.testing import ServerProcess
from tests.cli.conftest import Cli

KILLS = 6


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with some files of random bytes."""
    server = ServerProcess(tmp_path_factory.mktemp("filled"))
    server.start()
    try:
        for _ in range(2):
            with server.namespace() as db:
                for piece in range(16):
                    db.put(f"{piece}", secrets.token_bytes(512 * KIB))
        yield server
    finally:
        server.close()


@pytest.fixture
def admin(filled: ServerProcess, tmp_path: Path) -> Cli:
    """The command line of its guardian."""
    token_file = str(filled.guardian_token_file)
    return Cli(tmp_path / "config", {"PREFIXDB_ENDPOINT": filled.endpoint, "PREFIXDB_TOKEN_FILE": token_file})


def killed(cli: Cli, after_s: float, *arguments: str) -> bool:
    """Run a command and kill it after a time; False when it had ended by then."""
    process = subprocess.Popen(
        cli.command(*arguments), env=cli.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
        return False
    process.kill()
    process.wait()
    return True


def whole(root: Path) -> int:
    """Return how many backups there are, after holding every file of each against its name."""
    if not (root / "prefixdb-repository.json").exists():
        return 0
    repository = Repository.open(root)
    manifests = repository.manifests()
    assert check_files(repository, manifests, lambda done, total: None).findings == ()
    return len(manifests)


def ended(cli: Cli, *arguments: str) -> None:
    """Run a command to its end."""
    done = cli.process(*arguments)
    assert done.status == 0, done.err


def test_a_create_that_is_killed_leaves_whole_backups_and_the_next_works(admin: Cli, tmp_path: Path) -> None:
    draw = random.Random(1)
    repo = tmp_path / "repo"
    kills = 0
    for _ in range(KILLS):
        before = whole(repo)
        hit = killed(admin, draw.uniform(0.3, 3.5), "backup", "create", str(repo), "--rate", "8MiB")
        kills += hit
        assert whole(repo) in ({before, before + 1} if hit else {before + 1})
    assert kills
    before = whole(repo)
    ended(admin, "backup", "create", str(repo))
    assert whole(repo) == before + 1
    assert list((repo / "tmp").iterdir()) == []
    ended(admin, "backup", "verify", str(repo), "--all")
