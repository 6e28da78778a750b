"""``prefixdb version``: quick, so that scripts can ask; imports neither gRPC nor a server part."""

from __future__ import annotations

import json
import platform

import click

import prefixdb
from prefixdb.cli.base import command
from prefixdb.cli.settings import load_settings


@command("version")
def version() -> None:
    """Show the version of this program."""
    if load_settings().json:
        click.echo(json.dumps({"version": prefixdb.__version__, "python": platform.python_version()}))
    else:
        click.echo(f"prefixdb {prefixdb.__version__}")
