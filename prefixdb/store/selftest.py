"""Proof at start-up that the engine at hand behaves as the store relies on.

The isolation of tenants stands on a binding with known traps (a dangling upper bound, a lower bound that sets the upper
one, snapshots that their iterators ignore, inverted range deletes that poison the database, damage that looks like the
end of the data). The tests hold the compensations for the pinned version; this check holds them for whatever is
installed on the machine that serves. It takes a few dozen milliseconds and runs once per process and engine.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import NoReturn

from prefixdb.errors import InvalidArgumentError, PrefixdbError, Reason, error
from prefixdb.keycodec import RowKey, Span, data_key, database_span, namespace_span
from prefixdb.limits import MIB
from prefixdb.records import encode_value
from prefixdb.store.cursor import LsmCursor, violation
from prefixdb.store.engine import EngineOptions, RowEngine, RowEngineOpener

_OURS, _FOREIGN = 7, 8
_ROWS = 40
_CHURNED_SCANS = 10
_FOREIGN_KEY = data_key(_FOREIGN, 0, b"foreign")

_passed: set[RowEngineOpener] = set()


def check_engine(opener: RowEngineOpener) -> None:
    """Return when the engine behaves; the answer is remembered for the life of the process.

    Raises:
        InternalError: it does not; the message says what was found. The store must not serve on it.
    """
    if opener in _passed:
        return
    directory = Path(tempfile.mkdtemp(prefix="prefixdb-selftest-"))
    try:
        _check_live(opener, directory / "db")
        _check_damage(opener, directory / "db")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    _passed.add(opener)


def _check_live(opener: RowEngineOpener, path: Path) -> None:
    engine = opener(path, EngineOptions(cache_bytes=MIB, write_buffer_bytes=MIB, create=True, sync=False))
    try:
        batch = engine.new_batch()
        for number in range(_ROWS):
            # Values that do not compress, so that the file has a block worth damaging.
            batch.put(data_key(_OURS, 0, b"row %03d" % number), encode_value(bytes(range(256)), 1))
        batch.put(_FOREIGN_KEY, encode_value(b"theirs", 1))
        engine.write(batch)
        _check_bounds(engine)
        _check_view(engine)
        _check_ranges(engine)
        engine.flush()
    finally:
        engine.close()


def _check_bounds(engine: RowEngine) -> None:
    span = namespace_span(_OURS)
    for _ in range(_CHURNED_SCANS):
        if len(_walk(engine, Span(span.begin, _copy(span.end)))) != _ROWS:
            fail("a scan left its range or lost rows")
        if len(_walk(engine, Span(span.begin, _copy(span.end)), reverse=True)) != _ROWS:
            fail("a reverse scan left its range or lost rows")
    # A cursor whose engine iterator runs further than the cursor's own span must notice the first foreign key.
    try:
        _walk(engine, span, bound=namespace_span(_FOREIGN).end)
    except PrefixdbError as noticed:
        if noticed.reason is not Reason.INTERNAL:
            raise
    else:
        fail("a foreign row passed the check of keys")


def _check_view(engine: RowEngine) -> None:
    cursor = _cursor(engine, namespace_span(_OURS), None)
    try:
        batch = engine.new_batch()
        batch.put(data_key(_OURS, 0, b"later"), encode_value(b"", 2))
        engine.write(batch)
        if cursor.count(10 * _ROWS) != _ROWS:
            fail("a cursor sees rows written after it was opened")
    finally:
        cursor.close()


def _check_ranges(engine: RowEngine) -> None:
    begin = data_key(_OURS, 0, b"x")
    try:
        Span(data_key(_OURS, 0, b"y"), begin)
    except InvalidArgumentError:
        pass
    else:
        fail("an inverted range was accepted")
    batch = engine.new_batch()
    batch.delete_range(begin, begin + b"z")
    batch.put(begin, encode_value(b"x", 3))
    before = engine.last_sequence()
    engine.write(batch)
    if engine.last_sequence() != before + 2 or engine.get(begin) is None:
        fail("a range delete in a batch is counted or applied in a way that was not expected")


def _check_damage(opener: RowEngineOpener, path: Path) -> None:
    for table in path.glob("*.sst"):
        content = bytearray(table.read_bytes())
        content[64] ^= 0xFF
        table.write_bytes(content)
    engine = opener(path, EngineOptions(cache_bytes=MIB, write_buffer_bytes=MIB))
    try:
        _walk(engine, database_span(_OURS, 0))
    except PrefixdbError as noticed:
        if noticed.reason is not Reason.CORRUPTION:
            raise
    else:
        fail("a damaged block shortened a scan without an error")
    finally:
        engine.close()


def _walk(engine: RowEngine, span: Span, *, bound: bytes | None = None, reverse: bool = False) -> list[bytes]:
    cursor = _cursor(engine, span, bound, reverse)
    try:
        churn = [bytes([filler]) * len(span.end) for filler in range(200)]
        keys: list[bytes] = []
        while rows := cursor.fetch(_ROWS // 3, MIB):
            keys += [row.key for row in rows]
            churn.append(b"\xff" * (len(churn) % 40))
        return keys
    finally:
        cursor.close()


def _cursor(engine: RowEngine, span: Span, bound: bytes | None, reverse: bool = False) -> LsmCursor:
    handle = engine.iterate(bound if bound is not None else span.end)
    return LsmCursor(handle, span, None, check=lambda: None, on_violation=violation, reverse=reverse)


def _copy(key: bytes) -> RowKey:
    return RowKey(bytes(bytearray(key)))


def fail(finding: str) -> NoReturn:
    """Raise the error that a self-test ends with."""
    raise error(Reason.INTERNAL, f"The storage engine's self-test failed: {finding}. The store does not start on it.")
