"""``ns ban``, ``ns unban`` and ``ns report``: the end of a namespace, and how to watch it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from prefixdb.cli.arguments import DURATION, NAMESPACE
from prefixdb.cli.base import command
from prefixdb.cli.ns_show import namespace_json, put_report, report_json
from prefixdb.cli.output import put_json, say
from prefixdb.cli.progress import progress
from prefixdb.cli.session import At, command_line, confirm, connected
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.cli.text import duration, instant, number, size

if TYPE_CHECKING:
    from prefixdb.client.models import Namespace, ReclaimReport
    from prefixdb.client.sync import Database

_DOING = {
    "GRACE": "grace runs",
    "PENDING": "waiting for its turn",
    "RECLAIMING": "removing rows",
    "PROVING": "proving that nothing is left",
    "DONE": "proven empty",
}


@command("ban")
@click.argument("namespace", type=NAMESPACE)
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the record and in the report.")
@click.option("--grace", type=DURATION, metavar="TIME", help="How long it can be taken back, such as 7d. [not at all]")
@click.option("--wait", is_flag=True, help="Stay until its bytes are proven gone.")
def ban(namespace: int | str, reason: str, grace: float | None, wait: bool) -> None:
    """Drop NAMESPACE: it answers nobody from now on, and its bytes are removed after the grace.

    The name has to be typed, or --yes given. Without --grace there is no way back.
    """
    settings = load_settings()
    with connected(settings, At.HOME) as db:
        spaces = db.guardian.namespaces
        before = spaces.get(namespace)
        if before.state.name not in {"BANNED", "RECLAIMED"}:
            confirm(settings, _warning(before, grace), before.name)
        banned = spaces.ban(before.id, reason=reason, grace=grace or None)
        say(settings, _what_happened(before, banned))
        if not wait:
            if settings.json:
                put_json(namespace_json(banned))
            return
        report = _watch(settings, db, banned.id)
    if settings.json:
        put_json(report_json(report))
    say(settings, _proof(report))


def _warning(item: Namespace, grace: float | None) -> str:
    back = (
        f"It can be taken back for {duration(grace)}." if grace else "It cannot be taken back; --grace would allow it."
    )
    held = f"about {number(item.approximate_rows, 'row')}, {size(item.approximate_bytes)}"
    return f"This drops namespace {item.name} (id:{item.id}; {held}). {back}"


def _what_happened(before: Namespace, banned: Namespace) -> str:
    if before.state.name == "RECLAIMED":
        return f"Namespace {banned.name} was banned before, and is gone."
    again = " (it was banned before; that ban stands)" if before.state.name == "BANNED" else ""
    did = f"Banned {banned.name}, id:{banned.id}{again}: it answers nobody from now on."
    if banned.reclaim_after is not None and banned.banned_at != banned.reclaim_after:
        until = instant(banned.reclaim_after)
        return f"{did}\nIt can be taken back until {until}: {command_line('ns', 'unban', f'id:{banned.id}')}"
    return f"{did}\nThis cannot be undone; its bytes are going: {command_line('ns', 'report', f'id:{banned.id}')}"


def _watch(settings: Settings, db: Database, namespace_id: int) -> ReclaimReport:
    """Show the progress of a reclaim until it is done, and return the last report."""
    last = db.guardian.namespaces.report(namespace_id)
    with progress(settings, f"Reclaiming {last.name}") as advance:
        for last in db.guardian.namespaces.watch(namespace_id):
            doing = _DOING.get(last.phase.name, last.phase.name)
            if last.phase.name == "GRACE":
                doing = f"{doing} until {instant(last.reclaim_after)}"
            advance(last.fraction_done, doing)
    return last


def _proof(report: ReclaimReport) -> str:
    took = ""
    if report.started_at is not None and report.finished_at is not None:
        took = f" in {duration(report.finished_at - report.started_at)}"
    freed = f"about {size(report.bytes_freed)} and {number(report.rows_dropped, 'row')} removed{took}"
    found = f"{number(report.proof_rows_found, 'row')} and {number(report.proof_bytes_found, 'byte')} are left"
    return f"Namespace {report.name} is gone: {freed}; its whole range was read and {found}."


@command("unban")
@click.argument("namespace", type=NAMESPACE)
def unban(namespace: int | str) -> None:
    """Take the ban of NAMESPACE back while its grace runs. Its rows and tokens are as they were."""
    settings = load_settings()
    with connected(settings, At.HOME) as db:
        back = db.guardian.namespaces.unban(namespace)
    if settings.json:
        put_json(namespace_json(back))
    say(settings, f"Namespace {back.name} (id:{back.id}) is {back.state.name.lower()} again.")


@command("report")
@click.argument("namespace", type=NAMESPACE)
@click.option("--wait", is_flag=True, help="Stay until its bytes are proven gone.")
def report(namespace: int | str, wait: bool) -> None:
    """Show how far the reclaim of a banned NAMESPACE is, and the proof at its end."""
    settings = load_settings()
    with connected(settings, At.HOME) as db:
        found = db.guardian.namespaces.report(namespace)
        if wait and not found.done:
            found = _watch(settings, db, found.namespace_id)
    put_report(settings, found)
