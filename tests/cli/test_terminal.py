"""Goal: on a terminal people get escaped text, tables, bars and questions; nothing there can steer the terminal.

Method: the program as a process whose three streams are a pseudo-terminal.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from prefixdb.testing import Namespace
from tests.cli.conftest import Cli
from tests.cli.people import PASSWORD, People

WAIT_S = 30.0


class Terminal:
    """A command on a terminal: what it shows, and what is typed."""

    def __init__(self, cli: Cli, *arguments: str, columns: int = 120) -> None:
        self._ours, theirs = pty.openpty()
        environment = cli.environment | {"COLUMNS": str(columns)}
        self._process = subprocess.Popen(
            cli.command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        self.shown = b""

    def until(self, words: bytes) -> None:
        """Read until these words were shown."""
        gives_up_at = time.monotonic() + WAIT_S
        while words not in self.shown:
            assert time.monotonic() < gives_up_at, self.shown
            if not self._read():
                raise AssertionError(self.shown)

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._ours, f"{line}\n".encode())

    def interrupt(self) -> None:
        """Interrupt the program until it says so: Python misses a signal that comes just before it begins to read.

        A second signal is sent only when nothing is shown for a while: one that meets the program on its way out, which
        begins with an empty line, ends it by the signal.
        """
        while b"interrupted" not in self.shown:
            self._process.send_signal(signal.SIGINT)
            while b"interrupted" not in self.shown and select.select([self._ours], [], [], 5.0)[0]:
                if not self._read():
                    return

    def end(self) -> int:
        """Read to the end and return the exit status."""
        while self._read():
            pass
        os.close(self._ours)
        return self._process.wait(WAIT_S)

    @property
    def text(self) -> str:
        """What was shown, with the terminal's line ends undone."""
        return self.shown.decode().replace("\r\n", "\n")

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], WAIT_S)
        assert ready, f"nothing more was shown; so far {self.shown!r}"
        try:
            piece = os.read(self._ours, 65536)
        except OSError:  # The other side has closed: how Linux tells the end of a pseudo-terminal.
            return False
        self.shown += piece
        return bool(piece)


def test_a_value_is_escaped_and_cannot_steer_the_terminal(cli: Cli) -> None:
    cli("put", "k", "-", stdin=b"\x1b]0;title\x07 \xff text")
    terminal = Terminal(cli, "get", "k")
    assert terminal.end() == 0
    assert terminal.text == "\\x1b]0;title\\x07 \\xff text\n"


def test_a_write_says_its_version_in_words(cli: Cli) -> None:
    terminal = Terminal(cli, "put", "k", "v")
    assert terminal.end() == 0
    assert "Written, version" in terminal.text
    quiet = Terminal(cli, "put", "k", "v", "--quiet")
    assert (quiet.end(), quiet.text) == (0, "")


def test_lists_are_tables_with_heads(guardian: Cli, place: Namespace) -> None:
    terminal = Terminal(guardian, "ns", "list", "--no-color")
    assert terminal.end() == 0
    assert "created" in terminal.text and "───" in terminal.text
    assert str(place.id) in terminal.text


@pytest.mark.parametrize("columns", [80, 140])
def test_the_id_of_a_token_is_shown_in_one_piece(guardian: Cli, place: Namespace, columns: int) -> None:
    subject = "service.accounts.checkout"
    jti = guardian("token", "issue", subject, "--namespace", place.name, "--group", "writers", "--json").json["jti"]
    guardian("token", "revoke", "--jti", jti, "--namespace", place.name)
    terminal = Terminal(guardian, "token", "list", "--namespace", place.name, columns=columns)
    assert terminal.end() == 0
    [line] = [line for line in terminal.text.splitlines() if line.startswith(jti)]
    assert "writers" in line and "revoked" in line
    assert ("issued by" in terminal.text) is (columns == 140)
    assert all(len(re.sub(r"\x1b\[\d+m", "", line)) <= columns for line in terminal.text.splitlines())


def test_a_ban_happens_only_when_the_name_is_typed(guardian: Cli, place: Namespace) -> None:
    for typed in ("", "yes", f"{place.name}x"):
        terminal = Terminal(guardian, "ns", "ban", place.name)
        terminal.until(b"to go on")
        assert f"drops namespace {place.name} (id:{place.id}" in terminal.text
        assert "cannot be taken back" in terminal.text
        terminal.type(typed)
        if not typed:
            # An empty line is asked again; end of input then ends the question.
            terminal.type("no")
        assert terminal.end() == 2
        assert "nothing was done" in terminal.text
    assert guardian("ns", "show", place.name, "--json").json["state"] == "ACTIVE"
    terminal = Terminal(guardian, "ns", "ban", place.name, "--grace", "1h", "--no-color")
    terminal.until(b"to go on")
    terminal.type(place.name)
    assert terminal.end() == 0
    assert "It can be taken back until" in terminal.text
    assert guardian("ns", "show", place.name, "--json").json["state"] == "BANNED"


def test_waiting_for_a_reclaim_shows_a_bar(guardian: Cli, cli: Cli, place: Namespace) -> None:
    cli("put", "k", "v")
    terminal = Terminal(guardian, "ns", "ban", place.name, "--yes", "--wait")
    assert terminal.end() == 0
    assert "━" in terminal.text
    assert "100 %" in terminal.text
    assert "is gone" in terminal.text


def test_an_interrupt_ends_a_question_and_nothing_was_done(guardian: Cli, place: Namespace) -> None:
    terminal = Terminal(guardian, "ns", "ban", place.name)
    terminal.until(b"to go on")
    terminal.interrupt()
    assert terminal.end() == 130
    assert "\nprefixdb: interrupted." in terminal.text, "on a line of its own"
    assert "Traceback" not in terminal.text
    assert guardian("ns", "show", place.name, "--json").json["state"] == "ACTIVE"


