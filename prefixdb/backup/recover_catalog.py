"""The catalog after damage: records that contradict each other are brought to agree, never in favour of coming back.

A table file or the end of a log may be gone, so one record can be older than another. The rules:

- Who was banned stays banned: a ban, a reclaim's report or a list of bans from elsewhere beats a record that is live,
  when it is of the same issue or a later one.
- A record says BANNED or RECLAIMED without a ban: it gets one. A ban without a record: it gets one.
- The name index is made from the records. Of two live namespaces of one name the newer keeps it.
- Rows without a record, where a part of the catalog itself is lost, become a SUSPENDED namespace that a guardian must
  look at; its tokens, whatever they were, are worthless. Where the catalog is whole such rows belong to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from prefixdb.catalog import load, schema
from prefixdb.catalog.entities import (
    DEFAULT_NAMESPACE_ID,
    DEFAULT_NAMESPACE_NAME,
    Ban,
    NamespaceRecord,
    NamespaceState,
)
from prefixdb.catalog.schema import Tag
from prefixdb.errors import DataLossError
from prefixdb.keycodec import RowKey, split_system_key
from prefixdb.limits import NAME_CHARS_MAX
from prefixdb.records import decode_value, encode_value
from prefixdb.repository.bans import BannedIssue
from prefixdb.store.base import Put, Row

SUSPENDED_REASON = "Recovered without its record; look at it before resuming it."
_BY = "recover"


@dataclass(slots=True)
class Judgement:
    """The catalog as the new directory gets it.

    records, bans: by number. reports: incarnations that were reclaimed, by number.
    replaced: stored values by row key, None for a row that is left out. added: written where no row has the key.
    said: what was mended, for the report.
    """

    records: dict[int, NamespaceRecord] = field(default_factory=dict)
    bans: dict[int, Ban] = field(default_factory=dict)
    reports: dict[int, int] = field(default_factory=dict)
    replaced: dict[bytes, bytes | None] = field(default_factory=dict)
    added: dict[bytes, bytes] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


class Judge:
    """Makes a ``Judgement``.

    Args:
        rows: (row key, stored value) of namespace 0's catalog records.
        version: of rows that are written anew.
        now_ms: the time.
    """

    def __init__(self, rows: Iterable[tuple[bytes, bytes]], version: int, now_ms: int) -> None:
        self._version = version
        self._now_ms = now_ms
        self._names: dict[str, int] = {}
        self._has_meta = False
        self.result = Judgement()
        for key, stored in rows:
            self._read(key, stored)

    def judge(self, bans: Iterable[BannedIssue], orphans: Iterable[int]) -> Judgement:
        """Return the catalog to write.

        Args:
            bans: from elsewhere.
            orphans: numbers of rows that are to become suspended namespaces if they have no record and no ban.
        """
        result = self.result
        before = dict(result.records), dict(result.bans)
        listed = self._heaviest(bans)
        for namespace_id in sorted(result.records.keys() | result.bans.keys()):
            self._agree(namespace_id)
            self._obey(namespace_id, listed.get(namespace_id))
        for namespace_id in sorted(orphans):
            if namespace_id not in result.records and namespace_id not in listed:
                self._adopt(namespace_id)
        self._ensure_default()
        self._unique_names()
        for namespace_id, record in result.records.items():
            if record != before[0].get(namespace_id):
                self._write(schema.namespace_key(namespace_id), schema.encode_namespace(record))
        for namespace_id in before[1].keys() | result.bans.keys():
            ban = result.bans.get(namespace_id)
            if ban is None:
                result.replaced[schema.ban_key(namespace_id)] = None
            elif ban != before[1].get(namespace_id):
                self._write(schema.ban_key(namespace_id), schema.encode_ban(ban))
        self._write_names()
        return result

    # --- reading -----------------------------------------------------------------------------------------------------

    def _read(self, key: bytes, stored: bytes) -> None:
        result = self.result
        try:
            _, tag, record_key = split_system_key(key)
            payload, version, expires_at_ms = decode_value(stored)
            row = Row(RowKey(key), payload, version, expires_at_ms)
            if tag == Tag.NAMESPACE:
                namespace_id = schema.split_id(record_key)[0]
                result.records[namespace_id] = schema.decode_namespace(namespace_id, row)
            elif tag == Tag.BAN:
                namespace_id = schema.split_id(record_key)[0]
                result.bans[namespace_id] = schema.decode_ban(namespace_id, row)
            elif tag == Tag.REPORT:
                namespace_id, rest = schema.split_id(record_key)
                incarnation = schema.split_id(rest)[0]
                result.reports[namespace_id] = max(result.reports.get(namespace_id, 0), incarnation)
            elif tag == Tag.NAME:
                self._names[schema.text_of(record_key)] = schema.Fields(payload).integer("id")
            elif tag == Tag.META:
                schema.Fields(payload).integer("format")
                self._has_meta = True
        except DataLossError:
            result.replaced[key] = None
            result.said.append("A record of the catalog could not be understood and was left out.")

    def _heaviest(self, bans: Iterable[BannedIssue]) -> dict[int, BannedIssue]:
        found: dict[int, BannedIssue] = {}
        for ban in bans:
            known = found.get(ban.namespace_id)
            if known is None or ban.incarnation >= known.incarnation:
                found[ban.namespace_id] = ban
        return found

    # --- agreeing ----------------------------------------------------------------------------------------------------

    def _agree(self, namespace_id: int) -> None:
        """Bring a namespace's record and ban to agree."""
        result = self.result
        record, ban = result.records.get(namespace_id), result.bans.get(namespace_id)
        if namespace_id == DEFAULT_NAMESPACE_ID:
            result.bans.pop(namespace_id, None)
            return
        if record is None and ban is not None:
            result.records[namespace_id] = _record_of(ban)
            result.said.append(f"Namespace {namespace_id}: its record is lost; by its ban it stays dropped.")
        elif record is not None and ban is None and not record.state.is_live:
            result.bans[namespace_id] = self._ban_of(record, record.state is NamespaceState.RECLAIMED)
            result.said.append(f"Namespace {namespace_id}: its ban is lost; by its record it stays dropped.")
        elif record is not None and ban is not None:
            self._agree_both(record, ban)

    def _agree_both(self, record: NamespaceRecord, ban: Ban) -> None:
        result, namespace_id = self.result, record.id
        state = NamespaceState.RECLAIMED if ban.reclaimed_at_ms else NamespaceState.BANNED
        if record.incarnation > ban.incarnation:
            result.said.append(f"Namespace {namespace_id}: an older ban of its number was left out.")
            if record.state.is_live:
                del result.bans[namespace_id]
            else:
                result.bans[namespace_id] = self._ban_of(record, record.state is NamespaceState.RECLAIMED)
        elif record.state is not state or record.incarnation != ban.incarnation:
            result.records[namespace_id] = replace(
                record, state=state, incarnation=ban.incarnation, state_reason=ban.reason
            )
            result.said.append(f"Namespace {namespace_id}: its record is older than its ban; it stays dropped.")

    def _obey(self, namespace_id: int, listed: BannedIssue | None) -> None:
        """Drop a namespace that a report or a list from elsewhere says was dropped."""
        record = self.result.records[namespace_id]
        if namespace_id == DEFAULT_NAMESPACE_ID or not record.state.is_live:
            return
        if self.result.reports.get(namespace_id, 0) >= record.incarnation:
            self._drop(record, self._ban_of(record, False), "the report of its reclaim is there")
        elif listed is not None and listed.incarnation >= record.incarnation:
            ban = replace(
                self._ban_of(record, False),
                banned_at_ms=listed.banned_at_ms,
                by=listed.banned_by,
                reason=listed.reason,
                reclaim_after_ms=0 if listed.reclaimed else listed.reclaim_after_ms,
            )
            self._drop(record, ban, "a list of bans names it")

    def _drop(self, record: NamespaceRecord, ban: Ban, why: str) -> None:
        self.result.bans[record.id] = ban
        self.result.records[record.id] = replace(record, state=NamespaceState.BANNED, state_reason=ban.reason)
        self.result.said.append(f"Namespace {record.id} is dropped: {why}.")

    def _adopt(self, namespace_id: int) -> None:
        record = NamespaceRecord(
            namespace_id,
            f"recovered-{namespace_id}",
            NamespaceState.SUSPENDED,
            self._version,
            {},
            self._now_ms,
            self._now_ms,
            SUSPENDED_REASON,
            0,
        )
        self.result.records[namespace_id] = record
        self._add(load.group_puts(namespace_id))
        self.result.said.append(
            f"Namespace {namespace_id}: its record is lost. Its rows are kept under the name {record.name}, suspended: "
            "resume it or ban it."
        )

    def _ensure_default(self) -> None:
        result = self.result
        if not self._has_meta:
            self._add([load.meta_put(self._now_ms, 0)])
            result.said.append("The catalog's own record is lost: the first start makes a new first guardian.")
        if DEFAULT_NAMESPACE_ID in result.records:
            return
        result.records[DEFAULT_NAMESPACE_ID] = NamespaceRecord(
            DEFAULT_NAMESPACE_ID,
            DEFAULT_NAMESPACE_NAME,
            NamespaceState.ACTIVE,
            self._version,
            {},
            self._now_ms,
            self._now_ms,
            "",
            0,
        )
        self._add(load.group_puts(DEFAULT_NAMESPACE_ID))
        result.said.append("Namespace 0: its record is lost and was made anew; tokens of it no longer work.")

    def _unique_names(self) -> None:
        """Let the newest of several live namespaces keep a name."""
        result = self.result
        taken: set[str] = set()
        for record in sorted(result.records.values(), key=lambda each: (each.id != 0, -each.incarnation)):
            if not record.state.is_live:
                continue
            name = record.name
            if name in taken:
                suffix = f"-recovered-{record.id}"
                name = name[: NAME_CHARS_MAX - len(suffix)] + suffix
                result.records[record.id] = replace(record, name=name)
                result.said.append(f"Namespace {record.id} is called {name} now: a newer one has its name.")
            taken.add(name)

    # --- writing -----------------------------------------------------------------------------------------------------

    def _write_names(self) -> None:
        live = {record.name: record for record in self.result.records.values() if record.state.is_live}
        for name in self._names.keys() - live.keys():
            self.result.replaced[schema.name_key(name)] = None
        for name, record in live.items():
            if self._names.get(name) != record.id:
                put = load.name_put(record)
                self._write(put.key, put.payload)

    def _write(self, key: bytes, payload: bytes) -> None:
        self.result.replaced[key] = encode_value(payload, self._version)

    def _add(self, puts: Iterable[Put]) -> None:
        for put in puts:
            self.result.added[put.key] = encode_value(put.payload, self._version)

    def _ban_of(self, record: NamespaceRecord, reclaimed: bool) -> Ban:
        """Return a ban that is due at once; a reclaim that was finished is told with the time of the record."""
        at_ms = record.updated_at_ms
        return Ban(
            namespace_id=record.id,
            incarnation=record.incarnation,
            name=record.name,
            banned_at_ms=at_ms,
            by=_BY,
            reason=record.state_reason,
            reclaim_after_ms=at_ms,
            prior_state=NamespaceState.ACTIVE,
            reclaim_started_at_ms=at_ms if reclaimed else 0,
            reclaimed_at_ms=at_ms if reclaimed else 0,
        )


def _record_of(ban: Ban) -> NamespaceRecord:
    state = NamespaceState.RECLAIMED if ban.reclaimed_at_ms else NamespaceState.BANNED
    at_ms = ban.banned_at_ms
    return NamespaceRecord(ban.namespace_id, ban.name, state, ban.incarnation, {}, at_ms, at_ms, ban.reason, 0)
