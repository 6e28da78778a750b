"""Which store is opened: a named one or none, and without a name the best that works here.

Method: an installation without the extension, and one whose libraries are missing, are made by what the import system
is told; the directories prove which store was opened.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

import prefixdb._native
import prefixdb.store
from prefixdb.errors import UnimplementedError
from prefixdb.store import native_is_built, open_store
from tests.store.stores import DURABLE
from tests.support.clocks import HeldClock


class NoLibrary(importlib.abc.MetaPathFinder):
    """Finds the extension and fails to load it, as the loader of the system does without librocksdb."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name == "prefixdb._native.module":
            return importlib.machinery.ModuleSpec(name, self)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        raise ImportError("librocksdb.so.7.8: cannot open shared object file")

    def exec_module(self, module: ModuleType) -> None:
        raise NotImplementedError


@pytest.fixture
def unloadable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("prefixdb.store.native", "prefixdb._native.module"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr(prefixdb.store, "native", raising=False)
    monkeypatch.delattr(prefixdb._native, "module", raising=False)
    finder = NoLibrary()
    sys.meta_path.insert(0, finder)
    yield
    sys.meta_path.remove(finder)


def opened(kind: str, directory: Path) -> str:
    store = open_store(kind, directory / "data", clock=HeldClock(), durability="os")
    try:
        assert store.status().durability == "os"
        return store.status().name
    finally:
        store.close()


@pytest.mark.parametrize("kind", DURABLE)
def test_a_store_that_is_named_is_the_one_that_is_opened(kind: str, tmp_path: Path) -> None:
    assert opened(kind, tmp_path) == kind


def test_without_a_name_the_native_store_is_taken_where_it_was_built(tmp_path: Path) -> None:
    assert opened("auto", tmp_path) == ("native" if native_is_built() else "rocksdict")


def test_without_the_extension_native_is_refused_with_the_remedy_and_auto_takes_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefixdb.store, "native_is_built", lambda: False)
    with pytest.raises(UnimplementedError, match=r"not built.*librocksdb-dev.*PREFIXDB_NATIVE=require"):
        open_store("native", tmp_path / "data", clock=HeldClock())
    assert not (tmp_path / "data").exists()
    assert opened("auto", tmp_path) == "rocksdict"


@pytest.mark.usefixtures("unloadable")
def test_an_extension_that_does_not_load_is_refused_when_named_and_else_a_warning_with_the_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnimplementedError, match=r"does not load.*librocksdb\.so"):
        open_store("native", tmp_path / "data", clock=HeldClock())
    assert not (tmp_path / "data").exists()
    with caplog.at_level(logging.WARNING, "prefixdb.store"):
        assert opened("auto", tmp_path) == "rocksdict"
    assert "librocksdb.so" in caplog.text


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="store must be one of"):
        open_store("leveldb", tmp_path / "data", clock=HeldClock())
    assert not (tmp_path / "data").exists()
