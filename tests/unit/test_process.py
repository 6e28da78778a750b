"""A server's threads share a few heaps, so that what one has freed another can use.

Method: a process with more threads than heaps asks glibc how many heaps it has made.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

HEAPS = """
import ctypes, os, threading
from prefixdb.server.process import bound_arenas

bound_arenas()
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


def heaps(environment: Mapping[str, str]) -> int:
    """Return how many heaps a process with many threads makes."""
    clean = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    done = subprocess.run(
        [sys.executable, "-c", HEAPS], env=clean | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.count("<heap nr=")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="the C library has no heaps to bound")
def test_threads_share_a_few_heaps_unless_the_operator_says_otherwise() -> None:
    few = (os.cpu_count() or 1) + 2
    assert 1 < heaps({}) <= few
    assert heaps({"MALLOC_ARENA_MAX": str(few + 2)}) > few
