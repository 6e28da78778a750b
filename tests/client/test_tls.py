"""Goal: TLS and mutual TLS work from both clients and the command line, and a mismatch is explained.

Method: a real server with certificates made here: a CA, the server's for localhost, and a client's.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from prefixdb import TlsOptions, connect, connect_async
from prefixdb.cli.main import main
from prefixdb.errors import InvalidArgumentError, UnavailableError
from prefixdb.testing import ServerProcess
from tests.support.certificates import issue


@pytest.fixture(scope="module", params=["tls", "mutual"])
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with TLS, and one that also wants to see the client's certificate."""
    directory = tmp_path_factory.mktemp("tls")
    authority = issue("ca")
    authority.write(directory, "ca")
    for name in ("server", "client"):
        issue(name, authority).write(directory, name)
    issue("stranger").write(directory, "stranger")
    config = f'[tls]\ncert = "{directory}/server.pem"\nkey = "{directory}/server.key"\n'
    if request.param == "mutual":
        config += f'client_ca = "{directory}/ca.pem"\n'
    (directory / "config.toml").write_text(config)
    server = ServerProcess(directory, "--config", str(directory / "config.toml"))
    server.start()
    try:
        wait_for_handshake(server)
        yield server
    finally:
        server.stop()


def wait_for_handshake(server: ServerProcess) -> None:
    """Wait until a first handshake went through: a machine under load can break one off, and a client says so."""
    gives_up_at = time.monotonic() + 30
    while True:
        with connect(server.endpoint, token_file=server.guardian_token_file, tls=options(server)) as db:
            try:
                db.get("k")
            except UnavailableError:
                if time.monotonic() > gives_up_at:
                    raise
            else:
                return


def options(server: ServerProcess) -> TlsOptions:
    """Return the options of a client that belongs here."""
    directory = server.directory
    return TlsOptions(ca=directory / "ca.pem", cert=directory / "client.pem", key=directory / "client.key")


def test_both_clients_talk_over_tls(secured: ServerProcess) -> None:
    with connect(secured.endpoint, token_file=secured.guardian_token_file, tls=options(secured)) as db:
        db.put("k", b"v")

    async def read() -> bytes | None:
        async with connect_async(secured.endpoint, token_file=secured.guardian_token_file, tls=options(secured)) as db:
            return await db.get("k")

    assert asyncio.run(read()) == b"v"


def test_plaintext_and_strangers_get_nowhere_and_are_told_why(secured: ServerProcess) -> None:
    strange = TlsOptions(ca=secured.directory / "stranger.pem")
    for tls, words in ((None, "may expect TLS"), (strange, "authority")):
        with (
            connect(secured.endpoint, token_file=secured.guardian_token_file, tls=tls, deadline_s=3) as db,
            pytest.raises(UnavailableError) as caught,
        ):
            db.get("k")
        assert words in caught.value.message
        assert secured.endpoint in caught.value.message
        assert secured.guardian_token_file.read_text().strip() not in caught.value.message


def test_a_client_without_a_certificate_is_refused_where_one_is_wanted(secured: ServerProcess) -> None:
    tls = TlsOptions(ca=secured.directory / "ca.pem")
    with connect(secured.endpoint, token_file=secured.guardian_token_file, tls=tls, deadline_s=3) as db:
        if "client_ca" in (secured.directory / "config.toml").read_text():
            with pytest.raises(UnavailableError, match=r"may expect .*a client's certificate"):
                db.get("k")
        else:
            db.get("k")


def test_the_command_line_takes_certificates_and_doctor_explains_a_mismatch(secured: ServerProcess) -> None:
    given = options(secured)
    flags = ["--endpoint", secured.endpoint, "--token-file", str(secured.guardian_token_file), "--timeout", "3s"]
    tls = ["--tls-ca", str(given.ca), "--tls-cert", str(given.cert), "--tls-key", str(given.key)]
    good = CliRunner().invoke(main, ["doctor", *flags, *tls])
    assert good.exit_code == 0, good.output
    assert "answers over TLS" in good.stdout
    plain = CliRunner().invoke(main, ["doctor", *flags])
    assert plain.exit_code == 78
    assert "--tls-ca" in plain.stdout
    stranger = ["--tls-ca", str(secured.directory / "stranger.pem")]
    alone = subprocess.run(
        [sys.executable, "-m", "prefixdb", "ping", *flags, *stranger], capture_output=True, text=True, check=False
    )
    assert alone.returncode == 78
    assert all(line.startswith(("prefixdb: ", "  next: ")) for line in alone.stderr.splitlines()), "nothing of gRPC's"
    wrong = CliRunner().invoke(main, ["doctor", *flags, *stranger])
    assert wrong.exit_code == 78
    assert "look at --tls-ca" in wrong.stdout
    assert CliRunner().invoke(main, ["doctor", *flags, "--tls-cert", str(given.cert)]).exit_code == 2


def test_a_key_of_another_certificate_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        issue(name).write(tmp_path, name)
    wrong = TlsOptions(cert=tmp_path / "mine.pem", key=tmp_path / "other.key")
    with pytest.raises(InvalidArgumentError, match="is not the key of the certificate"):
        connect("127.0.0.1:1", token="t", tls=wrong).get("k")
    with pytest.raises(InvalidArgumentError, match="no PEM file"):
        (tmp_path / "none.key").write_text("none")
        connect("127.0.0.1:1", token="t", tls=TlsOptions(cert=wrong.cert, key=tmp_path / "none.key")).get("k")


def test_over_a_unix_socket_the_certificate_is_for_localhost(tmp_path: Path) -> None:
    authority = issue("ca")
    authority.write(tmp_path, "ca")
    issue("server", authority).write(tmp_path, "server")
    pair = ["--tls-cert", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.key")]
    server = ServerProcess(tmp_path, *pair, listen=f"unix:{tmp_path}/socket")
    server.start()
    try:
        trust = TlsOptions(ca=tmp_path / "ca.pem")
        with connect(server.endpoint, token_file=server.guardian_token_file, tls=trust) as db:
            db.put("k", b"v")
            assert db.get("k") == b"v"
        wrong = TlsOptions(ca=tmp_path / "ca.pem", server_name="example.org")
        with (
            connect(server.endpoint, token_file=server.guardian_token_file, tls=wrong, deadline_s=3) as db,
            pytest.raises(UnavailableError),
        ):
            db.get("k")
    finally:
        server.stop()
