# Generated from tests/client/test_aio_prefetch.py by tools/async_to_sync.py; do not edit.
"""Goal: a scan receives the next page while the present one is consumed, one page and no more, and leaves nothing open.

Method: a server that plays a script; the client's streams are recorded, and what they have received in advance is
looked at. A page can be held back by the test, as long as it wants.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from prefixdb import connect
from prefixdb.client import methods
from prefixdb.client.sync import wire
from prefixdb.errors import DeadlineExceededError
from prefixdb.v1.key_value_pb2 import Row, ScanResponse
from tests.client.harness import sync_test, sync_until
from tests.support.scripted_server import Answer, Hang, Lose, ScriptedServer

KEYS = [b"a", b"b", b"c", b"d", b"e"]
PAGES = [ScanResponse(rows=[Row(key=key, value=b"v")]) for key in KEYS]


class Held:
    """A page that does not leave the server before the test says so."""

    def __init__(self, page: ScanResponse) -> None:
        self.go_on = threading.Event()
        self._page = page

    def SerializeToString(self) -> bytes:
        assert self.go_on.wait(30)
        return self._page.SerializeToString()


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The streams that the client opens."""
    opened: list[Any] = []

    class Recorded(wire.ResponseStream):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.prefetched = 0
            opened.append(self)

        def prefetch(self) -> None:
            self.prefetched += 1
            super().prefetch()

    monkeypatch.setattr(wire, "ResponseStream", Recorded)
    return opened


def is_ahead(stream: Any) -> bool:
    """True when a page has come that nobody has asked for yet."""
    return stream._ahead is not None and stream._ahead.done()


def over(pause_s: float) -> Callable[[], bool]:
    """Return what is true when so much time has passed."""
    until_s = time.monotonic() + pause_s
    return lambda: time.monotonic() > until_s


@sync_test
def test_the_next_page_comes_while_the_present_one_is_consumed(scripted: ScriptedServer, streams: list[Any]) -> None:
    scripted.script(methods.SCAN, Answer(*PAGES), stream=True)
    with connect(scripted.endpoint, token="t") as db:
        seen = []
        for key in db.scan(keys_only=True):
            seen.append(key)
            if len(seen) == 1:
                assert streams[0].prefetched == 0, "a walk of one page needs nothing in advance"
            else:
                sync_until(lambda: is_ahead(streams[0]))
                assert streams[0].prefetched == len(seen) - 1, "one page, and no more"
        assert seen == KEYS


@sync_test
def test_a_walk_with_a_limit_asks_for_nothing_behind_it(scripted: ScriptedServer, streams: list[Any]) -> None:
    scripted.script(methods.SCAN, Answer(*PAGES[:2], then=Hang()), stream=True)
    with connect(scripted.endpoint, token="t") as db:
        assert [key for key in db.scan(keys_only=True, limit=2)] == KEYS[:2]
    assert streams[0].prefetched == 0


@sync_test
def test_what_came_before_the_stream_broke_is_neither_lost_nor_read_twice(
    scripted: ScriptedServer, streams: list[Any]
) -> None:
    scripted.script(methods.SCAN, Answer(*PAGES[:3], then=Lose()), Answer(*PAGES[3:]), stream=True)
    with connect(scripted.endpoint, token="t") as db:
        seen = []
        for key in db.scan(keys_only=True):
            seen.append(key)
            if len(seen) == 3:
                sync_until(lambda: is_ahead(streams[0]))
        assert seen == KEYS
    assert [request.resume_after for request in scripted.requests_of(methods.SCAN)] == [b"", b"c"]


@sync_test
def test_the_time_the_consumer_takes_is_not_the_servers(scripted: ScriptedServer, streams: list[Any]) -> None:
    late = Held(PAGES[2])
    scripted.script(methods.SCAN, Answer(*PAGES[:2], late, *PAGES[3:]), stream=True)
    with connect(scripted.endpoint, token="t", deadline_s=0.2) as db:
        seen = []
        for key in db.scan(keys_only=True, resume=False):
            seen.append(key)
            if len(seen) == 2:
                sync_until(over(0.5))
                late.go_on.set()
                sync_until(lambda: is_ahead(streams[0]))
        assert seen == KEYS


@sync_test
def test_who_waits_for_a_page_waits_no_longer_than_the_deadline(scripted: ScriptedServer) -> None:
    scripted.script(methods.SCAN, Answer(*PAGES[:3], then=Hang()), stream=True)
    with connect(scripted.endpoint, token="t", deadline_s=0.3) as db:
        seen = []
        with pytest.raises(DeadlineExceededError):
            for key in db.scan(keys_only=True):
                seen.append(key)
        assert seen == KEYS[:3]


@sync_test
def test_leaving_early_leaves_nothing_open(scripted: ScriptedServer, streams: list[Any]) -> None:
    late = Held(PAGES[3])
    scripted.script(methods.SCAN, Answer(*PAGES[:3], late), stream=True)
    with connect(scripted.endpoint, token="t") as db:
        walk = db.scan(keys_only=True)
        seen = [walk.__next__() for _ in range(3)]
        assert seen == KEYS[:3]
        ahead = streams[0]._ahead
        assert ahead is not None and not ahead.done()
        walk.close()
        sync_until(lambda: ahead.done() and streams[0]._call.cancelled())
        late.go_on.set()
