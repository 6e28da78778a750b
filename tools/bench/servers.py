"""Start the two servers under test in temporary directories on free loopback ports, and stop them by their process."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tools.lab.process import ServerFailedError, ServerProcess

READY_S_MAX = 30.0
STOP_S_MAX = 15.0


def free_port() -> int:
    """Return a loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def etcd() -> Iterator[str]:
    """Run one etcd with its defaults (every put is synced) and yield its address; stop and remove it afterwards."""
    client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="prefixdb-bench-etcd-") as directory:
        command = ["etcd", "--data-dir", directory, "--name", "bench", "--initial-cluster", f"bench={peer}"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--log-level", "error"]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--logger", "zap"]
        address = client.removeprefix("http://")
        with _running(command, lambda: _accepts(address)):
            yield address


@contextlib.contextmanager
def prefixdb(store: str) -> Iterator[tuple[str, Path]]:
    """Run one prefixdb with ``--durability fsync``; yield its address and data directory; remove it afterwards."""
    settings = {"PREFIXDB_STORE__DURABILITY": "fsync"}
    with tempfile.TemporaryDirectory(prefix="prefixdb-bench-") as directory:
        data_dir = Path(directory) / "data"
        with ServerProcess(data_dir, store=store, settings=settings) as server:
            server.start()
            yield server.address, data_dir


def etcd_version() -> str:
    """Return etcd's version as it tells it."""
    shown = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=True).stdout
    return shown.splitlines()[0].removeprefix("etcd Version: ")


def ensure_tools(*, install: bool) -> None:
    """Make sure etcd and h2load are here, installing Debian's packages when they are missing and that is allowed.

    Raises:
        ServerFailedError: something is missing and could not be installed.
    """
    packages = {"etcd": "etcd-server", "h2load": "nghttp2-client"}
    missing = [package for program, package in packages.items() if shutil.which(program) is None]
    if not missing:
        return
    by_hand = f"sudo apt-get install {' '.join(missing)}"
    if not install or shutil.which("apt-get") is None:
        raise ServerFailedError(f"the benchmark needs: {', '.join(missing)}; install with: {by_hand}")
    print(f"installing {' '.join(missing)}", file=sys.stderr)
    # Debian starts an etcd when it is installed; a policy script that says no keeps it from doing so, and one that was
    # there before is left alone.
    policy = Path("/usr/sbin/policy-rc.d")
    prefix = [] if _is_root() else ["sudo", "-n"]
    mine = _is_root() and not policy.exists()
    if mine:
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        policy.chmod(0o755)
    try:
        for arguments in (["update", "-qq"], ["install", "-y", "-qq", *missing]):
            done = subprocess.run([*prefix, "apt-get", *arguments], stdout=subprocess.DEVNULL, check=False)
            if done.returncode:
                raise ServerFailedError(f"apt-get {arguments[0]} failed; install by hand with: {by_hand}")
    finally:
        if mine:
            policy.unlink()


def _is_root() -> bool:
    return os.geteuid() == 0


@contextlib.contextmanager
def _running(command: list[str], ready: Callable[[], bool]) -> Iterator[None]:
    """Run ``command`` until the block ends; enter the block when ``ready()`` is true."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            limit = time.monotonic() + READY_S_MAX
            while not ready():
                if process.poll() is not None or time.monotonic() > limit:
                    raise ServerFailedError(f"{command[0]} did not start: {_tail(output)}")
                time.sleep(0.02)
            yield
            if process.poll() is not None:
                raise ServerFailedError(f"{command[0]} ended with {process.returncode}: {_tail(output)}")
        finally:
            process.terminate()
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _tail(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")[-2000:].strip() or "it wrote nothing"


def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False
