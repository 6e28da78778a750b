"""The random walk of the model test: one step after the other, each answer compared with the model's."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from google.protobuf.duration_pb2 import Duration

from prefixdb.v1 import key_value_pb2 as pb
from prefixdb.v1 import maintenance_pb2, namespaces_pb2
from tools.crash.compare import Comparer, Host
from tools.crash.draw import Draw
from tools.crash.expect import ACTIVE, BANNED, READ_ONLY, RECLAIMED, SUSPENDED, Issue
from tools.lab.files import incompressible
from tools.lab.rpc import Rpc, RpcError

IDS = (1, 2, 255, 256, 2**63, 2**64 - 2)
"""Numbers that are issued again and again: neighbours, a carry into the next byte, and the largest there is."""

NAMES = tuple(f"name-{number}" for number in range(8))
GRACE_MS = 600_000
TOKEN_TTL_S = 300 * 86_400
CLOCK_STEPS_MS = (1, 1, 49, 1_000, 1_000, 59_999, 60_000, GRACE_MS)
CLOCK_TOTAL_MS_MAX = 200 * 86_400_000
BULK_DATABASE = 7
BULK_ROWS = 2_500
SECRET_DATABASE = 9
RECLAIM_S_MAX = 60.0
RECLAIM_NUDGE_S = 5.0

STEPS = {
    "call": 700,
    "pipeline": 160,
    "refused": 30,
    "clock": 60,
    "create": 16,
    "ban": 12,
    "unban": 10,
    "set_state": 14,
    "reclaim": 6,
    "bulk": 2,
    "compact": 1,
    "restart": 1,
}


class Walk(Comparer):
    """A walk of random steps.

    Args:
        host: the server; it must be new.
        seed: of the walk. The same seed gives the same steps as long as the answers are the same.
    """

    def __init__(self, host: Host, seed: int) -> None:
        super().__init__(host)
        self.gone: list[Issue] = []
        self._rng = random.Random(seed)
        self._draw = Draw(self._rng)
        self._guardian = host.guardian_token
        self._issues: dict[int, Issue] = {0: Issue(0, "default", self._guardian, b"<<issue-0>>")}
        self._old: list[Issue] = []
        self._issued = 0
        self._advanced_ms = 0

    def run(self, operations: int, progress: Callable[[int], None] = lambda done: None) -> None:
        """Walk until so many operations were compared, then compare everything and end every reclaim.

        Raises:
            MismatchError: an answer is wrong.
        """
        names, weights = list(STEPS), list(STEPS.values())
        while self.operations < operations:
            name = self._rng.choices(names, weights)[0]
            self.counts[f"step {name}"] += 1
            getattr(self, f"_{name}")()
            progress(self.operations)
        self._restart()
        for issue in list(self._issues.values()):
            if issue.state == BANNED:
                self._wait_reclaimed(issue)

    # --- rows ------------------------------------------------------------------------------------------------------

    def _call(self) -> None:
        """One call of KeyValue with the token of any current issue."""
        issue = self._rng.choice(list(self._issues.values()))
        self._compare_call(issue, *self._draw.unary(issue))

    def _refused(self) -> None:
        """One call with the token of an issue that was dropped, if there is one."""
        dropped = [issue for issue in (*self._issues.values(), *self._old[-20:]) if issue.superseded or issue.state > 3]
        if dropped:
            issue = self._rng.choice(dropped)
            self._compare_call(issue, *self._draw.unary(issue))

    def _pipeline(self) -> None:
        """One Pipeline stream of one to three messages."""
        issue = self._rng.choice(list(self._issues.values()))
        messages = [
            pb.PipelineRequest(id=self._rng.getrandbits(64), operations=self._draw.operations(issue))
            for _ in range(self._rng.choice((1, 1, 3)))
        ]
        self._compare_pipeline(issue, messages)

    def _bulk(self) -> None:
        """Many rows at once: a scan of several pages, a BatchGet too large for one go, and their range delete."""
        live = [issue for issue in self._issues.values() if issue.state == ACTIVE]
        issue = self._rng.choice(live)
        write = pb.WriteRequest()
        for number in range(BULK_ROWS):
            put = write.mutations.add().put
            put.key, put.value, put.database = b"bulk/%06d" % number, issue.marker + b"%d" % number, BULK_DATABASE
        keys = [put.put.key for put in write.mutations[::4]]
        self._compare_call(issue, "write", write)
        self._compare_call(issue, "batch_get", pb.BatchGetRequest(keys=keys, database=BULK_DATABASE))
        self._compare_call(issue, "scan", pb.ScanRequest(database=BULK_DATABASE, reverse=self._rng.random() < 0.5))
        self._compare_call(issue, "count", pb.CountRequest(database=BULK_DATABASE))
        clear = pb.WriteRequest()
        clear.mutations.add().delete_range.database = BULK_DATABASE
        if self._rng.random() < 0.7:
            self._compare_call(issue, "write", clear)

    # --- time and life of the server -------------------------------------------------------------------------------

    def _clock(self) -> None:
        step_ms = self._rng.choice(CLOCK_STEPS_MS)
        if self._advanced_ms + step_ms < CLOCK_TOTAL_MS_MAX:
            self._advance(step_ms)

    def _advance(self, ms: int) -> None:
        self._note(f"clock +{ms} ms")
        self._advanced_ms += ms
        self._host.advance(ms)

    def _compact(self) -> None:
        self._note("compact")
        self._rpc.call("Maintenance/Compact", maintenance_pb2.CompactRequest(), self._guardian, deadline_s=60)

    def _restart(self) -> None:
        """Restart, and compare every row of every current issue."""
        self._note("restart")
        self._rpc.close()
        self._host.restart()
        self._rpc = Rpc(self._host.address, channels_apart=True)
        for issue in self._issues.values():
            for database in sorted({place[0] for place in issue.cells} | {0}):
                self._compare_call(issue, "scan", pb.ScanRequest(database=database))

    # --- namespaces ------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        """Create a namespace; the name or the number may be taken."""
        namespace_id, name = self._rng.choice(IDS), self._rng.choice(NAMES)
        current = self._issues.get(namespace_id)
        if current is not None and current.state == BANNED and current.reclaim_after_ms <= self._host.now_ms():
            return  # Whether its reclaim is over is a race; the step ``reclaim`` waits for it.
        self._note(f"create {namespace_id} {name}")
        faults = []
        if any(issue.name == name and issue.state < BANNED for issue in self._issues.values()):
            faults.append("NAMESPACE_EXISTS")
        if current is not None and current.state != RECLAIMED:
            faults.append("NAMESPACE_NOT_EMPTY" if current.state == BANNED else "NAMESPACE_EXISTS")
        request = namespaces_pb2.CreateNamespaceRequest(
            name=name, id=namespace_id, guardian_token_ttl=Duration(seconds=TOKEN_TTL_S)
        )
        answer = self._administer("CreateNamespace", request, faults)
        if answer is None:
            return
        if current is not None:
            current.superseded = True
            self._old.append(current)
        self._issued += 1
        marker = b"<<issue-%d>>" % self._issued
        issue = self._issues[namespace_id] = Issue(namespace_id, name, answer.guardian_token, marker)
        for database in (0, 1, 65_535, BULK_DATABASE):
            self._compare_call(issue, "scan", pb.ScanRequest(database=database))
        secret, _ = incompressible(marker.decode())
        self._compare_call(issue, "put", pb.PutRequest(key=b"secret", value=secret, database=SECRET_DATABASE))

    def _ban(self) -> None:
        """Ban a namespace, with a grace or without; banning it again changes nothing."""
        issue = self._rng.choice(list(self._issues.values()))
        grace_ms = self._rng.choice((0, GRACE_MS))
        self._note(f"ban {issue.id} grace {grace_ms}")
        request = namespaces_pb2.BanNamespaceRequest(namespace=_ref(issue), grace=Duration(seconds=grace_ms // 1000))
        answer = self._administer("BanNamespace", request, [] if issue.id else ["NAMESPACE_PROTECTED"])
        if answer is not None and issue.state < BANNED:
            issue.state_before_ban, issue.state = issue.state, BANNED
            issue.reclaim_after_ms = self._host.now_ms() + grace_ms
        self._compare_call(issue, *self._draw.unary(issue))

    def _unban(self) -> None:
        """Take a ban back, which works while the grace runs and the name is free."""
        issue = self._rng.choice(list(self._issues.values()))
        self._note(f"unban {issue.id}")
        faults = []
        if issue.state < BANNED:
            faults = ["NAMESPACE_STATE"]
        elif issue.state == RECLAIMED or issue.reclaim_after_ms <= self._host.now_ms():
            faults = ["RECLAIM_STARTED", "NAMESPACE_STATE"]
        elif any(other.name == issue.name and other.state < BANNED for other in self._issues.values()):
            faults = ["NAMESPACE_STATE"]
        request = namespaces_pb2.UnbanNamespaceRequest(namespace=_ref(issue))
        if self._administer("UnbanNamespace", request, faults) is not None:
            issue.state = issue.state_before_ban
            self._compare_call(issue, "scan", pb.ScanRequest())

    def _set_state(self) -> None:
        """Make a namespace read-only or suspend it; later, or at once, make it active again."""
        issue = self._rng.choice(list(self._issues.values()))
        state = self._rng.choice((ACTIVE, ACTIVE, READ_ONLY, SUSPENDED))
        self._note(f"set state {issue.id} {state}")
        faults = []
        if issue.state >= BANNED:
            faults = ["NAMESPACE_STATE"]
        elif not issue.id and state != ACTIVE:
            faults = ["NAMESPACE_PROTECTED"]
        if state == ACTIVE:
            resume = namespaces_pb2.ResumeNamespaceRequest(namespace=_ref(issue))
            answer = self._administer("ResumeNamespace", resume, faults)
        else:
            suspend = namespaces_pb2.SuspendNamespaceRequest(namespace=_ref(issue), state=state)  # type: ignore[arg-type]
            answer = self._administer("SuspendNamespace", suspend, faults)
        if answer is not None:
            issue.state = state
            self._compare_call(issue, *self._draw.unary(issue))

    def _reclaim(self) -> None:
        """Wait until one banned namespace is reclaimed, if there is one."""
        banned = [issue for issue in self._issues.values() if issue.state == BANNED]
        if banned:
            self._wait_reclaimed(self._rng.choice(banned))

    def _wait_reclaimed(self, issue: Issue) -> None:
        """Let the grace pass and wait for the proof."""
        self._note(f"wait for the reclaim of {issue.id}")
        left_ms = issue.reclaim_after_ms - self._host.now_ms()
        self._advance(max(1, left_ms))
        request = namespaces_pb2.ReclaimReportRequest(namespace=_ref(issue))
        begin = nudged = time.monotonic()
        while True:
            report = self._administer("ReclaimReport", request, []).reclaim
            if report.phase == namespaces_pb2.RECLAIM_PHASE_DONE:
                break
            if time.monotonic() - begin > RECLAIM_S_MAX:
                raise self.mismatch("reclaim", "DONE", report)
            if time.monotonic() - nudged > RECLAIM_NUDGE_S:  # A retry of the reclaimer waits for time to pass.
                nudged = time.monotonic()
                self._advance(60_000)
            time.sleep(0.01)
        if report.proof_rows_found or report.proof_bytes_found or not report.HasField("finished_at"):
            raise self.mismatch("reclaim", "a proof that found nothing", report)
        issue.state = RECLAIMED
        self.gone.append(issue)

    def _administer(self, method: str, request: Any, faults: list[str]) -> Any:
        """Make an administrative call; return its answer, or None when it was rightly refused."""
        try:
            answer = self._rpc.call(f"Namespaces/{method}", request, self._guardian)
        except RpcError as failure:
            if failure.reason not in faults:
                raise self.mismatch(method, faults or "no refusal", failure) from None
            self.counts[f"refused {failure.reason}"] += 1
            return None
        if faults:
            raise self.mismatch(method, f"a refusal: {faults}", answer)
        return answer


def _ref(issue: Issue) -> namespaces_pb2.NamespaceRef:
    return namespaces_pb2.NamespaceRef(id=issue.id)
