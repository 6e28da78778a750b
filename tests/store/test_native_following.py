"""Who uses the native engine beside the store is told which one it is, and whether its writes need a look, in time.

Method: a follower that writes down what it is told, while engines fail, are exchanged and closed, and space gets low.
What it would have met in an engine is handed to the store, which must find the error its own callers get.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.limits import MIB
from prefixdb.store import reserve
from prefixdb.store.base import Commit, Put
from tests.support.crash_image import row_key
from tests.support.faulty_engine import NO_SPACE, STALL, SYNC_FAILED, Faults
from tests.support.waiting import wait_for

module = pytest.importorskip("prefixdb._native.module", reason="the native store is not built in", exc_type=ImportError)


class Front:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.engines: list[Any] = []
        self.punts: list[bool] = []

    def set_store(self, engine: Any) -> None:
        self.engines.append(engine)

    def punt_writes(self, punt: bool) -> None:
        self.punts.append(punt)


@pytest.fixture
def faults() -> Faults:
    return Faults("native")


@pytest.fixture
def store(faults: Faults, tmp_path: Path) -> Iterator[Any]:
    opened = faults.open_store(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def front(store: Any) -> Front:
    made = Front()
    store.follow(made)
    return made


def engine_error(text: str, *, attempted: bool = True) -> Exception:
    failure: Exception = module.EngineError(text)
    failure.attempted = attempted  # type: ignore[attr-defined]
    return failure


def put(store: Any) -> None:
    store.commit(Commit((Put(row_key(0), b"x"),)))


def test_it_is_told_of_the_engine_and_of_its_end(store: Any, front: Front, faults: Faults) -> None:
    assert front.engines == [faults.engines[-1].handle] and front.punts == [False]
    store.close()
    assert front.engines[-1] is None


def test_writes_are_punted_from_a_failure_until_the_engine_was_exchanged(
    store: Any, front: Front, faults: Faults
) -> None:
    first = faults.engines[-1].handle
    faults.write_text = NO_SPACE
    with pytest.raises(PrefixdbError):
        put(store)
    assert front.punts[-1] is True
    faults.write_text = None
    wait_for(lambda: front.punts[-1] is False)
    assert front.engines[-1] is faults.engines[-1].handle is not first


def test_writes_are_punted_while_space_is_low(store: Any, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserve, "free_bytes", lambda _: 3 * MIB - 1)
    store._wake.set()
    wait_for(lambda: front.punts[-1])
    with pytest.raises(PrefixdbError) as refused:
        store.check_ready("write", only_deletes=False)
    assert refused.value.reason is Reason.DISK_FULL
    store.check_ready("write", only_deletes=True)
    store.check_ready("read", only_deletes=False)
    monkeypatch.setattr(reserve, "free_bytes", lambda _: 1 << 40)
    store._wake.set()
    wait_for(lambda: not front.punts[-1])
    store.check_ready("write", only_deletes=False)


def test_a_write_that_failed_is_judged_and_noted_as_the_stores_own(store: Any, front: Front, faults: Faults) -> None:
    faults.write_text = SYNC_FAILED
    with pytest.raises(Exception, match="fdatasync"):  # As the front would meet it.
        faults.engines[-1].commit([Commit((Put(row_key(0), b"x"),))], 1)
    judged = store.translated("write", engine_error(SYNC_FAILED))
    assert judged.reason is Reason.OUTCOME_UNKNOWN
    assert store.refuses_writes() and front.punts[-1] is True
    refused = store.translated("write", engine_error(SYNC_FAILED, attempted=False))
    assert refused.reason is Reason.READ_ONLY_STORE


def test_a_failure_of_the_engine_before_does_not_fail_the_one_in_use(store: Any, front: Front, faults: Faults) -> None:
    faults.write_text = SYNC_FAILED
    with pytest.raises(PrefixdbError):
        put(store)
    faults.write_text = None
    wait_for(lambda: front.punts[-1] is False)
    assert store.translated("write", engine_error(SYNC_FAILED)).reason is Reason.OUTCOME_UNKNOWN
    assert not store.refuses_writes()


@pytest.mark.parametrize(
    ("doing", "failure", "reason"),
    [
        ("read", module.DamagedRowError("x"), Reason.CORRUPTION),
        ("write", module.DamagedRowError("x"), Reason.CORRUPTION),
        ("read", module.EngineClosedError("x"), Reason.READ_ONLY_STORE),
        ("write", module.EngineClosedError("x"), Reason.READ_ONLY_STORE),
        ("write", engine_error(STALL), Reason.WRITE_STALL),
        ("read", engine_error("Corruption: block checksum mismatch"), Reason.CORRUPTION),
        ("write", engine_error("Corruption: block checksum mismatch"), Reason.CORRUPTION),
    ],
)
def test_what_was_met_is_translated(store: Any, front: Front, doing: str, failure: Exception, reason: Reason) -> None:
    assert store.translated(doing, failure).reason is reason
    assert not store.refuses_writes() and front.punts[-1] is False


def test_rows_of_others_end_everything(store: Any, front: Front) -> None:
    assert store.translated("read", module.SpanViolationError("x")).reason is Reason.INTERNAL
    assert front.engines[-1] is None
    with pytest.raises(PrefixdbError):
        store.get(row_key(0))


def test_a_forked_child_tells_it_nothing(store: Any, front: Front) -> None:
    told = len(front.engines) + len(front.punts)
    child = os.fork()
    if child == 0:
        os._exit(0 if len(front.engines) + len(front.punts) == told else 1)
    assert os.waitpid(child, 0)[1] == 0
