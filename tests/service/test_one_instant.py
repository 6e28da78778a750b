"""What is moved while others write shows one instant: export, namespace export with members, clone, and a whole backup.

Goal: an invariant that holds after every commit holds in everything that is moved, whatever else goes on: compactions,
bans and reclaims of neighbours, expiry.
Method: a writer moves amounts between accounts in several databases, in one Write each, so that their sum never
changes, and rewrites pairs of rows that end together; neighbours are made, filled and banned; the store is compacted
all the while. Each archive, clone and restored backup must have the sum, and all or none of each pair.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prefixdb import connect_async
from prefixdb.backup.restore import restore
from prefixdb.catalog.entities import NamespaceRecord, NamespaceState
from prefixdb.repository.repository import Repository, StoredBackup
from prefixdb.store import open_store
from prefixdb.v1 import key_value_pb2, transfer_pb2_grpc
from prefixdb.v1 import transfer_pb2 as pb
from tests.service.test_export import exported, fill
from tests.support import server as server_support
from tests.support.clocks import HeldClock
from tests.support.importing import rows_in
from tests.support.server import RunningServer, eventually, reference, running, translated

DATABASES = (0, 1, 9, 65_535)
ACCOUNTS = 40
"""In each database; between them lie enough other rows that a walk takes many fetches."""

START = 1_000
FILLER = 20_000
PAIRS = 50

Mutation = key_value_pb2.Mutation


def put(database: int, key: bytes, value: bytes, ttl_ms: int = 0) -> Any:
    return Mutation(put=Mutation.Put(database=database, key=key, value=value, ttl_ms=ttl_ms))


def check(rows: Iterable[tuple[int, bytes, bytes]]) -> None:
    """Make sure that the sum is what it was, and that each pair is whole or gone."""
    total, pairs = 0, dict[bytes, list[bytes]]()
    for _, key, value in rows:
        if key.startswith(b"account/"):
            total += int(value)
        elif key.startswith(b"pair/"):
            pairs.setdefault(key[:9], []).append(value)
    assert total == len(DATABASES) * ACCOUNTS * START
    for name, values in pairs.items():
        assert len(values) == 2 and values[0] == values[1], name


class Unrest:
    """Everything that goes on while something is moved."""

    def __init__(self, server: RunningServer, home: NamespaceRecord) -> None:
        self.moves = self.bans = self.compactions = 0
        self._server = server
        self._writer = server.caller(home, groups=("writers",))
        self._ending = False
        self._balances = {(database, number): START for database in DATABASES for number in range(ACCOUNTS)}

    async def write(self) -> None:
        draw = random.Random(5)
        places = list(self._balances)
        while not self._ending:
            one, other = draw.sample(places, 2)
            amount = draw.randrange(1, 100)
            self._balances[one] -= amount
            self._balances[other] += amount
            mutations = [
                put(place[0], b"account/%02d" % place[1], b"%d" % self._balances[place]) for place in (one, other)
            ]
            name, mark = b"pair/%04d" % draw.randrange(PAIRS), b"%d" % self.moves
            ttl_ms = draw.choice((1, 20, 200, 10_000))
            mutations += [put(0, name + b"/a", mark, ttl_ms), put(65_535, name + b"/z", mark, ttl_ms)]
            await self._writer.call(self._writer.key_value.Write, key_value_pb2.WriteRequest(mutations=mutations))
            self.moves += 1

    async def ban(self) -> None:
        store, registry = self._server.app.store, self._server.app.registry
        while not self._ending:
            neighbour = await asyncio.to_thread(registry.create, f"neighbour-{self.bans}")
            fill(self._server, neighbour.id, {(0, b"%04d" % number): b"x" * 100 for number in range(500)})
            await asyncio.to_thread(store.flush)
            await asyncio.to_thread(registry.ban, neighbour.id, by="test")
            self.bans += 1
            while not self._ending and registry.get(neighbour.id).state is not NamespaceState.RECLAIMED:
                await asyncio.sleep(0.01)

    async def compact(self) -> None:
        while not self._ending:
            await asyncio.to_thread(self._server.app.store.flush)
            await asyncio.to_thread(self._server.app.store.compact)
            self.compactions += 1

    async def end(self) -> None:
        self._ending = True


@asynccontextmanager
async def unrest(data_dir: Path) -> AsyncIterator[tuple[RunningServer, NamespaceRecord, Unrest]]:
    """Start a server with a namespace in which money moves."""
    async with running(data_dir) as server:
        home = server.create("home")
        rows = {(database, b"account/%02d" % n): b"%d" % START for database in DATABASES for n in range(ACCOUNTS)}
        for database in DATABASES:
            rows |= {(database, b"m%06d" % n): b"x" * 60 for n in range(FILLER // len(DATABASES))}
        fill(server, home.id, rows)
        server.member(home, "alice")
        around = Unrest(server, home)
        tasks = [asyncio.create_task(work()) for work in (around.write, around.ban, around.compact)]
        try:
            await eventually(lambda: around.moves > 20 and around.compactions, "it goes on")
            yield server, home, around
        finally:
            await around.end()
            await asyncio.gather(*tasks)


def test_an_export_a_clone_and_a_backup_show_one_instant_of_a_busy_store(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with unrest(tmp_path / "data") as (server, home, around):
            reader = server.caller(home, groups=("readers",))
            stub: Any = transfer_pb2_grpc.TransferStub(server.channel)
            for number in range(4):
                before = around.moves
                check(row[:3] for row in (await exported(reader)).rows)
                whole = await exported(server.guardian, namespace=reference(home), members=True)
                assert [member.name for member in whole.members] == ["alice"]
                check(row[:3] for row in whole.rows)
                request = pb.CloneNamespaceRequest(source=reference(home), name=f"copy-{number}", members=True)
                with translated():
                    async for answer in stub.CloneNamespace(request, metadata=server.guardian.metadata, timeout=60):
                        last = answer
                copied = rows_in(server.app.store, last.namespace.id)
                # Pairs end in the clone as they do in the source, while they are read here.
                check((*place, value) for place, value in copied.items() if not place[1].startswith(b"pair/"))
                assert around.moves > before, "nothing went on meanwhile"
            async with connect_async(server.app.address, token=server.guardian.token) as admin:
                await admin.guardian.backups.create(tmp_path / "repository")
            assert around.bans and around.compactions > 2
        await asyncio.to_thread(check_backup, tmp_path, home)

    asyncio.run(scenario())


def check_backup(tmp_path: Path, home: NamespaceRecord) -> None:
    """Restore the backup and look at the rows with a clock that stands where the backup's stood."""
    repository = Repository.open(tmp_path / "repository")
    restore(StoredBackup(repository, repository.manifests()[0]), tmp_path / "restored")
    store = open_store(server_support.store_kind, tmp_path / "restored", clock=HeldClock(now_ms=1))
    with contextlib.closing(store):
        found = [(*place, value) for place, value in rows_in(store, home.id).items()]
    assert any(key.startswith(b"pair/") for _, key, _ in found)
    check(found)


