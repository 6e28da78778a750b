"""What the frames of an archive say, apart from rows: header, groups, members, footer.

    header  := {format, kind, codec, sorted, created_at_ms, server, namespace_id text, namespace, incarnation text,
                labels, database | nil, prefix bin, last_version}
    groups  := [[name, [[database | nil, prefix bin, read, write], ...]], ...]
    members := [{name, groups, password_hash, disabled, created_at_ms, updated_at_ms, password_changed_at_ms}, ...]
    footer  := {rows, groups, members, max_version}

All msgpack. Whatever is decoded here may be hostile: every type, length and range is checked, and what is not exactly
this is refused. Whether the names are names a namespace may have is for whoever creates it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import msgpack

from prefixdb.archive.frames import Fault
from prefixdb.errors import Reason, error
from prefixdb.limits import (
    ARCHIVE_FRAME_BYTES_MAX,
    ARCHIVE_FRAME_ROWS_MAX,
    DATABASE_MAX,
    GROUP_PREFIX_BYTES_MAX,
    GROUP_RULES_MAX,
    KEY_BYTES_MAX,
    LABEL_CHARS_MAX,
    LABELS_MAX,
    NAME_CHARS_MAX,
    NAMESPACE_ID_MAX,
    TOKEN_GROUPS_MAX,
)

__all__ = [
    "FORMAT",
    "Footer",
    "Group",
    "GroupRule",
    "Groups",
    "Header",
    "Member",
    "Members",
    "decode_footer",
    "decode_groups",
    "decode_header",
    "decode_members",
    "encode_footer",
    "encode_groups",
    "encode_header",
    "encode_members",
    "group_batches",
    "member_batches",
]

FORMAT = 1
"""Format of the archives written here, and the newest that is read."""

ARCHIVE_KINDS = ("namespace", "export", "rows")
CODECS = ("none", "zstd")
BUILT_IN_GROUPS = frozenset({"guardians", "writers", "readers"})

U64_MAX = 2**64 - 1
TIME_MS_MAX = 2**63 - 1
PASSWORD_HASH_CHARS_MAX = 512
SERVER_CHARS_MAX = 128

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Header:
    """What an archive is of.

    kind: "namespace" (every row of one, perhaps with members and groups), "export" (the rows of one database or prefix,
        or all) or "rows" (made from text: versions 0, any order; namespace_id, incarnation and last_version 0).
    codec: "zstd" or "none"; how the bodies of all frames but the header's are written.
    sorted: rows ascend strictly by (database, key); always so for "namespace" and "export".
    incarnation: which issue of the namespace's number it was.
    database, prefix: what the rows were limited to; None and empty for no limit.
    last_version: newest version of the store at the instant of the archive; no row has a greater one.
    """

    kind: str
    codec: str = "zstd"
    sorted: bool = True
    created_at_ms: int = 0
    server: str = ""
    namespace_id: int = 0
    namespace: str = ""
    incarnation: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    database: int | None = None
    prefix: bytes = field(default=b"", repr=False)
    last_version: int = 0

    def check(self) -> None:
        """Raise Fault when the fields are not what a header may say."""
        if self.kind not in ARCHIVE_KINDS:
            raise Fault("The header names an unknown kind of archive.")
        if self.codec not in CODECS:
            raise Fault("The header names an unknown codec.")
        _int(self.created_at_ms, TIME_MS_MAX)
        _int(self.namespace_id, NAMESPACE_ID_MAX)
        for number in (self.incarnation, self.last_version):
            _int(number, U64_MAX)
        _text(self.server, SERVER_CHARS_MAX)
        _text(self.namespace, NAME_CHARS_MAX)
        if len(self.labels) > LABELS_MAX:
            raise Fault("The header has more labels than a namespace may have.")
        for label in (*self.labels, *self.labels.values()):
            _text(label, LABEL_CHARS_MAX)
        if self.database is not None:
            _int(self.database, DATABASE_MAX)
        if len(self.prefix) > KEY_BYTES_MAX or (self.prefix and self.database is None):
            raise Fault("The header's prefix is longer than a key, or has no database.")
        if self.kind == "rows" and (self.last_version or self.database is not None):
            raise Fault("The header of an archive of plain rows speaks of a version or a database.")
        if self.kind != "rows" and not self.sorted:
            raise Fault("The header says that the rows are in no order; only those of plain rows may be.")
        if self.kind == "namespace" and self.database is not None:
            raise Fault("The header is of a whole namespace and of one database.")


class GroupRule(NamedTuple):
    """Permits reading or writing of the keys of a database (None: of all) that start with ``prefix``."""

    database: int | None
    prefix: bytes
    read: bool
    write: bool

    def __repr__(self) -> str:
        return f"GroupRule(database={self.database}, prefix=…, read={self.read}, write={self.write})"


class Group(NamedTuple):
    """A group of a namespace; the built-in ones are in no archive."""

    name: str
    rules: tuple[GroupRule, ...]


class Groups(NamedTuple):
    """Content of a frame of groups; names ascend over the whole archive."""

    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a namespace; privileges and grants, which only namespace 0 has, do not travel.

    password_hash: PHC form; empty when nobody can log in as it.
    """

    name: str
    groups: tuple[str, ...]
    password_hash: str = field(repr=False)
    disabled: bool
    created_at_ms: int
    updated_at_ms: int
    password_changed_at_ms: int


