"""Workers that write: each a thread with one call in flight and a random sequence of its own, drawn from the seed."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from prefixdb.v1 import key_value_pb2
from tools.crash.oracle import Delete, DeleteRange, Lane, Operation, Pending, Place, Put
from tools.lab.rpc import Rpc, RpcError

DATABASES = (0, 3)
PLAIN_KEYS = 120
TIMED_KEYS = 20
GROUPS = 12
GROUP_SIZE_MAX = 8
TTL_MS_CHOICES = (150, 1_500, 3_600_000)
VALUE_BYTES_CHOICES = (0, 20, 200, 6_000)
REFUSAL_PAUSE_S = 0.01


@dataclass(slots=True, eq=False)
class Tenant:
    """One issue of one namespace, and everything that must be true of it.

    marker: in front of every value of this issue and of no other.
    ban_sent, ban_acknowledged_at: of the last ban; the time is that of ``time.monotonic``, 0 before.
    """

    name: str
    id: int
    token: str
    marker: bytes
    lanes: dict[int, Lane] = field(default_factory=dict)
    ban_sent: bool = False
    ban_acknowledged_at: float = 0.0

    def lane(self, worker: int) -> Lane:
        """Return the worker's lane, made on first use."""
        return self.lanes.setdefault(worker, Lane())


class Findings:
    """Violations and counts of all threads. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.violations: list[str] = []
        self.counts: dict[str, int] = {}
        self.version_max = 0

    def violation(self, text: str) -> None:
        """Note something that must never happen."""
        with self._lock:
            self.violations.append(text)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a count."""
        with self._lock:
            self.counts[name] = self.counts.get(name, 0) + by

    def acknowledged(self, version: int) -> None:
        """Note the version of an acknowledged write."""
        with self._lock:
            self.version_max = max(self.version_max, version)


class Worker(threading.Thread):
    """Writes into its lanes of all live tenants until it is stopped or loses the server.

    Args:
        index: number of the worker; its keys start with it.
        seed: of its sequence of calls.
        rpc: a connection of its own.
        tenants: the live tenants of this round.
        findings: where violations go.
    """

    def __init__(self, index: int, seed: str, rpc: Rpc, tenants: list[Tenant], findings: Findings) -> None:
        super().__init__(name=f"worker-{index}", daemon=True)
        self._index = index
        self._random = random.Random(seed)
        self._rpc = rpc
        self._tenants = list(tenants)
        self._findings = findings
        self._version_floor = findings.version_max
        self._stopping = threading.Event()
        self._number = 0

    def stop(self) -> None:
        """Make the thread end after the call it is in."""
        self._stopping.set()

    def run(self) -> None:
        """Make calls one after the other."""
        while self._tenants and not self._stopping.is_set():
            tenant = self._random.choice(self._tenants)
            lane = tenant.lane(self._index)
            if self._random.random() < 0.15:
                going_on = self._read(tenant, lane)
            else:
                going_on = self._write(tenant, lane, self._draw(tenant))
            if not going_on:
                return

    def _write(self, tenant: Tenant, lane: Lane, operation: Operation) -> bool:
        """Make one writing call and note what became of it; return false when the server is gone."""
        begin, sent_ms = time.monotonic(), _now_ms()
        try:
            response = _send(self._rpc, tenant.token, operation)
        except RpcError as failure:
            if failure.outcome_unknown:
                lane.pending = Pending(operation, sent_ms, _now_ms())
                self._findings.count("unknown")
                return False
            return self._refused(tenant, failure)
        self._check_ban(tenant, begin, "a write")
        self._findings.count("acknowledged")
        expected = lane.holds(operation)
        if response.applied != expected:
            self._findings.violation(f"{tenant.name}: condition answered {response.applied}, must be {expected}")
        if response.applied:
            lane.apply(operation, sent_ms, _now_ms())
            if response.version <= self._version_floor:
                self._findings.violation(f"version {response.version} after {self._version_floor} was acknowledged")
            self._version_floor = response.version
            self._findings.acknowledged(response.version)
        return True

    def _read(self, tenant: Tenant, lane: Lane) -> bool:
        """Read a plain key: an acknowledged write is seen by every later read."""
        place = _plain(self._index, self._random)
        begin = time.monotonic()
        try:
            response = self._rpc.call(
                "KeyValue/Get", key_value_pb2.GetRequest(key=place[1], database=place[0]), tenant.token
            )
        except RpcError as failure:
            return not failure.outcome_unknown and self._refused(tenant, failure)
        self._check_ban(tenant, begin, "a read")
        self._findings.count("reads")
        cell = lane.cells.get(place)
        if (response.value if response.found else None) != (cell.value if cell else None):
            self._findings.violation(f"{tenant.name} {place}: a read does not see what was acknowledged before")
        return True

    def _check_ban(self, tenant: Tenant, begin: float, what: str) -> None:
        """A call that begins after a ban's reply must not succeed."""
        banned_at = tenant.ban_acknowledged_at
        if banned_at and begin > banned_at:
            self._findings.violation(f"{tenant.name}: {what} succeeded {begin - banned_at:.3f} s after the ban's reply")

    def _refused(self, tenant: Tenant, failure: RpcError) -> bool:
        """Note a refusal; the lane is as it was."""
        self._findings.count(f"refused {failure.reason}")
        if failure.reason == "NAMESPACE_BANNED":
            if not tenant.ban_sent:
                self._findings.violation(f"{tenant.name}: refused as banned, but nobody banned it")
            self._tenants.remove(tenant)
        elif failure.code in {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}:
            self._stopping.wait(REFUSAL_PAUSE_S)
        else:
            self._findings.violation(f"{tenant.name}: refused: {failure}")
            return False
        return True

    def _draw(self, tenant: Tenant) -> Operation:
        """Return the next call of the sequence."""
        rng, self._number = self._random, self._number + 1
        head = b"%s worker %d call %d " % (tenant.marker, self._index, self._number)
        value = head + bytes(rng.choice(VALUE_BYTES_CHOICES))
        kind = rng.choices(("put", "timed", "delete", "conditional", "group", "range"), (40, 10, 10, 10, 25, 5))[0]
        if kind == "put":
            return Operation((Put(_plain(self._index, rng), value),))
        if kind == "timed":
            return Operation((Put(_timed(self._index, rng), value, rng.choice(TTL_MS_CHOICES)),))
        if kind == "delete":
            return Operation((Delete(_plain(self._index, rng)),))
        if kind == "conditional":
            place = _plain(self._index, rng)
            return Operation((Put(place, value),), (place, rng.random() < 0.5))
        if kind == "group":
            return _group(self._index, rng, head)
        first, database = rng.randrange(PLAIN_KEYS - 10), rng.choice(DATABASES)
        return Operation((DeleteRange(database, _key(self._index, "k", first), _key(self._index, "k", first + 10)),))


