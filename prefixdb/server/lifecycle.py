"""From ready to gone: signals, the ready file, and an end that takes seconds, not minutes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

_LOG = logging.getLogger("prefixdb.server")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stoppable(Protocol):
    """A running server, as far as its end is concerned."""

    address: str

    async def stop(self) -> None:
        """Let running calls finish, then end."""

    async def hurry(self) -> None:
        """Cut what still runs."""


async def run_until_signalled(app: Stoppable, ready_file: str, announce: Callable[[], None]) -> None:
    """Say that the server is ready, wait for a signal, and stop it. A second signal cuts what still runs.

    Args:
        app: the running server; it is stopped however this ends.
        ready_file: written with the address, whole or not at all, and removed at the end; empty for none.
        announce: called once, after the handlers of the signals are in place.
    """
    loop = asyncio.get_running_loop()
    signalled: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in SIGNALS:
        loop.add_signal_handler(number, signalled.put_nowait, number)
    try:
        if ready_file:
            _write_whole(Path(ready_file), f"{app.address}\n")
        announce()
        first = await signalled.get()
        _LOG.info("stopping", extra={"signal": first.name})
    finally:
        stopping = asyncio.create_task(app.stop())
        again = asyncio.create_task(_hurry_when_signalled_again(app, signalled))
        try:
            await stopping
        finally:
            again.cancel()
            for number in SIGNALS:
                loop.remove_signal_handler(number)
            if ready_file:
                _remove(Path(ready_file))
    _LOG.info("stopped")


async def _hurry_when_signalled_again(app: Stoppable, signalled: asyncio.Queue[signal.Signals]) -> None:
    second = await signalled.get()
    _LOG.warning("stopping at once", extra={"signal": second.name})
    await app.hurry()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader finds all of it or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="ascii")
    temporary.chmod(0o644)  # For whoever waits for the server; the process keeps what it writes to itself.
    temporary.replace(path)
