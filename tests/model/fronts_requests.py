"""Random KeyValue requests as bytes: right ones, wrong ones, and such that no library would make.

Keys, prefixes and versions come from small pools, so that conditions meet rows and ranges meet keys. A part of the
messages is bent afterwards: cut, doubled, with fields nobody knows, with bits turned. What a request should be answered
is not known here: two servers are asked, and have to say the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from prefixdb.limits import (
    BATCH_KEYS_MAX,
    KEY_BYTES_MAX,
    PIPELINE_OPERATIONS_MAX,
    TTL_MS_MAX,
    WRITE_CONDITIONS_MAX,
    WRITE_MUTATIONS_MAX,
    WRITE_RANGE_DELETES_MAX,
)
from prefixdb.v1 import key_value_pb2 as pb

SERVICE = "/prefixdb.v1.KeyValue/"

VALUE_BYTES_MAX = 4_096
"""What the servers are configured to, so that both sides of it are met often and cheaply."""

_PARTS = (b"a", b"b", b"aa", b"ab", b"b/", b"\x00", b"\xff", b"\xff\xff", b"user/", b"z" * 40)


class Requests:
    """Draws requests from a seeded source; remembers the versions that answers named."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.versions = [1, 2**63, 2**64 - 1]
        self.makers: dict[str, Callable[[], Any]] = {
            "Get": self.get,
            "BatchGet": self.batch_get,
            "Put": self.put,
            "Delete": self.delete,
            "Write": self.write,
            "Scan": self.scan,
            "Count": self.count,
            "Pipeline": self.pipeline,
        }

    def draw(self) -> tuple[str, list[bytes]]:
        """Return a method's path and the messages of one call; a Pipeline has several, sometimes none."""
        weights = (30, 6, 24, 10, 14, 12, 6, 14)
        name = self.random.choices(tuple(self.makers), weights)[0]
        count = self.random.choice((0, 1, 1, 2, 3)) if name == "Pipeline" else 1
        return SERVICE + name, [self._bent(self.makers[name]().SerializeToString()) for _ in range(count)]

    # --- parts -------------------------------------------------------------------------------------------------------

    def key(self) -> bytes:
        """Return a user key, sometimes one that is none."""
        draw = self.random.random()
        if draw < 0.02:
            return b""
        if draw < 0.03:
            return self.random.randbytes(self.random.choice((KEY_BYTES_MAX, KEY_BYTES_MAX + 1)))
        return b"".join(self.random.choices(_PARTS, k=self.random.randint(1, 3)))

    def database(self) -> int:
        """Return a number of a database, sometimes one that is none."""
        return self.random.choices((0, 1, 65_535, 65_536, 2**32 - 1), (70, 20, 7, 2, 1))[0]

    def value(self) -> bytes:
        """Return a value, sometimes one that is too large."""
        size = self.random.choices((0, 9, 300, VALUE_BYTES_MAX, VALUE_BYTES_MAX + 1), (5, 70, 15, 5, 5))[0]
        return self.random.randbytes(size)

    def ttl_ms(self) -> int:
        """Return a lifetime, mostly none."""
        return self.random.choices((0, 1, 5_000, TTL_MS_MAX, TTL_MS_MAX + 1, 2**64 - 1), (70, 5, 15, 4, 4, 2))[0]

    def test(self) -> pb.Test:
        """Return a test of a row, sometimes one that says nothing."""
        which = self.random.randrange(8)
        if which < 3:
            return pb.Test(version=self.random.choice(self.versions))
        if which == 3:
            return pb.Test(absent=self.random.random() < 0.9)
        if which == 4:
            return pb.Test(exists=self.random.random() < 0.9)
        return pb.Test() if which == 5 and self.random.random() < 0.5 else pb.Test(value=self.value())

    def range(self) -> pb.KeyRange:
        """Return a range of keys, sometimes an inverted or a contradictory one."""
        which = self.random.randrange(10)
        if which < 2:
            return pb.KeyRange()
        if which < 6:
            return pb.KeyRange(prefix=self.key())
        bounds = [self.key(), self.key()]
        if which < 9:
            bounds.sort()
        found = pb.KeyRange(start=bounds[0], end=bounds[1] if self.random.random() < 0.8 else b"")
        if self.random.random() < 0.05:
            found.prefix = self.key()
        return found

    # --- requests ----------------------------------------------------------------------------------------------------

    def get(self) -> pb.GetRequest:
        """Return a Get."""
        return pb.GetRequest(key=self.key(), database=self.database())

    def batch_get(self) -> pb.BatchGetRequest:
        """Return a BatchGet."""
        count = self._count(BATCH_KEYS_MAX, 40)
        pool = [self.key() for _ in range(12)]
        return pb.BatchGetRequest(keys=self.random.choices(pool, k=count), database=self.database())

    def put(self) -> pb.PutRequest:
        """Return a Put."""
        found = pb.PutRequest(key=self.key(), value=self.value(), database=self.database(), ttl_ms=self.ttl_ms())
        if self.random.random() < 0.3:
            found.condition.CopyFrom(self.test())
        return found

    def delete(self) -> pb.DeleteRequest:
        """Return a Delete."""
        found = pb.DeleteRequest(key=self.key(), database=self.database())
        if self.random.random() < 0.3:
            found.condition.CopyFrom(self.test())
        return found

    def write(self) -> pb.WriteRequest:
        """Return a Write."""
        found = pb.WriteRequest()
        draw = self.random.random()
        if draw < 0.01:
            one = self.mutation()
            found.mutations.extend([one] * self.random.choice((WRITE_MUTATIONS_MAX, WRITE_MUTATIONS_MAX + 1)))
        elif draw < 0.02:
            count = self.random.choice((WRITE_RANGE_DELETES_MAX, WRITE_RANGE_DELETES_MAX + 1))
            empty = pb.Mutation(delete_range=pb.Mutation.DeleteRange(range=pb.KeyRange(start=b"q", end=b"q")))
            found.mutations.extend([empty] * count)
        else:
            found.mutations.extend(self.mutation() for _ in range(self.random.randint(0, 6)))
        for _ in range(self.random.choices((0, 1, 3), (60, 30, 10))[0]):
            found.conditions.append(pb.Condition(key=self.key(), database=self.database(), test=self.test()))
        if draw > 0.995:
            one_test = pb.Condition(key=b"a", test=pb.Test(exists=True))
            found.conditions.extend([one_test] * (WRITE_CONDITIONS_MAX + 1))
        return found

    def mutation(self) -> pb.Mutation:
        """Return one change, sometimes one that says nothing."""
        which = self.random.randrange(20)
        if which < 11:
            put = pb.Mutation.Put(key=self.key(), value=self.value(), database=self.database(), ttl_ms=self.ttl_ms())
            return pb.Mutation(put=put)
        if which < 16:
            return pb.Mutation(delete=pb.Mutation.Delete(key=self.key(), database=self.database()))
        if which < 19:
            return pb.Mutation(delete_range=pb.Mutation.DeleteRange(range=self.range(), database=self.database()))
        return pb.Mutation()

    def scan(self) -> pb.ScanRequest:
        """Return a Scan."""
        return pb.ScanRequest(
            range=self.range(),
            database=self.database(),
            reverse=self.random.random() < 0.4,
            limit=self.random.choices((0, 1, 7, 2**63), (60, 15, 20, 5))[0],
            keys_only=self.random.random() < 0.3,
            resume_after=self.key() if self.random.random() < 0.3 else b"",
        )

    def count(self) -> pb.CountRequest:
        """Return a Count."""
        return pb.CountRequest(range=self.range(), database=self.database())

    def pipeline(self) -> pb.PipelineRequest:
        """Return one message of a Pipeline."""
        found = pb.PipelineRequest(id=self.random.choice((0, 1, 2**64 - 1)))
        count = self._count(PIPELINE_OPERATIONS_MAX, 12)
        if count > 100:
            found.operations.extend([pb.Operation(get=self.get())] * count)
            return found
        for _ in range(count):
            # Gets that follow each other are a thing of their own, up to several times what is read at once.
            if self.random.random() < 0.1:
                gets = self.random.randint(2, self.random.choice((12, 40, 300)))
                found.operations.extend(pb.Operation(get=self.get()) for _ in range(gets))
            found.operations.append(self.operation())
        return found

    def operation(self) -> pb.Operation:
        """Return one operation of a Pipeline, sometimes one that says nothing."""
        which = self.random.randrange(24)
        if which < 8:
            return pb.Operation(get=self.get())
        if which < 14:
            return pb.Operation(put=self.put())
        if which < 18:
            return pb.Operation(delete=self.delete())
        if which < 21:
            return pb.Operation(write=self.write())
        return pb.Operation(batch_get=self.batch_get()) if which < 23 else pb.Operation()

    def _count(self, limit: int, usual: int) -> int:
        if self.random.random() < 0.01:
            return self.random.choice((limit, limit + 1))
        return self.random.randint(0, usual)

    # --- bending -----------------------------------------------------------------------------------------------------

    def _bent(self, message: bytes) -> bytes:
        """Return the message as it is, mostly."""
        draw = self.random.random()
        if draw < 0.85:
            return message
        if draw < 0.88:
            return message[: self.random.randint(0, len(message))]
        if draw < 0.91:
            return message + message[: self.random.randint(0, len(message))]
        if draw < 0.95:
            return message + self.random.choice(_UNKNOWN_FIELDS) + (message if draw < 0.93 else b"")
        if draw < 0.98 and message:
            position = self.random.randrange(len(message))
            turned = message[position] ^ (1 << self.random.randrange(8))
            return message[:position] + bytes([turned]) + message[position + 1 :]
        return self.random.randbytes(self.random.randint(0, 30))


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


