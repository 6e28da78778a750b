"""Foreign RocksDB directories: every row or an error, nothing touched, nothing unpickled, no harm done by hostile ones.

Method: rocksdict itself makes the directories, in both of its modes, and they are read back through the child process;
damage is real (bytes flipped, files cut, removed, exchanged). The directory is compared with itself after each reading.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import rocksdict

from prefixdb.backup.plain import Unreadable, open_rows, write_directory
from prefixdb.errors import FailedPreconditionError, InvalidArgumentError, Reason
from prefixdb.limits import MIB
from prefixdb.store import plain
from tests.support.crash_image import content, cut, flip, make_image

RAW = [(b"a", b"1"), (b"b\x00\xff", b""), (b"c" * 4096, os.urandom(100_000)), (b"d", b"\x06" + pickle.dumps(1))]


class Trap:
    """An object whose pickle leaves a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def make(path: Path, rows: list[tuple[Any, Any]], *, raw: bool, flush: bool = False) -> Path:
    options = rocksdict.Options(raw_mode=raw)
    database = rocksdict.Rdict(str(path), options)
    for key, value in rows:
        database[key] = value
    if flush:
        database.flush()
    database.close()
    return path


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def newest(directory: Path, pattern: str) -> Path:
    return max(directory.glob(pattern), key=lambda path: path.name)


def read(path: Path) -> tuple[list[tuple[bytes, bytes]], list[tuple[int, str]]]:
    """Return rows and refusals, having made sure that reading changed nothing."""
    before, names = content(path), names_in(path)
    refused: list[tuple[int, str]] = []
    rows = list(open_rows(path, on_unreadable=lambda number, why: refused.append((number, why))))
    assert content(path) == before
    assert names_in(path) == names
    return rows, refused


def refusal(path: Path) -> str:
    before = content(path) if path.is_dir() else {}
    with pytest.raises(InvalidArgumentError) as refused:
        list(open_rows(path))
    assert refused.value.reason is Reason.ARCHIVE_INVALID
    assert refused.value.metadata["place"]
    if path.is_dir():
        assert content(path) == before
    return refused.value.message


def test_rows_that_no_namespace_can_hold_are_told_by_their_number(tmp_path: Path) -> None:
    rows = [(b"", b"1"), (b"a", b"2"), (b"b" * 4097, b"3"), (b"c", b"4")]
    refused = "its key is empty or longer than 4,096 bytes"
    for raw in (True, False):
        path = make(tmp_path / str(raw), rows, raw=raw)
        assert read(path) == ([(b"a", b"2"), (b"c", b"4")], [(1, refused), (3, refused)])
        with pytest.raises(InvalidArgumentError) as stopped:
            list(open_rows(path))
        assert stopped.value.metadata["place"] == "row 1"


def test_a_directory_of_something_else_is_told_as_that_whatever_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert "has no file CURRENT" in refusal(tmp_path)


def test_a_raw_directory_gives_every_row_in_the_order_of_its_keys(tmp_path: Path) -> None:
    assert read(make(tmp_path / "raw", list(reversed(RAW)), raw=True)) == (RAW, [])


def test_rows_in_the_log_alone_are_read_without_touching_it(tmp_path: Path) -> None:
    live = tmp_path / "live"
    database = rocksdict.Rdict(str(live), rocksdict.Options(raw_mode=True))
    database[b"k"] = b"v"
    shutil.copytree(live, tmp_path / "killed")
    database.close()
    assert read(tmp_path / "killed") == ([(b"k", b"v")], [])


def test_typed_keys_and_values_become_the_bytes_of_their_text(tmp_path: Path) -> None:
    rows = [(b"b", b"\xff"), (b"i", -300), (b"l", 2**70), (b"f", 1.5), (b"t", True), ("é", "ü"), (7, b"seven")]
    rows += [(-(2**65), ""), (0, False)]
    found, refused = read(make(tmp_path / "typed", rows, raw=False))
    assert refused == []
    assert dict(found) == {
        b"b": b"\xff",
        b"i": b"-300",
        b"l": str(2**70).encode(),
        b"f": b"1.5",
        b"t": b"True",
        "é".encode(): "ü".encode(),
        b"7": b"seven",
        str(-(2**65)).encode(): b"",
        b"0": b"False",
    }


