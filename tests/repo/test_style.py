"""Goal: the house style holds everywhere, so that reviews are about ideas.

Method: every hand-written Python file is parsed; a rule that is broken names file, line and what to do.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
POSITIONAL_MAX = 5

GENERATED = ("prefixdb/v1/", "prefixdb/client/sync", "tests/client/test_sync")


def tracked(*patterns: str) -> list[Path]:
    """Return the files git knows or would add; without git (an unpacked source archive) those on disk."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        names = listing.stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        names = [str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.rglob(pattern)]
    return sorted(ROOT / name for name in set(names) if (ROOT / name).is_file() and not name.startswith(".venv/"))


def relative(path: Path) -> str:
    """Return the path as people write it."""
    return str(path.relative_to(ROOT))


SOURCES = [path for path in tracked("*.py") if not relative(path).startswith(GENERATED)]


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its signature and docstring."""
    start = node.body[0]
    if ast.get_docstring(node) is not None:
        start = node.body[1] if len(node.body) > 1 else node.body[0]
    return (node.end_lineno or start.lineno) - start.lineno + 1


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_file_is_documented_and_of_readable_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if not text.strip():
        assert path.name == "__init__.py", "only a package marker may be empty"
        return
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{relative(path)} needs a docstring: what is it for?"
    assert len(text.splitlines()) <= FILE_LINES_MAX, f"{relative(path)} is over {FILE_LINES_MAX} lines; find the seam"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_functions_are_short_and_take_few_positional_arguments(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in functions(tree):
        place = f"{relative(path)}:{node.lineno} {node.name}"
        assert body_lines(node) <= FUNCTION_LINES_MAX, f"{place} is too long"
        if relative(path).startswith("prefixdb/cli/"):
            continue  # Click calls a command with one argument for each of its options, all by name.
        positional = [a.arg for a in node.args.posonlyargs + node.args.args if a.arg not in {"self", "cls"}]
        assert len(positional) <= POSITIONAL_MAX or relative(path).startswith("tests/"), f"{place} takes {positional}"


def contract_methods() -> set[str]:
    """Return the methods that a storage contract documents; implementations need not repeat it."""
    names = set()
    for module in ("base", "engine"):
        tree = ast.parse((ROOT / "prefixdb" / "store" / f"{module}.py").read_text(encoding="utf-8"))
        names.update(node.name for node in functions(tree) if ast.get_docstring(node))
    return names


CONTRACT = contract_methods()


@pytest.mark.parametrize("path", [p for p in SOURCES if relative(p).startswith("prefixdb/")], ids=relative)
def test_public_things_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        assert ast.get_docstring(node), f"{relative(path)}:{node.lineno} {node.name} needs a docstring"
        for member in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not member.name.startswith("_"):
                overload = any("overload" in ast.dump(decorator) for decorator in member.decorator_list)
                promised = relative(path).startswith("prefixdb/store/") and member.name in CONTRACT
                declared = ast.unparse(member.body[-1]) == "..."
                documented = ast.get_docstring(member) or overload or promised or declared
                assert documented, f"{relative(path)}:{member.lineno} {member.name} needs a docstring"


@pytest.mark.parametrize("path", [p for p in SOURCES if relative(p).startswith("prefixdb/")], ids=relative)
def test_only_the_clock_module_reads_the_wall_clock(path: Path) -> None:
    if relative(path) in {"prefixdb/clock.py"} or relative(path).startswith(("prefixdb/client/", "prefixdb/cli/")):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            assert name not in {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow"}, (
                f"{relative(path)}:{node.lineno} reads {name}; take a prefixdb.clock.Clock"
            )


@pytest.mark.parametrize("path", [p for p in SOURCES if not relative(p).startswith("tools/")], ids=relative)
def test_tests_and_code_wait_for_conditions_instead_of_guessing_times(path: Path) -> None:
    """``time.sleep`` and ``asyncio.sleep`` may pace a poll of a condition: they stand inside a loop, or sleep 0."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    paced: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.While | ast.For | ast.AsyncFor):
            paced.update(id(inner) for inner in ast.walk(node))
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep"):
            continue
        zero = node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
        assert zero or id(node) in paced, f"{relative(path)}:{node.lineno} sleeps; wait for the condition"


def test_the_project_speaks_of_itself_alone() -> None:
    forbidden = ("/work/", "/root/", "shared/design", "registry.npmjs", "pypi.org", "deb.debian", "/tmp/brief")
    here = Path(__file__).name
    for path in tracked("*.py", "*.md", "*.proto", "*.toml", "*.sh", "*.txt", "Makefile", ".ci/run", "*.json"):
        if path.name == here:
            continue
        text = path.read_text(encoding="utf-8")
        for word in forbidden:
            assert word not in text, f"{relative(path)} mentions {word}"
