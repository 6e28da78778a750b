"""Random lives of a store against the model in a dict: every answer must be the same.

Method: a seeded generator picks commits (puts with and without lifetime, deletes, range deletes, every condition,
several in one batch), reads of every kind, steps of a held clock, flushes, compactions, sweeps, reclaims, restarts
and power cuts (a copy of the directory of the running store). Versions are compared by order and identity, since the
model numbers differently. A failure prints the seed and the number of operations that replay it:

    PREFIXDB_MODEL_SEED=… PREFIXDB_MODEL_OPS=… pytest tests/model/test_store_model.py -k STORE
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from prefixdb.keycodec import RowKey, Span, data_key, namespace_span
from prefixdb.store.base import (
    Absent,
    Commit,
    Condition,
    Cursor,
    Delete,
    DeleteSpan,
    Exists,
    Mutation,
    Put,
    Row,
    Store,
    ValueIs,
    VersionIs,
)
from tests.support.clocks import HeldClock
from tests.support.crash_image import OpenStore, await_saved
from tests.support.memory_store import MemoryStore

OPERATIONS = int(os.environ.get("PREFIXDB_MODEL_OPS", "3000"))
SEED = int(os.environ.get("PREFIXDB_MODEL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
NAMESPACES = (1, 2, 0xFF, 0x100, 2**64 - 2)
USER_KEYS = (b"\0", b"a", b"a\0", b"ab", b"b", b"m" * 40, b"\xff", b"\xff\xff", b"\xfe\xff", b"z")


def drain(cursor: Cursor, size: int) -> list[Row]:
    """Return the rest of a walk, fetched ``size`` rows at a time."""
    rows: list[Row] = []
    while page := cursor.fetch(size, 1 << 60):
        rows += page
    return rows


class Lives:
    """The subject, the model, and what ties their versions together."""

    def __init__(self, directory: Path, chance: random.Random, open_store: OpenStore) -> None:
        self.directory = directory
        self.open_store = open_store
        self.chance = chance
        self.clock = HeldClock()
        self.model = MemoryStore(self.clock)
        self.generation = 0
        self.subject = self._open()
        self.subject_version = {0: 0}
        self.newest = 0

    def step(self) -> None:
        rare = self.chance.random()
        for bound, act in (
            (0.004, self.restart),
            (0.006, self.power_cut),
            (0.016, self.flush),
            (0.022, self.compact),
            (0.026, self.reclaim),
            (0.040, self.sweep),
            (0.080, self.tick),
            (0.500, self.commit),
            (0.700, self.read_one),
            (0.800, self.read_many),
            (1.000, self.scan),
        ):
            if rare < bound:
                act()
                return

    def commit(self) -> None:
        commits = [self._random_commit() for _ in range(self.chance.choice((1, 1, 1, 2, 5)))]
        expected = self.model.commit_many(commits)
        for theirs, result in zip(
            self.subject.commit_many([self._translated(c) for c in commits]), expected, strict=True
        ):
            assert theirs.applied == result.applied
            assert theirs[2:4] == result[2:4]
            if result.version:
                assert theirs.version > self.newest
                self.newest = self.subject_version[result.version] = theirs.version
            assert theirs.version == self.subject_version[result.version]
            assert theirs.current_version == self.subject_version[result.current_version]

    def read_one(self) -> None:
        key = self._key()
        assert self.subject.get(key) == self._as_subject(self.model.get(key))

    def read_many(self) -> None:
        keys = [self._key() for _ in range(self.chance.randrange(12))]
        assert self.subject.get_many(keys) == [self._as_subject(row) for row in self.model.get_many(keys)]

    def scan(self) -> None:
        span = self._span()
        options = {name: self.chance.random() < 0.3 for name in ("reverse", "keys_only")}
        size = self.chance.randrange(1, 9)
        mine, theirs = (store.open_cursor(span, **options) for store in (self.model, self.subject))
        if self.chance.random() < 0.3:
            self.commit()
        limit = self.chance.choice((0, 3, 1 << 60))
        if limit:
            assert theirs.count(limit) == mine.count(limit)
        assert drain(theirs, size) == [self._as_subject(row) for row in drain(mine, size)]
        mine.close()
        theirs.close()

    def tick(self) -> None:
        self.clock.advance(self.chance.randrange(1, 40))

    def flush(self) -> None:
        self.subject.flush()

    def compact(self) -> None:
        self.subject.compact(self._span() if self.chance.random() < 0.5 else None)

    def sweep(self) -> None:
        after = RowKey(b"")
        while after := self.subject.sweep_expired(after, self.chance.randrange(1, 20)):
            pass
        if self.subject.status().name == "native":
            self.subject.compact()  # Its sweep does nothing; compactions drop what has expired.
        for namespace_id in NAMESPACES:
            cursor = self.subject.open_cursor(namespace_span(namespace_id), raw=True)
            now_ms = self.clock.now_ms()
            while page := cursor.fetch(100, 1 << 60):
                assert all(not 0 < row.expires_at_ms <= now_ms for row in page)
            cursor.close()

    def reclaim(self) -> None:
        banned = self.chance.sample(NAMESPACES, self.chance.choice((1, 1, 2, len(NAMESPACES))))
        for store in (self.model, self.subject):
            store.publish_bans(banned)
            store.reclaim(banned, on_progress=lambda _namespace_id, _progress: None, stop=lambda: False)
        for namespace_id in banned:
            assert self.subject.prove_empty(namespace_span(namespace_id)).empty
            assert self.subject.span_size(namespace_span(namespace_id)) == (0, 0)
        for store in (self.model, self.subject):
            store.withdraw_bans(banned)

    def restart(self) -> None:
        self.subject.close()
        self.subject = self._open()

    def power_cut(self) -> None:
        self.subject._wake.set()
        await_saved(self._data_dir(), self.subject.status().last_version)
        before = self._data_dir()
        self.generation += 1
        shutil.copytree(before, self._data_dir())
        self.subject.close()
        shutil.rmtree(before)
        self.subject = self._open()

    def compare_everything(self) -> None:
        for namespace_id in NAMESPACES:
            span = namespace_span(namespace_id)
            mine, theirs = self.model.open_cursor(span), self.subject.open_cursor(span)
            assert drain(theirs, 50) == [self._as_subject(row) for row in drain(mine, 1 << 30)]
            theirs.close()

    def _open(self) -> Store:
        return self.open_store(self._data_dir(), clock=self.clock)

    def _data_dir(self) -> Path:
        return self.directory / f"data-{self.generation}"

    def _key(self) -> RowKey:
        return data_key(
            self.chance.choice(NAMESPACES), self.chance.choice((0, 0, 0, 1, 65535)), self.chance.choice(USER_KEYS)
        )

    def _span(self) -> Span:
        if self.chance.random() < 0.3:
            return namespace_span(self.chance.choice(NAMESPACES))
        begin, end = sorted((self._key(), self._key()))
        return Span(begin, end)

    def _payload(self) -> bytes:
        return self.chance.choice((b"", b"same", self.chance.randbytes(30), self.chance.randbytes(3_000)))

    def _random_commit(self) -> Commit:
        return Commit(
            tuple(self._mutation() for _ in range(self.chance.choice((0, 1, 1, 1, 2, 6)))),
            tuple(self._condition() for _ in range(self.chance.choice((0, 0, 0, 1, 2)))),
            tuple(self._condition() for _ in range(self.chance.choice((0, 0, 0, 1)))),
        )

    def _mutation(self) -> Mutation:
        kind = self.chance.random()
        if kind < 0.7:
            lifetime = self.chance.choice((0, 0, 1, 50, 500))
            return Put(self._key(), self._payload(), self.clock.now_ms() + lifetime if lifetime else 0)
        return Delete(self._key()) if kind < 0.92 else DeleteSpan(self._span())

    def _condition(self) -> Condition:
        key = self._key()
        row = self.model.get(key)
        return self.chance.choice(
            (
                Absent(key) if row is None else Exists(key),
                Absent(key),
                VersionIs(key, row.version if row else 0),
                ValueIs(key, row.payload if row else b"same"),
                ValueIs(key, b"same"),
            )
        )

    def _translated(self, commit: Commit) -> Commit:
        def translate(condition: Condition) -> Condition:
            if isinstance(condition, VersionIs):
                return VersionIs(condition.key, self.subject_version[condition.version])
            return condition

        return Commit(commit.mutations, tuple(map(translate, commit.conditions)), tuple(map(translate, commit.guards)))

    def _as_subject(self, row: Row | None) -> Row | None:
        return None if row is None else row._replace(version=self.subject_version[row.version])


@pytest.mark.timeout(3600)
def test_the_store_answers_like_a_dict_whatever_happens(tmp_path: Path, open_store: OpenStore) -> None:
    lives = Lives(tmp_path, random.Random(SEED), open_store)
    done = 0
    try:
        while done < OPERATIONS:
            done += 1
            lives.step()
        lives.compare_everything()
        lives.restart()
        lives.compare_everything()
    except BaseException:
        print(f"\nreplay with PREFIXDB_MODEL_SEED={SEED} PREFIXDB_MODEL_OPS={done}")
        raise
    finally:
        lives.subject.close()
