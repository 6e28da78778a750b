"""prefixdb as it is measured: one namespace with the rows, a writer's token, and every call of the KeyValue service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from prefixdb.v1 import auth_pb2, key_value_pb2, maintenance_pb2, namespaces_pb2
from tools.bench.page import keys
from tools.bench.page.calls import Call, Kind, prove
from tools.bench.page.servers import PrefixdbProcess
from tools.bench.page.side import GET_H2LOAD, GrpcLoads, Load, python_loads
from tools.lab.rpc import Rpc

SERVICE = "/prefixdb.v1.KeyValue"
NAMESPACE = "bench"
TOKEN_S = 24 * 3600


class PrefixdbSide:
    """A running server; ``prepare`` makes its namespace and writes the rows.

    Args:
        name: how the report calls it.
        server: started.
        scratch: where files of the run go.
    """

    def __init__(self, name: str, server: PrefixdbProcess, scratch: Path) -> None:
        self.name = name
        self._server = server.running_as
        self._guardian = server.guardian_token()
        self._rpc = Rpc(server.address, channels_apart=True)
        self._token_file = scratch / f"{name.replace(' ', '-')}.token"
        self._namespace_guardian = self._token = ""
        directory = scratch / name.replace(" ", "-")
        directory.mkdir()
        self._grpc = GrpcLoads(self._server, directory, lambda: self._token)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._server.pid

    def prepare(self) -> None:
        """Make the namespace, write every row, and have them in files as they would be after a while."""
        self._namespace_guardian = _new_namespace(self._rpc, self._guardian)
        self.renew_token()
        self._token_file.touch(mode=0o600)
        self._token_file.write_text(self._token, encoding="utf-8")
        for begin in range(0, keys.ROWS, keys.PAGE_ROWS):
            self._rpc.call("KeyValue/Write", _write(range(begin, begin + keys.PAGE_ROWS)), self._token)
        self._rpc.call("Maintenance/Compact", maintenance_pb2.CompactRequest(), self._guardian, deadline_s=60)

    def renew_token(self) -> None:
        """Go on with a new token, which the server has not seen yet; any thread may ask for it."""
        request = auth_pb2.IssueTokenRequest(subject="bench", groups=["writers"])
        request.ttl.FromSeconds(TOKEN_S)
        self._token = str(self._rpc.call("Auth/IssueToken", request, self._namespace_guardian).token)

    def facts(self) -> str:
        """Return which version and store serve and how durable they are, as the server tells it."""
        status = self._rpc.call("Maintenance/Status", maintenance_pb2.StatusRequest(), self._guardian)
        return f"{status.version}, {status.engine}, {status.durability}"

    def answer_bytes(self) -> int:
        """Return the size of an answer to Get, framing included."""
        return prove(self._grpc.channel, _calls()["get-uniform"], self._token).largest

    def get_request(self) -> tuple[bytes, str]:
        """Return a Get request and the token it is sent with."""
        return _get(0), self._token

    def call(self, operation: str) -> tuple[Call, GrpcLoads]:
        """Return one of the calls, and what runs it."""
        return _calls()[operation], self._grpc

    def loads(self) -> Mapping[str, Load]:
        """Return what it can do."""
        prepared = _calls()
        found = {name: self._grpc.load(name, call) for name, call in prepared.items()}
        found[GET_H2LOAD] = self._grpc.load_by_h2load(prepared["get-uniform"])
        return found | python_loads("prefixdb", self._server, self._token_file)

    def close(self) -> None:
        """Close the channels."""
        self._grpc.close()
        self._rpc.close()


def _new_namespace(rpc: Rpc, guardian: str) -> str:
    """Create the namespace of the run and return its guardian's token."""
    request = namespaces_pb2.CreateNamespaceRequest(name=NAMESPACE)
    request.guardian_token_ttl.FromSeconds(TOKEN_S)
    return str(rpc.call("Namespaces/CreateNamespace", request, guardian).guardian_token)


