"""Walking a range: pages as the server sends them, and going on where a broken stream stopped.

While one page is consumed the next one is received, and no more than that.

One stream is one snapshot. When it breaks (the server restarts, the connection is lost) the walk goes on behind the
last row that was received: nothing is skipped, nothing comes twice, but the rest is read from a newer snapshot. Who
needs one snapshot at any price passes ``resume=False`` and gets the error instead.
"""

from __future__ import annotations

import time

from prefixdb.client import methods
from prefixdb.client.aio import wire
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.methods import backoff_s
from prefixdb.errors import CancelledError, DeadlineExceededError, PrefixdbError, UnauthenticatedError, UnavailableError
from prefixdb.v1 import key_value_pb2


async def scan_pages(
    connection: AsyncConnection, request: key_value_pb2.ScanRequest, *, deadline_s: float, resume: bool
) -> wire.Stream[key_value_pb2.ScanResponse]:
    """Yield the pages of a walk until its end.

    Args:
        connection: where to.
        request: the walk; its ``limit`` and ``resume_after`` are moved on as pages come.
        deadline_s: the longest wait for one page.
        resume: whether to go on after the stream broke, for up to ``options.resume_s`` since the last page.
    """
    left = request.limit or None
    attempt = 0
    renewed = False
    pages = 0
    alive_at = time.monotonic()
    while True:
        moved = False
        messages = None
        try:
            messages = await connection.open_stream(methods.SCAN, request)
            while (page := await messages.receive(deadline_s)) is not None:
                attempt, moved, renewed = 0, True, False
                if page.rows:
                    request.resume_after = page.rows[-1].key
                if left is not None:
                    left -= len(page.rows)
                    request.limit = max(left, 1)
                is_last = left is not None and left <= 0
                if not is_last and pages:  # Most walks are over after one page, and need nothing in advance.
                    messages.prefetch()
                pages += 1
                yield page
                alive_at = time.monotonic()
                if is_last:
                    return
            return
        except PrefixdbError as failure:
            attempt += 1
            wait_s = backoff_s(attempt, failure)
            out_of_time = time.monotonic() + wait_s > alive_at + connection.options.resume_s
            if isinstance(failure, UnauthenticatedError):
                # The token has ended, as it may in a long walk. One that is refused at once is not asked for again.
                if messages is None or renewed or not resume or not await connection.renew(messages.token):
                    raise
                renewed = True
            elif not resume or out_of_time or not _can_go_on(failure, moved=moved):
                raise
        finally:
            if messages is not None:
                messages.cancel()
        await wire.sleep(wait_s)


def _can_go_on(failure: PrefixdbError, *, moved: bool) -> bool:
    """True when a new stream may succeed where this one failed; ``moved`` when this one had brought a page."""
    if isinstance(failure, DeadlineExceededError):
        # Our own wait for a page is over: the server is too slow. But when it was the server who cut the stream, we
        # were: it waits ten seconds for a consumer, then frees the snapshot. Whoever consumes may well take longer.
        return moved and not isinstance(failure.__cause__, TimeoutError)
    # gRPC calls a stream cancelled when the server's side of it was, for example while it drains.
    return isinstance(failure, UnavailableError | CancelledError)
