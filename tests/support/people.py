"""Members, groups, grants and logins over the model store, without tokens: what kills tokens is only written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prefixdb.catalog import schema
from prefixdb.catalog.entities import (
    Guardian,
    MemberRecord,
    NamespaceIssue,
    NamespaceRecord,
    ServiceTokenRecord,
)
from prefixdb.catalog.epochs import Epochs
from prefixdb.catalog.identities import Identities
from prefixdb.catalog.load import service_token_put
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.schema import Tag
from prefixdb.errors import OutcomeUnknownError
from prefixdb.keycodec import system_span
from prefixdb.records import encode_record
from prefixdb.store.base import Commit, CommitResult, Put, Store
from tests.support.clocks import HeldClock
from tests.support.memory_store import MemoryStore

HASH = "$argon2id$one"
OTHER_HASH = "$argon2id$two"


@dataclass(frozen=True)
class Bearer:
    """What the claims of a token say."""

    namespace_id: int
    subject: str
    family: str = ""
    guest: bool = False
    groups: tuple[str, ...] = ()
    guardian: Guardian = Guardian.NONE


class People:
    """One data directory's catalog. ``reopen`` is a restart over the same store.

    marks: (home, subject, version, epoch of the home then) of every revocation that members asked for and that was in
        force when the commit had returned.
    """

    def __init__(self, store: Store | None = None, clock: HeldClock | None = None) -> None:
        self.clock = clock or HeldClock()
        self.store = store if store is not None else MemoryStore(self.clock)
        self.marks: list[tuple[int, str, int, int]] = []
        self.reloads = 0
        self.reopen()

    def reopen(self) -> None:
        self.registry = Registry(self.store, self.clock)
        self.epochs = Epochs()
        self.identities = Identities(self.store, self.clock, self.registry, self.epochs, self._revoke_with)
        self.members = self.identities.members
        self.groups = self.identities.groups
        self.grants = self.identities.grants
        self.logins = self.identities.logins

    def guardian(self, namespace_id: int = 0, name: str = "gina") -> MemberRecord:
        return self.members.create(namespace_id, name, password_hash=HASH, groups=("guardians",))

    def member(self, name: str = "bob", namespace_id: int = 0, **fields: object) -> MemberRecord:
        return self.members.create(namespace_id, name, password_hash=HASH, **fields)  # type: ignore[arg-type]

    def login(self, member: MemberRecord, namespace_id: int = 0) -> Bearer:
        """Log a member in, and return what its access token says at home."""
        login = self.logins.begin(namespace_id, member, issue(self.registry.get(namespace_id)))
        return Bearer(namespace_id, member.name, login.family, groups=member.groups)

    def rows(self, namespace_id: int, tag: int) -> list[bytes]:
        """Return the keys of all records of a tag."""
        return [key for key, _ in schema.rows_of(self.store, system_span(namespace_id, tag), keys_only=True)]

    def _revoke_with(self, namespace_id: int, subject: str, commit: Callable[[Put], int]) -> None:
        put = Put(schema.watermark_key(namespace_id, subject), encode_record({"at_ms": self.clock.now_ms()}))
        try:
            version = commit(put)
        except OutcomeUnknownError:
            self.reloads += 1
            raise
        self.marks.append((namespace_id, subject, version, self.epochs.of(namespace_id)))


def issue(record: NamespaceRecord) -> NamespaceIssue:
    return NamespaceIssue(record.id, record.incarnation)


def service_token(subject: str, *, revoked: bool = False, expires_at_s: int = 2**33) -> ServiceTokenRecord:
    return ServiceTokenRecord(f"{subject}-jti", subject, (), Guardian.NONE, 1, expires_at_s, "root@0", revoked=revoked)


def add_token(people: People, namespace_id: int, record: ServiceTokenRecord) -> None:
    people.store.commit(Commit((service_token_put(namespace_id, record),)))


class Spy:
    """Stands between the catalog and a store: counts, keeps and meddles with commits.

    before: called with each commit before it is applied; may change the store or raise.
    after: the same once it was applied.
    """

    def __init__(self, store: MemoryStore, before: Callable[[Commit], None] | None = None) -> None:
        self._store = store
        self._honest = store.commit
        self.before = before
        self.after: Callable[[Commit], None] | None = None
        self.commits: list[Commit] = []
        store.commit = self.commit  # type: ignore[method-assign]

    def commit(self, commit: Commit) -> CommitResult:
        self.commits.append(commit)
        if self.before is not None:
            self.before(commit)
        result = self._honest(commit)
        if self.after is not None:
            self.after(commit)
        return result

    def stop(self) -> None:
        self._store.commit = self._honest  # type: ignore[method-assign]


def picture(people: People, namespace_id: int) -> tuple:
    """Return everything there is of a namespace's people."""
    return (
        people.members.page(namespace_id, "", 1_000),
        people.groups.page(namespace_id, "", 1_000),
        people.grants.page("", b"", 1_000),
        people.rows(namespace_id, Tag.LOGIN),
        people.store.status().last_version,
    )
