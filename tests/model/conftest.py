"""The fixtures of tests that run once per store."""

from __future__ import annotations

from tests.support.store_fixtures import faults, kind, open_store

__all__ = ["faults", "kind", "open_store"]
