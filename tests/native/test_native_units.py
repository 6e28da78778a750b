"""Goal: the C++ tests of the compiled part pass here too, so that `make test` is all there is to run.

Method: each ``*_test.cc`` is built by ``tests/native/Makefile`` (what has not changed is not compiled again) and run.
`make sanitize` runs the same programs under the sanitizers. Fuzz targets are given every input of ``corpus/``, also
those that once broke something; `make fuzz` looks for more.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAMS = sorted(path.stem for path in HERE.glob("*_test.cc"))
FUZZERS = sorted(p.stem for p in HERE.glob("fuzz_*.cc") if "void FuzzOne(std::span" in p.read_text(encoding="utf-8"))
CORPUS_FILES_MAX = 400
CORPUS_BYTES_MAX = 600_000
BUILD_TIMEOUT_S = 900
RUN_TIMEOUT_S = 240


def skip_without_the_compiled_part() -> None:
    """Skip where the extension was left out; where it is required its absence is a failure."""
    if os.environ.get("PREFIXDB_NATIVE") != "require":
        pytest.importorskip("prefixdb._native.module", reason="the native store is not built in", exc_type=ImportError)
        if not Path("/usr/include/doctest/doctest.h").exists():
            pytest.skip("doctest is not installed (Debian package doctest-dev)")


def build_and_run(program: str, *arguments: str) -> None:
    """Make a program of the plain build, run it, and fail with what it says."""
    skip_without_the_compiled_part()
    (HERE / "build").mkdir(exist_ok=True)
    with (HERE / "build" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Test processes share the objects.
        built = subprocess.run(
            ["make", "--no-print-directory", "-C", str(HERE), "-j2", f"build/plain/{program}"],
            capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False,
        )  # fmt: skip
    assert built.returncode == 0, f"{built.stdout}\n{built.stderr}"
    command = [str(HERE / "build" / "plain" / program), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"


@pytest.mark.timeout(BUILD_TIMEOUT_S + RUN_TIMEOUT_S)
@pytest.mark.parametrize("program", PROGRAMS)
def test_cpp(program: str) -> None:
    build_and_run(program)


@pytest.mark.timeout(BUILD_TIMEOUT_S + RUN_TIMEOUT_S)
@pytest.mark.parametrize("program", FUZZERS)
def test_a_fuzz_target_stands_every_input_that_is_kept(program: str) -> None:
    build_and_run(program, str(HERE / "corpus" / program.removeprefix("fuzz_")))


def test_every_fuzz_target_has_inputs_and_they_are_few() -> None:
    corpus = HERE / "corpus"
    assert sorted(f"fuzz_{path.name}" for path in corpus.iterdir() if path.is_dir()) == FUZZERS
    files = [path for path in corpus.rglob("*") if path.is_file()]
    assert len(files) <= CORPUS_FILES_MAX
    assert sum(path.stat().st_size for path in files) <= CORPUS_BYTES_MAX


def test_there_are_programs_to_run() -> None:
    assert len(PROGRAMS) > 3
    assert len(FUZZERS) > 2
