"""The plain HTTP side door for machines that watch: /metrics, /livez, /readyz. GET and HEAD only, loopback by default.

It speaks just enough HTTP/1.1 for a probe and a scraper: one request for each connection, a bounded head, a deadline,
a bounded number of connections. It shares the event loop with the gRPC server on purpose: a loop that is stuck fails
its liveness probe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HEAD_BYTES_MAX = 8_192
REQUEST_S_MAX = 5.0
CONNECTIONS_MAX = 64


@dataclass(frozen=True, slots=True)
class Page:
    """What a path answers."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class HttpServer:
    """Serves fixed paths.

    Args:
        pages: what each path answers, made anew for every request.
    """

    def __init__(self, pages: dict[str, Callable[[], Page]]) -> None:
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], None] = {}

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port.

        Raises:
            OSError: the address cannot be bound.
        """
        self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_BYTES_MAX)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close the port; harmless when called again."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: Any = asyncio.current_task()
        if len(self._open) >= CONNECTIONS_MAX:
            # The oldest goes, not the newest: a probe is answered in a millisecond, so what is old is not one.
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cancel()
        self._open[task] = None
        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                writer.write(self._respond(await reader.readuntil(b"\r\n\r\n")))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # A client that sends no request, or goes away, gets its connection closed and nothing else.
        finally:
            self._open.pop(task, None)
            writer.transport.abort()  # What has not been taken by now is not waited for.

    def _respond(self, head: bytes) -> bytes:
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return _render(Page(400, b"bad request\n"), with_body=True)
        verb, target, _ = parts
        if verb not in {b"GET", b"HEAD"}:
            return _render(Page(405, b"only GET\n"), with_body=True)
        make = self._pages.get(target.split(b"?", 1)[0].decode("latin-1"))
        return _render(make() if make else Page(404, b"not found\n"), with_body=verb == b"GET")


def _render(page: Page, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + (page.body if with_body else b"")
