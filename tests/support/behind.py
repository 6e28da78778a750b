"""A server as it stands behind a front, without one: tests call its socket and say who is calling, as a front would.

Whatever a front would keep from the server (metadata of a client under the front's names) can be sent here, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from prefixdb.clock import Clock
from prefixdb.server import app as app_module
from prefixdb.server.app import App
from prefixdb.server.behind import ServerBehind
from prefixdb.server.fronts import PythonFront
from prefixdb.server.unix_socket import PREFIX
from prefixdb.service.peers import ADDRESS_KEY, CERTIFICATE_KEY
from tests.support.server import Caller, RunningServer, running

SOMEWHERE = "ipv4:198.51.100.7:4711"
"""The address of callers whose test does not care."""


class NoFront(PythonFront):
    """Takes a front's place and does nothing of what it does."""

    def __init__(self, app: App) -> None:
        self._behind = ServerBehind(app.gate, app.config.data_dir)
        self.address = ""

    async def start(self) -> None:
        """Open the socket."""
        self.address = PREFIX + quote(await self._behind.start())

    async def stop(self, grace_s: float | None) -> None:
        """Close it."""
        await self._behind.stop(grace_s)
        self._behind.close()


@contextlib.asynccontextmanager
async def behind(
    data_dir: Path, *, clock: Clock | None = None, settings: Mapping[str, object] | None = None
) -> AsyncIterator[RunningServer]:
    """Start a server that believes a front stands before it; as ``running``. The guardian comes through the front."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_module, "choose_front", lambda *_: "native")
        patch.setattr(App, "_make_front", lambda app: NoFront(app))
        async with running(data_dir, clock=clock, settings=settings) as server:
            forwarded(server.guardian)
            yield server


def forwarded(caller: Caller, address: str = SOMEWHERE, certificate: bytes = b"") -> Caller:
    """Return the caller as one whose calls a front passes on."""
    told: tuple[tuple[str, Any], ...] = ((ADDRESS_KEY, address),)
    if certificate:
        told += ((CERTIFICATE_KEY, certificate),)
    caller.metadata += told
    return caller
