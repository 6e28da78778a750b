"""``prefixdb recover-guardian``: the way back in when no guardian can log in any more. Needs the server stopped."""

from __future__ import annotations

import os
from pathlib import Path

import click

from prefixdb.cli.base import command
from prefixdb.cli.config import missing_server
from prefixdb.cli.output import put_json, say
from prefixdb.cli.private import private_files
from prefixdb.cli.settings import load_settings


@command("recover-guardian")
@click.option("--data-dir", metavar="DIR", help="The stopped server's data directory. [prefixdb-data]")
@click.option("--user", metavar="NAME", default="guardian", show_default=True, help="The guardian to be.")
@click.option("--revoke-tokens", is_flag=True, help="Also revoke every token of that name, service tokens included.")
@click.option("--store", type=click.Choice(["auto", "native", "rocksdict"]), help="Storage engine. [auto]")
@click.option(
    "--config", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Configuration file (TOML)."
)
@private_files()
def recover_guardian(
    data_dir: str | None, user: str, revoke_tokens: bool, store: str | None, file: Path | None
) -> None:
    """Make a cluster guardian who can log in.

    The member NAME of namespace 0 is created or repaired: enabled, in the group guardians, with a new random password
    in DIR/guardian.password and without logins. Nothing else changes. Works whatever happened to the other members and
    to every token, on the machine that has the data directory, while the server is stopped. It is written into the
    audit.
    """
    settings = load_settings(use_profiles=False)
    try:
        from prefixdb.server import logs
        from prefixdb.server.config import load_config
        from prefixdb.server.recovering import recover_guardian as recover
    except ImportError as failure:
        raise missing_server(failure) from failure
    config = load_config(file, os.environ, {"server.data_dir": data_dir, "store.kind": store})
    logs.configure(config.log.level)
    done = recover(config, user, revoke_tokens=revoke_tokens)
    if settings.json:
        put_json({"user": done.member.name, "password_file": str(done.password), "tokens_revoked": revoke_tokens})
    else:
        click.echo(str(done.password))
    say(settings, f"{done.member.name} of namespace 0 is a cluster guardian. Its password is in the file named above.")
    if revoke_tokens:
        say(settings, f"Every token of {done.member.name} is revoked, one in guardian.token too if it is of that name.")
    say(settings, "Start the server, then log in and set a password of your own:")
    say(settings, f"  prefixdb login --user {done.member.name} --password-file {done.password}")
    say(settings, "  prefixdb user passwd")
