"""Goal: a server's full or failing disk ends a backup with the right reason, leaves nothing, and the next one works.

Method: a server process under a library that stands before its disk: no space for the snapshot, then reads that fail.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefixdb import connect
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.repository.repository import Repository
from tests.support.store_host import DURABLE
from tools.crash.shim import Call, Shim
from tools.lab.process import ServerProcess


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    with Shim(tmp_path) as shim:
        yield shim


@pytest.mark.parametrize("kind", DURABLE)
def test_a_bad_disk_of_the_server_ends_the_backup_and_not_the_next(kind: str, tmp_path: Path, shim: Shim) -> None:
    repo = tmp_path / "repo"
    with ServerProcess(tmp_path / "data", store=kind, settings=shim.environment()) as server:
        server.start()
        folder = server.data_dir / "snapshots"
        with connect(server.address, token_file=server.guardian_token_file()) as db:
            for pattern, calls, error, reason in (
                (f"{folder}*", Call.GROWS | Call.LINK, errno.ENOSPC, Reason.DISK_FULL),
                (f"{folder}/*.sst", Call.READS, errno.EIO, Reason.CORRUPTION),
            ):
                with shim.add(pattern, calls, error=error) as broken:
                    with pytest.raises(PrefixdbError) as caught:
                        db.guardian.backups.create(repo)
                    assert broken.hits
                assert caught.value.reason is reason
                assert Repository.open(repo).manifests() == []
                assert not folder.exists() or list(folder.iterdir()) == []
            made = db.guardian.backups.create(repo)
        assert [manifest.id for manifest in Repository.open(repo).manifests()] == [made.manifest.id]
