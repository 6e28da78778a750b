"""What a server settles for its whole process before anything in it begins."""

from __future__ import annotations

import ctypes
import os
import resource

OPEN_FILES_WANTED = 65_536
"""Files the server's process asks to be allowed; the usual default of 1,024 is few for a store with clients."""

_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""


def prepare() -> None:
    """Settle all of it; before the first thread is started."""
    raise_open_files()
    bound_arenas()


def raise_open_files() -> None:
    """Let this process open as many files as it may ask for, at most ``OPEN_FILES_WANTED``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bound_arenas() -> None:
    """Let all threads share a few heaps, where glibc would make eight for each processor.

    What is free in one heap is of no use to the threads of another: under a steady load the live bytes of a server stay
    the same from its first minute on, and its memory grows for many more, by bytes that are free in sixteen heaps.
    ``MALLOC_ARENA_MAX`` in the environment is the operator's choice. Other C libraries have no such heaps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, (os.cpu_count() or 1) + 2)
