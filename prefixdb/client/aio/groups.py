"""The groups of the caller's own namespace: named lists of rules."""

from __future__ import annotations

from collections.abc import Iterable

from prefixdb.client import methods
from prefixdb.client.aio import wire
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.models import Group, Rule, group_of, rule_to
from prefixdb.limits import LIST_PAGE_ENTRIES_MAX
from prefixdb.v1 import members_pb2


class AsyncGroups:
    """Groups by name. ``guardians``, ``writers`` and ``readers`` are built in and stay as they are."""

    def __init__(self, connection: AsyncConnection, deadline_s: float) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    async def list(self) -> wire.Stream[Group]:
        """Yield the groups in the order of their names, the built-in ones among them."""
        request = members_pb2.ListGroupsRequest(page_size=LIST_PAGE_ENTRIES_MAX)
        while True:
            page = await self._connection.call(methods.LIST_GROUPS, request, deadline_s=self._deadline_s)
            for group in page.groups:
                yield group_of(group)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get(self, name: str) -> Group:
        """Return one group.

        Raises:
            NotFoundError: GROUP_NOT_FOUND.
        """
        request = members_pb2.GetGroupRequest(name=name)
        answer = await self._connection.call(methods.GET_GROUP, request, deadline_s=self._deadline_s)
        return group_of(answer.group)

    async def create(self, name: str, rules: Iterable[Rule] = ()) -> Group:
        """Add a group: ``create("auditors", [Rule(prefix=b"log/", read=True)])``. What no rule permits is denied.

        Raises:
            AlreadyExistsError: GROUP_EXISTS.
        """
        request = members_pb2.CreateGroupRequest(name=name, rules=[rule_to(rule) for rule in rules])
        answer = await self._connection.call(methods.CREATE_GROUP, request, deadline_s=self._deadline_s)
        return group_of(answer.group)

    async def update(self, name: str, rules: Iterable[Rule]) -> Group:
        """Replace all rules of a group.

        Raises:
            NotFoundError: GROUP_NOT_FOUND.
            FailedPreconditionError: GROUP_BUILT_IN.
        """
        request = members_pb2.UpdateGroupRequest(name=name, rules=[rule_to(rule) for rule in rules])
        answer = await self._connection.call(methods.UPDATE_GROUP, request, deadline_s=self._deadline_s)
        return group_of(answer.group)

    async def delete(self, name: str) -> None:
        """Remove a group and take it from its members; tokens and grants that name it lose what it permitted.

        Raises:
            NotFoundError: GROUP_NOT_FOUND.
            FailedPreconditionError: GROUP_BUILT_IN.
        """
        request = members_pb2.DeleteGroupRequest(name=name)
        await self._connection.call(methods.DELETE_GROUP, request, deadline_s=self._deadline_s)
