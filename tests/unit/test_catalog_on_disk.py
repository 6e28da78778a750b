"""Goal: catalog, tokens and reclaim hold on the real engine what the model store promises, across restarts.

Method: one life of a namespace on a rocksdict store in a temporary directory, closed and reopened between the acts;
the engine's own files are searched for the tenant's bytes at the end.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from prefixdb.catalog.entities import Guardian, NamespaceState, ReclaimPhase
from prefixdb.catalog.keyring import Keyring
from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.tokens import TokenAuthority, TokenRequest, ensure_guardian_token
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import data_key
from prefixdb.reclaim import Reclaimer
from prefixdb.store.base import Commit, Put
from prefixdb.store.rocksdict import RocksdictStore
from tests.support.clocks import HeldClock

ROWS = 2_000


def value(namespace_id: int, number: int) -> bytes:
    """Return bytes that do not compress, so that a search of the files finds nearly all of them as they are."""
    return b"".join(hashlib.sha256(b"%d/%d/%d" % (namespace_id, number, part)).digest() for part in range(4))


class Server:
    """What a server's start puts together, over the real store."""

    def __init__(self, data_dir: Path, clock: HeldClock) -> None:
        self.store = RocksdictStore.open(data_dir, clock=clock, cache_bytes=1 << 20, write_buffer_bytes=1 << 20)
        self.registry = Registry(self.store, clock)
        self.authority = TokenAuthority(self.store, clock, self.registry, Keyring(self.store, clock, data_dir))
        self.guardian_file = ensure_guardian_token(self.authority, self.store, clock, data_dir)
        self.reclaimer = Reclaimer(self.store, self.registry, clock, lambda _: 0)

    def refusal(self, token: str) -> Reason | None:
        try:
            self.authority.verify(token)
        except PrefixdbError as failure:
            return failure.reason
        return None


def test_a_whole_life_on_the_real_engine(tmp_path: Path) -> None:
    clock = HeldClock()
    server = Server(tmp_path, clock)
    assert server.guardian_file is not None
    root = server.authority.session(server.authority.verify(server.guardian_file.read_text().strip()))
    doomed, other = server.registry.create("doomed"), server.registry.create("other")
    for record in (doomed, other):
        rows = tuple(Put(data_key(record.id, 0, b"%05d" % n), value(record.id, n)) for n in range(ROWS))
        server.store.commit(Commit(rows))
    server.store.flush()
    old, _ = server.authority.issue(TokenRequest(doomed.id, "bob", ("writers",)), root)
    kept, _ = server.authority.issue(TokenRequest(other.id, "eve", ("readers",), Guardian.NONE), root)
    server.authority.revoke_subject(other.id, "bob")
    server.registry.ban(doomed.id, by="guardian@0", reason="unpaid", grace_ms=1000)
    server.store.close()

    server = Server(tmp_path, clock)
    assert server.guardian_file is None
    assert server.registry.get(doomed.id).state is NamespaceState.BANNED
    assert server.refusal(kept) is None
    clock.advance(1000)
    for _ in range(5):
        server.reclaimer.run_once()
        clock.advance(60_000)
    report = server.reclaimer.report(doomed.id)
    assert (report.phase, report.detail) == (ReclaimPhase.DONE, "")
    assert report.bytes_freed > 0 and report.rows_dropped > 0
    server.store.close()

    server = Server(tmp_path, clock)
    assert server.reclaimer.report(doomed.id) == report
    again = server.registry.create("doomed", namespace_id=doomed.id)
    assert again.incarnation > doomed.incarnation
    assert server.refusal(old) is Reason.TOKEN_INVALID
    server.store.close()
    left = b"".join(path.read_bytes() for path in sorted((tmp_path / "db").iterdir()) if path.suffix == ".sst")
    found = {record.id: sum(value(record.id, n) in left for n in range(ROWS)) for record in (doomed, other)}
    assert found[doomed.id] == 0
    assert found[other.id] > ROWS // 2  # The search works; a few values are broken up by the block's own references.
