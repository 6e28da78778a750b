"""How a failed command ends: words or JSON on standard error, and the exit status.

0    done, found
1    not found, condition not met
2    the command line cannot be right
3    stored data, or an archive, is damaged
64+n the gRPC status code n otherwise: 78 is UNAVAILABLE, 80 UNAUTHENTICATED
66   this machine: a file cannot be read or written, standard output is full or closed
130  interrupted;  141  nobody reads standard output any more
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import click

from prefixdb.cli.text import harmless, json_line
from prefixdb.errors import ConflictError, DataLossError, NotFoundError, PrefixdbError, Reason

EXIT_NOT_FOUND = 1
EXIT_USAGE = 2
EXIT_DAMAGED = 3
EXIT_CODE_BASE = 64
EXIT_INTERNAL = EXIT_CODE_BASE + 13
EXIT_LOCAL = EXIT_CODE_BASE + 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_NEXT = {
    Reason.UNREACHABLE: "Is the server running ('prefixdb serve'), and is the address right? 'prefixdb doctor' looks.",
    Reason.TOKEN_MISSING: "Log in with 'prefixdb login --user USER', name a token file with --token-file or "
    "PREFIXDB_TOKEN_FILE, or a profile with --profile.",
    Reason.TOKEN_INVALID: "'prefixdb token inspect FILE' shows what the token says; a guardian issues a new one.",
    Reason.TOKEN_EXPIRED: "Ask a guardian for a new token: 'prefixdb token issue SUBJECT --group GROUP'.",
    Reason.TOKEN_REVOKED: "Ask a guardian for a new token: 'prefixdb token issue SUBJECT --group GROUP'.",
    Reason.NOT_PERMITTED: "'prefixdb whoami' shows who you are and what you may do; this takes another login or token.",
    Reason.NAMESPACE_SUSPENDED: "A cluster guardian can resume it with 'prefixdb ns resume'.",
    Reason.NAMESPACE_BANNED: "A cluster guardian can see what is left with 'prefixdb ns report'.",
    Reason.NAMESPACE_NOT_FOUND: "'prefixdb ns list --all' shows what there is; an id is written id:NUMBER.",
    Reason.NAMESPACE_EXISTS: "Choose another name (--name when it comes from a file), or leave --id out to get a "
    "random number.",
    Reason.TOKEN_NOT_FOUND: "'prefixdb token list' shows the tokens there are, with their ids.",
    Reason.REPORT_NOT_FOUND: "Only banned namespaces have one; 'prefixdb ns list --all' shows states.",
    Reason.RECLAIM_STARTED: "Create it anew under the same name and restore its rows from a backup.",
    Reason.GROUP_NOT_FOUND: "'prefixdb group list' shows the groups there are.",
    Reason.GROUP_EXISTS: "Choose another name, or change it with 'prefixdb group set'.",
    Reason.GROUP_BUILT_IN: "Make one of your own with the rules you want: 'prefixdb group create NAME --rule RULE'.",
    Reason.MEMBER_NOT_FOUND: "'prefixdb user list' shows the members there are.",
    Reason.MEMBER_EXISTS: "Choose another name, or change it with 'prefixdb user set'.",
    Reason.GRANT_NOT_FOUND: "'prefixdb grant list MEMBER' shows what is granted and denied.",
    Reason.LAST_GUARDIAN: "Make another one with a password first: 'prefixdb user create NAME --group guardians', or "
    "'prefixdb user set NAME --add-group guardians'.",
    Reason.SIGNING_KEY_NOT_FOUND: "'prefixdb key list' shows the keys there are.",
    Reason.SIGNING_KEY_IN_USE: "Make a new key with 'prefixdb key rotate'; then this one can be removed.",
    Reason.BAD_CREDENTIALS: "Try again; a guardian can set a new password with 'prefixdb user passwd NAME'.",
    Reason.MAIN_NAMESPACE_GONE: "Log in to another one: 'prefixdb login --home default --namespace NAMESPACE'.",
    Reason.RATE_LIMITED: "Wait a moment and try again.",
    Reason.KEY_TOO_LARGE: "Use a shorter key, or put the long part into the value.",
    Reason.VALUE_TOO_LARGE: "Split the value, or raise store.value_max in the server's configuration.",
    Reason.REQUEST_TOO_LARGE: "Split the value; one message is the limit of every configuration.",
    Reason.DEADLINE: "Give it more time with --timeout, for example --timeout 30s.",
    Reason.DISK_FULL: "Free space on the server's disk; writes resume by themselves.",
    Reason.WRITE_STALL: "Wait a moment and try again.",
    Reason.STARTING: "Wait a moment and try again.",
    Reason.DRAINING: "The server is going down; try again when it is back.",
    Reason.OUTCOME_UNKNOWN: "Read the row to see whether the write is there before you repeat it.",
    Reason.CORRUPTION: "Keep the damaged directory. Restore a backup ('prefixdb backup restore'), or read what is left "
    "of the directory into a new one ('prefixdb recover').",
    Reason.DIRECTORY_LOCKED: "Stop the other process, or choose another directory with --data-dir.",
    Reason.FORMAT_TOO_NEW: "Run the newer prefixdb on this directory, or choose another with --data-dir.",
    Reason.INTERNAL: "The server's log has the details under the request id; please report it.",
    Reason.ARCHIVE_INVALID: "Nothing was changed. Take another copy of it, or make it anew.",
    Reason.IMPORT_CONFLICT: "--on-conflict skip leaves the rows that are there, --on-conflict overwrite replaces them; "
    "with --dry-run they only count.",
    Reason.CONFLICT: "Read the row again and decide on its present state.",
}
"""What to do next, in words of the command line."""


def exit_status(failure: PrefixdbError) -> int:
    """Return the exit status of an error."""
    if isinstance(failure, NotFoundError | ConflictError):
        return EXIT_NOT_FOUND
    if isinstance(failure, DataLossError) or failure.reason is Reason.ARCHIVE_INVALID:
        return EXIT_DAMAGED
    return EXIT_CODE_BASE + int(failure.code)


def say_failure(failure: PrefixdbError, *, as_json: bool, advice: str | None = None) -> None:
    """Write an error to standard error, with ``advice``, its own notes or what its reason usually calls for."""
    notes: list[str] = getattr(failure, "__notes__", [])
    advice = advice or "\n".join(notes) or _NEXT.get(failure.reason)
    if as_json:
        content = {
            "code": failure.code.name,
            "reason": failure.reason.name,
            "message": failure.message,
            "next": advice,
            "metadata": failure.metadata,
            "exit_status": exit_status(failure),
        }
        _write_json(content)
        return
    click.echo(f"prefixdb: {harmless(failure.message)}", err=True)
    request_id = failure.metadata.get("request_id")
    if request_id is not None:
        click.echo(f"  request id: {harmless(request_id)}", err=True)
    if advice is not None:
        for words in advice.splitlines():
            click.echo(f"  next: {harmless(words)}", err=True)


def say_usage(failure: click.ClickException, *, as_json: bool) -> None:
    """Write a usage error to standard error."""
    message = failure.format_message()
    context = failure.ctx if isinstance(failure, click.UsageError) else None
    help_hint = f"See '{context.command_path} --help'." if context is not None else None
    if as_json:
        content = {"code": "USAGE", "message": message, "next": help_hint, "exit_status": EXIT_USAGE}
        _write_json(content)
        return
    click.echo(f"prefixdb: {harmless(message)}", err=True)
    if help_hint is not None:
        click.echo(f"  next: {help_hint}", err=True)


def say_local(message: str, *, as_json: bool) -> int:
    """Write what is wrong on this machine to standard error, and return the exit status."""
    if as_json:
        _write_json({"code": "LOCAL", "message": message, "next": None, "exit_status": EXIT_LOCAL})
    else:
        click.echo(f"prefixdb: {harmless(message)}", err=True)
    return EXIT_LOCAL


def wants_json(arguments: Sequence[str]) -> bool:
    """True when errors are to be JSON; looked up by hand, for the command line may not even parse."""
    options = list(arguments)
    if "--" in options:
        options = options[: options.index("--")]
    return "--json" in options or os.environ.get("PREFIXDB_JSON", "").lower() in {"1", "true", "yes", "on"}


def give_up_stdout() -> None:
    """Point standard output nowhere, so that Python's own flush at exit does not fail again."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())


def _write_json(content: Mapping[str, object]) -> None:
    click.echo(json_line({"error": content}), err=True)
