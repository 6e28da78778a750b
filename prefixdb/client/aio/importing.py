"""Sending an archive: an upload that goes on where it was, over lost connections, new tokens and restarts.

The server applies nothing before the whole archive has come, and finishes by itself from then on. The same upload id
goes on with an interrupted upload, and asks for the result of one whose answer was lost: nothing is applied twice.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

from prefixdb.client import methods
from prefixdb.client.aio import wire
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.aio.upload import AsyncUpload
from prefixdb.client.frame_source import FrameSource, GoneError
from prefixdb.client.methods import backoff_s
from prefixdb.client.models_transfer import (
    ConflictPolicy,
    Imported,
    OnProgress,
    TransferPhase,
    TransferProgress,
    imported_of,
)
from prefixdb.errors import (
    CancelledError,
    DeadlineExceededError,
    PrefixdbError,
    Reason,
    UnauthenticatedError,
    UnavailableError,
    error,
)
from prefixdb.v1 import transfer_pb2

_ON_CONFLICT = {
    ConflictPolicy.FAIL: transfer_pb2.CONFLICT_POLICY_FAIL,
    ConflictPolicy.SKIP: transfer_pb2.CONFLICT_POLICY_SKIP,
    ConflictPolicy.OVERWRITE: transfer_pb2.CONFLICT_POLICY_OVERWRITE,
}

PATIENCE_S = 120.0
"""Longest wait for the server's first word, and for its next one once it has all: it speaks every few seconds."""


SETBACKS_MAX = 8
"""Calls in a row that ended with no more frames on the server than before; then something there ends every one."""


def new_upload_id() -> str:
    """Return an id for an upload."""
    return secrets.token_hex(16)


