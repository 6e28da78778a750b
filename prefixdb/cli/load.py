"""``import`` and ``load``: rows from a file into the namespace, all of them or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefixdb.cli.base import command
from prefixdb.cli.failures import EXIT_NOT_FOUND
from prefixdb.cli.formats import Format, input_format
from prefixdb.cli.input_file import InputFile, open_input
from prefixdb.cli.meter import Meter, meter
from prefixdb.cli.output import put_json, say
from prefixdb.cli.session import connected
from prefixdb.cli.settings import Settings, load_settings
from prefixdb.cli.text import number
from prefixdb.cli.uploads import Upload, kept_upload
from prefixdb.errors import (
    CancelledError,
    DeadlineExceededError,
    PrefixdbError,
    Reason,
    UnauthenticatedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from prefixdb.client.models import Imported, TransferProgress

_FORMATS = click.Choice([item.value for item in Format])
_FORMAT_HELP = "What FILE is. [found out from its beginning and its ending]"

_LATER = frozenset({Reason.READ_ONLY, Reason.NAMESPACE_SUSPENDED, Reason.TOO_MANY_STREAMS, Reason.RATE_LIMITED})
"""Refusals after which the upload is still there: an import that has begun is even finished when they end."""

_KEPT = "What the server has of it is kept for an hour: the same command goes on, or tells its end."


def _shared(*, on_conflict: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Decorate with what both commands take."""
    options = [
        click.argument("file", type=click.Path()),
        click.option("--format", "wanted", type=_FORMATS, help=_FORMAT_HELP),
        click.option(
            "--on-conflict",
            type=click.Choice(["fail", "skip", "overwrite"]),
            default=on_conflict,
            show_default=True,
            help="What happens to a row whose key exists.",
        ),
        click.option("--dry-run", is_flag=True, help="Only find out what would happen."),
        click.option("--reject", type=click.Path(dir_okay=False), metavar="FILE", help="Where bad lines go."),
        click.option("--sorted", "in_order", is_flag=True, help="Keys ascend by their bytes: faster into no rows."),
        click.option("--anew", is_flag=True, help="Forget an upload that was interrupted."),
    ]

    def decorate(function: Callable[..., object]) -> Callable[..., object]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@command("import")
@_shared(on_conflict="fail")
def import_(**wishes: Any) -> None:
    """Bring the rows of FILE into the namespace: all of them, or none. '-' reads standard input.

    FILE is an archive that 'export' wrote, JSON lines, CSV or a RocksDB directory. Rows keep the order of their
    versions, which takes time and memory; 'load' is faster. Nothing is applied before the server has everything and
    found it right; from then on it finishes by itself, also after a restart. After an interruption the same command
    goes on.
    """
    _run(load_settings(), keep_version_order=True, **wishes)


@command("load")
@_shared(on_conflict="overwrite")
def load(**wishes: Any) -> None:
    """Write the rows of FILE into the namespace, as fast as can be: all of them, or none. '-' reads standard input.

    FILE is JSON lines (as 'scan --json' and 'export' write them), CSV, an archive, or a RocksDB directory. Rows that
    name no database go to --database. A line that is no row stops the load before anything is applied, and is told by
    its number; --reject collects such lines and goes on (exit status 1). After an interruption the same command goes on
    where it was.

    \b
      prefixdb load rows.jsonl
      prefixdb load rows.csv --reject bad.csv --database 3
      zcat rows.jsonl.gz | prefixdb load - --format jsonl
    """
    _run(load_settings(), keep_version_order=False, **wishes)


def _run(
    settings: Settings,
    *,
    keep_version_order: bool,
    file: str,
    wanted: str | None,
    on_conflict: str,
    dry_run: bool,
    reject: str | None,
    in_order: bool,
    anew: bool,
) -> None:
    if file == "-" and settings.token_file == Path("-"):
        raise click.UsageError("Standard input cannot give the token and the rows; name a file for one of them.")
    opened = None if file != "-" and Path(file).is_dir() else open_input(file)
    try:
        kind = input_format(wanted, file, opened)
        if kind is Format.MSGPACK:
            _refuse_text_options(settings, reject, in_order)
    except click.UsageError:
        if opened is not None:
            opened.close()
        raise
    facts: dict[str, object] = {
        "kind": kind.value,
        "on_conflict": on_conflict,
        "dry_run": dry_run,
        "order": keep_version_order,
    }
    facts |= {"database": settings.database, "enc": settings.enc, "reject": reject, "in_order": in_order}
    kept = None if opened is None or file == "-" or not opened.seekable() else Path(file)
    wishes = {"on_conflict": on_conflict, "dry_run": dry_run, "keep_version_order": keep_version_order}
    with (
        kept_upload(settings, kept, facts, anew=anew) as upload,
        InputFile(
            settings, file, kind, opened, now_ms=upload.created_at_ms, in_order=in_order, reject=reject
        ) as source,
    ):
        done = _send(settings, source, upload, wishes)
        source.keep_rejects()
    _say_done(settings, done, dry_run=dry_run, source=source, reject=reject)
    if source.rejected:
        raise click.exceptions.Exit(EXIT_NOT_FOUND)


