"""A program that shares a login with others: ``python -m tests.client.sharer ENDPOINT FILE [PAUSE]``.

Each line of standard input is a time in milliseconds: the client's clock is set to it, WhoAmI is called, and what came
of it is one line of standard output, ``ok SUBJECT`` or ``failed REASON``. With PAUSE, which is ``before-refresh``,
``after-refresh`` or ``after-write``, it stops at that point of the first refresh, says ``paused`` and waits for a kill.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, NoReturn

from prefixdb.client import methods
from prefixdb.client.login_file import LoginFile
from prefixdb.client.options import ClientOptions
from prefixdb.client.sync.connection import Connection
from prefixdb.client.sync.database import Database
from prefixdb.errors import PrefixdbError
from tests.support.clocks import HeldClock


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def pause() -> NoReturn:
    """Wait to be killed."""
    say("paused")
    while True:
        threading.Event().wait()


def stop_at(point: str, db: Database) -> None:
    """Make the client stop at a point of its next refresh."""
    login: Any = db._connection._access._login
    send, write = login._send, LoginFile.write

    def sending(method: Any, *arguments: Any) -> Any:
        if method is methods.REFRESH and point == "before-refresh":
            pause()
        answer = send(method, *arguments)
        if method is methods.REFRESH and point == "after-refresh":
            pause()
        return answer

    def writing(file: LoginFile, tokens: Any) -> None:
        write(file, tokens)
        if point == "after-write":
            pause()

    login._send = sending
    LoginFile.write = writing  # type: ignore[method-assign]


def main() -> None:
    """Serve lines until standard input ends."""
    endpoint, file, *point = sys.argv[1:]
    clock = HeldClock()
    with Database(Connection(ClientOptions(endpoint, credentials_file=file), clock), 0, 10.0) as db:
        if point:
            stop_at(point[0], db)
        for line in sys.stdin:
            clock.advance(int(line) - clock.now_ms())
            try:
                say(f"ok {db.whoami().subject}")
            except PrefixdbError as failure:
                say(f"failed {failure.reason.name}")


if __name__ == "__main__":
    main()
