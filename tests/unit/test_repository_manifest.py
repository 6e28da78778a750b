"""Goal: a manifest is read only when it is exactly one; every other is refused with the place, and costs little.

Method: frozen bytes; every byte of a manifest changed, every length cut; hostile manifests with a right sum, made here
by hand; nothing of the encoder is used to judge the decoder but for the frozen bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.repository.manifest import BackupFile, Manifest, decode_manifest, encode_manifest, new_backup_id
from tests.support.repositories import CONTENT, NOON_MS, manifest_of

EMPTY = hashlib.sha256(b"").hexdigest()
FROZEN_BODY = (
    b'{"format": 1, "kind": "prefixdb backup", "id": "20231114T221320Z-0a1b2c3d", "taken_at_ms": 1700000000000, '
    b'"server_version": "0.1.0", "store": "native", "engine": "RocksDB 7.8.3", '
    b'"store_id": "0123456789abcdef0123456789abcdef", "last_version": "18446744073709551615", '
    b'"namespaces_live": 3, "namespaces_banned": 1, "files": [\n'
    b'["bans.jsonl", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],\n'
    b'["db/000009.sst", 4000, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],\n'
    b'["db/CURRENT", 16, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],\n'
    b'["db/MANIFEST-000005", 5, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],\n'
    b'["store-state.json", 13, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]\n'
    b"]}\n"
)
MANIFEST = Manifest(
    id="20231114T221320Z-0a1b2c3d",
    taken_at_ms=1_700_000_000_000,
    server_version="0.1.0",
    store="native",
    engine="RocksDB 7.8.3",
    store_id="0123456789abcdef0123456789abcdef",
    last_version=2**64 - 1,
    namespaces_live=3,
    namespaces_banned=1,
    files=(
        BackupFile("bans.jsonl", 0, EMPTY),
        BackupFile("db/000009.sst", 4000, EMPTY),
        BackupFile("db/CURRENT", 16, EMPTY),
        BackupFile("db/MANIFEST-000005", 5, EMPTY),
        BackupFile("store-state.json", 13, EMPTY),
    ),
)


def summed(body: bytes) -> bytes:
    """Return a body with its right last line."""
    return body + b"sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"


def refused(data: bytes) -> PrefixdbError:
    """Return the error with which a manifest is refused."""
    with pytest.raises(PrefixdbError) as caught:
        decode_manifest(data, "HERE")
    return caught.value


def test_the_bytes_of_a_manifest_are_frozen() -> None:
    assert encode_manifest(MANIFEST) == summed(FROZEN_BODY)
    assert decode_manifest(summed(FROZEN_BODY), "HERE") == MANIFEST
    assert hashlib.sha256(FROZEN_BODY).hexdigest() == (
        "1bbed73e2c4669bbef1cd49c0665a3eb68b6a0d7c892ebf82eeea1901c183d03"
    ), "the format has changed: a new format number, and a reader for the old one"


def test_a_change_of_any_byte_is_found() -> None:
    data = summed(FROZEN_BODY)
    for position in range(len(data)):
        for change in (0x01, 0x80):
            flipped = bytearray(data)
            flipped[position] ^= change
            failure = refused(bytes(flipped))
            assert failure.reason is Reason.ARCHIVE_INVALID
            assert failure.metadata["place"].startswith("HERE")


def test_a_manifest_that_is_cut_or_goes_on_is_refused() -> None:
    data = summed(FROZEN_BODY)
    for length in range(len(data)):
        assert refused(data[:length]).reason is Reason.ARCHIVE_INVALID
    for more in (b"\n", b" ", data):
        assert refused(data + more).reason is Reason.ARCHIVE_INVALID
        assert refused(more + data).reason is Reason.ARCHIVE_INVALID


def replace(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Return a change of the body; what it replaces must be there."""

    def change(body: bytes) -> bytes:
        assert old in body
        return body.replace(old, new, 1)

    return change


