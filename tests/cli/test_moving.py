"""Goal: rows go out into files and come back as users expect it: exact, all or none, with numbers, words and statuses.

Method: commands against a real server of each store; the oracle is what was put, read back by ``scan --json``.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from prefixdb.testing import Namespace, ServerProcess
from tests.cli.conftest import Cli

ROWS = {f"user/{n}": f"value {n}" for n in range(25)}


@pytest.fixture
def filled(cli: Cli, place: Namespace) -> Cli:
    """The command line of a namespace with rows of every kind in three databases."""
    with place.connect() as db:
        db.put_many([(key, value.encode()) for key, value in ROWS.items()])
        db.put(b"\xff\x00", b'a "quoted"\r\n, value')
        db.put("mortal", b"x", ttl=3600)
        db.database(3).put("other", b"")
        db.database(65535).put("last", b"z")
    return cli


def content(cli: Cli) -> list[tuple[int, object, object, bool]]:
    """Return all rows of the databases that tests use: where, key, value, whether it ends."""
    found = []
    for database in (0, 3, 9, 65535):
        for row in cli("--database", str(database), "scan", "--json").lines:
            key, value = (row.get(name, row.get(f"{name}_b64")) for name in ("key", "value"))
            found.append((database, key, value, row["ttl_s"] is not None))
    return found


def fresh(server: ServerProcess, tmp_path: Path) -> Cli:
    """Return the command line of another, empty namespace."""
    place = server.create_namespace()
    return Cli(tmp_path, {"PREFIXDB_ENDPOINT": server.endpoint, "PREFIXDB_TOKEN_FILE": str(place.token_file)})


@pytest.mark.parametrize(
    ("name", "options", "read"),
    [
        ("rows.prefixdb", (), ()),
        ("rows", ("--codec", "none"), ()),
        ("rows.jsonl", (), ()),
        ("rows.csv", ("--enc", "base64"), ("--enc", "base64")),
        ("rows.any", ("--format", "csv", "--enc", "hex"), ("--format", "csv")),
    ],
)
@pytest.mark.parametrize("command", ["load", "import"])
def test_what_is_exported_comes_back_the_same(
    filled: Cli, prefixdb_server: ServerProcess, tmp_path: Path, name: str, options: tuple[str, ...],
    read: tuple[str, ...], command: str,
) -> None:  # fmt: skip
    file = tmp_path / name
    done = filled("export", "--out", str(file), *options)
    assert (done.status, done.out) == (0, b"")
    assert "Exported 29 rows of every database" in done.err
    other = fresh(prefixdb_server, tmp_path)
    done = other(command, str(file), *read, "--json")
    assert (done.status, done.json["rows"], done.json["inserted"]) == (0, 29, 29), done.err
    assert content(other) == content(filled)
    again = other(command, str(file), *read)
    assert again.status == (0 if command == "load" else 70)
    assert content(other) == content(filled)
    assert not list(tmp_path.glob(".*partial"))


def test_what_scan_prints_can_be_loaded(filled: Cli, prefixdb_server: ServerProcess, tmp_path: Path) -> None:
    other = fresh(prefixdb_server, tmp_path)
    for enc in ("auto", "base64", "hex"):
        (tmp_path / "f").write_bytes(filled("scan", "--json", "--enc", enc).out)
        assert other("load", str(tmp_path / "f")).status == 0
        assert other("load", "-", stdin=(tmp_path / "f").read_bytes()).status == 0
        assert content(other) == [row for row in content(filled) if row[0] == 0]
    assert other("--database", "9", "load", str(tmp_path / "f")).status == 0
    assert other("--database", "9", "count").text == "27\n"


def test_standard_output_is_the_rows_and_nothing_else(filled: Cli) -> None:
    done = filled.process("export")
    assert done.status == 0
    assert done.out.startswith(b"\x94\xa6header")
    assert "Exported 29 rows" in done.err
    quiet = filled.process("export", "--format", "jsonl", "--quiet")
    assert (quiet.err, len(quiet.lines)) == ("", 29)
    part = filled.process("export", "--prefix", "user/1", "--format", "csv", "--quiet")
    assert part.text.splitlines()[0] == "key,value,database,expires_at_ms"
    assert len(part.text.splitlines()) == 1 + 11
    one = filled.process("--database", "3", "export", "--format", "jsonl", "--quiet")
    assert [row["key"] for row in one.lines] == ["other"]


def test_a_bad_line_is_told_by_its_number_and_nothing_is_applied(cli: Cli, tmp_path: Path) -> None:
    lines = [json.dumps({"key": f"k{n}", "value": "v"}) for n in range(20_000)]
    lines[17_000] = '{"key": "secret-key", "value": 5}'
    (tmp_path / "f.jsonl").write_text("\n".join(lines))
    done = cli("load", str(tmp_path / "f.jsonl"))
    assert (done.status, done.out) == (3, b"")
    assert "line 17001:" in done.err and "--reject" in done.err
    assert "secret" not in done.err
    assert cli("count").text == "0\n"
    as_json = cli("load", str(tmp_path / "f.jsonl"), "--json")
    assert as_json.error["metadata"] == {"place": "line 17001"}
    assert as_json.error["exit_status"] == 3
    assert cli("count").text == "0\n"


def test_rejected_lines_are_kept_as_they_are_and_can_be_loaded_again(cli: Cli, tmp_path: Path) -> None:
    bad = ["nope", '{"key": "", "value": "v"}', '{"key": "k", "value": "v", "what": 1}']
    good = [json.dumps({"key": f"k{n}", "value": "v"}) for n in range(4)]
    file, reject = tmp_path / "f.jsonl", tmp_path / "bad.jsonl"
    file.write_text("\n".join([good[0], bad[0], "", good[1], bad[1], good[2], bad[2], good[3]]))
    dry = cli("load", str(file), "--reject", str(reject), "--dry-run", "--json")
    assert (dry.status, dry.json["rejected"], dry.json["dry_run"]) == (1, 3, True)
    assert cli("count").text == "0\n"
    done = cli("load", str(file), "--reject", str(reject), "--json")
    assert (done.status, done.json["rows"], done.json["rejected"]) == (1, 4, 3)
    assert reject.read_text().splitlines() == bad
    for number in (2, 5, 7):
        assert f"line {number}: " in done.err
    assert cli("count").text == "4\n"
    reject.write_text("\n".join(good))
    assert cli("load", str(reject), "--reject", str(tmp_path / "bad2")).status == 0
    assert (tmp_path / "bad2").read_bytes() == b""
    before = file.read_bytes()
    assert cli("load", str(file), "--reject", str(file)).status == 2
    assert file.read_bytes() == before


def test_a_file_of_bad_lines_does_not_flood_the_terminal(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text("{\n" * 1000)
    done = cli("load", str(tmp_path / "f.jsonl"), "--reject", str(tmp_path / "bad"))
    assert done.status == 1
    assert len(done.err.splitlines()) < 20
    assert "1,000 lines could not be taken" in done.err


@pytest.mark.parametrize("command", ["load", "import"])
def test_a_damaged_archive_is_refused_whole_with_the_place(
    filled: Cli, prefixdb_server: ServerProcess, tmp_path: Path, command: str
) -> None:
    file = tmp_path / "a"
    assert filled("export", "--out", str(file), "--codec", "none").status == 0
    whole = file.read_bytes()
    other = fresh(prefixdb_server, tmp_path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[:-1], whole[: len(whole) // 2], bytes(flipped), whole + b"x", whole + whole):
        file.write_bytes(damaged)
        for stdin in (None, damaged):
            done = other(command, str(file) if stdin is None else "-", stdin=stdin)
            assert (done.status, done.out) == (3, b""), done.err
            assert " at byte " in done.err and "Nothing was changed" in done.err
    assert content(other) == []
    uploads = tmp_path / "state" / "prefixdb" / "uploads"
    assert not uploads.exists() or not list(uploads.iterdir())


def test_conflicts_are_counted_skipped_or_overwritten(filled: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"key": "user/1", "value": "new"}\n{"key": "fresh", "value": "new"}\n')
    done = filled("import", str(tmp_path / "a.jsonl"))
    assert done.status == 70
    assert "--on-conflict" in done.err
    assert filled("get", "fresh").status == 1
    dry = filled("import", str(tmp_path / "a.jsonl"), "--dry-run", "--on-conflict", "overwrite", "--json").json
    assert (dry["inserted"], dry["replaced"]) == (1, 1)
    assert filled("get", "user/1").out == b"value 1"
    kept = filled("import", str(tmp_path / "a.jsonl"), "--on-conflict", "skip", "--json").json
    assert (kept["inserted"], kept["skipped"]) == (1, 1)
    assert (filled("get", "user/1").out, filled("get", "fresh").out) == (b"value 1", b"new")
    assert filled("import", str(tmp_path / "a.jsonl"), "--on-conflict", "overwrite").status == 0
    assert filled("get", "user/1").out == b"new"


def test_what_is_said_to_do_next_fits_what_went_wrong(filled: Cli, tmp_path: Path) -> None:
    rows, table, empty = tmp_path / "rows.jsonl", tmp_path / "table.csv", tmp_path / "empty"
    rows.write_text('{"key": "user/2", "value": "b"}\n{"key": "user/1", "value": "a"}\n')
    table.write_text("key;value\na;b\n")
    empty.mkdir()
    trial = filled("import", str(rows), "--dry-run")
    assert trial.status == 70 and "only the trial" in trial.err and "--dry-run" not in trial.err
    assert "Leave --sorted out" in filled("load", str(rows), "--sorted").err
    header = filled("load", str(table))
    assert header.status == 3 and "first line right" in header.err and "--reject" not in header.err
    directory = filled("load", str(empty))
    assert directory.status == 3 and "directory you mean" in directory.err
    down = filled("--endpoint", "127.0.0.1:1", "load", str(rows))
    assert down.status == 78 and "same command goes on" in down.err and "upload id" not in down.err
    assert "of every database" in filled("export", "--out", str(tmp_path / "a")).err


def test_a_rocksdb_directory_goes_out_and_in(filled: Cli, prefixdb_server: ServerProcess, tmp_path: Path) -> None:
    target = str(tmp_path / "rocks")
    several = filled("export", "--format", "rocksdb", "--out", target)
    assert several.status == 2 and "--database" in several.err
    assert not (tmp_path / "rocks").exists()
    done = filled("--database", "0", "export", "--format", "rocksdb", "--out", target)
    assert done.status == 0
    assert "1 row had a lifetime" in done.err
    other = fresh(prefixdb_server, tmp_path)
    assert other("load", target, "--sorted", "--json").json["rows"] == 27
    expected = [(*row[:3], False) for row in content(filled) if row[0] == 0]
    assert content(other) == expected
    assert filled("--database", "0", "export", "--format", "rocksdb", "--out", target).status == 64 + 9
    assert filled("export", "--format", "rocksdb").status == 2


def test_what_cannot_be_is_said_before_anything_is_sent(bare: Cli, tmp_path: Path) -> None:
    (tmp_path / "what").write_bytes(b"\x00\x01")
    (tmp_path / "archive").write_bytes(b"\x94\xa6header and more")
    (tmp_path / "dir").mkdir()
    wrong = [
        (["load", str(tmp_path / "what")], "--format"),
        (["load", str(tmp_path / "dir"), "--format", "csv"], "is a directory"),
        (["load", str(tmp_path / "what"), "--format", "rocksdb"], "is no directory"),
        (["load", str(tmp_path / "archive"), "--reject", str(tmp_path / "r")], "--reject is for"),
        (["load", str(tmp_path / "archive"), "--sorted"], "--sorted is for"),
        (["--database", "3", "import", str(tmp_path / "archive")], "leave --database out"),
        (["load", "-", "--token-file", "-"], "Standard input"),
        (["export", "--members", "--format", "csv"], "--members"),
        (["export", "--members", "--database", "0"], "--members"),
    ]
    for arguments, words in wrong:
        done = bare(*arguments, PREFIXDB_ENDPOINT="127.0.0.1:1")
        assert (done.status, done.out) == (2, b""), arguments
        assert words in done.err, arguments
    assert not (tmp_path / "r").exists()
    done = bare.process("export", "--out", str(tmp_path / "no" / "f"), PREFIXDB_ENDPOINT="127.0.0.1:1")
    assert done.status == 66
    assert str(tmp_path / "no" / "f") in done.err
    for command in (["load"], ["import"], ["backup", "restore-namespace"]):
        done = bare.process(*command, str(tmp_path / "absent"), PREFIXDB_ENDPOINT="127.0.0.1:1")
        assert (done.status, done.out) == (66, b"")
        assert f"{tmp_path / 'absent'}: No such file" in done.err


def test_a_failed_export_leaves_the_file_that_was_there(filled: Cli, tmp_path: Path, place: Namespace) -> None:
    file = tmp_path / "a.csv"
    file.write_text("before")
    done = filled("export", "--out", str(file))
    assert (done.status, file.read_text()) == (67, "before")
    assert "--enc base64" in done.err
    place.server.guardian.guardian.namespaces.suspend(place.id)
    assert filled("export", "--out", str(file), "--enc", "hex").status == 71
    assert file.read_text() == "before"
    assert not list(tmp_path.glob(".*partial"))


def test_a_namespace_goes_into_a_file_and_another_one_comes_out_of_it(
    filled: Cli, guardian: Cli, place: Namespace, tmp_path: Path
) -> None:
    place.login("alice").close()
    file = tmp_path / "ns"
    done = guardian("backup", "namespace", place.name, "--out", str(file))
    assert done.status == 0
    assert "1 member" in done.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    taken = guardian("backup", "restore-namespace", str(file))
    assert (taken.status, taken.out) == (70, b"")
    name = f"{place.name}-back"
    made = guardian("backup", "restore-namespace", str(file), "--name", name)
    assert made.status == 0, made.err
    assert int(made.text) > 0 and f"Restored namespace {name}: 29 rows, 1 member" in made.err
    asked = guardian("backup", "restore-namespace", "-", "--name", f"{name}2", "--rows-only", "--json",
                     stdin=file.read_bytes())  # fmt: skip
    assert (asked.json["rows"], asked.json["members"], asked.json["name"]) == (29, 0, f"{name}2")
    assert "Nobody belongs to it" in asked.err
    token = str(place.server.issue_token(name))
    assert content(Cli(tmp_path, filled.variables | {"PREFIXDB_TOKEN_FILE": token})) == content(filled)
    assert filled("backup", "namespace", place.name, "--out", str(tmp_path / "x")).status == 71
    assert not (tmp_path / "x").exists()


def test_a_namespace_is_cloned(filled: Cli, guardian: Cli, place: Namespace, tmp_path: Path) -> None:
    name = f"{place.name}-clone"
    made = guardian("ns", "clone", place.name, name, "--json")
    assert (made.status, made.json["rows"], made.json["name"]) == (0, 29, name)
    token = str(place.server.issue_token(name))
    copy = Cli(tmp_path, filled.variables | {"PREFIXDB_TOKEN_FILE": token})
    assert content(copy) == content(filled)
    assert copy("put", "only-here", "x").status == 0
    assert filled("get", "only-here").status == 1
    assert guardian("ns", "clone", place.name, name).status == 70
    assert guardian("ns", "clone", "absent", "x").status == 1
    assert filled("ns", "clone", place.name, "y").status == 71
