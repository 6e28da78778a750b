"""Backups of the whole store into a repository on this side, and the bans that every restore obeys."""

from __future__ import annotations

import time
from pathlib import Path

from prefixdb.client import methods
from prefixdb.client.aio import wire
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.aio.exchange import AsyncExchange
from prefixdb.client.backup_files import (
    BackupProgress,
    CreatedBackup,
    Listing,
    OnBackupProgress,
    Pace,
    broken,
    check_family,
    check_room,
    issues_of,
)
from prefixdb.client.backup_storing import Storing
from prefixdb.client.methods import backoff_s
from prefixdb.errors import FailedPreconditionError, Reason, UnauthenticatedError, UnavailableError
from prefixdb.limits import TRANSFER_PATIENCE_MS_MAX
from prefixdb.repository.bans import BannedIssue
from prefixdb.repository.manifest import Manifest
from prefixdb.repository.places import Lease
from prefixdb.repository.repository import Repository
from prefixdb.v1 import transfer_pb2

SILENCE_S_MAX = 2 * TRANSFER_PATIENCE_MS_MAX / 1000
"""Longest wait for the next message of a backup: the server reads all its files before it lists them."""

AWAY_S_MAX = 30.0
"""How long a server that was there is waited for: a restart takes seconds, and the files that came are kept anyway."""

BUSY_S_MAX = 5.0
"""How long a server is asked again that says another backup runs: one that was cut off a moment ago is soon over."""


class AsyncBackups:
    """Backups and bans. For cluster guardians and members with the privilege ``backup``."""

    def __init__(self, connection: AsyncConnection, deadline_s: float) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    async def create(
        self,
        repository: str | Path,
        *,
        rate: int | None = None,
        restored: bool = False,
        on_progress: OnBackupProgress | None = None,
    ) -> CreatedBackup:
        """Store everything the server has at one instant; what the repository has already is not sent again.

        Nothing stops on the server meanwhile. When the connection or the token ends on the way, it goes on with what
        is missing then. What was interrupted for good leaves no backup, and files that the next one finds useful.

        Args:
            repository: a directory, made when it is absent or empty, or a URL that fsspec knows.
            rate: most bytes per second to receive, at least 64 KiB; None for no bound.
            restored: this server was restored from a backup of the repository, although it shares no file with one.
            on_progress: called often, in this thread.

        Raises:
            FailedPreconditionError: BACKUP_RUNNING, by somebody else; DIRECTORY_NOT_EMPTY, the repository is none, or
                has backups of another server.
            DataLossError: CORRUPTION; a file of the server is damaged.
            OSError: the repository cannot be written.
        """
        pace = Pace(rate)
        tell = on_progress or _nobody
        opened = await wire.in_thread(Repository.open_or_create, repository)
        lease = await wire.in_thread(_hold, opened)
        try:
            return await self._create(opened, lease, pace, tell, restored)
        finally:
            await wire.in_thread(lease.release)

    async def bans(self) -> wire.Stream[BannedIssue]:
        """Yield every issue of a number that was ever banned and not taken back, by number and incarnation."""
        renewed = begun = False
        while True:
            messages = await self._connection.open_stream(methods.LIST_BANS, transfer_pb2.ListBansRequest())
            try:
                while (page := await messages.receive(self._deadline_s)) is not None:
                    begun = True
                    for ban in issues_of(page.bans):
                        yield ban
                return
            except UnauthenticatedError:
                if begun or renewed or not await self._connection.renew(messages.token):
                    raise
                renewed = True
            finally:
                messages.cancel()

    async def _create(
        self, repository: Repository, lease: Lease, pace: Pace, tell: OnBackupProgress, restored: bool
    ) -> CreatedBackup:
        """Try until it is done, as long as files come, and for half a minute after the last one came."""
        await wire.in_thread(repository.place.clean)
        files_new = bytes_new = 0
        renewed = False
        lost_at_s: float | None = None
        busy_until_s = time.monotonic() + BUSY_S_MAX
        while True:
            taking = AsyncTaking(repository, lease, pace, tell, restored=restored)
            await taking.look()
            exchange = await self._connection.open_duplex(methods.BACKUP)
            try:
                made = await taking.run(exchange)
                return CreatedBackup(made, files_new + taking.files_new, bytes_new + taking.bytes_new)
            except FailedPreconditionError as failure:
                if failure.reason is not Reason.BACKUP_RUNNING or time.monotonic() > busy_until_s:
                    raise
                await wire.sleep(backoff_s(3, failure))
                continue
            except (UnauthenticatedError, UnavailableError) as failure:
                now_s = time.monotonic()
                if taking.files_new:
                    renewed, lost_at_s = False, now_s
                if isinstance(failure, UnauthenticatedError):
                    if renewed or not await self._connection.renew(exchange.token):
                        raise
                    renewed = True
                elif lost_at_s is None or now_s > lost_at_s + AWAY_S_MAX:
                    raise
                else:
                    await wire.sleep(backoff_s(5, failure))
                busy_until_s = time.monotonic() + BUSY_S_MAX
            finally:
                exchange.cancel()
            files_new += taking.files_new
            bytes_new += taking.bytes_new


