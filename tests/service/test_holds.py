"""Goal: work that holds a namespace without being a stream of it is counted, and told to end when it may not go on.

Method: the registry of open streams by itself, in an event loop; what a hold looks at is a flag.
"""

from __future__ import annotations

import asyncio

import pytest

from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.service.streams import OpenStreams


def test_a_hold_is_a_view_without_a_slot_and_is_told_once_why_it_ends() -> None:
    async def scenario() -> None:
        streams = OpenStreams(asyncio.get_running_loop())
        banned: list[int] = []
        told: list[tuple[int, PrefixdbError]] = []

        def check(number: int) -> None:
            if number in banned:
                raise error(Reason.NAMESPACE_BANNED)

        with (
            streams.hold(7, lambda: check(7), lambda why: told.append((1, why))),
            streams.hold(7, lambda: check(7), lambda why: told.append((2, why))),
            streams.hold(8, lambda: check(8), lambda why: told.append((3, why))),
        ):
            assert (streams.views(7), streams.views(8), len(streams)) == (2, 1, 0)
            streams.poke(7)
            streams.look()
            await asyncio.sleep(0)
            assert told == []
            banned.append(7)
            streams.poke(8)
            await asyncio.sleep(0)
            assert told == []
            streams.poke(7)
            await asyncio.sleep(0)
            assert sorted(number for number, _ in told) == [1, 2]
            assert {why.reason for _, why in told} == {Reason.NAMESPACE_BANNED}
            banned.append(8)
            streams.look()
            streams.look()
            assert sorted(number for number, _ in told) == [1, 2, 3]
            assert streams.views(7) == 2, "told is not ended"
        assert (streams.views(7), streams.views(8)) == (0, 0)
        streams.look()
        assert len(told) == 3

    asyncio.run(scenario())


def test_a_hold_that_comes_too_late_is_refused_after_it_was_counted() -> None:
    async def scenario() -> None:
        streams = OpenStreams(asyncio.get_running_loop())
        views: list[int] = []

        def check() -> None:
            views.append(streams.views(7))
            raise error(Reason.NAMESPACE_BANNED)

        with pytest.raises(PrefixdbError), streams.hold(7, check, lambda why: pytest.fail("nobody is told")):
            pytest.fail("it was let in")
        # Counted first: a ban between the look and the count would find nobody there.
        assert views == [1]
        assert streams.views(7) == 0

    asyncio.run(scenario())
