"""A server inside this process whose clock stands still: what the random walk restarts and whose time it moves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from prefixdb.server.app import App
from prefixdb.server.config import load_config
from tools.lab.clocks import HeldClock

STOP_S_MAX = 30.0
EPOCH_MS = 1_700_000_000_000


class InProcessHost:
    """A server on an event loop in a thread of its own; the walk's ``Host``.

    Args:
        data_dir: the data directory.
        store: ``auto``, ``native`` or ``rocksdict``.
        write_buffer: memtable size; small ones make files, and with them everything that happens to files.
    """

    def __init__(self, data_dir: Path, *, store: str = "auto", write_buffer: str = "1MiB") -> None:
        self._clock = HeldClock(EPOCH_MS)
        self._config = load_config(
            overrides={
                "server.data_dir": str(data_dir),
                "server.listen": "127.0.0.1:0",
                "server.http": "",
                "store.kind": store,
                "store.write_buffer": write_buffer,
                "store.cache": "16MiB",
            }
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="model-server", daemon=True)
        self._thread.start()
        self._app: App | None = None
        self.address = ""
        self._start()
        self.guardian_token = (data_dir / "guardian.token").read_text(encoding="utf-8").strip()

    def now_ms(self) -> int:
        """Return the held time."""
        return self._clock.now_ms()

    def advance(self, ms: int) -> None:
        """Move the held time on, and have the reclaimer look at it."""
        self._clock.advance(ms)
        if self._app is not None:
            self._app.reclaimer.wake()

    def restart(self) -> None:
        """Stop the server in good order and start it again on its directory."""
        self._stop()
        self._start()

    def close(self) -> None:
        """Stop the server and its thread."""
        try:
            self._stop()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _start(self) -> None:
        self._app = self._await(App.start(self._config, self._clock))
        self.address = self._app.address

    def _stop(self) -> None:
        if self._app is not None:
            app, self._app = self._app, None
            self._await(app.stop(0.5))

    def _await(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(STOP_S_MAX)