@pytest.mark.parametrize("arguments", [["--no-color"], []])
def test_colours_are_left_out_when_they_are_not_wanted(guardian: Cli, arguments: list[str]) -> None:
    terminal = Terminal(guardian, "doctor", *arguments)
    assert terminal.end() == 0
    assert ("\x1b[32m" in terminal.text) is not bool(arguments)


def test_a_range_is_deleted_when_its_size_was_typed(cli: Cli) -> None:
    for key in ("x/1", "x/2"):
        cli("put", key, "")
    terminal = Terminal(cli, "del", "--prefix", "x/")
    terminal.until(b"to go on")
    terminal.type("3")
    assert terminal.end() == 2
    assert cli("count").text == "2\n"
    terminal = Terminal(cli, "del", "--prefix", "x/")
    terminal.until(b"to go on")
    terminal.type("2")
    assert terminal.end() == 0
    assert cli("count").text == "0\n"


def test_a_new_password_is_typed_twice_unseen_until_both_are_the_same(
    people: People, place: Namespace, guardian: Cli
) -> None:
    boss = people.guardian_of(place.name)
    terminal = Terminal(boss, "user", "create", "ann", "--group", "readers")
    for question, typed in [
        (b"New password of ann: ", "short"),
        (b"at least 8 characters.", None),
        (b"New password of ann: ", "the first one"),
        (b"The same again: ", "another one!"),
        (b"two different passwords", None),
        (b"New password of ann: ", "the first one"),
        (b"The same again: ", "the first one"),
    ]:
        terminal.until(question)
        terminal.shown = terminal.shown.partition(question)[2]
        if typed is not None:
            terminal.type(typed)
    assert terminal.end() == 0
    assert "Created member ann" in terminal.text and "groups" in terminal.text
    login = Terminal(people.nobody("ann"), "login", "--namespace", place.name)
    login.until(b"User: ")
    login.type("ann")
    login.until(f"Password of ann of namespace {place.name}: ".encode())
    login.type("the first one")
    assert login.end() == 0
    assert f"Logged in to namespace {place.name} as ann." in login.text
    assert "the first one" not in login.text, "what is typed is not echoed"


def test_ones_own_password_asks_for_the_old_one_first(people: People, place: Namespace) -> None:
    people.make("ann", namespace=place.name)
    cli = people.log_in("ann", "--namespace", place.name)
    terminal = Terminal(cli, "user", "passwd")
    for question, typed in [
        (b"Password of ann until now: ", PASSWORD),
        (b"New password of ann: ", "a new password"),
        (b"The same again: ", "a new password"),
    ]:
        terminal.until(question)
        terminal.type(typed)
    assert terminal.end() == 0
    assert "ann has a new password" in terminal.text
    assert PASSWORD not in terminal.text and "a new password\n" not in terminal.text
    assert people.log_in("ann", "--namespace", place.name, password="a new password")("whoami").status == 0


@pytest.mark.parametrize("question", [b"User: ", b"Password of ann"])
def test_an_interrupt_while_logging_in_leaves_nothing(people: People, place: Namespace, question: bytes) -> None:
    cli = people.nobody("ann")
    terminal = Terminal(cli, "login", *(["--user", "ann"] if b"Password" in question else []))
    terminal.until(question)
    terminal.interrupt()
    assert terminal.end() == 130
    assert "prefixdb: interrupted." in terminal.text and "Traceback" not in terminal.text
    assert not (cli.config_home / "prefixdb").exists()


def test_a_member_and_a_group_go_only_when_their_names_are_typed(people: People, place: Namespace) -> None:
    boss = people.guardian_of(place.name)
    boss("user", "create", "ann", "--no-password")
    boss("group", "create", "lobby", "--rule", "r")
    for kind, name in (("user", "ann"), ("group", "lobby")):
        terminal = Terminal(boss, kind, "delete", name)
        terminal.until(b"to go on")
        assert f"{name} of namespace {place.name}" in terminal.text
        terminal.type(place.name)
        assert terminal.end() == 2
        assert "nothing was done" in terminal.text
        assert boss(kind, "show", name).status == 0
        terminal = Terminal(boss, kind, "delete", name)
        terminal.until(b"to go on")
        terminal.type(name)
        assert terminal.end() == 0
        assert boss(kind, "show", name).status == 1


@pytest.mark.parametrize("columns", [80, 140])
def test_lists_of_people_fit_a_terminal_and_leave_out_what_nobody_has(
    people: People, place: Namespace, guardian: Cli, columns: int
) -> None:
    boss = people.guardian_of(place.name)
    boss("user", "create", "ann", "--no-password", "--group", "readers")
    terminal = Terminal(boss, "user", "list", "--no-color", columns=columns)
    assert terminal.end() == 0
    assert "log in" in terminal.text and "privileges" not in terminal.text
    keys = Terminal(guardian, "key", "list", "--no-color", columns=columns)
    assert keys.end() == 0
    assert ("public key" in keys.text) is (columns == 140)
    for shown in (terminal.text, keys.text):
        assert all(len(re.sub(r"\x1b\[\d+m", "", line)) <= columns for line in shown.splitlines())


def test_the_audit_is_a_line_for_each_act_however_narrow_the_terminal(guardian: Cli) -> None:
    guardian("ns", "show", "nowhere-at-all")
    terminal = Terminal(guardian, "audit", "show", "--remote", "--limit", "3", columns=80)
    assert terminal.end() == 0
    head, *lines = terminal.text.splitlines()
    assert head.split() == ["time", "user", "namespace", "method", "result", "target"]
    assert len(lines) == 3
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  \S", line) for line in lines)
