"""A disk that fails while a store opens: refused for the right reason, and the next opening finds everything.

Method: the directory a kill has left, with rows in two table files and in the log, is opened by a process whose disk
fails in one place; then once more on a disk that works, by the same kind of store and by another.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from prefixdb.errors import PrefixdbError
from prefixdb.store.base import Store
from tests.store.stores import STORES
from tests.support import ledger as work
from tests.support.clocks import HeldClock
from tests.support.crash_image import content
from tests.support.store_host import DURABLE, StoreHost, other_kind
from tools.crash.shim import Call, Shim

COMMITS = 300
ROWS = COMMITS * len(work.DATABASES)
NO_SPACE = {"error": errno.ENOSPC}
NO_DESCRIPTORS = {"error": errno.EMFILE}

REASONS = {
    errno.ENOSPC: {"DISK_FULL"},
    errno.EMFILE: {"READ_ONLY_STORE"},
    # Bytes that cannot be read may be damage; what cannot be written is none.
    errno.EIO: {"CORRUPTION", "READ_ONLY_STORE"},
}


@dataclass(frozen=True)
class Fault:
    """What fails while a store opens."""

    files: str
    calls: Call
    how: dict[str, Any] = field(default_factory=dict)

    @property
    def error(self) -> int:
        return int(self.how.get("error", errno.EIO))

    @property
    def reads_only(self) -> bool:
        return not self.calls & Call.CHANGES


FAULTS = {
    "everything: no space": Fault("/*", Call.GROWS, NO_SPACE),
    "CURRENT: renaming, EIO": Fault("/db/CURRENT", Call.RENAME),
    "CURRENT: renaming, no space": Fault("/db/CURRENT", Call.RENAME, NO_SPACE),
    "CURRENT: reading, EIO": Fault("/db/CURRENT", Call.READS),
    "CURRENT: opening, no descriptors": Fault("/db/CURRENT", Call.OPENS, NO_DESCRIPTORS),
    "MANIFEST: creation, no descriptors": Fault("/db/MANIFEST*", Call.CREATE, NO_DESCRIPTORS),
    "MANIFEST: write, no space": Fault("/db/MANIFEST*", Call.WRITES, NO_SPACE),
    "MANIFEST: sync, EIO": Fault("/db/MANIFEST*", Call.SYNCS),
    "MANIFEST: reading, EIO": Fault("/db/MANIFEST*", Call.READS),
    "log: creation, no descriptors": Fault("/db/*.log", Call.CREATE, NO_DESCRIPTORS),
    "log: reading, EIO": Fault("/db/*.log", Call.READS),
    "table: creation, no descriptors": Fault("/db/*.sst", Call.CREATE, NO_DESCRIPTORS),
    "table: write, no space": Fault("/db/*.sst", Call.WRITES, NO_SPACE),
    "table: sync, EIO": Fault("/db/*.sst", Call.SYNCS),
    "table: reading, EIO": Fault("/db/*.sst", Call.READS),
    "side file: write, no space": Fault("/store-state.json*", Call.WRITES, NO_SPACE),
    "side file: sync, EIO": Fault("/store-state.json*", Call.SYNCS),
    "side file: renaming, EIO": Fault("/store-state.json", Call.RENAME),
    "side file: reading, EIO": Fault("/store-state.json", Call.READS),
    "lock: opening, no descriptors": Fault("/LOCK", Call.OPENS, NO_DESCRIPTORS),
}

MET_BY_A_CREATION = [
    name for name, fault in FAULTS.items() if not (fault.reads_only or name.startswith(("table", "CURRENT: reading")))
]
"""A new directory has no table file until its store is closed."""


def open_and_count(_idle: Store, kind: str, data_dir: str) -> str | int:
    """Open a directory and return how many rows it holds, or what it is refused for."""
    try:
        store = STORES[kind](Path(data_dir), HeldClock())
    except PrefixdbError as refusal:
        return f"{refusal.reason.name}: {refusal.message}"
    try:
        return work.counted(store)
    finally:
        store.close()


def make_image(kind: str, directory: Path) -> Path:
    """Return the directory of a store that was killed."""
    with StoreHost(kind, directory / "image") as host:
        for first in range(0, COMMITS, COMMITS // 3):
            host.run(work.load, first, COMMITS // 3)
            if first < COMMITS // 2:
                assert host.run(work.flush) == ""
    return directory / "image"


@pytest.fixture(scope="module", params=DURABLE)
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    return Shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="module")
def host(shim: Shim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreHost]:
    """A child that opens directories; the store it holds itself is in memory."""
    with StoreHost("memory", tmp_path_factory.mktemp("host") / "idle", shim) as host:
        yield host


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("kind", DURABLE)
def test_a_store_refuses_to_open_and_then_opens_with_everything(
    image: Path, shim: Shim, host: StoreHost, kind: str, name: str, tmp_path: Path
) -> None:
    fault, data_dir = FAULTS[name], tmp_path / "data"
    shutil.copytree(image, data_dir)
    before = content(data_dir)
    with shim.add(f"{data_dir}{fault.files}", fault.calls, **fault.how) as rule:
        refused = host.run(open_and_count, kind, str(data_dir))
    assert rule.hits
    assert isinstance(refused, str), "it opened all the same"
    assert refused.partition(":")[0] in REASONS[fault.error]
    if fault.reads_only:
        assert content(data_dir) == before
    assert host.run(open_and_count, other_kind(kind), str(data_dir)) == ROWS
    assert host.run(open_and_count, kind, str(data_dir)) == ROWS


@pytest.mark.parametrize("name", MET_BY_A_CREATION)
@pytest.mark.parametrize("kind", DURABLE)
def test_a_creation_that_fails_is_made_good_by_the_next_one(
    shim: Shim, host: StoreHost, kind: str, name: str, tmp_path: Path
) -> None:
    fault, data_dir = FAULTS[name], tmp_path / "data"
    with shim.add(f"{data_dir}{fault.files}", fault.calls, **fault.how) as rule:
        outcome = host.run(open_and_count, kind, str(data_dir))
    assert rule.hits
    assert isinstance(outcome, str), "it opened all the same"
    assert host.run(open_and_count, other_kind(kind), str(data_dir)) == 0
