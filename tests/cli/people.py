"""People for tests of the command line: each with a directory of settings and a login of their own."""

from __future__ import annotations

from pathlib import Path

from prefixdb.testing import ServerProcess
from tests.cli.conftest import Cli

PASSWORD = "correct horse, battery"


def password_file(directory: Path, password: str = PASSWORD, name: str = "pw") -> str:
    """Write a password into a file and return its name."""
    path = directory / name
    path.write_text(f"{password}\n", encoding="utf-8")
    return str(path)


class People:
    """Makes members of a server and hands out the command line as each of them has it."""

    def __init__(self, server: ServerProcess, guardian: Cli, directory: Path) -> None:
        self._server = server
        self._guardian = guardian
        self._directory = directory

    def nobody(self, name: str) -> Cli:
        """Return a command line that knows the server and has no login."""
        home = self._directory / f"home-{name}"
        home.mkdir(exist_ok=True)
        return Cli(home, {"PREFIXDB_ENDPOINT": self._server.endpoint})

    def guardian_of(self, namespace: str) -> Cli:
        """Return the command line of a namespace's guardian, with a token that lives as long as such may."""
        out = self._directory / f"guardian-{namespace}.token"
        cli = Cli(self._directory, {"PREFIXDB_ENDPOINT": self._server.endpoint, "PREFIXDB_TOKEN_FILE": str(out)})
        if out.exists():
            return cli
        issued = self._guardian(
            "token",
            "issue",
            "help",
            "--guardian",
            "namespace",
            "--namespace",
            namespace,
            "--ttl",
            "1h",
            "--out",
            str(out),
        )
        assert issued.status == 0, issued.err
        return cli

    def make(self, name: str, *options: str, namespace: str | None = None, password: str = PASSWORD) -> None:
        """Make a member; of the default namespace when none is named."""
        cli = self._guardian if namespace is None else self.guardian_of(namespace)
        made = cli("user", "create", name, "--password-file", "-", *options, stdin=f"{password}\n".encode())
        assert made.status == 0, made.err

    def log_in(self, name: str, *options: str, password: str = PASSWORD) -> Cli:
        """Return the command line of somebody who has just logged in."""
        cli = self.nobody(name)
        ended = cli("login", "--user", name, "--password-file", "-", *options, stdin=f"{password}\n".encode())
        assert ended.status == 0, ended.err
        return cli
