"""Goal: what is committed is formatted, typed, layered and equal to what the generators make.

Method: run the same tools people run; their own output is the failure message.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

CHECKS = {
    "the code is formatted": [BIN / "ruff", "format", "--check", "."],
    "the linter finds nothing": [BIN / "ruff", "check", "."],
    "the types are strict": [BIN / "mypy"],
    "the protos pass buf lint": [BIN / "buf", "lint", "proto"],
    "imports go one way": [BIN / "lint-imports"],
    "prefixdb/v1 is what the protos generate": [sys.executable, "tools/gen_proto.py", "--check"],
    "the front's facts are those of errors and limits": [sys.executable, "tools/gen_front.py", "--check"],
    "the sync client is what the async one generates": [sys.executable, "tools/async_to_sync.py", "--check"],
    "the generated pages of docs are current": [sys.executable, "tools/gen_docs.py", "--check"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_repository(name: str) -> None:
    run = subprocess.run([str(part) for part in CHECKS[name]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
