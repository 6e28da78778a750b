"""``prefixdb serve``: run the server in this process. The only command that imports it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefixdb.cli.base import command
from prefixdb.cli.config import missing_server
from prefixdb.cli.output import say
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.client.profiles import Profile, load_profiles, remove_profile, save_profile

if TYPE_CHECKING:
    from prefixdb.server.app import App
    from prefixdb.server.config import ServerConfig

DEV_PROFILE = "dev"
DEV_DIRECTORY = "prefixdb-dev-"
"""How the names of throw-away directories begin; a profile that names one was made here and may be replaced."""


@command("serve")
@click.option("--data-dir", metavar="DIR", help="Directory of the data. [prefixdb-data]")
@click.option("--listen", metavar="HOST:PORT", help="gRPC address; port 0 picks a free one. [127.0.0.1:7311]")
@click.option("--http", metavar="HOST:PORT", help="/metrics, /livez and /readyz; '' for none. [127.0.0.1:7312]")
@click.option(
    "--store",
    type=click.Choice(["auto", "native", "rocksdict"]),
    help="Storage engine; auto takes native where it was built, else rocksdict. [auto]",
)
@click.option("--durability", type=click.Choice(["fsync", "os"]), help="When a write counts as safe. [fsync]")
@click.option(
    "--config", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Configuration file (TOML)."
)
@click.option("--ready-file", metavar="FILE", help="Written with the address when requests are taken.")
@click.option("--dev", is_flag=True, help="Throw-away server: temporary directory, free port, profile 'dev'.")
def serve(
    data_dir: str | None,
    listen: str | None,
    http: str | None,
    store: str | None,
    durability: str | None,
    file: Path | None,
    ready_file: str | None,
    dev: bool,
) -> None:
    """Run a server until SIGTERM or Ctrl-C.

    Prints one line when it takes requests. Without TLS it only listens on loopback, unless --insecure is said. The
    first start writes the first guardian's token to DIR/guardian.token.
    """
    settings = load_settings()
    overrides: dict[str, object] = {
        "server.data_dir": data_dir,
        "server.listen": listen,
        "server.http": http,
        "server.ready_file": ready_file,
        "server.insecure": settings.insecure or None,
        "store.kind": store,
        "store.durability": durability,
    }
    if not dev:
        _run(overrides, file, _announce)
        return
    if data_dir is not None:
        raise click.UsageError("--dev makes its own temporary directory; leave --data-dir out.")
    _run_dev(settings, overrides, file)


def _run_dev(settings: Settings, overrides: dict[str, object], file: Path | None) -> None:
    """Run a throw-away server, with a profile that lives as long as it does."""
    old = load_profiles().profiles.get(DEV_PROFILE)
    if old is not None and not (old.token_file and old.token_file.parent.name.startswith(DEV_DIRECTORY)):
        message = f"There is a profile {DEV_PROFILE!r} that --dev did not make and will not overwrite; remove it first:"
        raise click.UsageError(f"{message} prefixdb profile remove {DEV_PROFILE}")
    directory = Path(tempfile.mkdtemp(prefix=DEV_DIRECTORY))
    overrides |= {
        "server.data_dir": str(directory),
        "server.listen": overrides["server.listen"] or "127.0.0.1:0",
        "server.http": "" if overrides["server.http"] is None else overrides["server.http"],
    }
    written: list[Profile] = []

    def announce(app: App) -> None:
        mine = Profile(endpoint=app.address, token_file=directory / "guardian.token")
        save_profile(DEV_PROFILE, mine)
        written.append(mine)
        say(settings, f"Throw-away server: {directory} is removed at the end. Talk to it in another terminal:")
        say(settings, f"  prefixdb --profile {DEV_PROFILE} put hello world")
        # Last, because programs take this line for the sign that everything is in place.
        _announce(app)

    try:
        _run(overrides, file, announce)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        # Another --dev server may have taken the profile over meanwhile; that one's is left alone.
        if written and load_profiles().profiles.get(DEV_PROFILE) == written[0]:
            remove_profile(DEV_PROFILE)
    say(settings, f"Removed {directory}.")


def _run(overrides: dict[str, object], file: Path | None, announce: Callable[[App], None]) -> None:
    """Load the configuration and serve until a signal."""
    import asyncio

    # gRPC's own lines would come between the JSON lines of the log and repeat what those say.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from prefixdb.server import logs
        from prefixdb.server.config import load_config
    except ImportError as failure:
        raise missing_server(failure) from failure
    config = load_config(file, os.environ, overrides)
    logs.configure(config.log.level)
    asyncio.run(_serve(config, announce))


async def _serve(config: ServerConfig, announce: Callable[[App], None]) -> None:
    try:
        from prefixdb.server.app import App
        from prefixdb.server.lifecycle import run_until_signalled
    except ImportError as failure:
        raise missing_server(failure) from failure
    app = await App.start(config)
    await run_until_signalled(app, config.server.ready_file, lambda: announce(app))


def _announce(app: App) -> None:
    """Print the one line by which programs know that the server is ready."""
    import prefixdb

    sys.stdout.write(f"prefixdb {prefixdb.__version__} listening on {app.address} (store: {app.store_name})\n")
    sys.stdout.flush()
