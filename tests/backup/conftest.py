"""Tests of backups that start servers run once with each store."""

from __future__ import annotations

from tests.support.server_stores import pytest_generate_tests, python_front, server_store

__all__ = ["pytest_generate_tests", "python_front", "server_store"]
