"""The namespaces of a crash run: made, banned, brought back, dropped and made again under the same numbers."""

from __future__ import annotations

import time

from google.protobuf.duration_pb2 import Duration

from prefixdb.v1 import key_value_pb2, namespaces_pb2
from tools.crash.oracle import Place
from tools.crash.workload import DATABASES, Findings, Tenant, lane_of
from tools.lab.files import incompressible
from tools.lab.rpc import Rpc, RpcError

IDS = (7, 8, 9, 2**63 - 1, 2**63, 2**64 - 2)
"""Neighbours and the largest there is: a range that is one too long shows at once."""

GRACE_S = 3600
RECLAIM_S_MAX = 60.0
TOKEN_TTL_S = 86_400

SECRET_KEY = b"secret"
"""First row of every namespace: random bytes, the same for the same name."""


class Guardian:
    """The administrative calls of a run, made with the cluster guardian's token.

    Args:
        rpc: to the server.
        token: the cluster guardian's.
    """

    def __init__(self, rpc: Rpc, token: str) -> None:
        self._rpc = rpc
        self._token = token

    def create(self, name: str, namespace_id: int) -> Tenant:
        """Create a namespace under a number and return it with its first guardian's token."""
        request = namespaces_pb2.CreateNamespaceRequest(
            name=name, id=namespace_id, guardian_token_ttl=Duration(seconds=TOKEN_TTL_S)
        )
        response = self._rpc.call("Namespaces/CreateNamespace", request, self._token)
        return Tenant(name, namespace_id, response.guardian_token, f"<<{name}>>".encode())

    def ban(self, tenant: Tenant, grace_s: int) -> None:
        """Ban a namespace; note before the call that it was sent, and after the reply when it came."""
        request = namespaces_pb2.BanNamespaceRequest(
            namespace=namespaces_pb2.NamespaceRef(id=tenant.id), reason="crash run", grace=Duration(seconds=grace_s)
        )
        tenant.ban_sent = True
        self._rpc.call("Namespaces/BanNamespace", request, self._token)
        tenant.ban_acknowledged_at = time.monotonic()

    def unban(self, tenant: Tenant) -> None:
        """Take a ban back."""
        request = namespaces_pb2.UnbanNamespaceRequest(namespace=namespaces_pb2.NamespaceRef(id=tenant.id))
        self._rpc.call("Namespaces/UnbanNamespace", request, self._token)
        tenant.ban_sent, tenant.ban_acknowledged_at = False, 0.0

    def state(self, namespace_id: int) -> int:
        """Return a namespace's state; 0 when there is none of the number."""
        request = namespaces_pb2.GetNamespaceRequest(namespace=namespaces_pb2.NamespaceRef(id=namespace_id))
        try:
            return int(self._rpc.call("Namespaces/GetNamespace", request, self._token).namespace.state)
        except RpcError as failure:
            if failure.reason == "NAMESPACE_NOT_FOUND":
                return namespaces_pb2.NAMESPACE_STATE_UNSPECIFIED
            raise

    def report(self, tenant: Tenant) -> namespaces_pb2.Reclaim:
        """Return the report of the namespace's ban."""
        request = namespaces_pb2.ReclaimReportRequest(namespace=namespaces_pb2.NamespaceRef(id=tenant.id))
        response: namespaces_pb2.ReclaimReportResponse = self._rpc.call(
            "Namespaces/ReclaimReport", request, self._token
        )
        return response.reclaim

    def wait_reclaimed(self, tenant: Tenant) -> bool:
        """Wait for the proof that a dropped namespace is gone; false when it does not come in time."""
        request = namespaces_pb2.WatchReclaimRequest(namespace=namespaces_pb2.NamespaceRef(id=tenant.id))
        last = 0
        try:
            for message in self._rpc.stream("Namespaces/WatchReclaim", request, self._token, deadline_s=RECLAIM_S_MAX):
                last = message.reclaim.phase
        except RpcError as failure:
            if failure.code != "DEADLINE_EXCEEDED":
                raise
        return last == namespaces_pb2.RECLAIM_PHASE_DONE


