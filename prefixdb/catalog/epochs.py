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
"""Called with a namespace, or with None for everyone."""


class Epochs:
    """The numbers, within this process. Asking is lock-free; moving takes a lock for a moment."""

    def __init__(self) -> None:
        self._changes = threading.Lock()
        self._everyone = 0
        self._namespaces: dict[int, int] = {}
        self._exact: list[Listener] = []
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

    def add_exact_listener(self, listener: Listener) -> None:
        """Have ``listener`` called after every move with the number that moved, before other listeners.

        For who keeps numbers of its own, and knows by itself that guests depend on that of namespace 0. It returns when
        nothing is served any more that was looked at before the move, and it must not raise: its caller answers next.
        """
        self._exact.append(listener)

    def move(self, namespace_id: int | None) -> None:
        """Note a change that is durable and visible: of one namespace, or of everyone with None.

        Locks of the catalog may be held meanwhile, so no listener may wait for who could want one.
        """
        with self._changes:
            if namespace_id is None:
                self._everyone += 1
            else:
                self._namespaces[namespace_id] = self._namespaces.get(namespace_id, 0) + 1
        for exact in self._exact:
            exact(namespace_id)
        for listener in self._listeners:
            listener(None if namespace_id == DEFAULT_NAMESPACE_ID else namespace_id)
