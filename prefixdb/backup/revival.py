"""What an older backup must not bring back: namespaces dropped since, and tokens of a past that it knows nothing of.

A backup is the store as it was. Two things that happened later have to be known all the same: that a namespace was
banned, for that was a promise to whoever owned its rows; and that tokens were issued, for they speak of numbers and
versions that mean something else from now on. What else happened later is undone; ``docs/backup.md`` says what.

A ban is applied to the issue of the number that it is of, never to another. After a restore the versions of the lost
time come again, and with them, for numbers that were chosen and not drawn, perhaps pairs of number and incarnation.
Time tells them apart: it does not run backwards in a data directory, so no namespace was banned before it was created.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from prefixdb.catalog import dropping, schema
from prefixdb.catalog.dropping import Change
from prefixdb.catalog.entities import Ban, NamespaceRecord, NamespaceState
from prefixdb.catalog.keyring import close_keys, drop_keys
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.schema import Tag
from prefixdb.errors import Reason, error
from prefixdb.keycodec import system_span
from prefixdb.repository.bans import BannedIssue, merged
from prefixdb.store.base import Commit, Delete, Mutation, Store

_COMMITS_AT_ONCE = 1_000
_PAGE = 1_000


def apply_bans(store: Store, registry: Registry, bans: Iterable[BannedIssue]) -> int:
    """Ban what was banned, in the catalog of a restored store that nobody serves; return how many were changed.

    ``registry`` is outdated afterwards. A ban that another says more of is brought up to date: what was reclaimed
    cannot be taken back.
    """
    changes = []
    for ban in merged(bans):
        record = registry.get(ban.namespace_id)
        if record is not None and _is_of(ban, record):
            change = _change(record, registry.ban_of(record.id), ban)
            changes += [change] if change is not None else []
    _commit(store, [change.commit() for change in changes])
    return len(changes)


def end_tokens(store: Store, registry: Registry, *, issued_until_ms: int, new_keys: bool) -> None:
    """Let no token be verified that was issued after the backup; with ``new_keys`` none of before either.

    Args:
        store: restored, served by nobody.
        registry: of it.
        issued_until_ms: the backup's instant.
        new_keys: also forget the keys, all logins and the records of service tokens.
    """
    if not new_keys:
        close_keys(store, issued_until_ms)
        return
    drop_keys(store)
    deletes: list[Mutation] = []
    after: int | None = None
    while page := registry.page(after, _PAGE, include_dropped=True):
        for record in page:
            for tag in (Tag.LOGIN, Tag.SERVICE_TOKEN):
                rows = schema.rows_of(store, system_span(record.id, tag), keys_only=True)
                deletes += [Delete(row.key) for _, row in rows]
        after = page[-1].id
    _commit(store, [Commit((delete,)) for delete in deletes])


def _is_of(ban: BannedIssue, record: NamespaceRecord) -> bool:
    return record.incarnation == ban.incarnation and record.created_at_ms <= ban.banned_at_ms


def _change(record: NamespaceRecord, known: Ban | None, ban: BannedIssue) -> Change | None:
    """Return what the ban changes, None when the backup knows as much."""
    # What was reclaimed was beyond its grace, whatever the clock of this machine says.
    grace_end_ms = min(ban.banned_at_ms, ban.reclaim_after_ms) if ban.reclaimed else ban.reclaim_after_ms
    if record.state.is_live:
        grace_ms = max(0, grace_end_ms - ban.banned_at_ms)
        return dropping.drop(record, now_ms=ban.banned_at_ms, by=ban.banned_by, reason=ban.reason, grace_ms=grace_ms)
    if record.state is not NamespaceState.BANNED or known is None or known.reclaimed_at_ms:
        return None
    newer = known
    if ban.banned_at_ms > known.banned_at_ms:  # It was taken back once, and banned again.
        newer = replace(
            known,
            banned_at_ms=ban.banned_at_ms,
            by=ban.banned_by,
            reason=ban.reason,
            reclaim_after_ms=grace_end_ms,
        )
    elif ban.reclaimed:
        newer = replace(known, reclaim_after_ms=min(known.reclaim_after_ms, grace_end_ms))
    return Change(record, record, newer) if newer != known else None


def _commit(store: Store, commits: Sequence[Commit]) -> None:
    for begin in range(0, len(commits), _COMMITS_AT_ONCE):
        results = store.commit_many(commits[begin : begin + _COMMITS_AT_ONCE])
        if not all(result.applied for result in results):
            raise error(Reason.INTERNAL, "Somebody else writes to the store that is being restored.")
