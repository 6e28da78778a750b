"""Moving rows in bulk: a namespace or a part of it into a file, and back."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable
from typing import BinaryIO

from prefixdb.client.aio import wire
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.aio.exporting import export_request, exported_frames, write_frames
from prefixdb.client.aio.importing import AsyncImport
from prefixdb.client.encoding import Key, encode_key
from prefixdb.client.frame_source import FrameSource, archive_source
from prefixdb.client.methods import backoff_s
from prefixdb.client.models_transfer import ConflictPolicy, Exported, ExportedFrame, Imported, OnProgress
from prefixdb.client.partial_file import PartialFile
from prefixdb.client.row_source import RowInput, rows_source
from prefixdb.errors import CancelledError, UnavailableError

RESTARTS_MAX = 3
"""Times an export that had begun begins anew. A network that always fails in the middle would keep it busy for ever."""

Target = str | os.PathLike[str] | BinaryIO
Source = str | os.PathLike[str] | BinaryIO | FrameSource


class AsyncTransfers:
    """What a database can do with archives; part of ``AsyncDatabase``."""

    _connection: AsyncConnection
    _database: int
    _deadline_s: float

    async def export(
        self,
        target: Target,
        *,
        database: int | None = None,
        prefix: Key | None = None,
        namespace: int | str | None = None,
        members: bool = False,
        codec: str = "zstd",
        on_progress: Callable[[ExportedFrame], None] | None = None,
    ) -> Exported:
        """Write the namespace's rows at one instant into a file, as an archive.

        A file that is named appears when it is whole and not before, and the export begins anew when the connection is
        lost, for up to ``options.resume_s``.

        Args:
            target: name of a file, or an open one.
            database: only this one; None for all, or for the client's own when there is a ``prefix``.
            prefix: only keys that begin so.
            namespace: another namespace than the caller's; for cluster guardians and the privilege backup.
            members: also members and groups; not with ``database``. The file is for its owner's eyes then, mode 0600:
                it has password hashes.
            codec: "zstd" or "none".
            on_progress: called with every frame.

        Raises:
            PermissionDeniedError: NOT_PERMITTED.
            InvalidArgumentError: ARCHIVE_INVALID when not all of it came.
            OSError: the file cannot be written.
        """
        frames = functools.partial(
            self.export_frames, database=database, prefix=prefix, namespace=namespace, members=members, codec=codec
        )
        if not isinstance(target, str | os.PathLike):
            return await write_frames(frames(), target, on_progress)
        attempt = begun = 0
        alive_at = time.monotonic()

        def note(frame: ExportedFrame) -> None:
            nonlocal attempt, alive_at
            attempt, alive_at = 0, time.monotonic()
            if on_progress is not None:
                on_progress(frame)

        with await wire.in_thread(functools.partial(PartialFile, target, private=members)) as partial:
            while True:
                try:
                    return await write_frames(frames(), partial.file, note)
                except (UnavailableError, CancelledError) as failure:
                    begun += attempt == 0
                    attempt += 1
                    wait_s = backoff_s(attempt, failure)
                    late = time.monotonic() + wait_s > alive_at + self._connection.options.resume_s
                    if late or begun > RESTARTS_MAX or not partial.restart():
                        raise
                await wire.sleep(wait_s)

    async def export_frames(
        self,
        *,
        database: int | None = None,
        prefix: Key | None = None,
        namespace: int | str | None = None,
        members: bool = False,
        codec: str = "zstd",
    ) -> wire.Stream[ExportedFrame]:
        """Yield the frames of such an archive; written one after the other they are its file.

        Ends normally only behind the last frame. The arguments are those of ``export``.
        """
        if prefix is not None and database is None:
            database = self._database
        request = export_request(database, None if prefix is None else encode_key(prefix), namespace, members, codec)
        frames = exported_frames(self._connection, request)
        try:
            async for frame in frames:
                yield frame
        finally:
            await frames.aclose()

    async def import_archive(
        self,
        source: Source,
        *,
        on_conflict: ConflictPolicy | str = ConflictPolicy.FAIL,
        dry_run: bool = False,
        keep_version_order: bool = True,
        upload: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Imported:
        """Bring the rows of an archive into the namespace: all of them, or none.

        Nothing is applied before the server has the whole archive and found it right; then it finishes by itself,
        whatever becomes of this client. The upload goes on where it was after lost connections, for up to
        ``options.resume_s`` since the server's last word.

        Args:
            source: name of a file, or an open one.
            on_conflict: what happens to a row whose key exists: "fail", "skip" or "overwrite".
            dry_run: only find out what would happen.
            keep_version_order: let rows keep the order of their versions; takes more time and memory.
            upload: 32 hex digits; those of an earlier call go on with it, or tell what became of it, within the hour.
            on_progress: told how far it is.

        Raises:
            AlreadyExistsError: IMPORT_CONFLICT.
            InvalidArgumentError: ARCHIVE_INVALID.
            UnavailableError: the server was gone for too long; ``metadata["upload"]`` is the id to go on with.
        """
        given = source if isinstance(source, FrameSource) else await wire.in_thread(archive_source, source)
        work = AsyncImport(
            self._connection,
            given,
            on_conflict=ConflictPolicy(on_conflict),
            dry_run=dry_run,
            keep_version_order=keep_version_order,
            upload=upload,
            on_progress=on_progress,
        )
        try:
            return await work.run()
        finally:
            if given is not source:
                given.close()

    async def load(
        self,
        rows: Iterable[RowInput],
        *,
        on_conflict: ConflictPolicy | str = ConflictPolicy.OVERWRITE,
        in_order: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Imported:
        """Write many rows at once into this database: all of them, or none. The fast way to fill a namespace.

        Args:
            rows: ``(key, value)`` or ``(key, value, ttl)``; drawn once, as fast as the server takes them.
            on_conflict: what happens to a row whose key exists: "fail", "skip" or "overwrite".
            in_order: the keys ascend strictly, by their bytes: taken in as whole files where there are no rows yet.
            on_progress: told how far it is.

        Raises:
            AlreadyExistsError: IMPORT_CONFLICT.
            InvalidArgumentError: a key is empty, or they are not in the order that was promised.
            UnavailableError: the server was gone; nothing was applied unless the message says so.
        """
        source = rows_source(rows, self._database, in_order=in_order)
        return await self.import_archive(
            source, on_conflict=on_conflict, keep_version_order=False, on_progress=on_progress
        )
