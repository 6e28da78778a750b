"""Goal: whatever the server and its commands write, nobody but its owner may read it, whatever the umask is.

Method: everything is done under umask 0, by processes of their own, in the middle of things as well, and every file and
directory is looked at: also those in directories that are closed.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefixdb import connect
from prefixdb.client.options import ClientOptions
from prefixdb.client.sync import Database

WAIT_S = 30.0


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    """Mask nothing, here and in every process that is started from here."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def open_to_others(root: Path) -> list[str]:
    """Return what somebody else may do something with."""
    found = []
    # ``os.walk`` passes over directories that vanish; ``rglob`` does not.
    inside = (Path(at) / name for at, folders, files in os.walk(root) for name in (*folders, *files))
    for path in (root, *inside):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # The engine and the end of a snapshot remove files while we look.
            continue
        if not stat.S_ISLNK(mode) and mode & 0o077:
            found.append(f"{path.relative_to(root.parent)} {stat.S_IMODE(mode):o}")
    return found


def command(tmp_path: Path, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "prefixdb", *map(str, arguments)]


def environment(tmp_path: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFIXDB_")}
    return clean | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}


def run(tmp_path: Path, *arguments: str | Path) -> None:
    """Run a command that has to succeed."""
    done = subprocess.run(
        command(tmp_path, *arguments), env=environment(tmp_path), capture_output=True, text=True, timeout=WAIT_S
    )
    assert done.returncode == 0, done.stderr


def work(db: Database, tmp_path: Path, data: Path) -> None:
    """Have the server write everything it writes, and look at it in the middle of it."""
    for number in range(200):
        db.put(f"{number}", b"v")
    looked: list[str] = []

    def look(_: object) -> None:
        looked.extend(open_to_others(data))
        looked.append("")

    db.load([(f"k{number:06d}", b"v" * 100) for number in range(20_000)], in_order=True, on_progress=look)
    db.guardian.backups.create(tmp_path / "repository", on_progress=look)
    assert looked and set(looked) == {""}
    db.export(tmp_path / "members.prefixdb", members=True)


def test_a_data_directory_a_repository_and_what_is_made_of_them(tmp_path: Path) -> None:
    data, ready = tmp_path / "data", tmp_path / "ready"
    server = subprocess.Popen(
        command(tmp_path, "serve", "--data-dir", data, "--listen", "127.0.0.1:0", "--http", "", "--ready-file", ready),
        env=environment(tmp_path),
        stderr=subprocess.DEVNULL,
    )
    try:
        gives_up_at = time.monotonic() + WAIT_S
        while not ready.exists():
            assert server.poll() is None and time.monotonic() < gives_up_at
            time.sleep(0.05)  # Until it is ready.
        endpoint, token = ready.read_text().strip(), (data / "guardian.token").read_text().strip()
        with connect(options=ClientOptions(endpoint=endpoint, token=token)) as db:
            work(db, tmp_path, data)
        server.send_signal(signal.SIGTERM)
        assert server.wait(WAIT_S) == 0
    finally:
        server.kill()
        server.wait()
    run(tmp_path, "backup", "restore", tmp_path / "repository", "--data-dir", tmp_path / "restored")
    run(tmp_path, "recover", "--data-dir", tmp_path / "restored", "--out", tmp_path / "new", "--accept-loss")
    run(tmp_path, "recover-guardian", "--data-dir", tmp_path / "new")
    for made in ("data", "repository", "members.prefixdb", "restored", "new"):
        assert (tmp_path / made).exists()
        assert open_to_others(tmp_path / made) == [], made
