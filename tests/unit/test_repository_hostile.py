"""Goal: whatever was done to a repository, nothing but the right bytes ever comes out of it, and the place is told.

Method: every file of a small repository is flipped, cut, lengthened, replaced by a link, a pipe or a directory.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.repository.manifest import Manifest
from prefixdb.repository.repository import Repository, StoredBackup
from prefixdb.repository.upkeep import check_files, check_names
from tests.support.repositories import CONTENT, digest, object_file, put_backup

ROWS = CONTENT["db/000009.sst"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one backup."""
    put_backup(Repository.open_or_create(tmp_path / "repo"))
    return tmp_path / "repo"


def read_all(root: Path) -> dict[str, bytes]:
    """Return every file of the newest backup, read as a restore reads it."""
    repository = Repository.open(root)
    manifest = repository.find()
    content = {}
    for file in manifest.files:
        with StoredBackup(repository, manifest).open(file.path) as opened:
            content[file.path] = b"".join(iter(lambda opened=opened: opened.read(1000), b""))
    return content


def refused(root: Path) -> PrefixdbError:
    """Return the error with which the newest backup is refused."""
    with pytest.raises(PrefixdbError) as caught:
        read_all(root)
    return caught.value


def test_a_change_of_any_byte_anywhere_is_found(root: Path) -> None:
    draw = random.Random(7)
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.stat().st_size]
    assert len(files) == 7
    for path in files:
        data = path.read_bytes()
        for position in {0, len(data) - 1, *(draw.randrange(len(data)) for _ in range(60))}:
            changed = bytearray(data)
            changed[position] ^= 1 << draw.randrange(8)
            path.write_bytes(changed)
            failure = refused(root)
            assert failure.reason in {Reason.ARCHIVE_INVALID, Reason.FORMAT_TOO_NEW}, (path, position)
            assert str(path) in failure.metadata["place"]
        path.write_bytes(data)
    assert read_all(root) == CONTENT


def test_a_file_that_is_cut_or_longer_is_found(root: Path) -> None:
    path = object_file(root, ROWS)
    for data in (b"", ROWS[:-1], ROWS + b"\0", ROWS * 2):
        path.write_bytes(data)
        assert str(path) in refused(root).metadata["place"]
    path.unlink()
    assert "missing" in refused(root).message
    path.write_bytes(ROWS)
    assert read_all(root) == CONTENT


def link(path: Path, aside: Path) -> None:
    path.rename(aside)
    path.symlink_to(aside)


def dangling(path: Path, aside: Path) -> None:
    path.rename(aside)
    path.symlink_to(path.parent / "nowhere")


def pipe(path: Path, aside: Path) -> None:
    path.rename(aside)
    os.mkfifo(path)


def directory(path: Path, aside: Path) -> None:
    path.rename(aside)
    path.mkdir()


SWAPS = (link, dangling, pipe, directory)


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("name", ["prefixdb-repository.json", "manifest", "object"])
def test_what_is_no_plain_file_is_refused(
    root: Path, tmp_path: Path, swap: Callable[[Path, Path], None], name: str
) -> None:
    path = root / name
    if name == "manifest":
        [path] = (root / "backups").iterdir()
    elif name == "object":
        path = object_file(root, ROWS)
    swap(path, tmp_path / "aside")
    failure = refused(root)
    assert failure.reason is Reason.ARCHIVE_INVALID or (swap is directory and name == "manifest"), failure


@pytest.mark.parametrize("name", ["objects", "backups", "objects/xx"])
@pytest.mark.parametrize("swap", [link, pipe])
def test_what_is_no_directory_is_refused(
    root: Path, tmp_path: Path, swap: Callable[[Path, Path], None], name: str
) -> None:
    path = root / name.replace("xx", digest(ROWS)[:2])
    swap(path, tmp_path / "aside")
    failure = refused(root)
    assert failure.reason is Reason.ARCHIVE_INVALID
    assert str(path) in failure.metadata["place"]
    with pytest.raises(PrefixdbError):
        put_backup(Repository.open(root))


def test_a_linked_lock_or_a_linked_directory_for_new_files_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"mine")
    (root / "LOCK").unlink()
    (root / "LOCK").symlink_to(tmp_path / "precious")
    for exclusive in (False, True):
        with pytest.raises(PrefixdbError) as caught:
            Repository.open(root).lock(exclusive=exclusive)
        assert caught.value.metadata["place"].endswith("LOCK")
    shutil.rmtree(root / "tmp")
    (tmp_path / "elsewhere").mkdir()
    (root / "tmp").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PrefixdbError):
        put_backup(Repository.open(root), CONTENT | {"bans.jsonl": b"{}\n"})
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "precious").read_bytes() == b"mine"


def test_a_manifest_under_another_name_is_refused(root: Path) -> None:
    [path] = (root / "backups").iterdir()
    path.rename(path.with_name("20301231T000000Z-00000000.json"))
    assert "another backup" in refused(root).message
    path.with_name("20301231T000000Z-00000000.json").rename(path.with_name("copy.json"))
    failure = refused(root)
    assert "does not belong" in failure.message and failure.metadata["place"].endswith("copy.json")


def test_strangers_are_found_and_hurt_nobody(root: Path) -> None:
    repository = Repository.open(root)
    (root / "objects" / "notes.txt").write_bytes(b"x")
    (root / "objects" / "ab").mkdir(exist_ok=True)
    (root / "objects" / "ab" / ("cd" * 32)).write_bytes(b"x")
    (root / "README").write_bytes(b"x")
    assert repository.strangers() == ["README", f"objects/ab/{'cd' * 32}", "objects/notes.txt"]
    assert [finding.place for finding in check_names(repository)] == [
        str(root / name) for name in repository.strangers()
    ]
    assert read_all(root) == CONTENT


def test_a_check_names_every_damaged_file_and_whom_it_costs(root: Path) -> None:
    repository = Repository.open(root)
    both: list[Manifest] = [repository.find(), put_backup(repository, CONTENT | {"bans.jsonl": b""}, 1_700_000_001_000)]
    object_file(root, ROWS).write_bytes(ROWS[:-1] + b"x")
    object_file(root, CONTENT["db/CURRENT"]).unlink()
    seen: list[tuple[int, int]] = []
    checked = check_files(repository, both, lambda done, total: seen.append((done, total)))
    assert {Path(finding.place) for finding in checked.findings} == {
        object_file(root, ROWS),
        object_file(root, CONTENT["db/CURRENT"]),
    }
    assert all(finding.backups == (both[0].id, both[1].id) for finding in checked.findings)
    assert seen[0] == (0, sum(map(len, CONTENT.values())))


def test_files_are_for_their_owner_alone(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_an_object_cannot_be_read_further_than_it_should_go(root: Path) -> None:
    """A giant file in place of a small one costs no memory."""
    path = object_file(root, CONTENT["db/CURRENT"])
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    repository = Repository.open(root)
    with pytest.raises(PrefixdbError), repository.read(repository.find().file("db/CURRENT")) as opened:
        opened.read()
    with (root / "prefixdb-repository.json").open("r+b") as file:
        file.truncate(1 << 40)
    assert refused(root).reason is Reason.ARCHIVE_INVALID