def _refuse_text_options(settings: Settings, reject: str | None, in_order: bool) -> None:
    """Refuse what makes no sense with an archive."""
    for given, flag in ((reject is not None, "--reject"), (in_order, "--sorted")):
        if given:
            raise click.UsageError(f"{flag} is for JSON lines, CSV and RocksDB directories; FILE is an archive.")
    if "flag" in settings.by_name["database"].source:
        raise click.UsageError("The rows of an archive have their databases; leave --database out.")


def _send(settings: Settings, source: InputFile, upload: Upload, wishes: dict[str, Any]) -> Imported:
    """Send it, and say what an interruption leaves behind."""
    state = _State()
    try:
        with connected(settings) as db, meter(settings, "Importing") as shown:
            done = db.import_archive(
                source.frames, upload=upload.id, on_progress=state.follow(settings, upload, shown), **wishes
            )
    except KeyboardInterrupt:
        say(settings, state.words(upload, source))
        raise
    except (UnavailableError, CancelledError, DeadlineExceededError, UnauthenticatedError) as failure:
        # The client speaks of the upload's id, which nobody has seen here.
        again = "the same command goes on where it was" if source.again else "give it the rows once more"
        failure.message = failure.message.replace("the same upload id goes on", again)
        failure.message = failure.message.replace("the same upload id asks for", "the same command tells")
        failure.args = (failure.message,)
        raise
    except PrefixdbError as failure:
        upload.over = failure.reason not in _LATER
        words = _next(failure, source, dry_run=bool(wishes["dry_run"])) if upload.over else _KEPT
        if words is not None:
            failure.add_note(words)
        raise
    upload.over = True
    return done


def _next(failure: PrefixdbError, source: InputFile, *, dry_run: bool) -> str | None:
    """Return what to do about an upload that was refused for good."""
    if failure.reason is Reason.IMPORT_CONFLICT and dry_run:
        return (
            "This was only the trial; the import would end the same. --on-conflict skip or overwrite tells how many "
            "rows it would leave or replace."
        )
    if failure.reason is Reason.BAD_FIELD and source.in_order and "in order" in failure.message:
        return "Nothing was applied. Leave --sorted out, or sort by the bytes of the keys: LC_ALL=C sort."
    if failure.reason is Reason.NOT_PERMITTED:
        return (
            "Nothing was applied. It takes the right to write every row of FILE where it goes, also for --dry-run; "
            "'prefixdb whoami' shows your rights."
        )
    if failure.reason is not Reason.ARCHIVE_INVALID or source.is_archive:
        return None
    if failure.metadata.get("part") == "header":
        return "Nothing was applied. Put the first line right: no row can be understood without it."
    if source.is_text:
        return "Nothing was applied. Put the line right, or let --reject FILE put such lines aside."
    if failure.metadata.get("place", "").startswith("row "):
        return "Nothing was applied. --reject FILE lists such rows and loads the others."
    return "Nothing was applied. Is this the directory you mean? It has the files CURRENT and MANIFEST-N in it."


class _State:
    """How far an upload is, for who interrupts it."""

    def __init__(self) -> None:
        self._phase = ""

    def follow(self, settings: Settings, upload: Upload, shown: Meter) -> Callable[[TransferProgress], None]:
        """Return what is told about progress."""

        def tell(facts: TransferProgress) -> None:
            if not self._phase and upload.resumed:
                say(settings, self._greeting(facts))
            self._phase = facts.phase.name
            shown.follow(facts)

        return tell

    def words(self, upload: Upload, source: InputFile) -> str:
        """Return what an interruption leaves behind."""
        if self._phase in {"APPLYING", "DONE"}:
            return (
                "The server has everything and finishes by itself; the same command tells the result, within the hour."
            )
        if source.again:
            return "Nothing was applied. The same command goes on where it was, within the hour."
        return "Nothing was applied."

    @staticmethod
    def _greeting(facts: TransferProgress) -> str:
        if facts.phase.name == "READY":
            return "Going on with the upload that was interrupted (--anew forgets it)."
        return "The server has all of the upload that was interrupted (--anew forgets it and sends it once more)."


def _say_done(settings: Settings, done: Imported, *, dry_run: bool, source: InputFile, reject: str | None) -> None:
    if settings.json:
        put_json(
            {
                "rows": done.received,
                "inserted": done.inserted,
                "replaced": done.replaced,
                "skipped": done.skipped,
                "expired": done.expired,
                "rejected": source.rejected,
                "way": done.way,
                "dry_run": dry_run,
            }
        )
    parts = [
        f"{count:,} {word}"
        for count, word in (
            (done.inserted, "new"),
            (done.replaced, "replaced"),
            (done.skipped, "left as they were"),
            (done.expired, "expired already"),
        )
        if count
    ]
    detail = f": {', '.join(parts)}" if parts else ""
    verb = "Would import" if dry_run else "Imported"
    say(settings, f"{verb} {number(done.inserted + done.replaced, 'row')} of {done.received:,}{detail}.")
    if source.rejected:
        what = "line" if source.is_text else "row"
        say(settings, f"{number(source.rejected, what)} could not be taken: see {reject}.")
