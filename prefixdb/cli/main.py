"""The program ``prefixdb``: the table of commands, and the one place where errors become exit statuses."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

import prefixdb
from prefixdb.cli import failures
from prefixdb.cli.base import Group
from prefixdb.errors import PrefixdbError

COMMANDS = {
    "serve": "prefixdb.cli.serve:serve",
    "get": "prefixdb.cli.rows:get",
    "put": "prefixdb.cli.rows:put",
    "del": "prefixdb.cli.rows:delete",
    "mget": "prefixdb.cli.ranges:mget",
    "scan": "prefixdb.cli.ranges:scan",
    "count": "prefixdb.cli.ranges:count",
    "export": "prefixdb.cli.export:export",
    "import": "prefixdb.cli.load:import_",
    "load": "prefixdb.cli.load:load",
    "login": "prefixdb.cli.login:login",
    "logout": "prefixdb.cli.login:logout",
    "whoami": "prefixdb.cli.server:whoami",
    "ns": "prefixdb.cli.ns:ns",
    "user": "prefixdb.cli.user:user",
    "group": "prefixdb.cli.group:group_",
    "grant": "prefixdb.cli.grant:grant",
    "token": "prefixdb.cli.token:token",
    "ping": "prefixdb.cli.server:ping",
    "status": "prefixdb.cli.server:status",
    "backup": "prefixdb.cli.backup:backup",
    "compact": "prefixdb.cli.server:compact",
    "key": "prefixdb.cli.key:key",
    "audit": "prefixdb.cli.audit:audit",
    "recover": "prefixdb.cli.recover:recover",
    "recover-guardian": "prefixdb.cli.recover_guardian:recover_guardian",
    "doctor": "prefixdb.cli.doctor:doctor",
    "profile": "prefixdb.cli.profile:profile",
    "config": "prefixdb.cli.config:config",
    "completion": "prefixdb.cli.completion:completion",
    "version": "prefixdb.cli.version:version",
}


class _NobodyReadsError(Exception):
    """Standard output was closed by its reader, as ``head`` does."""


class Program(Group):
    """The top of the command line, with the exit statuses of ``failures``."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "prefixdb",
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the program and exit with its status."""
        arguments = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(arguments, prog_name, complete_var, False, **extra)
        sys.exit(self._run(arguments, prog_name, complete_var, extra))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that went away is told apart here, before click makes a success of it."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as failure:
            raise _NobodyReadsError from failure
        return result

    def _run(self, arguments: list[str], prog_name: str | None, complete_var: str | None, extra: Any) -> int:
        as_json = failures.wants_json(arguments)
        if sys.stdout is None:
            return failures.say_local("Standard output is closed; send it to /dev/null instead.", as_json=as_json)
        # Before anything imports gRPC: its own lines on standard error would come on top of our words, or between the
        # lines of the server's log.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        try:
            status = super().main(arguments, prog_name, complete_var, standalone_mode=False, **extra)
            return status if isinstance(status, int) else 0
        except PrefixdbError as failure:
            failures.say_failure(failure, as_json=as_json)
            return failures.exit_status(failure)
        except click.exceptions.NoArgsIsHelpError as help_page:
            click.echo(help_page.format_message(), err=True)
            return failures.EXIT_USAGE
        except click.ClickException as failure:
            failures.say_usage(failure, as_json=as_json)
            return failures.EXIT_USAGE
        except (click.Abort, KeyboardInterrupt):
            click.echo("prefixdb: interrupted.", err=True)
            return failures.EXIT_INTERRUPTED
        except _NobodyReadsError:
            failures.give_up_stdout()
            return failures.EXIT_BROKEN_PIPE
        except OSError as failure:
            failures.give_up_stdout()
            where = f"{failure.filename}: " if failure.filename else "a file or standard output: "
            return failures.say_local(f"{where}{failure.strerror or failure}.", as_json=as_json)
        except Exception:  # noqa: BLE001 - shown whole, and given the exit status of an internal error
            # Python's own status for this would be 1, which means "not found" here.
            traceback.print_exc()
            click.echo("prefixdb: this is a mistake of prefixdb; please report it with the lines above.", err=True)
            return failures.EXIT_INTERNAL


@click.group(
    "prefixdb",
    cls=Program,
    lazy=COMMANDS,
    top=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "Exit status: 0 done; 1 not found, or a condition does not hold; 2 the command line cannot be right; 3 stored "
        "data is damaged; 66 a file or the output of this machine; 130 interrupted; else 64 + the gRPC code, such as "
        "71 not permitted, 78 not reachable, 80 no valid token."
    ),
)
@click.version_option(prefixdb.__version__, message="prefixdb %(version)s")
def main() -> None:
    """prefixdb: thousands of isolated namespaces in one key-value store.

    Every setting is also a variable: --endpoint is PREFIXDB_ENDPOINT. A flag beats a variable, which beats the profile.

    \b
    A first minute:
      prefixdb serve --dev                    in one terminal
      prefixdb --profile dev put hello world  in another
      prefixdb --profile dev get hello
    """
