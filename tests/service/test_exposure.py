"""Goal: what is said to the server in the clear does not leave the machine, unless somebody insists.

Method: real servers on TCP and unix sockets, with wide umasks, dead and living sockets and files in the way; settings
that would show tokens to a network.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefixdb.errors import InvalidArgumentError, PrefixdbError
from prefixdb.server import transport, unix_socket
from prefixdb.server.config import load_config
from prefixdb.server.transport import check_exposure, is_local
from prefixdb.v1 import key_value_pb2 as pb
from tests.support.certificates import issue, secure_channel
from tests.support.server import Caller, running


@pytest.fixture
def wide_umask() -> Iterator[None]:
    """What the most careless of environments would let new files be."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


async def refused(directory: Path, address: str) -> PrefixdbError:
    """Try to start a server and return why it did not."""
    with pytest.raises(InvalidArgumentError) as caught:
        async with running(directory, settings={"server.listen": address}):
            pass
    assert caught.value.metadata["field"] == "server.listen"
    return caught.value


def test_a_unix_socket_is_for_the_servers_own_user_and_goes_with_it(tmp_path: Path, wide_umask: None) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        async with running(tmp_path / "data", settings={"server.listen": f"unix:{path}"}) as server:
            assert server.app.address == f"unix:{path}"
            mode = path.stat().st_mode
            assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
            caller = server.caller(server.create("acme"))
            assert (await caller.call(caller.key_value.Put, pb.PutRequest(key=b"k", value=b"v"))).applied
            made = tmp_path / "afterwards"
            made.touch(0o666)
            assert stat.S_IMODE(made.stat().st_mode) == 0o666, "the umask is back"

    asyncio.run(main())
    assert {entry.name for entry in tmp_path.iterdir()} == {"data", "afterwards"}


def test_the_socket_is_never_open_to_others_not_even_while_it_is_made(
    tmp_path: Path, wide_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    place = tmp_path / "socket"

    def noting(function: Any) -> Any:
        def noted(*arguments: Any) -> Any:
            opened = function(*arguments)
            seen.append(stat.S_IMODE(place.stat().st_mode))
            return opened

        return noted

    for name in ("_open_port", "_listening"):  # The one without the native front, the other with it.
        monkeypatch.setattr(transport, name, noting(getattr(transport, name)))

    async def main() -> None:
        async with running(tmp_path / "data", settings={"server.listen": f"unix:{tmp_path}/socket"}):
            assert seen == [0o600]

    asyncio.run(main())


def test_the_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()

    async def main() -> None:
        async with running(tmp_path / "data", settings={"server.listen": f"unix:{path}"}) as server:
            caller = server.caller(server.create("acme"))
            assert not (await caller.get(pb.GetRequest(key=b"k"))).found

    asyncio.run(main())


@pytest.mark.parametrize("busy", [False, True])
def test_the_socket_of_a_living_server_is_left_alone(tmp_path: Path, busy: bool) -> None:
    path = tmp_path / "socket"
    waiting: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen(0)
        while busy:  # Until its queue is full: it is alive, and answers nobody.
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            busy = waiting[-1].connect_ex(str(path)) == 0
        before = path.stat().st_ino
        failure = asyncio.run(refused(tmp_path / "data", f"unix:{path}"))
        assert "is running" in failure.message
        assert path.stat().st_ino == before
        for client in waiting:
            client.close()


def test_two_prefixdb_servers_do_not_share_a_socket(tmp_path: Path) -> None:
    async def main() -> None:
        address = f"unix:{tmp_path}/socket"
        async with running(tmp_path / "one", settings={"server.listen": address}) as server:
            assert "is running" in (await refused(tmp_path / "two", address)).message
            caller = server.caller(server.create("acme"))
            await caller.get(pb.GetRequest(key=b"k"))

    asyncio.run(main())


def test_what_is_no_socket_is_not_touched(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("precious")
    link.symlink_to(file)
    for path in (file, link, tmp_path):
        assert "was not touched" in asyncio.run(refused(tmp_path / "data", f"unix:{path}")).message
    assert file.read_text() == "precious" and link.is_symlink()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("unix:relative/path", "absolute"),
        ("unix:", "absolute"),
        ("unix:/ends/", "absolute"),
        ("unix:/" + "x" * 107, "107 bytes"),
        ("unix:/no/such/directory/socket", "No such file"),
        ("unix-abstract:name", "HOST:PORT"),
    ],
)
def test_a_path_that_cannot_be_is_refused_in_words(tmp_path: Path, address: str, words: str) -> None:
    assert words in asyncio.run(refused(tmp_path / "data", address)).message


