"""Goal: the program as a whole: every promised command is there and explains itself, completion works, bugs show.

Method: the table of promised commands is written here again, by hand.
"""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from prefixdb.cli.main import main
from prefixdb.errors import Code, Reason
from tests.cli.conftest import Cli

PROMISED = """
serve login logout whoami ping status doctor get put del scan count mget compact version
profile:list,use,set,remove completion config:init,check,show
ns:create,list,show,update,suspend,resume,ban,unban,report token:issue,list,revoke,inspect
user:create,list,show,set,passwd,delete group:create,list,show,set,delete grant:add,deny,revoke,list
key:list,rotate,remove audit:show,verify recover-guardian recover
ns:bans,clone export import load backup:create,list,verify,restore,prune,namespace,restore-namespace
"""


def commands(command: click.Command, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Return every command below ``command`` by its path."""
    if not isinstance(command, click.Group):
        return {path: command}
    found = {}
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        found |= commands(child, (*path, name))
    return found


def promised() -> set[tuple[str, ...]]:
    """Return the paths in ``PROMISED``."""
    paths: set[tuple[str, ...]] = set()
    for word in PROMISED.split():
        name, _, children = word.partition(":")
        paths |= {(name, child) for child in children.split(",")} if children else {(name,)}
    return paths


def test_every_promised_command_is_there_and_no_other() -> None:
    assert set(commands(main)) == promised()


@pytest.mark.parametrize("path", sorted(promised()), ids=" ".join)
def test_every_command_explains_itself_in_one_line_and_in_full(path: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(main, [*path, "--help"])
    assert ended.exit_code == 0
    assert f"Usage: prefixdb {' '.join(path)}" in ended.stdout
    command = commands(main)[path]
    assert 10 < len(command.get_short_help_str(200)) < 100, "the first sentence is what lists show"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} is not explained"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("prefixdb pro", {"profile"}),
        ("prefixdb ns ", {"create", "ban", "unban"}),
        ("prefixdb grant ", {"add", "deny", "revoke", "list"}),
        ("prefixdb user set ann --privilege n", {"namespaces.use", "namespaces.edit"}),
        ("prefixdb user passwd --", {"--password-file", "--old-password-file", "--namespace"}),
        ("prefixdb login --name", {"--namespace"}),
        ("prefixdb put --t", {"--ttl", "--token-file", "--timeout"}),
        ("prefixdb put --token-file some", {"some"}),
        ("prefixdb completion f", {"fish"}),
    ],
)
def test_completion_offers_what_comes_next(bare: Cli, typed: str, offered: set[str]) -> None:
    words = typed.split(" ")
    ended = bare.process(_PREFIXDB_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD=str(len(words) - 1))
    found = {line.partition(",")[2] for line in ended.text.splitlines()}
    assert offered <= found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_this_program(bare: Cli, shell: str) -> None:
    ended = bare("completion", shell)
    assert ended.status == 0
    assert "_PREFIXDB_COMPLETE" in ended.text


def test_an_unknown_command_is_answered_with_the_nearest_name(bare: Cli) -> None:
    ended = bare("sacn")
    assert ended.status == 2
    assert "Did you mean 'scan'?" in ended.err
    assert "serve, get, put" in bare("xyzzy").err


def test_every_reason_has_an_exit_status_and_none_is_taken_for_success() -> None:
    from prefixdb.cli.failures import exit_status
    from prefixdb.errors import error

    statuses = {reason: exit_status(error(reason)) for reason in Reason}
    assert statuses[Reason.KEY_NOT_FOUND] == statuses[Reason.NAMESPACE_NOT_FOUND] == statuses[Reason.CONFLICT] == 1
    assert statuses[Reason.CORRUPTION] == 3
    for reason, status in statuses.items():
        if status not in {1, 3}:
            assert status == 64 + int(reason.value.code)
    assert not {0, 2} & set(statuses.values())
    assert Code.OK not in {reason.value.code for reason in Reason}


def test_a_mistake_of_the_program_shows_itself_and_is_not_taken_for_not_found(
    bare: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    import prefixdb.cli.version

    def broken() -> None:
        raise ZeroDivisionError("here")

    monkeypatch.setattr(prefixdb.cli.version, "load_settings", broken)
    ended = bare("version")
    assert ended.status == 77
    assert "ZeroDivisionError" in ended.err and "report it" in ended.err


def test_version_is_for_people_and_for_programs(bare: Cli) -> None:
    assert bare("version").text.startswith("prefixdb ")
    assert bare("--version").text == bare("version").text
    assert set(json.loads(bare("version", "--json").out)) == {"version", "python"}


def test_completion_offers_the_profiles_there_are(bare: Cli) -> None:
    for name in ("work", "home"):
        assert bare("profile", "set", name, "--endpoint", "127.0.0.1:1").status == 0
    for typed in ("prefixdb --profile w", "prefixdb put --profile w", "prefixdb profile use w"):
        count = str(len(typed.split(" ")) - 1)
        ended = bare.process(_PREFIXDB_COMPLETE="bash_complete", COMP_WORDS=typed, COMP_CWORD=count)
        assert ended.text.splitlines() == ["plain,work"], typed


def test_lists_of_commands_show_whole_sentences(bare: Cli) -> None:
    for words in ((), ("ns",), ("user",), ("key",)):
        assert "..." not in bare(*words, "--help").text.replace("[ARGS]...", "")
