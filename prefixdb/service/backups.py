"""Backup and ListBans: the whole store out of the server."""

from __future__ import annotations

from prefixdb.errors import Reason, error
from prefixdb.service.calls import Call, Wire


class Backups:
    """Backup and ListBans: the whole store out of the server."""

    async def take(self, call: Call, wire: Wire) -> None:
        raise error(Reason.METHOD_UNKNOWN)

    async def list_bans(self, call: Call, wire: Wire) -> None:
        raise error(Reason.METHOD_UNKNOWN)