def lane_of(key: bytes) -> int:
    """Return the worker whose key this is, or -1 for a key that no worker writes."""
    head, slash, _ = key.partition(b"/")
    return int(head[1:]) if slash and head[:1] == b"w" and head[1:].isdigit() else -1


def _key(worker: int, kind: str, number: int) -> bytes:
    return f"w{worker}/{kind}{number:04d}".encode()


def _plain(worker: int, rng: random.Random) -> Place:
    return rng.choice(DATABASES), _key(worker, "k", rng.randrange(PLAIN_KEYS))


def _timed(worker: int, rng: random.Random) -> Place:
    return rng.choice(DATABASES), _key(worker, "t", rng.randrange(TIMED_KEYS))


def _group(worker: int, rng: random.Random, head: bytes) -> Operation:
    """Return a batch that replaces one group by members of one stamp in both databases, by a range delete and puts."""
    group = rng.randrange(GROUPS)
    prefix = _key(worker, "g", group)
    clear = [DeleteRange(database, prefix, prefix + b"\xff") for database in DATABASES]
    members = range(rng.randint(2, GROUP_SIZE_MAX))
    puts = [Put((DATABASES[number % 2], prefix + b"/%d" % number), head) for number in members]
    return Operation((*clear, *puts))


def _send(rpc: Rpc, token: str, operation: Operation) -> Any:
    """Make the call: Put or Delete for a single change, Write for more."""
    only = operation.changes[0] if len(operation.changes) == 1 else None
    test = None
    if operation.must_exist is not None:
        wanted = operation.must_exist[1]
        test = key_value_pb2.Test(exists=True) if wanted else key_value_pb2.Test(absent=True)
    if isinstance(only, Put):
        (database, key), value, ttl_ms = only
        request = key_value_pb2.PutRequest(key=key, value=value, database=database, ttl_ms=ttl_ms, condition=test)
        return rpc.call("KeyValue/Put", request, token)
    if isinstance(only, Delete):
        database, key = only.place
        return rpc.call("KeyValue/Delete", key_value_pb2.DeleteRequest(key=key, database=database), token)
    write = key_value_pb2.WriteRequest()
    for change in operation.changes:
        mutation = write.mutations.add()
        if isinstance(change, Put):
            database, key = change.place
            mutation.put.MergeFrom(key_value_pb2.Mutation.Put(key=key, value=change.value, database=database))
        elif isinstance(change, DeleteRange):
            mutation.delete_range.range.start, mutation.delete_range.range.end = change.start, change.end
            mutation.delete_range.database = change.database
        else:
            mutation.delete.database, mutation.delete.key = change.place
    return rpc.call("KeyValue/Write", write, token)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
