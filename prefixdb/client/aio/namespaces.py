"""The life of namespaces: create, rename, suspend, ban, and watch the bytes go."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration

from prefixdb.client import methods
from prefixdb.client.aio import wire
from prefixdb.client.aio.connection import AsyncConnection
from prefixdb.client.aio.placing import Source, clone_namespace, restore_namespace
from prefixdb.client.encoding import Lifetime, encode_password, namespace_ref, ttl_to_ms
from prefixdb.client.methods import backoff_s
from prefixdb.client.models import (
    CreatedNamespace,
    Namespace,
    NamespaceState,
    ReclaimReport,
    namespace_of,
    report_of,
)
from prefixdb.client.models_transfer import OnProgress, PlacedNamespace
from prefixdb.errors import Reason, UnauthenticatedError, UnavailableError, error
from prefixdb.limits import LIST_PAGE_ENTRIES_MAX
from prefixdb.v1 import namespaces_pb2, transfer_pb2


class AsyncNamespaces:
    """Namespaces by name (str) or id (int). A name finds the live namespace, or else the one dropped last."""

    def __init__(self, connection: AsyncConnection, deadline_s: float) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    async def create(
        self,
        name: str,
        *,
        id: int | None = None,
        labels: Mapping[str, str] | None = None,
        guardian_token_ttl: Lifetime | None = None,
        guardian: tuple[str, str] | None = None,
    ) -> CreatedNamespace:
        """Register a namespace, with its first guardian when one is wanted, in one commit.

        Args:
            name: of the namespace.
            id: its number; None to have one drawn.
            labels: free text by name.
            guardian_token_ttl: lifetime of a token for its first guardian, which comes with the answer.
            guardian: name and password of its first guardian, who is a member and can log in at once.
        """
        request = namespaces_pb2.CreateNamespaceRequest(
            name=name,
            id=id,
            labels=labels or {},
            guardian_token_ttl=None if guardian_token_ttl is None else _duration(guardian_token_ttl),
            guardian=None
            if guardian is None
            else namespaces_pb2.FirstGuardian(name=guardian[0], password=encode_password(guardian[1])),
        )
        answer = await self._connection.call(methods.CREATE_NAMESPACE, request, deadline_s=self._deadline_s)
        return CreatedNamespace(namespace_of(answer.namespace), answer.guardian_token or None)

    async def get(self, namespace: int | str | None = None) -> Namespace:
        """Return one namespace with its approximate size; None for the caller's own."""
        request = namespaces_pb2.GetNamespaceRequest(namespace=None if namespace is None else namespace_ref(namespace))
        answer = await self._connection.call(methods.GET_NAMESPACE, request, deadline_s=self._deadline_s)
        return namespace_of(answer.namespace)

    async def list(self, *, include_dropped: bool = False) -> wire.Stream[Namespace]:
        """Yield the namespaces the caller may use in the order of ids, with name and state only.

        Who administers namespaces sees every one of them whole, banned and reclaimed ones on demand.
        """
        request = namespaces_pb2.ListNamespacesRequest(page_size=LIST_PAGE_ENTRIES_MAX, include_dropped=include_dropped)
        while True:
            page = await self._connection.call(methods.LIST_NAMESPACES, request, deadline_s=self._deadline_s)
            for namespace in page.namespaces:
                yield namespace_of(namespace)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update(
        self, namespace: int | str, *, name: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Namespace:
        """Rename, or replace all labels; rows and tokens are not touched."""
        request = namespaces_pb2.UpdateNamespaceRequest(namespace=namespace_ref(namespace))
        if name is not None:
            request.name = name
            request.update_mask.paths.append("name")
        if labels is not None:
            request.labels.update(labels)
            request.update_mask.paths.append("labels")
        if not request.update_mask.paths:
            raise error(Reason.BAD_FIELD, "Nothing to update: give a name or labels.")
        answer = await self._connection.call(methods.UPDATE_NAMESPACE, request, deadline_s=self._deadline_s)
        return namespace_of(answer.namespace)

    async def suspend(self, namespace: int | str, *, read_only: bool = False, reason: str = "") -> Namespace:
        """Refuse all its calls, or with ``read_only`` its writes but for deletes, from the next request on."""
        state = NamespaceState.READ_ONLY if read_only else NamespaceState.SUSPENDED
        request = namespaces_pb2.SuspendNamespaceRequest(
            namespace=namespace_ref(namespace),
            state=namespaces_pb2.NamespaceState.Name(state.value),
            reason=reason,
        )
        answer = await self._connection.call(methods.SUSPEND_NAMESPACE, request, deadline_s=self._deadline_s)
        return namespace_of(answer.namespace)

    async def resume(self, namespace: int | str) -> Namespace:
        """Make a read-only or suspended namespace active again."""
        request = namespaces_pb2.ResumeNamespaceRequest(namespace=namespace_ref(namespace))
        answer = await self._connection.call(methods.RESUME_NAMESPACE, request, deadline_s=self._deadline_s)
        return namespace_of(answer.namespace)

    async def ban(self, namespace: int | str, *, reason: str = "", grace: Lifetime | None = None) -> Namespace:
        """Drop a namespace: nothing of it is served from the reply on, and its bytes go after ``grace``.

        Without a grace the reclaim begins at once and the ban cannot be taken back. A repeat returns the same ban.
        """
        request = namespaces_pb2.BanNamespaceRequest(
            namespace=namespace_ref(namespace), reason=reason, grace=None if grace is None else _duration(grace)
        )
        answer = await self._connection.call(methods.BAN_NAMESPACE, request, deadline_s=self._deadline_s)
        return namespace_of(answer.namespace)

    async def unban(self, namespace: int | str) -> Namespace:
        """Take a ban back while its grace runs; best by id, and its name must still be free."""
        request = namespaces_pb2.UnbanNamespaceRequest(namespace=namespace_ref(namespace))
        answer = await self._connection.call(methods.UNBAN_NAMESPACE, request, deadline_s=self._deadline_s)
        return namespace_of(answer.namespace)

    async def report(self, namespace: int | str) -> ReclaimReport:
        """Return how far the reclaim of a banned namespace is; after DONE it is the proof."""
        request = namespaces_pb2.ReclaimReportRequest(namespace=namespace_ref(namespace))
        answer = await self._connection.call(methods.RECLAIM_REPORT, request, deadline_s=self._deadline_s)
        return report_of(answer.reclaim)

    async def watch(self, namespace: int | str) -> wire.Stream[ReclaimReport]:
        """Yield reports as the reclaim goes on; ends after the one that is done. Survives a restart of the server.

        A grace can last for days: the wait for a report has no deadline.
        """
        request = namespaces_pb2.WatchReclaimRequest(namespace=namespace_ref(namespace))
        attempt = 0
        while True:
            messages = None
            try:
                messages = await self._connection.open_stream(methods.WATCH_RECLAIM, request)
                while (answer := await messages.receive(None)) is not None:
                    attempt = 0
                    yield report_of(answer.reclaim)
                return
            except (UnavailableError, UnauthenticatedError) as failure:
                attempt += 1
                refused = isinstance(failure, UnauthenticatedError)
                gone = refused and (messages is None or not await self._connection.renew(messages.token))
                if gone or attempt > self._connection.options.resume_s:
                    raise
            finally:
                if messages is not None:
                    messages.cancel()
            await wire.sleep(backoff_s(attempt))

    async def restore(
        self,
        source: Source,
        *,
        name: str | None = None,
        id: int | None = None,
        members: bool = True,
        on_progress: OnProgress | None = None,
    ) -> PlacedNamespace:
        """Make a new namespace from an archive: all of it, or none. Nothing of it is seen before it is whole.

        ``db.export(file, namespace=…, members=True)`` makes such archives. Tokens and grants do not come back: the new
        namespace is another one than the archive's, also under the same name and number.

        Args:
            source: name of a file, or an open one.
            name: of the new namespace; None for the archive's.
            id: its number; None to have one drawn.
            members: also take in members and groups, when the archive has them.
            on_progress: told how far it is.

        Raises:
            AlreadyExistsError: NAMESPACE_EXISTS.
            InvalidArgumentError: ARCHIVE_INVALID.
            OutcomeUnknownError: the connection was lost; ``get`` tells whether the namespace is there.
        """
        begin = transfer_pb2.RestoreNamespaceBegin(name=name or "", id=id, members=members)
        return await restore_namespace(self._connection, source, begin, on_progress)

    async def clone(
        self,
        source: int | str,
        name: str,
        *,
        id: int | None = None,
        members: bool = True,
        on_progress: OnProgress | None = None,
    ) -> PlacedNamespace:
        """Make a new namespace with the rows another one has at one instant; the other one goes on meanwhile.

        Args:
            source: name or id of the other one.
            name: of the new namespace.
            id: its number; None to have one drawn.
            members: also members and groups.
            on_progress: told how far it is.

        Raises:
            AlreadyExistsError: NAMESPACE_EXISTS.
            NamespaceBannedError: the other one was banned meanwhile.
            OutcomeUnknownError: the connection was lost; ``get`` tells whether the namespace is there.
        """
        return await clone_namespace(self._connection, source, name, id=id, members=members, on_progress=on_progress)


def _duration(lifetime: Lifetime) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(ttl_to_ms(lifetime))
    return duration
