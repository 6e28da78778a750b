"""The child process that reads a foreign RocksDB directory: ``python -m prefixdb.store.plain_child DIRECTORY``.

It writes msgpack to standard output: pages ``[[key, value] | [number, why], ...]`` and last ``["end", rows]`` or
``["error", reason, message, place]``. An output that ends without one of these is a child that was ended by what it
read.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import BinaryIO

import msgpack

from prefixdb.errors import PrefixdbError
from prefixdb.limits import MIB
from prefixdb.store.plain import Unreadable, read_rows

PAGE_ROWS = 1_000
PAGE_BYTES = 1 * MIB

MEMORY_BYTES_MAX = 4096 * MIB
"""Address space of the child: a block that claims to unfold to gigabytes ends the child and nothing else."""


def main(path: Path, out: BinaryIO) -> None:
    """Write what is in the directory to ``out``."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    packer = msgpack.Packer(use_bin_type=True)
    rows = 0
    page: list[object] = []
    size = 0
    try:
        for found in read_rows(path):
            if isinstance(found, Unreadable):
                page.append((found.number, found.why))
                size += len(found.why)
            else:
                page.append(found)
                size += len(found[0]) + len(found[1])
            rows += 1
            if len(page) >= PAGE_ROWS or size >= PAGE_BYTES:
                out.write(packer.pack(page))
                page, size = [], 0
        out.write(packer.pack(page))
        out.write(packer.pack(("end", rows)))
    except PrefixdbError as failure:
        out.write(packer.pack(page))
        out.write(packer.pack(("error", failure.reason.name, failure.message, failure.metadata.get("place", ""))))
    out.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.stdout.buffer)
