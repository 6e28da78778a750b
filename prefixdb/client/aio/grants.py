"""Which other namespaces the members of namespace 0 may use. For cluster guardians."""

from __future__ import annotations

from collections.abc import Iterable

from prefixdb.client import methods
from prefixdb.client.aio import wire
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.models import Grant, GrantEffect, Target, grant_of, set_target
from prefixdb.limits import LIST_PAGE_ENTRIES_MAX
from prefixdb.v1 import members_pb2


class AsyncGrants:
    """Grants and denials by member and target: a namespace by name or id, or ``ALL``.

    A denial wins over every grant.
    """

    def __init__(self, connection: AsyncConnection, deadline_s: float) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    async def allow(self, member: str, namespace: Target, groups: Iterable[str]) -> Grant:
        """Let a member use a namespace, in these of its groups; replaces what was said about the same target."""
        return await self._set(member, namespace, GrantEffect.ALLOW, groups)

    async def deny(self, member: str, namespace: Target) -> Grant:
        """Keep a member out, whatever is granted; replaces what was said about the same target."""
        return await self._set(member, namespace, GrantEffect.DENY, ())

    async def revoke(self, member: str, namespace: Target) -> None:
        """Take a grant or a denial back.

        Raises:
            NotFoundError: GRANT_NOT_FOUND.
        """
        request = members_pb2.DeleteGrantRequest(member=member)
        set_target(request, namespace)
        await self._connection.call(methods.DELETE_GRANT, request, deadline_s=self._deadline_s)

    async def list(self, member: str | None = None) -> wire.Stream[Grant]:
        """Yield the grants and denials of a member, or of everyone, by member and target."""
        request = members_pb2.ListGrantsRequest(member=member, page_size=LIST_PAGE_ENTRIES_MAX)
        while True:
            page = await self._connection.call(methods.LIST_GRANTS, request, deadline_s=self._deadline_s)
            for grant in page.grants:
                yield grant_of(grant)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def _set(self, member: str, namespace: Target, effect: GrantEffect, groups: Iterable[str]) -> Grant:
        request = members_pb2.SetGrantRequest(
            member=member, effect=members_pb2.GrantEffect.Name(effect.value), groups=list(groups)
        )
        set_target(request, namespace)
        answer = await self._connection.call(methods.SET_GRANT, request, deadline_s=self._deadline_s)
        return grant_of(answer.grant)
