"""Goal: the demo, which is the first thing people run, ends well.

Method: it runs as ``make demo`` runs it, as a process of its own, on a server of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, "tools/demo/demo.py"], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert done.stdout.splitlines()[-1] == "demo: ok"