class AsyncImport:
    """One import, however many calls it takes.

    Args:
        connection: where to.
        source: the archive's frames.
        on_conflict: what happens to rows whose key exists.
        dry_run: only find out what would happen.
        keep_version_order: let rows keep the order of their versions.
        upload: id of the upload; None for a new one.
        on_progress: told how far it is.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        source: FrameSource,
        *,
        on_conflict: ConflictPolicy,
        dry_run: bool,
        keep_version_order: bool,
        upload: str | None,
        on_progress: OnProgress | None,
    ) -> None:
        self._connection = connection
        self._source = source
        self._on_progress = on_progress
        self._alive_at = time.monotonic()
        self._attempt = self._setbacks = self._kept = 0
        self._begin = transfer_pb2.ImportBegin(
            upload=upload or new_upload_id(),
            on_conflict=_ON_CONFLICT[on_conflict],
            dry_run=dry_run,
            keep_version_order=keep_version_order,
        )
        self.sent_all = False
        """True when the server may have the whole archive, and so may apply it."""

    async def run(self) -> Imported:
        """Send the archive and return what became of it.

        Raises:
            PrefixdbError: it was refused, or the server was gone for longer than ``options.resume_s``.
        """
        renewed = False
        while True:
            upload = None
            try:
                request = transfer_pb2.ImportRequest(begin=self._begin)
                upload = await self._connection.open_upload(methods.IMPORT, request)
                return imported_of(await self._follow(upload), self._begin.upload)
            except GoneError as cause:
                raise _gone() from cause
            except PrefixdbError as failure:
                if isinstance(failure, UnauthenticatedError):
                    if upload is None or renewed or not await self._connection.renew(upload.token):
                        raise
                    renewed = True
                    continue
                wait_s = self._wait_s(failure)
                if wait_s is None:
                    raise self._explained(failure) from failure.__cause__
            finally:
                if upload is not None:
                    self.sent_all = self.sent_all or upload.drained
                    upload.cancel()
            await wire.sleep(wait_s)

    async def _follow(
        self, upload: AsyncUpload[transfer_pb2.ImportRequest, transfer_pb2.ImportResponse]
    ) -> transfer_pb2.ImportResponse:
        """Send what the server lacks and return its last word."""
        last = None
        while (answer := await upload.receive(self._patience_s(upload, last))) is not None:
            self._note(answer, last)
            last = answer
            if answer.phase == transfer_pb2.TRANSFER_PHASE_READY:
                if await wire.in_thread(self._fits, answer.frames_kept, answer.digest):
                    upload.send_all(self._requests(answer.frames_kept))
                else:
                    # What the server has is of another archive, for example of a file that was changed since.
                    self._begin.upload = new_upload_id()
                    raise error(Reason.UNREACHABLE, "The upload begins anew.")
            self._tell(answer)
        if last is None or last.phase != transfer_pb2.TRANSFER_PHASE_DONE:
            raise error(Reason.UNREACHABLE, "The server ended the import without saying what became of it.")
        return last

    def _patience_s(
        self,
        upload: AsyncUpload[transfer_pb2.ImportRequest, transfer_pb2.ImportResponse],
        last: transfer_pb2.ImportResponse | None,
    ) -> float | None:
        """Return how long to wait for the next word: while frames are sent the source may take its time."""
        return PATIENCE_S if last is None or upload.drained else None

    def _note(self, answer: transfer_pb2.ImportResponse, last: transfer_pb2.ImportResponse | None) -> None:
        """Take note of progress: a server that only says READY again and again makes none."""
        if answer.phase != transfer_pb2.TRANSFER_PHASE_READY:
            moved = last is None or (answer.phase, answer.rows_received, answer.rows_done) > (
                last.phase,
                last.rows_received,
                last.rows_done,
            )
        else:
            moved = answer.frames_kept > self._kept
            self._setbacks = 0 if moved else self._setbacks + 1
            self._kept = answer.frames_kept
        if moved:
            self._attempt, self._alive_at = 0, time.monotonic()

    def _fits(self, count: int, digest: bytes) -> bool:
        return count == 0 or self._source.digest_of(count) == digest

    def _requests(self, start: int) -> Iterator[transfer_pb2.ImportRequest]:
        for frame in self._source.frames_from(start):
            yield transfer_pb2.ImportRequest(frame=frame)

    def _tell(self, answer: transfer_pb2.ImportResponse) -> None:
        if self._on_progress is not None:
            total = answer.rows_received if answer.phase >= transfer_pb2.TRANSFER_PHASE_CHECKING else 0
            phase = TransferPhase(answer.phase)
            facts = TransferProgress(phase, answer.rows_received, answer.rows_done, total, self._source.share)
            self._on_progress(facts)

    def _wait_s(self, failure: PrefixdbError) -> float | None:
        """Return how long to wait before going on; None when that makes no sense."""
        # gRPC calls a stream cancelled when the server's side of it was, for example while it drains.
        if not isinstance(failure, UnavailableError | CancelledError | DeadlineExceededError):
            return None
        self._attempt += 1
        wait_s = backoff_s(self._attempt, failure)
        late = time.monotonic() + wait_s > self._alive_at + self._connection.options.resume_s
        return None if late or self._setbacks > SETBACKS_MAX else wait_s

    def _explained(self, failure: PrefixdbError) -> PrefixdbError:
        """Return the failure with what is known about its effect."""
        if not isinstance(failure, UnavailableError | CancelledError | DeadlineExceededError):
            return failure
        what = (
            "The server may have the whole upload, and finishes it by itself; the same upload id asks for the result."
            if self.sent_all
            else "Nothing was applied; the same upload id goes on within the hour."
        )
        metadata = failure.metadata | {"upload": self._begin.upload}
        reason = failure.reason if failure.reason is not Reason.OUTCOME_UNKNOWN or self.sent_all else Reason.UNREACHABLE
        sentence = failure.message.split(". ")[0].rstrip(".")
        return error(reason, f"{sentence}. {what}", metadata=metadata)


def _gone() -> PrefixdbError:
    message = (
        "The upload was interrupted, and what was sent cannot be read again from a pipe; nothing was applied. Send it "
        "once more, best from a file."
    )
    return error(Reason.UNREACHABLE, message)
