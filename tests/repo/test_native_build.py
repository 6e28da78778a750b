"""Goal: what happens without compiler or libraries is what PREFIXDB_NATIVE promises, in words that help.

Method: ``setup.py`` is run with a compiler that is not there, or that cannot find one of the headers; nothing is built.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.test_style import ROOT


def build(wish: str, compiler: Path | str) -> subprocess.CompletedProcess[str]:
    """Run the build with a compiler of our choice, as pip and `make env` do."""
    return subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext"],
        cwd=ROOT, env={**os.environ, "PREFIXDB_NATIVE": wish, "CXX": str(compiler)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, start_new_session=True,
    )  # fmt: skip


def compiler_without(header: str, directory: Path) -> Path:
    """Return a compiler that accepts everything but programs with ``header``."""
    fake = directory / "g++"
    fake.write_text(
        "#!/bin/sh\n"
        'for file in "$@"; do case $file in *.cc)\n'
        f'    grep -q "{header}" "$file" && {{ echo "fatal error: {header}: No such file" >&2; exit 1; }} ;;\n'
        "esac; done\nexit 0\n",
        encoding="utf-8",
    )
    fake.chmod(0o755)
    return fake


def test_without_a_compiler_the_build_succeeds_and_says_what_to_install() -> None:
    run = build("auto", "/nowhere/g++")
    assert run.returncode == 0, run.stderr
    assert "built without the native store: a C++20 compiler is not there" in run.stderr
    assert "apt-get install g++ python3-dev librocksdb-dev" in run.stderr


def test_a_required_store_that_cannot_be_built_is_an_error() -> None:
    run = build("require", "/nowhere/g++")
    assert run.returncode != 0
    assert "PREFIXDB_NATIVE=require, but the native store cannot be built" in run.stderr


def test_a_store_that_is_off_is_left_out_quietly() -> None:
    run = build("off", "/nowhere/g++")
    assert (run.returncode, run.stderr) == (0, "")


def test_an_unknown_wish_is_refused() -> None:
    run = build("perhaps", "/nowhere/g++")
    assert run.returncode != 0
    assert "must be auto, off or require, not 'perhaps'" in run.stderr


@pytest.mark.parametrize(("header", "package"), [("Python.h", "python3-dev"), ("rocksdb/version.h", "librocksdb-dev")])
def test_a_missing_header_is_named_with_its_package(header: str, package: str, tmp_path: Path) -> None:
    run = build("require", compiler_without(header, tmp_path))
    assert run.returncode != 0
    assert f"{header}: No such file" in run.stderr
    assert f"Debian package {package}" in run.stderr


def test_what_is_asked_of_setup_for_other_reasons_builds_nothing() -> None:
    run = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=ROOT, env={**os.environ, "PREFIXDB_NATIVE": "require", "CXX": "/nowhere/g++"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