def check_refused(rpc: Rpc, tenant: Tenant, reason: str, findings: Findings) -> None:
    """Check that the tenant's token opens nothing any more: a read, a write, a scan and a count."""
    calls = (
        ("KeyValue/Get", key_value_pb2.GetRequest(key=b"w0/k0000")),
        ("KeyValue/Put", key_value_pb2.PutRequest(key=b"w0/k0000", value=b"after the ban")),
        ("KeyValue/Count", key_value_pb2.CountRequest()),
    )
    for name, request in calls:
        try:
            rpc.call(name, request, tenant.token)
        except RpcError as failure:
            if failure.reason != reason:
                findings.violation(f"{tenant.name}: {name} refused with {failure}, must be {reason}")
        else:
            findings.violation(f"{tenant.name}: {name} succeeded, must be refused with {reason}")
    try:
        for _ in rpc.stream("KeyValue/Scan", key_value_pb2.ScanRequest(), tenant.token):
            findings.violation(f"{tenant.name}: a scan returned a page, must be refused with {reason}")
    except RpcError as failure:
        if failure.reason != reason:
            findings.violation(f"{tenant.name}: a scan was refused with {failure}, must be {reason}")
    else:
        findings.violation(f"{tenant.name}: a scan ended well, must be refused with {reason}")


def put_secret(rpc: Rpc, tenant: Tenant) -> None:
    """Write the one row that can be looked for in raw files."""
    value, _ = incompressible(tenant.name)
    rpc.call("KeyValue/Put", key_value_pb2.PutRequest(key=SECRET_KEY, value=value), tenant.token)


def check_rows(rpc: Rpc, tenant: Tenant, findings: Findings) -> None:
    """Scan every database of the tenant and settle each lane with what is there."""
    begin_ms = time.time_ns() // 1_000_000
    found: dict[int, dict[Place, bytes]] = {}
    for database in DATABASES:
        rows = scan(rpc, tenant.token, database)
        for key, value in rows:
            if key == SECRET_KEY and value == incompressible(tenant.name)[0]:
                continue
            found.setdefault(lane_of(key), {})[database, key] = value
            if not value.startswith(tenant.marker):
                findings.violation(f"{tenant.name}: a value of another namespace or issue: {value[:60]!r}")
        if database == 0 and SECRET_KEY not in dict(rows):
            findings.violation(f"{tenant.name}: its first row is gone")
    end_ms = time.time_ns() // 1_000_000
    for lane in found.keys() - tenant.lanes.keys():
        findings.violation(f"{tenant.name}: {len(found[lane])} rows that nobody wrote")
    for worker, lane_state in tenant.lanes.items():
        wrong = lane_state.settle(found.get(worker, {}), begin_ms, end_ms)
        for text in wrong[:10]:
            findings.violation(f"{tenant.name} worker {worker}: {text}")
        findings.count("rows checked", len(lane_state.cells))


def check_empty(rpc: Rpc, tenant: Tenant, findings: Findings) -> None:
    """Check that a namespace that was just created shows nothing of an earlier issue of its number."""
    for database in DATABASES:
        rows = scan(rpc, tenant.token, database)
        counted = rpc.call("KeyValue/Count", key_value_pb2.CountRequest(database=database), tenant.token).count
        if rows or counted:
            findings.violation(f"{tenant.name}: new, but {len(rows)} rows are scanned and {counted} counted")


def scan(rpc: Rpc, token: str, database: int) -> list[tuple[bytes, bytes]]:
    """Return all rows of a database."""
    pages = rpc.stream("KeyValue/Scan", key_value_pb2.ScanRequest(database=database), token)
    return [(row.key, row.value) for page in pages for row in page.rows]
