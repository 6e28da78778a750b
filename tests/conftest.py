"""For every test: the header line that says which stores this run tests."""

from __future__ import annotations

import os

import pytest

from prefixdb.store import native_is_built


def pytest_report_header(config: pytest.Config) -> str:
    """Name the stores, so that nobody takes a run of one for a run of both."""
    if native_is_built():
        from prefixdb._native import module

        return f"stores: rocksdict and native (RocksDB {module.ROCKSDB_VERSION})"
    if os.environ.get("PREFIXDB_NATIVE") == "require":
        raise pytest.UsageError("PREFIXDB_NATIVE=require, but the native store is not built: make env")
    return "stores: rocksdict only; the native store is not built (PREFIXDB_NATIVE=require makes that an error)"
