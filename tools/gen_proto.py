"""Generate ``prefixdb/v1`` from ``proto/``; ``--check`` compares instead of writing and fails on a difference.

Run it with the pinned grpcio-tools (pyproject.toml): generated code refuses runtimes older than its generator.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "prefixdb" / "v1"
INIT = '"""Generated from ``proto/prefixdb/v1`` by ``make gen``; do not edit."""\n'


def generate(target: Path) -> None:
    """Write the generated package into ``target``, an empty directory."""
    protos = sorted(str(path) for path in (ROOT / "proto").rglob("*.proto"))
    includes = [
        f"-I{ROOT / 'proto'}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        outputs = [f"--python_out={scratch}", f"--pyi_out={scratch}", f"--grpc_python_out={scratch}"]
        if protoc.main(["protoc", *includes, *outputs, *protos]) != 0:
            raise SystemExit("protoc failed; its message is above")
        for path in sorted((Path(scratch) / "prefixdb" / "v1").iterdir()):
            shutil.copy(path, target / path.name)
    (target / "__init__.py").write_text(INIT, encoding="utf-8")


def differences(fresh: Path) -> list[str]:
    """Return the names of files in which ``fresh`` and the committed package differ."""
    names = {path.name for path in fresh.iterdir()} | {p.name for p in OUTPUT.iterdir() if p.is_file()}
    _, different, missing = filecmp.cmpfiles(fresh, OUTPUT, sorted(names), shallow=False)
    return sorted(different + missing)


def main() -> None:
    """Generate, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the committed code is stale")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        stale = differences(Path(scratch))
        if arguments.check:
            if stale:
                sys.exit(f"prefixdb/v1 is stale, run 'make gen': {', '.join(stale)}")
            return
        for name in stale:
            source = Path(scratch) / name
            if source.exists():
                shutil.copy(source, OUTPUT / name)
            else:
                (OUTPUT / name).unlink()
                print(f"removed {name}")
    print(f"prefixdb/v1: {len(stale)} files changed")


if __name__ == "__main__":
    main()
