"""A gRPC call as it is replayed: its messages made beforehand, and proven by an ordinary call of the same bytes.

A load generator looks at the status and at the size of every answer. What the sizes of good answers are is found out
here, by calls through grpcio whose answers are read and judged, before each run and after it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import grpc

from tools.bench.page.samples import BadResponsesError

CALL_S_MAX = 30.0
FRAME_HEAD_BYTES = 5
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
VERSION_BYTES_SLACK = 4
"""A row carries a version that grows: its varint may be some bytes longer or shorter in another answer."""

Metadata = tuple[tuple[str, str], ...]


class Kind(Enum):
    """How a call's messages go: one each way, many answers, or an answer to each of many."""

    UNARY = "unary"
    ANSWERS = "answers"
    BOTH_WAYS = "both ways"


@dataclass(frozen=True, slots=True)
class Call:
    """One call in many variants.

    path: ``/package.Service/Method``.
    messages: requests, without framing; ``draws`` is the order in which they are sent, over and over.
    rows: rows that one answer stands for, all of its messages together.
    judge: returns the rows in one message of an answer that are as they should be.
    connections, in_flight: how many connections are opened, and calls kept open on each.
    """

    path: str
    messages: Sequence[bytes]
    draws: Sequence[int]
    rows: int
    judge: Callable[[bytes], int]
    kind: Kind = Kind.UNARY
    connections: int = 8
    in_flight: int = 8


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of the smallest and the largest good answer, all of its messages with their framing."""

    smallest: int
    largest: int

    def accept(self, smallest: int, largest: int, rows: int) -> bool:
        """Return whether answers of these sizes can be good ones with so many rows each."""
        slack = VERSION_BYTES_SLACK * (rows + 1)
        return self.smallest - slack <= smallest and largest <= self.largest + slack


def frame(message: bytes) -> bytes:
    """Return a message as a gRPC client sends it: uncompressed, with its length in front."""
    return struct.pack(">BI", 0, len(message)) + message


def bearer(token: str) -> Metadata:
    """Return the metadata that carries a token; none for no token."""
    return (("authorization", f"Bearer {token}"),) if token else ()


def prove(channel: grpc.Channel, call: Call, token: str = "") -> Sizes:
    """Make a few of the calls once and judge their answers.

    Raises:
        BadResponsesError: an answer is not as it should be.
        grpc.RpcError: a call failed.
    """
    sizes = []
    for draw in {call.draws[0], call.draws[len(call.draws) // 2], call.draws[-1]}:
        answers = list(_answers(channel, call, call.messages[draw], bearer(token)))
        if (found := sum(map(call.judge, answers))) != call.rows:
            raise BadResponsesError(f"{call.path}: {found} good rows in an answer instead of {call.rows}")
        sizes.append(sum(len(answer) + FRAME_HEAD_BYTES for answer in answers))
    return Sizes(min(sizes), max(sizes))


def raw_unary(channel: grpc.Channel, path: str, request: bytes, token: str = "") -> bytes:
    """Make one call whose messages are bytes on both sides."""
    return bytes(channel.unary_unary(path, None, None)(request, metadata=bearer(token), timeout=CALL_S_MAX))


def new_channel(address: str) -> grpc.Channel:
    """Return a channel of its own that takes large messages."""
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(address, options=options)


def _answers(channel: grpc.Channel, call: Call, request: bytes, metadata: Metadata) -> Iterator[bytes]:
    if call.kind is Kind.UNARY:
        yield bytes(channel.unary_unary(call.path, None, None)(request, metadata=metadata, timeout=CALL_S_MAX))
    elif call.kind is Kind.ANSWERS:
        yield from channel.unary_stream(call.path, None, None)(request, metadata=metadata, timeout=CALL_S_MAX)
    else:
        stream = channel.stream_stream(call.path, None, None)
        yield from stream(iter([request]), metadata=metadata, timeout=CALL_S_MAX)
