"""Numbers that say "look again": a cached session is believed while the sum of those it depends on has not moved.

A change that can touch a session moves one number: of everyone (keys, issuers, a revocation of everyone) or of one
namespace (its members, groups, logins and revocations; for namespace 0 also grants). A session depends on the number
of everyone, of its namespace, and, for a guest, of namespace 0. Each only grows: equal sums mean that none has moved.
A busy tenant's changes therefore cost nobody else's sessions a second look.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from prefixdb.catalog.entities import DEFAULT_NAMESPACE_ID

Listener = Callable[[int | None], None]


class Epochs:
    """The numbers, within this process. Asking is lock-free; moving takes a lock for a moment."""

    def __init__(self) -> None:
        self._changes = threading.Lock()
        self._everyone = 0
        self._namespaces: dict[int, int] = {}
        self._listeners: list[Listener] = []

    def of(self, namespace_id: int, *, guest: bool = False) -> int:
        """Return the number of sessions of the namespace; ``guest`` for those of members of namespace 0 in it."""
        number = self._everyone + self._namespaces.get(namespace_id, 0)
        return number + self._namespaces.get(DEFAULT_NAMESPACE_ID, 0) if guest else number

    def add_listener(self, listener: Listener) -> None:
        """Have ``listener`` called after every move with the namespace whose sessions have to look again.

        It is called with None when those of any namespace may have to: everyone's number moved, or that of
        namespace 0, whose members may be guests anywhere.
        """
        self._listeners.append(listener)

    def move(self, namespace_id: int | None) -> None:
        """Note a change that is durable and visible: of one namespace, or of everyone with None."""
        with self._changes:
            if namespace_id is None:
                self._everyone += 1
            else:
                self._namespaces[namespace_id] = self._namespaces.get(namespace_id, 0) + 1
        for listener in self._listeners:
            listener(None if namespace_id == DEFAULT_NAMESPACE_ID else namespace_id)
