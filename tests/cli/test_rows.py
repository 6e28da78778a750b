"""Goal: get, put, del, mget, scan and count do what they say with any bytes, and keep data and words apart.

Method: a real server; exact bytes through real pipes where a process matters.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

ANY_BYTES = bytes(range(256))


def test_any_bytes_go_in_and_out_through_pipes_unchanged(cli: Cli, tmp_path: Path) -> None:
    assert cli.process("put", "k", "-", stdin=ANY_BYTES).status == 0
    assert cli.process("get", "k").out == ANY_BYTES
    file = tmp_path / "value"
    file.write_bytes(ANY_BYTES + b"2")
    assert cli("put", "k", "--file", str(file)).status == 0
    assert cli("get", "k").out == ANY_BYTES + b"2"
    assert cli("put", "k", "").status == 0
    ended = cli("get", "k")
    assert (ended.status, ended.out) == (0, b"")


def test_keys_of_bytes_that_are_no_text_come_as_arguments(cli: Cli) -> None:
    assert cli.process("put", "\udcffkey", "v").status == 0
    assert cli("get", "ff6b6579", "--enc", "hex").text == "76\n"


@pytest.mark.parametrize(
    ("enc", "key", "value", "shown"), [("hex", "00ff", "0a", "0a\n"), ("base64", "AP8=", "Cg==", "Cg==\n")]
)
def test_arguments_and_output_are_written_as_enc_says(cli: Cli, enc: str, key: str, value: str, shown: str) -> None:
    assert cli("--enc", enc, "put", key, value).status == 0
    assert cli("get", key, "--enc", enc).text == shown
    ended = cli("get", "no such writing!", "--enc", enc)
    assert (ended.status, ended.out) == (2, b"")
    assert "no such writing" not in ended.err, "an argument may be a value; errors do not repeat it"


def test_utf8_is_an_error_for_what_is_not(cli: Cli) -> None:
    cli("put", "k", "-", stdin=b"\xff")
    ended = cli("get", "k", "--enc", "utf8")
    assert (ended.status, ended.out) == (2, b"")
    cli("put", "k", "grün")
    assert cli("get", "k", "--enc", "utf8").text == "grün\n"


def test_a_missing_key_is_status_1_and_nothing_on_standard_output(cli: Cli) -> None:
    ended = cli("get", "absent")
    assert (ended.status, ended.out) == (1, b"")
    assert "no such key" in ended.err
    assert cli("get", "absent", "--json").error["reason"] == "KEY_NOT_FOUND"


def test_json_carries_text_or_base64_and_the_facts_of_the_row(cli: Cli) -> None:
    version = cli("put", "k", "v", "--ttl", "1h", "--json").json["version"]
    row = cli("get", "k", "--json").json
    assert (row["key"], row["value"], row["version"]) == ("k", "v", version)
    assert 3500 < row["ttl_s"] <= 3600
    cli("put", "ff", "ff", "--enc", "hex")
    assert cli("get", "ff", "--enc", "hex", "--json").json["value_hex"] == "ff"
    assert cli("scan", "--json").lines[1]["value_b64"] == "/w=="


def test_conditions_that_do_not_hold_are_status_1(cli: Cli) -> None:
    version = cli("put", "k", "1", "--if-absent", "--json").json["version"]
    for refused in (["put", "k", "2", "--if-absent"], ["put", "k", "2", "--if-version", str(version + 1)]):
        ended = cli(*refused)
        assert (ended.status, ended.out) == (1, b"")
        assert str(version) in ended.err
    assert cli("del", "k", "--if-version", str(version + 1)).status == 1
    assert cli("get", "k").out == b"1"
    assert cli("put", "k", "2", "--if-version", str(version)).status == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["put", "k"],
        ["put", "k", "v", "--file", __file__],
        ["put", "k", "v", "--if-absent", "--if-version", "3"],
        ["put", "k", "v", "--ttl", "soon"],
        ["put", "k", "--file", "no/such/file"],
        ["del"],
        ["del", "k", "--prefix", "k"],
        ["del", "k", "l", "--if-version", "3"],
        ["scan", "--prefix", "a", "--start", "b"],
        ["scan", "--limit", "0"],
        ["mget"],
        ["get", "k", "--database", "65536"],
        ["get", "k", "--timeout", "0"],
        ["get", "k", "--enc", "rot13"],
    ],
)
def test_a_command_line_that_cannot_be_right_is_status_2_and_says_where_help_is(cli: Cli, arguments: list[str]) -> None:
    ended = cli(*arguments)
    assert (ended.status, ended.out) == (2, b""), ended.err
    assert "--help" in ended.err
    assert cli(*arguments, "--json").error["exit_status"] == 2


def test_several_keys_are_deleted_at_once_and_mget_tells_what_is_missing(cli: Cli) -> None:
    for key in "abc":
        cli("put", key, f"value {key}")
    assert cli("mget", "b", "a").text == "b\tvalue b\na\tvalue a\n"
    assert cli("del", "a", "b", "absent").status == 0
    ended = cli("mget", "a", "c")
    assert (ended.status, ended.text) == (1, "c\tvalue c\n")
    assert "1 key of 2" in ended.err
    assert cli("mget", "c", "--json").lines == [{"key": "c", "value": "value c"}]


def test_scans_print_one_line_for_each_row_whatever_its_bytes(cli: Cli) -> None:
    cli("put", "a", "-", stdin=b"two\nlines\tand \\ \x1b[31m \xff \xc3\xa4")
    cli("put", "b", "2")
    assert cli("scan").text == "a\ttwo\\nlines\\tand \\\\ \\x1b[31m \\xff ä\nb\t2\n"
    assert cli("scan", "--keys-only", "--reverse").text == "b\na\n"
    assert cli("scan", "--prefix", "b").text == "b\t2\n"
    assert cli("scan", "--start", "a", "--end", "b", "--keys-only").text == "a\n"
    assert cli("scan", "--limit", "1", "--keys-only").text == "a\n"
    assert cli("count").text == "2\n"
    assert cli("count", "--prefix", "b", "--json").json == {"count": 1}


def test_a_range_is_only_deleted_when_somebody_agreed(cli: Cli) -> None:
    for key in ("x/1", "x/2", "y"):
        cli("put", key, "")
    ended = cli("del", "--prefix", "x/")
    assert (ended.status, ended.out) == (2, b"")
    assert "2 rows" in ended.err and "--yes" in ended.err
    assert cli("count").text == "3\n"
    ended = cli("del", "--prefix", "x/", "--yes")
    assert ended.status == 0
    assert "cannot be undone" in ended.err
    assert cli("scan", "--keys-only").text == "y\n"
    assert cli("del", "--prefix", "", "--yes", "--quiet", "--json").json["rows"] == 1


def test_databases_are_apart(cli: Cli) -> None:
    cli("put", "k", "three", "--database", "3")
    assert cli("get", "k").status == 1
    assert cli("--database", "3", "get", "k").out == b"three"
    assert cli("get", "k", PREFIXDB_DATABASE="3").out == b"three"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_of_standard_output_that_goes_away_is_no_crash_and_no_success(cli: Cli, unbuffered: str) -> None:
    for number in range(6):  # More than any pipe holds.
        cli("put", f"k{number}", "-", stdin=b"v" * 900_000)
    process = subprocess.Popen(
        cli.command("scan"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=cli.environment | {"PYTHONUNBUFFERED": unbuffered},
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_standard_output_that_is_full_or_closed_is_told_in_words(cli: Cli) -> None:
    cli("put", "k", "v")
    command = " ".join(cli.command("get", "k"))
    for redirection, words in ((">/dev/full", "No space left"), (">&-", "closed")):
        done = subprocess.run(
            ["sh", "-c", f"{command} {redirection}"], env=cli.environment, capture_output=True, check=False
        )
        assert done.returncode == 66
        assert words in done.stderr.decode()
        assert b"Traceback" not in done.stderr
