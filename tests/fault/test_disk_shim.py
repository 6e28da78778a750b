"""The instrument itself: every call a rule may name is met, in each of its variants, and by nothing but its rule.

Method: a small child does one file operation after the other and says which ``errno`` each ended with.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.crash.shim import Action, Call, Shim, build

OPERATIONS = """
import ctypes, errno, json, mmap, os, sys
path = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
def c(name, *arguments):
    result = getattr(libc, name)(*[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if name.startswith("posix_fallocate"):
        if result:
            raise OSError(result, "")
    elif result == -1:
        raise OSError(ctypes.get_errno(), "")
def none_is_failure(result):
    if not result:
        raise OSError(ctypes.get_errno(), "")
with open(path, "wb") as made:
    made.write(b"x" * 4096)
fd = os.open(path, os.O_RDWR)
data, space = ctypes.create_string_buffer(64), ctypes.create_string_buffer(1024)
libc.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fdopen(os.dup(fd), b"r"))
operations = {
    "open": lambda: os.close(os.open(path, os.O_RDONLY)),
    "open64": lambda: c("open64", path.encode(), os.O_RDONLY),
    "openat": lambda: os.open(path, os.O_RDONLY, dir_fd=None),
    "openat64": lambda: c("openat64", -100, path.encode(), os.O_RDONLY),
    "fopen": lambda: none_is_failure(libc.fopen(path.encode(), b"r")),
    "create": lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT)),
    "write": lambda: os.write(fd, b"abc"),
    "writev": lambda: os.writev(fd, [b"ab", b"c"]),
    "pwrite": lambda: c("pwrite", fd, data, 3, 0),
    "pwrite64": lambda: c("pwrite64", fd, data, 3, 0),
    "read": lambda: os.read(fd, 3),
    "fread": lambda: none_is_failure(libc.fread(data, 1, 3, stream)),
    "fread_unlocked": lambda: none_is_failure(libc.fread_unlocked(data, 1, 3, stream)),
    "pread": lambda: c("pread", fd, data, 3, 0),
    "pread64": lambda: c("pread64", fd, data, 3, 0),
    "fsync": lambda: os.fsync(fd),
    "fdatasync": lambda: os.fdatasync(fd),
    "sync_file_range": lambda: c("sync_file_range", fd, 0, 1, 2),
    "sync_file_range without flags": lambda: c("sync_file_range", fd, 0, 0, 0),
    "ftruncate": lambda: c("ftruncate", fd, 4096),
    "ftruncate64": lambda: c("ftruncate64", fd, 4096),
    "fallocate": lambda: c("fallocate", fd, 0, 0, 10),
    "fallocate64": lambda: c("fallocate64", fd, 0, 0, 10),
    "posix_fallocate": lambda: c("posix_fallocate", fd, 0, 10),
    "posix_fallocate64": lambda: c("posix_fallocate64", fd, 0, 10),
    "mmap": lambda: mmap.mmap(fd, 4096).close(),
    "rename": lambda: (os.rename(path, path + ".2"), os.rename(path + ".2", path)),
    "renameat": lambda: c("renameat", -100, path.encode(), -100, path.encode()),
    "link": lambda: c("link", path.encode(), (path + ".link.log").encode()),
    "unlink": lambda: os.unlink(path + ".link.log"),
    "mkdir": lambda: os.mkdir(path + ".d.log"),
    "statvfs": lambda: c("statvfs", os.path.dirname(path).encode(), space),
    "statvfs64": lambda: c("statvfs64", os.path.dirname(path).encode(), space),
}
for name, operation in operations.items():
    ctypes.set_errno(0)
    try:
        operation()
        print(json.dumps([name, ""]))
    except OSError as failure:
        print(json.dumps([name, errno.errorcode.get(failure.errno, str(failure.errno))]))
