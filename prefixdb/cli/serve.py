"""``prefixdb serve``: run the server in this process. The only command that imports it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.base import command, given_flags
from prefixdb.cli.config import missing_server
from prefixdb.cli.output import say
from prefixdb.cli.private import private_files
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.client.profiles import Profile, load_profiles, remove_profile, save_profile

if TYPE_CHECKING:
    from prefixdb.server.app import App
    from prefixdb.server.config import ServerConfig

DEV_PROFILE = "dev"
DEV_DIRECTORY = "prefixdb-dev-"
"""How the names of throw-away directories begin; a profile that names one was made here and may be replaced."""


_SETTINGS = {
    "data_dir": "server.data_dir",
    "listen": "server.listen",
    "http": "server.http",
    "ready_file": "server.ready_file",
    "store": "store.kind",
    "front": "server.front",
    "durability": "store.durability",
    "anonymous": "auth.anonymous",
    "issuers": "auth.issuers",
    "tls_client_ca": "tls.client_ca",
    "tls_subject": "tls.subject",
}
"""Option of this command → setting."""

_GLOBAL_SETTINGS = {"insecure": "server.insecure", "tls_cert": "tls.cert", "tls_key": "tls.key"}
"""Global flag → setting."""


@command("serve")
@click.option("--data-dir", metavar="DIR", help="Directory of the data. [prefixdb-data]")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="gRPC address; port 0 picks a free one. Also unix:/PATH, for this user only. [127.0.0.1:7311]",
)
@click.option("--http", metavar="HOST:PORT", help="/metrics, /livez and /readyz; '' for none. [127.0.0.1:7312]")
@click.option(
    "--store",
    type=click.Choice(["auto", "native", "rocksdict"]),
    help="Storage engine; auto takes native where it was built, else rocksdict. [auto]",
)
@click.option(
    "--front",
    type=click.Choice(["auto", "native", "python"]),
    help="What answers the port; auto takes native over the native store, else python. [auto]",
)
@click.option("--durability", type=click.Choice(["fsync", "os"]), help="When a write counts as safe. [fsync]")
@click.option(
    "--config", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Configuration file (TOML)."
)
@click.option("--tls-client-ca", metavar="FILE", help="Take only clients with a certificate of these authorities.")
@click.option(
    "--tls-subject",
    type=click.Choice(["any", "token"]),
    help="token: a client's certificate must be in the name of its token's subject. [any]",
)
@click.option(
    "--anonymous",
    type=click.Choice(["off", "reader", "writer"]),
    help="What calls without a token may do in the namespace default. [off]",
)
@click.option("--issuers", metavar="FILE", help="Other issuers whose tokens are accepted (TOML).")
@click.option("--ready-file", metavar="FILE", help="Written with the address when requests are taken.")
@click.option("--dev", is_flag=True, help="Throw-away server: temporary directory, free port, profile 'dev'.")
@click.pass_context
@private_files()
def serve(context: click.Context, /, **given: Any) -> None:
    """Run a server until SIGTERM or Ctrl-C.

    Prints one line when it takes requests. With --tls-cert and --tls-key it speaks TLS; without, it only listens on
    loopback or a unix socket, unless --insecure is said. The first start writes the first guardian's password to
    DIR/guardian.password and a token to DIR/guardian.token.
    """
    settings = load_settings()
    # Flags alone: what a profile or a variable says about TLS is about the servers this user talks to.
    flags = given_flags(context)
    if "tls_ca" in flags:
        raise click.UsageError("--tls-ca is for clients; the authorities of a server's clients are --tls-client-ca.")
    overrides: dict[str, object] = {setting: given[name] for name, setting in _SETTINGS.items()}
    overrides |= {setting: flags.get(name) for name, setting in _GLOBAL_SETTINGS.items()}
    dev, data_dir, file = given["dev"], given["data_dir"], given["file"]
    if not dev:
        _run(overrides, file, _announce)
        return
    if data_dir is not None:
        raise click.UsageError("--dev makes its own temporary directory; leave --data-dir out.")
    if "tls_cert" in flags:
        raise click.UsageError("--dev is for this machine and speaks plaintext; leave --tls-cert and --tls-key out.")
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

    try:
        from prefixdb.server import logs, process
        from prefixdb.server.config import load_config
    except ImportError as failure:
        raise missing_server(failure) from failure
    config = load_config(file, os.environ, overrides)
    logs.configure(config.log.level)
    process.prepare()
    asyncio.run(_serve(config, announce))


async def _serve(config: ServerConfig, announce: Callable[[App], None]) -> None:
    try:
        from prefixdb.server.app import App
        from prefixdb.server.lifecycle import run_until_signalled
    except ImportError as failure:
        raise missing_server(failure) from failure
    app = await App.start(config)
    for notice in app.notices:
        sys.stderr.write(f"prefixdb: {'WARNING' if notice.grave else 'warning'}: {notice.text}\n")
    sys.stderr.flush()
    await run_until_signalled(app, config.server.ready_file, lambda: announce(app))


def _announce(app: App) -> None:
    """Print the one line by which programs know that the server is ready."""
    import prefixdb

    sys.stdout.write(f"prefixdb {prefixdb.__version__} listening on {app.address} ({app.made_of})\n")
    sys.stdout.flush()