LINE = b'["db/000009.sst", 4000, "%s"],\n' % EMPTY.encode()
HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "climbing path": replace(b"db/000009.sst", b"../000009.sst"),
    "climbing inside": replace(b"db/000009.sst", b"db/../../x.sst"),
    "absolute path": replace(b"db/000009.sst", b"/etc/passwd"),
    "hidden path": replace(b"db/000009.sst", b"db/.000009.sst"),
    "foreign file": replace(b"db/000009.sst", b"db/IDENTITY"),
    "private key": replace(b"db/000009.sst", b"keys/abc.pem"),
    "empty path": replace(b"db/000009.sst", b""),
    "path with a newline's escape": replace(b"db/000009.sst", b"db/1.sst\\n"),
    "another alphabet's digits": replace(b"db/000009.sst", "db/٠٠٠.sst".encode()),
    "a file twice": replace(LINE, LINE + LINE),
    "not in order": lambda body: body.replace(LINE, b"").replace(b"\n[", b"\n" + LINE + b"[", 1),
    "no CURRENT": lambda body: body.replace(b'["db/CURRENT", 16, "%s"],\n' % EMPTY.encode(), b""),
    "no bans": lambda body: body.replace(b'["bans.jsonl", 0, "%s"],\n' % EMPTY.encode(), b""),
    "no MANIFEST": lambda body: body.replace(b'["db/MANIFEST-000005", 5, "%s"],\n' % EMPTY.encode(), b""),
    "two MANIFESTs": replace(b'["store-state', b'["db/MANIFEST-000006", 5, "%s"],\n["store-state' % EMPTY.encode()),
    "negative size": replace(b" 4000,", b" -1,"),
    "size with a point": replace(b" 4000,", b" 4e3,"),
    "size with zeros before": replace(b" 4000,", b" 04000,"),
    "giant size": replace(b" 4000,", b" 9999999999999999,"),
    "digest in capitals": replace(EMPTY.encode(), EMPTY.upper().encode()),
    "digest too short": replace(EMPTY.encode(), EMPTY[:-1].encode()),
    "a fourth part": replace(b" 4000,", b" 4000, 1,"),
    "other spacing": replace(b'", 4000', b'",4000'),
    "a comma too many": replace(b'"]\n]}', b'"],\n]}'),
    "a comma missing": replace(b'"],\n["db/C', b'"]\n["db/C'),
    "more after the list": replace(b"]}\n", b'], "more": 1}\n'),
    "no files": lambda body: body[: body.index(b"[\n") + 2] + b"]}\n",
    "an empty line": replace(b"],\n[", b"],\n\n["),
    "a field twice": replace(b'"store": ', b'"store": "x", "store": '),
    "a field too many": replace(b'"store": ', b'"extra": 1, "store": '),
    "a field missing": replace(b'"store": "native", ', b""),
    "a number as text": replace(b'"namespaces_live": 3', b'"namespaces_live": "3"'),
    "a truth as a number": replace(b'"namespaces_live": 3', b'"namespaces_live": true'),
    "a number with a point": replace(b'"namespaces_live": 3', b'"namespaces_live": 3.0'),
    "not a number": replace(b'"namespaces_live": 3', b'"namespaces_live": NaN'),
    "a negative number": replace(b'"namespaces_live": 3', b'"namespaces_live": -3'),
    "a version above 64 bits": replace(b"18446744073709551615", b"18446744073709551616"),
    "a version as a number": replace(b'"18446744073709551615"', b"18446744073709551615"),
    "an id of another time": replace(b"20231114T221320Z", b"20231114T221321Z"),
    "an id with a path": replace(b"20231114T221320Z-0a1b2c3d", b"../../../../../x"),
    "a time beyond the year 9999": replace(b"1700000000000", b"900000000000000000"),
    "a negative time": replace(b"1700000000000", b"-1"),
    "a text that steers a terminal": replace(b"RocksDB 7.8.3", b"\\u001b[2J"),
    "a long text": replace(b"RocksDB 7.8.3", b"x" * 201),
    "another kind": replace(b"prefixdb backup", b"prefixdb backups"),
    "deep nesting": replace(b'"store": "native"', b'"store": ' + b"[" * 10_000 + b"]" * 10_000),
    "a head without end": replace(b'"store": "native"', b'"store": "' + b"x" * 20_000 + b'"'),
    "a list": lambda body: b"[" + body,
    "bytes that are no text": replace(b"native", b"\xff\xfe"),
    "format zero": replace(b'"format": 1', b'"format": true'),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_manifest_with_a_right_sum_is_refused(kind: str) -> None:
    body = HOSTILE[kind](FROZEN_BODY)
    assert body != FROZEN_BODY
    failure = refused(summed(body))
    assert failure.reason is Reason.ARCHIVE_INVALID, failure
    assert failure.metadata["place"].startswith("HERE")


def test_a_newer_format_is_told_apart_whatever_follows() -> None:
    failure = refused(summed(replace(b'"format": 1', b'"format": 2')(FROZEN_BODY)))
    assert failure.reason is Reason.FORMAT_TOO_NEW
    assert "newer" in failure.message


def test_the_place_of_a_bad_file_is_its_line() -> None:
    assert refused(summed(HOSTILE["negative size"](FROZEN_BODY))).metadata["place"] == "HERE, line 3"


def test_what_breaks_a_rule_is_never_written() -> None:
    files = manifest_of(CONTENT).files
    for bad in (
        manifest_of(CONTENT, files=files[::-1]),
        manifest_of(CONTENT, files=files[1:]),
        manifest_of(CONTENT, files=(*files, files[-1])),
        manifest_of(CONTENT, files=(*files[:-1], BackupFile("zzz", 1, EMPTY))),
        manifest_of(CONTENT, engine='"}\n'),
        manifest_of(CONTENT, last_version=2**64),
        manifest_of(CONTENT, id="x"),
    ):
        with pytest.raises(PrefixdbError) as caught:
            encode_manifest(bad)
        assert caught.value.reason is Reason.ARCHIVE_INVALID


def test_ids_tell_the_second_and_differ() -> None:
    ids = {new_backup_id(NOON_MS) for _ in range(100)}
    assert len(ids) == 100
    assert all(backup_id.startswith("20231114T221320Z-") for backup_id in ids)
