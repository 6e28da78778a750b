"""What a restored namespace is made of: an archive that came whole, read again from its spool.

Everything in it was judged when it came, members and groups as well (``Arrival``), and is judged again when it is read:
nothing is believed that lay on a disk. Rows keep their versions when this store has given out all of them, else they
get new ones in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from prefixdb.archive import Footer, Group, Groups, Header, Member, Members, Rows, ScannedRows, damaged, facts_of
from prefixdb.archive.reader import Content
from prefixdb.backup.building import Progress
from prefixdb.backup.placing import Frame, Page
from prefixdb.backup.ranks import ranks_of, versions_of
from prefixdb.backup.spool import Spool
from prefixdb.catalog.entities import MemberRecord, Rule
from prefixdb.catalog.incoming import Incoming
from prefixdb.catalog.names import check_labels
from prefixdb.clock import Clock
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.store.base import Put, Store
from prefixdb.store.version_rule import KEPT_VERSIONS, VersionRule
from prefixdb.store.versions import reserve_versions

_KINDS = ("namespace", "export")


class Arrival:
    """An archive on its way in: each frame is judged, and kept in the spool. Blocks; one thread at a time.

    Args:
        spool: a new one.
        clock: nothing has happened after it.
        members: whether members and groups are wanted.
    """

    def __init__(self, spool: Spool, clock: Clock, *, members: bool) -> None:
        self._spool = spool
        self._incoming = Incoming(1, clock.now_ms()) if members else None  # Judges only: any number does.
        self._header: Header | None = None
        self.rows = 0

    @property
    def header(self) -> Header:
        """The archive's header. RuntimeError before it was taken."""
        if self._header is None:
            raise RuntimeError("the header has not come")
        return self._header

    def add(self, frame: bytes) -> None:
        """Take the next frame.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID.
            FailedPreconditionError: FORMAT_TOO_NEW.
            ResourceExhaustedError, UnavailableError: the disk does not take it.
        """
        place = self._spool.reader.place
        content = self._spool.add(frame)
        if isinstance(content, Rows | ScannedRows):
            self.rows += facts_of(content).rows
            return
        try:
            if isinstance(content, Header):
                _check_header(content)
                self._header = content
            elif self._incoming is not None and isinstance(content, Groups | Members):
                puts_of(content, self._incoming)
        except PrefixdbError as failure:
            if failure.reason is Reason.ARCHIVE_INVALID:
                raise
            raise damaged(place, f"It could not be in a namespace: {failure.message}") from failure

    def end(self) -> None:
        """Tell that nothing more comes; raises ARCHIVE_INVALID when the archive is not whole."""
        self._spool.finish()


class RestoreContent:
    """``building.Content`` from a whole spool.

    Args:
        spool: removed by ``close``.
        store: for the versions.
        clock: rows whose lifetime is over do not come along.
        namespace_id: where to.
        members: whether members and groups are wanted.
        progress: told of them, and of the phase.
        check: called between frames; raises to end the work.
    """

    def __init__(
        self,
        spool: Spool,
        store: Store,
        clock: Clock,
        namespace_id: int,
        *,
        members: bool,
        progress: Progress,
        check: Callable[[], object],
    ) -> None:
        self._spool = spool
        self._store = store
        self._clock = clock
        self._namespace_id = namespace_id
        self._incoming = Incoming(namespace_id, clock.now_ms()) if members else None
        self._progress = progress
        self._check = check
        self._frames: Iterator[Content] = iter(())
        self._rule = KEPT_VERSIONS

    def records(self) -> Iterator[Sequence[Put]]:
        """Yield the records of groups and members, when they are wanted, in pages."""
        # Before anything else is written: an ingest takes only versions that are older than itself.
        self._rule = self._versions()
        self._frames = self._spool.contents(self._store.rows_scanner)
        for content in self._frames:
            if isinstance(content, Rows | ScannedRows | Footer):
                self._frames = chain((content,), self._frames)
                return
            if self._incoming is not None and isinstance(content, Groups | Members):
                yield puts_of(content, self._incoming)
                self._progress.groups, self._progress.members = self._incoming.groups, self._incoming.members

    def pages(self) -> Iterator[Page]:
        """Yield the rows in pages, in order."""
        for content in self._frames:
            if isinstance(content, Rows | ScannedRows):
                frame = Frame(content, self._namespace_id, self._clock.now_ms(), self._rule)
                yield frame
                self._progress.rows_expired += frame.count - frame.written

    def close(self) -> None:
        """Release what was opened; harmless when called again."""
        self._spool.close(delete=True)

    def _versions(self) -> VersionRule:
        """Return what gives each of the archive's versions the one its rows will have."""
        if self._spool.finish().max_version <= self._store.status().last_version:
            return KEPT_VERSIONS
        self._progress.checking = True
        ranks = ranks_of(self._all_versions())
        blocks = reserve_versions(self._store, ranks.wanted)
        self._progress.checking = False
        return ranks.mapped_onto(blocks)

    def _all_versions(self) -> Iterator[Sequence[int]]:
        for content in self._spool.contents(self._store.rows_scanner):
            self._check()
            if isinstance(content, Rows | ScannedRows):
                yield versions_of(content)


def puts_of(content: Groups | Members, incoming: Incoming) -> list[Put]:
    """Return the writes of what a frame holds, judged; raises as ``Incoming``."""
    if isinstance(content, Groups):
        return [incoming.group(group.name, _rules(group)) for group in content.groups]
    return [incoming.member(_record(member)) for member in content.members]


def _rules(group: Group) -> list[Rule]:
    return [Rule(rule.database, rule.prefix, rule.read, rule.write) for rule in group.rules]


def _record(member: Member) -> MemberRecord:
    return MemberRecord(
        name=member.name,
        groups=member.groups,
        password_hash=member.password_hash,
        disabled=member.disabled,
        created_at_ms=member.created_at_ms,
        updated_at_ms=member.updated_at_ms,
        password_changed_at_ms=member.password_changed_at_ms,
    )


def _check_header(header: Header) -> None:
    if header.kind not in _KINDS:
        raise error(Reason.ARCHIVE_INVALID, "It was made from text and is no namespace's: create one, then import it.")
    check_labels(header.labels)