"""

EXPECTED = {
    Call.OPEN: {"open", "open64", "openat", "openat64", "fopen"},
    Call.CREATE: {"create"},
    Call.WRITE: {"write", "writev"},
    Call.PWRITE: {"pwrite", "pwrite64"},
    Call.READ: {"read", "fread", "fread_unlocked"},
    Call.PREAD: {"pread", "pread64"},
    Call.FSYNC: {"fsync"},
    Call.FDATASYNC: {"fdatasync"},
    Call.SYNC_RANGE: {"sync_file_range"},
    Call.TRUNCATE: {"ftruncate", "ftruncate64"},
    Call.ALLOCATE: {"fallocate", "fallocate64", "posix_fallocate", "posix_fallocate64"},
    Call.MAP: {"mmap"},
    Call.RENAME: {"rename", "renameat"},
    Call.LINK: {"link"},
    Call.UNLINK: {"unlink"},
    Call.MKDIR: {"mkdir"},
    Call.SPACE: {"statvfs", "statvfs64"},
}

WRITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
for line in sys.stdin:
    try:
        print(os.write(fd, b"x" * int(line)), flush=True)
    except OSError as failure:
        print(-failure.errno, flush=True)
"""


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    return Shim(tmp_path)


def outcomes(shim: Shim, path: Path) -> dict[str, str]:
    run = subprocess.run(
        [sys.executable, "-c", OPERATIONS, str(path)],
        env=dict(os.environ) | shim.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return dict(json.loads(line) for line in run.stdout.splitlines())


class Writer:
    """A child that writes so many bytes as it is told and says what came of it."""

    def __init__(self, shim: Shim, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            env=dict(os.environ) | shim.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def write(self, size: int) -> int:
        self.send(size)
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def send(self, size: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{size}\n")
        self._process.stdin.flush()

    def end(self) -> int:
        self._process.communicate(timeout=30)
        return self._process.returncode


@pytest.mark.parametrize("call", list(EXPECTED), ids=lambda call: str(call.name).lower())
def test_a_rule_meets_every_variant_of_its_call_and_no_other_call(shim: Shim, tmp_path: Path, call: Call) -> None:
    path = tmp_path / "000007.log"
    shim.add("*.sst", Call(0xFFFF), error=errno.EIO)
    # The first open of the file, for the calls that follow, is let through.
    files = f"{tmp_path}/*" if call == Call.SPACE else "*.log"  # A directory is asked for its space.
    rule = shim.add(files, call, error=errno.EDQUOT, after={Call.CREATE: 1, Call.WRITE: 1, Call.OPEN: 1}.get(call, 0))
    found = outcomes(shim, path)
    assert {name for name, failure in found.items() if failure == "EDQUOT"} == EXPECTED[call]
    assert set(found.values()) <= {"", "EDQUOT", "ENOENT"}
    assert rule.hits == len(EXPECTED[call])


def test_every_call_has_its_test() -> None:
    assert set(EXPECTED) == set(Call)


def test_a_rule_is_in_force_from_its_nth_call_and_as_often_as_it_says(shim: Shim, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    rule = shim.add(path, Call.WRITE, error=errno.EIO, after=2, times=1)
    writer = Writer(shim, path)
    assert [writer.write(10) for _ in range(5)] == [10, 10, -errno.EIO, 10, 10]
    assert (rule.matched, rule.hits) == (5, 1)
    rule.withdraw()
    assert writer.write(10) == 10
    assert rule.matched == 5
    assert writer.end() == 0
    assert path.stat().st_size == 50


def test_a_rule_meets_files_that_were_open_before_it_and_ends_when_it_is_withdrawn(shim: Shim, tmp_path: Path) -> None:
    writer = Writer(shim, tmp_path / "a.log")
    assert writer.write(10) == 10
    rule = shim.add("*.log", Call.WRITE, error=errno.ENOSPC)
    assert writer.write(10) == -errno.ENOSPC
    rule.withdraw()
    assert writer.write(10) == 10
    assert writer.end() == 0


def test_a_budget_cuts_the_write_that_crosses_it_and_refuses_the_next(shim: Shim, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    rule = shim.add("*.log", Call.GROWS, action=Action.BUDGET, budget=100, error=errno.ENOSPC)
    writer = Writer(shim, path)
    assert [writer.write(40) for _ in range(4)] == [40, 40, 20, -errno.ENOSPC]
    assert rule.bytes == 100
    rule.withdraw()
    assert writer.write(40) == 40
    assert writer.end() == 0
    assert path.stat().st_size == 140


def test_a_directory_has_as_much_space_as_a_budget_has_left(shim: Shim, tmp_path: Path) -> None:
    shim.add(
        f"{tmp_path}/*", Call.GROWS | Call.SPACE, action=Action.BUDGET, budget=40 * 4096 + 10_000, error=errno.ENOSPC
    )
    writer = Writer(shim, tmp_path / "a.log")
    assert writer.write(10_000) == 10_000
    look = "import os, sys; found = os.statvfs(sys.argv[1]); print(found.f_bavail * found.f_frsize)"
    run = subprocess.run(
        [sys.executable, "-c", look, str(tmp_path)],
        env=dict(os.environ) | shim.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(run.stdout) == 40 * 4096
    assert writer.end() == 0


def test_a_short_write_writes_half(shim: Shim, tmp_path: Path) -> None:
    shim.add("*.log", Call.WRITE, action=Action.SHORTEN)
    writer = Writer(shim, tmp_path / "a.log")
    assert [writer.write(size) for size in (100, 3, 1)] == [50, 1, 1]
    assert writer.end() == 0


def test_a_held_call_waits_until_the_rule_is_withdrawn(shim: Shim, tmp_path: Path) -> None:
    rule = shim.add("*.log", Call.WRITE, action=Action.HOLD)
    writer = Writer(shim, tmp_path / "a.log")
    writer.send(10)
    rule.await_hits()
    assert (tmp_path / "a.log").stat().st_size == 0
    rule.withdraw()
    assert writer.end() == 0
    assert (tmp_path / "a.log").stat().st_size == 10


@pytest.mark.parametrize(("action", "size"), [(Action.KILL, 10), (Action.KILL_AFTER, 15)])
def test_a_kill_comes_before_the_call_or_in_the_middle_of_it(
    shim: Shim, tmp_path: Path, action: Action, size: int
) -> None:
    path = tmp_path / "a.log"
    shim.add("*.log", Call.WRITE, action=action, after=1)
    writer = Writer(shim, path)
    assert writer.write(10) == 10
    writer.send(10)
    assert writer.end() == -signal.SIGKILL
    assert path.stat().st_size == size


def test_a_name_without_a_slash_is_compared_with_the_last_part_and_others_with_the_path(
    shim: Shim, tmp_path: Path
) -> None:
    (tmp_path / "x.log").mkdir()
    path = tmp_path / "x.log" / "a.sst"
    shim.add("*.log", Call.WRITE)
    shim.add(tmp_path / "*.sst.old", Call.WRITE)
    writer = Writer(shim, path)
    assert writer.write(10) == 10
    shim.add(f"{tmp_path}/*.sst", Call.WRITE)
    assert writer.write(10) == -errno.EIO
    assert writer.end() == 0


def test_the_first_rule_that_applies_decides(shim: Shim, tmp_path: Path) -> None:
    shim.add("*.log", Call.WRITE, error=errno.ENOSPC, times=1)
    shim.add("*.log", Call.WRITE, error=errno.EIO)
    writer = Writer(shim, tmp_path / "a.log")
    assert [writer.write(10) for _ in range(2)] == [-errno.ENOSPC, -errno.EIO]
    assert writer.end() == 0


def test_the_library_is_built_once_for_what_it_was_built_from(tmp_path: Path) -> None:
    library = build(tmp_path)
    assert build(tmp_path) == library
    assert [path.name for path in tmp_path.iterdir()] == [library.name]


def test_a_wrong_control_file_ends_the_process_instead_of_leaving_it_unwatched(shim: Shim, tmp_path: Path) -> None:
    (tmp_path / "shim-control").write_bytes(b"short")
    run = subprocess.run(
        ["true"], env=dict(os.environ) | shim.environment(), capture_output=True, text=True, check=False
    )
    assert run.returncode == -signal.SIGABRT
    assert "control file" in run.stderr
