"""A world of random tenants and what they hold, kept by the test itself, and a way to read what a directory holds.

``World`` makes namespaces, members, groups and rows over a real socket and remembers every acknowledged one; nothing
of it comes from the server but the versions and the ids that the server draws. ``contents`` reads a stopped server's
directory through the store and the codecs, below everything that moves data, so that both sides of a comparison were
not made by the code that is looked at.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgpack

from prefixdb import connect
from prefixdb.catalog import schema
from prefixdb.catalog.entities import NamespaceState
from prefixdb.catalog.namespaces import Registry
from prefixdb.client.models import Rule
from prefixdb.client.sync.database import Database
from prefixdb.clock import SystemClock
from prefixdb.keycodec import FAMILY_DATA, family_span, split_data_key
from prefixdb.records import decode_record
from prefixdb.store import open_store
from tools.lab.process import ServerProcess

PASSWORD = "correct horse battery staple"
LIFETIMES_S = (None, None, None, 3_600, 86_400)
HEADS = (b"", b"\x00", b"\xff", b"\xff\xff", b"user/", "ключ/".encode(), b"a")
MEMBER_FIELDS = ("groups", "password_hash", "disabled", "created_at_ms", "updated_at_ms", "password_changed_at_ms")

Place = tuple[int, bytes]
"""Database and key."""


@dataclass(frozen=True, slots=True)
class Held:
    """One row as it must be: value, version, and when it ends in milliseconds since 1970 (0: never)."""

    value: bytes
    version: int
    expires_at_ms: int


@dataclass(slots=True)
class Tenant:
    """What one namespace must hold. ``banned`` ones must not be found at all."""

    name: str
    id: int
    token_file: Path
    rows: dict[Place, Held] = field(default_factory=dict)
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    groups: dict[str, tuple[Rule, ...]] = field(default_factory=dict)
    banned: bool = False


class World:
    """Random tenants on one server.

    Args:
        server: a running server.
        scratch: where the tenants' token files go.
        seed: repeats a world, but for what the server draws.
    """

    def __init__(self, server: ServerProcess, scratch: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.server = server
        self.scratch = scratch
        self.tenants: dict[str, Tenant] = {}

    def guardian(self) -> Database:
        """Return a connection of the cluster's guardian."""
        return connect(self.server.address, token_file=self.server.guardian_token_file())

    def open(self, tenant: Tenant) -> Database:
        """Return a connection of a tenant's guardian."""
        return connect(self.server.address, token_file=tenant.token_file)

    def found(self, name: str) -> Tenant:
        """Make a namespace with members and groups."""
        with self.guardian() as db:
            made = db.guardian.namespaces.create(name, guardian_token_ttl=3_600)
        token_file = self.scratch / f"{name}.token"
        assert made.guardian_token is not None
        token_file.write_text(made.guardian_token)
        token_file.chmod(0o600)
        tenant = self.tenants[name] = Tenant(name, made.namespace.id, token_file)
        with self.open(tenant) as db:
            for number in range(self.random.randrange(3)):
                rules = tuple(self._rule() for _ in range(self.random.randrange(1, 4)))
                db.guardian.groups.create(f"group-{number}", rules)
                tenant.groups[f"group-{number}"] = rules
            for number in range(self.random.randrange(4)):
                known = ["readers", "writers", "guardians", *tenant.groups]
                groups = tuple(sorted(self.random.sample(known, self.random.randrange(1, 3))))
                password = PASSWORD if number == 0 else None
                db.guardian.members.create(f"member-{number}", password=password, groups=groups)
                tenant.members[f"member-{number}"] = groups
        return tenant

    def write(self, tenant: Tenant, steps: int) -> None:
        """Write, overwrite and delete rows in a tenant, in batches across its databases."""
        with self.open(tenant) as db:
            for _ in range(steps):
                if tenant.rows and self.random.random() < 0.15:
                    place = self.random.choice(sorted(tenant.rows))
                    db.database(place[0]).delete(place[1])
                    del tenant.rows[place]
                    continue
                batch, wanted = db.batch(), {}
                for _ in range(self.random.choice((1, 1, 3, 20))):
                    place = self._place(tenant)
                    value = self.random.randbytes(self.random.choice((0, 1, 10, 100, 3_000)))
                    ttl = self.random.choice(LIFETIMES_S)
                    batch.put(place[1], value, ttl=ttl, database=place[0])
                    wanted[place] = (value, ttl)
                version = batch.commit()
                assert version is not None
                for place, (value, ttl) in wanted.items():
                    ends = 0 if ttl is None else time.time_ns() // 1_000_000 + ttl * 1_000
                    tenant.rows[place] = Held(value, version, ends)

    def short_lived(self, tenant: Tenant) -> None:
        """Write rows that are over before anybody looks, and wait until they are."""
        with self.open(tenant) as db:
            for number in range(5):
                db.put(b"gone soon/%d" % number, b"x", ttl=0.05)
            while any(db.scan(b"gone soon/", keys_only=True)):
                pass

    def ban(self, tenant: Tenant, *, grace: float | None = 3_600) -> None:
        """Ban a tenant; what it held must not be found again."""
        with self.guardian() as db:
            db.guardian.namespaces.ban(tenant.id, grace=grace)
        tenant.banned = True

    def _place(self, tenant: Tenant) -> Place:
        if tenant.rows and self.random.random() < 0.3:
            return self.random.choice(sorted(tenant.rows))
        database = self.random.choice((0, 0, 0, 1, 7, 65_535))
        return database, self.random.choice(HEADS) + self.random.randbytes(self.random.choice((1, 2, 8, 300)))

    def _rule(self) -> Rule:
        database = self.random.choice((None, 0, 65_535))
        return Rule(
            database, self.random.randbytes(self.random.randrange(3)), read=True, write=self.random.random() < 0.5
        )


