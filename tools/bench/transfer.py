"""Measure backup, export and load against what the machine does without us, in one run, taking turns.

    tools/bench/transfer.py [--rows 5000000] [--rounds 3] [--store auto] [--directory D] [--json]

Method: a real server and the commands a person types, each a process of its own, its start included. The peers work on
the same rows and bytes: ``cp`` and ``sha256sum`` of the same files for a backup; iteration over the same rows by
rocksdict in one process, which writes nothing, for an export; its writer of sorted files alone, fed from memory,
without a log, a server or a network, for a load. A ratio is the median of the rounds'. Memory is the largest resident
size of each process (VmHWM) above what it was before.

Demands are marked met or missed; a missed one is no failure of the tool. It ends with 1 only when something broke.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import rocksdict

from prefixdb import connect
from prefixdb.archive import ArchiveWriter, Header
from tools.lab.process import ROOT, ServerFailedError, ServerProcess

VALUE_BYTES = 100
FRAME_ROWS = 5_000
CHANGED = 0.01
SPREAD_ROUNDS = 8
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report. ``demand``: at least so much, or at most when negative; None when nothing is demanded."""

    name: str
    ours: float
    peer: float
    unit: str
    ratio: float
    demand: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the demand is met, in words."""
        if self.demand is None:
            return ""
        met = self.ratio >= self.demand if self.demand > 0 else self.ratio <= -self.demand
        return f"{'>=' if self.demand > 0 else '<='} {abs(self.demand):g}: {'met' if met else 'MISSED'}"


def main() -> int:
    """Run everything and print it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", choices=("auto", "native", "rocksdict"), default="auto")
    parser.add_argument("--directory", type=Path, help="where the data goes; a temporary one below it")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prefixdb-transfer-", dir=arguments.directory) as directory:
        try:
            lines = Bench(Path(directory), arguments).run()
        except (subprocess.CalledProcessError, ServerFailedError) as failure:
            print(f"bench: FAILED: {failure}", file=sys.stderr)
            return 1
    if arguments.json:
        print(json.dumps([asdict(line) | {"verdict": line.verdict} for line in lines]))
        return 0
    print(f"{'':34} {'prefixdb':>12} {'peer':>12} {'':10} {'ratio':>7}")
    for line in lines:
        print(f"{line.name:34} {line.ours:12,.1f} {line.peer:12,.1f} {line.unit:10} {line.ratio:7.2f}  {line.verdict}")
    return 0


