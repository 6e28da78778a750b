"""Goal: the two clients offer the same, and the few differences are the ones that are meant.

Method: public names and signatures are compared by reflection; the rest is in the generated tests.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import threading

import pytest

from prefixdb import connect_async
from prefixdb.client import aio, sync
from prefixdb.testing import Namespace

CLASSES = {"Batch": "batch", "Database": "database", "Guardian": "guardian", "Pipeline": "pipeline"} | {
    "Transaction": "transaction", "Namespaces": "namespaces", "Members": "members", "Groups": "groups",
    "Grants": "grants", "Audit": "audit", "Tokens": "guardian", "Keys": "guardian", "Maintenance": "guardian",
    "Connection": "connection", "Access": "access", "Login": "login", "Keeper": "keeping",
}  # fmt: skip
"""Class to the module it is in."""


@pytest.mark.parametrize("name", CLASSES)
def test_both_have_the_same_methods_with_the_same_arguments(name: str) -> None:
    theirs, ours = (
        getattr(importlib.import_module(f"{package.__name__}.{CLASSES[name]}"), class_name)
        for package, class_name in ((aio, f"Async{name}"), (sync, name))
    )
    public = {member for member in dir(theirs) if not member.startswith("_")}
    assert public == {member for member in dir(ours) if not member.startswith("_")}
    for member in public:
        one, other = inspect.getattr_static(theirs, member), inspect.getattr_static(ours, member)
        if inspect.isfunction(one):
            assert list(inspect.signature(one).parameters) == list(inspect.signature(other).parameters), member


def test_the_sync_client_has_in_and_refuses_to_be_iterated(place: Namespace) -> None:
    with place.connect() as db:
        db.put("k", b"v")
        assert "k" in db
        assert b"absent" not in db
        with pytest.raises(TypeError):
            iter(db)


def test_the_async_client_says_what_to_write_instead_of_in(place: Namespace) -> None:
    async def look() -> None:
        async with place.connect_async() as db:
            with pytest.raises(TypeError, match="exists"):
                assert "k" in db
            with pytest.raises(TypeError):
                iter(db)

    asyncio.run(look())


def test_the_sync_client_may_be_shared_by_threads(place: Namespace) -> None:
    with place.connect() as db:
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for step in range(20):
                    db.put(f"{number}/{step}", b"%d" % step)
                    assert db.get(f"{number}/{step}") == b"%d" % step
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert db.count() == 160


def test_cancelling_a_task_cancels_its_call_and_the_client_lives_on(place: Namespace) -> None:
    async def scenario() -> None:
        async with place.connect_async() as db:
            task = asyncio.create_task(db.put("k", b"v"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await db.put("l", b"v")
            assert await db.get("l") == b"v"

    asyncio.run(scenario())


def test_a_client_may_be_made_outside_of_the_event_loop() -> None:
    db = connect_async("127.0.0.1:1")
    asyncio.run(db.close())
