"""The manifest of one backup: what it is of, and every file with its size and SHA-256.

    manifest := head file-lines tail sum
    head     := JSON object without its closing brace, then ``, "files": [`` and a line end
    file     := ["PATH", SIZE, "SHA-256 in 64 hex digits"], one a line, a comma after each but the last
    tail     := "]}" and a line end
    sum      := "sha256 " + 64 hex digits of the SHA-256 of all bytes before + a line end

All but the last line is one JSON document, so any tool reads it. prefixdb reads it line by line and takes no other
spelling: a manifest may come from anywhere, and what it unfolds to in memory is a small multiple of its size. Files
ascend strictly by path, which also says that none is there twice. The sum finds accidents; it is no signature.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.limits import BACKUP_FILES_MAX, KIB

FORMAT = 1
KIND = "prefixdb backup"

BACKUP_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
"""The instant of a backup in UTC to the second, and eight random digits."""

FILE_PATH = re.compile(
    r"db/(?:CURRENT|MANIFEST-[0-9]{1,20}|OPTIONS-[0-9]{1,20}|[0-9]{1,20}\.sst)|store-state\.json|bans\.jsonl"
)
"""Every path a backup may have; no other is ever made at a restore."""

FILE_BYTES_MAX = 2**50
"""Largest file that is believed, a pebibyte: sums of sizes stay far below 64 bits."""

HEAD_BYTES_MAX = 16 * KIB
_FILE_LINE_BYTES_MAX = 160
MANIFEST_BYTES_MAX = HEAD_BYTES_MAX + BACKUP_FILES_MAX * _FILE_LINE_BYTES_MAX
"""Largest manifest that is read."""

_TEXT_CHARS_MAX = 200
_INSTANT_MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999."""

_OPEN = b', "files": ['
_TAIL = b"\n]}\n"
_SUM = re.compile(rb"sha256 ([0-9a-f]{64})\n")
_SUM_BYTES = 72
_FILE_LINE = re.compile(rb'\["([A-Za-z0-9./-]{1,40})", (0|[1-9][0-9]{0,15}), "([0-9a-f]{64})"\]')
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,19}")
_NEEDED = ("db/CURRENT", "store-state.json", "bans.jsonl")


@dataclass(frozen=True, slots=True)
class BackupFile:
    """One file of a backup: its path below the data directory, its size in bytes and its SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """One backup.

    Attributes:
        id: its name, see ``BACKUP_ID``.
        taken_at_ms: the instant it shows, by the server's clock.
        server_version: of prefixdb.
        store: "native" or "rocksdict".
        engine: the engine's own name and version.
        store_id: names the data directory it was taken from.
        last_version: of the newest commit in it.
        namespaces_live: that it holds.
        namespaces_banned: whose rows it may still hold.
        files: ascending by path.
    """

    id: str
    taken_at_ms: int
    server_version: str
    store: str
    engine: str
    store_id: str
    last_version: int
    namespaces_live: int
    namespaces_banned: int
    files: tuple[BackupFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def file(self, path: str) -> BackupFile:
        """Return the file of this path.

        Raises:
            KeyError: there is none.
        """
        for file in self.files:
            if file.path == path:
                return file
        raise KeyError(path)


def new_backup_id(taken_at_ms: int) -> str:
    """Return a name for a backup of this instant."""
    return f"{_second(taken_at_ms)}-{secrets.token_hex(4)}"


def invalid(place: str, what: str) -> PrefixdbError:
    """Return ARCHIVE_INVALID for ``place``; ``what`` is the rest of its sentence, for example "is a link"."""
    return error(Reason.ARCHIVE_INVALID, f"{place} {what}.", metadata={"place": place})


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's bytes.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID; it breaks a rule of the grammar.
    """
    check_manifest(manifest, f"backup {manifest.id}")
    head = {
        "format": FORMAT,
        "kind": KIND,
        "id": manifest.id,
        "taken_at_ms": manifest.taken_at_ms,
        "server_version": manifest.server_version,
        "store": manifest.store,
        "engine": manifest.engine,
        "store_id": manifest.store_id,
        # As text: a JSON number would lose bits above 2^53 in other hands.
        "last_version": str(manifest.last_version),
        "namespaces_live": manifest.namespaces_live,
        "namespaces_banned": manifest.namespaces_banned,
    }
    lines = ",\n".join(f'["{file.path}", {file.size}, "{file.sha256}"]' for file in manifest.files)
    body = json.dumps(head).encode("ascii")[:-1] + _OPEN + b"\n" + lines.encode("ascii") + _TAIL
    return body + b"sha256 " + hashlib.sha256(body).hexdigest().encode("ascii") + b"\n"


