"""A look at the frames of an archive that goes by: nothing missing, nothing changed, nothing decoded but the two ends.

The digests cover every byte of a file, so whoever writes frames down or passes them on need not unfold the rows between
header and footer; that costs thirty times as much.
"""

from __future__ import annotations

from prefixdb.archive.bodies import new_decompressor, unfold
from prefixdb.archive.contents import Footer, Header, decode_footer, decode_header
from prefixdb.archive.frames import START_DIGEST, Fault, Frame, damaged, next_frame, place_of


class FrameChain:
    """Checks the chain of digests of one archive as its frames go by.

    Attributes:
        frames, bytes: seen so far.
        footer: once it was seen.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.bytes = 0
        self._digest = START_DIGEST
        self._header: Header | None = None
        self.footer: Footer | None = None

    @property
    def header(self) -> Header:
        """What the archive says it is. RuntimeError before its first frame was seen."""
        if self._header is None:
            raise RuntimeError("the header has not been seen")
        return self._header

    def add(self, data: bytes) -> None:
        """Look at the next frame.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID.
            FailedPreconditionError: FORMAT_TOO_NEW.
        """
        try:
            frame = next_frame(self._digest, data)
            self._take(frame)
        except Fault as fault:
            raise damaged(self._place, str(fault)) from None
        self._digest = frame.digest
        self.frames += 1
        self.bytes += len(data)

    def finish(self) -> Footer:
        """Return the footer.

        Raises:
            InvalidArgumentError: ARCHIVE_INVALID when there was none.
        """
        if self.footer is None:
            raise damaged(self._place, "The archive is cut short: there is no footer.")
        return self.footer

    @property
    def _place(self) -> str:
        return place_of(self.frames + 1, self.bytes)

    def _take(self, frame: Frame) -> None:
        if (frame.kind == "header") != (self._header is None):
            raise Fault("The header is not the first frame, or not the only one.")
        if self.footer is not None:
            raise Fault("There are frames behind the footer.")
        if frame.kind == "header":
            self._header = decode_header(frame.body)
        elif frame.kind == "footer":
            self.footer = decode_footer(unfold(frame, self.header.codec, new_decompressor()))
