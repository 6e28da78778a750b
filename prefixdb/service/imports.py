"""Import: an archive's rows into a namespace that lives."""

from __future__ import annotations

from prefixdb.errors import Reason, error
from prefixdb.service.calls import Call, Wire


class Imports:
    """Import: an archive's rows into a namespace that lives."""

    async def run(self, call: Call, wire: Wire) -> None:
        raise error(Reason.METHOD_UNKNOWN)
