"""A real prefixdb server as a child process: started on a directory, waited for, stopped or killed by process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
READY_S_MAX = 30.0
STOP_S_MAX = 20.0
POLL_S = 0.005


class ServerFailedError(RuntimeError):
    """The server did not start or did not stop; the message holds the end of its log."""


class ServerProcess:
    """One ``prefixdb serve`` at a time on one data directory; may be started again after ``kill`` or ``stop``.

    Args:
        data_dir: the data directory; created by the server when missing. The log and the ready file lie beside it.
        store: ``auto``, ``native`` or ``rocksdict``.
        settings: further settings as environment variables, such as ``{"PREFIXDB_STORE__CACHE": "64MiB"}``.
    """

    def __init__(self, data_dir: Path, *, store: str = "auto", settings: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.address = ""
        self._ready = data_dir.with_name(data_dir.name + ".ready")
        self._log = data_dir.with_name(data_dir.name + ".log")
        self._store = store
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:  # Do not let a slow or failing stop hide what went wrong.
            self.kill()

    @property
    def pid(self) -> int:
        """The running server's process id.

        Raises:
            ServerFailedError: none is running.
        """
        if self._process is None:
            raise ServerFailedError("the server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process and return at once; ``wait_ready`` waits until it takes requests."""
        self._ready.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=ROOT, env=self._environment())

    def wait_ready(self) -> str:
        """Return the address when the server takes requests.

        Raises:
            ServerFailedError: it ended, or is not ready within half a minute.
        """
        limit = time.monotonic() + READY_S_MAX
        while not (self._ready.exists() and (text := self._ready.read_text(encoding="utf-8").strip())):
            if not self.running or time.monotonic() > limit:
                tail = self.log_tail()
                self.kill()
                raise ServerFailedError(f"the server did not start:\n{tail}")
            time.sleep(POLL_S)
        self.address = text.split()[0]
        return self.address

    def start(self) -> float:
        """Start the server and wait until it takes requests; return how many seconds that took."""
        begin = time.monotonic()
        self.launch()
        self.wait_ready()
        return time.monotonic() - begin

    def kill(self) -> None:
        """Kill -9, the process and nothing else; harmless when it is gone already."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Ask the server to drain and end (SIGTERM) and wait for it.

        Raises:
            ServerFailedError: it did not end in time, or not with status 0.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFailedError(f"the server did not end within {STOP_S_MAX:g} s of SIGTERM") from None
        self._process = None
        if status:
            raise ServerFailedError(f"the server ended with status {status}:\n{self.log_tail()}")

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines the server wrote."""
        if not self._log.exists():
            return "(it wrote nothing)"
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def guardian_token_file(self) -> Path:
        """Return the path of the cluster guardian's token."""
        return self.data_dir / "guardian.token"

    def guardian_token(self) -> str:
        """Return the cluster guardian's token."""
        return self.guardian_token_file().read_text(encoding="utf-8").strip()

    def command(self) -> list[str]:
        """Return the command line of the server."""
        command = [sys.executable, "-m", "prefixdb", "serve", "--data-dir", str(self.data_dir)]
        command += ["--listen", "127.0.0.1:0", "--store", self._store, "--ready-file", str(self._ready)]
        return command

    def _environment(self) -> dict[str, str]:
        own = {"PREFIXDB_SERVER__HTTP": "", "PREFIXDB_LOG__LEVEL": "warning"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFIXDB_")}
        return kept | own | self._settings
