"""What the operator has opened on purpose, said in words at every start: it may have been by mistake."""

from __future__ import annotations

from dataclasses import dataclass

from prefixdb.server.config import ServerConfig
from prefixdb.server.transport import is_local

_MAY = {"reader": "read every row", "writer": "read, change and delete every row"}


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence or two. ``grave`` when people beyond this machine gain by it."""

    text: str
    grave: bool


def notices(config: ServerConfig) -> tuple[Notice, ...]:
    """Return what should not be overlooked about a configuration; nothing for the usual one."""
    found = []
    local = is_local(config)
    place = config.server.listen.removesuffix(":0")  # Which port that becomes is not known yet.
    if config.auth.anonymous != "off":
        who = "anybody on this machine" if local else "ANYBODY ON THE NETWORK"
        if config.tls.client_ca:
            who += " with a client certificate"
        text = (
            f"Calls without a token are let in: {who} who reaches {place} may "
            f"{_MAY[config.auth.anonymous]} of the namespace default. To end this, remove auth.anonymous from the "
            "configuration, or say --anonymous off, and start again."
        )
        found.append(Notice(text, grave=not local))
    if not local and not config.tls.cert:
        text = (
            f"Tokens, passwords and rows travel readable to {place}, for the server was told to go "
            "without TLS (server.insecure). To end this, set tls.cert and tls.key and start again."
        )
        found.append(Notice(text, grave=True))
    return tuple(found)
