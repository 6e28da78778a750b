"""One namespace on its way out of a server or back: the format of archives, and text formats.

Facts and codecs only: clients use it without RocksDB.

frames    the envelope, the chain of digests, a file cut into frames
bodies    contents compressed, and back
contents  header, groups, members, footer
rows      rows, many at a time
scanned   rows that stay packed, looked through by a store's own means
order     what must hold between frames
writer    makes an archive
reader    checks one and believes nothing
text      what JSON lines (jsonlines) and CSV (csvrows) share: lines, fields, bad lines put aside
"""

from prefixdb.archive.contents import (
    Footer,
    Group,
    GroupRule,
    Groups,
    Header,
    Member,
    Members,
    group_batches,
    member_batches,
)
from prefixdb.archive.frames import damaged, frames_of
from prefixdb.archive.reader import ArchiveReader, Content
from prefixdb.archive.rows import ArchiveRow, PackedRows, Rows, row_batches, scattered_batches
from prefixdb.archive.scanned import RowsFacts, RowsScanner, ScannedRows, facts_of
from prefixdb.archive.writer import ArchiveWriter

__all__ = [
    "ArchiveReader",
    "ArchiveRow",
    "ArchiveWriter",
    "Content",
    "Footer",
    "Group",
    "GroupRule",
    "Groups",
    "Header",
    "Member",
    "Members",
    "PackedRows",
    "Rows",
    "RowsFacts",
    "RowsScanner",
    "ScannedRows",
    "damaged",
    "facts_of",
    "frames_of",
    "group_batches",
    "member_batches",
    "row_batches",
    "scattered_batches",
]
