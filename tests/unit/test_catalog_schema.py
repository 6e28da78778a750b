"""Goal: what the catalog has written stays readable for ever, and damaged records are refused, never guessed at.

Method: frozen bytes of every key and record; each record is read back, then broken field by field: left out, and given
every other type.
"""

from __future__ import annotations

import msgpack
import pytest

from prefixdb.catalog import member_records, schema
from prefixdb.catalog.entities import (
    Ban,
    GrantEffect,
    GrantRecord,
    Group,
    Guardian,
    LoginRecord,
    MemberRecord,
    NamespaceIssue,
    NamespaceRecord,
    NamespaceState,
    Privilege,
    ReclaimPhase,
    ReclaimReport,
    Rule,
    ServiceTokenRecord,
)
from prefixdb.catalog.schema import Tag
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.records import encode_record
from prefixdb.store.base import Row

NAMESPACE = NamespaceRecord(7, "acme", NamespaceState.READ_ONLY, 5, {"tier": "gold"}, 1000, 2000, "late", 9)
BAN = Ban(7, 5, "acme", 3000, "root@0", "unpaid", 4000, NamespaceState.READ_ONLY, "late", 5000, 60, 70, 8000)
REPORT = ReclaimReport(7, "acme", 5, ReclaimPhase.DONE, 3000, "root@0", "unpaid", 4000, 5000, 8000, 90, 90, 60, 70)
GROUP = Group("half", (Rule(None, b"", read=True, write=False), Rule(3, b"a\xff", read=False, write=True)))
TOKEN = ServiceTokenRecord("0a", "bob", ("readers",), Guardian.NAMESPACE, 1, 2, "root@0", "root", 2**60, True)
MEMBER = MemberRecord(
    "ann", ("readers", "a"), "$hash", False, 10, 20, 30, (Privilege.AUDIT,), NamespaceIssue(2**64 - 2, 5), 9
)
GRANT = GrantRecord("ann", NamespaceIssue(2**63, 5), GrantEffect.ALLOW, ("readers",), 10)
LOGIN = LoginRecord("f0", "ann", "j0", NamespaceIssue(7, 5), 10, 20)

KEYS = [
    (schema.catalog_key(Tag.META), "00000000000000000001"),
    (schema.namespace_key(7), "000000000000000000020000000000000007"),
    (schema.name_key("acme"), "0000000000000000000361636d65"),
    (schema.ban_key(7), "000000000000000000040000000000000007"),
    (schema.report_key(7, 5), "0000000000000000000500000000000000070000000000000005"),
    (schema.watermark_key(None), "00000000000000000006"),
    (schema.watermark_key(7), "000000000000000000060000000000000007"),
    (schema.watermark_key(7, "bob"), "000000000000000000060000000000000007626f62"),
    (schema.signing_key_key("ab"), "000000000000000000076162"),
    (schema.revoked_token_key(7, "0a"), "0000000000000000000800000000000000073061"),
    (schema.group_key(7, "half"), "0000000000000007002068616c66"),
    (schema.service_token_key(7, "0a"), "000000000000000700213061"),
    (member_records.member_key(7, "a@b"), "00000000000000070022614062"),
    (member_records.grant_key("ann", 7), "00000000000000000023616e6e000000000000000007"),
    (member_records.grant_key("ann", None), "00000000000000000023616e6e00ffffffffffffffff"),
    (member_records.login_key(7, "ann", "f0"), "00000000000000070024616e6e006630"),
]


@pytest.mark.parametrize(("key", "expected"), KEYS)
def test_keys_are_frozen(key, expected):
    assert key.hex() == expected