# --- what a directory holds ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Content:
    """One namespace as a directory has it.

    rows: in the order of places.
    system: groups and members as their records say, without service tokens and logins.
    """

    name: str
    id: int
    rows: tuple[tuple[Place, Held], ...]
    groups: Mapping[str, object]
    members: Mapping[str, object]

    def digest(self, *, order_only: bool = False) -> str:
        """Return the SHA-256 of the rows; with ``order_only`` versions count by their order, not by their numbers."""
        ranks = {version: rank for rank, version in enumerate(sorted({row.version for _, row in self.rows}))}
        hashed = hashlib.sha256()
        for (database, key), row in self.rows:
            version = ranks[row.version] if order_only else row.version
            hashed.update(msgpack.packb([database, key, row.value, version, row.expires_at_ms]))
        return hashed.hexdigest()

    def people(self) -> str:
        """Return the SHA-256 of groups and members."""
        return hashlib.sha256(msgpack.packb([self.groups, self.members])).hexdigest()


def contents(directory: Path, kind: str) -> dict[str, Content]:
    """Return every live namespace of a stopped server's directory by name; make sure that no other one has rows."""
    store = open_store(kind, directory, clock=SystemClock())
    try:
        registry = Registry(store, SystemClock())
        found = {}
        for record in registry.page(None, 10_000, include_dropped=True):
            cursor = store.open_cursor(family_span(record.id, FAMILY_DATA))
            try:
                rows = tuple(_rows(iter(lambda cursor=cursor: cursor.fetch(1_000, 1 << 20), [])))
            finally:
                cursor.close()
            if record.state.is_live:
                assert record.name not in found
                found[record.name] = Content(record.name, record.id, rows, *_people(store, record.id))
            elif record.state is NamespaceState.RECLAIMED:
                assert not rows, "a reclaimed namespace has rows"
        return found
    finally:
        store.close()


def _rows(pages: Iterable[list[object]]) -> Iterator[tuple[Place, Held]]:
    for page in pages:
        for key, payload, version, expires_at_ms in page:  # type: ignore[misc]
            _, database, user_key = split_data_key(key)
            yield (database, bytes(user_key)), Held(payload, version, expires_at_ms)


def _people(store: object, namespace_id: int) -> tuple[dict[str, object], dict[str, object]]:
    groups, members = {}, {}
    for tag, into in ((schema.Tag.GROUP, groups), (schema.Tag.MEMBER, members)):
        for key, row in schema.rows_of(store, schema.system_span(namespace_id, tag)):  # type: ignore[arg-type]
            into[key.decode()] = decode_record(row.payload)
    chosen = {name: [fields[wanted] for wanted in MEMBER_FIELDS] for name, fields in members.items()}
    return dict(sorted(groups.items())), dict(sorted(chosen.items()))


def check_against_world(world: World, found: Mapping[str, Content]) -> None:
    """Compare what a directory holds with what the test knows: exactly, but for the millisecond of a lifetime's end."""
    assert {tenant.name for tenant in world.tenants.values() if not tenant.banned} <= found.keys()
    for tenant in world.tenants.values():
        if tenant.banned:
            assert tenant.name not in found
            continue
        content = found[tenant.name]
        assert dict(content.rows).keys() == tenant.rows.keys()
        for place, row in content.rows:
            wanted = tenant.rows[place]
            assert (row.value, row.version) == (wanted.value, wanted.version)
            assert abs(row.expires_at_ms - wanted.expires_at_ms) < 30_000
        assert tenant.groups.keys() | {"guardians", "readers", "writers"} == content.groups.keys()
        assert tenant.members.keys() == content.members.keys()
        for name, groups in tenant.members.items():
            assert sorted(content.members[name][0]) == sorted(groups)  # type: ignore[index]
