"""Goal: an import tells nobody which keys there are that they may not read, and is not held up by changes among others.

Method: the same archives into a namespace with a hidden row and into one without; whatever the server says has to be
the same. Sessions are made anew while an upload is under way, and it is counted how often rows are read again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from prefixdb.catalog.entities import Rule
from prefixdb.service.uploads import Upload
from tests.service.test_export import fill
from tests.support.importing import OVERWRITE, ArchivedRow, Importing, archive_of, imported
from tests.support.server import eventually, running

MANY = 12_000
"""Rows of an import that is no single commit."""

RULES = {
    "writes and does not read": (Rule(None, b"", read=False, write=True),),
    "reads on both sides of what is hidden": (
        Rule(0, b"a/", read=True, write=True),
        Rule(0, b"z/", read=True, write=True),
    ),
    "reads whole databases, not the one between": (
        Rule(0, b"", read=True, write=True),
        Rule(9, b"", read=True, write=True),
    ),
}


def around(hidden: tuple[int, bytes]) -> list[ArchivedRow]:
    """Return rows on both sides of a hidden one."""
    last = (0, b"z/") if hidden[0] == 0 else (9, b"a/")
    rows = [(0, b"a/%06d" % number, b"", number + 1, 0) for number in range(MANY)]
    return [*rows, (*last, b"", MANY + 1, 0)]


@pytest.mark.parametrize("kind", RULES)
def test_the_way_rows_come_in_does_not_tell_of_a_row_that_may_not_be_read(tmp_path: Path, kind: str) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            hidden = (5, b"h") if "databases" in kind else (0, b"h/secret")
            said: list[Any] = []
            for name in ("with", "without"):
                home = server.create(name)
                server.add_group(home.id, "mine", *RULES[kind])
                if name == "with":
                    fill(server, home.id, {hidden: b"hidden"})
                caller = server.caller(home, groups=("mine",))
                done = await imported(caller, archive_of(around(hidden)), on_conflict=OVERWRITE)
                said.append((done.way, done.rows_inserted, done.rows_replaced, done.rows_skipped))
            assert said[0] == said[1] == ("batches", MANY + 1, 0, 0)

    asyncio.run(scenario())


def test_what_was_held_against_rules_is_not_read_again_for_changes_among_others(
    tmp_path: Path, monkeypatch: Any
) -> None:
    async def scenario() -> None:
        async with running(tmp_path / "data") as server:
            home = server.create("home")
            server.member(home, "ann", groups=("writers",))
            read_again: list[int] = []
            original = Upload.recheck
            monkeypatch.setattr(
                Upload, "recheck", lambda self, session: (read_again.append(1), original(self, session))
            )
            one = Importing(await server.login("ann", home=home))
            await one.ready()
            frames = archive_of([(0, b"%d" % number, b"", 1, 0) for number in range(9)], frame_rows=3)
            groups = server.app.authority.identities.groups
            groups.create(home.id, "others", (Rule(7, b"", read=True, write=False),))
            uploads = server.app.imports._uploads.values()
            for number, frame in enumerate(frames):
                await one.send([frame])
                # A change among the namespace's people makes each of its sessions a new one.
                groups.update(home.id, "others", (Rule(number, b"", read=True, write=False),))
                kept = number + 1
                await eventually(lambda kept=kept: all(each.spool.reader.frames == kept for each in uploads), "kept")
            await eventually(lambda: any(each.spool.ended for each in server.app.imports._uploads.values()), "ended")
            assert (await one.done()).rows_inserted == 9
            assert not read_again

    asyncio.run(scenario())
