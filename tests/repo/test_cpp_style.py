"""Goal: the C++ code keeps the house style as the Python code does.

Method: clang-format (pinned, because its output differs between versions) must not want to change anything; sizes are
counted, functions by the brace in the first column that ends them, as the formatter lays them out.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repo.test_style import FILE_LINES_MAX, FUNCTION_LINES_MAX, ROOT, relative, tracked

SOURCES = [path for path in tracked("*.cc", "*.h") if "/build/" not in relative(path)]
CLANG_FORMAT = Path(sys.executable).parent / "clang-format"

# A definition begins in the first column or, inside a class, two spaces in, and opens its brace at the end of a line.
BEGINS = re.compile(r"^( {0,2})[A-Za-z~].*\)[^;]*\{$|^( {0,2})TEST_CASE\(.*\{$")
TYPE = re.compile(r"^ {0,2}(class|struct|enum|union|namespace)\b")


def functions(lines: list[str]) -> Iterator[tuple[int, int]]:
    """Yield the first line (from 1) and the number of lines of each function body."""
    number = 0
    while number < len(lines):
        found = BEGINS.match(lines[number])
        if found and not TYPE.match(lines[number]):
            indent = found.group(1) or found.group(2) or ""
            end = next((n for n in range(number + 1, len(lines)) if lines[n].startswith(f"{indent}}}")), len(lines) - 1)
            yield number + 1, end - number - 1
        number += 1


def test_there_is_something_to_look_at() -> None:
    assert any(relative(path).startswith("prefixdb/_native/") for path in SOURCES)


def test_the_cpp_code_is_formatted() -> None:
    command = [str(CLANG_FORMAT), "--dry-run", "--Werror", *map(str, SOURCES)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_cpp_file_says_what_it_is_for_and_is_of_readable_size(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= FILE_LINES_MAX, f"{relative(path)} is over {FILE_LINES_MAX} lines; find the seam"
    if path.suffix == ".h" or not path.with_suffix(".h").exists():
        assert lines[0].startswith("// "), f"{relative(path)} begins with what it is for"
    if path.suffix == ".h":
        assert "#pragma once" in lines, f"{relative(path)} needs #pragma once"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_cpp_functions_are_short(path: Path) -> None:
    for line, size in functions(path.read_text(encoding="utf-8").splitlines()):
        assert size <= FUNCTION_LINES_MAX, f"{relative(path)}:{line} has a function of {size} lines"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_only_the_binding_knows_python_and_nothing_prints(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if not relative(path).startswith("prefixdb/_native/"):
        return
    if not path.name.startswith(("module", "python_")):
        assert "Python.h" not in text and "pybind11" not in text, f"{relative(path)} knows Python"
    assert not re.search(r"std::c(out|err)\b|\bf?printf\(", text), f"{relative(path)} prints"


def test_the_size_check_finds_a_long_function() -> None:
    lines = [
        "void Long(int a) {",
        *["  x();"] * 80,
        "}",
        "class A {",
        "  int Short() const {",
        "    return 1;",
        "  }",
        "};",
    ]
    assert list(functions(lines)) == [(1, 80), (84, 1)]
