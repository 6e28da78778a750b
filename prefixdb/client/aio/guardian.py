"""What guardians do, by subject; here also tokens, keys and the server as a whole."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration

from prefixdb.client import methods
from prefixdb.client.aio import wire
from prefixdb.client.aio.audit import AsyncAudit
from prefixdb.client.aio.backups import AsyncBackups
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.aio.grants import AsyncGrants
from prefixdb.client.aio.groups import AsyncGroups
from prefixdb.client.aio.members import AsyncMembers
from prefixdb.client.aio.namespaces import AsyncNamespaces
from prefixdb.client.credentials import TokenClaims, inspect_token
from prefixdb.client.encoding import Lifetime, namespace_ref, ttl_to_ms
from prefixdb.client.models import (
    Compaction,
    GuardianRole,
    IssuedToken,
    ServerStatus,
    ServiceToken,
    SigningKey,
    service_token_of,
    signing_key_of,
    status_of,
)
from prefixdb.errors import Reason, error
from prefixdb.limits import LIST_PAGE_ENTRIES_MAX
from prefixdb.v1 import auth_pb2, maintenance_pb2

COMPACT_DEADLINE_S = 3600.0


class AsyncGuardian:
    """The guardians' part of the service, by subject.

    Attributes:
        namespaces: creates, lists, renames, suspends and bans namespaces.
        members: creates, lists, changes and removes the members of the caller's own namespace.
        groups: creates, lists, changes and removes its groups.
        grants: lets members of namespace 0 use other namespaces, or keeps them out.
        tokens: issues, lists and revokes service tokens.
        keys: lists, rotates and removes the keys that sign tokens.
        audit: reads what administrators did.
        backups: takes backups of the whole store, and lists the bans that restores obey.
        maintenance: status of the server, compaction.
    """

    def __init__(self, connection: AsyncConnection, deadline_s: float) -> None:
        self.namespaces = AsyncNamespaces(connection, deadline_s)
        self.members = AsyncMembers(connection, deadline_s)
        self.groups = AsyncGroups(connection, deadline_s)
        self.grants = AsyncGrants(connection, deadline_s)
        self.tokens = AsyncTokens(connection, deadline_s)
        self.keys = AsyncKeys(connection, deadline_s)
        self.audit = AsyncAudit(connection, deadline_s)
        self.backups = AsyncBackups(connection, deadline_s)
        self.maintenance = AsyncMaintenance(connection, deadline_s)


class AsyncTokens:
    """Issues, lists and revokes service tokens of a namespace; None means the caller's own."""

    def __init__(self, connection: AsyncConnection, deadline_s: float) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    async def issue(
        self,
        subject: str,
        groups: Iterable[str] = (),
        *,
        ttl: Lifetime | None = None,
        namespace: int | str | None = None,
        guardian: GuardianRole = GuardianRole.NONE,
    ) -> IssuedToken:
        """Make a token. The secret is in the answer and nowhere else.

        Args:
            subject: who or what will hold it, 1 to 128 characters.
            groups: groups of the namespace, for example ``["writers"]``.
            ttl: lifetime in seconds or as a timedelta; None for 15 minutes. At most 366 days, an hour in a namespace
                that is not the caller's.
            namespace: name or id; only a cluster guardian can name another than his own.
            guardian: what the holder may administer.
        """
        request = auth_pb2.IssueTokenRequest(
            subject=subject,
            groups=list(groups),
            guardian=auth_pb2.Guardian.Name(guardian.value),
            ttl=None if ttl is None else _duration(ttl),
            namespace=None if namespace is None else namespace_ref(namespace),
        )
        answer = await self._connection.call(methods.ISSUE_TOKEN, request, deadline_s=self._deadline_s)
        return IssuedToken(answer.token, service_token_of(answer.info))

    async def list(self, *, namespace: int | str | None = None) -> wire.Stream[ServiceToken]:
        """Yield the tokens that have not expired, in the order of their ids; never the secrets."""
        request = auth_pb2.ListTokensRequest(
            namespace=None if namespace is None else namespace_ref(namespace), page_size=LIST_PAGE_ENTRIES_MAX
        )
        while True:
            page = await self._connection.call(methods.LIST_TOKENS, request, deadline_s=self._deadline_s)
            for token in page.tokens:
                yield service_token_of(token)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def revoke(
        self,
        *,
        jti: str | None = None,
        subject: str | None = None,
        all_of_namespace: bool = False,
        everyone: bool = False,
        namespace: int | str | None = None,
    ) -> None:
        """End tokens, from the next request on, and cut the streams they opened. Exactly one scope must be given.

        Args:
            jti: one token.
            subject: every token of that subject issued until now.
            all_of_namespace: every token of the namespace issued until now.
            everyone: every token of every namespace issued until now, the caller's too.
            namespace: name or id; None for the caller's own. Not with ``everyone``.
        """
        if sum([jti is not None, subject is not None, all_of_namespace, everyone]) != 1:
            raise error(Reason.BAD_FIELD, "Give exactly one of jti, subject, all_of_namespace and everyone.")
        request = auth_pb2.RevokeTokensRequest(namespace=None if namespace is None else namespace_ref(namespace))
        if jti is not None:
            request.jti = jti
        elif subject is not None:
            request.subject = subject
        elif all_of_namespace:
            request.all = True
        else:
            request.everyone = True
        await self._connection.call(methods.REVOKE_TOKENS, request, deadline_s=self._deadline_s)

    @staticmethod
    def inspect(token: str) -> TokenClaims:
        """Return what a token says about itself, unverified and without asking the server."""
        return inspect_token(token)


