"""Scenes for namespaces that are restored and cloned: how to ask for one, and how to hold one in the making."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import grpc

from prefixdb.archive import ArchiveWriter, Group, Header, Member
from prefixdb.backup import building, placing
from prefixdb.catalog.entities import NamespaceRecord, NamespaceState
from prefixdb.keycodec import FAMILY_DATA, data_key, family_span, split_data_key
from prefixdb.rpcstatus import DETAILS_KEY, from_status
from prefixdb.store.base import Commit, Put, Store
from prefixdb.v1 import transfer_pb2 as pb
from prefixdb.v1 import transfer_pb2_grpc
from tests.support.server import WAIT_S, Caller, RunningServer, reference, translated

Rows = list[tuple[int, bytes, bytes, int, int]]
"""(database, key, value, version, expires_at_ms), ascending."""


def transfer(caller: Caller) -> Any:
    return transfer_pb2_grpc.TransferStub(caller.channel)


async def clone(caller: Caller, source: NamespaceRecord | int | str, name: str, **more: Any) -> list[Any]:
    """Clone, and return all answers."""
    request = pb.CloneNamespaceRequest(source=reference(source), name=name, **more)
    with translated():
        call = transfer(caller).CloneNamespace(request, metadata=caller.metadata, timeout=3 * WAIT_S)
        return [answer async for answer in call]


async def restore(server: RunningServer, frames: Iterable[bytes], **begin: Any) -> list[Any]:
    """Restore an archive as the guardian, and return all answers.

    In a thread, by gRPC's other stack: the one for asyncio makes INTERNAL of whatever a call is ended with while its
    client sends.
    """

    def requests() -> Iterator[pb.RestoreNamespaceRequest]:
        yield pb.RestoreNamespaceRequest(begin=pb.RestoreNamespaceBegin(**begin))
        for frame in frames:
            yield pb.RestoreNamespaceRequest(frame=frame)

    def call() -> list[Any]:
        with grpc.insecure_channel(server.app.address) as channel:
            stub: Any = transfer_pb2_grpc.TransferStub(channel)
            try:
                return list(stub.RestoreNamespace(requests(), metadata=server.guardian.metadata, timeout=3 * WAIT_S))
            except grpc.RpcError as failure:
                details = dict(failure.trailing_metadata() or ()).get(DETAILS_KEY)
                raise from_status(failure.code().value[0], failure.details() or "", details) from failure

    return await asyncio.to_thread(call)


def live(server: RunningServer, name: str) -> NamespaceRecord | None:
    """Return the live namespace of a name."""
    found = server.app.registry.find(name)
    return found if found is not None and found.state.is_live else None


def rows_of(store: Store, namespace_id: int) -> Rows:
    """Return all of a namespace's rows."""
    cursor = store.open_cursor(family_span(namespace_id, FAMILY_DATA))
    try:
        found: Rows = []
        while page := cursor.fetch(1_000, 1 << 20):
            for row in page:
                _, database, key = split_data_key(row.key)
                found.append((database, bytes(key), row.payload, row.version, row.expires_at_ms))
        return found
    finally:
        cursor.close()


def fill(store: Store, namespace_id: int, count: int, *, database: int = 0, value: bytes = b"v") -> None:
    """Write rows ``k000000`` and so on."""
    for first in range(0, count, 1_000):
        puts = [
            Put(data_key(namespace_id, database, b"k%06d" % number), value + b"%d" % number)
            for number in range(first, min(first + 1_000, count))
        ]
        assert store.commit(Commit(tuple(puts))).applied


def frames(
    rows: Rows, *, groups: Sequence[Group] = (), members: Sequence[Member] = (), page: int = 100, **header: Any
) -> list[bytes]:
    """Return the frames of an archive of a namespace."""
    last = max((row[3] for row in rows), default=0)
    fields = {"kind": "namespace", "namespace_id": 7, "namespace": "origin", "incarnation": 5, "last_version": last}
    writer = ArchiveWriter(Header(**(fields | header)))
    made = [writer.header()]
    if groups:
        made.append(writer.groups(list(groups)))
    if members:
        made.append(writer.members(list(members)))
    for database in sorted({row[0] for row in rows}):
        mine = [row[1:] for row in rows if row[0] == database]
        made += [writer.rows(database, mine[first : first + page]) for first in range(0, len(mine), page)]
    made.append(writer.footer())
    return made


class Gate:
    """Holds every placing of rows after its first piece, until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.go.wait(WAIT_S), "nobody opened the gate"


@contextlib.contextmanager
def held(monkeypatch: Any, piece_rows: int = 10) -> Iterator[Gate]:
    """Hold whatever is being built after its first piece of rows. Opened at the end at the latest."""
    gate = Gate()

    def place_rows(*arguments: Any, **more: Any) -> placing.Placed:
        count = more["on_rows"]

        def on_rows(rows: int) -> None:
            count(rows)
            gate.wait()

        return placing.place_rows(*arguments, **(more | {"on_rows": on_rows}))

    monkeypatch.setattr(placing, "PIECE_ROWS", piece_rows)
    monkeypatch.setattr(building, "place_rows", place_rows)
    try:
        yield gate
    finally:
        gate.go.set()
        monkeypatch.undo()


def in_the_making(server: RunningServer) -> NamespaceRecord:
    """Return the one namespace that is staged."""
    (found,) = [
        record
        for record in server.app.registry.page(None, 1_000, include_dropped=True)
        if record.state is NamespaceState.BANNED and server.app.registry.staging.is_building(record.id)
    ]
    return found


def is_reclaimed(server: RunningServer, namespace_id: int) -> bool:
    """Return whether the number was proven to be empty."""
    record = server.app.registry.get(namespace_id)
    return record is not None and record.state is NamespaceState.RECLAIMED
