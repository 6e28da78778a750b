"""Goal: on a running server a ban reaches the filter only after the namespace's last reader; nobody else loses a row.

Method: slow readers over a real socket are in the middle of scans when their namespace is banned, and compactions of
everything are forced all the while; what the store is told, and when, is written down beside how many readers were
left at that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from prefixdb.catalog.entities import NamespaceRecord, NamespaceState
from prefixdb.clock import SystemClock
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.keycodec import data_key, namespace_span
from prefixdb.limits import MIB
from prefixdb.store import open_store
from prefixdb.store.base import Commit, Put
from prefixdb.v1 import key_value_pb2 as pb
from prefixdb.v1 import namespaces_pb2 as ns
from tests.service.test_streams import end_of, unread_scan
from tests.store.stores import DURABLE
from tests.support.server import RunningServer, eventually, running

ROWS = 40
CUT_S_MAX = 1.0


@dataclass
class Told:
    """One call of ``publish_bans``: the ids, and how many readers each had at that moment."""

    ids: list[int]
    readers: list[int]


@contextlib.asynccontextmanager
async def watched(tmp_path: Path, told: list[Told]) -> AsyncIterator[RunningServer]:
    """Start a server whose store's publications are written down."""
    async with running(tmp_path / "data") as server:
        store, streams = server.app.store, server.app.streams
        honest = store.publish_bans

        def publish_bans(ids: Any) -> None:
            told.append(Told(list(ids), [streams.views(namespace_id) for namespace_id in ids]))
            honest(ids)

        store.publish_bans = publish_bans  # type: ignore[method-assign]
        yield server


def fill(server: RunningServer, name: str) -> NamespaceRecord:
    """Create a namespace with more than a client's window takes."""
    made = server.create(name)
    for number in range(ROWS):
        row = Put(data_key(made.id, 0, b"%04d" % number), name.encode() * (MIB // len(name) - 100))
        assert server.app.store.commit(Commit((row,))).applied
    return made


def raw_rows(server: RunningServer, namespace: NamespaceRecord) -> int:
    """Count what the store has of a namespace's data, hiding nothing."""
    cursor = server.app.store.open_cursor(namespace_span(namespace.id), raw=True)
    try:
        return cursor.count(10_000)
    finally:
        cursor.close()


async def churn(server: RunningServer) -> None:
    """Have every file rewritten."""
    await asyncio.to_thread(server.app.store.flush)
    await asyncio.to_thread(server.app.store.compact)


async def rest_of(call: Any) -> int:
    """Read a scan to its end and return how many rows there were."""
    count = 0
    while (page := await call.read()) is not grpc.aio.EOF:
        count += len(page.rows)
    return count


def test_a_ban_is_published_after_the_last_reader_and_neighbours_and_backups_lose_nothing(tmp_path: Path) -> None:
    told: list[Told] = []

    async def main() -> None:
        async with watched(tmp_path, told) as server:
            acme, other = fill(server, "acme"), fill(server, "other")
            reader, others = server.caller(acme), server.caller(other)
            before = raw_rows(server, acme)
            scan = await unread_scan(server, reader)
            neighbour = others.key_value.Scan(pb.ScanRequest(), metadata=others.metadata)
            seen = len((await neighbour.read()).rows)
            stubborn = server.app.streams.open(acme.id, lambda: None)  # A reader that no check ever cuts.
            boss = server.guardian
            ref = ns.NamespaceRef(id=acme.id)
            await boss.call(boss.namespaces.BanNamespace, ns.BanNamespaceRequest(namespace=ref))
            async with asyncio.timeout(CUT_S_MAX):
                assert (await end_of(scan)).reason is Reason.NAMESPACE_BANNED
            for _ in range(3):
                server.app.reclaimer.wake()
                await churn(server)
                assert told == [] and raw_rows(server, acme) == before
            with pytest.raises(PrefixdbError) as refused:
                await boss.call(boss.namespaces.UnbanNamespace, ns.UnbanNamespaceRequest(namespace=ref))
            assert refused.value.reason is Reason.RECLAIM_STARTED

            backup = asyncio.create_task(asyncio.to_thread(server.app.store.checkpoint, tmp_path / "backup"))
            stubborn.ended()
            server.app.reclaimer.wake()
            await eventually(lambda: told, "the ban is published")
            with pytest.raises(PrefixdbError) as refused:
                await boss.call(boss.namespaces.UnbanNamespace, ns.UnbanNamespaceRequest(namespace=ref))
            assert refused.value.reason is Reason.RECLAIM_STARTED
            await churn(server)
            await backup
            assert seen + await rest_of(neighbour) == ROWS

            def is_reclaimed() -> bool:
                server.app.reclaimer.wake()
                found = server.app.registry.get(acme.id)
                return found is not None and found.state is NamespaceState.RECLAIMED

            await eventually(is_reclaimed, "the reclaim ends", timeout_s=30)
            assert {tuple(each.ids) for each in told} == {(acme.id,)}
            assert {reader for each in told for reader in each.readers} == {0}
            assert (raw_rows(server, acme), raw_rows(server, other)) == (0, before)
        for kind in DURABLE:
            restored = open_store(kind, tmp_path / "backup", clock=SystemClock())
            try:
                cursor = restored.open_cursor(namespace_span(other.id))
                assert cursor.count(1_000) == before
                cursor.close()
            finally:
                restored.close()

    asyncio.run(main())


def test_at_start_what_had_begun_is_published_before_the_port_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start is stopped at the moment the ports would open, and the store looked at."""

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme, other = server.create("acme"), server.create("other")
            server.app.reclaimer.stop()
            for namespace in (acme, other):
                server.app.registry.ban(namespace.id, by="test")
            size = server.app.store.span_size(namespace_span(acme.id))
            server.app.registry.mark_reclaims_started({acme.id: size})
        seen = []

        async def listen(app: Any) -> None:
            app.reclaimer.stop()
            seen.append((set(app.store._banned), app.address))
            raise RuntimeError("far enough")

        monkeypatch.setattr("prefixdb.server.app.App._listen", listen)
        monkeypatch.setattr("prefixdb.reclaim.Reclaimer.start", lambda self: None)
        with pytest.raises(RuntimeError, match="far enough"):
            async with running(tmp_path / "data"):
                raise AssertionError
        assert seen == [({acme.id}, "")]

    asyncio.run(main())
