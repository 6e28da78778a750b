"""RocksDB directories that are not prefixdb's: reading any, writing plain ones.

What is read may come from anywhere, so nothing in it is trusted and nothing in it is touched: the engine opens a
shadow, a temporary directory of symbolic links, read-only. It may still end the process (a comparator that meets a key
it does not expect aborts), so ``prefixdb.backup.plain`` runs ``read_rows`` in a child.

rocksdict keeps Python objects in two ways. In raw mode keys and values are bytes, and its directories are plain
RocksDB. Otherwise every key and value begins with a byte for its type, the directory has a comparator named
``rocksdict``, and ``rocksdict-config.json`` beside the tables says ``"raw_mode": false``:

    1 bytes   2 text in UTF-8   3 integer, big-endian two's complement, as short as it can be
    4 float, 8 bytes big-endian   5 bool, one byte   6 anything else, as a pickle (values only)

Unpickling runs whatever a pickle says, so it never happens here: the loader of the binding is replaced before the first
value is read, and a row with a pickle is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import rocksdict

from prefixdb.disk import sync_directory, sync_tree
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import KEY_BYTES_MAX, MIB, VALUE_BYTES_CEILING
from prefixdb.store.directory import STATE_NAME

ROW_BYTES_MAX = 64 * MIB
"""Key and value of a row that is read; the longest row a server takes is far shorter."""

TABLE_BYTES = 64 * MIB
"""Where a written table file ends, before compression."""

_CACHE_BYTES = 8 * MIB
_COMPARATOR = "rocksdict"
_CONFIG_NAME = "rocksdict-config.json"
_CONFIG_BYTES_MAX = 1 * MIB
_SHOWN_MAX = 5


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is there and cannot be given as bytes. ``number`` counts rows from 1 in the order of the directory."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class _Pickled:
    """Stands for a value that only unpickling could read."""


Found = tuple[bytes, bytes] | Unreadable


def read_rows(path: Path) -> Iterator[Found]:
    """Yield (key, value) of every row in the directory's own order, or why a row cannot be given.

    Plain directories are in the order of their keys' bytes. Of a rocksdict directory that is not in raw mode, bytes and
    text come as they are, integers as decimal digits, floats and bools (values only) as Python writes them.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID, it is no directory that can be read, with the reason and the place.
        FailedPreconditionError: DIRECTORY_LOCKED, another process has it open.
    """
    check_directory(path)
    with shadow_of(path) as shadow:
        database, tagged = _open(path, shadow)
        try:
            _check_families(path, shadow)
            yield from _walk(path, database, tagged)
        finally:
            database.close()


def check_directory(path: Path) -> None:
    """Refuse what is no directory of RocksDB, what a process has open, and a server's own data.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID.
        FailedPreconditionError: DIRECTORY_LOCKED.
    """
    if not path.is_dir():
        refuse(path, "is not a directory")
    if (path / STATE_NAME).exists() or (path.absolute().parent / STATE_NAME).exists():
        refuse(path, "belongs to a prefixdb server; export its namespaces from the server instead")
    # First, and links count: what is said of a wrong directory is that it is wrong, not what else lies in it.
    if not os.path.lexists(path / "CURRENT") or (path / "CURRENT").is_dir():
        refuse(path, "has no file CURRENT, so it is no RocksDB directory")
    for entry in os.scandir(path):
        if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
            refuse(path / entry.name, "is no ordinary file")
    if is_open_elsewhere(path / "LOCK"):
        raise error(Reason.DIRECTORY_LOCKED, f"Another process has {path} open; stop it first, or copy a checkpoint.")


def is_open_elsewhere(lock: Path) -> bool:
    """Return whether a process holds RocksDB's lock; looks without taking it, and changes nothing."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        # struct flock: type, whence, start, length, process.
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer: bytes = fcntl.fcntl(handle, fcntl.F_GETLK, asked)
        return int(struct.unpack_from("h", answer)[0]) != fcntl.F_UNLCK
    finally:
        os.close(handle)


@contextlib.contextmanager
def shadow_of(path: Path) -> Iterator[Path]:
    """Make a temporary directory of symbolic links to the engine's files in ``path``, and remove it at the end."""
    shadow = Path(tempfile.mkdtemp(prefix="prefixdb-plain-"))
    try:
        for entry in os.scandir(path):
            if entry.is_file(follow_symlinks=False) and is_engine_file(entry.name):
                (shadow / entry.name).symlink_to(Path(entry.path).absolute())
        yield shadow
    finally:
        shutil.rmtree(shadow, ignore_errors=True)


def is_engine_file(name: str) -> bool:
    """Return whether a file of that name holds a part of the database."""
    return name.endswith((".sst", ".ldb", ".log", ".blob")) or name.startswith(("MANIFEST-", "CURRENT", "IDENTITY"))


