"""Backups, restores, imports, loads, clones that are killed with -9 in the middle, and what is left of them.

A round draws what is moved, who is killed (the command, or the server under it), and when: at a random moment of its
work, or before or halfway through one of its file operations, which the shim picks. Afterwards there must be nothing of
it or all of it, and the same command, run once more, must end well and have moved everything once. The first rounds
take every kind and every victim in turn; then it is drawn.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from prefixdb import connect
from tools.crash.moves_kinds import DATABASES, KINDS, Kind, MoveError, World
from tools.crash.shim import Action, Call, Shim
from tools.lab.process import ROOT, ServerProcess

ROWS = 12_000
"""More than an import writes in one commit, so that there is a middle."""

COMMAND_S_MAX = 60.0
MANNERS = ("moment", "before", "halfway")
PAIRS = tuple((kind, victim) for kind in KINDS for victim in kind.victims)


@dataclass(frozen=True, slots=True)
class MovesPlan:
    """What a run does. ``first``: where in the order of kinds and victims, and of manners, it begins."""

    rounds: int = len(PAIRS)
    seed: int = 0
    store: str = "auto"
    first: int = 0


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: bytes
    said: str


class KeptPort(ServerProcess):
    """A server that is found at the same address after a restart, as clients that go on expect."""

    def command(self) -> list[str]:
        listen = ["--listen", self.address] if self.address else []
        return super().command() + listen


class MovesRun:
    """One server, and what must be true after each kill. See the module's docstring.

    counts: of kills that landed in the middle, by kind, victim and manner, and of those that did not.
    """

    def __init__(self, plan: MovesPlan, directory: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self._plan = plan
        self._directory = directory
        self._shim = Shim(directory)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFIXDB_")}
        self._environment |= {"XDG_STATE_HOME": str(directory / "state"), "XDG_CONFIG_HOME": str(directory / "config")}
        buffers = {"PREFIXDB_STORE__WRITE_BUFFER": "1MiB", "PREFIXDB_STORE__CACHE": "16MiB"}
        settings = buffers | self._shim.environment()
        self._server = KeptPort(directory / "data", store=plan.store, settings=settings)
        self._steps: dict[str, int] = {}
        self._lasted_s: dict[str, float] = {}

    def run(self) -> bool:
        """Do all rounds; return whether nothing was violated."""
        try:
            self._server.start()
            world = self._world()
            for number in range(self._plan.rounds):
                rng = random.Random(f"{self._plan.seed}/{number}")
                at = self._plan.first + number
                kind, victim = PAIRS[at % len(PAIRS)] if number < len(PAIRS) else rng.choice(PAIRS)
                manner = MANNERS[number % 3] if number < len(PAIRS) else rng.choice(MANNERS)
                try:
                    self._round(kind(world, number), victim, manner, rng)
                except MoveError as violation:
                    self.violations.append(f"round {number}, {kind.name}, {victim} killed: {violation}")
                    return False
                print(f"move {number + 1:3d}/{self._plan.rounds}  {kind.name}, {victim} killed", flush=True)
        finally:
            self._server.kill()
            self._shim.withdraw_all()
        return True

    @property
    def landed(self) -> int:
        """Kills that met work that had begun and not ended."""
        return sum(count for name, count in self.counts.items() if not name.startswith("too "))

    def _world(self) -> World:
        """Make the source, its files, and a repository."""
        rng = random.Random(self._plan.seed)
        rows = {
            (rng.choice(DATABASES), b"%06d/%s" % (n, rng.randbytes(2).hex().encode())): rng.randbytes(40)
            for n in range(ROWS)
        }
        world = World(
            self._directory,
            self._server.data_dir,
            self._server.address,
            self._server.guardian_token_file(),
            rows,
            self._directory / "src.prefixdb",
            self._directory / "src.jsonl",
        )
        with world.guardian() as guardian:
            made = guardian.guardian.namespaces.create("src", guardian_token_ttl=36_000)
        with connect(world.endpoint, token=made.guardian_token) as db:
            for number in DATABASES:
                db.database(number).load((key, value) for (database, key), value in rows.items() if database == number)
        token = self._directory / "src.token"
        token.write_text(made.guardian_token or "")
        token.chmod(0o600)
        for path in (world.archive, world.text):
            self._finish(["export", "--out", str(path), "--token-file", str(token)], world)
        self._finish(["backup", "create", str(self._directory / "shared")], world)
        return world

    def _round(self, kind: Kind, victim: str, manner: str, rng: random.Random) -> None:
        steps = kind.steps(victim)
        if not steps:
            manner = "moment"
        trace = kind.begins() if manner == "moment" else rng.choice(steps)
        known = f"{kind.name}, {victim}, {trace.rsplit('/', 2)[-2]}"
        if manner == "moment":
            outcome, ended = self._at_a_moment(kind, victim, trace, known, rng)
        else:
            outcome, ended = self._at_a_step(kind, victim, trace, known, rng, halfway=manner == "halfway")
        self.counts[outcome or f"{kind.name}, {victim}, {manner}"] += 1
        complete = kind.check_cut()
        if ended.status == 0:  # A command may outlive its server: it went on with the next one.
            kind.check_done(ended.out)
            kind.clean()
            return
        with self._shim.add(trace, Call.CHANGES, after=1 << 40) as counter:
            begin = time.monotonic()
            status, out, said = self._ended(self._launch(kind.command(), kind.world))
            if not complete:
                self._steps[known] = counter.matched
                self._lasted_s[known] = max(0.05, time.monotonic() - begin - 0.4)
        # What the server had when the command was killed it may finish by itself, a moment after the look.
        if not kind.accepts(status, out, said, complete=complete or (status != 0 and kind.check_cut())):
            raise MoveError(f"the same command ended with {status}: {said[-500:]}")
        kind.check_done(out)
        kind.clean()

    def _at_a_moment(self, kind: Kind, victim: str, trace: str, known: str, rng: random.Random) -> tuple[str, Ended]:
        """Kill a while after the work has begun; return "" when it had not ended by then."""
        with self._shim.add(trace, Call.CHANGES, after=1 << 40) as begun:
            process = self._launch(kind.command(), kind.world)
            while process.poll() is None and not begun.matched:
                time.sleep(0.001)
            time.sleep(rng.uniform(0.0, 0.7) * self._lasted_s.get(known, 0.1))
            running = process.poll() is None
            ended = self._kill(process, victim)
        return ("" if running else "too late"), ended

    def _at_a_step(
        self, kind: Kind, victim: str, trace: str, known: str, rng: random.Random, *, halfway: bool
    ) -> tuple[str, Ended]:
        """Let the shim kill at a file operation; return "" when it did."""
        action = Action.KILL_AFTER if halfway else Action.KILL
        step = rng.randrange(max(1, self._steps.get(known, 4)))
        with self._shim.add(trace, Call.CHANGES, action=action, after=step, times=1) as rule:
            process = self._launch(kind.command(), kind.world)
            while process.poll() is None and not rule.hits:
                time.sleep(0.001)
            if rule.hits:
                return "", self._kill(process, victim)
            self._steps[known] = rule.matched
            return "too few steps", self._ended(process)

    def _kill(self, process: subprocess.Popen[bytes], victim: str) -> Ended:
        """Kill who is to be killed, and see to it that a server runs afterwards."""
        if victim == "server":
            self._server.kill()
            self._server.start()
        else:
            process.kill()
        return self._ended(process)

    def _launch(self, words: list[str], world: World) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "prefixdb", *words, "--endpoint", world.endpoint]
        if "--token-file" not in words:
            command += ["--token-file", str(world.token_file)]
        environment = self._environment | self._shim.environment()
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def _ended(self, process: subprocess.Popen[bytes]) -> Ended:
        try:
            out, said = process.communicate(timeout=COMMAND_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise MoveError(f"the command did not end within {COMMAND_S_MAX:g} s") from None
        return Ended(process.returncode, out, said.decode(errors="replace"))

    def _finish(self, words: list[str], world: World) -> None:
        status, _, said = self._ended(self._launch(words, world))
        if status:
            raise MoveError(f"{words[:2]} ended with {status}: {said}")
