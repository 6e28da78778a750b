"""Random requests of KeyValue, drawn so that they meet: few keys, awkward ones among them, and mostly valid fields."""

from __future__ import annotations

import random
from typing import Any

from prefixdb.v1 import key_value_pb2 as pb
from tools.crash.expect import Issue

DATABASES = (0, 0, 0, 1, 65_535)
AWKWARD_KEYS = (b"\x00", b"\x00\x00", b"a", b"a\x00", b"a\xff", b"b", b"\xfe\xff", b"\xff", b"\xff\xff", b"\xff" * 4096)
NUMBERED_KEYS = 60
TTL_MS_CHOICES = (1, 50, 1_000, 60_000)
VALUE_BYTES_CHOICES = (0, 1, 30, 30, 300, 5_000)
INVALID_SHARE = 0.02

WRITES = {"put": 30, "delete": 10, "write": 14}
READS = {"get": 22, "batch_get": 8}
WALKS = {"scan": 9, "count": 4}


class Draw:
    """Draws requests for one issue from a random source.

    Args:
        rng: the source; equal sources draw equal requests for equal issues.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def unary(self, issue: Issue) -> tuple[str, Any]:
        """Return the name and the request of any unary or streaming read or write."""
        return self._named(issue, WRITES | READS | WALKS)

    def operations(self, issue: Issue) -> list[pb.Operation]:
        """Return the operations of one Pipeline message."""
        drawn = [self._named(issue, WRITES | READS) for _ in range(self._rng.randint(1, 24))]
        return [pb.Operation(**{name: request}) for name, request in drawn]

    def _named(self, issue: Issue, weights: dict[str, int]) -> tuple[str, Any]:
        name = self._rng.choices(list(weights), list(weights.values()))[0]
        return name, getattr(self, f"_{name}")(issue)

    def _get(self, issue: Issue) -> pb.GetRequest:
        return pb.GetRequest(key=self._key(issue), database=self._database())

    def _batch_get(self, issue: Issue) -> pb.BatchGetRequest:
        return pb.BatchGetRequest(
            keys=[self._key(issue) for _ in range(self._rng.randint(0, 12))], database=self._database()
        )

    def _put(self, issue: Issue) -> pb.PutRequest:
        request = pb.PutRequest(
            key=self._key(issue), value=self._value(issue), database=self._database(), ttl_ms=self._ttl_ms()
        )
        if self._rng.random() < 0.3:
            request.condition.CopyFrom(self._test(issue, request.database, request.key))
        return request

    def _delete(self, issue: Issue) -> pb.DeleteRequest:
        request = pb.DeleteRequest(key=self._key(issue), database=self._database())
        if self._rng.random() < 0.3:
            request.condition.CopyFrom(self._test(issue, request.database, request.key))
        return request

    def _write(self, issue: Issue) -> pb.WriteRequest:
        request = pb.WriteRequest()
        only_deletes = self._rng.random() < 0.2
        for _ in range(self._rng.randint(0, 8)):
            kind = self._rng.random()
            mutation = request.mutations.add()
            if kind < 0.6 and not only_deletes:
                mutation.put.key, mutation.put.value = self._key(issue), self._value(issue)
                mutation.put.database, mutation.put.ttl_ms = self._database(), self._ttl_ms()
            elif kind < 0.85:
                mutation.delete.key, mutation.delete.database = self._key(issue), self._database()
            else:
                mutation.delete_range.range.CopyFrom(self._range(issue))
                mutation.delete_range.database = self._database()
        for _ in range(self._rng.choice((0, 0, 0, 1, 3))):
            condition = request.conditions.add(key=self._key(issue), database=self._database())
            condition.test.CopyFrom(self._test(issue, condition.database, condition.key))
        return request

    def _scan(self, issue: Issue) -> pb.ScanRequest:
        rng = self._rng
        return pb.ScanRequest(
            range=self._range(issue),
            database=self._database(),
            reverse=rng.random() < 0.5,
            limit=rng.choice((0, 0, 1, 7)),
            keys_only=rng.random() < 0.3,
            resume_after=self._key(issue) if rng.random() < 0.3 else b"",
        )

    def _count(self, issue: Issue) -> pb.CountRequest:
        return pb.CountRequest(range=self._range(issue), database=self._database())

    def _key(self, issue: Issue) -> bytes:
        kind = self._rng.random()
        if kind < INVALID_SHARE / 4:
            return self._rng.choice((b"", b"x" * 4097))
        if kind < 0.2:
            return self._rng.choice(AWKWARD_KEYS)
        return b"k/%03d" % self._rng.randrange(NUMBERED_KEYS)

    def _database(self) -> int:
        return 65_536 if self._rng.random() < INVALID_SHARE / 8 else self._rng.choice(DATABASES)

    def _value(self, issue: Issue) -> bytes:
        return b"%s %d" % (issue.marker, self._rng.getrandbits(32)) + bytes(self._rng.choice(VALUE_BYTES_CHOICES))

    def _ttl_ms(self) -> int:
        return self._rng.choice(TTL_MS_CHOICES) if self._rng.random() < 0.25 else 0

    def _test(self, issue: Issue, database: int, key: bytes) -> pb.Test:
        """Return a test of a row that has a fair chance to hold."""
        cell = issue.cells.get((database, key))
        kind = self._rng.randrange(5)
        if kind == 0:
            return pb.Test(absent=True)
        if kind == 1:
            return pb.Test(exists=True)
        if kind == 2:
            return pb.Test(value=cell.value if cell and self._rng.random() < 0.8 else b"other")
        if kind == 3:
            return pb.Test(version=cell.version if cell and self._rng.random() < 0.8 else 1)
        return pb.Test(absent=cell is None or self._rng.random() < 0.9)

    def _range(self, issue: Issue) -> pb.KeyRange:
        kind = self._rng.random()
        if kind < 0.15:
            return pb.KeyRange()
        if kind < 0.5:
            return pb.KeyRange(
                prefix=self._rng.choice((b"k/", b"k/0", b"k/01", b"a", b"\xff", b"\xff" * 4096, b"\x00"))
            )
        bounds = [self._key(issue) for _ in range(2)]
        if self._rng.random() > INVALID_SHARE:
            bounds.sort()
        if kind < 0.55:
            return pb.KeyRange(start=bounds[0])
        if kind < 0.6:
            return pb.KeyRange(end=bounds[1])
        prefix = b"p" if self._rng.random() < INVALID_SHARE else b""
        return pb.KeyRange(prefix=prefix, start=bounds[0], end=bounds[1])
