"""Export: one namespace's rows out, as an archive of one instant."""

from __future__ import annotations

from prefixdb.errors import Reason, error
from prefixdb.service.calls import Call, Wire
from prefixdb.v1 import transfer_pb2 as pb


class Exports:
    """Export: one namespace's rows out, as an archive of one instant."""

    async def run(self, call: Call, request: pb.ExportRequest, wire: Wire) -> None:
        raise error(Reason.METHOD_UNKNOWN)
