# Generated from prefixdb/client/aio/audit.py by tools/async_to_sync.py; do not edit.
"""The audit: what administrators did, as the server wrote it down."""

from __future__ import annotations

from prefixdb.client import methods
from prefixdb.client.sync import wire
from prefixdb.client.sync.connection import Connection
from prefixdb.errors import Reason, UnauthenticatedError, error
from prefixdb.v1 import maintenance_pb2

NEWEST_MAX = 2**32 - 1


class Audit:
    """Reads the audit. For cluster guardians and members with the privilege ``audit``."""

    def __init__(self, connection: Connection, deadline_s: float) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    def read(self, newest: int = 0) -> wire.Stream[str]:
        """Yield lines of the audit, oldest first: JSON objects as they are, so that their hashes can be checked.

        Args:
            newest: only the newest so many; 0 for all.
        """
        if not 0 <= newest <= NEWEST_MAX:
            raise error(Reason.BAD_FIELD, "newest is a number of lines; 0 means all of them.")
        request = maintenance_pb2.ReadAuditRequest(newest=newest)
        begun = renewed = False
        while True:
            messages = self._connection.open_stream(methods.READ_AUDIT, request)
            try:
                while (page := messages.receive(self._deadline_s)) is not None:
                    begun = True
                    yield from page.lines
                return
            except UnauthenticatedError:
                # A stream that has begun cannot go on in another one: lines may have come meanwhile.
                if begun or renewed or not self._connection.renew(messages.token):
                    raise
                renewed = True
            finally:
                messages.cancel()
