"""Goal: processes that share a login renew it once for all, and one that is killed takes it along as seldom as can be.

Method: real processes, a real server and a real file; each process has its clock set to the end of the access token, so
that all of them want to renew it at the same moment. A refresh token that is shown twice ends the login, so that calls
which succeed afterwards are the proof. The kill is SIGKILL at a named point of the refresh.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from prefixdb import connect
from prefixdb.client.login_file import LoginFile
from prefixdb.errors import UnauthenticatedError
from prefixdb.testing import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
PAST_END_MS = 16 * 60 * 1000


class Sharer:
    """One process, see ``tests/client/sharer.py``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, now_ms: int) -> None:
        """Let it make a call at a time."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{now_ms}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        """Return what it says next."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()


@contextmanager
def sharer(server: ServerProcess, file: Path, *point: str) -> Iterator[Sharer]:
    """Run a process that uses the login in ``file``."""
    command = [sys.executable, "-m", "tests.client.sharer", server.endpoint, str(file), *point]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield Sharer(process)
        finally:
            process.kill()


@pytest.fixture
def file(prefixdb_server: ServerProcess, tmp_path: Path) -> Path:
    """A file with a new login of the member ``sharing``."""
    path = tmp_path / "credentials" / "x.login"
    password = prefixdb_server.password_file("sharing")
    with connect(prefixdb_server.endpoint, user="sharing", password_file=password, credentials_file=path) as db:
        assert db.login().user == "sharing"
    return path


def now_ms() -> int:
    """Return the time."""
    return time.time_ns() // 1_000_000


def test_processes_that_renew_at_the_same_moment_renew_once(prefixdb_server: ServerProcess, file: Path) -> None:
    with ExitStack() as stack:
        sharers = [stack.enter_context(sharer(prefixdb_server, file)) for _ in range(4)]
        at_ms, seen = now_ms(), [LoginFile(file).read()]
        for _ in range(8):
            at_ms += PAST_END_MS
            for one in sharers:
                one.ask(at_ms)
            assert [one.answer() for one in sharers] == ["ok sharing"] * 4
            seen.append(LoginFile(file).read())
        for one in sharers:
            one.ask(at_ms + 1000)
        assert [one.answer() for one in sharers] == ["ok sharing"] * 4
    refresh = [tokens.refresh for tokens in seen if tokens is not None]
    assert len(set(refresh)) == 9
    assert LoginFile(file).read() == seen[-1], "nobody renews what was renewed a moment ago"


@pytest.mark.parametrize("point", ["before-refresh", "after-write"])
def test_a_process_that_is_killed_leaves_the_login_to_the_others(
    prefixdb_server: ServerProcess, file: Path, point: str
) -> None:
    with sharer(prefixdb_server, file, point) as victim, sharer(prefixdb_server, file) as other:
        victim.ask(now_ms() + PAST_END_MS)
        assert victim.answer() == "paused"
        victim.kill()
        for step in (1, 2):
            other.ask(now_ms() + step * PAST_END_MS)
            assert other.answer() == "ok sharing"


def test_who_waits_for_a_process_that_is_killed_goes_on(prefixdb_server: ServerProcess, file: Path) -> None:
    with sharer(prefixdb_server, file, "before-refresh") as victim, sharer(prefixdb_server, file) as other:
        victim.ask(now_ms() + PAST_END_MS)
        assert victim.answer() == "paused"
        other.ask(now_ms() + PAST_END_MS)
        # Whether it waits already or comes later must make no difference; both orders happen here.
        victim.kill()
        assert other.answer() == "ok sharing"


def test_who_needs_no_new_token_does_not_wait_for_who_does(prefixdb_server: ServerProcess, file: Path) -> None:
    with sharer(prefixdb_server, file, "before-refresh") as victim, sharer(prefixdb_server, file) as other:
        victim.ask(now_ms() + PAST_END_MS)
        assert victim.answer() == "paused"
        other.ask(now_ms())
        assert other.answer() == "ok sharing"
        assert victim.process.poll() is None


def test_who_waits_goes_on_as_soon_as_there_is_a_new_token(prefixdb_server: ServerProcess, file: Path) -> None:
    with sharer(prefixdb_server, file, "after-write") as holder, sharer(prefixdb_server, file) as other:
        at_ms = now_ms() + PAST_END_MS
        holder.ask(at_ms)
        assert holder.answer() == "paused"
        other.ask(at_ms)
        assert other.answer() == "ok sharing"
        assert holder.process.poll() is None, "it still has the lock"


def test_a_kill_between_the_answer_and_the_disk_costs_the_login_and_says_so(
    prefixdb_server: ServerProcess, file: Path
) -> None:
    with sharer(prefixdb_server, file, "after-refresh") as victim, sharer(prefixdb_server, file) as other:
        victim.ask(now_ms() + PAST_END_MS)
        assert victim.answer() == "paused"
        victim.kill()
        other.ask(now_ms())
        assert other.answer() == "ok sharing", "the access token is good to its end"
        other.ask(now_ms() + PAST_END_MS)
        assert other.answer() == "failed TOKEN_REVOKED"
    again = pytest.raises(UnauthenticatedError, match="log in again")
    with connect(prefixdb_server.endpoint, credentials_file=file) as db, again:
        db.whoami()
    password = prefixdb_server.password_file("sharing")
    with connect(prefixdb_server.endpoint, user="sharing", password_file=password, credentials_file=file) as db:
        assert db.whoami().subject == "sharing", "who has the password logs in again"
    with connect(prefixdb_server.endpoint, credentials_file=file) as db:
        assert db.whoami().subject == "sharing"
