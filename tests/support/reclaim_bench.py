"""A reclaimer over the model store, driven step by step, and a store that watches the publishing order.

``ProbeStore`` notes every call, runs hooks that tests set, and looks at its own rows whenever something is published or
committed: an id that is published must name a namespace whose stored record is BANNED and whose stored ban has begun.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from prefixdb.catalog import schema
from prefixdb.catalog.entities import NamespaceState, ReclaimPhase
from prefixdb.catalog.namespaces import Registry
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import Span, data_key, namespace_of, namespace_span
from prefixdb.reclaim import Reclaimer
from prefixdb.store.base import Commit, CommitResult, Emptiness, Put, ReclaimProgress, Row, SpanSize
from tests.support.clocks import HeldClock
from tests.support.memory_store import MemoryStore

Hook = Callable[[tuple[int, ...]], None]


class Crash(BaseException):
    """A kill -9 at this point: nothing after it runs, not even an ``except Exception``."""


class ProbeStore(MemoryStore):
    """The model store, with a journal of (what, namespace ids), and hooks that tests set by what.

    pinned: files that every proof finds. steps: progress that a reclaim shows for its first namespace.
    """

    def __init__(self, clock: HeldClock) -> None:
        super().__init__(clock)
        self.journal: list[tuple[str, tuple[int, ...]]] = []
        self.before: dict[str, Hook] = {}
        self.pinned: tuple[str, ...] = ()
        self.steps: list[ReclaimProgress] = []

    def calls(self, what: str) -> list[tuple[int, ...]]:
        """Return the namespaces of each call of one kind, in order."""
        return [ids for called, ids in self.journal if called == what]

    def crash(self) -> None:
        """Forget what is not durable."""
        self.published.clear()
        self._dropped.clear()
        self.before.clear()

    def flush(self) -> None:
        self._note("flush")
        super().flush()

    def span_size(self, span: Span, *, exact_rows_max: int = 1_000, stop=lambda: False) -> SpanSize:
        self._note("measure", (namespace_of(span.begin),))
        return super().span_size(span, exact_rows_max=exact_rows_max, stop=stop)

    def commit_many(self, commits: Sequence[Commit]) -> list[CommitResult]:
        self._note("commit")
        results = super().commit_many(commits)
        self._check_published()
        self._note("committed")
        return results

    def publish_bans(self, namespace_ids: Collection[int]) -> None:
        self._note("publish", namespace_ids)
        super().publish_bans(namespace_ids)
        self._check_published()

    def withdraw_bans(self, namespace_ids: Collection[int]) -> None:
        self._note("withdraw", namespace_ids)
        super().withdraw_bans(namespace_ids)
        self._note("withdrawn", namespace_ids)

    def reclaim(self, namespace_ids: Sequence[int], *, on_progress, stop) -> None:
        self._note("reclaim", namespace_ids)
        for step in self.steps:
            on_progress(namespace_ids[0], step)
            if stop():
                return
        super().reclaim(namespace_ids, on_progress=on_progress, stop=stop)
        self._note("reclaimed", namespace_ids)

    def prove_empty(self, span: Span) -> Emptiness:
        self._note("prove", (namespace_of(span.begin),))
        size = super().span_size(span)
        return Emptiness(min(size.rows, 1), size.bytes, self.pinned)

    def sweep_expired(self, after, max_rows):
        self._note("sweep")
        return super().sweep_expired(after, max_rows)

    def _note(self, what: str, namespace_ids: Collection[int] = ()) -> None:
        self.journal.append((what, tuple(namespace_ids)))
        hook = self.before.get(what)
        if hook:
            hook(tuple(namespace_ids))

    def _check_published(self) -> None:
        for namespace_id in self.published:
            row, ban_row = self.get(schema.namespace_key(namespace_id)), self.get(schema.ban_key(namespace_id))
            assert row is not None and ban_row is not None, "a published namespace has no record or no ban"
            record, ban = schema.decode_namespace(namespace_id, row), schema.decode_ban(namespace_id, ban_row)
            assert record.state is NamespaceState.BANNED, f"published while {record.state.name}"
            assert ban.reclaim_started_at_ms and ban.incarnation == record.incarnation, "published before it had begun"


class Bench:
    """One store, and the registry and reclaimer over it that ``restart`` replaces."""

    def __init__(self) -> None:
        self.clock = HeldClock()
        self.store = ProbeStore(self.clock)
        self.streams: dict[int, int] = {}
        self.restart()

    def restart(self) -> None:
        """Start again over what is durable."""
        self.store.crash()
        self.registry = Registry(self.store, self.clock)
        self.reclaimer = Reclaimer(self.store, self.registry, self.clock, lambda n: self.streams.get(n, 0))
        self.told: list[tuple[int, ReclaimPhase]] = []
        self.reclaimer.add_listener(lambda n: self.told.append((n, self.reclaimer.report(n).phase)))

    def tenant(self, name: str, rows: int = 10) -> int:
        """Create a namespace with rows; every fifth has expired."""
        namespace_id = self.registry.create(name).id
        self.fill(namespace_id, rows)
        return namespace_id

    def fill(self, namespace_id: int, rows: int) -> None:
        """Write rows into a namespace; every fifth has expired."""
        writes = [Put(data_key(namespace_id, 0, b"%d" % n), b"x" * 10, 1 if n % 5 == 4 else 0) for n in range(rows)]
        self.store.commit(Commit(tuple(writes)))

    def banned(self, *names: str, rows: int = 10) -> list[int]:
        """Create namespaces with rows, and ban them without a grace, one a millisecond."""
        ids = [self.tenant(name, rows) for name in names]
        for namespace_id in ids:
            self.registry.ban(namespace_id, by="x")
            self.clock.advance(1)
        return ids

    def rows(self, namespace_id: int, *, raw: bool = True) -> list[Row]:
        """Return everything in the namespace's span; without ``raw`` what has not expired, which no sweep touches."""
        cursor = self.store.open_cursor(namespace_span(namespace_id), raw=raw)
        return cursor.fetch(10**6, 10**9)

    def phase(self, namespace_id: int) -> ReclaimPhase:
        """Return the phase of the namespace's report."""
        return self.reclaimer.report(namespace_id).phase

    def phases(self, namespace_ids: Sequence[int]) -> list[ReclaimPhase]:
        """Return the phase of each."""
        return [self.phase(namespace_id) for namespace_id in namespace_ids]


def reason_of(call: Callable[..., object], *arguments: object) -> Reason | None:
    """Call, and return the reason of the refusal, None when there was none."""
    try:
        call(*arguments)
    except PrefixdbError as failure:
        return failure.reason
    return None
