"""The front as Python holds it may be asked anything at any time of its life, and waits for nobody who is not there.

Method: a front with a port and nobody behind it: before its start, while it runs, after its end, from many threads, and
without ever having been started.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

module = pytest.importorskip("prefixdb._native.module", reason="the native part is not built in", exc_type=ImportError)

DRAINING = (14, 141, "DRAINING", "The server is shutting down.", 100)


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """A socket that listens."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


def front_of(port: socket.socket) -> Any:
    """Return a front that has the port."""
    from prefixdb.server.front import _bounds

    return module.Front(
        listen_fd=port.detach(),
        upstream_path="/nobody/is/here",
        threads=2,
        value_bytes_max=1 << 20,
        tied=False,
        anonymous=False,
        connections_max=8,
        clock_ms=0,
        bounds=_bounds(),
    )


def ask_everything(front: Any) -> None:
    """Make every call that may come at any time."""
    front.changed(None)
    front.changed(7)
    assert (front.running(), front.views(7), front.questions(), front.calls()) == (0, 0, [], {})
    assert set(front.facts()) == {"connections", "sessions", "streams", "forwarded", "punted"}
    assert set(front.facts().values()) == set(front.waiting().values()) == {0}
    front.set_store(None)
    front.hold_clock(1)
    front.punt_writes(True)
    front.ready(1)
    front.failed(1, *DRAINING[:4], (), None)
    front.drain(*DRAINING)
    front.cut(*DRAINING)
    front.halt()


def test_it_can_be_asked_before_its_start_while_it_runs_and_after_its_end(port: socket.socket) -> None:
    front = front_of(port)
    ask_everything(front)
    front.start()
    ask_everything(front)
    front.stop()
    front.stop()
    ask_everything(front)


def test_one_that_was_never_started_ends_and_gives_its_port_back(port: socket.socket) -> None:
    address = port.getsockname()
    front = front_of(port)
    del front
    with socket.socket() as probe:
        assert probe.connect_ex(address) != 0


def test_changes_from_many_threads_are_told_while_it_ends(port: socket.socket) -> None:
    front = front_of(port)
    front.start()
    threads = [threading.Thread(target=lambda: [front.changed(number) for number in range(300)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    front.stop()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_what_openssl_does_not_take_is_refused_in_words_and_without_the_key(port: socket.socket) -> None:
    front = front_of(port)
    with pytest.raises(ValueError, match="certificate") as refused:
        front.set_tls(b"no certificate", b"a secret key", b"")
    assert "secret" not in str(refused.value)


def test_a_front_needs_a_thread_and_every_bound(port: socket.socket) -> None:
    with pytest.raises(ValueError, match="thread"):
        module.Front(
            listen_fd=-1,
            upstream_path="",
            threads=0,
            value_bytes_max=1,
            tied=False,
            anonymous=False,
            connections_max=1,
            clock_ms=0,
            bounds={},
        )


@contextlib.contextmanager
def descriptors_left(room: int) -> Iterator[None]:
    """Leave this process ``room`` descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    filling: list[int] = []
    highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 16, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                filling.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(room):
            os.close(filling.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for each in filling:
            os.close(each)


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_port_is_closed_once_when_its_front_cannot_be_made(port: socket.socket, room: int) -> None:
    number = port.fileno()
    with descriptors_left(room):
        with pytest.raises(RuntimeError, match="Too many open files"):
            front_of(port)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


def test_only_an_engine_is_a_store(port: socket.socket) -> None:
    front = front_of(port)
    with pytest.raises((TypeError, RuntimeError)):
        front.set_store(object())