def test_the_place_is_free_before_a_socket_is_made_there(tmp_path: Path) -> None:
    path, link = tmp_path / "socket", tmp_path / "link"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    link.symlink_to(path)
    with pytest.raises(InvalidArgumentError, match="was not touched"), unix_socket.place_for(link, "server.listen"):
        pass
    assert link.is_symlink() and path.is_socket(), "a link to a dead socket is somebody's too"
    with unix_socket.place_for(path, "server.listen"):
        assert not path.exists()


def test_both_spellings_of_an_absolute_path_are_one() -> None:
    for address in ("unix:/run/prefixdb.sock", "unix:///run/prefixdb.sock"):
        assert unix_socket.socket_path(address, "server.listen") == Path("/run/prefixdb.sock")
    assert unix_socket.socket_path("127.0.0.1:1", "server.listen") is None
    assert unix_socket.socket_path("unix:/" + "x" * 106, "server.listen") is not None


def test_two_that_start_at_once_take_the_place_one_after_the_other(tmp_path: Path) -> None:
    path, order = tmp_path / "socket", list[str]()
    inside, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with unix_socket.place_for(path, "server.listen"):
            inside.set()
            go_on.wait(10)
            order.append("first")

    def second() -> None:
        inside.wait(10)
        with unix_socket.place_for(path, "server.listen"):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    before = os.umask(0o022)
    for thread in threads:
        thread.start()
    inside.wait(10)
    threads[1].join(0.2)
    assert threads[1].is_alive(), "it waits for the first one"
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]
    os.umask(before)


def test_tls_works_over_a_unix_socket_too(tmp_path: Path) -> None:
    authority = issue("ca")
    issue("server", authority).write(tmp_path, "server")
    settings = {"server.listen": f"unix:{tmp_path}/socket", "tls.cert": tmp_path / "server.pem"}

    async def main() -> None:
        async with running(tmp_path / "data", settings={**settings, "tls.key": tmp_path / "server.key"}) as server:
            token = server.token(server.create("acme").id)
            async with secure_channel(server.app.address, authority, name="localhost") as channel:
                assert not (await Caller(channel, token).get(pb.GetRequest(key=b"k"))).found

    asyncio.run(main())


@pytest.mark.parametrize(
    ("settings", "permitted"),
    [
        ({"server.listen": "unix:/run/x.sock"}, True),
        ({"server.listen": "[::1]:0"}, True),
        ({"server.listen": "localhost:0"}, True),
        ({"server.listen": "0.0.0.0:0"}, False),
        ({"server.listen": "0.0.0.0:0", "server.insecure": True}, True),
        ({"server.listen": "0.0.0.0:0", "tls.cert": "c", "tls.key": "k"}, True),
        ({"server.http": "0.0.0.0:0", "tls.cert": "c", "tls.key": "k"}, False),
        ({"server.http": "unix:/run/x.sock"}, False),
    ],
)
def test_plaintext_stays_on_the_machine_unless_somebody_insists(settings: dict[str, object], permitted: bool) -> None:
    config = load_config(None, {}, settings)
    if permitted:
        check_exposure(config)
    else:
        with pytest.raises(InvalidArgumentError):
            check_exposure(config)


def test_what_only_this_machine_can_reach_is_told_apart() -> None:
    for address, local in (("unix:/x", True), ("127.0.0.2:1", True), ("10.0.0.1:1", False), ("example.org:1", False)):
        assert is_local(load_config(None, {}, {"server.listen": address})) is local
