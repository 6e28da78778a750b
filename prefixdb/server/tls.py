"""The server's certificates: checked before they are used, and exchanged without a restart.

    files ──► read and check (``tls_files``) ──► gRPC takes the new ones with the next connection
                       │
                       └── not good: the ones in use go on, and the problem is told until it is gone

Measured with grpcio 1.85.1: ``dynamic_ssl_server_credentials`` works with ``grpc.aio``; the function below is called in
one of gRPC's own threads before each handshake; open connections keep what they were made with, and a TLS session from
before the change cannot be resumed; when it raises, or gives what BoringSSL cannot load, gRPC goes on with the old
certificates and tells nobody. A key of another kind than
``tls_files`` lets through is worse: it is taken, and then every handshake fails. So everything is checked here first,
and gRPC gets only bytes that were written anew from what was understood.

Other programs write certificate and key one after the other. A change is therefore looked at only when two looks in
a row have found the files the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from prefixdb.clock import Clock
from prefixdb.errors import InvalidArgumentError
from prefixdb.server.config import TlsSection
from prefixdb.server.tls_files import TlsFiles, read_tls_files

_LOG = logging.getLogger("prefixdb.tls")

EXPIRES_SOON_MS = 14 * 24 * 3_600_000
"""A certificate that ends sooner than this is worth a warning: most are renewed a month before their end."""

REMIND_MS = 24 * 3_600_000
"""The warning is repeated so often."""

Stamp = tuple[tuple[int, int, int] | None, ...]
"""What tells whether files have changed: time of change, inode and size of each; None for one that is not there."""


class Certificates:
    """The certificates in use. ``look`` belongs to one thread at a time; everything else may be called from any.

    Args:
        tls: with ``cert`` set.
        clock: for the end of certificates.

    Raises:
        InvalidArgumentError: BAD_FIELD that names the setting: a file cannot be read or is not what it should be, key
            and certificate do not belong together.
    """

    def __init__(self, tls: TlsSection, clock: Clock) -> None:
        self._tls = tls
        self._clock = clock
        self._paths = tuple(Path(path).expanduser() for path in (tls.cert, tls.key, tls.client_ca) if path)
        self._stamp = self._seen = self._stamp_now()
        self._files = read_tls_files(tls)
        self._fresh: grpc.ServerCertificateConfiguration | None = None
        self._use: Callable[[TlsFiles], None] | None = None
        self._problem = ""
        self._reminded_ms = 0
        self._remind()

    @property
    def expires_at_ms(self) -> int:
        """When the first of the certificates in use ends."""
        return self._files.expires_at_ms

    @property
    def problems(self) -> tuple[str, ...]:
        """What an operator should look at, in sentences; empty when all is well."""
        return tuple(text for text in (self._problem, self._expiry()) if text)

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials for one port, which take what ``look`` finds later."""
        take: Callable[[], Any] = self._take_fresh  # The library's stubs do not know of None, its documentation does.
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._files), take, require_client_authentication=bool(self._tls.client_ca)
        )

    def use_with(self, use: Callable[[TlsFiles], None]) -> None:
        """Have ``use`` called with what is in use, now, and with what ``look`` finds later, in its thread.

        Args:
            use: raises InvalidArgumentError when it cannot take it; the old ones go on then.

        Raises:
            InvalidArgumentError: it cannot take what is in use now.
        """
        use(self._files)
        self._use = use

    def look(self) -> bool:
        """Read the files if they have changed since, and return whether new ones will be used. Blocks on the disk.

        Never raises for what is wrong with the files: the old certificates go on, and ``problems`` says so.
        """
        self._remind()
        stamp = self._stamp_now()
        if stamp == self._stamp and not self._problem:
            self._seen = stamp
            return False
        if stamp != self._seen:
            self._seen = stamp  # Somebody may be writing: look again before reading.
            return False
        try:
            files = read_tls_files(self._tls)
            files.check_valid_at(self._clock.now_ms())
            if self._use is not None and files != self._files:
                self._use(files)
        except InvalidArgumentError as failure:
            self._note(f"The new TLS files are not used, the old ones go on: {failure.message}")
            return False
        self._note("")
        self._stamp = stamp
        if files == self._files:
            return False
        self._files = files
        self._fresh = _configuration(files)
        self._reminded_ms = 0
        _LOG.info("new TLS certificates are used from now on", extra=files.describe())
        self._remind()
        return True

    def _take_fresh(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what is new since the last call, None when nothing is. Called in gRPC's threads, one at a time."""
        fresh, self._fresh = self._fresh, None
        return fresh

    def _stamp_now(self) -> Stamp:
        return tuple(_stamp_of(path) for path in self._paths)

    def _note(self, problem: str) -> None:
        """Keep the present problem, and log it when it is another one than before."""
        if problem and problem != self._problem:
            _LOG.error("TLS files have changed and cannot be used", extra={"why": problem})
        elif self._problem and not problem:
            _LOG.info("TLS files are good again")
        self._problem = problem

    def _expiry(self) -> str:
        """Return a sentence when a certificate has ended or will soon."""
        files, now_ms = self._files, self._clock.now_ms()
        if now_ms + EXPIRES_SOON_MS < files.expires_at_ms:
            return ""
        if now_ms < files.expires_at_ms:
            return f"{files.expires_first} expires soon, at {files.expires_at}; renew it."
        return f"{files.expires_first} has expired, at {files.expires_at}; connections are refused until it is renewed."

    def _remind(self) -> None:
        """Log once a day that a certificate ends soon."""
        text, now_ms = self._expiry(), self._clock.now_ms()
        if text and now_ms >= self._reminded_ms:
            self._reminded_ms = now_ms + REMIND_MS
            _LOG.warning("a TLS certificate expires", extra={"why": text})


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(files.key, files.chain)], files.client_ca or None)


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None  # Reading it tells why.
    return found.st_mtime_ns, found.st_ino, found.st_size
