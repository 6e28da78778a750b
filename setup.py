"""Build the compiled part when its libraries are there; everything else is in pyproject.toml.

The package is complete without the extension. When ``prefixdb/_native`` holds its sources and the libraries are
installed it is built; ``PREFIXDB_NATIVE=require`` turns an absent extension into an error, ``PREFIXDB_NATIVE=off``
leaves it out.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import Extension, setup

SOURCES = sorted(str(path) for path in Path("prefixdb/_native").glob("*.cc"))


def native_extensions() -> list[Extension]:
    """Return the extension modules this checkout can build, or fail when they were required."""
    wish = os.environ.get("PREFIXDB_NATIVE", "auto")
    if wish not in {"auto", "off", "require"}:
        raise SystemExit(f"PREFIXDB_NATIVE must be auto, off or require, not {wish!r}")
    if wish == "require" and not SOURCES:
        raise SystemExit("PREFIXDB_NATIVE=require, but this source tree has no prefixdb/_native/*.cc to build")
    if wish == "off" or not SOURCES:
        return []
    return [Extension("prefixdb._native.module", SOURCES, language="c++", libraries=["rocksdb"])]


setup(ext_modules=native_extensions())
