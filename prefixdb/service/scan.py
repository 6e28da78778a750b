"""Scan: one snapshot, streamed in pages as fast as the client takes them.

Each row is looked at twice before it leaves: the store's cursor checks that it lies inside the span, and here its
namespace and database are compared with the caller's. A row that fails means the engine under us returned another
tenant's key; the call ends, an alarm is raised, and the gate halts.
"""

from __future__ import annotations

from prefixdb.catalog.policy import check_read_range
from prefixdb.clock import Clock
from prefixdb.keycodec import DATA_HEAD_BYTES
from prefixdb.limits import SCAN_PAGE_BYTES_MAX, SCAN_PAGE_ROWS_MAX
from prefixdb.service.calls import Call, IsolationError, Wire
from prefixdb.service.mutations import readable_range, resumed, user_bounds
from prefixdb.store.base import Row, Store
from prefixdb.v1 import key_value_pb2 as pb


async def run_scan(store: Store, clock: Clock, call: Call, request: pb.ScanRequest, wire: Wire) -> None:
    """Stream the rows of a range; returns after the last page was taken.

    Raises:
        InvalidArgumentError: BAD_RANGE, KEY_TOO_LARGE, BAD_FIELD.
        PermissionDeniedError: NOT_PERMITTED, also when the caller's groups change meanwhile; and when the namespace is
            banned or suspended.
        DataLossError: CORRUPTION, at the point of damage.
        IsolationError: a row outside the caller's database came back from the store.
    """
    whole = readable_range(call.session, request.database, request.range)
    call.needs = lambda session: check_read_range(session, request.database, *user_bounds(whole))
    span = resumed(whole, request.resume_after, request.reverse)
    head = whole.begin[:DATA_HEAD_BYTES]
    left = request.limit or -1
    cursor = store.open_cursor(span, reverse=request.reverse, keys_only=request.keys_only)
    try:
        while left:
            most = SCAN_PAGE_ROWS_MAX if left < 0 else min(left, SCAN_PAGE_ROWS_MAX)
            rows = cursor.fetch(most, SCAN_PAGE_BYTES_MAX)
            if not rows:
                return
            left -= len(rows) if left > 0 else 0
            await wire.send(page_of(rows, head, clock.now_ms()))
            call.refresh()
    finally:
        cursor.close()


def page_of(rows: list[Row], head: bytes, now_ms: int) -> pb.ScanResponse:
    """Return a page of rows whose keys all start with ``head``, the caller's namespace and database.

    Raises:
        IsolationError: one does not.
    """
    page = []
    for key, payload, version, expires_at_ms in rows:
        if not key.startswith(head):
            raise IsolationError
        row = pb.Row(key=key[DATA_HEAD_BYTES:], value=payload, version=version)
        if expires_at_ms:
            row.ttl_ms = max(1, expires_at_ms - now_ms)
        page.append(row)
    return pb.ScanResponse(rows=page)
