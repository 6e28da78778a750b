"""Goal: rows survive the way through JSON lines and CSV; a line that is no row is named and put aside, never guessed.

Method: any rows are written and read back (hypothesis); other writers and readers of the same formats, Python's json
and csv, are set against ours; each kind of bad line is met alone, with its number and without its text in the reason.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixdb.archive import Rows
from prefixdb.archive import text as text_module
from prefixdb.archive.csvrows import csv_head, csv_lines, read_csv
from prefixdb.archive.jsonlines import json_lines, read_json_lines
from prefixdb.archive.text import ENCODINGS, BadLine, Rejects, TextOptions
from prefixdb.cli.text import json_bytes
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.limits import KEY_BYTES_MAX, TTL_MS_MAX, VALUE_BYTES_CEILING

NOW_MS = 1_700_000_000_000
OPTIONS = TextOptions(now_ms=NOW_MS)

TEXT = st.text(max_size=12) | st.text('",\r\n\\ \t\x00=', max_size=6)
BYTES = st.binary(max_size=12) | TEXT.map(str.encode)
KEYS = BYTES.filter(len)
LIVES = st.sampled_from([0, 1, 2**63 - 1]) | st.integers(1, 2**42)
ROWS = st.lists(st.tuples(KEYS, BYTES, st.integers(1, 2**64 - 1), LIVES), min_size=1, max_size=5)
TEXT_ROWS = st.lists(st.tuples(TEXT.map(str.encode).filter(len), TEXT.map(str.encode), st.just(1), LIVES), max_size=5)


def read(how: Any, data: bytes, options: TextOptions = OPTIONS) -> tuple[list[Any], list[BadLine]]:
    """Return the rows of a text and its bad lines."""
    bad: list[BadLine] = []
    return list(how(io.BytesIO(data), options, bad.append)), bad


def expected(rows: Any, database: int) -> list[Any]:
    """Return rows as a text gives them: without versions."""
    return [(database, key, value, 0, expires_at_ms) for key, value, _, expires_at_ms in rows]


@given(ROWS, st.sampled_from([0, 3, 65535]), st.booleans())
@settings(deadline=None)
def test_json_lines_give_back_the_rows(rows: Any, database: int, with_database: bool) -> None:
    data = json_lines(Rows(database, rows), with_database=with_database)
    found, bad = read(read_json_lines, data, TextOptions(now_ms=NOW_MS, database=65535 if with_database else database))
    assert not bad and found == expected(rows, database)
    for line, row in zip(data.split(b"\n")[:-1], rows, strict=True):
        assert json.loads(line)["version"] == row[2]


@given(ROWS, st.sampled_from([0, 3, 65535]), st.booleans(), st.sampled_from(["hex", "base64"]))
@settings(deadline=None)
def test_csv_gives_back_the_rows(rows: Any, database: int, with_database: bool, encoding: str) -> None:
    batch = Rows(database, rows)
    data = csv_head(encoding, with_database=with_database)
    data += csv_lines(batch, encoding, with_database=with_database)
    found, bad = read(read_csv, data, TextOptions(now_ms=NOW_MS, database=65535 if with_database else database))
    assert not bad and found == expected(rows, database)


@given(TEXT_ROWS)
@settings(deadline=None)
def test_csv_of_text_is_what_pythons_csv_reads(rows: Any) -> None:
    data = csv_head("utf8", with_database=False) + csv_lines(Rows(0, rows), "utf8", with_database=False)
    found, bad = read(read_csv, data)
    assert not bad and found == expected(rows, 0)
    records = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    assert records[0] == ["key", "value", "expires_at_ms"]
    assert [record[:2] for record in records[1:]] == [[key.decode(), value.decode()] for key, value, _, _ in rows]


@given(TEXT_ROWS, st.sampled_from(["\n", "\r\n"]), st.booleans())
@settings(deadline=None)
def test_csv_that_pythons_csv_wrote_is_read(rows: Any, line_end: str, quote_all: bool) -> None:
    file = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_NONNUMERIC
    writer = csv.writer(file, lineterminator=line_end, quoting=quoting)
    writer.writerow(["value", "key"])
    for key, value, _, _ in rows:
        writer.writerow([value.decode(), key.decode()])
    found, bad = read(read_csv, file.getvalue().encode())
    assert not bad and [(row[1], row[2]) for row in found] == [row[:2] for row in rows]


def test_a_line_of_scan_is_a_line_of_load() -> None:
    for key, value in ((b"user/1", "ä\n\u2028".encode()), (b"\x00\xff", b"\xff"), (b"a", b"")):
        for enc in ("auto", "base64", "hex"):
            facts = {"version": 258, "ttl_s": 1.5}
            line = json.dumps(json_bytes("key", key, enc) | json_bytes("value", value, enc) | facts, ensure_ascii=False)
            assert read(read_json_lines, line.encode()) == ([(0, key, value, 0, NOW_MS + 1500)], [])
    line = json.dumps({"key": "a", "value": "b", "version": 7, "ttl_s": None})
    assert read(read_json_lines, line.encode()) == ([(0, b"a", b"b", 0, 0)], [])


@pytest.mark.parametrize(
    ("given_life", "expires_at_ms"),
    [
        ({"ttl_s": 0}, NOW_MS),
        ({"ttl_s": 2}, NOW_MS + 2000),
        ({"ttl_s": 0.0014}, NOW_MS + 1),
        ({"ttl_ms": 7}, NOW_MS + 7),
        ({"ttl_ms": TTL_MS_MAX}, NOW_MS + TTL_MS_MAX),
        ({"expires_at_ms": 0}, 0),
        ({"expires_at_ms": 2**63 - 1}, 2**63 - 1),
        ({"ttl_s": None, "ttl_ms": 5, "expires_at_ms": None}, NOW_MS + 5),
    ],
)
def test_lifetimes_are_understood_in_each_form(given_life: dict[str, Any], expires_at_ms: int) -> None:
    fields = {"key": "a", "value": "b", "database": 9, **given_life}
    row = (9, b"a", b"b", 0, expires_at_ms)
    assert read(read_json_lines, json.dumps(fields).encode()) == ([row], [])
    texts = ["" if value is None else str(value) for value in fields.values()]
    assert read(read_csv, f"{','.join(fields)}\n{','.join(texts)}".encode()) == ([row], [])


BAD_FIELDS: list[dict[str, Any]] = [
    {"value": "secret"},
    {"key": "secret"},
    {"key": "", "value": "secret"},
    {"key": "k" * 4097, "value": "secret"},
    {"key": "a", "value": "secret", "database": 65536},
    {"key": "a", "value": "secret", "database": -1},
    {"key": "a", "value": "secret", "version": -1},
    {"key": "a", "value": "secret", "ttl_s": -1},
    {"key": "a", "value": "secret", "ttl_s": 1e300},
    {"key": "a", "value": "secret", "ttl_ms": 1.5},
    {"key": "a", "value": "secret", "ttl_ms": TTL_MS_MAX + 1},
    {"key": "a", "value": "secret", "expires_at_ms": -1},
    {"key": "a", "value": "secret", "expires_at_ms": 2**63},
    {"key": "a", "value": "secret", "ttl_ms": 1, "ttl_s": 1},
    {"key": "a", "value_hex": "secret"},
    {"key": "a", "value_hex": "ab cd"},
    {"key": "a", "value_hex": "abc"},
    {"key": "a", "value_b64": "secret!"},
    {"key": "a", "value_b64": "YQ"},
    {"key_b64": "", "value": "secret"},
]
BAD_JSON: list[bytes] = [
    *(json.dumps(fields).encode() for fields in BAD_FIELDS),
    b'{"key": "secret", "value": "v", "ttl": 5}',
    b'{"key": "secret", "key_b64": "YQ==", "value": "v"}',
    b'{"key": "secret", "key": "secret", "value": "v"}',
    b'{"key": "secret", "value": {"a": 1}}',
    b'{"key": "secret", "value": {"a": 1, "a": 2}}',
    b'{"key": 1, "value": "secret"}',
    b'{"key_b64": 1, "value": "secret"}',
    b'{"key": "secret", "value": null}',
    b'{"key": "secret", "value": "v", "database": true}',
    b'{"key": "secret", "value": "v", "database": "0"}',
    b'{"key": "secret", "value": "v", "version": 1.0}',
    b'{"key": "secret", "value": "v", "ttl_s": NaN}',
    b'{"key": "secret", "value": "v", "ttl_s": Infinity}',
    b'{"key": "secret", "value": "v", "ttl_s": true}',
    b'{"key": "secret", "value": "v", "ttl_s": 1' + b"0" * 5000 + b"}",
    b'{"key": "\\ud800secret", "value": "v"}',
    b'{"key": "secret", "value": "v"} {"key": "b", "value": "v"}',
    b'{"key": "secret", "value": "v"',
    b'{"key": "secret", "value": "\xff"}',
    b'["secret", "v"]',
    b'"secret"',
    b"secret",
    b"7",
    b"[" * 100_000,
    b"\x00",
]


@pytest.mark.parametrize("line", BAD_JSON, ids=range(len(BAD_JSON)))
def test_a_bad_json_line_has_its_number_and_the_others_are_read(line: bytes) -> None:
    good = b'{"key": "a", "value": "b"}\n'
    rows, bad = read(read_json_lines, good + b"\r\n" + line + b"\n" + good)
    assert len(rows) == 2
    assert [(one.line, one.text) for one in bad] == [(3, line + b"\n")]
    assert "secret" not in bad[0].reason and bad[0].reason.endswith(".")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"key": "\ud800", "value": ""}, "The key is half a character; use key_b64."),
        ({"key": "a", "value_b64": "!"}, "The value_b64 is not written as its name says."),
        ({"key_hex": "0", "value": ""}, "The key_hex is not written as its name says."),
        ({"key": "a", "value": "b", "ttl": 5}, "There is a field that is not understood: there are key, value"),
        ({"key": "a"}, "There is no value."),
    ],
)
def test_the_reason_says_what_to_change(fields: dict[str, Any], reason: str) -> None:
    _, bad = read(read_json_lines, json.dumps(fields).encode())
    assert bad[0].reason.startswith(reason)


def test_keys_and_values_may_be_as_long_as_they_may_be() -> None:
    key, value = "k" * KEY_BYTES_MAX, "v" * VALUE_BYTES_CEILING
    fields = {"key": key, "value": value, "version": 0}
    rows, bad = read(read_json_lines, json.dumps(fields).encode())
    assert not bad and (len(rows[0][1]), len(rows[0][2])) == (KEY_BYTES_MAX, VALUE_BYTES_CEILING)
    for name in ("key", "value"):
        _, bad = read(read_json_lines, json.dumps({**fields, name: str(fields[name]) + "x"}).encode())
        assert "longer than" in bad[0].reason


BAD_CSV: list[tuple[str, bytes]] = [
    *(
        (",".join(fields), ",".join(str(value) for value in fields.values()).encode())
        for fields in BAD_FIELDS
        if {"key", "value"} <= {name.partition("_")[0] for name in fields}
        and sum(name.startswith("ttl") for name in fields) < 2
    ),
    ("key,value", b"secret"),
    ("key,value", b"secret,a,b"),
    ("key,value", b'sec"ret",a'),
    ("key,value", b'"secret" ,a'),
    ("key,value", b'"secret"a,"b"'),
    ("key,value", b"a,sec\rret"),
    ("key,value", b"\xff,secret"),
    ("key,value,database", b"a,secret,x"),
    ("key,value,database", b"a,secret,0x1"),
    ("key,value,database", "a,secret,٧".encode()),
    ("key,value,ttl_s", b"a,secret,nan"),
    ("key,value,ttl_s", b"a,secret,inf"),
    ("key,value,ttl_s,ttl_ms", b"a,secret,1,1"),
]


@pytest.mark.parametrize(("header", "line"), BAD_CSV, ids=range(len(BAD_CSV)))
def test_a_bad_csv_line_has_its_number_and_the_others_are_read(header: str, line: bytes) -> None:
    good = ",".join("61" if name.startswith(("key", "value")) else "" for name in header.split(","))
    good = good.replace("61", "YWFh") if "b64" in header else good
    data = f"{header}\n{good}\n\n".encode() + line + f"\n{good}".encode()
    rows, bad = read(read_csv, data)
    assert len(rows) == 2
    assert [(one.line, one.text, one.header) for one in bad] == [(4, line + b"\n", header.encode() + b"\n")]
    assert "secret" not in bad[0].reason and bad[0].reason.endswith(".")


def test_a_row_of_several_lines_counts_by_its_first() -> None:
    data = b'key,value\na,"1\n2\n3"\n,"x\ny"\nb,c\n'
    rows, bad = read(read_csv, data)
    assert [row[1:3] for row in rows] == [(b"a", b"1\n2\n3"), (b"b", b"c")]
    assert [(one.line, one.text) for one in bad] == [(5, b',"x\ny"\n')]


@pytest.mark.parametrize("line", [b'say "x,y', b'a,3" nail', b'"a"b,"c"d', b'"a,b"c"', b'"a""b"c,"d"'])
def test_a_quote_within_a_field_spoils_its_own_line_only(line: bytes) -> None:
    rows, bad = read(read_csv, b"key,value\na,b\n" + line + b'\nc,d\n"e","f\ng"\n')
    assert [row[1:3] for row in rows] == [(b"a", b"b"), (b"c", b"d"), (b"e", b"f\ng")]
    assert [(one.line, one.text) for one in bad] == [(3, line + b"\n")]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"key;value\n", "semicolons"),
        (b"key\tvalue\n", "tabs"),
        (b"Key,Value\n", "small letters"),
        (b"key,value,secret\n", "Column 3 has another name"),
        (b"secret,key,value,secret\n", "Columns 1, 4 have other names"),
        (b"key,version\n", "A column is missing"),
        (b"secret,secret2\n", "There is no header"),
    ],
)
def test_what_is_wrong_with_a_header_is_told_without_quoting_it(header: bytes, words: str) -> None:
    with pytest.raises(PrefixdbError) as refusal:
        read(read_csv, header)
    assert words in refusal.value.message and "secret" not in refusal.value.message
    assert refusal.value.metadata == {"place": "line 1", "part": "header"}


@pytest.mark.parametrize(
    ("line", "words"),
    [(b"{\n", "jq -c"), (b'[{"key": "a", "value": "b"}]\n', "list"), (b'{"key": "a", "key": "b"}\n', "stands twice")],
)
def test_what_is_wrong_with_a_line_of_json_is_told(line: bytes, words: str) -> None:
    [bad] = read(read_json_lines, line)[1]
    assert words in bad.reason


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\n",
        b"key\n",
        b"value\n",
        b"key,value,ttl\n",
        b"key,key,value\n",
        b"key,key_hex,value\n",
        b"a,b\n",
        b"\xff\n",
    ],
)
def test_csv_whose_first_line_names_no_columns_is_refused_whole(header: bytes) -> None:
    with pytest.raises(PrefixdbError) as refusal:
        read(read_csv, header + b"a,b\n" * bool(header))
    assert refusal.value.reason is Reason.ARCHIVE_INVALID
    assert refusal.value.metadata["place"] == "line 1"


def test_columns_may_be_quoted_and_come_behind_a_byte_order_mark() -> None:
    assert read(read_csv, b'\xef\xbb\xbf"key", value \r\na,b\r\n') == ([(0, b"a", b"b", 0, 0)], [])
    assert read(read_json_lines, b'\xef\xbb\xbf{"key": "a", "value": "b"}') == ([(0, b"a", b"b", 0, 0)], [])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_plain_columns_are_in_the_encoding_that_is_asked_for(encoding: str) -> None:
    written = {"utf8": "a,b", "hex": "61,62", "base64": "YQ==,Yg=="}[encoding]
    options = TextOptions(now_ms=NOW_MS, database=5, encoding=encoding)
    assert read(read_csv, f"key,value\n{written}\n".encode(), options) == ([(5, b"a", b"b", 0, 0)], [])


def test_bytes_that_are_no_text_need_another_encoding() -> None:
    with pytest.raises(PrefixdbError) as refusal:
        csv_lines(Rows(0, [(b"a", b"\xffsecret", 1, 0)]), "utf8", with_database=False)
    assert refusal.value.reason is Reason.BAD_FIELD and refusal.value.metadata == {"field": "encoding"}
    assert "hex or base64" in str(refusal.value) and "secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(("how", "data"), [(read_json_lines, b"{}\n"), (read_csv, b"key,value\n,secret\n")])
def test_without_a_place_for_bad_lines_the_first_one_ends_it(how: Any, data: bytes) -> None:
    with pytest.raises(PrefixdbError) as refusal:
        list(how(io.BytesIO(data), OPTIONS))
    assert refusal.value.reason is Reason.ARCHIVE_INVALID
    assert refusal.value.metadata["place"] == f"line {data.count(bytes([10]))}"
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("how", "data", "left"),
    [
        (read_json_lines, b'{"key": "a"}\n{"key": "a", "value": "b"}\n[]', b'{"key": "a"}\n[]\n'),
        (read_csv, b'key,value\n,"1\n2"\na,b\nc', b'key,value\n,"1\n2"\nc\n'),
    ],
)
def test_what_is_put_aside_can_be_loaded_again(how: Any, data: bytes, left: bytes) -> None:
    told: list[BadLine] = []
    rejects = Rejects(aside := io.BytesIO(), told.append)
    assert len(list(how(io.BytesIO(data), OPTIONS, rejects))) == 1
    assert aside.getvalue() == left
    assert rejects.count == len(told) == 2
    assert read(how, left)[1] != []


@pytest.mark.parametrize(("how", "head"), [(read_json_lines, b""), (read_csv, b"key,value\n")])
def test_a_line_without_an_end_does_not_fill_the_memory(monkeypatch: Any, how: Any, head: bytes) -> None:
    module = __import__("prefixdb.archive.csvrows", fromlist=["csvrows"])
    for owner in (text_module, module):
        monkeypatch.setattr(owner, "LINE_BYTES_MAX", 100)
    asked: list[int] = []

    class Endless(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            asked.append(size or 0)
            return super().readline(size)

    with pytest.raises(PrefixdbError) as refusal:
        list(how(Endless(head + b"a" * 101), OPTIONS, lambda bad: None))
    assert refusal.value.metadata["place"] == f"line {1 + bool(head)}" and set(asked) == {101}
    list(how(io.BytesIO(head + b"a" * 100), OPTIONS, lambda bad: None))


def test_a_quote_that_is_never_closed_does_not_fill_the_memory(monkeypatch: Any) -> None:
    monkeypatch.setattr("prefixdb.archive.csvrows.LINE_BYTES_MAX", 100)
    with pytest.raises(PrefixdbError, match="a quote may be missing") as refusal:
        read(read_csv, b'key,value\na,"b\n' + b"c,d\n" * 100)
    assert refusal.value.metadata["place"] == "line 2"
