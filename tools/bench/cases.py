"""The requests that are compared: the same keys, values and batch sizes on both sides.

Each side preloads its keys, builds its requests and proves by one ordinary gRPC call of the very same bytes that they
are answered as they should be, before the measurement and after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.message import Message

from prefixdb.v1 import (
    auth_pb2,
    key_value_pb2,
    maintenance_pb2,
    namespaces_pb2,
)
from tools.bench import wire
from tools.bench.load import BadResponsesError, Target

KEYS = 10_000
BATCH = 100
SCAN_ROWS = 1_000
VALUE = bytes(range(33, 133))
FRAME_HEAD_BYTES = 5
CALL_S_MAX = 30.0

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One request of one side. ``rows``: keys read or written by one request."""

    name: str
    label: str
    target: Target
    rows: int


def key(index: int) -> bytes:
    """Return the ``index``-th of the preloaded keys."""
    return f"bench/{index:08d}".encode()


class EtcdSide:
    """etcd's KV service: Range, Put and Txn, whose messages are encoded by hand."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(address)

    def preload(self) -> None:
        """Write every key once, a transaction of a hundred at a time."""
        for begin in range(0, KEYS, BATCH):
            operations = [(2, wire.message((2, _etcd_put(key(i))))) for i in range(begin, begin + BATCH)]
            self._call("Txn", wire.message(*operations))

    def cases(self) -> list[Case]:
        """Return the five requests."""
        middle = KEYS // 2
        batch = range(middle, middle + BATCH)
        ranges = [(2, wire.message((1, _etcd_get(key(i))))) for i in batch]
        puts = [(2, wire.message((2, _etcd_put(key(i))))) for i in batch]
        scan = wire.message((1, key(0)), (2, b"bench0"), (3, SCAN_ROWS), (7, 1))
        return [
            self._case("Get", "Range, serializable", "Range", _etcd_get(key(middle)), 1),
            self._case("Put", "Put", "Put", _etcd_put(key(middle)), 1),
            self._case("BatchGet", f"Txn of {BATCH} Range", "Txn", wire.message(*ranges), BATCH),
            self._case("Write", f"Txn of {BATCH} Put", "Txn", wire.message(*puts), BATCH),
            self._case("Scan", f"Range, {SCAN_ROWS} rows", "Range", scan, SCAN_ROWS),
        ]

    def close(self) -> None:
        """Close the channel of the checks."""
        self._channel.close()

    def _case(self, name: str, label: str, method: str, request: bytes, rows: int) -> Case:
        def check() -> int:
            answer = self._call(method, request)
            found = _etcd_rows(name, answer)
            if found != rows:
                raise BadResponsesError(f"etcd {label}: {found} rows in the answer instead of {rows}")
            return len(answer) + FRAME_HEAD_BYTES

        return Case(name, label, Target(self._address, f"/etcdserverpb.KV/{method}", request, check), rows)

    def _call(self, method: str, request: bytes) -> bytes:
        return _raw_call(self._channel, f"/etcdserverpb.KV/{method}", request, ())


class PrefixdbSide:
    """prefixdb's KeyValue service with a writer's token of a namespace made for the run."""

    def __init__(self, address: str, data_dir: Path) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(address)
        self._guardian = (data_dir / "guardian.token").read_text(encoding="utf-8").strip()
        self._token = self._new_namespace()

    def preload(self) -> None:
        """Write every key once, a thousand at a time."""
        for begin in range(0, KEYS, 1_000):
            request = _write(range(begin, begin + 1_000))
            self._answers("Write", request.SerializeToString())

    def cases(self) -> list[Case]:
        """Return the five requests."""
        pb = key_value_pb2
        middle = KEYS // 2
        batch = range(middle, middle + BATCH)
        return [
            self._case("Get", "Get", pb.GetRequest(key=key(middle)), 1),
            self._case("Put", "Put", pb.PutRequest(key=key(middle), value=VALUE), 1),
            self._case("BatchGet", f"BatchGet of {BATCH}", pb.BatchGetRequest(keys=[key(i) for i in batch]), BATCH),
            self._case("Write", f"Write of {BATCH}", _write(batch), BATCH),
            self._case("Scan", f"Scan, {SCAN_ROWS} rows", pb.ScanRequest(limit=SCAN_ROWS), SCAN_ROWS),
        ]

    def facts(self) -> str:
        """Return which store serves and how durable it is, as the server tells it."""
        status = maintenance_pb2.StatusResponse.FromString(
            self._administer("Maintenance/Status", maintenance_pb2.StatusRequest())
        )
        return f"{status.version}, {status.engine}, {status.durability}"

    def close(self) -> None:
        """Close the channel of the checks."""
        self._channel.close()

    def _case(self, name: str, label: str, request: Message, rows: int) -> Case:
        encoded = request.SerializeToString()

        def check() -> int:
            answers = self._answers(name, encoded)
            found = _prefixdb_rows(name, answers, rows)
            if found != rows:
                raise BadResponsesError(f"prefixdb {label}: {found} rows in the answer instead of {rows}")
            return sum(len(answer) + FRAME_HEAD_BYTES for answer in answers)

        target = Target(self._address, f"/prefixdb.v1.KeyValue/{name}", encoded, check, self._token)
        return Case(name, label, target, rows)

    def _answers(self, method: str, request: bytes) -> list[bytes]:
        """Return every message of the answer to one call."""
        path, metadata = f"/prefixdb.v1.KeyValue/{method}", _bearer(self._token)
        if method == "Scan":
            pages = self._channel.unary_stream(path, None, None)(request, metadata=metadata, timeout=CALL_S_MAX)
            return [bytes(page) for page in pages]
        return [_raw_call(self._channel, path, request, metadata)]

    def _administer(self, method: str, request: Message) -> bytes:
        """Make one call with the cluster guardian's token."""
        return _raw_call(self._channel, f"/prefixdb.v1.{method}", request.SerializeToString(), _bearer(self._guardian))

    def _new_namespace(self) -> str:
        """Create the namespace of the run and return a writer's token for it."""
        made = namespaces_pb2.CreateNamespaceResponse.FromString(
            self._administer("Namespaces/CreateNamespace", namespaces_pb2.CreateNamespaceRequest(name="bench"))
        )
        request = auth_pb2.IssueTokenRequest(subject="bench", groups=["writers"])
        request.namespace.id = made.namespace.id
        request.ttl.FromSeconds(3600)
        return auth_pb2.IssueTokenResponse.FromString(self._administer("Auth/IssueToken", request)).token


