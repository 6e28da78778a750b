"""Goal: archives on their way in leave the disk to rows and to each other, whoever sends them.

Method: a disk of a known size that only spools fill, small enough to be filled; then real uploads over a socket.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from prefixdb.backup import spool_room
from prefixdb.backup.spool_room import SpoolRoom
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.limits import KIB, MIB, SPOOLED_PER_NAMESPACE_PERCENT, SPOOLED_PERCENT
from tests.service.staging import frames as namespace_archive
from tests.service.staging import restore
from tests.support.importing import Importing, archive_of, imported, refusal_of
from tests.support.server import RunningServer, eventually, running

NOISE = random.Random(1).randbytes(64 * KIB)


def noisy(size: int) -> list[bytes]:
    """Return the frames of an archive of about this many bytes that does not compress."""
    rows = [(0, b"k%06d" % number, NOISE[number % 1_000 :], number + 1, 0) for number in range(size // len(NOISE))]
    return archive_of(rows, frame_rows=1)


class SmallDisk:
    """A disk of which only spools take."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.room: SpoolRoom = SpoolRoom(Path(), lambda _: self.free)

    @property
    def free(self) -> int:
        return self.size - self.room._taken.total()


@pytest.fixture
def small(monkeypatch: Any) -> None:
    """Have spools measured in small pieces, and nothing kept back."""
    monkeypatch.setattr(spool_room, "PIECE_BYTES", 16 * KIB)
    monkeypatch.setattr(spool_room, "RESERVE_BYTES", 0)


def on_a_disk_of(server: RunningServer, size: int) -> SpoolRoom:
    """Have the server believe in a disk of this size."""
    disk = SmallDisk(size)
    disk.room = server.app.spool_room
    disk.room._free = lambda _: disk.free
    return disk.room


def test_shares_are_of_the_room_without_spools_and_are_given_back() -> None:
    disk = SmallDisk(3_000 * MIB)
    one, two, three = (disk.room.share(number) for number in (1, 1, 2))
    most = disk.size * SPOOLED_PER_NAMESPACE_PERCENT // 100
    one.grow(most - 10 * MIB)
    with pytest.raises(PrefixdbError) as refused:
        two.grow(11 * MIB)
    assert refused.value.reason is Reason.QUOTA_EXCEEDED
    assert refused.value.metadata["limit"] == str(most)
    two.grow(9 * MIB)
    three.grow(disk.size * SPOOLED_PERCENT // 100 - most)
    with pytest.raises(PrefixdbError) as refused:
        three.grow(disk.size * SPOOLED_PERCENT // 100 - most + 2 * MIB)
    assert refused.value.reason is Reason.DISK_FULL
    for share in (one, two, three, three):
        share.close()
    assert disk.room.taken(1) == disk.room.taken(2) == 0
    disk.size = spool_room.RESERVE_BYTES + MIB // 2
    three.grow(MIB - 1)
    with pytest.raises(PrefixdbError) as refused:
        three.grow(MIB)
    assert refused.value.reason is Reason.DISK_FULL


@pytest.mark.usefixtures("small")
def test_one_namespace_cannot_keep_the_others_archives_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            room = on_a_disk_of(server, 6 * MIB)
            home, other = server.create("home"), server.create("other")
            mine = server.caller(home, groups=("writers",), subject="mine")
            kept = Importing(mine)
            await kept.ready()
            await kept.send(noisy(MIB + MIB // 2)[:-1])
            await eventually(lambda: room.taken(home.id) > MIB, "spooled")
            kept.call.cancel()
            await eventually(lambda: all(each.is_idle for each in server.app.imports._uploads.values()), "kept")
            somebody_else = server.caller(home, groups=("writers",), subject="else")
            refused = await refusal_of(server.app.address, somebody_else, noisy(MIB))
            assert refused is not None and refused.reason is Reason.QUOTA_EXCEEDED
            assert (await imported(server.caller(other, groups=("writers",)), noisy(MIB))).rows_inserted == 16
            # Whoever begins anew is not kept out by what it has given up itself.
            await eventually(lambda: len(server.app.imports) == 1, "only the kept one is left")
            second = Importing(mine)
            await second.ready()
            await eventually(lambda: len(server.app.imports) == 1, "the old one gave way")
            await second.send(noisy(MIB))
            assert (await second.done()).rows_inserted == 16
            await eventually(lambda: room.taken(home.id) == room.taken(other.id) == 0, "given back")

    asyncio.run(scenario())


@pytest.mark.usefixtures("small")
def test_archives_that_are_restored_are_bounded_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            room = on_a_disk_of(server, MIB)
            rows = [(0, b"k%06d" % number, NOISE, number + 1, 0) for number in range(16)]
            with pytest.raises(PrefixdbError) as refused:
                await restore(server, namespace_archive(rows, page=1), name="back")
            assert refused.value.reason is Reason.QUOTA_EXCEEDED
            await eventually(lambda: room.taken(0) == 0, "given back")
            await restore(server, namespace_archive(rows[:4], page=1), name="back")
            await eventually(lambda: room.taken(0) == 0, "given back")

    asyncio.run(scenario())
