"""The storage seam: ``base`` is the contract, ``rocksdict`` an implementation, :func:`open_store` the way in."""

from __future__ import annotations

from pathlib import Path

from prefixdb.clock import Clock
from prefixdb.errors import Reason, error
from prefixdb.limits import MIB
from prefixdb.store.base import Store

STORE_KINDS = ("auto", "rocksdict", "native")


def open_store(
    kind: str,
    data_dir: Path,
    *,
    clock: Clock,
    durability: str = "fsync",
    cache_bytes: int = 256 * MIB,
    write_buffer_bytes: int = 64 * MIB,
) -> Store:
    """Open the data directory with the store that ``kind`` names.

    Args:
        kind: ``auto`` takes the best store of this installation; a store that is named is used or refused, never
            replaced by another one.
        data_dir, clock, durability, cache_bytes, write_buffer_bytes: as for ``RocksdictStore.open``.

    Raises:
        ValueError: an unknown kind.
        UnimplementedError: the named store is not part of this installation.
        PrefixdbError: as ``RocksdictStore.open``.
    """
    if kind not in STORE_KINDS:
        raise ValueError(f"store must be one of {', '.join(STORE_KINDS)}")
    if kind == "native":
        raise error(
            Reason.METHOD_UNKNOWN,
            "The native store is not built into this installation; use --store rocksdict or auto.",
        )
    # Imported here: the client and the command line work without rocksdict.
    from prefixdb.store.rocksdict import RocksdictStore

    return RocksdictStore.open(
        data_dir,
        clock=clock,
        durability=durability,
        cache_bytes=cache_bytes,
        write_buffer_bytes=write_buffer_bytes,
    )
