"""Goal: commands that root runs on a directory of the server's user do nothing for it that it could not do itself.

Method: directories as a hostile owner would leave them, with links, pipes and files of somebody else where the command
copies; names that change between two looks; and what the commands write is looked at for who may read it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from prefixdb.backup import beside
from prefixdb.backup.bans import _shadow
from prefixdb.backup.beside import copy_beside
from prefixdb.client.partial_file import PartialFile
from prefixdb.store import copying
from prefixdb.store.copying import copy_plain

SECRET = "not the server's\n"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file the server may not read."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A directory of the server's, as far as copying goes."""
    path = tmp_path / "data"
    (path / "keys").mkdir(parents=True)
    (path / "keys" / "a.pem").write_text("key")
    (path / "audit.jsonl").write_text("line\n")
    return path


def taken(new: Path) -> dict[str, str]:
    """Return what was taken over: path and content."""
    return {path.relative_to(new).as_posix(): path.read_text() for path in new.rglob("*") if path.is_file()}


def test_links_pipes_and_files_of_others_are_left_out_and_told(tmp_path: Path, damaged: Path, secret: Path) -> None:
    (damaged / "link").symlink_to(secret)
    (damaged / "keys" / "link.pem").symlink_to(secret)
    (damaged / "folder").symlink_to(tmp_path)
    os.mkfifo(damaged / "pipe")
    os.link(secret, damaged / "hard")
    told = 4
    if os.geteuid() == 0:  # Only root can give files away, and only for root does it matter.
        os.chown(secret, 12345, 12345)
        told += 1
    else:
        (damaged / "hard").unlink()
    new = tmp_path / "new"
    new.mkdir()
    left_out = copy_beside(damaged, new, {"db"})
    assert len(left_out) == told
    assert taken(new) == {"audit.jsonl": "line\n", "keys/a.pem": "key"}


def test_a_name_that_becomes_a_link_after_a_look_is_not_followed(
    tmp_path: Path, damaged: Path, secret: Path, monkeypatch: Any
) -> None:
    listed = beside._names

    def and_then(folder: int) -> list[str]:
        names = listed(folder)
        if "audit.jsonl" in names:
            (damaged / "audit.jsonl").unlink()
            (damaged / "audit.jsonl").symlink_to(secret)
            (damaged / "keys").rename(tmp_path / "gone")
            (damaged / "keys").symlink_to(tmp_path)
        return names

    monkeypatch.setattr(beside, "_names", and_then)
    new = tmp_path / "new"
    new.mkdir()
    assert len(copy_beside(damaged, new, ())) == 2
    assert taken(new) == {}


def test_what_is_written_is_for_its_owner_alone(tmp_path: Path, damaged: Path) -> None:
    (damaged / "audit.jsonl").chmod(0o4777)
    (damaged / "keys").chmod(0o777)
    new = tmp_path / "new"
    new.mkdir()
    before = os.umask(0)
    try:
        assert copy_beside(damaged, new, ()) == []
    finally:
        os.umask(before)
    for path in new.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST-000005", "000007.log"])
def test_a_directory_that_is_asked_for_its_bans_gives_no_other_file_away(
    tmp_path: Path, secret: Path, name: str, kind: str
) -> None:
    data, shadow = tmp_path / "data", tmp_path / "shadow"
    (data / "db").mkdir(parents=True)
    (data / "store-state.json").write_text("{}")
    shadow.mkdir()
    if kind == "link":
        (data / "db" / name).symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(data / "db" / name)
    else:
        (data / "db" / name).mkdir()
    with pytest.raises(OSError, match="link, or no plain file"):
        _shadow(data, shadow)
    assert SECRET not in taken(shadow).values()


@pytest.mark.parametrize("kind", ["second name", "pipe", "somebody else's"])
@pytest.mark.parametrize("private", [False, True])
def test_an_export_does_not_go_into_a_file_that_somebody_has_put_in_its_way(
    tmp_path: Path, secret: Path, kind: str, private: bool
) -> None:
    scratch = tmp_path / ".out.partial"
    if kind == "second name":
        os.link(secret, scratch)
    elif kind == "pipe":
        os.mkfifo(scratch)
    elif os.geteuid() != 0:
        pytest.skip("only root can give files away")
    else:
        scratch.write_text("")
        os.chown(scratch, 12345, 12345)
    with pytest.raises(PermissionError, match="not a file of yours alone") as refused:
        PartialFile(tmp_path / "out", private=private)
    assert refused.value.filename == str(tmp_path / "out")
    assert secret.read_text() == SECRET
    scratch.unlink()
    scratch.write_text("left by one that was killed")
    with PartialFile(tmp_path / "out", private=private) as partial:
        partial.file.write(b"rows")
    assert (tmp_path / "out").read_bytes() == b"rows"


def test_a_copy_does_not_go_over_what_is_there(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "source").write_text("new")
    (tmp_path / "target").symlink_to(secret)
    for _ in range(2):
        with pytest.raises(FileExistsError):
            copy_plain(tmp_path / "source", tmp_path / "target")
    assert secret.read_text() == SECRET
    copy_plain(tmp_path / "source", tmp_path / "copy")
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600
    assert copying.open_entry(tmp_path / "target") is None
