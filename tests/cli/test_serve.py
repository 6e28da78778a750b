"""Goal: ``serve`` runs a server that people and programs can start, find and stop; ``config`` checks what it reads.

Method: real processes, stopped by signals.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.store.stores import DURABLE
from tests.support.certificates import issue

READY = re.compile(r"prefixdb \S+ listening on (\S+) \(store: (\w+), front: (\w+)\)\n")


@contextmanager
def serving(
    cli: Cli, *arguments: str, errors: Path, status: int = 0, before: Sequence[str] = ()
) -> Iterator[re.Match[str]]:
    """Run ``serve``, by way of a command that is put before it, yield its ready line, stop it, and check its end."""
    with errors.open("wb") as stderr:
        command = [*before, *cli.command("serve", *arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=cli.environment, text=True)
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            match = READY.fullmatch(line)
            assert match is not None, line + errors.read_text()
            yield match
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stdout.read()
            ended = process.wait(30)
            process.stdout.close()
    assert (ended, rest) == (status, ""), errors.read_text()


def test_dev_is_one_command_to_a_working_server_and_leaves_nothing(bare: Cli, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with serving(bare, "--dev", errors=errors) as ready:
        assert "--profile dev" in errors.read_text()
        [directory] = re.findall(r"Throw-away server: (\S+) is", errors.read_text())
        assert Path(directory).is_dir()
        assert bare("put", "hello", "world", "--profile", "dev").status == 0
        assert bare("get", "hello").out == b"world", "the first profile is current"
        assert bare("config", "show", "--json").lines[1]["value"] == ready[1]
    assert not Path(directory).exists()
    assert bare("profile", "list", "--json").lines == []
    assert f"Removed {directory}" in errors.read_text()


def test_the_server_may_open_as_many_files_as_its_process_may_ask_for(bare: Cli, tmp_path: Path) -> None:
    few = ["prlimit", "--nofile=300:4000"]
    pid_file = tmp_path / "pid"
    told = ["sh", "-c", f'echo $$ > {pid_file}; exec "$@"', "sh"]
    with serving(bare, "--dev", errors=tmp_path / "errors", before=[*few, *told]):
        assert resource.prlimit(int(pid_file.read_text()), resource.RLIMIT_NOFILE) == (4_000, 4_000)


def test_dev_does_not_touch_a_profile_of_the_user(bare: Cli) -> None:
    bare("profile", "set", "dev", "--endpoint", "127.0.0.1:1")
    ended = bare("serve", "--dev")
    assert (ended.status, ended.out) == (2, b"")
    assert "profile remove dev" in ended.err
    assert bare("config", "show", "--json").lines[1]["value"] == "127.0.0.1:1"


@pytest.mark.parametrize("store", DURABLE)
def test_data_the_token_and_the_ready_file_are_where_they_were_asked_for(bare: Cli, tmp_path: Path, store: str) -> None:
    data, ready_file = tmp_path / "data", tmp_path / "ready"
    flags = ["--data-dir", str(data), "--listen", "127.0.0.1:0", "--http", "", "--store", store]
    flags += ["--durability", "os", "--ready-file", str(ready_file)]
    token_file = str(data / "guardian.token")
    with serving(bare, *flags, errors=tmp_path / "errors") as ready:
        assert ready[2] == store and ready[3] == ("native" if store == "native" else "python")
        assert ready_file.read_text().strip() == ready[1]
        secret = Path(token_file).read_text().strip()
        facts = bare("status", "--endpoint", ready[1], "--token-file", token_file, "--json").json
        assert (facts["store"], facts["durability"], facts["data_dir"]) == (store, "os", str(data))
        assert facts["front"] == ready[3]
        assert bare("put", "k", "v", "--endpoint", ready[1], "--token-file", token_file).status == 0
    assert not ready_file.exists()
    told = (tmp_path / "errors").read_text()
    assert str(data / "guardian.password") in told and token_file in told
    assert secret not in told and (data / "guardian.password").read_text().strip() not in told
    with serving(bare, *flags, errors=tmp_path / "errors") as ready:
        assert bare("get", "k", "--endpoint", ready[1], "--token-file", token_file).out == b"v"


def test_a_second_server_on_the_same_directory_is_told_why_not(bare: Cli, tmp_path: Path) -> None:
    flags = ["--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "--http", ""]
    with serving(bare, *flags, errors=tmp_path / "errors"):
        ended = bare.process("serve", *flags)
        assert (ended.status, ended.out) == (64 + 9, b"")
        assert "another process" in ended.err.lower()
        assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--listen", "0.0.0.0:0"], "insecure"),
        (["--listen", "nonsense"], "server.listen"),
        (["--config", "no/such/file"], "does not exist"),
        (["--dev", "--data-dir", "x"], "--data-dir"),
        (["--dev", "--tls-cert", "x", "--tls-key", "x"], "--tls-cert"),
        (["--tls-ca", "x"], "--tls-client-ca"),
        (["--tls-cert", "x"], "tls.key"),
        (["--tls-cert", "none.pem", "--tls-key", "none.key"], "none.pem cannot be read"),
        (["--tls-client-ca", "x"], "tls.client_ca needs"),
        (["--tls-subject", "token"], "tls.subject"),
        (["--issuers", "none.toml"], "none.toml"),
        (["--anonymous", "guardian"], "'guardian'"),
        (["--listen", "unix:relative"], "absolute path"),
        (["--store", "other"], "'other'"),
        (["--front", "other"], "'other'"),
        (["--front", "native", "--store", "rocksdict"], "native serves the native store, and store.kind is rocksdict"),
    ],
)
def test_what_cannot_be_served_is_refused_in_words(bare: Cli, tmp_path: Path, flags: list[str], words: str) -> None:
    directory = [] if {"--data-dir", "--dev"} & set(flags) else ["--data-dir", str(tmp_path / "data")]
    ended = bare.process("serve", "--http", "", *directory, *flags)
    assert ended.status in {2, 64 + 3, 64 + 9}
    assert ended.out == b""
    assert words in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("front", ["native", "python"] if "native" in DURABLE else ["python"])
def test_a_unix_socket_serves_every_command_and_goes_with_the_server(bare: Cli, tmp_path: Path, front: str) -> None:
    data, path, ready_file = tmp_path / "data", tmp_path / "a%41#socket?", tmp_path / "ready"
    flags = ["--data-dir", str(data), "--listen", f"unix:{path}", "--http", "", "--ready-file", str(ready_file)]
    flags += ["--front", front]
    with serving(bare, *flags, errors=tmp_path / "errors") as ready:
        assert ready[1] == f"unix:{path}" == ready_file.read_text().strip()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        at = ["--endpoint", ready[1], "--token-file", str(data / "guardian.token")]
        assert bare("put", "k", "v", *at).status == 0
        assert bare("get", "k", *at).out == b"v"
        looked = bare("doctor", *at)
        assert looked.status == 0 and f"{path} is a socket" in looked.text
        assert f"answered by the {front} front" in looked.text
    assert not path.exists()
    process = subprocess.Popen(bare.command("serve", *flags), stdout=subprocess.PIPE, env=bare.environment, text=True)
    assert process.stdout is not None and READY.fullmatch(process.stdout.readline())
    process.kill()
    process.wait(30)
    process.stdout.close()
    assert path.is_socket(), "a killed server leaves its socket"
    assert bare("doctor", *at).status == 78
    with serving(bare, *flags, errors=tmp_path / "errors") as ready:
        assert bare("get", "k", *at).out == b"v"


def test_tls_is_a_matter_of_flags_and_those_of_clients_are_not_taken_for_it(bare: Cli, tmp_path: Path) -> None:
    authority = issue("ca")
    authority.write(tmp_path, "ca")
    for name in ("server", "guardian", "other"):
        issue(name, authority).write(tmp_path, name)
    data = tmp_path / "data"
    flags = ["--data-dir", str(data), "--listen", "127.0.0.1:0", "--http", ""]
    pair = ["--tls-cert", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.key")]
    pair += ["--tls-client-ca", str(tmp_path / "ca.pem"), "--tls-subject", "token"]
    with serving(bare, *flags, *pair, errors=tmp_path / "errors") as ready:
        at = ["--endpoint", ready[1], "--token-file", str(data / "guardian.token"), "--timeout", "10s"]
        at += ["--tls-ca", str(tmp_path / "ca.pem")]
        for name, status in (("guardian", 0), ("other", 64 + 7)):
            own = ["--tls-cert", str(tmp_path / f"{name}.pem"), "--tls-key", str(tmp_path / f"{name}.key")]
            assert bare("whoami", *at, *own).status == status
    variables = {"PREFIXDB_TLS_CERT": "none.pem", "PREFIXDB_TLS_KEY": "none.key", "PREFIXDB_INSECURE": "1"}
    client = Cli(tmp_path, variables)
    with serving(client, *flags, errors=tmp_path / "errors") as ready:
        assert bare("ping", "--endpoint", ready[1]).status == 0, "what a client would say is not the server's setting"
    exposed = client.process("serve", "--data-dir", str(data), "--http", "", "--listen", "0.0.0.0:0")
    assert exposed.status == 64 + 3 and "--insecure" in exposed.err


def test_letting_callers_in_without_a_token_is_said_aloud(bare: Cli, tmp_path: Path) -> None:
    data, errors = tmp_path / "data", tmp_path / "errors"
    flags = ["--data-dir", str(data), "--listen", "127.0.0.1:0", "--http", "", "--anonymous", "reader"]
    with serving(bare, *flags, errors=errors) as ready:
        [line] = [line for line in errors.read_text().splitlines() if line.startswith("prefixdb: ")]
        assert line.startswith("prefixdb: warning: Calls without a token are let in") and "--anonymous off" in line
        assert bare("get", "k", "--endpoint", ready[1]).status == 1, "let in, and there is no such row"
        assert bare("put", "k", "v", "--endpoint", ready[1]).status == 64 + 7
        at = ["--endpoint", ready[1], "--token-file", str(data / "guardian.token")]
        assert "Calls without a token" in bare("status", *at).text
        [alarm] = bare("status", *at, "--json").json["alarms"]
        assert "Calls without a token" in alarm
        doctor = bare("doctor", *at)
        assert doctor.status == 0 and "Calls without a token" in doctor.text
    with serving(bare, *flags[:-2], errors=errors) as ready:
        assert "prefixdb: warning" not in errors.read_text()
        assert bare("status", *at[:1], ready[1], *at[2:], "--json").json["alarms"] == []


def test_a_port_that_is_taken_is_told_in_our_words_only(bare: Cli, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        ended = bare.process("serve", "--http", "", "--data-dir", str(tmp_path / "data"), "--listen", address)
    assert ended.status == 64 + 3
    *log, last = ended.err.splitlines()
    assert last.startswith(f"prefixdb: server.listen: {address} cannot be bound")
    assert all(json.loads(line)["message"] for line in log), "and none of gRPC's"


def test_the_configuration_is_made_checked_and_used(bare: Cli, tmp_path: Path) -> None:
    file = tmp_path / "prefixdb.toml"
    assert bare("config", "init", "--out", str(file)).status == 0
    assert bare("config", "init").text == file.read_text()
    assert bare("config", "init", "--out", str(file)).status == 2, "an existing file is not touched"
    file.write_text('[store]\ndurability = "os"\n')
    shown = {item["setting"]: item for item in bare("config", "check", str(file), "--json").lines}
    assert {item["setting"]: item for item in bare("config", "check", "--config", str(file), "--json").lines} == shown
    assert "Give FILE once" in bare("config", "check", str(file), "--config", str(file)).err
    assert shown["store.durability"] == {"setting": "store.durability", "value": "os", "source": f"file {file}"}
    over = bare("config", "check", str(file), "--json", PREFIXDB_STORE__DURABILITY="fsync").lines
    assert {"setting": "store.durability", "value": "fsync", "source": "environment"} in over
    file.write_text('[server]\nlisten = "0.0.0.0:7311"\n')
    exposed = bare("config", "check", str(file))
    assert (exposed.status, exposed.out) == (64 + 3, b"")
    assert "server.listen" in exposed.err
    assert bare("config", "check", str(file), "--insecure").status == 0
    file.write_text('[store]\nvalue_max = "20MiB"\n')
    assert f"store.value_max (file {file}): it is at most " in bare("config", "check", str(file)).err
    file.write_text('[server]\nfront = "turbo"\n')
    assert (
        f"server.front (file {file}): 'turbo' is none of auto, native, python."
        in bare("config", "check", str(file)).err
    )
    file.write_text('[server]\ndrain = "11m"\n')
    assert "it is at most 10m." in bare("config", "check", str(file)).err
    issue("one").write(tmp_path, "one")
    issue("two").write(tmp_path, "two")
    file.write_text(f'[tls]\ncert = "{tmp_path}/one.pem"\nkey = "{tmp_path}/two.key"\n')
    assert "is not the key of the certificate" in bare("config", "check", str(file)).err
    file.write_text(f'[tls]\ncert = "{tmp_path}/one.pem"\nkey = "{tmp_path}/one.key"\n')
    assert bare("config", "check", str(file)).status == 0
    file.write_text("[store]\ndurabilty = 1\n")
    ended = bare("config", "check", str(file))
    assert ended.status == 64 + 3
    assert ended.out == b""
    assert "store.durabilty" in ended.err and str(file) in ended.err


def test_without_the_servers_packages_the_way_to_them_is_told(bare: Cli, tmp_path: Path) -> None:
    """As after ``pip install prefixdb``: the client's commands work, the server's say what is missing."""
    hidden = tmp_path / "hide" / "sitecustomize.py"
    hidden.parent.mkdir()
    hidden.write_text(
        "import sys\nfor name in ('msgspec', 'rocksdict', 'jwt', 'cryptography', 'prometheus_client', 'grpc_health'):\n"
        "    sys.modules[name] = None\n"
    )
    directory = ["--data-dir", str(tmp_path / "data")]
    for arguments in (["serve", *directory], ["recover-guardian", *directory], ["config", "init"], ["config", "check"]):
        ended = bare.process(*arguments, PYTHONPATH=str(hidden.parent))
        assert (ended.status, ended.out) == (2, b""), ended.err
        assert "pip install 'prefixdb[server]'" in ended.err
    assert bare.process("ping", "--endpoint", "127.0.0.1:1", PYTHONPATH=str(hidden.parent)).status == 78


def test_version_needs_neither_grpc_nor_rich_nor_a_server_part() -> None:
    code = (
        "import sys; from prefixdb.cli.main import main\n"
        "try: main(['version'])\nexcept SystemExit as end: assert not end.code\n"
        "heavy = {'grpc', 'rich', 'google.protobuf', 'prefixdb.server', 'prefixdb.store'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("prefixdb ")
