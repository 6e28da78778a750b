"""Every test of a module that starts servers runs once with each store, and with it through the front that serves it.

A ``conftest`` joins by importing both names of ``__all__``. A module starts servers when it has something of
``tests.support.server`` or ``tools.lab.process`` in it, so none can be forgotten; tests of other modules run once. The
native store is served by the native front, so whatever is tested here is tested through it as well. A module that sets
``ALSO_BEHIND_PYTHON`` runs once more, over the native store without the native front.
"""

from __future__ import annotations

import pytest

from tests.store.stores import DURABLE
from tests.support import server

__all__ = ["pytest_generate_tests", "python_front", "server_store"]

_STARTERS = frozenset({"tests.support.server", "tools.lab.process"})

_NO_FRONT = "native-python"
"""The native store with the Python front."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test of a module that starts servers the fixture below, once per store."""
    if any(getattr(value, "__module__", "") in _STARTERS for value in vars(metafunc.module).values()):
        more = getattr(metafunc.module, "ALSO_BEHIND_PYTHON", False) and "native" in DURABLE
        metafunc.parametrize("server_store", (*DURABLE, *([_NO_FRONT] if more else [])), indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)  # What a test does not name itself pytest would leave out.
def server_store(request: pytest.FixtureRequest) -> str:
    """The store of the servers that are started while it is in use; its name."""
    wanted = getattr(request, "param", "auto")  # None in a module that starts none.
    server.store_kind = "native" if wanted == _NO_FRONT else wanted
    server.front_kind = "python" if wanted == _NO_FRONT else "auto"
    return server.store_kind


@pytest.fixture
def python_front(server_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python on the port over either store: for a test that changes what is in Python, which the native front has its
    own of. What the test shows of Python has to be shown of the front somewhere else."""
    monkeypatch.setattr(server, "front_kind", "python")
