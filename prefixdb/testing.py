"""A pytest plugin: the fixture ``prefixdb_server`` starts a real server on a temporary directory.

    def test_something(prefixdb_server):
        with prefixdb_server.namespace() as db:          # a new, empty namespace and a client for it
            db.put("k", b"v")
        with prefixdb_server.create_namespace().login("alice", groups=["readers"]) as db:   # a member of a new one
            db.get("k")

The server is a process of its own and lives as long as the test session; tests keep apart by namespaces, which are
cheap. It needs ``prefixdb[server]``. Importing this module imports neither gRPC nor a server part: pytest loads it in
every project of the environment it is installed in.
"""

from __future__ import annotations

import itertools
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from prefixdb.client.aio import AsyncDatabase
    from prefixdb.client.sync import Database

START_S_MAX = 60.0
STOP_S_MAX = 30.0

_NUMBERS = itertools.count(1)


class ServerProcess:
    """A real server, ``python -m prefixdb serve``, on a directory that it may be started on again.

    Args:
        directory: for data, log and token files.
        arguments: further flags of ``serve``.
        listen: address; the port of the first start is kept when the server is started again.
    """

    def __init__(self, directory: Path, *arguments: str, listen: str = "127.0.0.1:0") -> None:
        self.directory = directory
        self.endpoint = ""
        self._arguments = arguments
        self._listen = listen
        self._process: subprocess.Popen[bytes] | None = None
        self._guardian: Database | None = None
        self._password_files: dict[tuple[int | str, str], Path] = {}

    def __repr__(self) -> str:
        return f"ServerProcess({self.endpoint or 'not started'})"

    @property
    def data_dir(self) -> Path:
        """The server's data directory."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """What the server writes to standard output and error."""
        return self.directory / "server.log"

    @property
    def guardian_token_file(self) -> Path:
        """The token of the cluster's first guardian."""
        return self.data_dir / "guardian.token"

    @property
    def guardian(self) -> Database:
        """A client of the cluster guardian; one for the whole life of this object."""
        if self._guardian is None:
            from prefixdb import connect

            self._guardian = connect(self.endpoint, token_file=self.guardian_token_file)
        return self._guardian

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it takes requests.

        Raises:
            RuntimeError: it ended instead, or took longer than a minute; the message has the end of its log.
        """
        ready = self.directory / "ready"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "prefixdb", "serve", "--data-dir", str(self.data_dir), "--http", ""]
        command += ["--listen", self._listen, "--ready-file", str(ready), *self._arguments]
        # Settings of whoever runs the tests must not reach the server.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFIXDB_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        gives_up_at = time.monotonic() + START_S_MAX
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > gives_up_at:
                status = self._process.poll()
                self.kill()
                tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise RuntimeError(f"the server did not get ready (exit status {status}); its log ends with:\n{tail}")
            time.sleep(0.02)
        self.endpoint = self._listen = ready.read_text(encoding="ascii").strip()

    def stop(self) -> int:
        """Stop the server by SIGTERM and return its exit status; 0 when it was not running."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self) -> None:
        """End the server by SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop and start the server; the address stays the same."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Close the guardian's client and stop the server."""
        if self._guardian is not None:
            self._guardian.close()
        self.stop()

    def create_namespace(self, name: str | None = None, *, groups: tuple[str, ...] = ("writers",)) -> Namespace:
        """Create a namespace and a token for it, valid for an hour.

        Args:
            name: of the namespace; None for one that no other test has.
            groups: of the token.
        """
        name = name or f"test-{os.getpid()}-{next(_NUMBERS)}"
        made = self.guardian.guardian.namespaces.create(name).namespace
        return Namespace(self, made.name, made.id, self.issue_token(made.id, groups=groups))

    def issue_token(
        self,
        namespace: int | str,
        *,
        subject: str = "tester",
        groups: tuple[str, ...] = ("writers",),
        ttl: float = 3600,
    ) -> Path:
        """Issue a token and return the file it is in."""
        issued = self.guardian.guardian.tokens.issue(subject, groups, ttl=ttl, namespace=namespace)
        return self._secret_file("token-", issued.token)

    def password_file(self, user: str, *, home: int | str = 0, groups: Iterable[str] = ("writers",)) -> Path:
        """Return the file with a member's password; the member is made when there is none of that name yet.

        Args:
            user: name of the member.
            home: name or id of the namespace it belongs to; groups of that one are what ``groups`` names.
            groups: of a member that is made.
        """
        from prefixdb import connect
        from prefixdb.client.models import GuardianRole

        known = self._password_files.get((home, user))
        if known is None:
            password = secrets.token_urlsafe(16)
            if home in {0, "default"}:
                self.guardian.guardian.members.create(user, password=password, groups=groups)
            else:
                minted = self.guardian.guardian.tokens.issue("tests", guardian=GuardianRole.NAMESPACE, namespace=home)
                with connect(self.endpoint, token=minted.token) as guardian:
                    guardian.guardian.members.create(user, password=password, groups=groups)
            known = self._password_files[home, user] = self._secret_file("password-", password)
        return known

    def login(self, user: str = "member", *, home: int | str = 0, groups: Iterable[str] = ("writers",)) -> Database:
        """Return a client that logs a member in, who is made when there is none of that name yet; close it."""
        from prefixdb import connect

        return connect(
            self.endpoint, user=user, password_file=self.password_file(user, home=home, groups=groups), home=home
        )

    def _secret_file(self, prefix: str, secret: str) -> Path:
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=self.directory)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secret)
        return Path(name)

    @contextmanager
    def namespace(self, name: str | None = None, *, groups: tuple[str, ...] = ("writers",)) -> Iterator[Database]:
        """Create a namespace and yield a client for it."""
        with self.create_namespace(name, groups=groups).connect() as database:
            yield database


class Namespace:
    """A namespace made for a test, and the file with a token for it."""

    def __init__(self, server: ServerProcess, name: str, namespace_id: int, token_file: Path) -> None:
        self.server = server
        self.name = name
        self.id = namespace_id
        self.token_file = token_file

    def connect(self, *, deadline_s: float | None = None) -> Database:
        """Return a new client for it; close it."""
        from prefixdb import connect

        return connect(self.server.endpoint, token_file=self.token_file, deadline_s=deadline_s)

    def connect_async(self, *, deadline_s: float | None = None) -> AsyncDatabase:
        """Return a new asyncio client for it; close it."""
        from prefixdb import connect_async

        return connect_async(self.server.endpoint, token_file=self.token_file, deadline_s=deadline_s)

    def login(self, user: str = "member", *, groups: Iterable[str] = ("writers",)) -> Database:
        """Return a client that logs a member of it in, who is made when there is none of that name yet; close it."""
        return self.server.login(user, home=self.id, groups=groups)


@pytest.fixture(scope="session")
def prefixdb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server on a temporary directory, for the whole session."""
    server = ServerProcess(tmp_path_factory.mktemp("prefixdb"))
    server.start()
    try:
        yield server
    finally:
        server.close()
