"""The MANIFEST read and written without the engine: what it says is what the engine says, and damage ends it there.

Method: both engines write MANIFESTs, the binding says which files are live, and the two are compared; every byte of one
is flipped and every length cut; what is written here is opened by the engine.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import rocksdict

from prefixdb.store.version_log import (
    Versions,
    _crc32c,
    _framed,
    _masked,
    first_sequence,
    raise_sequence,
    read_versions,
    write_versions,
)
from tests.support.crash_image import FLUSHED_ROWS, LOGGED_ROWS, make_image, newest, open_store, write_rows


@pytest.fixture(scope="module")
def engine_dir(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Path:
    return make_image(tmp_path_factory.mktemp("image"), kind) / "db"


@pytest.fixture(params=["rocksdict", "native"], scope="session")
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def manifest_of(directory: Path) -> Path:
    return directory / (directory / "CURRENT").read_text().strip()


def opened(directory: Path) -> rocksdict.Rdict:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(False)
    return rocksdict.Rdict(str(directory), options, {"default": options})


def test_it_says_what_the_engine_says(tmp_path: Path, kind: str) -> None:
    store = open_store(tmp_path / "data", kind)
    for round_number in range(6):
        write_rows(store, 1_000 * (round_number % 2), 50)
        store.flush()
    store.compact()
    write_rows(store, 5_000, 50)
    store.flush()
    with store._slot.use() as engine:
        live = {file.name: (file.size, file.level, file.first_key, file.last_key) for file in engine.live_files()}
        versions = read_versions(manifest_of(tmp_path / "data" / "db"))
        assert {
            file.name: (file.size, file.level, file.first_key, file.last_key) for file in versions.files.values()
        } == live
        assert versions.sound
        assert versions.last_sequence <= engine.last_sequence()
        assert versions.deleted
        assert max(file.last_sequence for file in versions.files.values()) == engine.last_sequence()
    store.close()


def test_a_flipped_byte_anywhere_ends_it_before_and_never_raises(engine_dir: Path, tmp_path: Path) -> None:
    whole = manifest_of(engine_dir).read_bytes()
    expected = read_versions(manifest_of(engine_dir))
    path = tmp_path / "MANIFEST-000001"
    for offset in range(len(whole)):
        damaged = bytearray(whole)
        damaged[offset] ^= 0xFF
        path.write_bytes(damaged)
        versions = read_versions(path)
        assert versions.problem
        assert versions.good_bytes <= offset
        assert versions.files.items() <= expected.files.items()


def test_cut_anywhere_it_holds_what_came_before(engine_dir: Path, tmp_path: Path) -> None:
    whole = manifest_of(engine_dir).read_bytes()
    path = tmp_path / "MANIFEST-000001"
    clean = 0
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        versions = read_versions(path)
        assert versions.good_bytes <= size
        clean += versions.sound
        assert not versions.sound or versions.good_bytes == size
    assert clean < 10, "only between records"


@pytest.mark.parametrize("content", [b"", bytes(100), os.urandom(70_000), b"\xff" * 40_000])
def test_what_is_no_manifest_is_no_versions(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "MANIFEST-000001"
    path.write_bytes(content)
    versions = read_versions(path)
    assert not versions.sound
    assert versions.files == {}


@pytest.mark.parametrize(
    "record",
    [
        b"\x05",
        b"\x67\x00\x09",
        b"\x67\x00\x09\x10\x02ab\x02cd\x00\x00\x01",
        b"\xff" * 11,
        b"\xc8\x01\x01",
        b"\xc9\x01\x03abc",
        b"\x0b\x01",
        b"\x01\x09rocksdict",
    ],
)
def test_a_whole_record_that_makes_no_sense_is_damage(tmp_path: Path, record: bytes) -> None:
    path = tmp_path / "MANIFEST-000001"
    path.write_bytes(_framed(record, 0))
    assert read_versions(path).problem


def test_a_long_record_is_framed_as_the_engine_reads_it(tmp_path: Path) -> None:
    """Thousands of files fill several blocks; each entry must come back as it was."""
    entry = b"\x67\x06%s\x10\x0a" + b"k" * 10 + b"\x0a" + b"l" * 10 + b"\x01\x02\x01"
    record = b"\x01\x1aleveldb.BytewiseComparator"
    numbers = range(128, 4_000)
    for number in numbers:
        record += entry % bytes([number & 0x7F | 0x80, number >> 7])
    path = tmp_path / "MANIFEST-000001"
    path.write_bytes(_framed(record, 0))
    assert path.stat().st_size > 3 * 32_768
    versions = read_versions(path)
    assert versions.sound
    assert sorted(versions.files) == list(numbers)


def test_checksums_are_those_of_the_standard() -> None:
    """RFC 3720, B.4."""
    assert _crc32c(bytes(32)) == 0x8A9136AA
    assert _crc32c(b"\xff" * 32) == 0x62A8AB43
    assert _crc32c(bytes(range(32))) == 0x46DD794E
    assert _masked(0) == 0xA282EAD8


def test_the_engine_opens_what_is_written_without_the_files_that_are_left_out(engine_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(engine_dir, tmp_path / "db"))
    versions = read_versions(manifest_of(copy))
    for path in [*copy.glob("MANIFEST-*"), copy / "CURRENT"]:
        path.unlink()
    gone = min(versions.files)
    (copy / versions.files.pop(gone).name).unlink()
    name = write_versions(copy, 500, versions)
    assert name == "MANIFEST-000500"
    database = opened(copy)
    assert database.latest_sequence_number() == FLUSHED_ROWS + LOGGED_ROWS + 1
    assert len(list(database.keys())) == FLUSHED_ROWS // 2 + LOGGED_ROWS
    database.close()


@pytest.mark.parametrize("sequence", [10**6, 2**40])
def test_commits_go_on_behind_a_raised_sequence(engine_dir: Path, tmp_path: Path, sequence: int) -> None:
    copy = Path(shutil.copytree(engine_dir, tmp_path / "db"))
    opened(copy).close()
    rows = len(list((first := opened(copy)).keys()))
    first.close()
    raise_sequence(manifest_of(copy), sequence)
    raise_sequence(manifest_of(copy), 5)
    for round_number in range(2):
        database = opened(copy)
        assert database.latest_sequence_number() == sequence + round_number
        assert len(list(database.keys())) == rows + round_number
        database[b"new %d" % round_number] = b"value"
        database.close()


def test_a_damaged_manifest_is_not_appended_to(engine_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(engine_dir, tmp_path / "db"))
    path = manifest_of(copy)
    path.write_bytes(path.read_bytes()[:-1])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"cut short|ends inside"):
        raise_sequence(path, 10**6)
    assert path.read_bytes() == before


def test_the_first_change_of_a_log_is_read(engine_dir: Path, tmp_path: Path) -> None:
    log = newest(engine_dir.parent, ".log")
    assert first_sequence(log) == FLUSHED_ROWS + 2
    damaged = tmp_path / "000001.log"
    for content in (b"", log.read_bytes()[:10], bytes(100)):
        damaged.write_bytes(content)
        assert first_sequence(damaged) == 0


def test_nothing_read_is_not_sound() -> None:
    assert not Versions().sound
