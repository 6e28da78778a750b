"""Goal: whatever ends a command in the middle, nothing half is left, and the same command goes on where it was.

Method: the program as a process against a server that stops taking frames when it is told to; it is killed,
interrupted, or loses its server there. A real server that is killed shows the same from the other side.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefixdb.errors import Reason, error
from prefixdb.testing import ServerProcess
from tests.cli.conftest import Cli
from tests.support.transfer_server import TransferServer
from tests.support.waiting import wait_for

WAIT_S = 30.0
ROWS = 60_000
"""So many that a text of them makes several frames."""


@pytest.fixture
def server() -> Iterator[TransferServer]:
    """A server that waits after the first frame it takes."""
    with TransferServer() as running:
        running.hold = threading.Event()
        yield running


@pytest.fixture
def played(server: TransferServer, tmp_path: Path) -> Cli:
    """The command line of that server."""
    (tmp_path / "token").write_text("t")
    return Cli(tmp_path, {"PREFIXDB_ENDPOINT": server.endpoint, "PREFIXDB_TOKEN_FILE": str(tmp_path / "token")})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A text of many rows; their lifetimes count from when the load begins."""
    path = tmp_path / "rows.jsonl"
    with path.open("w") as text:
        for n in range(ROWS):
            text.write(json.dumps({"key": f"k{n:06}", "value": f"{n}" * 20, "ttl_s": 3600}) + "\n")
    return path


