"""Goal: the audit is read back over the wire exactly as it is on disk, by those who may, without filling the memory.

Method: the file of a real server and what the call gives are compared as bytes; the page limits are moved within reach.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from prefixdb.catalog.entities import Privilege
from prefixdb.clock import SystemClock
from prefixdb.errors import PrefixdbError, Reason
from prefixdb.server import audit as module
from prefixdb.server.audit import AuditFile
from prefixdb.service.ports import AuditEntry
from prefixdb.v1 import maintenance_pb2 as pb
from tests.support.server import Caller, eventually, running


async def pages(caller: Caller, newest: int = 0) -> list[list[str]]:
    """Return the pages of a call."""
    found = await caller.pages(caller.maintenance.ReadAudit, pb.ReadAuditRequest(newest=newest))
    return [list(page.lines) for page in found]


def flat(found: list[list[str]]) -> list[str]:
    return [line for page in found for line in page]


async def fill(audit: Any, lines: int, size: int = 10) -> None:
    """Write so many lines of about so many bytes each."""
    await asyncio.gather(*(audit.record(AuditEntry(user="x" * size, target=str(number))) for number in range(lines)))


@pytest.mark.parametrize("newest", [0, 1, 2, 9, 10, 11, 49, 50, 51, 2**32 - 1])
def test_the_newest_lines_come_oldest_first_and_as_they_are(
    tmp_path: Path, newest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_LINES_MAX", 10)
    monkeypatch.setattr(module, "_BLOCK_BYTES", 100)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            await fill(server.app.audit, 50)
            lines = (server.app.config.data_dir / "audit.jsonl").read_text(encoding="ascii").splitlines()
            assert len(lines) == 50
            found = await pages(server.guardian, newest)
            assert flat(found) == (lines[-newest:] if newest else lines)
            assert all(0 < len(page) <= 10 for page in found)

    asyncio.run(main())


def test_a_page_is_bounded_in_bytes_but_for_a_single_longer_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_BYTES_MAX", 2_000)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            await fill(server.app.audit, 12, 400)
            await fill(server.app.audit, 2, 100_000)
            found = await pages(server.guardian)
            assert [len(page) for page in found] == [4, 4, 4, 1, 1] or sum(map(len, found)) == 14
            assert all(sum(len(line) + 1 for line in page[:-1]) < 2_000 for page in found)

    asyncio.run(main())


def test_an_empty_audit_has_no_page(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            assert await pages(server.guardian) == await pages(server.guardian, 5) == []

    asyncio.run(main())


def test_the_privilege_audit_reads_and_others_do_not_and_their_refusal_is_in_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            acme = server.create("acme")
            server.member(0, "reviser", groups=(), privileges=(Privilege.AUDIT,))
            server.member(0, "editor", groups=("writers",), privileges=(Privilege.NAMESPACES_EDIT,))
            reviser, editor = await server.login("reviser"), await server.login("editor")
            for caller in (server.caller(acme), editor, server.caller(0)):
                with pytest.raises(PrefixdbError) as caught:
                    await pages(caller)
                assert caught.value.reason is Reason.NOT_PERMITTED
            found = flat(await pages(reviser))
            assert len(found) == 5 and found == flat(await pages(server.guardian))
            assert [line.count('"method":"/prefixdb.v1.Maintenance/ReadAudit"') for line in found] == [0, 0, 1, 1, 1]

    asyncio.run(main())


def test_what_is_being_written_or_comes_later_is_not_in_the_answer(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "audit.jsonl"
        audit = AuditFile(path, SystemClock())
        await fill(audit, 3)
        begin, end = audit.newest()
        await fill(audit, 1)
        with path.open("ab") as file:
            file.write(b'{"seq":5,"torn')
        lines, position = audit.page(begin, end)
        assert len(lines) == 3 and position == end
        assert len(audit.page(*audit.newest())[0]) == 4, "the torn line is nobody's"
        assert len(audit.page(*audit.newest(1))[0]) == 1
        await audit.close()

    asyncio.run(main())


def test_a_reopened_audit_reads_what_was_there(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "audit.jsonl"
        first = AuditFile(path, SystemClock())
        await fill(first, 4)
        await first.close()
        second = AuditFile(path, SystemClock())
        assert len(second.page(*second.newest())[0]) == 4
        await second.close()

    asyncio.run(main())


def test_an_audit_that_was_cut_or_removed_is_told_and_not_shortened(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            path = server.app.config.data_dir / "audit.jsonl"
            await fill(server.app.audit, 20)
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.truncate(size - 5)
            for newest in (0, 3):
                with pytest.raises(PrefixdbError) as caught:
                    await pages(server.guardian, newest)
                assert caught.value.reason is Reason.AUDIT_UNAVAILABLE
            path.unlink()
            with pytest.raises(PrefixdbError) as caught:
                await pages(server.guardian)
            assert caught.value.reason is Reason.AUDIT_UNAVAILABLE

    asyncio.run(main())


def test_a_reader_who_loses_the_right_or_goes_away_ends_the_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_BYTES_MAX", 1)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            server.member(0, "reviser", groups=(), privileges=(Privilege.AUDIT,))
            await fill(server.app.audit, 120, 200 * 1024)
            for how in ("leaves", "loses the right"):
                reviser = await server.login("reviser")
                call = reviser.maintenance.ReadAudit(pb.ReadAuditRequest(), metadata=reviser.metadata)
                await call.read()
                open_streams = server.app.streams
                await eventually(lambda: any(s.waiting_until for s in open_streams._streams), "it waits")  # noqa: B023
                if how == "leaves":
                    call.cancel()
                else:
                    members = server.app.authority.identities.members
                    await asyncio.to_thread(lambda: members.update(0, "reviser", privileges=()))  # noqa: B023
                await eventually(lambda: not any(s.viewing for s in open_streams._streams), "it ends", 1.0)  # noqa: B023
                if how == "loses the right":
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        while await call.read() is not grpc.aio.EOF:
                            pass
                    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(main())


def test_a_reading_that_nobody_cuts_looks_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefixdb.service.streams.Stream.recheck", lambda _: None)

    async def main() -> None:
        async with running(tmp_path / "data") as server:
            server.member(0, "reviser", groups=(), privileges=(Privilege.AUDIT,))
            reviser = await server.login("reviser")
            members, audit = server.app.authority.identities.members, server.app.audit
            page = audit.page

            def slow(begin: int, end: int) -> tuple[list[str], int]:
                members.update(0, "reviser", privileges=())
                return page(begin, end)

            audit.page = slow  # type: ignore[method-assign]
            with pytest.raises(PrefixdbError) as caught:
                await pages(reviser)
            assert caught.value.reason is Reason.NOT_PERMITTED

    asyncio.run(main())
