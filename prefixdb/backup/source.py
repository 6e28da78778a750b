"""What a restore takes a backup from. A repository provides it; so does a test.

from prefixdb.archive.bans import BannedIssue
from prefixdb.backup.bans import read_bans
from prefixdb.backup.restore import restore, verify_open

restore(source, data_dir, bans, new_keys=False, on_progress=lambda done, total: ...) -> Restored
verify_open(source, bans, scratch=None, on_progress=...) -> Restored
read_bans(path) -> list[BannedIssue]           a bans.jsonl, or the data directory of a stopped server
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import BinaryIO, Protocol

STATE_PATH = "store-state.json"
BANS_PATH = "bans.jsonl"

_PATH = re.compile(
    r"db/(?:CURRENT|(?:MANIFEST|OPTIONS)-[0-9]{6,20}|[0-9]{6,20}\.(?:sst|log))|store-state\.json|bans\.jsonl", re.ASCII
)


class FileFacts(Protocol):
    """One file of a backup, as its manifest lists it.

    path: where it belongs below the data directory. sha256: 32 bytes.
    """

    @property
    def path(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def sha256(self) -> bytes: ...


class BackupSource(Protocol):
    """One backup: the facts of its manifest, and its files' bytes. Nothing it says is believed before it was checked.

    taken_at_ms: the instant, by the clock of the server that made it.
    last_version: of the newest commit in it.
    """

    @property
    def taken_at_ms(self) -> int: ...

    @property
    def last_version(self) -> int: ...

    @property
    def namespaces_live(self) -> int: ...

    @property
    def namespaces_banned(self) -> int: ...

    @property
    def files(self) -> Sequence[FileFacts]: ...

    def open(self, path: str) -> BinaryIO:
        """Open one of ``files`` for reading.

        Raises:
            PrefixdbError: it is not there, or cannot be read.
            OSError: as above.
        """


def is_backup_path(path: str) -> bool:
    """True for what a file of a backup may be called; nothing else is ever written."""
    return _PATH.fullmatch(path) is not None