class Members(NamedTuple):
    """Content of a frame of members; names ascend over the whole archive."""

    members: tuple[Member, ...]


class Footer(NamedTuple):
    """The end of an archive: how many of each there were, and the greatest version of a row (0 without rows)."""

    rows: int
    groups: int
    members: int
    max_version: int


def encode_header(header: Header) -> bytes:
    """Return the content of the header's frame."""
    header.check()
    return _pack(
        {
            "format": FORMAT,
            "kind": header.kind,
            "codec": header.codec,
            "sorted": header.sorted,
            "created_at_ms": header.created_at_ms,
            "server": header.server,
            "namespace_id": str(header.namespace_id),
            "namespace": header.namespace,
            "incarnation": str(header.incarnation),
            "labels": dict(header.labels),
            "database": header.database,
            "prefix": header.prefix,
            "last_version": header.last_version,
        }
    )


def decode_header(content: bytes) -> Header:
    """Return what a header says.

    Raises:
        Fault: it is no header.
        FailedPreconditionError: FORMAT_TOO_NEW.
    """
    fields = _map(unpack(content))
    number = _int(fields.pop("format", None), U64_MAX)
    if number > FORMAT:
        raise error(
            Reason.FORMAT_TOO_NEW,
            f"The archive has format {number}, this prefixdb reads up to {FORMAT}; use a newer one.",
        )
    if number < FORMAT:
        raise Fault("The archive has format 0, which there never was.")
    _names(fields, _HEADER_FIELDS)
    labels = _map(fields["labels"])
    for name in ("kind", "codec", "server", "namespace"):
        _text(fields[name], max(SERVER_CHARS_MAX, NAME_CHARS_MAX))
    if type(fields["sorted"]) is not bool or type(fields["prefix"]) is not bytes:
        raise Fault("A field of the header has the wrong type.")
    fields["namespace_id"] = _decimal(fields["namespace_id"], NAMESPACE_ID_MAX)
    fields["incarnation"] = _decimal(fields["incarnation"], U64_MAX)
    header = Header(**{**fields, "labels": labels})
    header.check()
    return header


def encode_groups(groups: Sequence[Group]) -> bytes:
    """Return the content of a frame of groups; see ``group_batches``."""
    for group in groups:
        _check_group(group)
    return _limited(_pack([[group.name, [list(rule) for rule in group.rules]] for group in groups]))


def decode_groups(content: bytes) -> Groups:
    """Return the groups of a frame.

    Raises:
        Fault: they are not groups.
    """
    groups = []
    for name, rules in (_list(entry, 2) for entry in _list(unpack(content))):
        if type(rules) is not list:
            raise Fault("The rules of a group are not a list.")
        group = Group(name, tuple(GroupRule(*_list(rule, 4)) for rule in rules))
        _check_group(group)
        groups.append(group)
    return Groups(tuple(groups))


def encode_members(members: Sequence[Member]) -> bytes:
    """Return the content of a frame of members; see ``member_batches``."""
    for member in members:
        _check_member(member)
    return _limited(_pack([_member_fields(member) for member in members]))


def decode_members(content: bytes) -> Members:
    """Return the members of a frame.

    Raises:
        Fault: they are not members.
    """
    members = []
    for entry in _list(unpack(content)):
        fields = _map(entry)
        _names(fields, _MEMBER_FIELDS)
        if type(fields["groups"]) is not list:
            raise Fault("The groups of a member are not a list.")
        member = Member(**{**fields, "groups": tuple(fields["groups"])})
        _check_member(member)
        members.append(member)
    return Members(tuple(members))


def encode_footer(footer: Footer) -> bytes:
    """Return the content of the footer's frame."""
    return _pack(footer._asdict())


def decode_footer(content: bytes) -> Footer:
    """Return what the footer says.

    Raises:
        Fault: it is no footer.
    """
    fields = _map(unpack(content))
    _names(fields, Footer._fields)
    for number in fields.values():
        _int(number, U64_MAX)
    return Footer(**fields)


def group_batches(groups: Iterable[Group]) -> Iterator[list[Group]]:
    """Yield the groups in lists of which each fits one frame."""
    return _batches((group, _group_bytes(group)) for group in groups)


