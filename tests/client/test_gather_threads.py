"""Goal: threads that share a client gather as tasks do, and none of them can leave the others waiting.

Method: threads only; a server that plays a script, Ctrl-C while waiting, and a fork while others hold the lock.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from prefixdb import connect
from prefixdb.client import gathering, methods
from prefixdb.client.options import ClientOptions
from prefixdb.client.sync.database import Database
from prefixdb.client.sync.gatherer import Gatherer
from prefixdb.client.sync.wire import Promise
from prefixdb.v1.key_value_pb2 import GetRequest, GetResponse
from tests.support.scripted_server import Answer, Hold, ScriptedServer
from tests.support.waiting import wait_for

FOUND = Answer(GetResponse(found=True, value=b"v", version=7))


def held(db: Database) -> gathering.Gathering:
    """Return what a client has gathered."""
    gatherer: Any = db._connection._gatherer
    held: gathering.Gathering = gatherer._gathering
    return held


def in_thread(work: Any, *arguments: Any) -> threading.Thread:
    """Start a thread."""
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


@contextmanager
def interrupted_in(function: Any) -> Iterator[None]:
    """Interrupt this thread as Ctrl-C does once it is in ``function``, and nowhere else. A handler of its own: what a
    shell starts in the background ignores Ctrl-C."""
    done = threading.Event()

    def handle(_number: int, frame: Any) -> None:
        if frame is not None and frame.f_code is function.__code__ and not done.is_set():
            done.set()
            raise KeyboardInterrupt

    def interrupt() -> None:
        while not done.wait(0.01):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    before = signal.signal(signal.SIGINT, handle)
    interrupter = in_thread(interrupt)
    try:
        yield
    finally:
        done.set()
        interrupter.join()
        signal.signal(signal.SIGINT, before)


def test_a_thread_alone_makes_ordinary_calls(scripted: ScriptedServer) -> None:
    scripted.script(methods.GET, FOUND)
    with connect(scripted.endpoint, token="t") as db:
        for _ in range(3):
            assert db.get("k") == b"v"
    assert scripted.streams == 0


def test_the_second_of_two_threads_gathers(scripted: ScriptedServer) -> None:
    go_on = threading.Event()
    scripted.script(methods.GET, Hold(go_on, FOUND), FOUND)
    with connect(scripted.endpoint, token="t") as db:
        first = in_thread(db.get, "k")
        wait_for(lambda: bool(scripted.calls))
        assert db.get("k") == b"v", "it does not wait for the first"
        assert scripted.messages == [0, 1]
        go_on.set()
        first.join()
        assert db.get("k") == b"v"
        assert scripted.messages == [0, 1], "alone again"


@pytest.mark.usefixtures("gathered")
def test_who_is_interrupted_leaves_and_the_others_get_their_answers(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefixdb.client.sync.gatherer.IN_FLIGHT_MAX", 1)
    go_on = threading.Event()
    scripted.script(methods.GET, Hold(go_on, FOUND), FOUND)
    with connect(scripted.endpoint, token="t", deadline_s=30) as db:
        answers: list[bytes | None] = []
        others = [in_thread(lambda: answers.append(db.get("k"))) for _ in range(4)]
        wait_for(lambda: bool(scripted.calls))

        with pytest.raises(KeyboardInterrupt), interrupted_in(Promise.wait):
            db.get("mine")
        go_on.set()
        for other in others:
            other.join()
        assert answers == [b"v"] * 4
        assert db.get("k") == b"v"
    keys = [GetRequest.FromString(call.requests[0]).key for call in scripted.calls]
    assert b"mine" not in keys, "it was taken out before it was sent"


@pytest.mark.usefixtures("gathered")
def test_the_thread_that_sends_ends_when_there_is_nothing_to_do(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "IDLE_S", 0.05)
    scripted.script(methods.GET, FOUND)
    with connect(scripted.endpoint, token="t") as db:
        for _ in range(2):
            db.get("k")
            wait_for(lambda: not any(thread.name == "prefixdb-gatherer" for thread in threading.enumerate()))
        monkeypatch.undo()
        monkeypatch.setattr("prefixdb.client.sync.gatherer.GATHERS_FROM", 1)
        db.get("k")
    wait_for(lambda: not any(thread.name == "prefixdb-gatherer" for thread in threading.enumerate()))


class Instead:
    """A connection that answers by itself."""

    options = ClientOptions()

    def call(self, *_: Any, **__: Any) -> str:
        return "answered"


def test_a_forked_child_begins_anew_although_the_parent_held_the_lock() -> None:
    gatherer = Gatherer(Instead())  # type: ignore[arg-type]  # only what is needed
    gatherer._callers = 1
    with gatherer._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if gatherer.call(methods.GET, GetRequest(key=b"k"), 3, 1.0) == "answered" else 1)
    gives_up_at = time.monotonic() + 20
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > gives_up_at:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child waits for the parent's lock")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(done[1]) == 0