RECORDS = {
    "namespace": (
        schema.encode_namespace(NAMESPACE),
        {
            "name": "acme",
            "state": 2,
            "labels": {"tier": "gold"},
            "created_at_ms": 1000,
            "updated_at_ms": 2000,
            "reason": "late",
            "incarnation": 5,
        },
        lambda row: schema.decode_namespace(7, row),
        NAMESPACE,
    ),
    "ban": (
        schema.encode_ban(BAN),
        {
            "incarnation": 5,
            "name": "acme",
            "banned_at_ms": 3000,
            "by": "root@0",
            "reason": "unpaid",
            "reclaim_after_ms": 4000,
            "prior_state": 2,
            "prior_reason": "late",
            "started_at_ms": 5000,
            "bytes_before": 60,
            "rows_before": 70,
            "reclaimed_at_ms": 8000,
        },
        lambda row: schema.decode_ban(7, row),
        BAN,
    ),
    "report": (
        schema.encode_report(REPORT),
        {
            "name": "acme",
            "banned_at_ms": 3000,
            "by": "root@0",
            "reason": "unpaid",
            "reclaim_after_ms": 4000,
            "started_at_ms": 5000,
            "finished_at_ms": 8000,
            "bytes_total": 90,
            "bytes_freed": 60,
            "rows_dropped": 70,
        },
        lambda row: schema.decode_report(schema.id_bytes(7) + schema.id_bytes(5), row),
        REPORT,
    ),
    "group": (
        schema.encode_group(GROUP),
        {"rules": [[None, b"", True, False], [3, b"a\xff", False, True]]},
        lambda row: schema.decode_group("half", row),
        GROUP,
    ),
    "service token": (
        schema.encode_service_token(TOKEN),
        {
            "subject": "bob",
            "groups": ["readers"],
            "guardian": 1,
            "issued_at_s": 1,
            "expires_at_s": 2,
            "issued_by": "root@0",
            "minted_by": "root",
            "revision": 2**60,
            "revoked": True,
        },
        lambda row: schema.decode_service_token("0a", row),
        TOKEN,
    ),
    "member": (
        member_records.member_put(7, MEMBER).payload,
        {
            "groups": ["readers", "a"],
            "password_hash": "$hash",
            "disabled": False,
            "created_at_ms": 10,
            "updated_at_ms": 20,
            "password_changed_at_ms": 30,
            "privileges": [3],
            "main": [2**64 - 2, 5],
        },
        lambda row: member_records.decode_member("ann", row),
        MEMBER,
    ),
    "grant": (
        member_records.grant_put(GRANT).payload,
        {"incarnation": 5, "effect": 1, "groups": ["readers"], "created_at_ms": 10},
        lambda row: member_records.decode_grant(member_records.grant_record_key("ann", 2**63), row),
        GRANT,
    ),
    "login": (
        member_records.login_put(7, LOGIN).payload,
        {"refresh_jti": "j0", "into": [7, 5], "created_at_ms": 10, "expires_at_ms": 20},
        lambda row: member_records.decode_login(b"ann\0f0", row),
        LOGIN,
    ),
}


