"""The Transfer service: data in bulk, each of its calls answered by the module of its name.

Backup, ListBans                    backups.py     the whole store, for who may read everything
Export                              exports.py     one namespace's rows out
Import                              imports.py     rows into a namespace that lives
RestoreNamespace, CloneNamespace    staging.py     a new namespace, unseen until it is whole
"""

from __future__ import annotations

from dataclasses import dataclass

from prefixdb.service.backups import Backups
from prefixdb.service.calls import Call, Wire
from prefixdb.service.exports import Exports
from prefixdb.service.imports import Imports
from prefixdb.service.staging import Staging
from prefixdb.v1 import transfer_pb2 as pb


@dataclass(frozen=True, slots=True)
class Transfer:
    """Implementation of ``prefixdb.v1.Transfer``. Belongs to the event loop's thread."""

    backups: Backups
    exports: Exports
    imports: Imports
    staging: Staging

    async def Backup(self, call: Call, wire: Wire) -> None:
        """Send the files of the whole store at one instant."""
        await self.backups.take(call, wire)

    async def ListBans(self, call: Call, request: pb.ListBansRequest, wire: Wire) -> None:
        """Stream every ban there ever was."""
        await self.backups.list_bans(call, wire)

    async def Export(self, call: Call, request: pb.ExportRequest, wire: Wire) -> None:
        """Stream an archive of rows."""
        await self.exports.run(call, request, wire)

    async def Import(self, call: Call, wire: Wire) -> None:
        """Take an archive of rows in."""
        await self.imports.run(call, wire)

    async def RestoreNamespace(self, call: Call, wire: Wire) -> None:
        """Make a new namespace from an archive."""
        await self.staging.restore(call, wire)

    async def CloneNamespace(self, call: Call, request: pb.CloneNamespaceRequest, wire: Wire) -> None:
        """Make a new namespace from another one."""
        await self.staging.clone(call, request, wire)