def untag(tagged: bytes) -> object:
    """Return the Python object of a tagged key or value; for a pickle what stands for one.

    Raises:
        ValueError: it is not one; the text says what is wrong.
    """
    kind, body = tagged[:1], tagged[1:]
    if kind == b"\x01":
        return body
    if kind == b"\x02":
        return body.decode()  # UnicodeDecodeError is a ValueError.
    if kind == b"\x03":
        return int.from_bytes(body, signed=True)
    if kind == b"\x04" and len(body) == 8:
        return struct.unpack(">d", body)[0]
    if kind == b"\x05" and len(body) == 1:
        return body != b"\0"
    if kind == b"\x06":
        return _Pickled()
    raise ValueError("its type is unknown or its length is wrong")


# --- writing -------------------------------------------------------------------------------------------------------


def write_directory(path: Path, rows: Iterable[tuple[bytes, bytes]]) -> int:
    """Write a plain RocksDB directory that any RocksDB from 7 on opens; return the number of rows.

    It is written beside ``path``, synced and renamed: ``path`` is whole or not there.

    Args:
        path: absent or an empty directory; its parent exists.
        rows: (key, value), keys ascending strictly.

    Raises:
        FailedPreconditionError: DIRECTORY_NOT_EMPTY.
        ValueError: the keys do not ascend.
        OSError: the disk refused.
    """
    target = path.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise error(Reason.DIRECTORY_NOT_EMPTY, f"{target} exists and is not empty; choose another.")
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        count = write_database(temporary / "db", rows, _write_options())
        os.rename(temporary / "db", target)  # noqa: PTH104  # replaces an empty directory; Path.replace says the same
        sync_directory(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return count


def write_database(path: Path, rows: Iterable[tuple[bytes, bytes]], options: Any) -> int:
    """Write a new database with ``options`` into ``path``, from table files, and sync it; return the number of rows.

    Raises:
        ValueError: the keys do not ascend strictly.
        OSError: the disk refused.
    """
    tables = path.with_name(path.name + ".tables")
    tables.mkdir()
    count, names = _write_tables(tables, rows, options)
    with _disk_failures(path):
        database = rocksdict.Rdict(str(path), options, {"default": options})
        try:
            if names:
                ingestion = rocksdict.IngestExternalFileOptions()
                ingestion.set_move_files(True)
                database.ingest_external_file(names, ingestion)
        finally:
            database.close()
    shutil.rmtree(tables)
    sync_tree(path)
    return count


def _write_tables(directory: Path, rows: Iterable[tuple[bytes, bytes]], options: Any) -> tuple[int, list[str]]:
    names: list[str] = []
    count, room, last = 0, 0, None
    writer: Any = None
    for key, value in rows:
        if last is not None and key <= last:
            raise ValueError("the keys do not ascend")
        if room <= 0:
            if writer is not None:
                writer.finish()
            names.append(str(directory / f"{len(names) + 1:06d}.sst"))
            writer, room = rocksdict.SstFileWriter(options), TABLE_BYTES
            writer.open(names[-1])
        with _disk_failures(directory):
            writer[key] = value
        room -= len(key) + len(value)
        last = key
        count += 1
    if writer is not None:
        with _disk_failures(directory):
            writer.finish()
    return count, names


@contextlib.contextmanager
def _disk_failures(path: Path) -> Iterator[None]:
    try:
        yield
    except (PrefixdbError, OSError):
        raise
    except Exception as failure:
        raise OSError(f"{path} cannot be written: {failure}") from failure


def _write_options() -> Any:
    options = rocksdict.Options(raw_mode=True)
    table = rocksdict.BlockBasedOptions()
    table.set_format_version(5)
    options.set_block_based_table_factory(table)
    # What every build of RocksDB reads.
    options.set_compression_type(rocksdict.DBCompressionType.snappy())
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


# --- reading -------------------------------------------------------------------------------------------------------


def _open(path: Path, shadow: Path) -> tuple[Any, bool]:
    """Open the shadow; return the database and whether its bytes are tagged while the binding does not know it."""
    try:
        return _open_as(shadow, raw=True), _says_tagged(path)
    except Exception as failure:  # noqa: BLE001  # told apart by their text
        if f"does not match existing comparator {_COMPARATOR}" not in str(failure):
            refuse(path, f"cannot be opened: {_shown(failure, shadow)}")
    try:
        database = _open_as(shadow, raw=False)
    except Exception as failure:  # noqa: BLE001  # the binding raises nothing narrower
        refuse(path, f"cannot be opened: {_shown(failure, shadow)}")
    # Before any value is read: what stands here by itself is pickle.loads.
    database.set_loads(lambda _pickle: _Pickled())
    return database, False


def _open_as(shadow: Path, *, raw: bool) -> Any:
    options = rocksdict.Options(raw_mode=raw)
    options.create_if_missing(False)
    options.set_paranoid_checks(True)
    # A log that ends in the middle of a record may have lost others too: its own program decides, by opening it.
    options.set_wal_recovery_mode(rocksdict.DBRecoveryMode.absolute_consistency())
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(rocksdict.Cache(_CACHE_BYTES))
    options.set_block_based_table_factory(table)
    options.set_max_open_files(256)
    options.set_stats_dump_period_sec(0)
    access = rocksdict.AccessType.read_only(False)
    return rocksdict.Rdict(str(shadow), options, {"default": options}, access)


def _says_tagged(path: Path) -> bool:
    """Return whether the binding's own note says that keys and values are tagged.

    A note that cannot be read says nothing: a torn one is common, and plain directories have none.
    """
    note = path / _CONFIG_NAME
    try:
        if not stat.S_ISREG(note.lstat().st_mode) or note.lstat().st_size > _CONFIG_BYTES_MAX:
            return False
        fields = json.loads(note.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.get("raw_mode") is False


def _check_families(path: Path, shadow: Path) -> None:
    others = [name for name in rocksdict.Rdict.list_cf(str(shadow)) if name != "default"]
    if others:
        shown = ", ".join(ascii(name[:40]) for name in others[:_SHOWN_MAX])
        more = "" if len(others) <= _SHOWN_MAX else f" and {len(others) - _SHOWN_MAX} more"
        refuse(path, f"has column families other than default ({shown}{more}); only default can be read")


def _walk(path: Path, database: Any, tagged: bool) -> Iterator[Found]:
    iterator = database.iter()
    iterator.seek_to_first()
    number = 0
    while iterator.valid():
        number += 1
        try:
            key, columns = iterator.key(), iterator.columns()
        except Exception as failure:  # noqa: BLE001  # what the binding cannot decode
            yield Unreadable(number, f"rocksdict cannot decode it: {failure}")
        else:
            # The first case is all there is in a plain directory.
            is_plain = not tagged and type(key) is bytes and len(columns) == 1 and columns[0][0] == b""
            if is_plain and 0 < len(key) <= KEY_BYTES_MAX and len(columns[0][1]) <= VALUE_BYTES_CEILING:
                yield key, columns[0][1]
            else:
                yield _row(database, number, key, columns, tagged)
        iterator.next()
    try:
        # Damage looks like the end.
        iterator.status()
    except Exception as failure:  # noqa: BLE001  # the binding raises nothing narrower
        refuse(path, f"is damaged after row {number}: {failure}")


def _row(database: Any, number: int, key: Any, columns: list[tuple[Any, Any]], tagged: bool) -> Found:
    if len(columns) != 1 or columns[0][0] not in (b"", ""):
        return Unreadable(number, "its value is a set of columns (PutEntity), which is no value here")
    value = columns[0][1]
    if tagged:
        try:
            key, value = untag(key), untag(value)
        except ValueError as failure:
            return Unreadable(number, f"rocksdict's type tag cannot be read: {failure}")
    plain_key = key if type(key) is bytes else _key_bytes(key)
    plain_value = value if type(value) is bytes else _value_bytes(value)
    if plain_key is None:
        return Unreadable(number, f"its key is a {type(key).__name__}; keys are bytes, text or integers here")
    if plain_value is None:
        return Unreadable(number, "its value is a pickled Python object, which is never loaded; store bytes or text")
    if not 0 < len(plain_key) <= KEY_BYTES_MAX:
        return Unreadable(number, f"its key is empty or longer than {KEY_BYTES_MAX:,} bytes")
    if len(plain_value) > VALUE_BYTES_CEILING:
        return Unreadable(number, f"its value is longer than {VALUE_BYTES_CEILING:,} bytes")
    if plain_key is not key and _has_twin(database, key, plain_key, tagged):
        return Unreadable(number, "another row has the same key as bytes or text")
    return plain_key, plain_value


def _key_bytes(key: object) -> bytes | None:
    if type(key) is str:
        return _text_bytes(key)
    return str(key).encode() if type(key) is int and key.bit_length() < 4096 else None


def _value_bytes(value: object) -> bytes | None:
    if type(value) is str:
        return _text_bytes(value)
    if type(value) is int and value.bit_length() >= 4096:
        return None  # Python refuses to write out numbers of this length.
    return str(value).encode() if type(value) in (int, float, bool) else None


def _text_bytes(text: str) -> bytes | None:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None


def _has_twin(database: Any, key: object, plain_key: bytes, tagged: bool) -> bool:
    """Return whether a key of another type, which comes earlier in the order of types, has become the same bytes."""
    if tagged:
        twins: list[Any] = [b"\x01" + plain_key] + ([b"\x02" + plain_key] if type(key) is int else [])
    else:
        twins = [plain_key] + ([plain_key.decode()] if type(key) is int else [])
    return any(twin in database for twin in twins)


def refuse(path: Path, what: str) -> NoReturn:
    """Raise ARCHIVE_INVALID for a directory; ``what`` is the rest of its sentence."""
    raise error(Reason.ARCHIVE_INVALID, f"{path} {what}.", metadata={"place": str(path)})


def _shown(failure: Exception, shadow: Path) -> str:
    """Return an opening's complaint without the shadow's path; such texts hold file names and sums, never rows."""
    return str(failure).replace(str(shadow) + "/", "").replace(str(shadow), "it")[:500]
