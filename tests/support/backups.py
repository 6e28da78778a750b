"""Backups as a client takes them: over the wire, into memory, and what a restore is given from there."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import grpc

from prefixdb.repository.bans import BannedIssue
from prefixdb.repository.manifest import BackupFile, Manifest, new_backup_id
from prefixdb.v1 import transfer_pb2 as pb
from prefixdb.v1 import transfer_pb2_grpc
from tests.support.server import Caller, translated


def transfer(caller: Caller) -> Any:
    """Return the Transfer service on the caller's channel."""
    return transfer_pb2_grpc.TransferStub(caller.channel)


@dataclass
class Backup:
    """A backup in memory: ``prefixdb.backup.source.BackupSource``. Tests bend what it says.

    opened: paths in the order they were asked for.
    """

    manifest: Manifest
    contents: dict[str, bytes]
    opened: list[str] = field(default_factory=list)
    is_local: bool = True

    def open(self, path: str) -> BinaryIO:
        self.opened.append(path)
        return io.BytesIO(self.contents[path])

    def bent(self, **facts: Any) -> Backup:
        """Return it with other facts in its manifest."""
        return Backup(replace(self.manifest, **facts), self.contents)

    def with_file(self, path: str, content: bytes | None) -> Backup:
        """Return it with another content of a file, or without that file (None); the manifest agrees."""
        contents = {name: held for name, held in self.contents.items() if name != path}
        if content is not None:
            contents[path] = content
        return Backup(replace(self.manifest, files=files_of(contents)), contents)

    def flipped(self, path: str, position: int) -> Backup:
        """Return it with one bit of a file changed, which the manifest does not know."""
        content = bytearray(self.contents[path])
        content[position] ^= 1
        return Backup(self.manifest, self.contents | {path: bytes(content)})


def files_of(contents: dict[str, bytes]) -> tuple[BackupFile, ...]:
    """Return the lines of a manifest for these files."""
    return tuple(
        BackupFile(path, len(content), hashlib.sha256(content).hexdigest())
        for path, content in sorted(contents.items())
    )


class Taking:
    """One Backup call, step by step."""

    def __init__(self, caller: Caller) -> None:
        self.call = transfer(caller).Backup(metadata=caller.metadata)
        self.hashing: list[pb.BackupHashing] = []
        self.facts = pb.BackupFacts()
        self.files: list[pb.BackupFile] = []

    async def begin(self) -> Taking:
        """Ask for an instant and read the list of its files."""
        with translated():
            await self.call.write(pb.BackupRequest(begin=pb.BackupBegin()))
            while True:
                answer = await self.call.read()
                assert answer is not grpc.aio.EOF, await self.call.code()
                which = answer.WhichOneof("response")
                if which == "hashing":
                    self.hashing.append(answer.hashing)
                elif which == "facts":
                    self.facts = answer.facts
                else:
                    self.files += answer.files.files
                    if answer.files.last:
                        return self

    async def want(self, positions: Iterable[int]) -> None:
        """Say which files to send."""
        with translated():
            await self.call.write(pb.BackupRequest(wanted=pb.BackupWanted(files=positions)))

    async def chunks(self) -> dict[int, bytes]:
        """Read the wanted files to the end of the stream."""
        found: dict[int, bytearray] = {}
        with translated():
            while (answer := await self.call.read()) is not grpc.aio.EOF:
                found.setdefault(answer.chunk.file, bytearray()).extend(answer.chunk.data)
        return {position: bytes(content) for position, content in found.items()}

    def manifest(self) -> Manifest:
        """Return what a repository would write down."""
        facts = self.facts
        taken_at_ms = facts.taken_at.ToMilliseconds()
        return Manifest(
            id=new_backup_id(taken_at_ms),
            taken_at_ms=taken_at_ms,
            server_version=facts.server_version,
            store=facts.store,
            engine=facts.engine,
            store_id=facts.store_id,
            last_version=facts.last_version,
            namespaces_live=facts.namespaces_live,
            namespaces_banned=facts.namespaces_banned,
            files=tuple(BackupFile(file.path, file.size, file.sha256.hex()) for file in self.files),
        )


async def take_backup(caller: Caller) -> Backup:
    """Take a whole backup; every file is as the server's list says."""
    taking = await Taking(caller).begin()
    await taking.want(range(len(taking.files)))
    chunks = await taking.chunks()
    assert sorted(chunks) == list(range(len(taking.files)))
    for position, file in enumerate(taking.files):
        assert hashlib.sha256(chunks[position]).digest() == file.sha256 and len(chunks[position]) == file.size
    return Backup(taking.manifest(), {file.path: chunks[position] for position, file in enumerate(taking.files)})


async def list_bans(caller: Caller) -> list[BannedIssue]:
    """Return what ListBans says."""
    pages = await caller.pages(transfer(caller).ListBans, pb.ListBansRequest())
    return [
        BannedIssue(
            namespace_id=ban.namespace_id,
            incarnation=ban.incarnation,
            name=ban.name,
            banned_at_ms=ban.banned_at.ToMilliseconds(),
            banned_by=ban.banned_by,
            reason=ban.reason,
            reclaim_after_ms=ban.reclaim_after.ToMilliseconds(),
            reclaimed=ban.reclaimed,
        )
        for page in pages
        for ban in page.bans
    ]
