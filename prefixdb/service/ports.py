"""What the services need from the server around them: an audit, an observer, the reclaimer's reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from prefixdb.catalog.entities import ReclaimReport

RESULT_OK = "ok"
RESULT_STARTED = "started"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit, without what the file itself adds (number, time, hash). Never holds a secret.

    user: subject of the token, empty when the caller proved none.
    namespace_id, namespace: the user's namespace, not the target's.
    target: what the act was about: a namespace, a jti, a subject.
    result: ``started``, ``ok`` or the name of a Reason.
    """

    user: str = ""
    namespace_id: int | None = None
    namespace: str = ""
    method: str = ""
    target: str = ""
    result: str = ""
    jti: str = ""
    peer: str = ""
    request_id: str = ""


PeerCheck = Callable[[bytes, str], None]
"""``check(certificate, subject)`` raises NOT_PERMITTED when the client's certificate (PEM, or nothing) is somebody
else's than the subject's."""


def any_peer(certificate: bytes, subject: str) -> None:
    """Let everybody use any connection: the check of a server that ties no certificate to its holder's tokens."""


class AuditReader(Protocol):
    """Who can read the audit back."""

    def newest(self, count: int = 0) -> tuple[int, int]:
        """Return where the newest ``count`` lines (0 for all) begin and end. Blocks; thread-safe."""

    def page(self, begin: int, end: int) -> tuple[list[str], int]:
        """Return a page of lines, oldest first, and where the next one begins. Blocks; thread-safe."""


class AuditLog(Protocol):
    """Where administrative acts are written down."""

    async def record(self, entry: AuditEntry) -> None:
        """Return when the entry is on disk; raise UnavailableError AUDIT_UNAVAILABLE when it cannot be written."""


class CallObserver(Protocol):
    """Who counts calls. Must be cheap: it is called once for every call on the serving thread."""

    def call_ended(self, method: str, code: int, seconds: float) -> None:
        """Note that a call of ``method`` ended with the gRPC status ``code``."""


class ReclaimReports(Protocol):
    """Who knows how far reclaims are; ``prefixdb.reclaim.Reclaimer`` is one."""

    def report(self, namespace_id: int) -> ReclaimReport:
        """Return the report of the namespace's ban; raise NotFoundError REPORT_NOT_FOUND when there is none."""

    def wake(self) -> None:
        """Look for work now."""

    def add_listener(self, listener: Callable[[int], None]) -> None:
        """Have ``listener(namespace_id)`` called, from any thread, on every change of a report."""
