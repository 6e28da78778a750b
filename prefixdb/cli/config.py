"""``prefixdb config``: the server's configuration file, and where this program's own settings come from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.base import given_flags, group
from prefixdb.cli.output import put_json, put_table, say
from prefixdb.cli.settings import load_settings
from prefixdb.client.profiles import profiles_path

if TYPE_CHECKING:
    from types import ModuleType

    from prefixdb.server.config import ServerConfig


@group("config")
def config() -> None:
    """The server's configuration, and this program's settings."""


@config.command("init")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write it to a new file.")
def init(out: Path | None) -> None:
    """Print a server configuration with every setting at its default, explained."""
    settings = load_settings()
    text = server_config().init_text()
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as failure:
        raise click.UsageError(f"{out} exists and was not touched; choose another name.") from failure
    except OSError as failure:
        raise click.UsageError(f"{out} cannot be written: {failure.strerror}.") from failure
    say(settings, f"Written: {out}. Check it with: prefixdb config check {out}")


@config.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option(
    "--config",
    "named",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The same, as 'serve' is given it.",
)
def check(file: Path | None, named: Path | None) -> None:
    """Print every server setting and where its value comes from: FILE, the environment or the default.

    An unknown setting, a bad value, and an address or a certificate that 'serve' would refuse are errors that name it.
    """
    if file is not None and named is not None:
        raise click.UsageError("Give FILE once, with or without --config.")
    file = file or named
    settings = load_settings()
    module = server_config()
    flags = given_flags(click.get_current_context())  # Not a profile's: 'serve' does not look there either.
    loaded = module.load_config(file, os.environ, {"server.insecure": flags.get("insecure")})
    check_exposure(loaded)
    rows = module.show_config(loaded)
    if settings.json:
        for name, value, source in rows:
            put_json({"setting": name, "value": value, "source": source})
        return
    put_table(settings, ["setting", "value", "source"], [list(row) for row in rows], [])
    say(settings, f"{file or 'The environment'} is good: {len(rows)} settings.")


@config.command("show")
def show() -> None:
    """Print this program's settings (endpoint, token file, …) and where each comes from."""
    settings = load_settings()
    rows: list[tuple[str, Any, str]] = [
        (name, setting.value, setting.source) for name, setting in settings.by_name.items()
    ]
    if settings.json:
        for name, value, source in rows:
            put_json({"setting": name, "value": str(value) if isinstance(value, Path) else value, "source": source})
        return
    put_table(
        settings, ["setting", "value", "source"], [[name, _shown(value), source] for name, value, source in rows], []
    )
    say(settings, f"Profiles are kept in {profiles_path()}.")


def server_config() -> ModuleType:
    """Return the module of the server's configuration, which needs the server's packages.

    Raises:
        click.UsageError: they are not installed.
    """
    try:
        from prefixdb.server import config as module
    except ImportError as failure:
        raise missing_server(failure) from failure
    return module


def check_exposure(loaded: ServerConfig) -> None:
    """Refuse what ``serve`` would refuse: an address other machines can reach without TLS, certificates it cannot use.

    Raises:
        InvalidArgumentError: BAD_FIELD, with the setting's name.
    """
    try:
        from prefixdb.server import tls_files, transport
    except ImportError as failure:
        raise missing_server(failure) from failure
    transport.check_exposure(loaded)
    if loaded.tls.cert:
        tls_files.read_tls_files(loaded.tls)


def missing_server(failure: ImportError) -> click.UsageError:
    """Return the error of a command that needs the server's packages and does not find them.

    Raises:
        ImportError: what is missing is a part of prefixdb itself: no package that could be installed brings it.
    """
    if not isinstance(failure, ModuleNotFoundError) or (failure.name or "prefixdb").startswith("prefixdb"):
        raise failure
    return click.UsageError(
        f"This needs the server's packages ({failure.name} is missing); install them: pip install 'prefixdb[server]'"
    )


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)