class AsyncKeys:
    """Looks after the keys that tokens are signed with."""

    def __init__(self, connection: AsyncConnection, deadline_s: float) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    async def list(self) -> tuple[SigningKey, ...]:
        """Return the public keys that verify now, the oldest first."""
        request = auth_pb2.ListKeysRequest()
        answer = await self._connection.call(methods.LIST_KEYS, request, deadline_s=self._deadline_s)
        return tuple(signing_key_of(key) for key in answer.keys)

    async def rotate(self) -> SigningKey:
        """Make a new key that signs from now on; tokens signed by the old one stay good until they expire."""
        request = auth_pb2.RotateKeyRequest()
        answer = await self._connection.call(methods.ROTATE_KEY, request, deadline_s=self._deadline_s)
        return signing_key_of(answer.key)

    async def remove(self, kid: str) -> None:
        """Forget a key that no longer signs: whatever it signed is refused from the next request on.

        Raises:
            NotFoundError: SIGNING_KEY_NOT_FOUND.
            FailedPreconditionError: SIGNING_KEY_IN_USE for the key that signs; rotate first.
        """
        request = auth_pb2.RemoveKeyRequest(kid=kid)
        await self._connection.call(methods.REMOVE_KEY, request, deadline_s=self._deadline_s)


class AsyncMaintenance:
    """Looks after the server as a whole."""

    def __init__(self, connection: AsyncConnection, deadline_s: float) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    async def status(self) -> ServerStatus:
        """Return versions, store, durability, sizes, counts and health."""
        request = maintenance_pb2.StatusRequest()
        return status_of(await self._connection.call(methods.STATUS, request, deadline_s=self._deadline_s))

    async def compact(
        self, namespace: int | str | None = None, *, deadline_s: float = COMPACT_DEADLINE_S
    ) -> Compaction:
        """Rewrite the files of one namespace, or of everything, and return when done; that may take minutes."""
        request = maintenance_pb2.CompactRequest(namespace=None if namespace is None else namespace_ref(namespace))
        answer = await self._connection.call(methods.COMPACT, request, deadline_s=deadline_s)
        return Compaction(answer.disk_bytes_before, answer.disk_bytes_after)


def _duration(ttl: Lifetime) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(ttl_to_ms(ttl))
    return duration