def begun(cli: Cli, server: TransferServer, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a command and return when the server has its first frame and takes no more."""
    process = subprocess.Popen(
        cli.command(*arguments), env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert server.arrived.wait(WAIT_S)
    return process


def release(server: TransferServer) -> None:
    """Let the server take everything from now on."""
    assert server.hold is not None
    server.hold.set()
    server.hold = None


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_same_command_goes_on_after_its_end(
    played: Cli, server: TransferServer, file: Path, tmp_path: Path, end: signal.Signals
) -> None:
    process = begun(played, server, "load", str(file))
    process.send_signal(end)
    _, said = process.communicate(timeout=WAIT_S)
    if end is signal.SIGINT:
        assert process.returncode == 130
        assert b"Nothing was applied. The same command goes on" in said
    release(server)
    assert server.applied == {}
    done = played.process("load", str(file), "--json")
    assert (done.status, done.json["rows"]) == (0, ROWS), done.err
    assert "Going on with the upload" in done.err
    [rows] = server.applied.values()
    assert len(rows) == len(set(rows)) == ROWS
    assert server.begins[0].upload == server.begins[-1].upload
    frames = server.received
    assert not list((tmp_path / "state" / "prefixdb" / "uploads").iterdir())
    third = played.process("load", str(file), "--json")
    assert third.status == 0 and "Going on" not in third.err
    assert server.begins[-1].upload != server.begins[0].upload
    assert server.received == 2 * frames, "a frame was sent twice, or left out"


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        (Reason.READ_ONLY, True),
        (Reason.NAMESPACE_SUSPENDED, True),
        (Reason.TOO_MANY_STREAMS, True),
        (Reason.TOKEN_EXPIRED, True),
        (Reason.TOKEN_REVOKED, True),
        (Reason.IMPORT_CONFLICT, False),
        (Reason.NOT_PERMITTED, False),
        (Reason.NAMESPACE_BANNED, False),
        (Reason.VALUE_TOO_LARGE, False),
    ],
)
def test_an_upload_is_remembered_exactly_while_the_server_keeps_it(
    played: Cli, server: TransferServer, tmp_path: Path, reason: Reason, kept: bool
) -> None:
    release(server)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"key": "k", "value": "v"}\n')
    server.refusal = error(reason)
    refused = played.process("load", str(path))
    assert refused.status not in (0, 1)
    assert ("the same command goes on" in refused.err) == (kept and not reason.name.startswith("TOKEN"))
    server.refusal = None
    done = played.process("load", str(path), "--json")
    assert (done.status, done.json["rows"]) == (0, 1)
    uploads = [begin.upload for begin in server.begins]
    assert (len(set(uploads)) == 1) == kept


def test_a_changed_file_another_wish_and_anew_begin_new_uploads(
    played: Cli, server: TransferServer, file: Path
) -> None:
    process = begun(played, server, "load", str(file))
    process.kill()
    process.communicate()
    release(server)
    first = server.begins[0].upload
    for arguments in (["--anew"], ["--on-conflict", "skip"]):
        assert played.process("load", str(file), *arguments).status == 0
        assert server.begins[-1].upload != first
    with file.open("a") as text:
        text.write('{"key": "more", "value": "x"}\n')
    assert played.process("load", str(file)).status == 0
    assert server.begins[-1].upload != first
    assert len(list(server.applied.values())[-1]) == ROWS + 1


def test_a_second_command_beside_the_first_makes_an_upload_of_its_own(
    played: Cli, server: TransferServer, file: Path
) -> None:
    process = begun(played, server, "load", str(file))
    first = server.begins[0].upload
    second = subprocess.Popen(played.command("load", str(file)), env=played.environment, stderr=subprocess.PIPE)
    wait_for(lambda: len(server.begins) == 2 or second.poll() is not None, "the second has begun, beside the first")
    assert process.poll() is None, "the first still has its upload"
    release(server)
    _, said = second.communicate(timeout=WAIT_S)
    assert (second.returncode, process.wait(WAIT_S)) == (0, 0), said
    process.communicate()
    uploads = {begin.upload for begin in server.begins}
    assert len(uploads) == 2 and first in uploads
    assert set(server.applied) == uploads


def test_an_answer_that_was_lost_with_its_reader_is_told_to_the_same_command(
    played: Cli, server: TransferServer, file: Path
) -> None:
    release(server)
    server.hold_result = threading.Event()
    process = subprocess.Popen(played.command("import", str(file)), env=played.environment, stderr=subprocess.PIPE)
    assert server.whole.wait(WAIT_S)
    process.kill()
    process.communicate()
    server.hold_result.set()
    frames = server.received
    done = played.process("import", str(file), "--json")
    assert (done.status, done.json["rows"], server.received) == (0, ROWS, frames), done.err
    assert "The server has all of the upload" in done.err


def test_an_interrupted_pipe_ends_at_once_and_applies_nothing(played: Cli, server: TransferServer) -> None:
    read, write = os.pipe()
    process = subprocess.Popen(
        played.command("load", "-", "--format", "jsonl"), env=played.environment, stdin=read, stderr=subprocess.PIPE
    )
    os.close(read)
    row = json.dumps({"key": "k", "value": "v" * 900_000}).encode() + b"\n"
    os.write(write, b"")
    writer = threading.Thread(target=lambda: _write_all(write, row * 3), daemon=True)
    writer.start()
    assert server.arrived.wait(WAIT_S)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130, said
    assert b"interrupted" in said and b"Traceback" not in said and b"Fatal" not in said
    writer.join(WAIT_S)
    os.close(write)
    release(server)
    assert server.applied == {}


def _write_all(descriptor: int, data: bytes) -> None:
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
    except BrokenPipeError:
        return


@pytest.mark.parametrize("form", [["a.prefixdb"], ["a.jsonl"]])
def test_an_interrupted_export_leaves_nothing(form: list[str], prefixdb_server: ServerProcess, tmp_path: Path) -> None:
    place = prefixdb_server.create_namespace()
    with place.connect() as db:
        db.load((f"k{n}", os.urandom(1000)) for n in range(30_000))
    cli = Cli(tmp_path, {"PREFIXDB_ENDPOINT": place.server.endpoint, "PREFIXDB_TOKEN_FILE": str(place.token_file)})
    target = tmp_path / "out" / form[0]
    target.parent.mkdir()
    partial = target.with_name(f".{target.name}.partial")
    for end, left in ((signal.SIGINT, []), (signal.SIGKILL, [partial]), (signal.SIGINT, [])):
        if partial.exists():
            os.truncate(partial, 0)  # What the one before left must not be taken for progress of this one.
        process = subprocess.Popen(
            cli.command("export", "--out", str(target)), env=cli.environment, stderr=subprocess.PIPE
        )
        wait_for(lambda: partial.exists() and partial.stat().st_size > 2_000_000, "some of it was written")
        process.send_signal(end)
        process.communicate(timeout=WAIT_S)
        assert process.returncode == (130 if end is signal.SIGINT else -signal.SIGKILL)
        assert list(target.parent.iterdir()) == left
    assert cli.process("export", "--out", str(target)).status == 0
    assert list(target.parent.iterdir()) == [target]


def test_a_reader_that_goes_away_ends_the_export(prefixdb_server: ServerProcess, tmp_path: Path) -> None:
    place = prefixdb_server.create_namespace()
    with place.connect() as db:
        db.load((f"k{n}", os.urandom(1000)) for n in range(5_000))
    cli = Cli(tmp_path, {"PREFIXDB_ENDPOINT": place.server.endpoint, "PREFIXDB_TOKEN_FILE": str(place.token_file)})
    for form in ("msgpack", "jsonl"):
        process = subprocess.Popen(
            cli.command("export", "--format", form), env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(10)
        process.stdout.close()
        assert process.wait(WAIT_S) == 141
        assert process.stderr.read() == b""
        process.stderr.close()


def test_a_server_that_is_killed_in_the_middle_gets_everything_once(tmp_path: Path, file: Path) -> None:
    server = ServerProcess(tmp_path)
    server.start()
    try:
        place = server.create_namespace()
        cli = Cli(tmp_path, {"PREFIXDB_ENDPOINT": server.endpoint, "PREFIXDB_TOKEN_FILE": str(place.token_file)})
        spools = server.data_dir / "imports"
        process = subprocess.Popen(cli.command("load", str(file), "--json"), env=cli.environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        wait_for(lambda: spools.exists() and any(spools.iterdir()), "the upload has begun")
        server.kill()
        server.start()
        out, said = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, said
        assert json.loads(out)["rows"] == ROWS
        with place.connect(deadline_s=WAIT_S) as db:
            assert db.count() == ROWS
    finally:
        server.close()
