"""The storage seam: ``base`` is the contract, ``native`` and ``rocksdict`` keep it, :func:`open_store` opens one."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

from prefixdb.clock import Clock
from prefixdb.errors import Reason, error
from prefixdb.limits import MIB
from prefixdb.store.base import Store

log = logging.getLogger("prefixdb.store")

STORE_KINDS = ("auto", "rocksdict", "native")

_EXTENSION = "prefixdb._native.module"
_REMEDY = (
    "install Debian's g++, python3-dev, librocksdb-dev, libnghttp2-dev, libssl-dev, libprotozero-dev and zlib1g-dev, "
    "then reinstall prefixdb with PREFIXDB_NATIVE=require; or say --store auto and --front auto."
)


def open_store(
    kind: str,
    data_dir: Path,
    *,
    clock: Clock,
    durability: str = "fsync",
    cache_bytes: int = 256 * MIB,
    write_buffer_bytes: int = 64 * MIB,
    compaction_bytes_per_second: int = 0,
) -> Store:
    """Open the data directory with the store that ``kind`` names. Both open what the other has written.

    Args:
        kind: ``native``, ``rocksdict``, or ``auto``: the native store where it was built and its libraries load, else
            the other. A store that is named is used or refused, never replaced by another one.
        data_dir, clock, durability, cache_bytes, write_buffer_bytes, compaction_bytes_per_second: as for
            ``RocksdictStore.open``.

    Raises:
        ValueError: an unknown kind.
        UnimplementedError: the named store is not part of this installation; the message says how it becomes one.
        PrefixdbError: as ``RocksdictStore.open``.
    """
    if kind not in STORE_KINDS:
        raise ValueError(f"store must be one of {', '.join(STORE_KINDS)}")
    open_kind = _open_rocksdict if kind == "rocksdict" or (kind == "auto" and not _native_loads()) else _open_native
    return open_kind(
        data_dir,
        clock=clock,
        durability=durability,
        cache_bytes=cache_bytes,
        write_buffer_bytes=write_buffer_bytes,
        compaction_bytes_per_second=compaction_bytes_per_second,
    )


def native_is_built() -> bool:
    """Return whether the extension is part of this installation; it may still fail to load."""
    return importlib.util.find_spec(_EXTENSION) is not None


def _native_loads() -> bool:
    if not native_is_built():
        return False
    try:
        import prefixdb.store.native  # noqa: F401 - tried, to see whether it can be
    except ImportError as failure:
        log.warning("the native store was built but does not load, so the rocksdict store is used: %s", failure)
        return False
    return True


def _open_native(data_dir: Path, **settings: Any) -> Store:
    if not native_is_built():
        raise error(
            Reason.METHOD_UNKNOWN, f"The native store is not built into this installation. To build it, {_REMEDY}"
        )
    try:
        from prefixdb.store.native import NativeStore
    except ImportError as failure:
        raise error(
            Reason.METHOD_UNKNOWN, f"The native store was built but does not load ({failure}). To repair it, {_REMEDY}"
        ) from failure
    return NativeStore.open(data_dir, **settings)


def _open_rocksdict(data_dir: Path, **settings: Any) -> Store:
    # Imported here: the client and the command line work without rocksdict.
    from prefixdb.store.rocksdict import RocksdictStore

    return RocksdictStore.open(data_dir, **settings)
