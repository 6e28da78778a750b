"""Every test of a module that starts servers runs once with each store.

A ``conftest`` joins by importing both names of ``__all__``. A module starts servers when it has something of
``tests.support.server`` or ``tools.lab.process`` in it, so none can be forgotten; tests of other modules run once.
"""

from __future__ import annotations

import pytest

from tests.store.stores import DURABLE
from tests.support import server

__all__ = ["pytest_generate_tests", "server_store"]

_STARTERS = frozenset({"tests.support.server", "tools.lab.process"})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test of a module that starts servers the fixture below, once per store."""
    if any(getattr(value, "__module__", "") in _STARTERS for value in vars(metafunc.module).values()):
        if "server_store" not in metafunc.fixturenames:
            metafunc.fixturenames.insert(0, "server_store")
        metafunc.parametrize("server_store", DURABLE, indirect=True, scope="session")


@pytest.fixture(scope="session")
def server_store(request: pytest.FixtureRequest) -> str:
    """The store of the servers that are started while it is in use; its name."""
    server.store_kind = request.param
    return server.store_kind
