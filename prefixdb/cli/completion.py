"""``prefixdb completion``: the script that teaches a shell to complete this program."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from prefixdb.cli.base import command


@command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    eval "$(prefixdb completion bash)"          in ~/.bashrc
    eval "$(prefixdb completion zsh)"           in ~/.zshrc
    prefixdb completion fish | source           in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    program = context.find_root().command
    # `source` asks bash for its version only to warn; the script itself is fixed text.
    script = kind(program, {}, "prefixdb", "_PREFIXDB_COMPLETE")
    click.echo(script.source_template % script.source_vars())
