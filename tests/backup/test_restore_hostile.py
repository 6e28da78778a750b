"""Goal: a backup that is damaged, bent or hostile is refused with the place, and the target stays as it was.

Method: one real backup is bent in every way a repository could bend it, with a manifest that agrees and one that does
not; disks that are full and processes that are killed come in between. After each the target and its neighbours are
looked at.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from prefixdb.backup import filling
from prefixdb.backup import restore as module
from prefixdb.backup.restore import restore, verify_open
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.repository.manifest import BackupFile
from prefixdb.v1 import key_value_pb2 as kv
from tests.support.backups import Backup, files_of, take_backup
from tests.support.server import running
from tests.support.waiting import wait_for

_taken: dict[str, Backup] = {}


@pytest.fixture
def backup(server_store: str, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    """One backup of a small store, the same for every test."""
    if server_store not in _taken:

        async def take() -> Backup:
            async with running(tmp_path_factory.mktemp("served") / "data") as server:
                acme = server.caller(server.create("acme"))
                for number in range(50):
                    row = kv.PutRequest(key=b"k%02d" % number, value=random.Random(number).randbytes(3_000))
                    await acme.call(acme.key_value.Put, row)
                return await take_backup(server.guardian)

        _taken[server_store] = asyncio.run(take())
    return _taken[server_store]


@pytest.fixture(params=["absent", "empty"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The target of a restore that fails; afterwards it is as it was, and nothing is beside it."""
    path = tmp_path / "there" / "data"
    path.parent.mkdir()
    if request.param == "empty":
        path.mkdir()
    yield path
    assert list(path.parent.iterdir()) == ([path] if request.param == "empty" else [])
    assert not path.exists() or not list(path.iterdir())


def refusal(backup: Backup, target: Path) -> PrefixdbError:
    with pytest.raises(PrefixdbError) as caught:
        restore(backup, target)
    return caught.value


def table_of(backup: Backup) -> str:
    return max((path for path in backup.contents if path.endswith(".sst")), key=lambda path: len(backup.contents[path]))


def manifest_of(backup: Backup) -> str:
    return next(path for path in backup.contents if path.startswith("db/MANIFEST"))


def with_state(backup: Backup, **fields: Any) -> Backup:
    state = json.loads(backup.contents["store-state.json"]) | fields
    return backup.with_file("store-state.json", json.dumps(state).encode())


# --- bytes that are other than the manifest says ----------------------------------------------------------------------


def test_a_flipped_bit_anywhere_is_refused_with_the_file(backup: Backup, target: Path) -> None:
    draw = random.Random(7)
    for path, content in backup.contents.items():
        for position in {0, len(content) - 1, *(draw.randrange(len(content)) for _ in range(6))} if content else ():
            failure = refusal(backup.flipped(path, position), target)
            assert failure.reason is Reason.ARCHIVE_INVALID and failure.metadata["place"].endswith(path)


