"""Generate the sync client and its tests from the asyncio ones; ``--check`` compares instead of writing.

    prefixdb/client/aio/NAME.py        → prefixdb/client/sync/NAME.py      but for those that are written twice
    tests/client/test_aio_NAME.py      → tests/client/test_sync_NAME.py

The transformation is a list of replacements of whole words, in code and documentation alike: what asyncio and threads
do differently lives in ``wire.py`` and ``gatherer.py``, so nothing more is needed. The result goes through the
formatter.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AIO = ROOT / "prefixdb" / "client" / "aio"
SYNC = ROOT / "prefixdb" / "client" / "sync"
TESTS = ROOT / "tests" / "client"
WRITTEN_BY_HAND = {"gatherer.py", "wire.py"}

REPLACEMENTS = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAwaitable\[([A-Za-z]+)\]", r"\1"),
    (r"\bAwaitable, ", ""),
    (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
    (r"\baclose\b", "close"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bAsync([A-Z]\w+)", r"\1"),
    (r"\bconnect_async\b", "connect"),
    (r"\bprefixdb\.client\.aio\b", "prefixdb.client.sync"),
    (r"\basync_(test|gather|until)\b", r"sync_\1"),
    (r"\basyncio client\b", "threads' client"),
]


def to_sync(text: str) -> str:
    """Return the sync twin of a module's text, not yet formatted."""
    for pattern, replacement in REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    return text


def formatted(path: Path, text: str) -> str:
    """Return ``text`` as the formatter leaves it, imports sorted and what only asyncio had to write simplified."""
    ruff = [sys.executable, "-m", "ruff"]
    name = ["--stdin-filename", str(path), "-"]
    # Said outright, because a module that does not exist yet would be taken for somebody else's.
    own = ["--config", 'lint.isort.known-first-party=["prefixdb", "tests"]']
    for command in (
        [*ruff, "check", "--quiet", "--select", "I,C416,SIM117,UP028", "--fix", "--unsafe-fixes", *own, *name],
        [*ruff, "format", "--quiet", *name],
    ):
        done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{path}: {' '.join(command[2:4])} failed:\n{done.stderr}{done.stdout}")
        text = done.stdout
    return text


def twins() -> dict[Path, Path]:
    """Return every source and the file generated from it."""
    modules = {path: SYNC / path.name for path in sorted(AIO.glob("*.py")) if path.name not in WRITTEN_BY_HAND}
    tests = {
        path: path.with_name(path.name.replace("test_aio_", "test_sync_"))
        for path in sorted(TESTS.glob("test_aio_*.py"))
    }
    return modules | tests


def generate(source: Path, target: Path) -> str:
    """Return the text that ``target`` should have."""
    header = f"# Generated from {source.relative_to(ROOT)} by tools/async_to_sync.py; do not edit.\n"
    text = to_sync(source.read_text(encoding="utf-8"))
    if source.name == "__init__.py":
        text = text.replace("the source from which ``prefixdb.client.sync`` is generated.", "generated from ``aio``.")
    return formatted(target, header + text)


def main() -> None:
    """Generate, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a twin is stale")
    check = parser.parse_args().check
    pairs = twins()
    wanted = {target: generate(source, target) for source, target in pairs.items()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    known = set(wanted) | {SYNC / name for name in WRITTEN_BY_HAND}
    orphans = [path for path in [*SYNC.glob("*.py"), *TESTS.glob("test_sync_*.py")] if path not in known]
    if check:
        if stale or orphans:
            names = ", ".join(str(path.relative_to(ROOT)) for path in [*stale, *orphans])
            sys.exit(f"the sync client is stale, run 'make gen': {names}")
        return
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
    for path in orphans:
        path.unlink()
    print(f"sync client: {len(stale)} files changed, {len(orphans)} removed")


if __name__ == "__main__":
    main()
