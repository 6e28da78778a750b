"""Goal: nothing that somebody else wrote (a server, a file's name, an archive, an old directory) steers the terminal of
whoever runs the command line.

Method: texts with every kind of character a terminal obeys, through each way out that words have.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefixdb.cli.failures import say_failure, say_local
from prefixdb.cli.output import put_facts, put_json, put_table, say
from prefixdb.cli.settings import Settings
from prefixdb.cli.text import harmless, json_line
from prefixdb.errors import Reason, error
from tests.cli.conftest import Cli

HOSTILE = "a\x1b]0;title\x07b\x9b2Jc\x7f\r\u202eevil\u2028d\udc9be\ud800"
"""An escape sequence, one in a single character, a return, a turn of direction, a line's end, no characters at all."""


class Quiet:
    """What of the settings the ways out look at."""

    quiet = json = False
    no_color = True


SETTINGS: Any = Quiet()


def is_harmless(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


def test_words_and_json_keep_what_is_printable_and_show_the_rest() -> None:
    assert harmless("größe\n✓ 漢字") == "größe\n✓ 漢字"
    assert harmless(HOSTILE).startswith("a\\x1b]0;title\\x07b\\xc2\\x9b2Jc\\x7f\\r")
    assert is_harmless(harmless(HOSTILE))
    line = json_line({"größe": HOSTILE})
    assert line.isprintable() and "größe" in line
    assert json.loads(line) == {"größe": HOSTILE}


@pytest.mark.parametrize("as_json", [False, True])
def test_errors_do_not_steer_the_terminal(capsys: Any, as_json: bool) -> None:
    failure = error(Reason.INTERNAL, HOSTILE, metadata={"request_id": HOSTILE})
    failure.add_note(HOSTILE)
    say_failure(failure, as_json=as_json)
    say_local(HOSTILE, as_json=as_json)
    shown = capsys.readouterr().err
    assert "evil" in shown and is_harmless(shown)


def test_words_facts_and_tables_do_not_steer_the_terminal(capsys: Any, monkeypatch: Any) -> None:
    settings: Settings = SETTINGS
    monkeypatch.setattr("prefixdb.cli.output.stdout_is_terminal", lambda: True)
    say(settings, HOSTILE)
    put_json({"name": HOSTILE})
    put_facts(settings, {}, {"name": [HOSTILE, HOSTILE]})
    put_table(settings, ["name"], [[HOSTILE]], [])
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "evil" in text and is_harmless(text)


def test_the_name_of_a_file_does_not_steer_the_terminal(cli: Cli, tmp_path: Path) -> None:
    hostile = str(tmp_path / "x\x1b[31m\x9b2J.jsonl")
    Path(hostile).write_bytes(b"no row\n")
    for arguments in (
        ("load", hostile),
        ("backup", "list", hostile),
        ("backup", "verify", hostile),
        ("backup", "restore", hostile, "--data-dir", hostile),
        ("recover", "--data-dir", hostile, "--out", hostile),
    ):
        ended = cli(*arguments)
        assert ended.status != 0
        assert is_harmless(ended.err) and ended.err, arguments
