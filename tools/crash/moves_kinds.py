"""What a crash run moves: each way of moving data as a command, what its kill must leave, and how to tell that it did.

A kind knows its command, the places where its work leaves traces (for the shim), and two checks: ``check_cut`` after a
kill, when there must be nothing or all of it, and ``check_done`` after the same command has run to its end.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prefixdb import connect
from prefixdb.client.sync import Database
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.repository.repository import Repository
from prefixdb.repository.upkeep import check_files

Rows = dict[tuple[int, bytes], bytes]
DATABASES = (0, 3)
SETTLED_S_MAX = 20.0
"""Longest wait until the server has done, or undone, what a client left behind."""


class MoveError(AssertionError):
    """A promise was broken; the message says which."""


@dataclass
class World:
    """What all kinds work with.

    directory: for files, repositories and what is restored.
    data_dir: the server's.
    endpoint, token_file: of the cluster's guardian.
    rows: of the source namespace ``src``, which never change.
    archive, text: a file of them each.
    """

    directory: Path
    data_dir: Path
    endpoint: str
    token_file: Path
    rows: Rows
    archive: Path
    text: Path

    def guardian(self) -> Database:
        """Return a client of the cluster's guardian."""
        return connect(self.endpoint, token_file=self.token_file)


class Kind:
    """One way of moving data, in one round of a run.

    Args:
        world: see ``World``.
        number: of the round; makes names of its own.
    """

    name = ""
    victims: tuple[str, ...] = ("client", "server")

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.prepare()

    def prepare(self) -> None:
        """Make what the command needs."""

    def command(self) -> list[str]:
        """Return the command, the same one each time."""
        raise NotImplementedError

    def begins(self) -> str:
        """Return a pattern of files whose first change shows that the work has begun, whoever makes it."""
        raise NotImplementedError

    def steps(self, victim: str) -> list[str]:
        """Return patterns of files that only the victim changes in this work; none when there are none."""
        raise NotImplementedError

    def check_cut(self) -> bool:
        """Make sure that there is nothing or all of it, and return whether it is all."""
        raise NotImplementedError

    def accepts(self, status: int, out: bytes, said: str, *, complete: bool) -> bool:
        """Return whether the same command ended as it must. ``complete``: all of it was there before."""
        return status == 0

    def check_done(self, out: bytes) -> None:
        """Make sure that all of it is there, once, and nothing beside it."""
        if not self.check_cut():
            raise MoveError(f"{self.name}: the command has ended, but there is nothing")

    def clean(self) -> None:
        """Give back the space of this round."""


class BackupCreate(Kind):
    """``backup create`` into a repository of its own."""

    name = "backup create"

    def prepare(self) -> None:
        self.repository = self.world.directory / f"repo-{self.number}"
        self._before = 0

    def command(self) -> list[str]:
        return ["backup", "create", str(self.repository)]

    def begins(self) -> str:
        return f"{self.world.data_dir}/snapshots/*"

    def steps(self, victim: str) -> list[str]:
        return [f"{self.repository}/*"] if victim == "client" else [self.begins()]

    def check_cut(self) -> bool:
        if not (self.repository / "prefixdb-repository.json").exists():
            return False
        opened = Repository.open(self.repository)
        manifests = opened.manifests()
        damage = check_files(opened, manifests, lambda done, total: None).findings
        if damage or len(manifests) > self._before + 1:
            raise MoveError(f"{self.name}: {len(manifests)} backups, {damage}")
        return len(manifests) == self._before + 1

    def check_done(self, out: bytes) -> None:
        settled(lambda: _empty(self.world.data_dir / "snapshots"), "no snapshot is left")
        self._before = len(Repository.open(self.repository).manifests()) - 1
        super().check_done(out)
        if not _empty(self.repository / "tmp"):
            raise MoveError(f"{self.name}: something is left in tmp")

    def clean(self) -> None:
        shutil.rmtree(self.repository)


