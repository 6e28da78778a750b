"""etcd as it is measured: Range, Put and Txn of its KV service, one member, its defaults.

Reads are serializable, the cheapest etcd has: the member answers without asking the others. Where it has no call of a
kind, the nearest is used: a transaction of a hundred operations, pages of a thousand rows asked for one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tools.bench.page import keys
from tools.bench.page.calls import Call, Kind, raw_unary
from tools.bench.page.etcd_proto import PutRequest, PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse
from tools.bench.page.samples import BadResponsesError
from tools.bench.page.servers import Running
from tools.bench.page.side import GET_H2LOAD, GrpcLoads, Load, python_loads

SERVICE = "/etcdserverpb.KV"
KEYS_END = b"key;"
"""The first key after every ``key:``."""


class EtcdSide:
    """A running etcd; ``prepare`` writes the rows."""

    name = "etcd"

    def __init__(self, server: Running, scratch: Path) -> None:
        self._server = server
        directory = scratch / self.name
        directory.mkdir()
        self._grpc = GrpcLoads(server, directory)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._server.pid

    def prepare(self) -> None:
        """Write every row once, a transaction of a hundred at a time."""
        for begin in range(0, keys.ROWS, keys.BATCH):
            request = _txn_of_puts(range(begin, begin + keys.BATCH))
            answer = raw_unary(self._grpc.channel, f"{SERVICE}/Txn", request.SerializeToString())
            if not TxnResponse.FromString(answer).succeeded:
                raise BadResponsesError("etcd did not write a row")

    def loads(self) -> Mapping[str, Load]:
        """Return what it can do; it has no call that carries many independent ones."""
        prepared = _calls()
        found = {name: self._grpc.load(name, call) for name, call in prepared.items()}
        found[GET_H2LOAD] = self._grpc.load_by_h2load(prepared["get-uniform"])
        return found | python_loads("etcd", self._server)

    def close(self) -> None:
        """Close the channel."""
        self._grpc.close()


def _calls() -> dict[str, Call]:
    gets = [_get(number).SerializeToString() for number in range(keys.ROWS)]
    puts = [_put(number).SerializeToString() for number in range(keys.ROWS)]
    hundreds = keys.groups(keys.BATCH)
    turns = range(len(hundreds))
    batches = [_txn_of_gets(group).SerializeToString() for group in hundreds]
    writes = [_txn_of_puts(group).SerializeToString() for group in hundreds]
    pages = [_page(begin).SerializeToString() for begin in range(0, keys.ROWS, keys.PAGE_ROWS)]
    page_turns = range(len(pages))
    end = keys.key(keys.COUNTED_ROWS)
    count = RangeRequest(key=keys.key(0), range_end=end, count_only=True, serializable=True).SerializeToString()
    return {
        "get-uniform": Call(f"{SERVICE}/Range", gets, keys.uniform(), 1, _good_rows),
        "get-zipfian": Call(f"{SERVICE}/Range", gets, keys.zipfian(), 1, _good_rows),
        "put": Call(f"{SERVICE}/Put", puts, keys.uniform(), 1, _good_put),
        "batch-get": Call(f"{SERVICE}/Txn", batches, turns, keys.BATCH, _good_txn_of_gets),
        "write": Call(f"{SERVICE}/Txn", writes, turns, keys.BATCH, _good_txn_of_puts),
        "scan": Call(f"{SERVICE}/Range", pages, page_turns, keys.PAGE_ROWS, _good_rows),
        "scan-one": Call(f"{SERVICE}/Range", pages, page_turns, keys.PAGE_ROWS, _good_rows, Kind.UNARY, 1, 1),
        "count": Call(f"{SERVICE}/Range", [count], [0], keys.COUNTED_ROWS, _good_count),
    }  # fmt: skip


def _get(number: int) -> Any:
    return RangeRequest(key=keys.key(number), serializable=True)


def _put(number: int) -> Any:
    return PutRequest(key=keys.key(number), value=keys.value(number))


def _page(begin: int) -> Any:
    return RangeRequest(key=keys.key(begin), range_end=KEYS_END, limit=keys.PAGE_ROWS, serializable=True)


def _txn_of_gets(numbers: Iterable[int]) -> Any:
    request = TxnRequest()
    for number in numbers:
        request.success.add().request_range.MergeFrom(_get(number))
    return request


def _txn_of_puts(numbers: Iterable[int]) -> Any:
    request = TxnRequest()
    for number in numbers:
        request.success.add().request_put.MergeFrom(_put(number))
    return request


def _good_rows(answer: bytes) -> int:
    return sum(keys.rows().get(row.key) == row.value for row in RangeResponse.FromString(answer).kvs)


def _good_put(answer: bytes) -> int:
    return int(PutResponse.FromString(answer).header.revision > 0)


def _good_txn_of_gets(answer: bytes) -> int:
    responses = TxnResponse.FromString(answer).responses
    return sum(keys.rows().get(row.key) == row.value for one in responses for row in one.response_range.kvs)


def _good_txn_of_puts(answer: bytes) -> int:
    found = TxnResponse.FromString(answer)
    return sum(one.HasField("response_put") for one in found.responses) if found.succeeded else 0


def _good_count(answer: bytes) -> int:
    return int(RangeResponse.FromString(answer).count)
