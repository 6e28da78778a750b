"""A repository behind a URL, by fsspec. Object stores have neither renames nor locks, so both are made here.

A file of another size than its manifest says counts as absent, which makes an interrupted upload harmless: the next
one writes it anew. Manifests are written under another name first and then moved.

The lock is one small file for each holder: a holder writes its own, then looks at all of them, and gives way when
there is another. Of two who begin together at least one sees the other. A file of a process of this machine that has
ended, or that nobody has renewed for half an hour, does not count. Who only reads takes no lock: at worst a prune
removes what it reads, and it says so.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from prefixdb.clock import SystemClock
from prefixdb.errors import PrefixdbError, bad_field
from prefixdb.limits import KIB
from prefixdb.repository.manifest import invalid
from prefixdb.repository.places import Lease, Writer, occupied

LOCKS = "locks"
STALE_S = 1800
RENEW_S = 120

_LEASE_BYTES_MAX = 4 * KIB


class RemotePlace:
    """See ``places.Place``."""

    is_local = False

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ModuleNotFoundError as failure:
            if failure.name != "fsspec":
                raise
            message = "behind a URL needs fsspec; install it: pip install 'prefixdb[remote]'"
            raise bad_field("repository", message) from failure
        self.name = _without_secrets(url)
        try:
            self._files, root = fsspec.core.url_to_fs(url)
        except Exception as failure:
            # Unknown protocols, missing packages, bad options: fsspec's own words say which.
            raise bad_field("repository", f"cannot be used: {failure}") from failure
        self._root = str(root).rstrip("/")

    def __repr__(self) -> str:
        return f"RemotePlace({self.name})"

    def prepare(self) -> None:
        """Make the root where there are directories at all."""
        with self._errors(""):
            self._files.makedirs(self._root, exist_ok=True)

    def read(self, path: str, bytes_max: int) -> bytes | None:
        """Return a file's bytes, None when it is not there."""
        try:
            with self.open(path) as file, self._errors(path):
                data = file.read(bytes_max + 1)
        except FileNotFoundError:
            return None
        if len(data) > bytes_max:
            raise invalid(self._place(path), f"has more than {bytes_max:,} bytes")
        return data

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        with self._errors(path):
            return cast("BinaryIO", _RemoteFile(self, path, self._files.open(self._full(path), "rb")))

    def names(self) -> list[str]:
        """Return the names right below the root, sorted; none when it is not there."""
        self._files.invalidate_cache()
        try:
            with self._errors(""):
                found = self._files.ls(self._root, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in found)

    def files(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield path and size of every file below a folder; none when it is not there."""
        self._files.invalidate_cache()
        root = self._full(folder)
        try:
            with self._errors(folder):
                found = self._files.find(root, detail=True)
        except FileNotFoundError:
            return
        for name, facts in found.items():
            path = f"{folder}{str(name)[len(root) :]}" if str(name).startswith(f"{root}/") else str(name)
            if facts.get("type") != "file" or facts.get("islink") or type(facts.get("size")) is not int:
                raise invalid(self._place(path), "is no plain file")
            yield path, facts["size"]

    def create(self, path: str) -> Writer:
        """Begin a new file."""
        folder = self._full(path).rpartition("/")[0]
        with self._errors(path):
            self._files.makedirs(folder, exist_ok=True)
            return _RemoteWriter(self, path, self._files.open(self._full(path), "wb"))

    def put(self, path: str, data: bytes) -> None:
        """Write a small file whole: under another name first, so that no half of it is ever seen."""
        hidden = f"tmp/{secrets.token_hex(8)}"
        writer = self.create(hidden)
        writer.write(data)
        writer.commit()
        with self._errors(path):
            self._files.makedirs(self._full(path).rpartition("/")[0], exist_ok=True)
            self._files.mv(self._full(hidden), self._full(path))

    def remove(self, path: str) -> None:
        """Remove a file; harmless when it is gone."""
        with contextlib.suppress(FileNotFoundError), self._errors(path):
            self._files.rm_file(self._full(path))

    def settle(self) -> None:
        """Do nothing: what such a file system has taken it keeps."""

    def clean(self) -> None:
        """Remove what interrupted writers left."""
        for path, _ in list(self.files("tmp")):
            self.remove(path)

    def free_bytes(self) -> int | None:
        """Return None: nobody knows."""
        return None

    def lock(self, *, exclusive: bool) -> Lease:
        """Take the lock, see the module's docstring."""
        lease = _RemoteLease(self, exclusive=exclusive)
        if exclusive:
            lease.take()
        return lease

    def size_of(self, path: str) -> int | None:
        """Return the size of a file, None when it is not there."""
        self._files.invalidate_cache()
        try:
            with self._errors(path):
                return int(self._files.info(self._full(path))["size"])
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Make an OSError with a name of whatever the file system raises: each has exceptions of its own."""
        try:
            yield
        except PrefixdbError:
            raise
        except OSError as failure:
            if failure.filename is not None and failure.errno is not None:
                raise
            number = errno.ENOENT if isinstance(failure, FileNotFoundError) else failure.errno or errno.EIO
            raise OSError(number, failure.strerror or str(failure) or os.strerror(number), self._place(path)) from (
                failure
            )
        except Exception as failure:
            raise OSError(errno.EIO, f"{type(failure).__name__}: {failure}", self._place(path)) from failure

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _place(self, path: str) -> str:
        return f"{self.name.rstrip('/')}/{path}" if path else self.name


class _RemoteFile(io.RawIOBase):
    """A file that is read, with errors that name it."""

    def __init__(self, place: RemotePlace, path: str, file: Any) -> None:
        self._place = place
        self._path = path
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        with self._place._errors(self._path):
            data: bytes = self._file.read(size)
            return data

    def close(self) -> None:
        if not self.closed:
            super().close()
            with self._place._errors(self._path):
                self._file.close()


class _RemoteWriter:
    """See ``places.Writer``."""

    def __init__(self, place: RemotePlace, path: str, file: Any) -> None:
        self._place = place
        self._path = path
        self._file = file
        self._bytes = 0
        self._over = False
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock, self._place._errors(self._path):
            self._file.write(data)
            self._bytes += len(data)

    def commit(self) -> None:
        with self._lock, self._place._errors(self._path):
            self._file.close()
            found = self._place.size_of(self._path)
            if found != self._bytes:
                raise OSError(errno.EIO, f"{self._bytes} bytes were written, {found} are there")
            self._over = True

    def abort(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._over:
                return
            self._over = True
            with self._place._errors(self._path):
                if not self._file.closed and hasattr(self._file, "discard"):
                    self._file.discard()
                self._file.closed = True
        # Some file systems show what was written so far.
        with contextlib.suppress(OSError):
            self._place.remove(self._path)


class _RemoteLease(Lease):
    """See ``places.Lease``."""

    def __init__(self, place: RemotePlace, *, exclusive: bool) -> None:
        self._place = place
        self._path = f"{LOCKS}/{secrets.token_hex(8)}.json" if exclusive else ""
        self._renewed_s = 0.0

    def take(self) -> None:
        """Write this holder's file and look whether there is another."""
        self._write()
        try:
            for path, _ in list(self._place.files(LOCKS)):
                if path == self._path:
                    continue
                holder = _holder(self._place.read(path, _LEASE_BYTES_MAX))
                if holder is None:
                    self._place.remove(path)
                else:
                    raise occupied(self._place.name, holder)
        except BaseException:
            self.release()
            raise

    def keep(self) -> None:
        if not self._path or time.monotonic() - self._renewed_s < RENEW_S:
            return
        if self._place.size_of(self._path) is None or time.monotonic() - self._renewed_s > STALE_S / 2:
            self._path = ""
            raise occupied(self._place.name, ", which took this one for dead because nothing was heard of it")
        self._write()

    def release(self) -> None:
        path, self._path = self._path, ""
        if path:
            self._place.remove(path)

    def _write(self) -> None:
        content = {"host": _host(), "pid": os.getpid(), "renewed_at_ms": SystemClock().now_ms()}
        self._place.put(self._path, json.dumps(content).encode("ascii") + b"\n")
        self._renewed_s = time.monotonic()


def _holder(data: bytes | None) -> str | None:
    """Return words on who holds a lock by the content of its file; None when nobody does any more."""
    if data is None:
        return None
    try:
        content = json.loads(data)
        host, pid, renewed_at_ms = str(content["host"]), int(content["pid"]), int(content["renewed_at_ms"])
    except (ValueError, KeyError, TypeError):
        return " (a lock that cannot be read)"
    if host == _host() and not _alive(pid):
        return None
    age_s = (SystemClock().now_ms() - renewed_at_ms) / 1000
    if age_s > STALE_S:
        return None
    return f" (process {pid} of {host.partition('/')[0][:80]!r})"


def _host() -> str:
    """Return what tells one space of process numbers from others: host, boot and, in containers, the namespace."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    return f"{socket.gethostname()}//"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _without_secrets(url: str) -> str:
    """Return a URL without a password."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}@{host}").geturl()
