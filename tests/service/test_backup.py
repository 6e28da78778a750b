"""Goal: a backup is the whole store at one instant, for those who may, and leaves nothing behind in any case.

Method: clients over a real socket that are wrong, many, slow, gone or banned meanwhile; what is left on the server is
looked for in its store, its directory and its audit.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from prefixdb.backup import sums as module
from prefixdb.catalog.entities import Guardian, Privilege, ReclaimPhase
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.service import backups
from prefixdb.service.streams import SWEEP_S
from prefixdb.v1 import key_value_pb2 as kv
from prefixdb.v1 import transfer_pb2 as pb
from tests.support.backups import Taking, list_bans, take_backup, transfer
from tests.support.server import Caller, RunningServer, error_of, eventually, running

BEGIN = pb.BackupRequest(begin=pb.BackupBegin())
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def no_wait_for_the_next_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the wait is for is tested where tokens are; here it would only take time."""

    async def at_once(*_: object) -> None:
        return

    monkeypatch.setattr(backups.Backups, "_leave_second", at_once)


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Start a server; at the end of the test no snapshot may be left in it."""
    async with running(tmp_path / "data") as server:
        yield server
        await eventually(lambda: is_clean(server), "no snapshot is left")


def is_clean(server: RunningServer) -> bool:
    folder = server.app.config.data_dir / "snapshots"
    empty = not folder.exists() or not any(folder.iterdir())
    return empty and server.app.store.status().extra["open_snapshots"] == "0"


async def fill(caller: Caller, mib: int) -> None:
    """Write rows that do not compress into one another."""
    for number in range(mib):
        value = random.Random(number).randbytes(MIB - 16)
        await caller.call(caller.key_value.Put, kv.PutRequest(key=b"fill/%d" % number, value=value))


def audit_of(server: RunningServer, method: str = "Backup") -> list[dict[str, Any]]:
    lines = (server.app.config.data_dir / "audit.jsonl").read_text(encoding="ascii").splitlines()
    return [entry for entry in map(json.loads, lines) if entry["method"].endswith(f"Transfer/{method}")]


async def refusal_of(caller: Caller, *requests: pb.BackupRequest) -> PrefixdbError:
    """Return why a call that sends this and then nothing more is ended."""
    call = transfer(caller).Backup(metadata=caller.metadata)
    try:
        for request in requests:
            await call.write(request)
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # It was refused before all was sent.
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
        await call
    return error_of(caught.value)


# --- who ------------------------------------------------------------------------------------------------------------


def test_only_cluster_guardians_and_the_privilege_backup_get_one_and_others_are_in_the_audit(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            acme = server.create("acme")
            server.member(0, "keeper", groups=(), privileges=(Privilege.BACKUP,))
            server.member(0, "editor", groups=("writers",), privileges=(Privilege.NAMESPACES_EDIT, Privilege.AUDIT))
            wrong = [
                server.caller(acme),
                server.caller(acme, guardian=Guardian.NAMESPACE),
                server.caller(0),
                server.caller(0, guardian=Guardian.NAMESPACE),
                await server.login("editor"),
            ]
            for caller in wrong:
                assert (await refusal_of(caller, BEGIN)).reason is Reason.NOT_PERMITTED
                with pytest.raises(PrefixdbError) as caught:
                    await list_bans(caller)
                assert caught.value.reason is Reason.NOT_PERMITTED
            for token, reason in (
                (None, Reason.TOKEN_MISSING),
                (server.forged_token(acme), Reason.TOKEN_INVALID),
                (server.expired_token(acme), Reason.TOKEN_EXPIRED),
            ):
                assert (await refusal_of(server.nobody(token), BEGIN)).reason is reason
            assert len(audit_of(server)) == len(wrong) + 3
            await take_backup(await server.login("keeper"))
            await take_backup(server.guardian)
            assert await list_bans(await server.login("keeper")) == []
            started, done, *_ = audit_of(server)[-4:]
            assert (started["user"], started["result"], done["result"]) == ("keeper", "started", "ok")
            assert started["target"] == "the whole store" and "files" in done["target"] and "version" in done["target"]

    asyncio.run(main())


def test_no_backup_is_taken_when_the_audit_cannot_be_written(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:

            async def refuse(_: object) -> None:
                raise error(Reason.AUDIT_UNAVAILABLE)

            server.app.audit.record = refuse  # type: ignore[method-assign]
            assert (await refusal_of(server.guardian, BEGIN)).reason is Reason.AUDIT_UNAVAILABLE
            with pytest.raises(PrefixdbError) as caught:
                await list_bans(server.guardian)
            assert caught.value.reason is Reason.AUDIT_UNAVAILABLE

    asyncio.run(main())


def test_a_right_that_is_lost_meanwhile_ends_it_within_a_second(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            server.member(0, "keeper", groups=(), privileges=(Privilege.BACKUP,))
            taking = await Taking(await server.login("keeper")).begin()
            members = server.app.authority.identities.members
            await asyncio.to_thread(lambda: members.update(0, "keeper", privileges=()))
            await eventually(lambda: is_clean(server), "the snapshot is gone", 1.0)
            with pytest.raises(PrefixdbError) as caught:
                await taking.chunks()
            assert caught.value.reason is Reason.NOT_PERMITTED
            assert audit_of(server)[-1]["result"] == "NOT_PERMITTED"

    asyncio.run(main())


@pytest.mark.parametrize("step", ["hashing", "listing", "sending"])
def test_a_call_that_nobody_cuts_looks_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    monkeypatch.setattr("prefixdb.service.streams.Stream.recheck", lambda _: None)
    monkeypatch.setattr(backups, "HASHING_TOLD_S", 0.0)

    async def main() -> None:
        async with serving(tmp_path) as server:
            server.member(0, "keeper", groups=(), privileges=(Privilege.BACKUP,))
            taking = Taking(await server.login("keeper"))
            await fill(server.caller(server.create("acme")), 2)
            members = server.app.authority.identities.members
            honest = module.SumReader.blocks
            asked: list[str] = []

            def lose(self: Any, found: Any, size: int) -> Any:
                asked.append(found.path)
                if len(asked) == {"hashing": 1, "listing": 6, "sending": 7}[step]:
                    members.update(0, "keeper", privileges=())
                return honest(self, found, size)

            monkeypatch.setattr(module.SumReader, "blocks", lose)
            with pytest.raises(PrefixdbError) as caught:
                with pytest.raises(AssertionError):
                    await taking.begin()
                    await taking.want(range(len(taking.files)))
                    chunks = await taking.chunks()
                    raise AssertionError(f"{len(chunks)} files came")
                await taking.chunks()
                await taking.call
            assert caught.value.reason is Reason.NOT_PERMITTED

    asyncio.run(main())


# --- what the client says -------------------------------------------------------------------------------------------


def test_messages_that_are_wrong_are_refused_with_the_field(tmp_path: Path) -> None:
    def wanted(*positions: int) -> pb.BackupRequest:
        return pb.BackupRequest(wanted=pb.BackupWanted(files=positions))

    async def main() -> None:
        async with serving(tmp_path) as server:
            for requests, field in (
                ((), "request"),
                ((pb.BackupRequest(),), "request"),
                ((wanted(0),), "request"),
                ((BEGIN,), "request"),
                ((BEGIN, BEGIN), "request"),
                ((BEGIN, pb.BackupRequest()), "request"),
                ((BEGIN, wanted(6)), "wanted.files"),
                ((BEGIN, wanted(2**32 - 1)), "wanted.files"),
                ((BEGIN, wanted(1, 0)), "wanted.files"),
                ((BEGIN, wanted(1, 1)), "wanted.files"),
            ):
                refusal = await refusal_of(server.guardian, *requests)
                assert (refusal.reason, refusal.metadata) == (Reason.BAD_FIELD, {"field": field}), requests
                assert is_clean(server)
            garbage = server.channel.stream_stream("/prefixdb.v1.Transfer/Backup")(metadata=server.guardian.metadata)
            await garbage.write(b"\xff\xff\xff")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await garbage.read()
                await garbage
            assert error_of(caught.value).reason is Reason.BAD_FIELD

    asyncio.run(main())


@pytest.mark.parametrize("positions", [[], [0], [1, 3], [5], [0, 1, 2, 3, 4, 5]])
def test_exactly_the_wanted_files_come_in_order_and_whole(tmp_path: Path, positions: list[int]) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            await fill(server.caller(server.create("acme")), 3)
            taking = await Taking(server.guardian).begin()
            paths = [file.path for file in taking.files]
            assert paths == sorted(paths) and len(paths) == 6 and paths[0] == "bans.jsonl"
            await taking.want(positions)
            chunks = await taking.chunks()
            assert list(chunks) == positions
            assert [len(chunks[position]) for position in positions] == [taking.files[p].size for p in positions]
            assert (await taking.call.code()) is grpc.StatusCode.OK

    asyncio.run(main())


def test_a_chunk_is_bounded_and_the_list_comes_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "FILES_PAGE", 4)
    monkeypatch.setattr(backups, "BACKUP_CHUNK_BYTES", 1000)

    async def main() -> None:
        async with serving(tmp_path) as server:
            call = transfer(server.guardian).Backup(metadata=server.guardian.metadata)
            await call.write(BEGIN)
            assert (await call.read()).WhichOneof("response") == "facts"
            pages = [await call.read(), await call.read()]
            assert [(len(page.files.files), page.files.last) for page in pages] == [(4, False), (2, True)]
            sizes = [file.size for page in pages for file in page.files.files]
            await call.write(pb.BackupRequest(wanted=pb.BackupWanted(files=range(6))))
            got: list[list[int]] = [[] for _ in sizes]
            while (answer := await call.read()) is not grpc.aio.EOF:
                got[answer.chunk.file].append(len(answer.chunk.data))
            for size, chunks in zip(sizes, got, strict=True):
                assert sum(chunks) == size and all(chunk == 1000 for chunk in chunks[:-1]) and len(chunks) >= 1

    asyncio.run(main())


# --- one at a time, and nothing is left -----------------------------------------------------------------------------


def test_a_second_one_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            first = await Taking(server.guardian).begin()
            assert (await refusal_of(server.guardian, BEGIN)).reason is Reason.BACKUP_RUNNING
            await first.want([0])
            await first.chunks()
            await eventually(lambda: is_clean(server), "the first has ended")
            await take_backup(server.guardian)

    asyncio.run(main())


@pytest.mark.parametrize("when", ["begun", "hashing", "listed", "sending"])
def test_a_client_that_goes_away_leaves_nothing_and_the_next_one_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            await fill(server.caller(server.create("acme")), 12)
            with monkeypatch.context() as patch:
                if when == "hashing":
                    patch.setattr(module, "hashlib", SimpleNamespace(sha256=_Slow))
                    patch.setattr(backups, "HASHING_TOLD_S", 0.01)
                taking = Taking(server.guardian)
                await taking.call.write(BEGIN)
                if when == "hashing":
                    assert (await taking.call.read()).WhichOneof("response") == "hashing"
                elif when != "begun":
                    await read_list(taking)
                if when == "sending":
                    await taking.want(range(len(taking.files)))
                    await taking.call.read()
                taking.call.cancel()
                await eventually(lambda: not len(server.app.streams) and is_clean(server), "all is over", 5.0)
            if when != "begun":
                await eventually(lambda: audit_of(server)[-1]["result"] == "CANCELLED", "the audit says so")
            await take_backup(server.guardian)

    asyncio.run(main())


class _Slow:
    """A sum that takes its time."""

    def update(self, _: bytes) -> None:
        threading.Event().wait(0.02)

    def digest(self) -> bytes:
        return bytes(32)


async def read_list(taking: Taking) -> None:
    while not taking.files or not taking.last:  # type: ignore[attr-defined]
        answer = await taking.call.read()
        if answer.WhichOneof("response") == "files":
            taking.files += answer.files.files
            taking.last = answer.files.last  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["takes no message", "sends no message"])
def test_a_client_that_stalls_is_cut_and_its_snapshot_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(backups, "TRANSFER_PATIENCE_MS_MAX", 300)

    async def main() -> None:
        async with serving(tmp_path) as server:
            await fill(server.caller(server.create("acme")), 12)
            async with grpc.aio.insecure_channel(server.app.address) as channel:
                taking = await Taking(Caller(channel, server.guardian.token)).begin()
                if how == "takes no message":
                    await taking.want(range(len(taking.files)))
                await eventually(lambda: is_clean(server), "the snapshot is gone", 0.3 + 1.0 + SWEEP_S)
                await eventually(lambda: audit_of(server)[-1]["result"] == "DEADLINE", "the audit says so")
                with pytest.raises(PrefixdbError) as caught:
                    await taking.chunks()
                assert caught.value.reason is Reason.DEADLINE

    asyncio.run(main())


def test_a_server_that_ends_cuts_it_and_ends_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path / "data") as server:
            await fill(server.caller(server.create("acme")), 4)
            taking = await Taking(server.guardian).begin()
            loop = asyncio.get_running_loop()
            began = loop.time()
            await server.app.stop(2.0)
            assert loop.time() - began < 4.0
            assert not list((tmp_path / "data" / "snapshots").glob("*"))
            with pytest.raises(PrefixdbError) as caught:
                await taking.chunks()
            assert caught.value.reason is Reason.DRAINING
        lines = (tmp_path / "data" / "audit.jsonl").read_text(encoding="ascii").splitlines()
        assert json.loads(lines[-1])["result"] == "DRAINING"

    asyncio.run(main())


@pytest.mark.parametrize("reason", [Reason.DISK_FULL, Reason.READ_ONLY_STORE])
def test_a_disk_that_refuses_the_snapshot_refuses_the_backup_and_not_the_next(tmp_path: Path, reason: Reason) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            honest = server.app.store.open_snapshot

            def refuse() -> Any:
                raise error(reason)

            server.app.store.open_snapshot = refuse  # type: ignore[method-assign]
            assert (await refusal_of(server.guardian, BEGIN)).reason is reason
            server.app.store.open_snapshot = honest  # type: ignore[method-assign]
            await take_backup(server.guardian)

    asyncio.run(main())


# --- what is in it --------------------------------------------------------------------------------------------------


def test_a_file_that_was_read_before_is_not_read_again_for_its_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            acme = server.caller(server.create("acme"))
            await fill(acme, 2)
            read: list[str] = []
            honest = module.SumReader.blocks

            def remember(self: Any, found: Any, size: int) -> Any:
                read.append(found.path)
                return honest(self, found, size)

            first = await take_backup(server.guardian)
            await acme.call(acme.key_value.Put, kv.PutRequest(key=b"more", value=b"x"))
            monkeypatch.setattr(module.SumReader, "blocks", remember)
            taking = await Taking(server.guardian).begin()
            await taking.want([])
            await taking.chunks()
            old = {file.path for file in first.manifest.files if file.path.endswith(".sst")}
            new = {file.path for file in taking.files if file.path.endswith(".sst")} - old
            assert len(new) == 1 and old, "a flush made one more"
            assert new <= set(read) and not old & set(read)
            sums = {file.path: file.sha256.hex() for file in taking.files}
            assert all(sums[file.path] == file.sha256 for file in first.manifest.files if file.path in old)

    asyncio.run(main())


def test_no_secret_of_the_directory_is_in_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            backup = await take_backup(server.guardian)
            data_dir = server.app.config.data_dir
            secrets = [path.read_bytes().strip() for path in (data_dir / "keys").iterdir()]
            secrets += [(data_dir / name).read_bytes().strip() for name in ("guardian.token", "guardian.password")]
            assert len(secrets) == 3
            for content in backup.contents.values():
                assert not any(secret in content for secret in secrets) and b"PRIVATE KEY" not in content

    asyncio.run(main())


def test_the_directory_has_a_name_of_its_own_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        names = []
        for _ in range(2):
            async with serving(tmp_path) as server:
                names += [(await take_backup(server.guardian)).manifest.store_id for _ in range(2)]
        assert len(set(names)) == 1 and len(names[0]) == 32
        (tmp_path / "data" / "store-id").write_text("something else\n")
        async with serving(tmp_path) as server:
            assert (await refusal_of(server.guardian, BEGIN)).reason is Reason.CORRUPTION

    asyncio.run(main())


def test_a_namespace_that_is_banned_meanwhile_is_proven_gone_only_after_the_backup(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            acme = server.create("acme")
            await fill(server.caller(acme), 4)
            taking = await Taking(server.guardian).begin()
            server.app.registry.ban(acme.id, by="somebody")
            reclaimer = server.app.reclaimer

            def proving() -> bool:
                report = reclaimer.report(acme.id)
                return report.phase is ReclaimPhase.PROVING and report.proof_rows_found == 0

            await eventually(proving, "it waits for the backup")
            await taking.want(range(len(taking.files)))
            assert sum(map(len, (await taking.chunks()).values())) == sum(file.size for file in taking.files)
            await eventually(lambda: reclaimer.report(acme.id).phase is ReclaimPhase.DONE, "it is proven")
            (ban,) = await list_bans(server.guardian)
            assert (ban.issue, ban.name, ban.banned_by, ban.reclaimed) == (
                (acme.id, acme.incarnation), "acme", "somebody", True,
            )  # fmt: skip

    asyncio.run(main())


def test_the_list_of_bans_has_every_issue_of_a_number_and_none_that_was_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "BANS_PAGE", 2)

    async def main() -> None:
        async with serving(tmp_path) as server:
            registry, reclaimer = server.app.registry, server.app.reclaimer
            issues = []
            for name in ("one", "two", "three"):
                record = server.create(name, 7)
                issues.append((7, record.incarnation))
                registry.ban(7, by="somebody", reason=f"of {name}")
                if name != "three":
                    await eventually(lambda: reclaimer.report(7).phase is ReclaimPhase.DONE, "it is gone", 30.0)
            graced, back, alive = server.create("graced", 5), server.create("back", 6), server.create("alive")
            registry.ban(5, by="somebody", grace_ms=3_600_000)
            registry.ban(6, by="somebody", grace_ms=3_600_000)
            registry.unban(6)
            await eventually(lambda: reclaimer.report(7).phase is ReclaimPhase.DONE, "it is gone", 30.0)
            bans = await list_bans(server.guardian)
            assert [ban.issue for ban in bans] == [(5, graced.incarnation), *issues]
            assert [ban.reclaimed for ban in bans] == [False, True, True, True]
            assert [ban.reason for ban in bans] == ["", "of one", "of two", "of three"]
            assert bans[0].reclaim_after_ms - bans[0].banned_at_ms == 3_600_000
            assert back.id not in {ban.namespace_id for ban in bans} and alive.state.is_live

    asyncio.run(main())
