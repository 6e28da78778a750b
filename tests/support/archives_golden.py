"""What the frozen files in ``tests/data/archives`` hold.

The files are never made anew: whoever reads archives that were written years ago reads these.
"""

from __future__ import annotations

from pathlib import Path

from prefixdb.archive import Group, GroupRule, Header, Member

DIRECTORY = Path(__file__).resolve().parents[1] / "data" / "archives"

EXAMPLE_HEADER = Header(
    kind="rows",
    codec="none",
    sorted=True,
    created_at_ms=1_700_000_000_000,
    server="prefixdb 0.1.0",
)
EXAMPLE_ROWS = [(b"user/1", b"alice", 0, 0)]
"""The example on the page ``docs/data-format.md``."""

HEADER = Header(
    kind="namespace",
    codec="none",
    created_at_ms=1_700_000_000_000,
    server="prefixdb 0.1.0",
    namespace_id=2**64 - 2,
    namespace="acme",
    incarnation=2**63 + 1,
    labels={"plan": "gold", "ort": "Zürich"},
    last_version=2**64 - 1,
)
GROUPS = [
    Group("editors", (GroupRule(0, b"doc/", True, True), GroupRule(None, b"", True, False))),
    Group("nobody", ()),
]
MEMBERS = [
    Member(
        "alice",
        ("editors", "readers"),
        "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
        False,
        1_600_000_000_000,
        1_600_000_000_001,
        1_600_000_000_002,
    ),
    Member("zoë", (), "", True, 0, 0, 0),
]
ROWS = {
    0: [
        (b"\x00", b"", 1, 0),
        (b"a", b"\x00\xff", 2**64 - 1, 0),
        (b"a" * 300, b"b" * 70_000, 258, 1_800_000_000_000),
        (b"\xff\xff", 'ä\n"quoted", and more'.encode(), 259, 2**63 - 1),
    ],
    65535: [(b"a", b"alice", 260, 0)],
}

PREFIX_HEADER = Header(
    kind="export",
    codec="zstd",
    created_at_ms=1_700_000_000_000,
    server="prefixdb 0.1.0",
    namespace_id=7,
    namespace="acme",
    incarnation=500,
    database=3,
    prefix=b"user/",
    last_version=100,
)
PREFIX_ROWS = [(b"user/%03d" % number, b"alice " * 20, 1 + number % 100, 0) for number in range(500)]

TEXT_ROWS = [
    (b"user/2", b"bob", 0, 1_800_000_000_000),
    (b"user/1", 'ä\n"quoted", and more'.encode(), 0, 0),
    (b"empty", b"", 0, 0),
]
"""Rows of database 3 in no order."""
