"""The command line as tests use it: in this process for most, as a process of its own where that matters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from prefixdb.cli.main import main
from prefixdb.testing import Namespace, ServerProcess
from tests.store.stores import DURABLE

if TYPE_CHECKING:
    from tests.cli.people import People


@dataclass
class Ended:
    """How a command ended."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.out.decode()

    @property
    def json(self) -> Any:
        """The one object on standard output."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Every line of standard output as an object."""
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def error(self) -> Any:
        """The one object on standard error."""
        return json.loads(self.err)["error"]


class Cli:
    """Runs commands with settings that come from nowhere but the test."""

    def __init__(self, config_home: Path, variables: dict[str, str]) -> None:
        self.config_home = config_home
        self.variables = variables
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFIXDB_", "NO_COLOR"))}
        places = {"XDG_CONFIG_HOME": str(config_home), "XDG_STATE_HOME": str(config_home / "state")}
        self.environment = clean | places | {"COLUMNS": "100", "TERM": "xterm"} | variables

    def __call__(self, *arguments: str, stdin: bytes | None = None, **variables: str) -> Ended:
        """Run a command in this process; keyword arguments are variables for it."""
        unset: dict[str, str | None] = {name: None for name in os.environ if name.startswith("PREFIXDB_")}
        given: dict[str, str | None] = dict(self.environment | variables)
        result = CliRunner().invoke(main, list(arguments), input=stdin, env=unset | given)
        return Ended(result.exit_code, result.stdout_bytes, result.stderr)

    def process(self, *arguments: str, stdin: bytes = b"", **variables: str) -> Ended:
        """Run a command as a process, with pipes."""
        done = subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, env=self.environment | variables, check=False
        )
        return Ended(done.returncode, done.stdout, done.stderr.decode())

    @staticmethod
    def command(*arguments: str) -> list[str]:
        """Return the command line of a process."""
        return [sys.executable, "-m", "prefixdb", *arguments]


@pytest.fixture(params=DURABLE, scope="session")
def prefixdb_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A real server for the whole session, one with each store: every test that talks to it runs once per store."""
    server = ServerProcess(tmp_path_factory.mktemp("prefixdb"), "--store", request.param)
    server.start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def place(prefixdb_server: ServerProcess) -> Namespace:
    """A new, empty namespace and a token that may write in it."""
    return prefixdb_server.create_namespace()


@pytest.fixture
def cli(place: Namespace, tmp_path: Path) -> Cli:
    """The command line with the token of ``place``."""
    variables = {"PREFIXDB_ENDPOINT": place.server.endpoint, "PREFIXDB_TOKEN_FILE": str(place.token_file)}
    return Cli(tmp_path, variables)


@pytest.fixture
def guardian(prefixdb_server: ServerProcess, tmp_path: Path) -> Cli:
    """The command line with the token of the cluster's guardian."""
    token_file = str(prefixdb_server.guardian_token_file)
    return Cli(tmp_path, {"PREFIXDB_ENDPOINT": prefixdb_server.endpoint, "PREFIXDB_TOKEN_FILE": token_file})


@pytest.fixture
def bare(tmp_path: Path) -> Cli:
    """The command line without any settings."""
    return Cli(tmp_path, {})


@pytest.fixture
def people(prefixdb_server: ServerProcess, guardian: Cli, tmp_path: Path) -> People:
    """Whoever a test needs, with passwords."""
    from tests.cli.people import People

    return People(prefixdb_server, guardian, tmp_path)
