"""Proof at start-up that the extension and the RocksDB it was linked with behave as the store relies on.

The same questions as ``selftest`` asks the other binding, and one of its own: that a compaction drops what was
published and what has expired, and not a row of a neighbour. It takes a few dozen milliseconds, once per process and
engine.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import RowKey, Span, data_key, database_span, namespace_span
from prefixdb.limits import MIB
from prefixdb.store.base import Commit, CommitResult, DeleteSpan, Put, Row
from prefixdb.store.engine import EngineOptions
from prefixdb.store.native_cursor import EngineCursor, NativeCursor
from prefixdb.store.selftest import fail

_OURS, _FOREIGN, _BANNED = 7, 8, 9
_ROWS = 40
_NOW_MS = 1_000


class TestedEngine(Protocol):
    """What is tested; see ``native.NativeEngine``."""

    def open_cursor(
        self, begin: bytes, end: bytes, *, reverse: bool, keys_only: bool, bound: bytes
    ) -> EngineCursor: ...
    def get(self, key: bytes) -> Row | None: ...
    def commit(self, commits: Sequence[Commit], now_ms: int) -> list[CommitResult]: ...
    def last_sequence(self) -> int: ...
    def publish_bans(self, namespace_ids: Sequence[int]) -> None: ...
    def set_expiry_horizon(self, expires_before_ms: int) -> None: ...
    def has_any_version(self, begin: bytes, end: bytes) -> bool: ...
    def flush(self) -> None: ...
    def compact(self, begin: bytes | None, end: bytes | None) -> bool: ...
    def close(self) -> None: ...


TestedOpener = Callable[[Path, EngineOptions], TestedEngine]
Translate = Callable[[Exception], BaseException]

_passed: set[TestedOpener] = set()


def check_native(opener: TestedOpener, translate: Translate) -> None:
    """Return when the engine behaves; the answer is remembered for the life of the process.

    Args:
        opener: opens engines.
        translate: makes prefixdb's errors of the engine's.

    Raises:
        InternalError: it does not; the message says what was found. The store must not serve on it.
    """
    if opener in _passed:
        return
    directory = Path(tempfile.mkdtemp(prefix="prefixdb-selftest-"))
    try:
        _check_live(opener, translate, directory / "db")
        _check_damage(opener, translate, directory / "db")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    _passed.add(opener)


def _check_live(opener: TestedOpener, translate: Translate, path: Path) -> None:
    engine = opener(path, EngineOptions(cache_bytes=MIB, write_buffer_bytes=MIB, create=True, sync=False))
    try:
        # Values that do not compress, so that the file has a block worth damaging.
        ours = tuple(Put(data_key(_OURS, 0, b"row %03d" % number), bytes(range(256))) for number in range(_ROWS))
        others = (Put(data_key(_FOREIGN, 0, b"foreign"), b"theirs"), Put(data_key(_BANNED, 0, b"banned"), b"gone"))
        if engine.commit([Commit((*ours, *others))], _NOW_MS)[0].version != engine.last_sequence():
            fail("a commit has another version than its number in the log")
        _check_bounds(engine, translate)
        _check_view(engine, translate)
        _check_ranges(engine)
        engine.flush()
        _check_filter(engine)
    finally:
        engine.close()


def _check_bounds(engine: TestedEngine, translate: Translate) -> None:
    span = namespace_span(_OURS)
    for reverse in (False, True):
        if len(_walk(engine, translate, span.end, reverse)) != _ROWS:
            fail("a scan left its range or lost rows")
    # A cursor whose engine iterator runs further than the cursor's own span must notice the first foreign key.
    try:
        _walk(engine, translate, namespace_span(_FOREIGN).end)
    except PrefixdbError as noticed:
        if noticed.reason is not Reason.INTERNAL:
            raise
    else:
        fail("a foreign row passed the check of keys")


def _check_view(engine: TestedEngine, translate: Translate) -> None:
    cursor = _cursor(engine, translate, namespace_span(_OURS).end)
    try:
        engine.commit([Commit((Put(data_key(_OURS, 0, b"later"), b""),))], _NOW_MS)
        if cursor.count(10 * _ROWS) != _ROWS:
            fail("a cursor sees rows written after it was opened")
    finally:
        cursor.close()


def _check_ranges(engine: TestedEngine) -> None:
    begin = data_key(_OURS, 0, b"x")
    before = engine.last_sequence()
    span = Span(begin, RowKey(begin + b"z"))
    (result,) = engine.commit([Commit((DeleteSpan(span), Put(begin, b"x")))], _NOW_MS)
    if result.version != before + 2 or engine.last_sequence() != before + 2 or engine.get(begin) is None:
        fail("a range delete in a batch is counted or applied in a way that was not expected")


def _check_filter(engine: TestedEngine) -> None:
    expired, alive = data_key(_FOREIGN, 0, b"expired"), data_key(_FOREIGN, 0, b"foreign")
    engine.commit([Commit((Put(expired, b"", _NOW_MS), Put(data_key(_FOREIGN, 0, b"later"), b"", _NOW_MS + 1)))], 1)
    engine.flush()
    engine.publish_bans([_BANNED])
    engine.set_expiry_horizon(_NOW_MS)
    engine.compact(None, None)
    banned = namespace_span(_BANNED)
    if engine.has_any_version(banned.begin, banned.end) or engine.get(expired) is not None:
        fail("a compaction did not drop what is banned or expired")
    if engine.get(alive) is None or engine.get(data_key(_FOREIGN, 0, b"later")) is None:
        fail("a compaction dropped what is neither banned nor expired")


def _check_damage(opener: TestedOpener, translate: Translate, path: Path) -> None:
    for table in path.glob("*.sst"):
        content = bytearray(table.read_bytes())
        content[64] ^= 0xFF
        table.write_bytes(content)
    engine = opener(path, EngineOptions(cache_bytes=MIB, write_buffer_bytes=MIB))
    try:
        _walk(engine, translate, database_span(_OURS, 0).end)
    except PrefixdbError as noticed:
        if noticed.reason is not Reason.CORRUPTION:
            raise
    else:
        fail("a damaged block shortened a scan without an error")
    finally:
        engine.close()


def _walk(engine: TestedEngine, translate: Translate, bound: bytes, reverse: bool = False) -> list[bytes]:
    cursor = _cursor(engine, translate, bound, reverse)
    try:
        keys: list[bytes] = []
        while rows := cursor.fetch(_ROWS // 3, MIB):
            keys += [row.key for row in rows]
        return keys
    finally:
        cursor.close()


def _cursor(engine: TestedEngine, translate: Translate, bound: bytes, reverse: bool = False) -> NativeCursor:
    span = namespace_span(_OURS)
    handle = engine.open_cursor(span.begin, span.end, reverse=reverse, keys_only=False, bound=bound)
    return NativeCursor(handle, None, check=lambda: None, translate=translate)