def decode_manifest(data: bytes, place: str) -> Manifest:
    """Return the manifest that ``data`` is.

    Args:
        data: from anywhere.
        place: where it stands, for errors.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID, with the place in its metadata.
        FailedPreconditionError: FORMAT_TOO_NEW.
    """
    body, found = data[:-_SUM_BYTES], _SUM.fullmatch(data[-_SUM_BYTES:])
    if len(data) > MANIFEST_BYTES_MAX or found is None:
        raise invalid(place, "is cut short or no manifest: its last line is no SHA-256")
    if hashlib.sha256(body).hexdigest().encode("ascii") != found[1]:
        raise invalid(place, "was changed or damaged: its SHA-256 is not the one in its last line")
    line, _, rest = body.partition(b"\n")
    head = _decode_head(line, place)
    if not rest.endswith(_TAIL):
        raise invalid(f"{place}, the end", "is not the end of a manifest")
    lines = rest[: -len(_TAIL)].split(b"\n")
    if len(lines) > BACKUP_FILES_MAX:
        raise invalid(place, f"lists {len(lines):,} files; the limit is {BACKUP_FILES_MAX:,}")
    files = tuple(
        _decode_file(text, number == len(lines), f"{place}, line {number + 1}") for number, text in enumerate(lines, 1)
    )
    manifest = Manifest(**head, files=files)
    check_manifest(manifest, place)
    return manifest


def check_manifest(manifest: Manifest, place: str) -> None:
    """Hold a manifest against every rule.

    Raises:
        InvalidArgumentError: ARCHIVE_INVALID, with the place in its metadata.
    """
    if not 0 <= manifest.taken_at_ms <= _INSTANT_MS_MAX:
        raise invalid(place, "has a time that is none")
    if not BACKUP_ID.fullmatch(manifest.id) or not manifest.id.startswith(_second(manifest.taken_at_ms)):
        raise invalid(place, "has an id that is none of its time")
    for text in (manifest.server_version, manifest.store, manifest.engine, manifest.store_id):
        if len(text) > _TEXT_CHARS_MAX or not text.isprintable():
            raise invalid(place, "has a text that is too long or cannot be printed")
    for count in (manifest.last_version, manifest.namespaces_live, manifest.namespaces_banned):
        if not 0 <= count < 2**64:
            raise invalid(place, "has a number that is out of bounds")
    _check_files(manifest.files, place)


def _check_files(files: tuple[BackupFile, ...], place: str) -> None:
    before = ""
    for file in files:
        if not FILE_PATH.fullmatch(file.path):
            raise invalid(place, f"lists {file.path[:80]!r}, which is no file of a backup")
        if file.path <= before:
            raise invalid(place, f"lists {file.path} twice or not in order")
        if not 0 <= file.size <= FILE_BYTES_MAX or not _DIGEST.fullmatch(file.sha256):
            raise invalid(place, f"lists {file.path} with a size or SHA-256 that is none")
        before = file.path
    paths = {file.path for file in files if not file.path.endswith(".sst")}
    missing = [path for path in _NEEDED if path not in paths]
    if missing:
        raise invalid(place, f"does not list {missing[0]}, without which nothing can be restored")
    if sum(path.startswith("db/MANIFEST-") for path in paths) != 1:
        raise invalid(place, "does not list exactly one db/MANIFEST-N")


def _decode_head(line: bytes, place: str) -> dict[str, Any]:
    """Return the facts of the first line, of the right types."""
    if len(line) > HEAD_BYTES_MAX or not line.endswith(_OPEN):
        raise invalid(f"{place}, line 1", "is not the head of a manifest")
    try:
        head = json.loads(
            line[: -len(_OPEN)] + b"}", object_pairs_hook=_once, parse_float=_refuse, parse_constant=_refuse
        )
    except (ValueError, RecursionError) as failure:
        raise invalid(f"{place}, line 1", "is not the head of a manifest") from failure
    if not isinstance(head, dict) or head.pop("kind", None) != KIND or type(head.get("format")) is not int:
        raise invalid(f"{place}, line 1", "is not the head of a backup's manifest")
    if head.pop("format") != FORMAT:
        message = f"{place} has a newer format than {FORMAT}, the newest this prefixdb reads; use a newer prefixdb."
        raise error(Reason.FORMAT_TOO_NEW, message, metadata={"place": place})
    texts = {"id", "server_version", "store", "engine", "store_id", "last_version"}
    numbers = {"taken_at_ms", "namespaces_live", "namespaces_banned"}
    if head.keys() != texts | numbers:
        raise invalid(f"{place}, line 1", "has not exactly the fields of a manifest")
    if any(type(head[name]) is not str for name in texts) or any(type(head[name]) is not int for name in numbers):
        raise invalid(f"{place}, line 1", "has a field of the wrong type")
    if not _NUMBER.fullmatch(head["last_version"]):
        raise invalid(f"{place}, line 1", "has a last_version that is no number")
    head["last_version"] = int(head["last_version"])
    return head


def _decode_file(line: bytes, last: bool, place: str) -> BackupFile:
    found = None
    if last or line.endswith(b","):
        found = _FILE_LINE.fullmatch(line if last else line[:-1])
    if found is None:
        raise invalid(place, "is no file of a manifest")
    return BackupFile(found[1].decode("ascii"), int(found[2]), found[3].decode("ascii"))


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these members, each of which may stand there once."""
    members = list(pairs)
    content = dict(members)
    if len(content) != len(members):
        raise ValueError("a member stands there twice")
    return content


def _refuse(text: str) -> None:
    raise ValueError("a manifest has whole numbers only")


def _second(taken_at_ms: int) -> str:
    return datetime.fromtimestamp(taken_at_ms // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