def test_keys_that_would_fall_together_are_refused_and_the_first_is_kept(tmp_path: Path) -> None:
    rows = [(b"5", b"bytes"), ("5", b"text"), (5, b"integer"), ("6", b"text"), (6, b"integer")]
    found, refused = read(make(tmp_path / "typed", rows, raw=False))
    assert found == [(b"5", b"bytes"), (b"6", b"text")]
    assert [number for number, why in refused if "same key" in why] == [2, 4, 5]


@pytest.mark.parametrize("key", [1.5, True])
def test_keys_that_have_no_bytes_are_refused(tmp_path: Path, key: Any) -> None:
    found, refused = read(make(tmp_path / "typed", [(b"k", b"v"), (key, b"w")], raw=False))
    assert found == [(b"k", b"v")]
    assert refused == [(2, f"its key is a {type(key).__name__}; keys are bytes, text or integers here")]


def test_a_pickle_is_never_loaded_whatever_mode_and_note_say(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    typed = make(tmp_path / "typed", [(b"k", Trap(sprung)), (b"l", None), (b"m", b"fine")], raw=False, flush=True)
    found, refused = read(typed)
    assert found == [(b"m", b"fine")]
    assert [number for number, why in refused if "never loaded" in why] == [1, 2]
    assert "row 1:" in refusal(typed)
    plain_bytes = [(b"\x01k", b"\x06" + pickle.dumps(Trap(sprung)))]
    raw = make(tmp_path / "raw", plain_bytes, raw=True)
    assert read(raw) == (plain_bytes, [])
    (raw / "rocksdict-config.json").write_text('{"raw_mode":false,"prefix_extractors":{}}')
    assert "never loaded" in refusal(raw)
    (typed / "rocksdict-config.json").unlink()
    assert "never loaded" in refusal(typed)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists(), "the trap does not work"


def test_tags_over_a_plain_comparator_are_decoded_when_the_note_says_so(tmp_path: Path) -> None:
    rows = [(b"\x01k", b"\x02text"), (b"\x02l", b"\x03\xff"), (b"\x03\x05", b"\x04" + struct.pack(">d", 0.25))]
    rows += [(b"\x02m", b"\x05\x01"), (b"\x02n", b"\x04short"), (b"\x02\xff", b"\x01"), (b"\x02o", b""), (b"", b"\x01")]
    raw = make(tmp_path / "raw", rows, raw=True)
    assert len(read(raw)[0]) == len(rows) - 1, "all but the empty key"
    (raw / "rocksdict-config.json").write_text('{"raw_mode":false}')
    found, refused = read(raw)
    assert found == [(b"k", b"text"), (b"l", b"-1"), (b"m", b"True"), (b"5", b"0.25")]
    assert len(refused) == 4


@pytest.mark.parametrize("note", [b"{", b"[]", b"\xff", b"[" * 100_000, b'{"raw_mode":0}', b" " * (MIB + 1), b""])
def test_a_note_that_says_nothing_is_no_note(tmp_path: Path, note: bytes) -> None:
    raw = make(tmp_path / "raw", RAW, raw=True)
    (raw / "rocksdict-config.json").write_bytes(note)
    assert read(raw) == (RAW, [])


def test_wide_columns_are_refused_and_not_read_as_empty(tmp_path: Path) -> None:
    database = rocksdict.Rdict(str(tmp_path / "wide"), rocksdict.Options(raw_mode=True))
    database.put_entity(b"k", names=[b"x"], values=[b"1"])
    database.put_entity(b"l", names=[b"", b"x"], values=[b"0", b"1"])
    database.close()
    found, refused = read(tmp_path / "wide")
    assert found == []
    assert len(refused) == 2


def test_other_column_families_are_named(tmp_path: Path) -> None:
    database = rocksdict.Rdict(str(tmp_path / "many"), rocksdict.Options(raw_mode=True))
    database.create_column_family("other\n", rocksdict.Options(raw_mode=True)).close()
    database.close()
    assert r"'other\n'" in refusal(tmp_path / "many")


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "table: flipped": lambda path: flip(newest(path, "*.sst"), newest(path, "*.sst").stat().st_size // 2),
    "table: cut": lambda path: cut(newest(path, "*.sst"), -100),
    "table: removed": lambda path: newest(path, "*.sst").unlink(),
    "table: something else": lambda path: newest(path, "*.sst").write_bytes(os.urandom(5000)),
    "log: flipped": lambda path: flip(newest(path, "*.log"), 40),
    "log: random": lambda path: newest(path, "*.log").write_bytes(os.urandom(5000)),
    "manifest: flipped": lambda path: flip(newest(path, "MANIFEST-*"), 30),
    "manifest: removed": lambda path: newest(path, "MANIFEST-*").unlink(),
    "manifest: emptied": lambda path: cut(newest(path, "MANIFEST-*"), 0),
    "CURRENT: removed": lambda path: (path / "CURRENT").unlink(),
    "CURRENT: outside": lambda path: (path / "CURRENT").write_text("../../../etc/passwd\n"),
    "CURRENT: random": lambda path: (path / "CURRENT").write_bytes(os.urandom(64)),
    "a link": lambda path: (path / "000099.sst").symlink_to("/etc/passwd"),
    "a pipe": lambda path: os.mkfifo(path / "000099.log"),
    "not a directory": lambda path: (shutil.rmtree(path), path.write_bytes(b"")),
    "nothing": lambda path: shutil.rmtree(path),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with rows in a table and in the log."""
    home = tmp_path_factory.mktemp("killed")
    database = rocksdict.Rdict(str(home / "live"), rocksdict.Options(raw_mode=True))
    for number in range(2_000):
        database[b"%06d" % number] = os.urandom(100)
    database.flush()
    for number in range(2_000, 2_500):
        database[b"%06d" % number] = os.urandom(100)
    shutil.copytree(home / "live", home / "image")
    database.close()
    assert len(read(home / "image")[0]) == 2_500
    return home / "image"


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_an_error_and_never_a_short_answer(killed: Path, tmp_path: Path, name: str) -> None:
    image = Path(shutil.copytree(killed, tmp_path / "image"))
    DAMAGES[name](image)
    refusal(image)


def test_rows_before_a_damaged_block_are_given_and_the_error_says_after_which(killed: Path, tmp_path: Path) -> None:
    image = Path(shutil.copytree(killed, tmp_path / "image"))
    DAMAGES["table: flipped"](image)
    given = []
    with pytest.raises(InvalidArgumentError) as damage:
        for key, _ in open_rows(image):
            given.append(key)
    assert given == [b"%06d" % number for number in range(len(given))]
    assert 0 < len(given) < 2_000
    assert f"after row {len(given)}:" in damage.value.message


def test_a_key_that_its_own_program_would_not_write_is_refused(tmp_path: Path) -> None:
    """The log of a typed directory is exchanged for one with an empty key and keys of unknown types."""
    typed = make(tmp_path / "typed", [(b"k", b"v"), (b"l", b"w")], raw=False)
    raw = tmp_path / "raw"
    database = rocksdict.Rdict(str(raw), rocksdict.Options(raw_mode=True))
    for key in (b"", b"\x09", b"\x04", b"\x05"):
        database[key] = b"\x01v"
    shutil.copytree(raw, tmp_path / "copy")
    database.close()
    shutil.copy(newest(tmp_path / "copy", "*.log"), newest(typed, "*.log"))
    refusal(typed)


@pytest.mark.parametrize("ending", ["os.abort()", "os._exit(0)", "os.write(1, b'\\xc1' * 100)"])
def test_a_child_that_is_ended_is_an_error_and_no_end_of_the_rows(
    killed: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    page = msgpack.packb([(b"k", b"v")])
    real = subprocess.Popen

    def started(command: list[str], **options: Any) -> Any:
        return real([*command[:1], "-c", f"import os; os.write(1, {page!r}); {ending}"], **options)

    monkeypatch.setattr(subprocess, "Popen", started)
    assert "made RocksDB stop" in refusal(killed)


def test_a_flipped_byte_anywhere_gives_all_rows_or_an_error(killed: Path, tmp_path: Path) -> None:
    whole = read(killed)[0]
    drawn = random.Random(1)
    outcomes = Counter[str]()
    for number in range(30):
        image = Path(shutil.copytree(killed, tmp_path / str(number)))
        victim = drawn.choice(sorted(path for path in image.iterdir() if path.stat().st_size and path.name != "LOG"))
        flip(victim, drawn.randrange(victim.stat().st_size))
        try:
            rows = list(open_rows(image))
        except InvalidArgumentError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert rows == whole, victim.name
    assert min(outcomes["read"], outcomes["refused"]) > 3


def test_a_module_in_the_directory_or_where_the_caller_stands_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = make(tmp_path / "raw", RAW, raw=True)
    for place in (raw, tmp_path):
        (place / "rocksdict.py").write_text("raise SystemExit\n")
        (place / "msgpack.py").write_text("raise SystemExit\n")
    for place in (raw, tmp_path):
        monkeypatch.chdir(place)
        assert read(raw) == (RAW, [])


def test_a_directory_another_process_has_open_is_refused(tmp_path: Path) -> None:
    raw = make(tmp_path / "raw", RAW, raw=True)
    program = (
        "import sys, rocksdict; d = rocksdict.Rdict(sys.argv[1], rocksdict.Options(raw_mode=True));"
        "print('open', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(raw)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    with pytest.raises(FailedPreconditionError) as refused:
        list(open_rows(raw))
    assert refused.value.reason is Reason.DIRECTORY_LOCKED
    holder.communicate("")
    assert read(raw) == (RAW, [])


def test_a_servers_own_rows_are_not_read_past_its_guards(tmp_path: Path) -> None:
    image = make_image(tmp_path)
    for place in (image, image / "db"):
        assert "belongs to a prefixdb server" in refusal(place)


def test_a_reader_that_stops_early_leaves_no_child_and_no_shadow(killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def started(*arguments: Any, **options: Any) -> Any:
        children.append(real(*arguments, **options))
        return children[-1]

    monkeypatch.setattr(subprocess, "Popen", started)
    rows = open_rows(killed)
    assert next(rows)[0] == b"000000"
    rows.close()  # type: ignore[attr-defined]
    assert [child.returncode is not None for child in children] == [True]


# --- writing -------------------------------------------------------------------------------------------------------


def numbered(count: int) -> Iterator[tuple[bytes, bytes]]:
    return ((b"%08d" % number, b"v%d" % number) for number in range(count))


@pytest.mark.parametrize("count", [0, 1, 5_000])
def test_a_written_directory_reads_back_whole(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "TABLE_BYTES", 10_000)
    target = tmp_path / "out"
    assert write_directory(target, numbered(count)) == count
    assert read(target) == (list(numbered(count)), [])
    assert names_in(tmp_path) == ["out"]
    database = rocksdict.Rdict(str(target))  # As its users open it: the note beside it says raw mode.
    assert len(list(database.keys())) == count
    database.close()


def test_an_empty_target_is_taken_and_another_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    write_directory(target, numbered(3))
    before = content(target)
    with pytest.raises(FailedPreconditionError) as refused:
        write_directory(target, numbered(4))
    assert refused.value.reason is Reason.DIRECTORY_NOT_EMPTY
    assert content(target) == before


@pytest.mark.parametrize("keys", [[b"b", b"a"], [b"a", b"a"]])
def test_rows_that_do_not_ascend_leave_nothing(tmp_path: Path, keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        write_directory(tmp_path / "out", [(key, b"") for key in keys])
    assert names_in(tmp_path) == []


def test_a_source_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[tuple[bytes, bytes]]:
        yield from numbered(10)
        raise RuntimeError("source")

    with pytest.raises(RuntimeError, match="source"):
        write_directory(tmp_path / "out", failing())
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("tagged", "value"),
    [(b"\x01", b""), (b"\x02\xc3\xa9", "é"), (b"\x03\xff\x7f", -129), (b"\x03", 0), (b"\x05\x00", False)],
)
def test_a_tag_gives_the_object_that_was_stored(tagged: bytes, value: object) -> None:
    assert plain.untag(tagged) == value


@pytest.mark.parametrize("tagged", [b"", b"\x00", b"\x07x", b"\x04", b"\x05", b"\x05\x00\x00", b"\x02\xff"])
def test_what_is_no_tagged_value_is_refused(tagged: bytes) -> None:
    with pytest.raises(ValueError, match=r"type is unknown|codec can't decode"):
        plain.untag(tagged)


def test_an_unreadable_row_says_its_number() -> None:
    assert Unreadable(3, "why") == Unreadable(3, "why")
