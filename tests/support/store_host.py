"""A real store in a process of its own, whose disk the shim commands: it can fail, wait, and be killed with -9.

The parent says which function to run on the store (any module-level function, by name); it runs in a thread of the
child, so several calls can be under way at once and a call that waits for the disk blocks no other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.store.base import Store
from tests.store.stores import STORES, VOLATILE
from tests.support.clocks import HeldClock
from tools.crash.shim import Shim

ROOT = Path(__file__).resolve().parents[2]
DURABLE = [name for name in STORES if name not in VOLATILE]
"""The stores that keep anything: those a disk can fail under."""

Answer = TypeVar("Answer")


def other_kind(kind: str) -> str:
    """Return another durable store of this installation; the same one when there is no other."""
    return next((name for name in DURABLE if name != kind), kind)


class HostFailedError(RuntimeError):
    """The child ended, or raised something that is not of prefixdb; the message has its traceback."""


class StoreHost:
    """One child process with one open store. ``run`` may be called from any thread.

    Args:
        kind: a name in ``tests.store.stores.STORES``.
        data_dir: the data directory; the child's log lies beside it.
        shim: commands the child's disk; None for a child whose disk always works.
    """

    def __init__(self, kind: str, data_dir: Path, shim: Shim | None = None) -> None:
        self.kind = kind
        self.data_dir = data_dir
        # Not beside the data: the path of a socket has 107 bytes at most.
        self._socket_dir = Path(tempfile.mkdtemp(prefix="prefixdb-host-"))
        self._socket = self._socket_dir / "s"
        environment = dict(os.environ) | (shim.environment() if shim else {})
        command = [sys.executable, "-m", "tests.support.store_host", str(self._socket), kind, str(data_dir)]
        self._log = data_dir.with_name(f"{data_dir.name}.host.log")
        with self._log.open("ab") as log:
            # The pipe ends with this process, and the child with the pipe.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env=environment
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self.kill()
            raise HostFailedError(self._log.read_text(encoding="utf-8", errors="replace")[-4_000:])

    def __enter__(self) -> StoreHost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def alive(self) -> bool:
        """Whether the child lives."""
        return self._process.poll() is None

    def run(self, work: Callable[..., Answer], *arguments: Any) -> Answer:
        """Run ``work(store, *arguments)`` in the child and return what it returns.

        Raises:
            PrefixdbError: the store's refusal, as it was raised there.
            HostFailedError: anything else.
        """
        try:
            with Client(str(self._socket), "AF_UNIX") as connection:
                connection.send((work, arguments))
                kind, answer = connection.recv()
        except (EOFError, OSError) as end:
            raise HostFailedError(f"the child is gone: {self._process.poll()}") from end
        if kind == "answer":
            return answer  # type: ignore[no-any-return]
        if kind == "refused":
            reason, message, retry_after_ms = answer
            raise error(Reason[reason], message, retry_after_ms=retry_after_ms)
        raise HostFailedError(answer)

    def submit(self, work: Callable[..., Answer], *arguments: Any) -> Future[Answer]:
        """Run ``work`` without waiting for it."""
        future: Future[Answer] = Future()

        def wait() -> None:
            try:
                future.set_result(self.run(work, *arguments))
            except BaseException as failure:
                future.set_exception(failure)

        threading.Thread(target=wait, daemon=True).start()
        return future

    def stop(self) -> None:
        """Close the store in good order and end the child."""
        self.run(_close)
        self.kill()

    def kill(self) -> None:
        """Kill -9, this child and nothing else."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._socket_dir, ignore_errors=True)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def await_death(self, timeout_s: float = 30.0) -> int:
        """Wait until the child has ended by itself and return its status."""
        return self._process.wait(timeout_s)


def _close(store: Store) -> None:
    store.close()


def _serve(connection: Connection, store: Store) -> None:
    with connection:
        work, arguments = connection.recv()
        try:
            answer: tuple[str, Any] = ("answer", work(store, *arguments))
        except PrefixdbError as refusal:
            answer = ("refused", (refusal.reason.name, refusal.message, refusal.retry_after_ms))
        except BaseException:
            answer = ("failed", traceback.format_exc())
        connection.send(answer)


def _end_with_the_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _main(socket: str, kind: str, data_dir: str) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    store = STORES[kind](Path(data_dir), HeldClock())
    with Listener(socket, "AF_UNIX", backlog=16) as listener:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection = listener.accept()
            threading.Thread(target=_serve, args=(connection, store), daemon=True).start()


if __name__ == "__main__":
    _main(*sys.argv[1:])