class AsyncTaking:
    """One try: list, compare, receive, and at the end the manifest.

    Attributes:
        files_new: files stored so far.
        bytes_new: their bytes.
    """

    def __init__(
        self, repository: Repository, lease: Lease, pace: Pace, tell: OnBackupProgress, *, restored: bool
    ) -> None:
        self._repository = repository
        self._lease = lease
        self._pace = pace
        self._tell = tell
        self._restored = restored
        self._present: dict[str, int] = {}
        self.files_new = 0
        self.bytes_new = 0

    async def look(self) -> None:
        """See what is there. Before the call: some list slowly, and the server waits a minute for what is wanted."""
        self._present = await wire.in_thread(self._repository.objects)

    async def run(self, exchange: AsyncExchange[transfer_pb2.BackupRequest, transfer_pb2.BackupResponse]) -> Manifest:
        """Make a backup over this call."""
        begin = transfer_pb2.BackupRequest(begin=transfer_pb2.BackupBegin())
        await exchange.send(begin, SILENCE_S_MAX)
        listing = Listing()
        while True:
            message = await _next(exchange)
            if message.WhichOneof("response") == "hashing":
                self._tell(BackupProgress("reading", message.hashing.bytes_done, message.hashing.bytes_total))
                await wire.in_thread(self._lease.keep)
            elif listing.add(message):
                break
        manifest = listing.manifest()
        if not self._restored:
            await wire.in_thread(check_family, self._repository, manifest, listing.restored_from)
        positions = listing.lacking(self._present)
        await wire.in_thread(check_room, self._repository, sum(listing.files[position].size for position in positions))
        wanted = transfer_pb2.BackupRequest(wanted=transfer_pb2.BackupWanted(files=positions))
        await exchange.send(wanted, SILENCE_S_MAX)
        await exchange.finish_sending()
        await self._receive(exchange, listing, positions)
        await wire.in_thread(self._finish, manifest)
        return manifest

    async def _receive(
        self,
        exchange: AsyncExchange[transfer_pb2.BackupRequest, transfer_pb2.BackupResponse],
        listing: Listing,
        positions: list[int],
    ) -> None:
        """Store every file that was asked for."""
        total = sum(listing.files[position].size for position in positions)
        storing = Storing(self._repository, self._lease, listing.files, positions)
        received = 0
        self._tell(BackupProgress("storing", 0, total))
        try:
            while (message := await exchange.receive(SILENCE_S_MAX)) is not None:
                if message.WhichOneof("response") != "chunk":
                    raise broken("it sent something else where files should be")
                data = message.chunk.data  # Each look at it makes a copy.
                await wire.in_thread(storing.take, message.chunk.file, data)
                received += len(data)
                self.bytes_new = received
                self._tell(BackupProgress("storing", received, total))
                wait_s = self._pace.wait_s(len(data))
                if wait_s > 0:  # The rate is bounded by reading slowly.
                    await wire.sleep(wait_s)
            await wire.in_thread(storing.check_done)
        finally:
            await wire.in_thread(storing.abort)
            self.files_new = storing.files_done

    def _finish(self, manifest: Manifest) -> None:
        self._lease.keep()
        self._repository.add(manifest)


async def _next(
    exchange: AsyncExchange[transfer_pb2.BackupRequest, transfer_pb2.BackupResponse],
) -> transfer_pb2.BackupResponse:
    """Return the next message; there must be one."""
    message = await exchange.receive(SILENCE_S_MAX)
    if message is None:
        raise broken("it ended before its list of files")
    return message


def _hold(repository: Repository) -> Lease:
    return repository.lock(exclusive=True)


def _nobody(progress: BackupProgress) -> None:
    return