class BackupRestore(Kind):
    """``backup restore`` into a directory of its own, from a repository that all rounds share. There is no server."""

    name = "backup restore"
    victims = ("client",)

    def prepare(self) -> None:
        self._parent = self.world.directory / f"restored-{self.number}"
        self._parent.mkdir()
        self._target = self._parent / "data"
        if self.number % 2:
            self._target.mkdir()

    def command(self) -> list[str]:
        return ["backup", "restore", str(self.world.directory / "shared"), "--data-dir", str(self._target)]

    def begins(self) -> str:
        return f"{self._parent}/*"

    def steps(self, victim: str) -> list[str]:
        return [self.begins()]

    def check_cut(self) -> bool:
        if not self._target.exists() or not any(self._target.iterdir()):
            return False
        repository = Repository.open(self.world.directory / "shared")
        wanted = {file.path: file.size for file in repository.manifests()[0].files if file.path.endswith(".sst")}
        names = {str(path.relative_to(self._target)): path.stat().st_size for path in self._target.rglob("*.sst")}
        if not wanted.items() <= names.items() or not (self._target / "store-state.json").exists():
            raise MoveError(f"{self.name}: the target is there, but it is not whole")
        return True

    def accepts(self, status: int, out: bytes, said: str, *, complete: bool) -> bool:
        return status == 0 if not complete else "DIRECTORY_NOT_EMPTY" in said or "not empty" in said

    def check_done(self, out: bytes) -> None:
        super().check_done(out)
        if [path.name for path in self._parent.iterdir()] != ["data"]:
            raise MoveError(f"{self.name}: something is left beside the target")

    def clean(self) -> None:
        shutil.rmtree(self._parent)


class Incoming(Kind):
    """What brings rows into a new namespace: ``import`` and ``load``."""

    def prepare(self) -> None:
        with self.world.guardian() as db:
            name = f"{self.name}-{self.number}"
            made = db.guardian.namespaces.create(name, guardian_token_ttl=3_600)
        self._id = made.namespace.id
        self._remembered = self._again = False
        self._token = self.world.directory / f"{name}.token"
        self._token.write_text(made.guardian_token or "")
        self._token.chmod(0o600)

    def begins(self) -> str:
        return f"{self.world.data_dir}/imports/*"

    def steps(self, victim: str) -> list[str]:
        if victim == "client":
            return [f"{self.world.directory}/state/*"]
        return [self.begins(), f"{self.world.data_dir}/db/*", *self.files()]

    def files(self) -> list[str]:
        """Return the pattern of the sorted files it makes, if it does."""
        return []

    def check_cut(self) -> bool:
        with connect(self.world.endpoint, token_file=self._token) as db:
            counts: list[int] = []

            def whole() -> bool:
                counts.append(sum(db.database(number).count() for number in DATABASES))
                return counts[-1] in (0, len(self.world.rows))

            # A command that was over had forgotten its upload: the next one is another.
            self._remembered = any((self.world.directory / "state" / "prefixdb" / "uploads").glob("*"))
            settled(whole, f"{self.name}: none or all of the rows", lambda: f"{counts[-3:]}")
            return bool(counts[-1])

    def accepts(self, status: int, out: bytes, said: str, *, complete: bool) -> bool:
        self._again = complete and not self._remembered
        return status == 0 or (self._again and "IMPORT_CONFLICT" in said)

    def check_done(self, out: bytes) -> None:
        if out:
            told = json.loads(out)
            wanted = len(self.world.rows)
            counts = (wanted, 0) if not self._again else (0, wanted)
            if (told["rows"], told["inserted"], told["replaced"], told["skipped"]) != (wanted, *counts, 0):
                raise MoveError(f"{self.name}: {told}: a row came twice, or not at all")
        with connect(self.world.endpoint, token_file=self._token) as db:
            if rows_of(db) != self.world.rows:
                raise MoveError(f"{self.name}: the rows are not those of the file")
        settled(lambda: _empty(self.world.data_dir / "imports"), f"{self.name}: no spool is left")

    def clean(self) -> None:
        with self.world.guardian() as db:
            db.guardian.namespaces.ban(self._id)


class Import(Incoming):
    """``import`` of an archive: sorted, versions in order, refused when a key exists."""

    name = "import"

    def files(self) -> list[str]:
        return [f"{self.world.data_dir}/ingest/*"]

    def command(self) -> list[str]:
        return ["import", str(self.world.archive), "--json", "--token-file", str(self._token)]


