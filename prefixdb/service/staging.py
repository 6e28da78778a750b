"""RestoreNamespace and CloneNamespace: a new namespace, unseen until it is whole."""

from __future__ import annotations

from prefixdb.errors import Reason, error
from prefixdb.service.calls import Call, Wire
from prefixdb.v1 import transfer_pb2 as pb


class Staging:
    """RestoreNamespace and CloneNamespace: a new namespace, unseen until it is whole."""

    async def restore(self, call: Call, wire: Wire) -> None:
        raise error(Reason.METHOD_UNKNOWN)

    async def clone(self, call: Call, request: pb.CloneNamespaceRequest, wire: Wire) -> None:
        raise error(Reason.METHOD_UNKNOWN)
