"""A server's threads share a few heaps, and large buffers go back to the machine when they are free.

Method: processes with more threads than heaps, and with large buffers, ask glibc what it holds.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Mapping

import pytest

glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="the C library has no heaps to bound")

HEAPS = """
import ctypes, os, threading
from prefixdb.server.process import bound_heaps

bound_heaps()
together = threading.Barrier(33)

def hold():
    kept = bytearray(5_000)
    together.wait()
    together.wait()

threads = [threading.Thread(target=hold) for _ in range(32)]
for thread in threads:
    thread.start()
together.wait()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
together.wait()
"""


LARGE = """
import ctypes
from prefixdb.server.process import MAPPED_FROM_BYTES, bound_heaps

bound_heaps()
libc = ctypes.CDLL(None)
del (freed := {0: bytearray(4 * MAPPED_FROM_BYTES)})[0]  # After this one glibc would change its mind.
kept = bytearray(MAPPED_FROM_BYTES + 4_096)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def heaps(environment: Mapping[str, str]) -> int:
    """Return how many heaps a process with many threads makes."""
    return told_by(HEAPS, environment).count("<heap nr=")


def told_by(program: str, environment: Mapping[str, str]) -> str:
    """Run a program and return what glibc tells of it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True).stdout


@glibc
def test_threads_share_a_few_heaps_unless_the_operator_says_otherwise() -> None:
    few = (os.cpu_count() or 1) + 2
    assert 1 < heaps({}) <= few
    assert heaps({"MALLOC_ARENA_MAX": str(few + 2)}) > few


@glibc
def test_large_buffers_are_in_no_heap_unless_the_operator_says_otherwise() -> None:
    assert mapped({}) == mapped({"MALLOC_MMAP_THRESHOLD_": "70000"}) > 0
    assert mapped({"MALLOC_MMAP_THRESHOLD_": str(64 << 20)}) == 0


def mapped(environment: Mapping[str, str]) -> int:
    """Return how many buffers of a process lie outside of the heaps."""
    [count] = re.findall(r'<total type="mmap" count="(\d+)"', told_by(LARGE, environment))
    return int(count)
