"""How commands are made: lazy groups, and global flags that work before and after the command.

Every command takes the global flags, hidden from its own help. A flag that was given is noted in the context shared by
all levels; the innermost one wins. ``settings`` combines the notes with the environment and the profile.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NoReturn

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from prefixdb.errors import PrefixdbError

FLAGS_KEY = "prefixdb.flags"

_SHORT_HELP_MAX = 200
"""No first sentence is longer, so that all of it is shown in a list of commands."""

EPILOG = "Global options such as --endpoint, --profile, --json and --quiet work here too; see 'prefixdb --help'."


def given_flags(context: click.Context) -> dict[str, Any]:
    """Return the global flags that were given on the command line so far, by name."""
    flags: dict[str, Any] = context.meta.setdefault(FLAGS_KEY, {})
    return flags


def _note(context: click.Context, parameter: click.Parameter, value: object) -> object:
    """Keep a global flag's value if it was really given."""
    if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
        given_flags(context)[_flag_name(parameter)] = value
    return value


def profile_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the profiles of this machine to a shell; a file of them that cannot be read is not told here."""
    from prefixdb.client.profiles import load_profiles

    try:
        known = load_profiles().profiles
    except PrefixdbError:
        return []
    return [CompletionItem(name) for name in sorted(known) if name.startswith(incomplete)]


def _flag_name(parameter: click.Parameter) -> str:
    """Return the name of a global flag. Some commands have an argument of the same name, which click wants apart."""
    return (parameter.name or "").removeprefix("global_")


def global_options(*, hidden: bool) -> list[click.Option]:
    """Return new option objects for the global flags."""

    def option(*names: str, **facts: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_note, hidden=hidden, **facts)

    path = click.Path()  # For completion; what is there is looked at where it is used.
    return [
        option("--endpoint", metavar="HOST:PORT", help="Server to talk to; also unix:/PATH. [127.0.0.1:7311]"),
        option(
            "--token-file",
            type=path,
            metavar="FILE",
            help="File with the token; '-' takes the first line of standard input.",
        ),
        option(
            "--profile",
            metavar="NAME",
            shell_complete=profile_names,
            help="Profile with the settings that are not given otherwise.",
        ),
        option(
            "global_namespace",
            "--namespace",
            metavar="NAMESPACE",
            help="Namespace to work in, a name or id:NUMBER: whoever logged in goes there by a grant, 'token' names it "
            "to the server. [the token's own]",
        ),
        option("--database", type=click.IntRange(0, 65535), metavar="N", help="Numbered database, 0 to 65535. [0]"),
        option("--tls-ca", type=path, metavar="FILE", help="Certificates to trust; turns TLS on."),
        option("--tls-cert", type=path, metavar="FILE", help="Certificate of this client, for mutual TLS."),
        option("--tls-key", type=path, metavar="FILE", help="Key of this client's certificate."),
        option("--insecure", is_flag=True, help="Allow plaintext beyond loopback; tokens then travel readable."),
        option("--timeout", metavar="TIME", help="Longest time for one call: 500ms, 10s, 2m. [5s]"),
        option("--json", is_flag=True, help="One JSON object on each line; errors as JSON on standard error."),
        option(
            "--enc",
            type=click.Choice(["auto", "utf8", "hex", "base64"]),
            help="How keys and values are written, on the command line and in the output. [auto]",
        ),
        option("--quiet", "-q", is_flag=True, help="No words on standard error but errors."),
        option("--yes", "-y", is_flag=True, help="Do not ask before destroying something."),
        option("--no-color", is_flag=True, help="No colours; NO_COLOR in the environment does the same."),
    ]


class Command(click.Command):
    """A command that also takes the global flags."""

    def __init__(self, *args: Any, **facts: Any) -> None:
        facts.setdefault("epilog", EPILOG)
        super().__init__(*args, **facts)
        self.params += global_options(hidden=True)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the global flags too, after the command's own."""
        offered = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            flags = [item for item in self.params if isinstance(item, click.Option) and item.hidden]
            offered += [
                CompletionItem(name, help=item.help)
                for item in flags
                for name in item.opts
                if name.startswith(incomplete) and _flag_name(item) not in given_flags(ctx)
            ]
        return offered


class Group(click.Group):
    """A group whose commands are imported when they are needed.

    Args:
        lazy: command name → "module:attribute", in the order of the help.
        top: whether this is the program itself, which shows the global flags.
    """

    command_class = Command

    def __init__(self, *args: Any, lazy: dict[str, str] | None = None, top: bool = False, **facts: Any) -> None:
        super().__init__(*args, **facts)
        self._lazy = lazy or {}
        self._top = top
        self.params += global_options(hidden=not top)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands in the order they were declared."""
        return [*self._lazy, *(name for name in self.commands if name not in self._lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing its module if need be."""
        target = self._lazy.get(cmd_name)
        if target is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is answered with the nearest name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as failure:
            if "No such command" in failure.message:
                _unknown_command(self, ctx, args[0])
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their whole first sentence; click would cut it to what fits on one line."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, item.get_short_help_str(_SHORT_HELP_MAX)) for name, item in found if item is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options; the program's own page has the commands first and the flags under their own title."""
        if not self._top:
            super().format_options(ctx, formatter)
            return
        self.format_commands(ctx, formatter)
        records = [record for option in self.get_params(ctx) if (record := option.get_help_record(ctx)) is not None]
        with formatter.section("Global options, before or after the command"):
            formatter.write_dl(records)


def _unknown_command(group: click.Group, context: click.Context, name: str) -> NoReturn:
    """Refuse an unknown command with what was probably meant."""
    import difflib

    names = group.list_commands(context)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(names)}."
    raise click.UsageError(f"There is no command '{name}'. {hint}", context)


def command(name: str) -> Callable[[Callable[..., object]], Command]:
    """Decorate a function as a command with global flags."""
    return click.command(name, cls=Command)


def group(name: str) -> Callable[[Callable[..., object]], Group]:
    """Decorate a function as a group of commands with global flags."""
    return click.group(name, cls=Group)
