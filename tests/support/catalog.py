"""A catalog over the model store, put together the way the server does it, with shortcuts for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from prefixdb.catalog.entities import (
    Ban,
    Guardian,
    NamespaceRecord,
    NamespaceState,
    ReclaimPhase,
    ReclaimReport,
)
from prefixdb.catalog.issuers import Issuers
from prefixdb.catalog.keyring import Keyring
from prefixdb.catalog.manifest import waiting_report
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.policy import Session
from prefixdb.catalog.tokens import TokenAuthority, TokenRequest
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.store.base import SpanSize
from tests.support.clocks import HeldClock
from tests.support.memory_store import MemoryStore


class World:
    """Store, registry, keys and tokens of one data directory. ``reopen`` is a restart over the same store.

    issuers_file: of other issuers, if there are any.
    """

    def __init__(self, data_dir: Path, issuers_file: Path | None = None) -> None:
        self.data_dir = data_dir
        self.issuers_file = issuers_file
        self.clock = HeldClock()
        self.store = MemoryStore(self.clock)
        self.reopen()

    def reopen(self) -> None:
        self.registry = Registry(self.store, self.clock)
        self.keyring = Keyring(self.store, self.clock, self.data_dir)
        self.issuers = Issuers(self.issuers_file) if self.issuers_file else None
        self.authority = TokenAuthority(self.store, self.clock, self.registry, self.keyring, self.issuers)

    def operator_token(self, **fields: object) -> str:
        """Return a cluster guardian's token."""
        request = TokenRequest(0, "guardian", ("guardians",), Guardian.CLUSTER, 24 * 3600)
        return self.authority.issue_locally(request)[0]

    def admit(self, token: str) -> Session:
        return self.authority.session(self.authority.verify(token))

    def cluster_guardian(self) -> Session:
        return self.admit(self.operator_token())

    def local(self, namespace_id: int, subject: str = "bob", **fields: object) -> str:
        """Return a token issued without a policy check, for the namespace."""
        return self.authority.issue_locally(TokenRequest(namespace_id, subject, **fields))[0]  # type: ignore[arg-type]

    def guardian_of(self, namespace_id: int) -> Session:
        return self.admit(self.local(namespace_id, "boss", groups=("guardians",), guardian=Guardian.NAMESPACE))


def put_into(registry: Registry, record: NamespaceRecord, state: NamespaceState) -> NamespaceRecord:
    """Bring an ACTIVE namespace into ``state`` the ordinary way; a ban has a grace of one second."""
    if state in (NamespaceState.READ_ONLY, NamespaceState.SUSPENDED):
        return registry.suspend(record.id, state, "maintenance")
    if state is NamespaceState.BANNED:
        return registry.ban(record.id, by="root@0", reason="unpaid", grace_ms=1000)
    return record


def reason_of(call: Callable[..., object], *arguments: object, **keywords: object) -> Reason | None:
    """Call, and return the reason of the refusal, None when there was none."""
    try:
        call(*arguments, **keywords)
    except PrefixdbError as failure:
        return failure.reason
    return None


def picture(registry: Registry) -> tuple:
    """Return everything a registry shows."""
    everything = registry.page(None, 10_000, include_dropped=True)
    names = {record.name for record in everything}
    return (
        everything,
        registry.page(None, 10_000),
        registry.counts(),
        registry.bans(),
        registry.undone_bans(),
        {name: registry.find(name) for name in names},
        {record.id: registry.last_report(record.id) for record in everything},
    )


def assert_reload_is_equal(registry: Registry, store: MemoryStore, clock: HeldClock) -> None:
    assert picture(Registry(store, clock)) == picture(registry)


def begin(registry: Registry, namespace_id: int, size: SpanSize) -> Ban:
    """Say that the reclaim of one namespace begins; raise the refusal."""
    outcome = registry.mark_reclaims_started({namespace_id: size})[namespace_id]
    if isinstance(outcome, PrefixdbError):
        raise outcome
    return outcome


def finish(registry: Registry, report: ReclaimReport) -> NamespaceRecord:
    """Write the final report of one namespace; raise the refusal."""
    outcome = registry.mark_reclaimed([report])[report.namespace_id]
    if isinstance(outcome, PrefixdbError):
        raise outcome
    return outcome


def drop_rows(store: MemoryStore, namespace_id: int) -> None:
    """Publish the ban of a namespace and remove its rows."""
    store.publish_bans([namespace_id])
    store.reclaim([namespace_id], on_progress=lambda _id, _progress: None, stop=lambda: False)


def reclaim_by_hand(registry: Registry, store: MemoryStore, clock: HeldClock, namespace_id: int) -> None:
    """Do by hand what the reclaimer does."""
    ban = registry.ban_of(namespace_id)
    clock.advance(max(ban.reclaim_after_ms - clock.now_ms(), 0))
    ban = begin(registry, namespace_id, SpanSize(10, 2))
    drop_rows(store, namespace_id)
    store.withdraw_bans([namespace_id])
    report = waiting_report(ban, registry.get(namespace_id), clock.now_ms())
    finish(registry, replace(report, phase=ReclaimPhase.DONE, finished_at_ms=clock.now_ms()))
