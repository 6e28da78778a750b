"""Start the servers under test in temporary directories on free loopback ports, and stop them by their process.

Every server syncs before it acknowledges a write, but for redis with ``everysec``, which is there to be compared.
A server is not in our process group, so Ctrl-C reaches us first, and whatever ends the run ends its servers.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tools.lab.process import ROOT, ServerFailedError, ServerProcess

READY_S_MAX = 30.0
STOP_S_MAX = 15.0

DEBIAN_PACKAGES = {
    "etcd": "etcd-server",
    "h2load": "nghttp2-client",
    "nghttpd": "nghttp2-server",
    "redis-server": "redis-server",
    "redis-benchmark": "redis-tools",
}
HEADERS = {"nghttp2/nghttp2.h": "libnghttp2-dev", "rocksdb/db.h": "librocksdb-dev"}


@dataclass(frozen=True, slots=True)
class Running:
    """A server that takes requests on the loopback address."""

    pid: int
    port: int

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"


class PrefixdbProcess(ServerProcess):
    """``prefixdb serve`` with further arguments, maybe from another tree than this one.

    Args:
        data_dir: as for ``ServerProcess``; the server runs the native store and syncs.
        arguments: for example ``["--front", "python"]``.
        settings: further settings as environment variables.
        tree: where the package to run lies.
    """

    def __init__(
        self,
        data_dir: Path,
        arguments: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        *,
        tree: Path = ROOT,
    ) -> None:
        super().__init__(data_dir, store="native", settings={"PREFIXDB_STORE__DURABILITY": "fsync", **(settings or {})})
        self._arguments = list(arguments)
        self._tree = tree

    def command(self) -> list[str]:
        """Return the command line of the server."""
        return [*super().command(), *self._arguments]

    def launch(self) -> None:
        """Start the process and return at once; ``wait_ready`` waits until it takes requests."""
        self._ready.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd=self._tree, env=self._environment(), start_new_session=True
            )

    @property
    def running_as(self) -> Running:
        """The process and its port, once it was started."""
        return Running(self.pid, int(self.address.rpartition(":")[2]))


@contextlib.contextmanager
def prefixdb(
    directory: Path, arguments: Sequence[str], settings: Mapping[str, str] | None = None, *, tree: Path = ROOT
) -> Iterator[PrefixdbProcess]:
    """Run one prefixdb in a new directory under ``directory``; remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="prefixdb-bench-", dir=directory) as own:
        server = PrefixdbProcess(Path(own) / "data", arguments, settings, tree=tree)
        with server:
            server.start()
            yield server


@contextlib.contextmanager
def etcd(directory: Path) -> Iterator[Running]:
    """Run one etcd with its defaults, so that every put is synced."""
    port = free_port()
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="prefixdb-bench-etcd-", dir=directory) as own:
        command = ["etcd", "--data-dir", own, "--name", "bench", "--initial-cluster", f"bench={peer}"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--log-level", "error"]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--logger", "zap"]
        with _running(command, port) as server:
            yield server


@contextlib.contextmanager
def redis(directory: Path, appendfsync: str) -> Iterator[Running]:
    """Run one redis with an append-only file and no snapshots. ``appendfsync``: ``always`` or ``everysec``."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="prefixdb-bench-redis-", dir=directory) as own:
        settings = {"port": str(port), "bind": "127.0.0.1", "dir": own, "save": "", "appendonly": "yes"}
        settings |= {"appendfsync": appendfsync, "daemonize": "no", "loglevel": "warning"}
        options = [text for name, value in settings.items() for text in (f"--{name}", value)]
        with _running(["redis-server", *options], port) as server:
            yield server


@contextlib.contextmanager
def nghttpd(directory: Path, content: bytes) -> Iterator[Running]:
    """Run nghttpd with one thread and one file, ``/get``."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="prefixdb-bench-http-", dir=directory) as own:
        (Path(own) / "get").write_bytes(content)
        command = ["nghttpd", "--no-tls", "--address=127.0.0.1", f"--htdocs={own}", "--workers=1", str(port)]
        with _running(command, port) as server:
            yield server


def versions() -> dict[str, str]:
    """Return the versions of what others wrote, as they tell them."""
    found = {}
    for name, program in (("etcd", "etcd"), ("redis", "redis-server"), ("nghttp2", "nghttpd")):
        command = [_which(program) or program, "--version"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        number = re.search(r"\d+\.\d+\.\d+", shown)
        found[name] = number.group() if number else shown.strip()
    return found


def ensure_tools(*, install: bool) -> None:
    """Make sure the other servers and the compiler are here, from Debian's packages when that is allowed.

    Raises:
        ServerFailedError: something is missing and could not be installed.
    """
    missing = [package for program, package in DEBIAN_PACKAGES.items() if _which(program) is None]
    missing += [package for header, package in HEADERS.items() if not Path("/usr/include", header).exists()]
    missing += [program for program in ("g++", "make") if shutil.which(program) is None]
    if not missing:
        return
    by_hand = f"sudo apt-get install {' '.join(missing)}"
    if not install or shutil.which("apt-get") is None:
        raise ServerFailedError(f"the benchmark needs: {', '.join(missing)}; install with: {by_hand}")
    print(f"installing {' '.join(missing)}", file=sys.stderr)
    # Debian starts a server when it is installed; a policy script that says no keeps it from doing so, and one that was
    # there before is left alone.
    policy = Path("/usr/sbin/policy-rc.d")
    root = os.geteuid() == 0
    mine = root and not policy.exists()
    if mine:
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        policy.chmod(0o755)
    try:
        for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
            command = [*([] if root else ["sudo", "-n"]), "apt-get", *arguments]
            if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
                raise ServerFailedError(f"apt-get {arguments[0]} failed; install by hand with: {by_hand}")
    finally:
        if mine:
            policy.unlink()


def free_port() -> int:
    """Return a loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _which(program: str) -> str | None:
    """Find a program, also where only root's PATH leads."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[Running]:
    """Run a server until the block ends; enter the block when it takes connections."""
    command = [_which(command[0]) or command[0], *command[1:]]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            _wait_until(lambda: _accepts(port), process, output)
            yield Running(process.pid, port)
            if process.poll() is not None:
                raise ServerFailedError(f"{command[0]} ended with {process.returncode}: {_tail(output)}")
        finally:
            process.terminate()
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
    limit = time.monotonic() + READY_S_MAX
    while not ready():
        if process.poll() is not None or time.monotonic() > limit:
            raise ServerFailedError(f"a server did not start: {_tail(output)}")
        time.sleep(0.02)


def _tail(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")[-2000:].strip() or "it wrote nothing"


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