def _bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def _raw_call(channel: grpc.Channel, path: str, request: bytes, metadata: Metadata) -> bytes:
    """Make one call whose messages are bytes on both sides."""
    return bytes(channel.unary_unary(path, None, None)(request, metadata=metadata, timeout=CALL_S_MAX))


def _etcd_get(name: bytes) -> bytes:
    """Return a serializable RangeRequest: one member's answer without asking the others, as cheap as etcd reads get."""
    return wire.message((1, name), (7, 1))


def _etcd_put(name: bytes) -> bytes:
    return wire.message((1, name), (2, VALUE))


def _etcd_rows(name: str, answer: bytes) -> int:
    """Return how many rows an etcd answer read with the right value, or wrote."""
    if name in {"Get", "Scan"}:
        return sum(wire.first(row, 5) == VALUE for row in wire.messages(answer, 2))
    if name == "Put":
        return int(wire.first(answer, 1) is not None)
    if wire.first(answer, 2) != 1:
        raise BadResponsesError("etcd Txn: not succeeded")
    inner = wire.messages(answer, 3)
    if name == "Write":
        return sum(wire.first(one, 2) is not None for one in inner)
    return sum(_etcd_rows("Get", found) for one in inner for found in wire.messages(one, 1))


def _write(indices: range) -> key_value_pb2.WriteRequest:
    request = key_value_pb2.WriteRequest()
    for index in indices:
        request.mutations.add().put.MergeFrom(key_value_pb2.Mutation.Put(key=key(index), value=VALUE))
    return request


def _prefixdb_rows(name: str, answers: list[bytes], rows: int) -> int:
    """Return how many rows a prefixdb answer read with the right value, or wrote."""
    pb = key_value_pb2
    if name == "Get":
        return int(pb.GetResponse.FromString(answers[0]).value == VALUE)
    if name == "Put":
        return int(pb.PutResponse.FromString(answers[0]).applied)
    if name == "BatchGet":
        return sum(one.value == VALUE for one in pb.BatchGetResponse.FromString(answers[0]).results)
    if name == "Write":
        return rows if pb.WriteResponse.FromString(answers[0]).applied else 0
    return sum(row.value == VALUE for page in answers for row in pb.ScanResponse.FromString(page).rows)