_UNKNOWN_FIELDS = (
    _varint(200 << 3) + _varint(2**64 - 1),
    _varint(201 << 3 | 1) + b"\0" * 8,
    _varint(202 << 3 | 2) + b"\x03abc",
    _varint(203 << 3 | 5) + b"\0" * 4,
    _varint(204 << 3 | 3) + b"\x08\x01" + _varint(204 << 3 | 4),  # A group.
    _varint(19_500 << 3) + b"\x01",  # Of the numbers that protobuf keeps to itself.
    _varint(2 << 3) + b"\x80\x80\x80\x80\x10",  # database = 2^32, which is 0 in 32 bits.
    _varint(2 << 3) + b"\x81\x80\x80\x80\x10",
    _varint(2 << 3 | 2) + b"\x01\x01",  # A number of bytes where a number belongs, or bytes where bytes do.
    _varint(1 << 3) + b"\x05",
    _varint(3 << 3) + b"\x82\x80\x80\x80\x80\x80\x80\x80\x80\x02",  # A number of more than 64 bits.
    _varint(5 << 3 | 2) + b"\x00",
    _varint(5 << 3 | 2) + b"\x02\x10\x01",  # condition: absent.
    _varint(3 << 3 | 2) + b"\x02\x18\x01",  # condition: exists.
    b"\x00\x00",  # The number 0, which no field has.
    b"\x0c",  # The end of a group that was not begun.
)