def member_batches(members: Iterable[Member]) -> Iterator[list[Member]]:
    """Yield the members in lists of which each fits one frame."""
    return _batches((member, len(_pack(_member_fields(member)))) for member in members)


def unpack(content: bytes) -> Any:
    """Return what msgpack ``content`` is; maps with text keys, none of them twice.

    Raises:
        Fault: it is not one msgpack value, or has more nesting or longer lists than anything here.
    """
    try:
        return msgpack.unpackb(
            content,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_unique,
            max_array_len=ARCHIVE_FRAME_ROWS_MAX,
            max_map_len=LABELS_MAX,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException):
        # `from None`: what a decoder says of bytes may quote them.
        raise Fault("The content is not what such a frame has.") from None


def _unique(pairs: Sequence[tuple[object, object]]) -> dict[object, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice")
    return fields


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def _limited(content: bytes) -> bytes:
    if len(content) > ARCHIVE_FRAME_BYTES_MAX:
        raise Fault("The content is larger than a frame may be.")
    return content


_HEADER_FIELDS = tuple(Header.__dataclass_fields__)
_MEMBER_FIELDS = tuple(Member.__dataclass_fields__)


def _member_fields(member: Member) -> dict[str, object]:
    return {name: getattr(member, name) for name in _MEMBER_FIELDS}


def _group_bytes(group: Group) -> int:
    return len(_pack([group.name, [list(rule) for rule in group.rules]]))


def _batches(sized: Iterable[tuple[_T, int]]) -> Iterator[list[_T]]:
    batch: list[_T] = []
    held = _LIST_HEAD_BYTES
    for item, size in sized:
        if batch and (held + size > ARCHIVE_FRAME_BYTES_MAX or len(batch) == ARCHIVE_FRAME_ROWS_MAX):
            yield batch
            batch, held = [], _LIST_HEAD_BYTES
        batch.append(item)
        held += size
    if batch:
        yield batch


_LIST_HEAD_BYTES = 5


def _check_group(group: Group) -> None:
    _name(group.name)
    if group.name in BUILT_IN_GROUPS:
        raise Fault("A built-in group stands in the archive.")
    if len(group.rules) > GROUP_RULES_MAX:
        raise Fault("A group has more rules than it may have.")
    for rule in group.rules:
        if rule.database is not None:
            _int(rule.database, DATABASE_MAX)
        if type(rule.prefix) is not bytes or len(rule.prefix) > KEY_BYTES_MAX:
            raise Fault("The prefix of a rule is not a key.")
        if type(rule.read) is not bool or type(rule.write) is not bool:
            raise Fault("A rule does not say whether it permits reading or writing.")
    if sum(len(rule.prefix) for rule in group.rules) > GROUP_PREFIX_BYTES_MAX:
        raise Fault("The prefixes of a group are longer than they may be.")


def _check_member(member: Member) -> None:
    _name(member.name)
    if len(member.groups) > TOKEN_GROUPS_MAX:
        raise Fault("A member is in more groups than it may be in.")
    for group in member.groups:
        _name(group)
    _text(member.password_hash, PASSWORD_HASH_CHARS_MAX)
    if member.password_hash and not member.password_hash.startswith("$argon2id$"):
        raise Fault("The password hash of a member is of no known kind.")
    if type(member.disabled) is not bool:
        raise Fault("A member's record does not say whether it is disabled.")
    for moment in (member.created_at_ms, member.updated_at_ms, member.password_changed_at_ms):
        _int(moment, TIME_MS_MAX)


def _names(fields: Mapping[str, object], expected: Iterable[str]) -> None:
    if set(fields) != set(expected):
        raise Fault("A field is missing, or there is one that nobody knows.")


def _map(value: Any) -> dict[str, Any]:
    if type(value) is not dict or not all(type(name) is str for name in value):
        raise Fault("There is no map with text names where one belongs.")
    return value


def _list(value: Any, length: int | None = None) -> list[Any]:
    if type(value) is not list or (length is not None and len(value) != length):
        raise Fault("There is no list of the right length where one belongs.")
    return value


def _int(value: Any, largest: int) -> int:
    if type(value) is not int or not 0 <= value <= largest:
        raise Fault("A number is out of its range.")
    return value


def _text(value: Any, chars_max: int) -> str:
    if type(value) is not str or len(value) > chars_max:
        raise Fault("A text is too long, or is none.")
    return value


def _name(value: Any) -> str:
    if not _text(value, NAME_CHARS_MAX):
        raise Fault("A name is empty.")
    return value  # type: ignore[no-any-return]


def _decimal(value: Any, largest: int) -> int:
    text = _text(value, 20)
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and text != "0"):
        raise Fault("A number that is written as text is none.")
    return _int(int(text), largest)
