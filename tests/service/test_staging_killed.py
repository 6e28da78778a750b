"""Goal: a server that is killed while it clones or restores leaves nothing of it, and the next one can do it.

Method: servers in processes of their own are killed with -9 as soon as the new namespace is noted down, which is before
its first row is written, started again, killed again while they reclaim, and asked for the same once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from prefixdb.v1 import key_value_pb2, key_value_pb2_grpc, namespaces_pb2, namespaces_pb2_grpc, transfer_pb2_grpc
from prefixdb.v1 import transfer_pb2 as pb
from tests.service.staging import frames
from tests.support.server import ServerProcess, subprocess_server

CHOSEN = 4_711
ROWS = 150_000
WAIT_S = 30.0


class Client:
    """Calls of the first guardian, without asyncio."""

    def __init__(self, server: ServerProcess) -> None:
        self.channel = grpc.insecure_channel(server.address)
        self.metadata = (("authorization", f"Bearer {server.guardian_token}"),)
        self.namespaces: Any = namespaces_pb2_grpc.NamespacesStub(self.channel)
        self.transfer: Any = transfer_pb2_grpc.TransferStub(self.channel)
        self.key_value: Any = key_value_pb2_grpc.KeyValueStub(self.channel)

    def call(self, method: Any, request: Any) -> Any:
        return method(request, metadata=self.metadata, timeout=WAIT_S)

    def all(self) -> list[Any]:
        request = namespaces_pb2.ListNamespacesRequest(include_dropped=True)
        return list(self.call(self.namespaces.ListNamespaces, request).namespaces)

    def find(self, name: str) -> Any | None:
        return next((item for item in self.all() if item.name == name), None)

    def clone(self) -> Any:
        request = pb.CloneNamespaceRequest(source=namespaces_pb2.NamespaceRef(id=0), name="copy", id=CHOSEN)
        return self.transfer.CloneNamespace(request, metadata=self.metadata)

    def restore(self, archive: list[bytes]) -> Any:
        def requests() -> Iterator[pb.RestoreNamespaceRequest]:
            yield pb.RestoreNamespaceRequest(begin=pb.RestoreNamespaceBegin(name="copy", id=CHOSEN))
            for frame in archive:
                yield pb.RestoreNamespaceRequest(frame=frame)

        return self.transfer.RestoreNamespace(requests(), metadata=self.metadata)


def fill_by_wire(client: Client) -> None:
    """Write rows into namespace 0, whose guardian this is."""
    for first in range(0, ROWS, 10_000):
        mutations = [
            key_value_pb2.Mutation(put=key_value_pb2.Mutation.Put(key=b"k%06d" % n, value=b"v" * 40))
            for n in range(first, first + 10_000)
        ]
        client.call(client.key_value.Write, key_value_pb2.WriteRequest(mutations=mutations))


@pytest.mark.parametrize("way", ["clone", "restore"])
def test_a_killed_server_leaves_nothing_of_what_it_was_making(server_store: str, tmp_path: Path, way: str) -> None:
    data_dir = tmp_path / "data"
    archive = frames([(0, b"k%06d" % n, b"v" * 40, n + 1, 0) for n in range(ROWS)], page=1_000)
    with subprocess_server(data_dir, "--durability", "os") as server:
        client = Client(server)
        if way == "clone":
            fill_by_wire(client)
        answers = client.clone() if way == "clone" else client.restore(archive)
        while not any(item.id == CHOSEN for item in client.all()):
            assert answers.is_active()
        server.process.kill()
        server.process.wait()
    for _ in range(2):
        with subprocess_server(data_dir, "--durability", "os") as server:
            client = Client(server)
            left = next((item for item in client.all() if item.id == CHOSEN), None)
            assert left is None or left.state >= namespaces_pb2.NAMESPACE_STATE_BANNED
            assert not list((data_dir / "imports").glob("*"))
            if left is not None:
                watch = namespaces_pb2.WatchReclaimRequest(namespace=namespaces_pb2.NamespaceRef(id=CHOSEN))
                reports = list(client.namespaces.WatchReclaim(watch, metadata=client.metadata, timeout=WAIT_S))
                assert reports[-1].reclaim.phase == namespaces_pb2.RECLAIM_PHASE_DONE
                assert reports[-1].reclaim.proof_rows_found == reports[-1].reclaim.proof_bytes_found == 0
            server.process.kill()
            server.process.wait()
    with subprocess_server(data_dir, "--durability", "os") as server:
        client = Client(server)
        answers = list(client.clone() if way == "clone" else client.restore(archive))
        assert answers[-1].phase == pb.TRANSFER_PHASE_DONE
        assert answers[-1].rows_done == ROWS
        server.process.kill()
        server.process.wait()
    with subprocess_server(data_dir, "--durability", "os") as server:
        found = Client(server).find("copy")
        assert found is not None
        assert found.state == namespaces_pb2.NAMESPACE_STATE_ACTIVE
        assert not list((data_dir / "imports").glob("*"))
