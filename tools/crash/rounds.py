"""The rounds of a crash run: start, check everything, load, do something awkward, kill -9; and the final look."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from prefixdb.v1 import maintenance_pb2, namespaces_pb2
from tools.crash.tenants import GRACE_S, IDS, Guardian, check_empty, check_refused, check_rows, put_secret
from tools.crash.workload import Findings, Tenant, Worker
from tools.lab.files import files_with, incompressible
from tools.lab.process import ServerProcess
from tools.lab.rpc import Rpc, RpcError

LIVE_TENANTS = 4
EVENTS = ("load", "ban", "drop", "drop-later", "ban-cut", "create-cut", "compact")
SMALL_BUFFER = {"PREFIXDB_STORE__WRITE_BUFFER": "1MiB", "PREFIXDB_STORE__CACHE": "16MiB"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does. ``open_s_max``: a start that takes longer is a violation."""

    rounds: int = 20
    seed: int = 0
    workers: int = 6
    store: str = "auto"
    open_s_max: float = 5.0


class Run:
    """One directory, and what must be true of it after each crash."""

    def __init__(self, plan: Plan, data_dir: Path) -> None:
        self.findings = Findings()
        self.open_s_worst = 0.0
        self._plan = plan
        self._server = ServerProcess(data_dir, store=plan.store, settings=SMALL_BUFFER)
        self._live: list[Tenant] = []
        self._graced: list[Tenant] = []
        self._dropped: list[Tenant] = []
        self._gone: list[Tenant] = []
        self._unfinished: list[Tenant] = []
        self._uncertain: Tenant | None = None
        self._creating: tuple[str, int] | None = None
        self._names = 0

    def run(self) -> bool:
        """Do all rounds and the final check; return whether nothing was violated."""
        try:
            for number in range(self._plan.rounds):
                rng = random.Random(f"{self._plan.seed}/{number}")
                event = EVENTS[number % len(EVENTS)] if number < len(EVENTS) else rng.choice(EVENTS)
                self._start(rng)
                rpc = Rpc(self._server.address, channels_apart=True)
                try:
                    guardian = Guardian(rpc, self._server.guardian_token())
                    self._check(rpc, guardian, rng)
                    if not self.findings.violations:
                        self._load_and_kill(number, rng, guardian, event)
                finally:
                    rpc.close()
                self._say(number, event)
                if self.findings.violations:
                    return False
            self._finish()
        finally:
            self._server.kill()
        return not self.findings.violations

    def _start(self, rng: random.Random) -> None:
        """Start the server; now and then kill it while it starts and start it again."""
        if rng.random() < 0.2:
            self._server.launch()
            time.sleep(rng.uniform(0.05, 1.2))
            self._server.kill()
            self.findings.count("kills during a start")
        took = self._server.start()
        self.open_s_worst = max(self.open_s_worst, took)
        if took > self._plan.open_s_max:
            self.findings.violation(f"the server was ready after {took:.1f} s, must be {self._plan.open_s_max:g} s")

    def _check(self, rpc: Rpc, guardian: Guardian, rng: random.Random) -> None:
        """Check every namespace, decide about calls without a reply, and have enough live namespaces for the round."""
        self._settle_uncertain(guardian)
        self._settle_creation(guardian)
        for tenant in self._unfinished:
            check_empty(rpc, tenant, self.findings)
            put_secret(rpc, tenant)
        self._live += self._unfinished
        self._unfinished.clear()
        for tenant in list(self._graced):
            check_refused(rpc, tenant, "NAMESPACE_BANNED", self.findings)
            guardian.unban(tenant)
            self._graced.remove(tenant)
            self._live.append(tenant)
            self.findings.count("unbans")
        for tenant in self._live:
            check_rows(rpc, tenant, self.findings)
        for tenant in list(self._dropped):
            check_refused(rpc, tenant, "NAMESPACE_BANNED", self.findings)
            if rng.random() < 0.5:
                self._expect_reclaimed(guardian, tenant)
        while len(self._live) < LIVE_TENANTS and not self.findings.violations:
            self._create(rpc, guardian, rng)

    def _settle_uncertain(self, guardian: Guardian) -> None:
        """Find out what became of a ban whose reply never came: either is right, but one of them."""
        tenant, self._uncertain = self._uncertain, None
        if tenant is None:
            return
        state = guardian.state(tenant.id)
        if state == namespaces_pb2.NAMESPACE_STATE_ACTIVE:
            tenant.ban_sent = False
            self._live.append(tenant)
        elif state == namespaces_pb2.NAMESPACE_STATE_BANNED:
            self._graced.append(tenant)
        else:
            self.findings.violation(f"{tenant.name}: in state {state} after a ban that may have happened")

    def _settle_creation(self, guardian: Guardian) -> None:
        """Find out what became of a creation whose reply never came; if it happened, drop what it made."""
        if self._creating is None:
            return
        name, namespace_id = self._creating
        self._creating = None
        state = guardian.state(namespace_id)
        if state == namespaces_pb2.NAMESPACE_STATE_ACTIVE:
            tenant = Tenant(name, namespace_id, "", f"<<{name}>>".encode())
            guardian.ban(tenant, 0)
            if not guardian.wait_reclaimed(tenant):
                self.findings.violation(f"{name}: an empty namespace was not reclaimed")
            self.findings.count("creations without a reply that happened")
        elif state not in {0, namespaces_pb2.NAMESPACE_STATE_RECLAIMED}:
            self.findings.violation(f"{name}: in state {state} after a creation that may have happened")

    def _expect_reclaimed(self, guardian: Guardian, tenant: Tenant) -> None:
        """Wait for the proof that a dropped namespace is gone."""
        if not guardian.wait_reclaimed(tenant):
            self.findings.violation(f"{tenant.name}: not reclaimed in time: {guardian.report(tenant)}")
            return
        report = guardian.report(tenant)
        if report.proof_rows_found or report.proof_bytes_found or not report.HasField("finished_at"):
            self.findings.violation(f"{tenant.name}: DONE without a clean proof: {report}")
        self._dropped.remove(tenant)
        self._gone.append(tenant)
        self.findings.count("reclaims proven")

    def _create(self, rpc: Rpc, guardian: Guardian, rng: random.Random) -> None:
        """Create a namespace, best under a number that was reclaimed, and check that it shows nothing of before."""
        namespace_id = self._free_id(rng)
        self._names += 1
        tenant = guardian.create(f"tenant-{self._names}", namespace_id)
        check_empty(rpc, tenant, self.findings)
        put_secret(rpc, tenant)
        for old in self._gone:
            if old.id == namespace_id and old.token:
                check_refused(rpc, old, "TOKEN_INVALID", self.findings)
                self.findings.count("numbers issued again")
        self._live.append(tenant)

    def _free_id(self, rng: random.Random) -> int:
        """Return a number that is neither live nor waiting for its reclaim."""
        taken = {tenant.id for tenant in (*self._live, *self._graced, *self._dropped)}
        free = [one for one in IDS if one not in taken]
        again = [one for one in free if any(tenant.id == one for tenant in self._gone)]
        return rng.choice(again or free) if free else rng.getrandbits(63)

    def _load_and_kill(self, number: int, rng: random.Random, guardian: Guardian, event: str) -> None:
        """Load the server, do what the event is, and kill the server in its midst."""
        rpcs = [Rpc(self._server.address, channels_apart=True) for _ in range(self._plan.workers)]
        workers = [
            Worker(index, f"{self._plan.seed}/{number}/{index}", rpc, self._live, self.findings)
            for index, rpc in enumerate(rpcs)
        ]
        for worker in workers:
            worker.start()
        time.sleep(rng.uniform(0.2, 1.0))
        actor = self._event(rng, guardian, event)
        self._server.kill()
        for worker in workers:
            worker.stop()
            worker.join()
        if actor is not None:
            actor.join()
        for rpc in rpcs:
            rpc.close()
        self.findings.count("kills")

    def _event(self, rng: random.Random, guardian: Guardian, event: str) -> threading.Thread | None:
        """Do the event up to the moment of the kill; return the thread of a call that the kill will cut."""
        if event == "load":
            return None
        if event == "compact":
            actor = threading.Thread(target=self._compact, daemon=True)
        elif event == "create-cut":
            self._names += 1
            self._creating = (f"tenant-{self._names}", self._free_id(rng))
            actor = threading.Thread(target=self._create_cut, args=(guardian, *self._creating), daemon=True)
        else:
            tenant = rng.choice(self._live)
            self._live.remove(tenant)
            if event == "ban-cut":
                self._uncertain = tenant
                actor = threading.Thread(target=self._ban_cut, args=(guardian, tenant), daemon=True)
            else:
                guardian.ban(tenant, GRACE_S if event == "ban" else 0)
                (self._graced if event == "ban" else self._dropped).append(tenant)
                self.findings.count("bans")
                if event == "drop-later":  # Into the reclaim: let the server live for a moment.
                    time.sleep(rng.uniform(0.0, 0.6))
                return None
        actor.start()
        time.sleep(rng.uniform(0.0, 0.02) if event != "compact" else rng.uniform(0.0, 0.3))
        return actor

    def _ban_cut(self, guardian: Guardian, tenant: Tenant) -> None:
        """Ban with a grace while the server is being killed; a reply decides at once."""
        try:
            guardian.ban(tenant, GRACE_S)
        except RpcError as failure:
            self._only_unknown("a ban", failure)
            return
        self._uncertain = None
        self._graced.append(tenant)

    def _create_cut(self, guardian: Guardian, name: str, namespace_id: int) -> None:
        """Create a namespace while the server is being killed; a reply decides at once."""
        try:
            tenant = guardian.create(name, namespace_id)
        except RpcError as failure:
            self._only_unknown("a creation", failure)
            return
        self._creating = None
        self._unfinished.append(tenant)

    def _compact(self) -> None:
        """Compact everything while the server is being killed."""
        rpc = Rpc(self._server.address, channels_apart=True)
        try:
            rpc.call("Maintenance/Compact", maintenance_pb2.CompactRequest(), self._server.guardian_token())
        except RpcError as failure:
            self._only_unknown("a compaction", failure)
        finally:
            rpc.close()

    def _only_unknown(self, what: str, failure: RpcError) -> None:
        """A call that the kill cuts may lose its reply, but it has no reason to be refused."""
        if not failure.outcome_unknown:
            self.findings.violation(f"{what} was refused: {failure}")

    def _finish(self) -> None:
        """Start once more, check, wait for every reclaim, stop in good order, and look into the raw files."""
        rng = random.Random(f"{self._plan.seed}/end")
        self._start(rng)
        rpc = Rpc(self._server.address, channels_apart=True)
        try:
            guardian = Guardian(rpc, self._server.guardian_token())
            self._check(rpc, guardian, rng)
            for tenant in list(self._dropped):
                self._expect_reclaimed(guardian, tenant)
        finally:
            rpc.close()
        self._server.stop()
        for tenant in self._gone:
            for path in files_with(self._server.data_dir, incompressible(tenant.name)[1]):
                self.findings.violation(f"{tenant.name}: reclaimed, but a value of it is in {path.name}")
        for tenant in self._live:
            if not files_with(self._server.data_dir, incompressible(tenant.name)[1]):
                self.findings.violation(f"{tenant.name}: live, but no file holds its first value: the look is blind")

    def _say(self, number: int, event: str) -> None:
        shown = [
            f"{name} {self.findings.counts.get(name, 0):,d}" for name in ("acknowledged", "unknown", "rows checked")
        ]
        print(f"round {number + 1:3d}/{self._plan.rounds}  {event:10s}  {',  '.join(shown)}", flush=True)
