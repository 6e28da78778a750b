"""Limits on how many records of a kind a namespace holds, without counting them for each new one.

Counting a hundred thousand members takes a tenth of a second, so a count is made once and remembered as room: so many
more may be added before it is time to count again. Whatever leaves in between only makes more room than is remembered,
and an addition that then fails only less is used; so the limit is never passed.
"""

from __future__ import annotations

from prefixdb.catalog.namespaces import Registry
from prefixdb.catalog.schema import Tag
from prefixdb.errors import PrefixdbError, Reason, error
from prefixdb.keycodec import Span, system_span
from prefixdb.store.base import Store

_REMEMBERED_MAX = 1_024
"""Namespaces whose room is remembered; beyond it all is forgotten and counted again."""


class Room:
    """Room for records of one tag. Thread-safe as long as one at a time takes room in a namespace."""

    def __init__(self, store: Store, registry: Registry, tag: Tag, limit: int, what: str) -> None:
        self._store = store
        self._registry = registry
        self._tag = tag
        self._limit = limit
        self._what = what
        self._left: dict[tuple[int, int], int] = {}

    def take(self, namespace_id: int) -> None:
        """Take room for one record that is about to be written.

        Raises:
            ResourceExhaustedError: QUOTA_EXCEEDED.
        """
        record = self._registry.get(namespace_id)
        issue = (namespace_id, record.incarnation if record else 0)
        left = self._left.get(issue, 0)
        if left <= 0:
            left = self._limit - count_rows(self._store, system_span(namespace_id, self._tag), self._limit)
        if left <= 0:
            raise full(self._what, self._limit)
        if len(self._left) >= _REMEMBERED_MAX:
            self._left.clear()
        self._left[issue] = left - 1


def count_rows(store: Store, span: Span, limit: int) -> int:
    """Return how many live rows the span has, looking at ``limit`` at most."""
    cursor = store.open_cursor(span, keys_only=True)
    try:
        return cursor.count(limit)
    finally:
        cursor.close()


def full(what: str, limit: int) -> PrefixdbError:
    """Return the refusal of one more than ``limit``."""
    metadata = {"used": str(limit), "limit": str(limit)}
    return error(Reason.QUOTA_EXCEEDED, f"There are {limit} {what} already; remove some first.", metadata=metadata)
