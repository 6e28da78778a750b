"""Goal: both stores open a directory with the same settings, so that either may go on where the other stopped.

Method: RocksDB writes every setting in force into an OPTIONS file when it opens a database. The files of both engines
must agree in every setting that both versions of RocksDB know, but for the differences listed here with their reasons.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from prefixdb.store.engine import EngineOptions
from prefixdb.store.rocksdict import RocksdictEngine

pytest.importorskip("prefixdb._native.module", reason="the native store is not built in", exc_type=ImportError)

# What only the native store can do.
OWN = {
    "CFOptions.compaction_filter_factory",
    "CFOptions.sst_partitioner_factory",
    "CFOptions.memtable_factory",  # Only in memory.
    "DBOptions.allow_concurrent_memtable_write",  # The native store's only writer is its committer.
    "DBOptions.avoid_unnecessary_blocking_io",  # The other has it for its iterators, which is where it matters.
    "CFOptions.periodic_compaction_seconds",  # RocksDB's own choice where there is a filter: files are seen in 30 days.
}
# Defaults that changed between RocksDB 7.8 and 9.8; none of them touches the format.
VERSION = {
    "DBOptions.fail_if_options_file_error",  # Lenient is right: nothing here reads the OPTIONS file.
    "DBOptions.write_dbid_to_manifest",
    "TableOptions.filter_policy",  # The same filter under two spellings.
    "TableOptions.optimize_filters_for_memory",  # Rounds filters to the allocator's sizes.
    "Version.rocksdb_version",
}


def settings(directory: Path) -> dict[str, str]:
    """Return the settings of the newest OPTIONS file as ``Section.name``, nested ones as ``Section.name.part``."""
    found: dict[str, str] = {}
    section = ""
    newest = max(directory.glob("OPTIONS-*"), key=lambda path: int(path.name.partition("-")[2]))
    for line in map(str.strip, newest.read_text(encoding="utf-8").splitlines()):
        if line.startswith("["):
            section = line.strip("[]").split()[0].partition("/")[0]
        elif "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            parts = dict(part.split("=", 1) for part in value.strip("{}").split(";") if "=" in part)
            nested = parts if value.startswith("{") else {"": value}
            found.update({f"{section}.{name}.{part}".rstrip("."): each for part, each in nested.items()})
    return found


def test_both_engines_have_the_same_settings(tmp_path: Path) -> None:
    from prefixdb.store.native import NativeEngine

    options = EngineOptions(create=True, cache_bytes=8 << 20, write_buffer_bytes=3 << 20)
    for name, engine in (("rocksdict", RocksdictEngine), ("native", NativeEngine)):
        engine(tmp_path / name, options).close()
    rocksdict, native = settings(tmp_path / "rocksdict"), settings(tmp_path / "native")
    shared = rocksdict.keys() & native.keys()
    assert len(shared) > 150
    assert {name for name in shared if rocksdict[name] != native[name]} == OWN | VERSION
    assert native["CFOptions.compaction_filter_factory"] == "prefixdb.BanFilterFactory"
    assert native["CFOptions.sst_partitioner_factory"] == "prefixdb.NamespacePartitionerFactory"
    assert native["CFOptions.memtable_factory"] == "prefixdb.Memtable"
    assert native["TableOptions.format_version"] == "5"
