"""Goal: a server that takes a while to answer a new connection, because it is far away or busy, is waited for.

Method: something between client and server keeps the first bytes of the server back for longer than any line does.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prefixdb import connect
from prefixdb.client import methods
from prefixdb.v1.key_value_pb2 import PutResponse
from tests.support.scripted_server import Answer, ScriptedServer

LATE_S = 0.6


@contextmanager
def far_away(endpoint: str) -> Iterator[str]:
    """Pass connections on to ``endpoint``; what it says first comes late."""
    host, port = endpoint.rsplit(":", 1)
    over = threading.Event()
    ends: list[socket.socket] = []

    def pass_on(source: socket.socket, target: socket.socket, late_s: float) -> None:
        try:
            while data := source.recv(65_536):
                over.wait(late_s)
                late_s = 0.0
                target.sendall(data)
        except OSError:
            return  # One side has gone, and the other is told below.
        finally:
            target.close()

    def take(listening: socket.socket) -> None:
        while True:
            try:
                near = listening.accept()[0]
            except OSError:
                return
            far = socket.create_connection((host, int(port)))
            ends.extend((near, far))
            for pair in ((near, far, 0.0), (far, near, LATE_S)):
                threading.Thread(target=pass_on, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=take, args=(listening,), daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        for end in ends:
            end.close()


def test_the_first_call_waits_for_the_connection(scripted: ScriptedServer) -> None:
    scripted.script(methods.PUT, Answer(PutResponse(applied=True, version=8)))
    for gather in (True, False):
        with far_away(scripted.endpoint) as endpoint, connect(endpoint, token="t", gather=gather) as db:
            assert db.put("k", b"v") == 8