class Load(Incoming):
    """``load`` of JSON lines: unsorted, in batches."""

    name = "load"

    def command(self) -> list[str]:
        return ["load", str(self.world.text), "--json", "--token-file", str(self._token)]


class Made(Kind):
    """What makes a namespace: ``ns clone`` and ``backup restore-namespace``."""

    @property
    def target(self) -> str:
        """The name of the new namespace."""
        return f"{self.name.split()[-1]}-{self.number}"

    def begins(self) -> str:
        return f"{self.world.data_dir}/ingest/*"

    def steps(self, victim: str) -> list[str]:
        return [self.begins(), f"{self.world.data_dir}/db/*"] if victim == "server" else []

    def check_cut(self) -> bool:
        with self.world.guardian() as guardian:
            what = f"{self.name}: what was given up is reclaimed"
            settled(lambda: not self._making(guardian), what, lambda: self._reports(guardian))
            return self._living(guardian) is not None

    def accepts(self, status: int, out: bytes, said: str, *, complete: bool) -> bool:
        return "NAMESPACE_EXISTS" in said if complete else status == 0

    def check_done(self, out: bytes) -> None:
        with self.world.guardian() as guardian:
            found = self._living(guardian)
            if found is None:
                raise MoveError(f"{self.name}: the command has ended, but there is no namespace")
            issued = guardian.guardian.tokens.issue("crash run", ["readers"], ttl=600, namespace=found)
        with connect(self.world.endpoint, token=issued.token) as db:
            if rows_of(db) != self.world.rows:
                raise MoveError(f"{self.name}: the rows are not those of the source")
        settled(lambda: _empty(self.world.data_dir / "imports"), f"{self.name}: no spool is left")

    def clean(self) -> None:
        with self.world.guardian() as guardian:
            found = self._living(guardian)
            if found is not None:
                guardian.guardian.namespaces.ban(found)

    def _living(self, guardian: Database) -> int | None:
        for namespace in guardian.guardian.namespaces.list():
            if namespace.name == self.target:
                return namespace.id
        return None

    def _reports(self, guardian: Database) -> str:
        """Return how far every reclaim is that has not ended."""
        namespaces = guardian.guardian.namespaces
        left = [one for one in namespaces.list(include_dropped=True) if one.state.name == "BANNED"]
        return "; ".join(f"{one.name}: {namespaces.report(one.id)}" for one in left)

    def _making(self, guardian: Database) -> bool:
        """Return whether it is still being made: what was given up is reclaimed at once."""
        for namespace in guardian.guardian.namespaces.list(include_dropped=True):
            if namespace.name == self.target and namespace.state.name == "BANNED":
                return True
        return False


class Clone(Made):
    """``ns clone``."""

    name = "ns clone"

    def command(self) -> list[str]:
        return ["ns", "clone", "src", self.target, "--json"]


class RestoreNamespace(Made):
    """``backup restore-namespace``."""

    name = "backup restore-namespace"

    def command(self) -> list[str]:
        return ["backup", "restore-namespace", str(self.world.archive), "--name", self.target, "--json"]

    def begins(self) -> str:
        return f"{self.world.data_dir}/imports/*"

    def steps(self, victim: str) -> list[str]:
        return [f"{self.world.data_dir}/ingest/*", *super().steps(victim)] if victim == "server" else []


KINDS: tuple[type[Kind], ...] = (BackupCreate, BackupRestore, Import, Load, Clone, RestoreNamespace)


def rows_of(db: Database) -> Rows:
    """Return every row of a namespace, in the databases that are used."""
    return {(number, key): value for number in DATABASES for key, value in db.database(number).scan()}


def settled(condition: Callable[[], bool], what: str, found: Callable[[], str] = lambda: "") -> None:
    """Return when ``condition()`` holds; raises MoveError when it does not in time."""
    limit = time.monotonic() + SETTLED_S_MAX
    while True:
        try:
            if condition():
                return
        except PrefixdbError as failure:
            if failure.reason not in {Reason.UNREACHABLE, Reason.STARTING}:
                raise
        if time.monotonic() > limit:
            raise MoveError(f"not within {SETTLED_S_MAX:g} s: {what} {found()}")
        time.sleep(0.02)


def _empty(directory: Path) -> bool:
    return not directory.exists() or not any(directory.iterdir())
