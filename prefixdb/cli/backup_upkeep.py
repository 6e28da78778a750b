"""``backup verify`` and ``backup prune``: is it whole, and what may go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.backup_show import REPOSITORY, bytes_meter, chosen_backup, long_work, offline_advice, open_repository
from prefixdb.cli.base import command
from prefixdb.cli.config import missing_server
from prefixdb.cli.failures import EXIT_DAMAGED, say_failure
from prefixdb.cli.output import put_facts, put_json, put_table, say
from prefixdb.cli.session import confirm
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.cli.text import number, size
from prefixdb.errors import Reason, error

if TYPE_CHECKING:
    from prefixdb.backup.restore import Restored
    from prefixdb.repository.manifest import Manifest
    from prefixdb.repository.repository import Repository
    from prefixdb.repository.upkeep import Checked, Finding, Pruning

_REPAIR = (
    "Remove the file that is named, if it is there: the next 'prefixdb backup create' stores it anew if the server "
    "still has it. Backups that need it cannot be restored until then."
)
_LOST = "This backup cannot be restored, and its bans are not known. Move the manifest out of REPO to go on without it."
_STRANGER = "Move it out of REPO."


@command("verify")
@REPOSITORY
@click.argument("backup_id", metavar="[ID]", required=False)
@click.option("--all", "every", is_flag=True, help="Read the files of every backup, and look for what does not belong.")
@click.option("--no-open", is_flag=True, help="Only read and compare; do not try a restore.")
@click.option(
    "--scratch",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the restore is tried; as much room as the backup has is needed. [the system's temporary directory]",
)
@click.pass_context
def verify(
    context: click.Context, repository: str, backup_id: str | None, every: bool, no_open: bool, scratch: Path | None
) -> None:
    """Prove that backup ID of REPO would restore; without ID, the newest.

    Every file is read and held against its SHA-256. Then the backup is restored into a temporary directory and opened
    there; with --all, the newest is. That needs the server's packages; without them, say --no-open. Exit status 3 when
    something is damaged.
    """
    settings = load_settings()
    if every and backup_id is not None:
        raise click.UsageError("Give either an ID or --all.")
    from prefixdb.repository.upkeep import check_files, check_names

    if not no_open:
        _check_server()
    opened = open_repository(repository)
    with opened.lock(exclusive=False):
        findings = check_names(opened) if every else []
        chosen = [entry.manifest for entry in opened.entries() if entry.manifest is not None] if every else []
        if not every or (not chosen and not findings):
            chosen = [chosen_backup(opened, backup_id)]
        with bytes_meter(settings, "Reading") as shown:
            checked = check_files(opened, chosen, lambda done, total: shown("reading", done, total))
        for finding in (findings := [*findings, *checked.findings]):
            lost = {"backups": " ".join(finding.backups)} if finding.backups else {}
            failure = error(Reason.CORRUPTION, finding.what, metadata={"place": finding.place} | lost)
            say_failure(failure, as_json=settings.json, advice=_advice(finding))
        if findings:
            context.exit(EXIT_DAMAGED)
        tried = None if no_open else _try_restore(settings, opened, chosen[-1], scratch)
    _put_checked(settings, checked, chosen[-1], tried)


def _advice(finding: Finding) -> str:
    """Return what to do about what was found."""
    if not finding.backups:
        return _STRANGER
    return _LOST if finding.place.endswith(".json") else _REPAIR


def _check_server() -> None:
    """Refuse before hours of reading what could not be done at their end."""
    try:
        import prefixdb.backup.restore  # noqa: F401
    except ImportError as failure:
        told = missing_server(failure)
        raise click.UsageError(f"{told.message}, or say --no-open to read and compare only.") from failure


def _try_restore(settings: Settings, repository: Repository, manifest: Manifest, scratch: Path | None) -> Restored:
    from prefixdb.backup.restore import verify_open
    from prefixdb.repository.repository import StoredBackup

    with offline_advice(), bytes_meter(settings, "Restoring") as shown:
        return verify_open(
            StoredBackup(repository, manifest), scratch, on_progress=lambda done, total: shown("copying", done, total)
        )


def _put_checked(settings: Settings, checked: Checked, newest: Manifest, tried: Restored | None) -> None:
    facts: dict[str, Any] = {"backups": checked.backups, "files": checked.objects, "bytes": checked.bytes}
    words = {"backups": f"{checked.backups:,}", "files": f"{checked.objects:,}", "read": size(checked.bytes)}
    if tried is None:
        facts["opened"] = None
        words["opened"] = "-"
        proof = "Whether it opens was not tried."
    else:
        facts |= {"opened": newest.id, "namespaces_live": tried.namespaces_live, "rows": tried.rows}
        held = f"{number(tried.namespaces_live, 'namespace')}, {number(tried.rows, 'row')} read"
        words["opened"] = f"{newest.id}: {held}"
        proof = f"{newest.id} was restored for a moment, opened and read."
    put_facts(settings, facts, words)
    say(settings, f"Every file is as it was stored. {proof}")


@command("prune")
@REPOSITORY
@click.option("--keep", type=click.IntRange(1), required=True, metavar="N", help="Keep the newest N backups.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def prune(repository: str, keep: int, dry_run: bool) -> None:
    """Remove all but the newest N backups from REPO, and the files that none of these needs.

    A file that a backup which stays needs is never removed. What interrupted backups left goes, too. No server is
    needed.
    """
    settings = load_settings()
    from prefixdb.repository import upkeep

    opened = open_repository(repository)
    with opened.lock(exclusive=not dry_run) as lease:
        plan = upkeep.plan_prune(opened, keep)
        if dry_run:
            _put_pruning(settings, plan, done=False)
            return
        if plan.remove:
            what = f"This removes {number(len(plan.remove), 'backup')} for ever ({_span(plan.remove)})"
            confirm(settings, f"{what}, and leaves {len(plan.keep):,} ({_span(plan.keep)}).", "prune")
            lease.keep()
        with long_work(settings, "Removing") as advance:
            upkeep.prune(opened, plan, lease, lambda done, total: advance(done / total if total else 1.0, "files"))
    _put_pruning(settings, plan, done=True)


def _span(ids: tuple[str, ...]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"


def _put_pruning(settings: Settings, plan: Pruning, *, done: bool) -> None:
    if settings.json:
        facts = {"removed" if done else "would_remove": list(plan.remove), "kept": list(plan.keep)}
        put_json(facts | {"files": len(plan.objects), "bytes": plan.bytes, "files_unfinished": plan.unfinished})
    else:
        verb = "removed" if done else "would go"
        put_table(settings, ["backup", ""], [[backup_id, verb] for backup_id in plan.remove], [], whole=[0])
    did = "Removed" if done else "Would remove"
    left = f" ({plan.unfinished:,} of them of interrupted backups)" if plan.unfinished else ""
    freed = f"{number(len(plan.objects), 'file')}, {size(plan.bytes)}{left}"
    kept = f"{number(len(plan.keep), 'backup')} left" if done else f"{number(len(plan.keep), 'backup')} would be left"
    say(settings, f"{did} {number(len(plan.remove), 'backup')} and {freed}; {kept}.")