def test_a_damaged_backup_on_this_machine_is_refused_before_a_byte_is_written(
    backup: Backup, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> None:
        raise AssertionError("something was to be written")

    monkeypatch.setattr(filling, "_create", write)
    monkeypatch.setattr(module, "_hidden_beside", write)
    bent = [backup.flipped(path, len(content) // 2) for path, content in backup.contents.items() if content]
    bent += [
        with_state(backup, sequence=1),
        backup.with_file("bans.jsonl", b"{}\n"),
        backup.with_file("db/CURRENT", b"MANIFEST-000001\n"),
    ]
    for wrong in bent:
        assert refusal(wrong, target).reason is Reason.ARCHIVE_INVALID
    with pytest.raises(AssertionError):
        restore(backup, target)


def test_a_file_that_changes_after_it_was_checked_is_refused(backup: Backup, target: Path) -> None:
    class Changing(Backup):
        def open(self, path: str) -> BinaryIO:
            again = path in self.opened and path.endswith(".sst")
            opened = super().open(path)
            return io.BytesIO(opened.read()[:-1] + b"x") if again else opened

    changing = Changing(backup.manifest, backup.contents)
    assert refusal(changing, target).metadata["place"].endswith(".sst")
    assert len(changing.opened) > len(backup.contents)


def test_a_backup_behind_a_url_is_fetched_once(backup: Backup, target: Path, tmp_path: Path) -> None:
    far = Backup(backup.manifest, backup.contents, is_local=False)
    restore(far, tmp_path / "data")
    assert sorted(far.opened) == sorted(backup.contents)
    assert refusal(replace(far.flipped("db/CURRENT", 0), is_local=False), target).reason is Reason.ARCHIVE_INVALID


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"x", lambda _: b""])
def test_a_file_that_is_shorter_or_longer_is_refused(
    backup: Backup, target: Path, change: Callable[[bytes], bytes]
) -> None:
    for path, content in backup.contents.items():
        if change(content) != content:
            failure = refusal(Backup(backup.manifest, backup.contents | {path: change(content)}), target)
            assert failure.reason is Reason.ARCHIVE_INVALID and failure.metadata["place"].endswith(path)
            assert "shorter" in failure.message or "longer" in failure.message


def test_a_file_without_end_is_given_up_after_what_it_should_have(backup: Backup, target: Path) -> None:
    class Endless(io.RawIOBase):
        asked = 0

        def read(self, size: int = -1) -> bytes:
            self.asked += size
            return bytes(size)

    endless = Endless()

    class Source(Backup):
        def open(self, path: str) -> BinaryIO:
            return endless if path.endswith(".sst") else super().open(path)  # type: ignore[return-value]

    assert refusal(Source(backup.manifest, backup.contents), target).reason is Reason.ARCHIVE_INVALID
    assert endless.asked <= len(backup.contents[table_of(backup)]) + 3 * filling._BLOCK_BYTES


@pytest.mark.parametrize("when", ["open", "read"])
def test_a_file_that_cannot_be_read_is_refused_with_its_name(backup: Backup, target: Path, when: str) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    class Source(Backup):
        def open(self, path: str) -> BinaryIO:
            if path.startswith("db/OPTIONS"):
                if when == "open":
                    raise FileNotFoundError(2, "No such file or directory")
                return Broken()
            return super().open(path)

    failure = refusal(Source(backup.manifest, backup.contents), target)
    assert failure.reason is Reason.ARCHIVE_INVALID and "db/OPTIONS" in failure.metadata["place"]


# --- a manifest that agrees with bytes that make no sense -------------------------------------------------------------

PATHS = [
    "../evil", "/etc/evil", "db/../evil", "db/000001.sst/x", "db//000001.sst", "keys/0123456789abcdef.pem", "LOCK",
    "db/LOCK", "db/IDENTITY", "db/000001.log", "db/000001.blob", "audit.jsonl", "store-id", "db", "", ".",
    "db/000001.sst\n", "guardian.token", "snapshots/1/db/CURRENT", "imports/x", "db/CURRENT\0", "DB/CURRENT",
    "db\\CURRENT",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_none_of_a_backup_is_refused_before_anything_is_opened(
    backup: Backup, target: Path, path: str
) -> None:
    content = b"evil"
    evil = Backup(replace(backup.manifest, files=files_of(backup.contents | {path: content})), backup.contents)
    evil.contents = backup.contents | {path: content}
    assert refusal(evil, target).reason is Reason.ARCHIVE_INVALID
    assert not evil.opened


def test_lists_that_lie_are_refused_before_anything_is_opened(backup: Backup, target: Path) -> None:
    files = backup.manifest.files
    some = next(file for file in files if file.path == table_of(backup))
    for bad in (
        (*files, files[-1]),
        tuple(reversed(files)),
        (),
        files[1:],
        tuple(file for file in files if file.path != "db/CURRENT"),
        tuple(file for file in files if file.path != "store-state.json"),
        tuple(file for file in files if not file.path.startswith("db/MANIFEST")),
        tuple(replace(file, size=-1) if file == some else file for file in files),
        tuple(replace(file, sha256="0" * 63) if file == some else file for file in files),
        tuple(replace(file, sha256="Z" * 64) if file == some else file for file in files),
        tuple(replace(file, size=2**30 + 1) if file.path == "bans.jsonl" else file for file in files),
        tuple(replace(file, size=2**30) if file.path == "store-state.json" else file for file in files),
        tuple(sorted([*files, BackupFile("db/MANIFEST-999999", 0, "0" * 64)], key=lambda file: file.path)),
    ):
        bent = backup.bent(files=bad)
        assert refusal(bent, target).reason is Reason.ARCHIVE_INVALID
        assert not bent.opened
    huge = tuple(replace(file, size=2**49) if file == some else file for file in files)
    bent = backup.bent(files=huge)
    assert refusal(bent, target).reason is Reason.DISK_FULL and not bent.opened


def test_what_the_files_say_of_each_other_has_to_be_so(backup: Backup, target: Path) -> None:
    table, state = table_of(backup), json.loads(backup.contents["store-state.json"])
    name = table.removeprefix("db/")
    for bent in (
        backup.with_file(table, None),
        backup.with_file("db/999999.sst", backup.contents[table]),
        backup.with_file(table, backup.contents[table] + b"x"),
        backup.with_file("db/CURRENT", b"MANIFEST-999999\n"),
        backup.with_file("db/CURRENT", b"../../../etc/passwd\n"),
        backup.with_file("db/CURRENT", b""),
        backup.with_file("db/CURRENT", backup.contents["db/CURRENT"].strip()),
        backup.with_file(manifest_of(backup), backup.contents[manifest_of(backup)] + b"x"),
        backup.with_file("store-state.json", b""),
        backup.with_file("store-state.json", b"[" * 100_000),
        backup.with_file("store-state.json", b"{}"),
        with_state(backup, complete=False),
        with_state(backup, sequence=0),
        with_state(backup, sequence="1"),
        with_state(backup, tables={}),
        with_state(backup, tables=state["tables"] | {"999999.sst": 1}),
        with_state(backup, tables={name: state["tables"][name] + 1}),
        with_state(backup, logs={"000001.log": 0}),
        with_state(backup, manifest="CURRENT"),
        with_state(backup, manifest="MANIFEST-999999"),
        with_state(backup, manifest_bytes=0),
    ):
        failure = refusal(bent, target)
        assert failure.reason is Reason.ARCHIVE_INVALID and backup.manifest.id in failure.metadata["place"]
    assert refusal(with_state(backup, format=99), target).reason is Reason.FORMAT_TOO_NEW


@pytest.mark.parametrize("content", [b"MANIFEST-999999\n", b"../../../etc/passwd\n", b"", b"MANIFEST-000005"])
def test_what_names_the_engines_manifest_is_read_before_the_engine_does(
    backup: Backup, target: Path, content: bytes
) -> None:
    failure = refusal(backup.with_file("db/CURRENT", content), target)
    assert failure.metadata["place"].endswith("db/CURRENT")


def test_an_engine_that_cannot_open_it_is_the_backups_fault(backup: Backup, target: Path) -> None:
    table, engine = table_of(backup), manifest_of(backup)
    for path, content in (
        (engine, bytes(len(backup.contents[engine]))),
        (engine, os.urandom(len(backup.contents[engine]))),
        (table, bytes(len(backup.contents[table]))),
    ):
        failure = refusal(backup.with_file(path, content), target)
        assert failure.reason is Reason.ARCHIVE_INVALID, path
        assert str(target.parent) not in failure.message, "the hidden directory is nobody's business"


@pytest.mark.parametrize("lie", ["namespaces_live", "namespaces_banned", "last_version"])
def test_counts_that_are_not_those_of_the_store_are_refused(backup: Backup, target: Path, lie: str) -> None:
    for change in (1, -1) if lie != "namespaces_banned" else (1,):
        bent = backup.bent(**{lie: getattr(backup.manifest, lie) + change})
        if lie == "last_version" and change < 0:
            continue  # There may be more in it than it promises.
        assert refusal(bent, target).reason is Reason.ARCHIVE_INVALID


def test_a_list_of_bans_that_cannot_be_read_is_not_passed_over(backup: Backup, target: Path) -> None:
    for content in (b"x", b"{}\n", b"\n", b'{"namespace_id": "7"}\n', b"\xff\n"):
        failure = refusal(backup.with_file("bans.jsonl", content), target)
        assert failure.reason is Reason.ARCHIVE_INVALID and "bans.jsonl" in failure.metadata["place"]


def test_a_block_that_was_damaged_before_the_backup_is_found_by_the_proof(backup: Backup, tmp_path: Path) -> None:
    table = table_of(backup)
    content = bytearray(backup.contents[table])
    content[len(content) // 3] ^= 0x10
    with pytest.raises(PrefixdbError) as caught:
        verify_open(backup.with_file(table, bytes(content)), tmp_path)
    assert caught.value.reason is Reason.ARCHIVE_INVALID and "its rows" in caught.value.metadata["place"]
    assert not list(tmp_path.iterdir())
    assert verify_open(backup, tmp_path).rows > 50 and not list(tmp_path.iterdir())


# --- the target -----------------------------------------------------------------------------------------------------


def test_a_target_that_is_there_is_not_touched(backup: Backup, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("mine")
    link, file = tmp_path / "link", tmp_path / "file"
    (tmp_path / "empty").mkdir()
    link.symlink_to(tmp_path / "empty")
    file.write_text("mine")
    for path, reason in (
        (full, Reason.DIRECTORY_NOT_EMPTY),
        (link, Reason.BAD_FIELD),
        (file, Reason.BAD_FIELD),
        (tmp_path / "no" / "where", Reason.BAD_FIELD),
        (Path("/proc"), Reason.DIRECTORY_NOT_EMPTY),
    ):
        assert refusal(backup, path).reason is reason
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full", "link"]
    assert not backup.opened[:0] and (full / "file").read_text() == "mine"


def test_a_target_that_is_filled_meanwhile_is_not_touched(backup: Backup, tmp_path: Path) -> None:
    target = tmp_path / "data"

    def fill(_done: int, _total: int) -> None:
        target.mkdir(exist_ok=True)
        (target / "file").write_text("mine")

    with pytest.raises(PrefixdbError) as caught:
        restore(backup, target, on_progress=fill)
    assert caught.value.reason is Reason.DIRECTORY_NOT_EMPTY
    assert [path.name for path in tmp_path.iterdir()] == ["data"] and (target / "file").read_text() == "mine"


def test_progress_is_told_to_the_end_and_who_stops_there_leaves_nothing(backup: Backup, target: Path) -> None:
    told: list[tuple[int, int]] = []

    class Stop(Exception):
        pass

    def note(done: int, total: int) -> None:
        told.append((done, total))
        if done == total:
            raise Stop

    with pytest.raises(Stop):
        restore(backup, target, on_progress=note)
    assert told[-1] == (backup.manifest.size, backup.manifest.size) and told == sorted(told)


def test_only_its_owner_can_read_what_was_restored(backup: Backup, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        restore(backup, tmp_path / "data")
    finally:
        os.umask(before)
    assert (tmp_path / "data").stat().st_mode & 0o777 == (tmp_path / "data/db").stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["db", "store-id", "store-state.json"]


# --- full disks and killed processes --------------------------------------------------------------------------------


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size``: the disk is full for whoever tries."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_gets_full_is_told_and_nothing_is_left(backup: Backup, target: Path) -> None:
    with largest_file(100_000):
        assert refusal(backup, target).reason is Reason.DISK_FULL


RESTORER = """
import pickle, sys
from pathlib import Path
from prefixdb.backup.restore import restore

class Source:
    is_local = True
    def __init__(self, contents, manifest): self.contents, self.manifest = contents, manifest
    def open(self, path):
        import io
        return io.BytesIO(self.contents[path])

def told(done, total):
    print(done, flush=True)
    if done >= float(sys.argv[3]) * total: sys.stdin.read()

restore(Source(*pickle.loads(Path(sys.argv[1]).read_bytes())), Path(sys.argv[2]), on_progress=told)
"""


def test_a_restore_that_is_killed_leaves_the_target_and_the_next_one_clears_up(backup: Backup, tmp_path: Path) -> None:
    import pickle

    (tmp_path / "backup").write_bytes(pickle.dumps((backup.contents, backup.manifest)))
    folder = tmp_path / "there"
    folder.mkdir()
    target, other = folder / "data", folder / ".data2.restoring-00000000"
    other.mkdir()
    for share in (0.0, 0.5, 1.0):
        command = [sys.executable, "-c", RESTORER, str(tmp_path / "backup"), str(target), str(share)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None and process.stdin is not None
            wanted = share * backup.manifest.size
            while float(process.stdout.readline()) < wanted:
                pass
            hidden = [path for path in folder.iterdir() if path != other]
            assert len(hidden) == 1, "what killed ones have left is gone, what this one makes is hidden"
            with pytest.raises(PrefixdbError) as caught:
                restore(backup.flipped("db/CURRENT", 0), target)
            assert caught.value.reason is Reason.ARCHIVE_INVALID and hidden[0].exists(), "one that runs is left alone"
            process.send_signal(signal.SIGKILL)
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()
        assert not target.exists() and hidden[0].exists()
    restore(backup, target)
    wait_for(lambda: sorted(folder.iterdir()) == [other, target], "only the target and what is another's")
