"""A damaged, incomplete or rolled-back data directory is refused, by name, and left byte for byte as it was.

Method: a crash image of a live store is damaged in one place, opened, and compared with itself. The undamaged image
must open with every row, so that no refusal here is a refusal of everything.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prefixdb.errors import DataLossError, FailedPreconditionError, Reason
from prefixdb.keycodec import namespace_span
from prefixdb.store.directory import read_state
from tests.support.crash_image import (
    FLUSHED_ROWS,
    LOGGED_ROWS,
    NS,
    OpenStore,
    content,
    cut,
    flip,
    make_image,
    newest,
    row_key,
    write_rows,
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Path:
    return make_image(tmp_path_factory.mktemp("pristine"), kind)


@pytest.fixture
def image(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "image"))


def test_an_undamaged_crash_image_opens_with_every_row(image: Path, open_store: OpenStore) -> None:
    store = open_store(image)
    try:
        cursor = store.open_cursor(namespace_span(NS))
        assert cursor.count(10_000) == FLUSHED_ROWS + LOGGED_ROWS
        assert write_rows(store, 9_000, 1) > 0
    finally:
        store.close()


def test_a_torn_record_at_the_end_of_the_log_is_a_crash_and_not_damage(image: Path, open_store: OpenStore) -> None:
    log = newest(image, ".log")
    log.write_bytes(log.read_bytes() + b"\x01\x02\x03\x04\x40\x00\x01torn")
    store = open_store(image)
    try:
        assert store.get(row_key(FLUSHED_ROWS + LOGGED_ROWS - 1)) is not None
    finally:
        store.close()


DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "log: byte flipped in the middle": (".log", lambda path: flip(path, path.stat().st_size // 2)),
    "log: byte flipped in the first record": (".log", lambda path: flip(path, 20)),
    "log: byte flipped in the last record": (".log", lambda path: flip(path, -10)),
    "log: cut in half": (".log", lambda path: cut(path, path.stat().st_size // 2)),
    "log: last bytes cut off": (".log", lambda path: cut(path, -3)),
    "log: emptied": (".log", lambda path: cut(path, 0)),
    "log: removed": (".log", lambda path: path.unlink()),
    "manifest: cut in half": ("MANIFEST", lambda path: cut(path, path.stat().st_size // 2)),
    "manifest: last byte cut off": ("MANIFEST", lambda path: cut(path, -1)),
    "manifest: emptied": ("MANIFEST", lambda path: cut(path, 0)),
    "manifest: byte flipped": ("MANIFEST", lambda path: flip(path, path.stat().st_size // 2)),
    "manifest: removed": ("MANIFEST", lambda path: path.unlink()),
    "CURRENT: removed": ("CURRENT", lambda path: path.unlink()),
    "CURRENT: emptied": ("CURRENT", lambda path: cut(path, 0)),
    "CURRENT: names something else": ("CURRENT", lambda path: path.write_text("MANIFEST-000001\n") and None),
    "CURRENT: garbage": ("CURRENT", lambda path: path.write_bytes(b"\xff\x00/etc/passwd") and None),
    "table: removed": (".sst", lambda path: path.unlink()),
    "table: cut": (".sst", lambda path: cut(path, -1)),
    "table: grown": (".sst", lambda path: path.write_bytes(path.read_bytes() + b"x") and None),
}


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_damage_is_refused_with_the_files_name_and_nothing_is_changed(
    image: Path, name: str, open_store: OpenStore
) -> None:
    kind, damage = DAMAGES[name]
    path = newest(image, kind)
    damage(path)
    before = content(image)
    with pytest.raises(DataLossError) as refused:
        open_store(image)
    assert refused.value.reason is Reason.CORRUPTION
    assert (path.name if "table" in name or "log" in name else kind) in refused.value.message
    assert "Nothing was changed" in refused.value.message
    assert content(image) == before


def test_lost_commits_are_told_with_both_numbers(image: Path, open_store: OpenStore) -> None:
    state = json.loads((image / "store-state.json").read_text())
    newest(image, ".log").unlink()
    with pytest.raises(DataLossError) as refused:
        open_store(image)
    assert str(state["sequence"]) in refused.value.message
    assert str(state["sequence"] - LOGGED_ROWS) in refused.value.message


def test_an_older_copy_of_the_engines_directory_is_refused(
    pristine: Path, tmp_path: Path, open_store: OpenStore
) -> None:
    data_dir = tmp_path / "data"
    store = open_store(data_dir)
    write_rows(store, 0, 10)
    store.close()
    shutil.copytree(data_dir / "db", tmp_path / "old")
    store = open_store(data_dir)
    write_rows(store, 10, 10)
    store.close()
    shutil.rmtree(data_dir / "db")
    shutil.copytree(tmp_path / "old", data_dir / "db")
    before = content(data_dir)
    with pytest.raises(DataLossError):
        open_store(data_dir)
    assert content(data_dir) == before


@pytest.mark.parametrize("left", ["nothing", "an empty directory"])
def test_a_vanished_engine_directory_is_refused_and_not_created_anew(
    image: Path, left: str, open_store: OpenStore
) -> None:
    shutil.rmtree(image / "db")
    if left == "an empty directory":
        (image / "db").mkdir()
    before = content(image)
    with pytest.raises(DataLossError):
        open_store(image)
    assert content(image) == before


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "1"}', '{"format": 1, "sequence": -1}', "null"])
def test_a_damaged_side_file_is_refused(image: Path, text: str, open_store: OpenStore) -> None:
    (image / "store-state.json").write_text(text)
    before = content(image)
    with pytest.raises(DataLossError, match=r"store-state\.json"):
        open_store(image)
    with pytest.raises(DataLossError, match=r"store-state\.json"):
        read_state(image)
    assert content(image) == before


def test_a_removed_side_file_is_refused(image: Path, open_store: OpenStore) -> None:
    (image / "store-state.json").unlink()
    before = content(image)
    with pytest.raises(DataLossError, match=r"store-state\.json"):
        open_store(image)
    assert content(image) == before


def test_a_newer_format_is_refused_with_both_numbers(image: Path, open_store: OpenStore) -> None:
    path = image / "store-state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"format": 7, "something_new": True}))
    before = content(image)
    with pytest.raises(FailedPreconditionError, match=r"format 7.* up to 1") as refused:
        open_store(image)
    assert refused.value.reason is Reason.FORMAT_TOO_NEW
    assert content(image) == before


def unfinished(data_dir: Path) -> None:
    path = data_dir / "store-state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"complete": False, "sequence": 0}))


@pytest.mark.parametrize("missing", ["CURRENT", "MANIFEST", ".log", "db"])
def test_a_creation_that_was_cut_off_is_begun_again(tmp_path: Path, missing: str, open_store: OpenStore) -> None:
    store = open_store(tmp_path / "live")
    shutil.copytree(tmp_path / "live", tmp_path / "data")
    store.close()
    unfinished(tmp_path / "data")
    if missing == "db":
        shutil.rmtree(tmp_path / "data" / "db")
    else:
        newest(tmp_path / "data", missing).unlink()
    store = open_store(tmp_path / "data")
    write_rows(store, 0, 1)
    store.close()
    open_store(tmp_path / "data").close()


def test_a_side_file_that_denies_existing_rows_is_refused(image: Path, open_store: OpenStore) -> None:
    unfinished(image)
    before = content(image)
    with pytest.raises(DataLossError, match="holds rows"):
        open_store(image)
    assert content(image) == before


@pytest.mark.parametrize("torn", [b"", b"{", b"\xff"])
def test_the_bindings_own_config_file_may_be_torn(image: Path, torn: bytes, open_store: OpenStore) -> None:
    (image / "db" / "rocksdict-config.json").write_bytes(torn)
    store = open_store(image)
    assert store.get(row_key(0)) is not None
    store.close()


def test_a_lost_log_before_the_newest_one_is_refused(tmp_path: Path, open_store: OpenStore, kind: str) -> None:
    """The newest log alone reaches the recorded sequence number; only the list of logs shows the hole."""
    image = make_image(tmp_path, kind)
    log = newest(image, ".log")
    later = log.with_name(f"{int(log.stem) + 2:06d}.log")
    state_path = image / "store-state.json"
    state = json.loads(state_path.read_text())
    state["logs"][later.name] = 10
    state_path.write_text(json.dumps(state))
    with pytest.raises(DataLossError, match=later.name):
        open_store(image)
