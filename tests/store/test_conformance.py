"""Every store in ``stores.STORES`` keeps every promise of ``prefixdb.store.base``.

Method: the suites of ``conformance`` and ``conformance_space``, once per store, each test on a fresh directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.conformance import RowConformance
from tests.store.conformance_snapshots import SnapshotConformance
from tests.store.conformance_space import BanConformance, CursorConformance, SpaceConformance
from tests.store.conformance_versions import VersionConformance
from tests.store.conformance_ways_in import CommitterConformance, IngestConformance
from tests.store.stores import STORES, Harness


@pytest.fixture(params=sorted(STORES))
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    started = Harness.start(request.param, tmp_path)
    yield started
    started.store.close()


class TestRows(RowConformance):
    pass


class TestCursors(CursorConformance):
    pass


class TestSpace(SpaceConformance):
    pass


class TestBans(BanConformance):
    pass


class TestCommitters(CommitterConformance):
    pass


class TestIngests(IngestConformance):
    pass


class TestVersions(VersionConformance):
    pass


class TestSnapshots(SnapshotConformance):
    pass