def row(payload: bytes, version: int = 9) -> Row:
    return Row(b"", payload, version, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", RECORDS)
def test_records_are_frozen_and_read_back_equal(kind):
    written, fields, decode, value = RECORDS[kind]
    assert written == b"\x01" + msgpack.packb(fields, use_bin_type=True)
    assert decode(row(written)) == value


def test_the_creating_row_takes_its_incarnation_from_its_own_version():
    written = schema.encode_namespace(NAMESPACE, creating=True)
    assert b"incarnation" not in written
    assert schema.decode_namespace(7, row(written, 42)).incarnation == 42


WRONG = [None, True, -1, 1.5, "text", b"bytes", [1], {"a": 1}, {1: "a"}, 2**63]


def broken(kind: str):
    _, fields, decode, _ = RECORDS[kind]
    for name, value in fields.items():
        if (kind, name) != ("namespace", "incarnation"):  # Its absence has a meaning.
            yield f"{name} missing", decode, {key: field for key, field in fields.items() if key != name}
        for wrong in WRONG:
            if is_wrong(name, value, wrong):
                yield f"{name} = {wrong!r}", decode, {**fields, name: wrong}


def is_wrong(name: str, right: object, wrong: object) -> bool:
    """True when ``wrong`` cannot stand in the field: another type, a negative number, an unknown enum, a bad entry."""
    if (name, wrong) in (("main", None), ("privileges", [1])):
        return False  # These can be.
    if type(wrong) is not type(right):
        return True
    if isinstance(wrong, int):
        return wrong < 0 or name in ("state", "prior_state", "guardian", "effect")
    return (
        isinstance(wrong, list) or (isinstance(wrong, dict) and "a" in wrong and wrong["a"] == 1) or wrong == {1: "a"}
    )


@pytest.mark.parametrize(
    ("what", "decode", "fields"),
    [pytest.param(*case, id=f"{kind}: {case[0]}") for kind in RECORDS for case in broken(kind)],
)
def test_a_record_with_a_missing_or_mistyped_field_is_damage(what, decode, fields):
    with pytest.raises(PrefixdbError) as caught:
        decode(row(encode_record(fields)))
    assert caught.value.reason is Reason.CORRUPTION


BAD_ENTRIES = [
    ("member", "privileges", [0]),
    ("member", "privileges", [5]),
    ("member", "privileges", ["1"]),
    ("member", "privileges", [True]),
    ("member", "groups", ["a", None]),
    ("member", "main", []),
    ("member", "main", [1, 2, 3]),
    ("member", "main", [-1, 1]),
    ("member", "main", ["1", 1]),
    ("grant", "groups", [b"a"]),
    ("grant", "effect", 3),
    ("grant", "effect", 0),
    ("login", "into", [1, None]),
    ("login", "into", [1.0, 1]),
]


@pytest.mark.parametrize(("kind", "name", "entry"), BAD_ENTRIES)
def test_a_malformed_entry_is_damage(kind, name, entry):
    _, fields, decode, _ = RECORDS[kind]
    with pytest.raises(PrefixdbError) as caught:
        decode(row(encode_record({**fields, name: entry})))
    assert caught.value.reason is Reason.CORRUPTION


@pytest.mark.parametrize(
    ("decode", "key"),
    [
        (member_records.decode_grant, b"ann"),
        (member_records.decode_grant, b"ann\0" + bytes(7)),
        (member_records.decode_grant, b"ann\0" + bytes(9)),
        (member_records.decode_grant, b"\xff\0" + bytes(8)),
        (member_records.decode_login, b"ann"),
        (member_records.decode_login, b"\xff\0f0"),
        (member_records.decode_login, b"ann\0\xff"),
    ],
)
def test_a_malformed_key_is_damage(decode, key):
    payload = RECORDS["grant" if decode is member_records.decode_grant else "login"][0]
    with pytest.raises(PrefixdbError) as caught:
        decode(key, row(payload))
    assert caught.value.reason is Reason.CORRUPTION


def test_a_grant_of_all_namespaces_and_a_member_of_none_read_back_equal():
    wide = GrantRecord("ann", None, GrantEffect.DENY, (), 10)
    put = member_records.grant_put(wide)
    assert member_records.decode_grant(member_records.grant_record_key("ann", None), row(put.payload)) == wide
    plain = MemberRecord("ann", (), "", True, 1, 2, 0, row_version=9)
    assert member_records.decode_member("ann", row(member_records.member_put(7, plain).payload)) == plain


def test_a_login_leaves_by_itself_after_its_refresh_token_and_the_leeway():
    assert member_records.login_put(7, LOGIN).expires_at_ms == 20 + 30_000


BAD_RULES = [
    [],
    [None, b"", True],
    [None, b"", True, False, 1],
    ["0", b"", True, True],
    [True, b"", True, True],
    [None, "", True, True],
    [None, b"", 1, True],
    [None, b"", True, None],
    [65_536, b"", True, True],
    [-1, b"", True, True],
    None,
    {},
]


@pytest.mark.parametrize("entry", BAD_RULES)
def test_a_malformed_rule_is_damage(entry):
    with pytest.raises(PrefixdbError) as caught:
        schema.decode_group("g", row(encode_record({"rules": [entry]})))
    assert caught.value.reason is Reason.CORRUPTION


def test_tags_are_distinct_and_leave_zero_to_the_store():
    assert len({int(tag) for tag in Tag}) == len(Tag) and 0 not in {int(tag) for tag in Tag}