def test_rows_that_end_while_they_are_exported_are_judged_at_the_exports_instant(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = HeldClock(now_ms=1_700_000_000_000)
        async with running(tmp_path / "data", clock=clock) as server:
            home = server.create("home")
            writer = server.caller(home, groups=("writers",))
            for first in range(0, 30_000, 10_000):
                mutations = [put(0, b"%06d" % n, b"v" * 20, ttl_ms=60_000) for n in range(first, first + 10_000)]
                await writer.call(writer.key_value.Write, key_value_pb2.WriteRequest(mutations=mutations))
            await writer.call(writer.key_value.Put, key_value_pb2.PutRequest(key=b"000000", value=b"", ttl_ms=1))
            clock.advance(1)
            open_cursor, read = server.app.store.open_cursor, []

            def ending(walk: Any) -> Any:
                def walked(*amounts: Any) -> Any:
                    found = walk(*amounts)
                    read.append(clock.now_ms())
                    if len(read) == 1:
                        clock.advance(60_000)  # After the first page everything has ended.
                    return found

                return walked

            def watched(*args: Any, **named: Any) -> Any:
                cursor = open_cursor(*args, **named)
                if not named.get("one_instant"):  # The sweep of expired rows walks, too, when it likes.
                    return cursor
                for name in ("fetch", "pack"):  # The second is the native cursor's.
                    if hasattr(cursor, name):
                        setattr(cursor, name, ending(getattr(cursor, name)))
                return cursor

            server.app.store.open_cursor = watched  # type: ignore[method-assign]
            archive = await exported(server.caller(home, groups=("readers",)))
            assert len(archive.rows) == 29_999 and len(set(read)) == 2
            server.app.store.open_cursor = open_cursor  # type: ignore[method-assign]
            assert len((await exported(server.caller(home, groups=("readers",)))).rows) == 0

    asyncio.run(scenario())
