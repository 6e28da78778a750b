"""What a restore takes a backup from. A repository provides it; so does a test.

from prefixdb.repository.bans import BannedIssue
from prefixdb.backup.bans import read_bans
from prefixdb.backup.restore import restore, verify_open

restore(source, data_dir, bans, new_keys=False, on_progress=lambda done_bytes, total_bytes: None) -> Restored
verify_open(source, scratch_dir=None, on_progress=...) -> Restored     only proves that it would restore
read_bans(path) -> list[BannedIssue]           a bans.jsonl, or the data directory of a stopped server
"""

from __future__ import annotations

from typing import BinaryIO, Protocol

from prefixdb.repository.manifest import Manifest

STATE_PATH = "store-state.json"
BANS_PATH = "bans.jsonl"


class BackupSource(Protocol):
    """One backup: its manifest, and its files' bytes. Nothing it says is believed before it was checked."""

    @property
    def manifest(self) -> Manifest:
        """What the backup is of, and its files."""

    @property
    def is_local(self) -> bool:
        """True when it lies on this machine, where reading it twice costs little."""

    def open(self, path: str) -> BinaryIO:
        """Open one of the manifest's files for reading; the caller closes it.

        Raises:
            PrefixdbError: it is not there, or cannot be read.
            OSError: as above.
        """
