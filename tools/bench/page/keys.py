"""The rows of a benchmark, the order in which they are asked for, and the file that load generators replay.

    replay file := "PFXREPL1" | count u32 | (size u32 | bytes)*count | draws u32 | (index u32)*draws      little-endian

All servers hold the same rows and are asked for the same keys in the same order. Keys look like the ones that
redis-benchmark makes, so that redis is asked for rows that are there, too.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path

ROWS = 100_000
VALUE_BYTES = 100
BATCH = 100
PIPELINE = 64
PIPELINE_STREAMS = 8
"""Clients that keep a pipeline going at the same time."""
PAGE_ROWS = 1_000
COUNTED_ROWS = 10_000
COUNTED_PREFIX = b"key:" + b"0" * 8
"""Every key whose number is below ``COUNTED_ROWS`` begins with it, and no other."""

DRAWS = 1 << 18
ZIPF_EXPONENT = 0.99
"""YCSB's: the hottest of 100,000 keys gets eight requests in a hundred."""

_MAGIC = b"PFXREPL1"


def key(number: int) -> bytes:
    """Return the key of a numbered row: sixteen bytes."""
    return b"key:%012d" % number


def value(number: int) -> bytes:
    """Return the value of a numbered row; it does not compress."""
    return hashlib.shake_128(key(number)).digest(VALUE_BYTES)


@functools.cache
def rows() -> dict[bytes, bytes]:
    """Return every row, keys in order."""
    return {key(number): value(number) for number in range(ROWS)}


@functools.cache
def values() -> frozenset[bytes]:
    """Return every value, for whoever judges an answer that does not say which key it is about."""
    return frozenset(rows().values())


def uniform(count: int = DRAWS, seed: int = 1) -> list[int]:
    """Return row numbers, each as likely as any other."""
    return random.Random(seed).choices(range(ROWS), k=count)


def zipfian(count: int = DRAWS, seed: int = 2) -> list[int]:
    """Return row numbers of which the n-th hottest is asked for in proportion to 1 / n ** 0.99.

    Which rows are hot is a matter of chance, so that they do not lie side by side.
    """
    chance = random.Random(seed)
    by_rank = list(range(ROWS))
    chance.shuffle(by_rank)
    weights = list(itertools.accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(ROWS)))
    return chance.choices(by_rank, cum_weights=weights, k=count)


def groups(size: int, count: int = 1_000, seed: int = 3) -> list[list[int]]:
    """Return ``count`` lists of ``size`` row numbers, none twice in a list: etcd writes no key twice at once."""
    chance = random.Random(seed)
    return [chance.sample(range(ROWS), size) for _ in range(count)]


def write_replay(path: Path, messages: Sequence[bytes], draws: Sequence[int]) -> Path:
    """Write a replay file and return its path.

    Raises:
        ValueError: there is nothing to draw, or a draw names no message.
    """
    if not draws or min(draws) < 0 or max(draws) >= len(messages):
        raise ValueError("every draw must name a message, and there must be one")
    with path.open("wb") as file:
        file.write(_MAGIC + struct.pack("<I", len(messages)))
        for message in messages:
            file.write(struct.pack("<I", len(message)) + message)
        numbers = array("I", draws)
        if numbers.itemsize != 4 or array("H", [1]).tobytes() != b"\1\0":
            raise ValueError("the replay file is little-endian with 32 bits a draw; this machine is not")
        file.write(struct.pack("<I", len(numbers)) + numbers.tobytes())
    return path