def _calls() -> dict[str, Call]:
    pb, kv = key_value_pb2, SERVICE
    gets = [_get(number) for number in range(keys.ROWS)]
    puts = [_put(number).SerializeToString() for number in range(keys.ROWS)]
    hundreds, pipelines = keys.groups(keys.BATCH), keys.groups(keys.PIPELINE)
    turns = range(len(hundreds))
    batches = [pb.BatchGetRequest(keys=map(keys.key, group)).SerializeToString() for group in hundreds]
    writes = [_write(group).SerializeToString() for group in hundreds]
    pipelined = {kind: [_pipeline(group, kind) for group in pipelines] for kind in ("get", "put")}
    scan = [pb.ScanRequest().SerializeToString()]
    count = [pb.CountRequest(range=pb.KeyRange(prefix=keys.COUNTED_PREFIX)).SerializeToString()]
    ways, streams = Kind.BOTH_WAYS, keys.PIPELINE_STREAMS
    return {
        "get-uniform": Call(f"{kv}/Get", gets, keys.uniform(), 1, _good_get),
        "get-zipfian": Call(f"{kv}/Get", gets, keys.zipfian(), 1, _good_get),
        "put": Call(f"{kv}/Put", puts, keys.uniform(), 1, _good_put),
        "batch-get": Call(f"{kv}/BatchGet", batches, turns, keys.BATCH, _good_batch_get),
        "write": Call(f"{kv}/Write", writes, turns, keys.BATCH, _good_write),
        "scan": Call(f"{kv}/Scan", scan, [0], keys.ROWS, _good_scan, Kind.ANSWERS),
        "scan-one": Call(f"{kv}/Scan", scan, [0], keys.ROWS, _good_scan, Kind.ANSWERS, 1, 1),
        "count": Call(f"{kv}/Count", count, [0], keys.COUNTED_ROWS, _good_count),
        "pipeline-get": Call(
            f"{kv}/Pipeline", pipelined["get"], turns, keys.PIPELINE, _good_pipeline, ways, streams, 1
        ),
        "pipeline-put": Call(
            f"{kv}/Pipeline", pipelined["put"], turns, keys.PIPELINE, _good_pipeline, ways, streams, 1
        ),
    }


def _get(number: int) -> bytes:
    return key_value_pb2.GetRequest(key=keys.key(number)).SerializeToString()


def _put(number: int) -> key_value_pb2.PutRequest:
    return key_value_pb2.PutRequest(key=keys.key(number), value=keys.value(number))


def _write(numbers: Iterable[int]) -> key_value_pb2.WriteRequest:
    request = key_value_pb2.WriteRequest()
    for number in numbers:
        request.mutations.add().put.MergeFrom(
            key_value_pb2.Mutation.Put(key=keys.key(number), value=keys.value(number))
        )
    return request


def _pipeline(numbers: Iterable[int], kind: str) -> bytes:
    request = key_value_pb2.PipelineRequest()
    for number in numbers:
        if kind == "get":
            request.operations.add().get.key = keys.key(number)
        else:
            request.operations.add().put.MergeFrom(_put(number))
    return request.SerializeToString()


def _good_get(answer: bytes) -> int:
    return int(key_value_pb2.GetResponse.FromString(answer).value in keys.values())


def _good_put(answer: bytes) -> int:
    return int(key_value_pb2.PutResponse.FromString(answer).applied)


def _good_batch_get(answer: bytes) -> int:
    return sum(one.value in keys.values() for one in key_value_pb2.BatchGetResponse.FromString(answer).results)


def _good_write(answer: bytes) -> int:
    return keys.BATCH if key_value_pb2.WriteResponse.FromString(answer).applied else 0


def _good_scan(answer: bytes) -> int:
    return sum(keys.rows().get(row.key) == row.value for row in key_value_pb2.ScanResponse.FromString(answer).rows)


def _good_count(answer: bytes) -> int:
    return int(key_value_pb2.CountResponse.FromString(answer).count)


def _good_pipeline(answer: bytes) -> int:
    results = key_value_pb2.PipelineResponse.FromString(answer).results
    return sum(one.get.value in keys.values() or one.put.applied for one in results)