class Bench:
    """One run in one directory."""

    def __init__(self, directory: Path, arguments: argparse.Namespace) -> None:
        self.directory = directory
        self.rows: int = arguments.rows
        self.rounds: int = arguments.rounds
        self.server = ServerProcess(directory / "data", store=arguments.store)
        self.archive = directory / "rows.archive"
        self.lines: list[Line] = []
        # Whoever types a command has its bytecode from the time before, whatever is set around this tool.
        self._environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._environment["PYTHONPYCACHEPREFIX"] = str(directory / "bytecode")

    def run(self) -> list[Line]:
        """Measure everything."""
        self._write_archive()
        with self.server:
            self.server.start()
            self._load()
            self._export()
            self._backup()
        return self.lines

    def _say(self, what: str) -> None:
        print(f"bench: {what}", file=sys.stderr, flush=True)

    def _write_archive(self) -> None:
        self._say(f"writing an archive of {self.rows:,} rows")
        writer = ArchiveWriter(Header(kind="export", codec="none", sorted=True, last_version=1))
        with self.archive.open("wb") as file:
            file.write(writer.header())
            for page in pages(self.rows):
                file.write(writer.rows(0, [(key, value, 1, 0) for key, value in page]))
            file.write(writer.footer())

    def _load(self) -> None:
        """Load the archive into new namespaces, and write the same rows into sorted files with rocksdict alone."""
        ours, peers, grown = [], [], 0.0
        for number in range(self.rounds):
            name = f"loaded-{number}"
            token = self._found(name)
            before = peak_mib(self.server.pid)
            seconds, client = self._command("load", self.archive, "--token-file", token)
            grown = max(grown, peak_mib(self.server.pid) - before, client - self._idle_client())
            ours.append(self.rows / seconds)
            peers.append(self.rows / write_sorted(self.directory / f"plain-{number}", self.rows))
            self._say(f"load {ours[-1]:,.0f} rows/s, sorted files alone {peers[-1]:,.0f}")
        self._add("load", ours, peers, "rows/s", 0.3)
        self.lines.append(Line("memory of a load, larger process", grown, 256, "MiB", grown / 256, -1))

    def _export(self) -> None:
        """Export a namespace to a file, and iterate over the same rows with rocksdict alone."""
        ours, peers, unchecked, grown = [], [], [], 0.0
        token = self.directory / "loaded-0.token"
        for _ in range(self.rounds):
            out = self.directory / "out.archive"
            before = peak_mib(self.server.pid)
            seconds, client = self._command("export", "--out", out, "--token-file", token)
            grown = max(grown, peak_mib(self.server.pid) - before, client - self._idle_client())
            out.unlink()
            ours.append(self.rows / seconds)
            peers.append(self.rows / iterate(self.directory / "plain-0", self.rows))
            unchecked.append(self.rows / list_items(self.directory / "plain-0", self.rows))
            self._say(f"export {ours[-1]:,.0f} rows/s, iteration alone {peers[-1]:,.0f}, items {unchecked[-1]:,.0f}")
        self._add("export, zstd", ours, peers, "rows/s", 0.3)
        self._add("export, against items()", ours, unchecked, "rows/s", None)
        self.lines.append(Line("memory of an export, larger process", grown, 256, "MiB", grown / 256, -1))

    def _backup(self) -> None:
        """Back the whole store up, and copy and hash the same files with cp and sha256sum."""
        token = self.server.guardian_token_file()
        self._command("compact", "--timeout", "30m", "--token-file", token)
        ours, peers = [], []
        for number in range(self.rounds):
            repository = self.directory / f"backups-{number}"
            seconds, _ = self._command("backup", "create", repository, "--token-file", token)
            size = size_mib(repository)
            ours.append(size / seconds)
            peers.append(size / copy_and_hash(repository / "objects", self.directory / "copy"))
            self._say(f"backup {ours[-1]:,.0f} MiB/s, cp and sha256sum {peers[-1]:,.0f}")
        self._add("backup", ours, peers, "MiB/s", 0.5)
        self._increments(self.directory / "backups-0", token)

    def _increments(self, repository: Path, token: Path) -> None:
        """Change 1 % of all rows and back up again: a range of one tenant first, then rows spread over all keys of all
        tenants, round after round, for every fourth flush or so makes the engine merge what changed into the next level
        and rewrite as much of that as it meets."""
        changed = int(self.rows * self.rounds * CHANGED)
        with connect(self.server.address, token_file=self.directory / "loaded-0.token") as db:
            put_rows(db, range(self.rows // 3, self.rows // 3 + changed))
        self._increment("copied after 1 % in one range", [self._copied(repository, token)])
        shares = []
        for number in range(SPREAD_ROUNDS):
            for tenant in range(self.rounds):
                with connect(self.server.address, token_file=self.directory / f"loaded-{tenant}.token") as db:
                    put_rows(db, range(number, self.rows, round(1 / CHANGED)))
            shares.append(self._copied(repository, token))
        self._increment("copied after 1 % spread, mean", [statistics.mean(shares)])
        self._increment("copied after 1 % spread, largest", [max(shares)], demand=None)

    def _copied(self, repository: Path, token: Path) -> float:
        """Take one more backup; return which share of what was there came anew."""
        before = size_mib(repository)
        self._command("backup", "create", repository, "--token-file", token)
        copied = (size_mib(repository) - before) / before
        self._say(f"copied {copied:.1%}")
        return copied

    def _increment(self, name: str, shares: list[float], demand: float | None = -0.1) -> None:
        self.lines.append(Line(name, 100 * shares[0], 100, "%", shares[0], demand))

    def _add(self, name: str, ours: list[float], peers: list[float], unit: str, demand: float | None) -> None:
        ratio = statistics.median(mine / other for mine, other in zip(ours, peers, strict=True))
        self.lines.append(Line(name, statistics.median(ours), statistics.median(peers), unit, ratio, demand))

    def _found(self, name: str) -> Path:
        token = self.directory / f"{name}.token"
        words = ("ns", "create", name, "--guardian-token-ttl", "10h", "--out", token)
        self._command(*words, "--token-file", self.server.guardian_token_file())
        return token

    def _idle_client(self) -> float:
        """Return what a client takes that does next to nothing, MiB."""
        return self._command("whoami", "--token-file", self.server.guardian_token_file())[1]

    def _command(self, *words: str | Path) -> tuple[float, float]:
        """Run a command; return how many seconds it took and its largest resident size in MiB."""
        command = [sys.executable, "-m", "prefixdb", *map(str, words), "--quiet", "--endpoint", self.server.address]
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT, env=self._environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return seconds, usage.ru_maxrss / 1024


# --- the rows, and the peers -----------------------------------------------------------------------------------------


def key_of(row: int) -> bytes:
    """Return the key of a numbered row; keys ascend with numbers."""
    return b"user/%012d" % row


def pages(rows: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield all rows in pages, in order. Values are half random, as compressible as text."""
    noise = os.urandom(1 << 20).hex().encode()
    for first in range(0, rows, FRAME_ROWS):
        numbers = range(first, min(rows, first + FRAME_ROWS))
        starts = ((row, row * 7919 % (len(noise) - VALUE_BYTES)) for row in numbers)
        yield [(key_of(row), noise[start : start + VALUE_BYTES]) for row, start in starts]


def put_rows(db: Any, numbers: range) -> None:
    """Write rows anew, a thousand at a time."""
    for first in range(0, len(numbers), 1_000):
        db.put_many(
            (key_of(row), os.urandom(VALUE_BYTES // 2).hex().encode()) for row in numbers[first : first + 1_000]
        )


def write_sorted(directory: Path, rows: int) -> float:
    """Write the rows into sorted files of 64 MiB with rocksdict and take them into a plain database; return seconds."""
    options = rocksdict.Options(raw_mode=True)
    database = rocksdict.Rdict(str(directory), options)
    paths: list[str] = []
    writer, size, seconds = None, 0, 0.0
    for page in pages(rows):
        begin = time.monotonic()  # Making the rows does not count.
        if writer is None:
            paths.append(str(directory.with_name(f"{directory.name}-{len(paths)}.sst")))
            writer, size = rocksdict.SstFileWriter(options=options), 0
            writer.open(paths[-1])
        for key, value in page:
            writer[key] = value
        size += len(page) * (len(page[0][0]) + VALUE_BYTES)
        if size > 64 * MIB:
            writer.finish()
            writer = None
        seconds += time.monotonic() - begin
    begin = time.monotonic()
    if writer is not None:
        writer.finish()
    database.ingest_external_file(paths)
    database.close()
    return seconds + time.monotonic() - begin


def iterate(directory: Path, rows: int) -> float:
    """Read every row with rocksdict's iterator, the one that tells of damage (``items`` ends early and says nothing);
    return seconds."""
    begin = time.monotonic()
    database = rocksdict.Rdict(str(directory), rocksdict.Options(raw_mode=True))
    found, walk = 0, database.iter()
    walk.seek_to_first()
    while walk.valid():
        if walk.key() is not None and walk.value() is not None:
            found += 1
        walk.next()
    walk.status()
    del walk
    database.close()
    return _checked(found, rows, begin)


def list_items(directory: Path, rows: int) -> float:
    """Read every row with ``items`` of rocksdict, faster and blind to damage; return seconds."""
    begin = time.monotonic()
    database = rocksdict.Rdict(str(directory), rocksdict.Options(raw_mode=True))
    found = sum(1 for _ in database.items())
    database.close()
    return _checked(found, rows, begin)


def _checked(found: int, rows: int, begin: float) -> float:
    if found != rows:
        raise ServerFailedError(f"the peer has {found} rows instead of {rows}")
    return time.monotonic() - begin


def copy_and_hash(source: Path, target: Path) -> float:
    """Copy a directory with cp and hash the copy's files with sha256sum; return seconds."""
    begin = time.monotonic()
    subprocess.run(["cp", "-r", source, target], check=True)
    files = sorted(str(path) for path in target.rglob("*") if path.is_file())
    subprocess.run(["sha256sum", *files], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - begin
    shutil.rmtree(target)
    return seconds


def size_mib(directory: Path) -> float:
    """Return the bytes of all files below a directory, MiB."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / MIB


def peak_mib(pid: int) -> float:
    """Return the largest resident size a process has had, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ServerFailedError("the server's memory cannot be read")


if __name__ == "__main__":
    sys.exit(main())
