"""Goal: the documentation tells the truth about commands, code, files and settings.

Method: every `prefixdb …` line of a fenced block is looked up in the program itself, every link and every named file is
looked for on disk, and the README's example runs against a real server.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from prefixdb.catalog.policy import METHODS
from prefixdb.cli.main import main as cli
from prefixdb.testing import ServerProcess
from prefixdb.v1 import error_pb2

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
HAND_WRITTEN = [page for page in PAGES if page.name not in {"cli.md", "configuration.md", "errors.md", "limits.md"}]
COMMAND = re.compile(r"^(?:\$ )?(prefixdb [^#|>\n]*)", re.MULTILINE)


def commands_of(page: Path) -> list[str]:
    """Return the command lines of a page's fenced blocks."""
    fences = re.findall(r"```\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line.strip() for fence in fences for line in COMMAND.findall(fence.replace("\\\n", ""))]


def relative(path: Path) -> str:
    """Return the path as people write it."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "line", sorted({line for page in HAND_WRITTEN for line in commands_of(page) if "VERSION" not in line})
)
def test_a_command_in_the_documentation_is_one_the_program_takes(line: str) -> None:
    command: click.Command = cli
    context = click.Context(command, info_name="prefixdb")
    arguments = shlex.split(line)[1:]
    while isinstance(command, click.Group):
        name, found, rest = None, None, arguments
        for index, word in enumerate(arguments):
            found = command.get_command(context, word)
            if found is not None:
                name, rest = word, arguments[:index] + arguments[index + 1 :]
                break
        assert found is not None, f"no command in {line!r}"
        command, arguments = found, rest
        context = click.Context(command, info_name=name, parent=context)
    command.parse_args(context, list(arguments))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{relative(page)} links to {target}"


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=relative)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = r"`((?:prefixdb|tests|tools|proto|docs|store|catalog|service|server|client)/[\w./-]+)`"
    for name in re.findall(named, text):
        places = [ROOT / name, ROOT / "prefixdb" / name]
        assert any(place.exists() for place in places), f"{relative(page)} names {name}"


def test_every_reason_and_every_service_is_documented() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for name in error_pb2.Reason.keys():  # noqa: SIM118 - an enum wrapper, not a dict
        assert name == "REASON_UNSPECIFIED" or f"`{name.removeprefix('REASON_')}`" in page
    for method in METHODS:
        if method.startswith("/prefixdb.v1."):
            service = method.split(".")[2].split("/")[0]
            assert (ROOT / "proto/prefixdb/v1").joinpath(f"{_snake(service)}.proto").exists()


def test_every_make_target_is_explained() -> None:
    run = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets is not None
    for target in targets.group(1).split():
        assert f"make {target}" in run.stdout, f"make help does not explain {target}"


def test_the_example_of_the_readme_runs_as_it_stands(prefixdb_server: ServerProcess) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert example is not None
    namespace = prefixdb_server.create_namespace()
    code = example.group(1).replace("127.0.0.1:7311", prefixdb_server.endpoint)
    code = code.replace("acme.token", str(namespace.token_file))
    exec(compile(code, "README.md", "exec"), {})
    with namespace.connect() as db:
        assert db.get("user/1") == b"alice"
        assert db.get("x") == b"1"
        assert db.get("n") == b"1"
        assert db.database(3).get("k") == b"v"


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
