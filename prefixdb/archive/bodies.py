"""Contents of frames, folded into the bodies that stand in a file, and back."""

from __future__ import annotations

import zstandard

from prefixdb.archive.frames import Fault, Frame
from prefixdb.limits import MIB

__all__ = ["new_compressor", "new_decompressor", "unfold"]

LEVEL = 1
"""Of zstd. Level 3 takes more than twice as long and saves a few percent of small rows."""

WINDOW_BYTES_MAX = 32 * MIB
"""What a body may ask for to be decompressed; none here needs more than its own size."""


def new_compressor() -> zstandard.ZstdCompressor:
    """Return what compresses bodies; not thread-safe. Their sizes stand in them."""
    return zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)


def new_decompressor() -> zstandard.ZstdDecompressor:
    """Return what ``unfold`` needs; not thread-safe."""
    return zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)


def unfold(frame: Frame, codec: str, decompressor: zstandard.ZstdDecompressor) -> bytes:
    """Return the content of a frame; never makes more than its ``raw_bytes``, which ``parse_frame`` has bounded.

    Raises:
        Fault: the body is not what the frame promises.
    """
    if codec == "none":
        if len(frame.body) != frame.raw_bytes:
            raise Fault("The body's size is not what the frame promises.")
        return frame.body
    try:
        # The size in the body's own head decides what the library allocates, so it is compared first.
        if zstandard.frame_content_size(frame.body) != frame.raw_bytes:
            raise Fault("The body's size is not what the frame promises.")
        content: bytes = decompressor.decompress(frame.body, max_output_size=frame.raw_bytes, allow_extra_data=False)
    except zstandard.ZstdError:
        raise Fault("The body cannot be decompressed.") from None
    return content
