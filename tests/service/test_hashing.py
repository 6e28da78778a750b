"""Goal: hashing passwords never takes more memory or threads than it may, and what does not fit is told so at once.

Method: the hashing pool with a verification that waits for the test in place of the real one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from prefixdb.errors import PrefixdbError, Reason
from prefixdb.service import hashing as module
from prefixdb.service.hashing import (
    LOGINS_SHARE,
    RESERVED,
    RETRY_MS,
    TOKENS_SHARE,
    WAITING_MAX,
    WORKERS_MAX,
    Hashing,
)
from tests.support.server import eventually


class Gauge:
    """A verification that waits until it is let go, and counts how many are inside at once."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.most = self.inside = self.done = 0
        self._lock = threading.Lock()

    def __call__(self, *_: str) -> bool:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self.go.wait(30)
        with self._lock:
            self.inside -= 1
            self.done += 1
        return True


@pytest.fixture
def gauge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gauge]:
    gauge = Gauge()
    monkeypatch.setattr(module, "verify_password", gauge)
    monkeypatch.setattr(module, "hash_password", gauge)
    yield gauge
    gauge.go.set()


async def refused(work: object) -> PrefixdbError:
    with pytest.raises(PrefixdbError) as caught:
        await work  # type: ignore[misc]
    return caught.value


@pytest.mark.parametrize("workers", [1, 3])
def test_a_few_run_some_wait_and_the_rest_is_told_when_to_come_again(gauge: Gauge, workers: int) -> None:
    async def main() -> None:
        hashing = Hashing(workers)
        fits = workers + WAITING_MAX
        tasks = [asyncio.create_task(hashing.verify("h", "p", home=n)) for n in range(fits)]
        await eventually(lambda: hashing.pending == fits and gauge.inside == workers, "all wait or run")
        refusal = await refused(hashing.verify("h", "p", home="other"))
        assert refusal.reason is Reason.RATE_LIMITED and refusal.retry_after_ms == RETRY_MS
        gauge.go.set()
        assert await asyncio.gather(*tasks) == [True] * fits
        assert gauge.most == workers and hashing.pending == 0
        assert await hashing.verify("h", "p", home="other"), "there is room again"
        hashing.close()

    asyncio.run(main())


def test_a_flood_of_logins_leaves_room_for_those_who_hold_a_token(gauge: Gauge) -> None:
    async def main() -> None:
        hashing = Hashing(1)
        tasks = [asyncio.create_task(hashing.verify("h", "p", home=n)) for n in range(1 + WAITING_MAX)]
        await eventually(lambda: hashing.pending == 1 + WAITING_MAX, "the queue is full")
        tasks += [asyncio.create_task(hashing.hash("p", namespace_id=n)) for n in range(RESERVED - 1)]
        tasks.append(asyncio.create_task(hashing.verify_own("h", "p", namespace_id=99)))
        await eventually(lambda: hashing.pending == 1 + WAITING_MAX + RESERVED, "the reserve is used")
        for work in (
            hashing.hash("p", namespace_id=99),
            hashing.verify_own("h", "p", namespace_id=99),
            hashing.verify("h", "p", home="other"),
        ):
            assert (await refused(work)).reason is Reason.RATE_LIMITED
        gauge.go.set()
        await asyncio.gather(*tasks)
        hashing.close()

    asyncio.run(main())


def test_one_namespaces_logins_leave_half_of_the_queue_to_the_others(gauge: Gauge) -> None:
    async def main() -> None:
        hashing = Hashing(1)
        tasks = [asyncio.create_task(hashing.verify("h", "p", home="noisy")) for _ in range(3 * WAITING_MAX)]
        await eventually(lambda: hashing.pending == 1 + LOGINS_SHARE, "its share is used")
        tasks.append(asyncio.create_task(hashing.verify("h", "p", home="quiet")))
        await eventually(lambda: hashing.pending == 2 + LOGINS_SHARE, "others have theirs")
        gauge.go.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert outcomes[-1] is True and outcomes.count(True) == 2 + LOGINS_SHARE
        assert await hashing.verify("h", "p", home="noisy") and not hashing._logins
        hashing.close()

    asyncio.run(main())


def test_a_tenant_that_sets_passwords_without_end_waits_for_itself_and_keeps_nobody_out(gauge: Gauge) -> None:
    async def main() -> None:
        hashing = Hashing(1)
        tasks = [asyncio.create_task(hashing.hash("p", namespace_id=5)) for _ in range(200)]
        tasks += [asyncio.create_task(hashing.verify_own("h", "p", namespace_id=5)) for _ in range(200)]
        await eventually(lambda: hashing.pending == TOKENS_SHARE, "it has its share")
        others = [asyncio.create_task(hashing.verify("h", "p", home="quiet"))]
        others.append(asyncio.create_task(hashing.hash("p", namespace_id=6)))
        others.append(asyncio.create_task(hashing.verify_own("h", "p", namespace_id=7)))
        await eventually(lambda: hashing.pending == TOKENS_SHARE + 3, "the others have theirs")
        gauge.go.set()
        assert all(await asyncio.gather(*others)) and all(await asyncio.gather(*tasks))
        assert not hashing._turns and gauge.done == 403
        hashing.close()

    asyncio.run(main())


def test_whoever_goes_away_while_waiting_gives_its_place_back(gauge: Gauge) -> None:
    async def main() -> None:
        hashing = Hashing(1)
        tasks = [asyncio.create_task(hashing.verify("h", "p", home=n)) for n in range(1 + WAITING_MAX)]
        await eventually(lambda: hashing.pending == 1 + WAITING_MAX and gauge.inside == 1, "the queue is full")
        for task in tasks[1:]:
            task.cancel()
        await eventually(lambda: hashing.pending == 1, "the places are free")
        gauge.go.set()
        await tasks[0]
        assert gauge.done == 1, "somebody's password was hashed after it had gone"
        hashing.close()

    asyncio.run(main())


def test_after_the_end_nobody_waits_for_ever(gauge: Gauge) -> None:
    async def main() -> None:
        hashing = Hashing(1)
        running, waiting = (asyncio.create_task(hashing.verify("h", "p", home=0)) for _ in range(2))
        await eventually(lambda: gauge.inside == 1 and hashing.pending == 2, "one runs and one waits")
        hashing.close()
        assert (await refused(hashing.verify("h", "p", home=0))).reason is Reason.DRAINING
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gauge.go.set()
        assert await running

    asyncio.run(main())


@pytest.mark.parametrize(("cpus", "workers"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 4), (64, WORKERS_MAX)])
def test_a_processor_is_left_for_serving(cpus: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: set(range(cpus)))
    hashing = Hashing()
    assert hashing.workers == workers
    hashing.close()
