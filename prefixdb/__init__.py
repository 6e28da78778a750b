"""prefixdb: thousands of isolated namespaces in one RocksDB, served over gRPC.

    from prefixdb import connect, connect_async

``connect`` and its friends are imported when they are first asked for: ``prefixdb version`` should not wait for gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from prefixdb import errors
from prefixdb.errors import PrefixdbError
from prefixdb.version import VERSION as __version__

if TYPE_CHECKING:
    from prefixdb.client.aio import AsyncDatabase, connect_async
    from prefixdb.client.options import ClientOptions, TlsOptions
    from prefixdb.client.sync import Database, connect


__all__ = [
    "AsyncDatabase",
    "ClientOptions",
    "Database",
    "PrefixdbError",
    "TlsOptions",
    "__version__",
    "connect",
    "connect_async",
    "errors",
]

_LAZY = {
    "AsyncDatabase": "prefixdb.client.aio",
    "connect_async": "prefixdb.client.aio",
    "ClientOptions": "prefixdb.client.options",
    "TlsOptions": "prefixdb.client.options",
    "Database": "prefixdb.client.sync",
    "connect": "prefixdb.client.sync",
}


def __getattr__(name: str) -> object:
    """Import what ``_LAZY`` names on first use."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'prefixdb' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value
