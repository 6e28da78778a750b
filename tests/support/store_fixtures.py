"""What tests of the stores with a directory share: each test that takes one of these runs once per store."""

from __future__ import annotations

import functools

import pytest

from tests.store.stores import DURABLE
from tests.support import crash_image
from tests.support.crash_image import OpenStore
from tests.support.faulty_engine import Faults


@pytest.fixture(params=DURABLE, scope="session")
def kind(request: pytest.FixtureRequest) -> str:
    """The name of the store under test."""
    return request.param


@pytest.fixture
def open_store(kind: str) -> OpenStore:
    """``crash_image.open_store`` for the store under test."""
    return functools.partial(crash_image.open_store, kind=kind)


@pytest.fixture
def faults(kind: str) -> Faults:
    """Engines of the store under test that fail on demand."""
    return Faults(kind)
