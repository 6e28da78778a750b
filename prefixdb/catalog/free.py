"""Which names and numbers a new namespace may have: neither in use, nor promised to one that is being made."""

from __future__ import annotations

import secrets

from prefixdb import limits
from prefixdb.catalog import load
from prefixdb.catalog.directory import Directory
from prefixdb.catalog.entities import NamespaceState
from prefixdb.errors import Reason, bad_field, error
from prefixdb.store.base import Store

_ID_DRAWS_MAX = 100


class Free:
    """Asked, and relied upon, under the registry's lock only."""

    def __init__(self, store: Store, directory: Directory) -> None:
        self._store = store
        self._directory = directory

    def check_name(self, name: str) -> None:
        """Raise NAMESPACE_EXISTS when a live namespace has the name or one in the making will."""
        if self.is_name_taken(name):
            raise error(Reason.NAMESPACE_EXISTS, "A namespace of this name exists.")
        if self._directory.is_name_reserved(name):
            message = "A namespace of this name is being restored or cloned; wait, or ban that one by its number."
            raise error(Reason.NAMESPACE_EXISTS, message)

    def is_name_taken(self, name: str) -> bool:
        """Return whether a live namespace has the name."""
        found = self._directory.find(name)
        return found is not None and found.state.is_live

    def check_id(self, namespace_id: int) -> int:
        """Return a chosen id when it may be issued now.

        Raises:
            InvalidArgumentError: BAD_FIELD (id).
            AlreadyExistsError: NAMESPACE_EXISTS, a live namespace has it, or one in the making will.
            FailedPreconditionError: NAMESPACE_NOT_EMPTY, there are rows or an unreclaimed ban.
        """
        if not 1 <= namespace_id <= limits.NAMESPACE_ID_MAX:
            raise bad_field("id", "must be between 1 and 2^64-2.")
        record = self._directory.get(namespace_id)
        if record is not None and record.state.is_live:
            raise error(Reason.NAMESPACE_EXISTS, "A namespace of this number exists.")
        if self._directory.is_reserved(namespace_id):
            raise error(Reason.NAMESPACE_EXISTS, "A namespace of this number is being restored or cloned.")
        if record is not None and record.state is not NamespaceState.RECLAIMED:
            raise error(Reason.NAMESPACE_NOT_EMPTY)
        if not load.is_span_empty(self._store, namespace_id):
            raise error(Reason.NAMESPACE_NOT_EMPTY)
        return namespace_id

    def draw_id(self) -> int:
        """Return a random id that was never issued. A second draw is already as likely as a lightning stroke."""
        for _ in range(_ID_DRAWS_MAX):
            drawn = secrets.randbits(64)
            if (
                1 <= drawn <= limits.NAMESPACE_ID_MAX
                and self._directory.get(drawn) is None
                and not self._directory.is_reserved(drawn)
                and load.is_span_empty(self._store, drawn)
            ):
                return drawn
        raise error(Reason.INTERNAL, "No free namespace id was found.")
